//! What the node runs out of, and who has to go then (§2.9, upstream's eviction manager): hard thresholds, conditions that last for
//! a while, and ranks of Pods. Who uses more than it asked for goes first, then who is less important, then who uses most.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use api::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Taint};
use thiserror::Error;

use crate::admit::Rejection;
use crate::events;
use crate::fit;
use crate::kinds;
use crate::observed::{Eviction, Verdict};
use crate::plan::{Event, EventType};
use crate::preempt;
use crate::resources::{self, Qos};

/// How long a node is still said to be under pressure when it is not any more (upstream's `evictionPressureTransitionPeriod`).
const TRANSITION: SignedDuration = SignedDuration::from_mins(5);
/// Seconds a Pod has to end that is evicted at a hard threshold.
const GRACE: i64 = 1;

/// What can run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// `memory.available`
    Memory,
    /// `nodefs.available`: bytes of the file system that has everything of the node.
    Disk,
    /// `nodefs.inodesFree`
    Inodes,
    /// `pid.available`
    Pids,
}

/// A condition of a node under pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pressure {
    /// The condition's type.
    pub condition: &'static str,
    /// Its reason and message while it is true.
    pub pressed: [&'static str; 2],
    /// Its reason and message while it is not.
    pub relieved: [&'static str; 2],
    /// Key of the taint that keeps new Pods away.
    pub taint: &'static str,
    /// Reasons of the Events that tell of its beginning and of its end.
    events: [&'static str; 2],
}

impl Pressure {
    /// What is told of the node when it comes under this pressure, or out of it (§2.9).
    pub fn event(&self, node: &str, is_pressed: bool) -> Event {
        let [begins, ends] = self.events;
        let reason = if is_pressed { begins } else { ends };
        let message = format!("Node {node} status is now: {reason}");
        events::about_pod(reason, &message)
    }
}

/// Memory runs out.
pub const MEMORY: Pressure = Pressure {
    condition: "MemoryPressure",
    pressed: [
        "KubeletHasInsufficientMemory",
        "kubelet has insufficient memory available",
    ],
    relieved: [
        "KubeletHasSufficientMemory",
        "kubelet has sufficient memory available",
    ],
    taint: "node.kubernetes.io/memory-pressure",
    events: ["NodeHasInsufficientMemory", "NodeHasSufficientMemory"],
};
/// Room on the disk runs out.
pub const DISK: Pressure = Pressure {
    condition: "DiskPressure",
    pressed: ["KubeletHasDiskPressure", "kubelet has disk pressure"],
    relieved: ["KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
    taint: "node.kubernetes.io/disk-pressure",
    events: ["NodeHasDiskPressure", "NodeHasNoDiskPressure"],
};
/// Process ids run out.
pub const PIDS: Pressure = Pressure {
    condition: "PIDPressure",
    pressed: [
        "KubeletHasInsufficientPID",
        "kubelet has insufficient PID available",
    ],
    relieved: [
        "KubeletHasSufficientPID",
        "kubelet has sufficient PID available",
    ],
    taint: "node.kubernetes.io/pid-pressure",
    events: ["NodeHasInsufficientPID", "NodeHasSufficientPID"],
};
/// All of them, in the order of a node's conditions.
pub const PRESSURES: [Pressure; 3] = [MEMORY, DISK, PIDS];

/// A threshold that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadThreshold {
    /// Nothing of this name is measured.
    #[error("unsupported eviction signal {0}")]
    Signal(String),
    /// Neither an amount nor a percentage.
    #[error("eviction threshold {0}: {1:?} is neither a quantity nor a percentage")]
    Amount(String, String),
    /// Less than something.
    #[error("eviction threshold {0} must be positive: {1}")]
    NotPositive(String, String),
}

/// How much there must be, at the least.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    signal: Signal,
    least: Least,
}

#[derive(Debug, Clone, PartialEq)]
enum Least {
    Quantity(Quantity),
    /// Of all there is; 0.1 is a tenth.
    Part(f64),
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// As a whole.
    pub capacity: u64,
    /// Of that, what is not used.
    pub available: u64,
}

/// A threshold that is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    signal: Signal,
    least: String,
    available: String,
}

/// What a Pod uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory in bytes, by container.
    pub memory: BTreeMap<String, u64>,
    /// Bytes on the disk: writable layers, logs and volumes.
    pub disk: u64,
    /// Processes and threads.
    pub pids: u64,
}

