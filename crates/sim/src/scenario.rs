//! What a seed stands for: Pods, what their containers do, what the user does, and what goes wrong when.

mod later;
mod workloads;

pub(crate) use later::LOADED;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// What one run of a container does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Ends by itself after so long; `None` runs on.
    pub(crate) lasts: Option<Duration>,
    /// Exit code of that end.
    pub(crate) code: i32,
    /// How long it takes to end after the stop signal, and its exit code then; `None` ignores the signal.
    pub(crate) on_stop: Option<(Duration, i32)>,
    /// Whether its program can be executed.
    pub(crate) starts: bool,
    /// From when to when, counted from its start, its probes succeed.
    pub(crate) healthy: (Duration, Duration),
    /// How long its hooks take, and their exit code.
    pub(crate) hook: (Duration, i32),
}

/// Something the user does.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Create(Box<Value>),
    CreateConfigMap(String),
    Delete {
        pod: String,
        grace: Option<u32>,
    },
    Evict {
        pod: String,
        grace: Option<u32>,
    },
    Force {
        pod: String,
    },
    SetImage {
        pod: String,
        container: String,
    },
    /// Adds an ephemeral container.
    Debug {
        pod: String,
        container: String,
        target: Option<String>,
    },
    /// Gives containers another size: lists of the spec.
    Resize {
        pod: String,
        sizes: Value,
    },
    /// Makes a workload of a kind.
    CreateWorkload(&'static str, Box<Value>),
    /// Patches one.
    EditWorkload(&'static str, String, Value),
    /// Deletes one, with a policy for what it owns.
    DeleteWorkload(&'static str, String, &'static str),
    /// Deletes a Pod of the workload of this name.
    DeleteOneOf(String),
    /// Makes a Pod that the workload of this name selects, and that has another controller.
    CreateStranger(String),
    /// Asks for the end of one.
    EndDebug {
        pod: String,
        container: String,
    },
}

/// Something that happens to the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mishap {
    /// Every watch ends; for so long no new one can be had.
    WatchesLost(Duration),
    /// The clock is set.
    ClockJumps(SignedDuration),
    /// The disk is full for so long.
    DiskFull(Duration),
    /// The pause of some sandbox is killed, and everything in it.
    SandboxDies,
    /// The machine has only so many bytes of memory left, for so long.
    MemoryShort(u64, Duration),
    /// Something fills the disk until so many bytes are left of it.
    DiskShort(u64),
    /// What filled the disk is gone.
    DiskCleared,
}

/// Who dies after a number of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// The node agent alone.
    Agent,
    /// The whole engine; nobody restarts it for so long.
    Engine(Duration),
}

/// How likely something is to fail, out of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Odds {
    pub(crate) request: u32,
    pub(crate) pull: u32,
    pub(crate) runtime: u32,
    pub(crate) volume: u32,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) acts: Vec<(Duration, Act)>,
    pub(crate) mishaps: Vec<(Duration, Mishap)>,
    /// Steps to each death, counted from the one before.
    pub(crate) deaths: Vec<(u32, Death)>,
    pub(crate) odds: Odds,
    /// What containers do, run by run, by Pod and container; the last goes on.
    pub(crate) runs: BTreeMap<(String, String), Vec<Run>>,
    /// Containers, by Pod and name, that fill the volume they mount.
    pub(crate) fills: BTreeSet<(String, String)>,
    /// The node is told what it must have left.
    pub(crate) has_thresholds: bool,
    /// Images that are there from the beginning.
    pub(crate) images: BTreeSet<String>,
    /// From then on nothing goes wrong any more.
    pub(crate) calm: Duration,
}

impl Scenario {
    pub(crate) fn draw(seed: u64) -> Scenario {
        let mut dice = StdRng::seed_from_u64(seed);
        let calm = Duration::from_secs(dice.random_range(60..400));
        let mut scenario = Scenario {
            acts: Vec::new(),
            mishaps: Vec::new(),
            deaths: Vec::new(),
            odds: Odds::default(),
            runs: BTreeMap::new(),
            fills: BTreeSet::new(),
            has_thresholds: false,
            images: BTreeSet::new(),
            calm,
        };
        for index in 0..dice.random_range(1..4) {
            scenario.draw_pod(&mut dice, &format!("pod{index}"));
        }
        scenario.draw_troubles(&mut dice);
        scenario.draw_stray(&mut dice);
        scenario.draw_later(seed);
        scenario.draw_workloads(seed);
        scenario.acts.sort_by_key(|(at, _)| *at);
        scenario.mishaps.sort_by_key(|(at, _)| *at);
        scenario
    }

