//! What there is when nothing happens any more.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Pod;
use workloads::{history, owner};

use super::cluster::{Cluster, LIMIT, target};

impl Cluster {
    /// Everybody does what there is to do, every Pod becomes ready and every one that leaves ends, until nothing happens any more.
    pub(super) fn settle(&mut self) {
        self.has_quota = true;
        self.collides = false;
        for _ in 0..500 {
            let (mut is_moving, wake) = self.look(usize::MAX);
            for name in self.pods.keys().cloned().collect::<Vec<_>>() {
                is_moving |= self.end(&name) || self.bind(&name) || self.make_ready(&name, true);
            }
            if is_moving {
                continue;
            }
            let Some(wake) = wake else { return };
            assert!(wake > self.now, "it looks again and again");
            self.now = wake;
        }
        panic!("it never settles");
    }

    pub(super) fn check_settled(&self) {
        let wish = self.wish();
        let is_rolling = self.bounds().is_some();
        let wanted = self.wanted();
        let (mut old, mut misplaced) = (0, 0);
        for (node, shape) in &self.shapes {
            let pods = self.on(&self.pods, node);
            old += pods.iter().filter(|pod| !self.is_new(pod)).count();
            if wanted.contains(node) {
                assert_eq!(pods.len(), 1, "{node}");
                continue;
            }
            misplaced += i32::from(!pods.is_empty());
            let may_stay = shape.taint == Some("NoSchedule") && (shape.is_fast || !wish.is_fast);
            assert!(pods.len() <= usize::from(may_stay), "{node}");
        }
        // Of no nodes, no share may be without.
        let is_done = old == 0 || !is_rolling || wanted.is_empty();
        assert!(is_done, "{old} old Pods are left");
        let on_nodes = |pod: &Pod| self.nodes.contains_key(&target(pod));
        assert!(self.pods.values().all(on_nodes));

        let status = self.set.status.as_ref().unwrap();
        let desired = i32::try_from(wanted.len()).unwrap();
        assert_eq!(status.observed_generation, self.set.metadata.generation);
        assert_eq!(status.desired_number_scheduled, desired);
        assert_eq!(status.current_number_scheduled, desired);
        assert_eq!(status.number_ready, desired);
        assert_eq!(status.number_available.unwrap_or(0), desired);
        assert_eq!(status.number_unavailable, None);
        assert_eq!(status.number_misscheduled, misplaced);
        if is_rolling {
            assert_eq!(status.updated_number_scheduled.unwrap_or(0), desired);
        }

        let template = &self.set.spec.as_ref().unwrap().template;
        let own = self.revisions.values();
        let own = own.filter(|r| owner::controller_of(&r.metadata).is_some());
        let mut own: Vec<&ControllerRevision> = own.collect();
        history::sort(&mut own);
        let newest = own.pop().unwrap();
        assert!(history::has_template(newest, template));
        assert!(own.iter().all(|r| !history::has_template(r, template)));
        assert!(own.iter().all(|r| r.revision < newest.revision));
        assert!(own.len() <= LIMIT.max(old), "{} revisions", own.len());
    }
}