impl Met {
    /// Whether it matters how much Pods use of the disk.
    pub fn is_of_disk(&self) -> bool {
        self.signal.pressure() == DISK
    }

    /// What is told of the node before something is done about it.
    pub fn event(&self) -> Event {
        let message = format!("Attempting to reclaim {}", self.signal.resource());
        Event {
            event_type: EventType::Warning,
            ..events::about_pod("EvictionThresholdMet", &message)
        }
    }
}

impl Signal {
    const ALL: [Signal; 4] = [Signal::Memory, Signal::Disk, Signal::Inodes, Signal::Pids];

    fn name(self) -> &'static str {
        match self {
            Signal::Memory => "memory.available",
            Signal::Disk => "nodefs.available",
            Signal::Inodes => "nodefs.inodesFree",
            Signal::Pids => "pid.available",
        }
    }

    fn pressure(self) -> Pressure {
        match self {
            Signal::Memory => MEMORY,
            Signal::Disk | Signal::Inodes => DISK,
            Signal::Pids => PIDS,
        }
    }

    fn resource(self) -> &'static str {
        match self {
            Signal::Memory => "memory",
            Signal::Disk => "ephemeral-storage",
            Signal::Inodes => "inodes",
            Signal::Pids => "pids",
        }
    }

    fn shown(self, amount: u64) -> String {
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        match self {
            Signal::Memory | Signal::Disk => Quantity::from_bytes(amount).to_string(),
            Signal::Inodes | Signal::Pids => Quantity::from_i64(amount).to_string(),
        }
    }
}

/// Thresholds by the names of their signals, as `evictionHard` has them. Percentages of 0 and 100 mean none, as upstream has it.
///
/// # Errors
/// The first that cannot be meant.
pub fn thresholds(hard: &BTreeMap<String, String>) -> Result<Vec<Threshold>, BadThreshold> {
    let mut thresholds = Vec::new();
    for (name, text) in hard {
        let mut signals = Signal::ALL.into_iter();
        let signal = signals.find(|signal| signal.name() == name);
        let signal = signal.ok_or_else(|| BadThreshold::Signal(name.clone()))?;
        if ["0%", "100%"].contains(&text.as_str()) {
            continue;
        }
        let least = least(text).ok_or_else(|| BadThreshold::Amount(name.clone(), text.clone()))?;
        let is_positive = match &least {
            Least::Quantity(quantity) => quantity.signum() > 0,
            Least::Part(part) => *part > 0.0,
        };
        if !is_positive {
            return Err(BadThreshold::NotPositive(name.clone(), text.clone()));
        }
        thresholds.push(Threshold { signal, least });
    }
    Ok(thresholds)
}

fn least(text: &str) -> Option<Least> {
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent: f64 = percent.parse().ok()?;
            (percent <= 100.0).then_some(Least::Part(percent / 100.0))
        }
        None => text.parse().ok().map(Least::Quantity),
    }
}

/// Thresholds that are not kept, memory first.
pub fn met(thresholds: &[Threshold], levels: &BTreeMap<Signal, Level>) -> Vec<Met> {
    let judge = |threshold: &Threshold| {
        let signal = threshold.signal;
        // What a file system does not count, it does not run out of.
        let level = levels.get(&signal).filter(|level| level.capacity > 0)?;
        let (least, shown) = match &threshold.least {
            Least::Quantity(quantity) => {
                let least = u64::try_from(quantity.value()).unwrap_or(u64::MAX);
                (least, quantity.to_string())
            }
            Least::Part(part) => {
                let least = (level.capacity as f64 * part) as u64;
                (least, signal.shown(least))
            }
        };
        (level.available < least).then(|| Met {
            signal,
            least: shown,
            available: signal.shown(level.available),
        })
    };
    let mut met: Vec<Met> = thresholds.iter().filter_map(judge).collect();
    met.sort_by_key(|met| met.signal);
    met
}

/// Conditions of the node: a pressure is told of until it was not seen for a while.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    seen: BTreeMap<Pressure, Timestamp>,
}

impl Conditions {
    /// Takes in what was found; the pressures that the node is under.
    pub fn update(&mut self, met: &[Met], now: Timestamp) -> BTreeSet<Pressure> {
        let found = met.iter().map(|met| (met.signal.pressure(), now));
        self.seen.extend(found);
        self.seen
            .retain(|_, seen| now.duration_since(*seen) < TRANSITION);
        self.seen.keys().copied().collect()
    }
}