    fn draw_troubles(&mut self, dice: &mut StdRng) {
        let some = |dice: &mut StdRng, most: u32| {
            let wanted = dice.random_bool(0.4);
            if wanted {
                dice.random_range(1..most)
            } else {
                0
            }
        };
        self.odds = Odds {
            request: some(dice, 60),
            pull: some(dice, 400),
            runtime: some(dice, 100),
            volume: some(dice, 200),
        };
        for _ in 0..dice.random_range(0..6) {
            let at = self.moment(dice);
            let mishap = match dice.random_range(0..5) {
                0 | 1 => Mishap::WatchesLost(millis(dice, 0..20_000)),
                2 => Mishap::ClockJumps(SignedDuration::from_secs(dice.random_range(-600..3_600))),
                3 => Mishap::DiskFull(millis(dice, 0..30_000)),
                _ => Mishap::SandboxDies,
            };
            self.mishaps.push((at, mishap));
        }
        for _ in 0..dice.random_range(0..6) {
            let death = if dice.random_bool(0.4) {
                Death::Agent
            } else {
                Death::Engine(millis(dice, 0..40_000))
            };
            self.deaths.push((dice.random_range(1..250), death));
        }
    }

    /// A Pod bound to a node that is not there; someone may delete it.
    fn draw_stray(&mut self, dice: &mut StdRng) {
        if !dice.random_bool(0.2) {
            return;
        }
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stray", "namespace": "default"},
            "spec": {"nodeName": "elsewhere", "containers": [{"name": "app", "image": "stray-app:1"}]},
        });
        let made = self.moment(dice);
        self.acts.push((made, Act::Create(Box::new(pod))));
        if dice.random_bool(0.3) {
            let at = made + millis(dice, 0..60_000);
            let (pod, grace) = ("stray".to_owned(), None);
            self.acts.push((at, Act::Delete { pod, grace }));
        }
    }

    /// Some time before the calm.
    fn moment(&self, dice: &mut StdRng) -> Duration {
        let most = u64::try_from(self.calm.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(dice.random_range(0..most))
    }

    fn draw_pod(&mut self, dice: &mut StdRng, name: &str) {
        let policy = one_of(dice, &["Always", "OnFailure", "Never"]);
        let mut init = Vec::new();
        for index in 0..dice.random_range(0..4) {
            let sidecar = dice.random_bool(0.4);
            let kind = if sidecar { "side" } else { "init" };
            let mut container = self.draw_container(dice, name, &format!("{kind}{index}"));
            if sidecar {
                container["restartPolicy"] = "Always".into();
            } else if dice.random_bool(0.2) {
                container["restartPolicy"] = one_of(dice, &["OnFailure", "Never"]).into();
            }
            init.push(container);
        }
        let mut apps = Vec::new();
        for index in 0..dice.random_range(1..4) {
            // Names that sort against the order of the spec.
            let mut container = self.draw_container(dice, name, &format!("app{}", 9 - index));
            if dice.random_bool(0.2) {
                container["restartPolicy"] = one_of(dice, &["Always", "OnFailure", "Never"]).into();
            }
            apps.push(container);
        }
        let mut spec = json!({
            "restartPolicy": policy,
            "terminationGracePeriodSeconds": dice.random_range(1..30),
            "automountServiceAccountToken": dice.random_bool(0.2),
            "initContainers": init,
            "containers": apps,
        });
        if dice.random_bool(0.15) {
            spec["activeDeadlineSeconds"] = dice.random_range(1..200).into();
        }
        self.draw_volume(dice, name, &mut spec);
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec});
        let made = millis(dice, 0..30_000);
        self.draw_acts(dice, name, &pod, made);
        self.acts.push((made, Act::Create(Box::new(pod))));
    }

    /// A ConfigMap that is mounted, and is made before the Pod or long after it.
    fn draw_volume(&mut self, dice: &mut StdRng, pod: &str, spec: &mut Value) {
        if !dice.random_bool(0.3) {
            return;
        }
        let name = format!("config-{pod}");
        spec["volumes"] = json!([{"name": "config", "configMap": {"name": name}}, {"name": "scratch", "emptyDir": {}}]);
        spec["containers"][0]["volumeMounts"] = json!([
            {"name": "config", "mountPath": "/config"}, {"name": "scratch", "mountPath": "/scratch"}]);
        self.acts
            .push((millis(dice, 0..50_000), Act::CreateConfigMap(name)));
    }

    fn draw_acts(&mut self, dice: &mut StdRng, pod: &str, object: &Value, made: Duration) {
        let name = || pod.to_owned();
        if dice.random_bool(0.15) {
            let containers = object["spec"]["containers"].as_array();
            let chosen = containers.and_then(|list| list.choose(dice));
            let container = chosen.and_then(|c| c["name"].as_str()).unwrap_or_default();
            let act = Act::SetImage {
                pod: name(),
                container: container.to_owned(),
            };
            self.acts.push((made + millis(dice, 0..100_000), act));
        }
        if dice.random_bool(0.5) {
            let grace = dice.random_bool(0.5).then(|| dice.random_range(1..40));
            let at = self.moment(dice).max(made);
            let pod = name();
            let act = if dice.random_bool(0.3) {
                Act::Evict { pod, grace }
            } else {
                Act::Delete { pod, grace }
            };
            self.acts.push((at, act));
            if dice.random_bool(0.3) {
                let grace = Some(dice.random_range(1..10));
                let at = at + millis(dice, 0..10_000);
                self.acts.push((at, Act::Delete { pod: name(), grace }));
            }
            if dice.random_bool(0.2) {
                let at = at + millis(dice, 0..10_000);
                self.acts.push((at, Act::Force { pod: name() }));
            }
            if dice.random_bool(0.3) {
                let at = at + millis(dice, 0..30_000);
                self.acts.push((at, Act::Create(Box::new(object.clone()))));
            }
        }
    }

    fn draw_container(&mut self, dice: &mut StdRng, pod: &str, name: &str) -> Value {
        let is_init = name.starts_with("init");
        let runs = (0..dice.random_range(1..4))
            .map(|_| draw_run(dice, is_init))
            .collect();
        self.runs.insert((pod.to_owned(), name.to_owned()), runs);
        let policy = one_of(dice, &["IfNotPresent", "IfNotPresent", "Always"]);
        let mut container =
            json!({"name": name, "image": format!("{pod}-{name}:1"), "imagePullPolicy": policy});
        if !is_init {
            draw_probes(dice, &mut container);
            draw_hooks(dice, &mut container);
        }
        container
    }
}

