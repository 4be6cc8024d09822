//! A Job and its Pods, whatever happens to them and whenever the controller is cut off between two writes: every Pod is counted once,
//! those of others are neither counted nor touched, no more run than may, and in the end the Job is over as its Pods say.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use proptest::prelude::*;
use serde_json::json;
use workloads::job::{self, Step};
use workloads::{owner, pod};

/// What happens next.
#[derive(Debug, Clone)]
enum Happens {
    /// The controller looks, and is cut off after so many writes.
    Controller(usize),
    /// A Pod ends, with success or not.
    Ends(usize, bool),
    Runs(usize),
    /// Somebody deletes a Pod.
    Deleted(usize),
    /// A Pod of the Job that had this one's name before is found, in this phase.
    Foreign(&'static str),
    Suspend(bool),
    Parallelism(i32),
    Seconds(i64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        10 => (0..40usize).prop_map(Happens::Controller),
        6 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(i, ok)| Happens::Ends(i, ok)),
        4 => any::<usize>().prop_map(Happens::Runs),
        1 => any::<usize>().prop_map(Happens::Deleted),
        1 => prop::sample::select(vec!["Running", "Succeeded", "Failed"]).prop_map(Happens::Foreign),
        1 => any::<bool>().prop_map(Happens::Suspend),
        1 => (0..5).prop_map(Happens::Parallelism),
        3 => (1..700i64).prop_map(Happens::Seconds),
    ]
}

struct Cluster {
    now: Timestamp,
    job: Job,
    pods: BTreeMap<String, Pod>,
    /// Pods of another Job, which are selected, too.
    foreign: Vec<Pod>,
    made: u32,
    /// UIDs of Pods that ended with success while they were tracked, with their index.
    succeeded: BTreeMap<String, Option<String>>,
    /// UIDs of Pods whose finalizer was taken by being counted.
    counted: BTreeSet<String>,
    /// UIDs of Pods that were noted as failed, as some are that are being deleted, whatever became of them then.
    failed: BTreeSet<String>,
}