/// Why a node under these pressures refuses a Pod, if it does (§1.2): critical Pods are let in, and where memory alone runs out, who
/// asks for something or tolerates it.
pub fn refuse(pod: &Pod, pressures: &BTreeSet<Pressure>) -> Option<Rejection> {
    if pressures.is_empty() || preempt::is_critical(pod) {
        return None;
    }
    if pressures.iter().eq([&MEMORY]) {
        let taint = Taint {
            key: MEMORY.taint.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        let asks = resources::qos(pod) != Qos::BestEffort;
        if asks || fit::tolerates(fit::tolerations(pod), &taint) {
            return None;
        }
    }
    let names: Vec<&str> = pressures.iter().map(|p| p.condition).collect();
    Some(Rejection {
        reason: "Evicted".to_owned(),
        message: format!("The node had condition: [{}]. ", names.join(" ")),
    })
}

/// Who has to go so that a threshold is kept again: the first of `pods` by rank that the cluster can do without. Of Pods whose use is
/// not known nothing is spared.
pub fn evict<'a>(
    met: &Met,
    pods: impl IntoIterator<Item = (&'a Pod, Option<&'a Usage>)>,
) -> Option<(&'a Pod, Eviction)> {
    let can_go = pods
        .into_iter()
        .filter(|(pod, _)| !preempt::is_critical(pod));
    let (pod, usage) = can_go.min_by_key(|(pod, usage)| rank(met.signal, pod, *usage))?;
    let message = message(met, pod, usage);
    let eviction = Eviction {
        verdict: Verdict {
            phase: "Failed".to_owned(),
            reason: "Evicted".to_owned(),
            message: message.clone(),
            event_type: EventType::Warning,
            disruption: Some(message),
        },
        grace_seconds: Some(GRACE),
    };
    Some((pod, eviction))
}

/// The lowest goes first: whether its use is known and within what it asked for, its priority, how much it uses beyond that.
fn rank(signal: Signal, pod: &Pod, usage: Option<&Usage>) -> (bool, bool, i32, Reverse<i64>) {
    let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
    let Some(usage) = usage else {
        return (false, false, priority, Reverse(0));
    };
    let (used, asked) = match signal {
        Signal::Memory => (usage.memory.values().sum(), request(pod, "memory")),
        Signal::Disk => (usage.disk, request(pod, "ephemeral-storage")),
        Signal::Inodes => (usage.disk, 0),
        Signal::Pids => (usage.pids, 0),
    };
    let beyond = i64::try_from(used)
        .unwrap_or(i64::MAX)
        .saturating_sub(asked);
    // Nobody asks for process ids.
    let is_modest = signal != Signal::Pids && beyond <= 0;
    (true, is_modest, priority, Reverse(beyond))
}

fn request(pod: &Pod, resource: &str) -> i64 {
    resources::requests(pod)
        .get(resource)
        .map_or(0, Quantity::value)
}