/// Probes by programs in the container, named after what they ask.
fn draw_probes(dice: &mut StdRng, container: &mut Value) {
    for kind in ["startupProbe", "livenessProbe", "readinessProbe"] {
        if !dice.random_bool(0.2) {
            continue;
        }
        container[kind] = json!({
            "exec": {"command": [kind]},
            "periodSeconds": dice.random_range(1..12),
            "failureThreshold": dice.random_range(1..5),
            "initialDelaySeconds": if dice.random_bool(0.3) { dice.random_range(0..15) } else { 0 },
            "timeoutSeconds": dice.random_range(1..3),
        });
        if kind != "readinessProbe" && dice.random_bool(0.2) {
            container[kind]["terminationGracePeriodSeconds"] = dice.random_range(1..20).into();
        }
    }
}

fn draw_hooks(dice: &mut StdRng, container: &mut Value) {
    for kind in ["postStart", "preStop"] {
        if dice.random_bool(0.15) {
            container["lifecycle"][kind] = match dice.random_range(0..3) {
                0 => json!({"sleep": {"seconds": 1}}),
                _ => json!({"exec": {"command": [kind]}}),
            };
        }
    }
}

fn draw_run(dice: &mut StdRng, is_init: bool) -> Run {
    let lasts = match dice.random_range(0..10) {
        0..3 if !is_init => None,
        9 if !is_init => Some(millis(dice, 500_000..900_000)),
        _ => Some(millis(dice, 0..30_000)),
    };
    let well = if is_init { 0.7 } else { 0.5 };
    let code = if dice.random_bool(well) {
        0
    } else {
        one_of(dice, &[1, 137])
    };
    let on_stop = dice
        .random_bool(0.8)
        .then(|| (millis(dice, 0..4_000), one_of(dice, &[0, 143])));
    Run {
        lasts,
        code,
        on_stop,
        starts: !dice.random_bool(0.04),
        healthy: match dice.random_range(0..3) {
            0 => (Duration::ZERO, Duration::MAX),
            1 => (millis(dice, 0..20_000), Duration::MAX),
            _ => (millis(dice, 0..5_000), millis(dice, 5_000..200_000)),
        },
        hook: (millis(dice, 0..5_000), i32::from(dice.random_bool(0.2))),
    }
}

fn millis(dice: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(dice.random_range(range))
}

fn one_of<T: Copy>(dice: &mut StdRng, choices: &[T]) -> T {
    choices[dice.random_range(0..choices.len())]
}
