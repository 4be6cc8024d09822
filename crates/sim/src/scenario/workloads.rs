//! Workloads, and what a user does to them, drawn by dice of their own. Pods of one share an image, which is there from the beginning.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::{Act, Run, Scenario, millis, one_of};

/// Sets these dice apart from those of Pods.
const APART: u64 = 0x776f_726b;

impl Scenario {
    /// Adds them to what was drawn for `seed`. Where the node runs out of things, images go as well: there are none then.
    pub(super) fn draw_workloads(&mut self, seed: u64) {
        let mut dice = StdRng::seed_from_u64(seed ^ APART);
        if self.has_thresholds || !dice.random_bool(0.5) {
            return;
        }
        for index in 0..dice.random_range(1..3) {
            let name = format!("work{index}");
            let kind = one_of(
                &mut dice,
                &[
                    "deployments",
                    "statefulsets",
                    "daemonsets",
                    "jobs",
                    "deployments",
                ],
            );
            self.draw_workload(&mut dice, kind, &name);
        }
    }

    fn draw_workload(&mut self, dice: &mut StdRng, kind: &'static str, name: &str) {
        for image in 0..3 {
            self.images.insert(format!("{name}:{image}"));
        }
        let made = millis(dice, 0..30_000);
        let spec = match kind {
            "jobs" => self.draw_job(dice, name),
            _ => draw_spec(dice, kind, name),
        };
        let act = |act| (made, act);
        let object = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
        self.acts
            .push(act(Act::CreateWorkload(kind, Box::new(object))));
        if dice.random_bool(0.5) {
            self.acts.push(act(Act::CreateStranger(name.to_owned())));
        }
        for _ in 0..dice.random_range(0..6) {
            let at = made + millis(dice, 0..200_000);
            let name = name.to_owned();
            let act = match dice.random_range(0..3) {
                0 => Act::DeleteOneOf(name),
                1 if matches!(kind, "deployments" | "statefulsets") => {
                    let replicas = dice.random_range(0..6);
                    Act::EditWorkload(kind, name, json!({"spec": {"replicas": replicas}}))
                }
                _ if kind != "jobs" => {
                    let template = template(&name, dice.random_range(0..3));
                    Act::EditWorkload(kind, name, json!({"spec": {"template": template}}))
                }
                _ => continue,
            };
            self.acts.push((at, act));
        }
        if dice.random_bool(0.3) {
            let policy = one_of(dice, &["Background", "Foreground", "Orphan"]);
            let at = self.moment(dice).max(made);
            self.acts
                .push((at, Act::DeleteWorkload(kind, name.to_owned(), policy)));
        }
    }

    /// A Job whose Pods may fail; each is a run of its own.
    fn draw_job(&mut self, dice: &mut StdRng, name: &str) -> Value {
        let run = Run {
            lasts: Some(millis(dice, 0..20_000)),
            code: i32::from(dice.random_bool(0.2)),
            on_stop: Some((Duration::ZERO, 143)),
            starts: true,
            healthy: (Duration::ZERO, Duration::MAX),
            hook: (Duration::ZERO, 0),
        };
        self.runs
            .insert((name.to_owned(), "app".to_owned()), vec![run]);
        let mut template = template(name, 0);
        template["spec"]["restartPolicy"] = "Never".into();
        json!({
            "completions": dice.random_range(1..6), "parallelism": dice.random_range(1..4),
            "backoffLimit": dice.random_range(0..3),
            "completionMode": one_of(dice, &["NonIndexed", "Indexed"]),
            "template": template,
        })
    }
}

fn template(name: &str, image: u32) -> Value {
    json!({
        "metadata": {"labels": {"of": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "containers": [{"name": "app", "image": format!("{name}:{image}"), "imagePullPolicy": "IfNotPresent"}],
        },
    })
}

fn draw_spec(dice: &mut StdRng, kind: &str, name: &str) -> Value {
    let mut spec = json!({
        "selector": {"matchLabels": {"of": name}},
        "template": template(name, 0),
    });
    if kind != "daemonsets" {
        spec["replicas"] = dice.random_range(0..6).into();
    }
    if kind == "deployments" {
        let surge = dice.random_range(0..3);
        let unavailable = if surge == 0 {
            1
        } else {
            dice.random_range(0..3)
        };
        let rolling = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        spec["strategy"] = match dice.random_range(0..4) {
            0 => json!({"type": "Recreate"}),
            _ => json!({"type": "RollingUpdate", "rollingUpdate": rolling}),
        };
    }
    if kind == "statefulsets" {
        spec["podManagementPolicy"] = one_of(dice, &["OrderedReady", "Parallel"]).into();
        spec["serviceName"] = name.into();
    }
    spec
}