fn message(met: &Met, pod: &Pod, usage: Option<&Usage>) -> String {
    let resource = met.signal.resource();
    let mut message = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        met.least, met.available
    );
    let memory = usage.filter(|_| met.signal == Signal::Memory);
    for (name, used) in memory.into_iter().flat_map(|usage| &usage.memory) {
        let members = kinds::members(pod);
        let Some(member) = members.iter().find(|m| m.name() == name) else {
            continue;
        };
        let requests = member
            .spec
            .resources
            .as_ref()
            .and_then(|r| r.requests.as_ref());
        let asked = resources::amount(requests, resource);
        if i64::try_from(*used).is_ok_and(|used| used > asked.as_ref().map_or(0, Quantity::value)) {
            let asked = asked.map_or_else(|| "0".to_owned(), |asked| asked.to_string());
            let used = met.signal.shown(*used);
            message += &format!(
                "Container {name} was using {used}, request is {asked}, has larger consumption of {resource}. "
            );
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hard(pairs: &[(&str, &str)]) -> Result<Vec<Threshold>, String> {
        let pairs = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        thresholds(&pairs.collect()).map_err(|error| error.to_string())
    }

    fn found(thresholds: &[(&str, &str)], levels: &[(Signal, u64, u64)]) -> Vec<Met> {
        let levels = levels.iter().map(|&(signal, capacity, available)| {
            let level = Level {
                capacity,
                available,
            };
            (signal, level)
        });
        met(&hard(thresholds).expect("thresholds"), &levels.collect())
    }

    /// A Pod of one container that asks for so much memory.
    fn pod(name: &str, priority: i32, class: &str, memory: &str) -> Pod {
        let container = json!({"name": "c", "resources": {"requests": {"memory": memory}}});
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"priority": priority, "containers": [container]},
            "status": {"qosClass": class}}))
        .expect("a Pod")
    }

    fn using(memory: u64, disk: u64, pids: u64) -> Option<Usage> {
        Some(Usage {
            memory: [("c".to_owned(), memory)].into(),
            disk,
            pids,
        })
    }

    #[test]
    fn thresholds_are_read() {
        for (name, text, expected) in [
            ("memory.available", "100Mi", Ok(1)),
            ("nodefs.available", "5.5%", Ok(1)),
            ("nodefs.inodesFree", "1k", Ok(1)),
            ("pid.available", "10", Ok(1)),
            ("memory.available", "0%", Ok(0)),
            ("memory.available", "100%", Ok(0)),
            (
                "imagefs.available",
                "1",
                Err("unsupported eviction signal imagefs.available"),
            ),
            (
                "memory.available",
                "0",
                Err("eviction threshold memory.available must be positive: 0"),
            ),
            (
                "memory.available",
                "-5%",
                Err("eviction threshold memory.available must be positive: -5%"),
            ),
            (
                "memory.available",
                "101%",
                Err(
                    "eviction threshold memory.available: \"101%\" is neither a quantity nor a percentage",
                ),
            ),
            (
                "memory.available",
                "lots",
                Err(
                    "eviction threshold memory.available: \"lots\" is neither a quantity nor a percentage",
                ),
            ),
        ] {
            let read = hard(&[(name, text)]).map(|list| list.len());
            assert_eq!(
                read.as_ref().map_err(String::as_str),
                expected.as_ref().map_err(|e| *e),
                "{name} {text}"
            );
        }
    }

    #[test]
    fn what_is_below_its_threshold_is_met() {
        let both = [("memory.available", "100Mi"), ("nodefs.available", "10%")];
        let mebi = 1 << 20;
        let enough = [
            (Signal::Memory, 1000 * mebi, 100 * mebi),
            (Signal::Disk, 1000, 100),
        ];
        assert_eq!(found(&both, &enough), []);
        let short = [
            (Signal::Memory, 1000 * mebi, 99 * mebi),
            (Signal::Disk, 1000, 99),
        ];
        let shown: Vec<_> = found(&both, &short)
            .into_iter()
            .map(|met| (met.signal, met.least, met.available))
            .collect();
        let wanted = [
            (Signal::Memory, "100Mi".to_owned(), "99Mi".to_owned()),
            (Signal::Disk, "100".to_owned(), "99".to_owned()),
        ];
        assert_eq!(shown, wanted);
        // Nobody counts them.
        let inodes = [("nodefs.inodesFree", "5%")];
        assert_eq!(found(&inodes, &[(Signal::Inodes, 0, 0)]), []);
        assert_eq!(found(&inodes, &[]), []);
    }

    #[test]
    fn a_pressure_lasts() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let low = found(&[("memory.available", "2")], &[(Signal::Memory, 9, 1)]);
        let mut conditions = Conditions::default();
        for (second, met, expected) in [
            (0, &[][..], &[][..]),
            (10, &low, &[MEMORY]),
            (20, &low, &[MEMORY]),
            (30, &[], &[MEMORY]),
            (319, &[], &[MEMORY]),
            (320, &[], &[]),
        ] {
            let seen = conditions.update(met, at(second));
            assert!(seen.iter().eq(expected), "{second}: {seen:?}");
        }
    }

    #[test]
    fn a_node_under_pressure_refuses() {
        let mut tolerant = pod("p", 0, "BestEffort", "0");
        let toleration = json!([{"key": MEMORY.taint, "operator": "Exists"}]);
        let spec = tolerant.spec.as_mut().expect("a spec");
        spec.tolerations = serde_json::from_value(toleration).expect("tolerations");
        let both = "The node had condition: [DiskPressure MemoryPressure]. ";
        let memory = "The node had condition: [MemoryPressure]. ";
        for (pod, pressures, expected) in [
            (pod("p", 0, "BestEffort", "0"), &[][..], None),
            (pod("p", 0, "BestEffort", "0"), &[MEMORY], Some(memory)),
            (tolerant.clone(), &[MEMORY], None),
            (tolerant, &[MEMORY, DISK], Some(both)),
            (pod("p", 0, "Burstable", "1"), &[MEMORY], None),
            (pod("p", 0, "Burstable", "1"), &[MEMORY, DISK], Some(both)),
            (
                pod("p", 2_000_000_000, "BestEffort", "0"),
                &[MEMORY, DISK],
                None,
            ),
        ] {
            let pressures = pressures.iter().copied().collect();
            let refused = refuse(&pod, &pressures).map(|r| r.message);
            assert_eq!(refused.as_deref(), expected, "{pressures:?}");
        }
    }

    #[test]
    fn one_goes_first() {
        let critical = || {
            (
                pod("critical", 2_000_000_000, "BestEffort", "0"),
                using(900, 900, 900),
            )
        };
        let memory = ("memory.available", Signal::Memory);
        let table = [
            (
                "who uses more than it asked for, though it is more important",
                memory,
                vec![
                    critical(),
                    (pod("modest", 0, "Burstable", "100"), using(100, 0, 0)),
                    (pod("greedy", 9, "Burstable", "10"), using(20, 0, 0)),
                ],
                "greedy",
            ),
            (
                "who is less important",
                memory,
                vec![
                    (pod("a", 5, "BestEffort", "0"), using(200, 0, 0)),
                    (pod("b", 4, "BestEffort", "0"), using(10, 0, 0)),
                ],
                "b",
            ),
            (
                "who uses most beyond what it asked for",
                memory,
                vec![
                    (pod("a", 0, "Burstable", "150"), using(200, 0, 0)),
                    (pod("b", 0, "Burstable", "10"), using(100, 0, 0)),
                ],
                "b",
            ),
            (
                "of whom nothing is known",
                memory,
                vec![
                    (pod("a", 0, "BestEffort", "0"), using(200, 0, 0)),
                    (pod("b", 5, "BestEffort", "0"), None),
                ],
                "b",
            ),
            (
                "who uses most of the disk",
                ("nodefs.available", Signal::Disk),
                vec![
                    (pod("a", 0, "BestEffort", "0"), using(0, 5, 0)),
                    (pod("b", 0, "BestEffort", "0"), using(0, 6, 0)),
                ],
                "b",
            ),
            (
                "who has most processes",
                ("pid.available", Signal::Pids),
                vec![
                    (pod("a", 0, "BestEffort", "0"), using(0, 0, 9)),
                    (pod("b", 0, "BestEffort", "0"), using(0, 0, 8)),
                    (pod("c", 1, "BestEffort", "0"), using(0, 0, 99)),
                ],
                "a",
            ),
        ];
        for (name, (threshold, signal), pods, expected) in table {
            let met = &found(&[(threshold, "500")], &[(signal, 1000, 10)])[0];
            let pods = pods.iter().map(|(pod, usage)| (pod, usage.as_ref()));
            let (pod, eviction) = evict(met, pods).expect("somebody");
            assert_eq!(pod.metadata.name.as_deref(), Some(expected), "{name}");
            assert_eq!(eviction.grace_seconds, Some(1));
        }
        let met = &found(
            &[("memory.available", "500")],
            &[(Signal::Memory, 1000, 10)],
        )[0];
        let (pod, usage) = critical();
        assert_eq!(evict(met, [(&pod, usage.as_ref())]), None);
    }

    #[test]
    fn the_reason_is_told() {
        let met = &found(
            &[("memory.available", "1Gi")],
            &[(Signal::Memory, 1 << 40, 512 << 20)],
        )[0];
        let greedy = pod("p", 0, "Burstable", "1Mi");
        let usage = using(3 << 20, 0, 0);
        let (_, eviction) = evict(met, [(&greedy, usage.as_ref())]).expect("somebody");
        let text = "The node was low on resource: memory. Threshold quantity: 1Gi, available: 512Mi. Container c was using 3Mi, request \
                    is 1Mi, has larger consumption of memory. ";
        assert_eq!(eviction.verdict.message, text);
        assert_eq!(eviction.verdict.disruption.as_deref(), Some(text));
        let met = &found(
            &[("nodefs.available", "1Gi")],
            &[(Signal::Disk, 1 << 40, 1 << 20)],
        )[0];
        let (_, eviction) = evict(met, [(&greedy, None)]).expect("somebody");
        assert_eq!(
            eviction.verdict.message,
            "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 1Mi. "
        );
    }
}
