//! What Pods have beyond the plain ones, drawn by dice of their own: rules that restart containers, and what a user adds to them
//! while they live.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::{Act, Scenario, draw_run, millis, one_of};

/// Sets these dice apart from those of the plain Pods.
const APART: u64 = 0x6c61_7465;

impl Scenario {
    /// Adds it to what was drawn for `seed`.
    pub(super) fn draw_later(&mut self, seed: u64) {
        let mut dice = StdRng::seed_from_u64(seed ^ APART);
        for (name, made, mut pod) in self.pods() {
            draw_rules(&mut dice, &mut pod["spec"]);
            self.draw_debugging(&mut dice, &name, &pod, made);
            self.replace(&name, &pod);
        }
    }

    /// The Pods of this node, and when they are made first.
    fn pods(&self) -> Vec<(String, Duration, Value)> {
        let mut pods: Vec<(String, Duration, Value)> = Vec::new();
        for (at, act) in &self.acts {
            let Act::Create(pod) = act else { continue };
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let is_new = pods.iter().all(|(known, ..)| known != name);
            if is_new && pod["spec"]["nodeName"].is_null() {
                pods.push((name.to_owned(), *at, (**pod).clone()));
            }
        }
        pods
    }

    /// Whoever makes a Pod of this name makes this one.
    fn replace(&mut self, name: &str, pod: &Value) {
        for (_, act) in &mut self.acts {
            match act {
                Act::Create(made) if made["metadata"]["name"] == name => **made = pod.clone(),
                _ => {}
            }
        }
    }

    /// Ephemeral containers, and a user who has had enough of one.
    fn draw_debugging(&mut self, dice: &mut StdRng, name: &str, pod: &Value, made: Duration) {
        if !dice.random_bool(0.25) {
            return;
        }
        let mut at = made;
        for index in 0..dice.random_range(1..3) {
            // Names that sort against the order in which they come.
            let container = format!("debug{}", 9 - index);
            let mut run = draw_run(dice, false);
            run.starts = true;
            self.runs
                .insert((name.to_owned(), container.clone()), vec![run]);
            let target = dice.random_bool(0.4).then(|| {
                let apps = pod["spec"]["containers"].as_array();
                let first = apps.and_then(|apps| apps[0]["name"].as_str());
                first.unwrap_or_default().to_owned()
            });
            at += millis(dice, 0..60_000);
            let pod = || name.to_owned();
            let debug = Act::Debug {
                pod: pod(),
                container: container.clone(),
                target,
            };
            self.acts.push((at, debug));
            if dice.random_bool(0.4) {
                let at = at + millis(dice, 0..60_000);
                let pod = pod();
                self.acts.push((at, Act::EndDebug { pod, container }));
            }
        }
    }
}

/// Rules for containers that have a policy of their own, which they may be given for that.
fn draw_rules(dice: &mut StdRng, spec: &mut Value) {
    if !dice.random_bool(0.3) {
        return;
    }
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let is_sidecar = list == "initContainers" && container["restartPolicy"] == "Always";
            if is_sidecar || !dice.random_bool(0.4) {
                continue;
            }
            if container["restartPolicy"].is_null() {
                container["restartPolicy"] = one_of(dice, &["OnFailure", "Never"]).into();
            }
            let rules = (0..dice.random_range(1..3)).map(|_| draw_rule(dice));
            container["restartPolicyRules"] = rules.collect();
        }
    }
}

fn draw_rule(dice: &mut StdRng) -> Value {
    let codes: &[i32] = [&[0][..], &[1], &[137], &[1, 137], &[143, 128]][dice.random_range(0..5)];
    json!({
        "action": one_of(dice, &["Restart", "RestartAllContainers"]),
        "exitCodes": {"operator": one_of(dice, &["In", "In", "NotIn"]), "values": codes},
    })
}
