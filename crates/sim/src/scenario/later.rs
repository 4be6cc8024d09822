//! What Pods have beyond the plain ones, drawn by dice of their own: rules that restart containers, sizes, what a user does to
//! them while they live, and what the node runs out of.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::{Act, Mishap, Scenario, draw_run, millis, one_of};

/// An image that did not come from a registry.
pub(crate) const LOADED: &str = "loaded:1";

/// Sets these dice apart from those of the plain Pods.
const APART: u64 = 0x6c61_7465;

impl Scenario {
    /// Adds it to what was drawn for `seed`.
    pub(super) fn draw_later(&mut self, seed: u64) {
        let mut dice = StdRng::seed_from_u64(seed ^ APART);
        for (name, made, mut pod) in self.pods() {
            draw_rules(&mut dice, &mut pod["spec"]);
            self.draw_sizes(&mut dice, &name, &mut pod, made);
            self.draw_filling(&mut dice, &name, &mut pod);
            self.draw_debugging(&mut dice, &name, &pod, made);
            self.replace(&name, &pod);
        }
        self.draw_shortage(&mut dice);
    }

    /// Times at which the machine has too little memory or disk, by the hard threshold or by the soft one. Images that may be taken
    /// away then: some that nobody needs, one that nobody could pull again, and the next of a container's, which is about to be needed.
    fn draw_shortage(&mut self, dice: &mut StdRng) {
        self.has_thresholds = dice.random_bool(0.4);
        if !self.has_thresholds {
            return;
        }
        for _ in 0..dice.random_range(1..4) {
            let left = one_of(dice, &[50_u64 << 20, 150 << 20]);
            let at = self.moment(dice);
            let lasts = millis(dice, 1_000..60_000);
            if dice.random_bool(0.4) {
                self.mishaps.push((at, Mishap::MemoryShort(left, lasts)));
                continue;
            }
            self.mishaps.push((at, Mishap::DiskShort(left)));
            self.mishaps.push((at + lasts, Mishap::DiskCleared));
        }
        self.images.insert(LOADED.to_owned());
        for index in 0..dice.random_range(0..6) {
            self.images.insert(format!("old{index}:1"));
        }
        let edits = self.acts.iter().filter_map(|(_, act)| match act {
            Act::SetImage { pod, container } => Some(format!("{pod}-{container}:2")),
            _ => None,
        });
        let edits: Vec<String> = edits.filter(|_| dice.random_bool(0.5)).collect();
        self.images.extend(edits);
    }

    /// Sizes, and a user who changes them: to what fits, to what has to wait, and to what the node never has.
    fn draw_sizes(&mut self, dice: &mut StdRng, name: &str, pod: &mut Value, made: Duration) {
        if !dice.random_bool(0.3) {
            return;
        }
        let may_restart = pod["spec"]["restartPolicy"] != "Never";
        let mut resizable: Vec<(&str, String)> = Vec::new();
        for list in ["initContainers", "containers"] {
            for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
                let milli = dice.random_range(20..100);
                container["resources"] = sizes(milli, dice.random_range(20..60));
                let is_plain = list == "containers" || container["restartPolicy"] == "Always";
                if may_restart && dice.random_bool(0.3) {
                    container["resizePolicy"] =
                        json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
                }
                if is_plain {
                    let name = container["name"].as_str().unwrap_or_default();
                    resizable.push((list, name.to_owned()));
                }
            }
        }
        for _ in 0..dice.random_range(0..4) {
            let (list, container) = &resizable[dice.random_range(0..resizable.len())];
            let milli = match dice.random_range(0..10) {
                0 => 2_500,
                1..5 => dice.random_range(900..1_800),
                _ => dice.random_range(10..300),
            };
            let size = sizes(milli, dice.random_range(5..100));
            let act = Act::Resize {
                pod: name.to_owned(),
                sizes: json!({*list: [{"name": container, "resources": size}]}),
            };
            self.acts.push((made + millis(dice, 0..150_000), act));
        }
    }

    /// A volume that may not grow, and who lets it grow.
    fn draw_filling(&mut self, dice: &mut StdRng, name: &str, pod: &mut Value) {
        let has_volume = pod["spec"]["volumes"].is_array();
        if !has_volume || !dice.random_bool(0.4) {
            return;
        }
        pod["spec"]["volumes"][1]["emptyDir"]["sizeLimit"] = "1Mi".into();
        if dice.random_bool(0.6) {
            let first = pod["spec"]["containers"][0]["name"].as_str();
            let filler = first.unwrap_or_default().to_owned();
            self.fills.insert((name.to_owned(), filler));
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

/// Requests, and twice as much as limits.
fn sizes(milli: u32, mebi: u32) -> Value {
    let size =
        |by: u32| json!({"cpu": format!("{}m", milli * by), "memory": format!("{}Mi", mebi * by)});
    json!({"requests": size(1), "limits": size(2)})
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