impl Cluster {
    fn new(is_indexed: bool, completions: i32, limit: i32) -> Self {
        let job = json!({
            "metadata": {"name": "pi", "namespace": "ns", "uid": "job", "generation": 1},
            "spec": {
                "completions": completions, "parallelism": 2, "backoffLimit": limit,
                "completionMode": if is_indexed { "Indexed" } else { "NonIndexed" },
                "selector": {"matchLabels": {"job": "pi"}},
                "template": {"metadata": {"labels": {"job": "pi"}}, "spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}},
            },
        });
        Cluster {
            now: Timestamp::new(10_000, 0).unwrap(),
            job: serde_json::from_value(job).unwrap(),
            pods: BTreeMap::new(),
            foreign: Vec::new(),
            made: 0,
            succeeded: BTreeMap::new(),
            counted: BTreeSet::new(),
            failed: BTreeSet::new(),
        }
    }

    fn choose(&self, index: usize) -> Option<String> {
        self.pods
            .keys()
            .nth(index.checked_rem(self.pods.len())?)
            .cloned()
    }

    fn status(&self) -> JobStatus {
        self.job.status.clone().unwrap_or_default()
    }

    fn is_over(&self) -> Option<String> {
        let conditions = self.status().conditions.unwrap_or_default();
        let end = conditions
            .into_iter()
            .find(|c| matches!(&*c.type_, "Complete" | "Failed"));
        end.map(|c| c.type_)
    }

    fn happen(&mut self, what: Happens) {
        match what {
            Happens::Controller(writes) => {
                self.look(writes);
            }
            Happens::Ends(index, is_success) => {
                if let Some(name) = self.choose(index) {
                    self.end(&name, is_success);
                }
            }
            Happens::Runs(index) => {
                if let Some(name) = self.choose(index) {
                    let pod = self.pods.get_mut(&name).unwrap();
                    if !pod::is_over(pod) {
                        pod.status.get_or_insert_default().phase = Some("Running".into());
                    }
                }
            }
            Happens::Deleted(index) => {
                if let Some(name) = self.choose(index) {
                    self.delete(&name);
                }
            }
            Happens::Foreign(phase) => self.meet(phase),
            Happens::Suspend(suspend) => {
                if self.is_over().is_none() {
                    self.job.spec.as_mut().unwrap().suspend = Some(suspend);
                }
            }
            Happens::Parallelism(number) => {
                self.job.spec.as_mut().unwrap().parallelism = Some(number)
            }
            Happens::Seconds(seconds) => self.now += SignedDuration::from_secs(seconds),
        }
    }

    fn meet(&mut self, phase: &str) {
        let name = format!("foreign-{}", self.foreign.len());
        let before = ObjectMeta {
            uid: Some("before".into()),
            ..self.job.metadata.clone()
        };
        let pod = json!({
            "metadata": {
                "name": name, "namespace": "ns", "uid": name, "labels": {"job": "pi"},
                "annotations": {"batch.kubernetes.io/job-completion-index": "0"},
                "finalizers": ["batch.kubernetes.io/job-tracking"],
                "ownerReferences": [owner::reference("batch/v1", "Job", &before)],
            },
            "spec": {"containers": [{"name": "c"}]},
            "status": {"phase": phase},
        });
        self.foreign.push(serde_json::from_value(pod).unwrap());
    }

    fn end(&mut self, name: &str, is_success: bool) {
        let now = self.now.to_string();
        let pod = self.pods.get_mut(name).unwrap();
        if pod::is_over(pod) {
            return;
        }
        let phase = if is_success { "Succeeded" } else { "Failed" };
        let code = i32::from(!is_success);
        let state = json!({"terminated": {"exitCode": code, "finishedAt": now}});
        let container = json!([{"name": "c", "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0}]);
        let status = json!({"phase": phase, "containerStatuses": container});
        pod.status = serde_json::from_value(status).unwrap();
        if is_success && job::is_tracked(pod) {
            let annotations = pod.metadata.annotations.clone().unwrap_or_default();
            let index = annotations
                .get("batch.kubernetes.io/job-completion-index")
                .cloned();
            self.succeeded
                .insert(pod.metadata.uid.clone().unwrap(), index);
        }
        self.sweep();
    }

    fn delete(&mut self, name: &str) {
        let now = Time(self.now);
        self.pods.get_mut(name).unwrap().metadata.deletion_timestamp = Some(now);
        self.sweep();
    }

    /// Pods that are to go, have ended and are not held go.
    fn sweep(&mut self) {
        self.pods.retain(|_, pod| {
            pod.metadata.deletion_timestamp.is_none() || job::is_tracked(pod) || !pod::is_over(pod)
        });
    }

    /// One look of the controller; whether it had anything to do.
    fn look(&mut self, writes: usize) -> bool {
        let reference = owner::reference("batch/v1", "Job", &self.job.metadata);
        let pods: Vec<&Pod> = self.pods.values().chain(&self.foreign).collect();
        let plan = job::plan(&self.job, &reference, &pods, false, self.now);
        let did_something =
            !plan.steps.is_empty() || plan.status.is_some() || !plan.counted.is_empty();
        let mut left = writes;
        let mut may = || {
            left = left.saturating_sub(1);
            left > 0
        };
        for step in plan.steps {
            match step {
                Step::Create(pods) => {
                    for pod in pods {
                        if !may() {
                            return did_something;
                        }
                        self.create(pod);
                    }
                }
                Step::Delete { pod, is_free, .. } => {
                    if !may() {
                        return did_something;
                    }
                    if is_free {
                        self.pods.get_mut(&pod).unwrap().metadata.finalizers = None;
                    }
                    if !may() {
                        return did_something;
                    }
                    self.delete(&pod);
                }
                step => panic!("{step:?}"),
            }
        }
        if let Some(status) = plan.status {
            if !may() {
                return did_something;
            }
            self.check_status(&status);
            let noted = status.uncounted_terminated_pods.clone().unwrap_or_default();
            self.failed.extend(noted.failed.into_iter().flatten());
            self.job.status = Some(*status);
        }
        for (name, uid) in plan.counted {
            if !may() {
                return did_something;
            }
            self.pods.get_mut(&name).unwrap().metadata.finalizers = None;
            self.counted.insert(uid);
        }
        self.sweep();
        self.check_running();
        did_something
    }

    fn create(&mut self, mut pod: Pod) {
        self.made += 1;
        let name = format!(
            "{}{}",
            pod.metadata.generate_name.take().unwrap(),
            self.made
        );
        pod.metadata.name = Some(name.clone());
        pod.metadata.namespace = Some("ns".into());
        pod.metadata.uid = Some(format!("uid-{}", self.made));
        pod.metadata.creation_timestamp = Some(Time(self.now));
        self.pods.insert(name, pod);
    }

    /// No more run than may, if the controller was not cut off.
    fn check_running(&self) {
        let spec = self.job.spec.as_ref().unwrap();
        let active = self.pods.values().filter(|pod| pod::is_active(pod)).count();
        let most = if spec.suspend == Some(true) {
            0
        } else {
            spec.parallelism.unwrap()
        };
        assert!(
            i32::try_from(active).unwrap() <= most,
            "{active} run, {most} may"
        );
    }

    /// Numbers never shrink, and nobody is counted twice.
    fn check_status(&self, new: &JobStatus) {
        let number = |of: Option<i32>| of.unwrap_or(0);
        let old = self.status();
        assert!(
            number(new.succeeded) >= number(old.succeeded),
            "a success is forgotten"
        );
        assert!(
            number(new.failed) >= number(old.failed),
            "a failure is forgotten"
        );
        let noted = new.uncounted_terminated_pods.clone().unwrap_or_default();
        let noted = noted
            .succeeded
            .iter()
            .chain(&noted.failed)
            .flatten()
            .count();
        let all = number(new.succeeded) + number(new.failed) + i32::try_from(noted).unwrap();
        // An index has succeeded also if its Pod was taken for lost while it ended.
        let is_indexed =
            self.job.spec.as_ref().unwrap().completion_mode.as_deref() == Some("Indexed");
        let twice = if is_indexed { self.failed.len() } else { 0 };
        let most = usize::try_from(self.made).unwrap() + twice;
        assert!(
            usize::try_from(all).unwrap() <= most,
            "{all} of {} Pods are counted",
            self.made
        );
    }

    /// Time passes and everybody does what there is to do; Pods succeed.
    fn settle(&mut self) {
        self.job.spec.as_mut().unwrap().suspend = Some(false);
        self.job.spec.as_mut().unwrap().parallelism = Some(2);
        for _ in 0..400 {
            let mut is_moving = self.look(usize::MAX);
            for name in self.pods.keys().cloned().collect::<Vec<_>>() {
                if let Some(pod) = self.pods.get(&name)
                    && !pod::is_over(pod)
                {
                    self.end(&name, true);
                    is_moving = true;
                }
            }
            self.now += SignedDuration::from_secs(601);
            if !is_moving && self.is_over().is_some() {
                return;
            }
        }
        panic!("it never ends: {:?}", self.status());
    }

    fn check_settled(&self) {
        let status = self.status();
        let spec = self.job.spec.as_ref().unwrap();
        let noted = status.uncounted_terminated_pods.unwrap_or_default();
        assert_eq!((noted.succeeded, noted.failed), (None, None));
        assert!(
            !self.pods.values().any(job::is_tracked),
            "a Pod is left behind"
        );
        let succeeded = status.succeeded.unwrap_or(0);
        let counted: BTreeSet<_> = self
            .succeeded
            .iter()
            .filter(|(uid, _)| self.counted.contains(*uid))
            .collect();
        if spec.completion_mode.as_deref() == Some("Indexed") {
            let indexes: BTreeSet<_> = counted.iter().map(|(_, index)| index).collect();
            assert_eq!(usize::try_from(succeeded).unwrap(), indexes.len());
        } else {
            let counted = counted
                .iter()
                .filter(|(uid, _)| !self.failed.contains(*uid));
            assert_eq!(usize::try_from(succeeded).unwrap(), counted.count());
        }
        match self.is_over().as_deref() {
            Some("Complete") => assert!(succeeded >= spec.completions.unwrap()),
            Some("Failed") => assert!(status.failed.unwrap_or(0) > spec.backoff_limit.unwrap()),
            other => panic!("{other:?}"),
        }
        assert_eq!((status.active, status.terminating), (None, Some(0)));
    }
}

proptest! {
    #![proptest_config(testkit::cases(500, 11))]

    #[test]
    fn every_pod_is_counted_once_and_the_job_ends(
        is_indexed in any::<bool>(),
        completions in 0..6,
        limit in 0..6,
        all in prop::collection::vec(happens(), 0..100),
    ) {
        let mut cluster = Cluster::new(is_indexed, completions, limit);
        for what in all {
            cluster.happen(what);
        }
        cluster.settle();
        cluster.check_settled();
        prop_assert!(!cluster.look(usize::MAX), "once more changes nothing");
    }
}
