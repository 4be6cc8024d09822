//! Thresholds, what is found of the node, and who has to go.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::*;

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    pairs.iter().map(owned).collect()
}

fn read(settings: &Settings) -> Result<Policy, String> {
    let told = |error: BadSetting| format!("{}: {}", error.field, error.error);
    Policy::read(settings).map_err(told)
}

fn hard(pairs: &[(&str, &str)]) -> Result<Policy, String> {
    read(&Settings {
        hard: texts(pairs),
        ..Settings::default()
    })
}

fn levels(levels: &[(Signal, u64, u64)]) -> BTreeMap<Signal, Level> {
    let level = |&(signal, capacity, available): &(Signal, u64, u64)| {
        let level = Level {
            capacity,
            available,
        };
        (signal, level)
    };
    levels.iter().map(level).collect()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn found(thresholds: &[(&str, &str)], found: &[(Signal, u64, u64)]) -> Vec<Met> {
    let policy = hard(thresholds).expect("thresholds");
    Watch::default().look(&policy, &levels(found), at(0)).met
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
        disk_of: [("c".to_owned(), disk / 2)].into(),
        pids,
    })
}

#[test]
fn thresholds_are_read() {
    for (name, text, expected) in [
        ("memory.available", "100Mi", Ok(1)),
        ("nodefs.available", "5.5%", Ok(1)),
        ("nodefs.inodesFree", "1k", Ok(1)),
        ("imagefs.available", "1", Ok(1)),
        ("imagefs.inodesFree", "15%", Ok(1)),
        ("pid.available", "10", Ok(1)),
        ("memory.available", "0%", Ok(0)),
        ("memory.available", "100%", Ok(0)),
        (
            "rootfs.available",
            "1",
            Err("unsupported eviction signal rootfs.available"),
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
        let read = hard(&[(name, text)]).map(|policy| policy.thresholds.len());
        let expected = expected.map_err(|error| format!("evictionHard: {error}"));
        assert_eq!(read, expected, "{name} {text}");
    }
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    let memory = |text| texts(&[("memory.available", text)]);
    let soft = |grace| Settings {
        soft: memory("1Gi"),
        soft_grace_period: memory(grace),
        ..Settings::default()
    };
    assert_eq!(read(&soft("1m30s")).map(|p| p.thresholds.len()), Ok(1));
    let rows = [
        (
            Settings {
                soft: memory("1Gi"),
                soft_grace_period: texts(&[("pid.available", "1m")]),
                ..Settings::default()
            },
            "evictionSoft: grace period must be specified for the soft eviction threshold memory.available",
        ),
        (
            soft("-1s"),
            "evictionSoftGracePeriod: invalid eviction grace period specified: -1s, must be a positive value",
        ),
        (
            soft("90"),
            "evictionSoftGracePeriod: time: missing unit in duration \"90\"",
        ),
        (
            Settings {
                soft_grace_period: texts(&[("cpu", "1m")]),
                ..Settings::default()
            },
            "evictionSoftGracePeriod: unsupported eviction signal cpu",
        ),
        (
            Settings {
                minimum_reclaim: memory("-1"),
                ..Settings::default()
            },
            "evictionMinimumReclaim: negative eviction minimum reclaim specified for memory.available",
        ),
        (
            Settings {
                minimum_reclaim: memory("0%"),
                ..Settings::default()
            },
            "evictionMinimumReclaim: eviction threshold memory.available must be positive: 0%",
        ),
        (
            Settings {
                max_pod_grace_period: -1,
                ..Settings::default()
            },
            "evictionMaxPodGracePeriod: must be greater than or equal to 0: -1",
        ),
        (
            Settings {
                transition_period: Some("soon".to_owned()),
                ..Settings::default()
            },
            "evictionPressureTransitionPeriod: time: invalid duration \"soon\"",
        ),
    ];
    for (settings, expected) in rows {
        assert_eq!(read(&settings), Err(expected.to_owned()), "{settings:?}");
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
    let policy = hard(&[("memory.available", "2")]).expect("a policy");
    let shorter = Policy::read(&Settings {
        hard: texts(&[("memory.available", "2")]),
        transition_period: Some("0s".to_owned()),
        ..Settings::default()
    });
    let low = levels(&[(Signal::Memory, 9, 1)]);
    let enough = levels(&[(Signal::Memory, 9, 2)]);
    let (mut watch, mut brief) = (Watch::default(), Watch::default());
    let shorter = shorter.expect("a policy");
    for (second, levels, expected, briefly) in [
        (0, &enough, &[][..], &[][..]),
        (10, &low, &[MEMORY], &[MEMORY]),
        (20, &low, &[MEMORY], &[MEMORY]),
        (30, &enough, &[MEMORY], &[]),
        (319, &enough, &[MEMORY], &[]),
        (320, &enough, &[], &[]),
    ] {
        let seen = watch.look(&policy, levels, at(second)).pressures;
        assert!(seen.iter().eq(expected), "{second}: {seen:?}");
        let seen = brief.look(&shorter, levels, at(second)).pressures;
        assert!(seen.iter().eq(briefly), "{second}: {seen:?}");
    }
}

#[test]
fn a_soft_threshold_is_missed_for_a_while_first() {
    let policy = Policy::read(&Settings {
        hard: texts(&[("memory.available", "100")]),
        soft: texts(&[("memory.available", "300"), ("pid.available", "5")]),
        soft_grace_period: texts(&[("memory.available", "1m"), ("pid.available", "30s")]),
        max_pod_grace_period: 20,
        ..Settings::default()
    });
    let policy = policy.expect("a policy");
    let mut watch = Watch::default();
    let both = [MEMORY, PIDS];
    // Memory and process ids that are left, the pressures, what is done something about, when the next would be.
    for (second, memory, pids, pressures, met, next) in [
        (0, 300, 9, &[][..], &[][..], None),
        (10, 299, 9, &[MEMORY], &[], Some(70)),
        (20, 299, 4, &both, &[], Some(50)),
        // It begins anew.
        (30, 299, 5, &both, &[], Some(70)),
        (69, 200, 4, &both, &[], Some(70)),
        (70, 200, 4, &both, &[(Signal::Memory, 20)], Some(99)),
        (
            80,
            99,
            4,
            &both,
            &[(Signal::Memory, 1), (Signal::Memory, 20)],
            Some(99),
        ),
        (99, 400, 4, &both, &[(Signal::Pids, 20)], None),
        (100, 299, 9, &both, &[], Some(160)),
    ] {
        let levels = levels(&[(Signal::Memory, 1000, memory), (Signal::Pids, 10, pids)]);
        let found = watch.look(&policy, &levels, at(second));
        assert!(found.pressures.iter().eq(pressures), "{second}: {found:?}");
        let done = found.met.iter().map(|m| (m.signal, m.max_grace_seconds));
        assert!(done.eq(met.iter().copied()), "{second}: {found:?}");
        assert_eq!(found.next, next.map(at), "{second}");
    }
}

#[test]
fn a_soft_threshold_leaves_a_pod_its_grace() {
    let policy = |most| {
        let policy = Policy::read(&Settings {
            soft: texts(&[("memory.available", "500")]),
            soft_grace_period: texts(&[("memory.available", "0")]),
            max_pod_grace_period: most,
            ..Settings::default()
        });
        policy.expect("a policy")
    };
    let mut patient = pod("p", 0, "BestEffort", "0");
    for (most, own, expected) in [
        (20, None, 20),
        (60, None, 30),
        (60, Some(45), 45),
        (60, Some(0), 1),
        (0, Some(45), 1),
    ] {
        let spec = patient.spec.as_mut().expect("a spec");
        spec.termination_grace_period_seconds = own;
        let levels = levels(&[(Signal::Memory, 1000, 10)]);
        let found = Watch::default().look(&policy(most), &levels, at(0));
        let (_, eviction) = evict(&found.met[0], [(&patient, None)]).expect("somebody");
        assert_eq!(eviction.grace_seconds, Some(expected), "{most} {own:?}");
    }
}

#[test]
fn what_was_too_little_has_to_become_more_than_enough() {
    let policy = Policy::read(&Settings {
        hard: texts(&[("nodefs.available", "100"), ("imagefs.available", "10%")]),
        minimum_reclaim: texts(&[("nodefs.available", "50"), ("imagefs.available", "5%")]),
        ..Settings::default()
    });
    let policy = policy.expect("a policy");
    let mut watch = Watch::default();
    for (second, available, met) in [
        (0, 120, &[][..]),
        (10, 99, &[Signal::Disk, Signal::ImageDisk]),
        (20, 149, &[Signal::Disk, Signal::ImageDisk]),
        (30, 150, &[]),
        (40, 149, &[]),
    ] {
        let levels = levels(&[
            (Signal::Disk, 1000, available),
            (Signal::ImageDisk, 1000, available),
        ]);
        let found = watch.look(&policy, &levels, at(second));
        assert!(found.met.iter().all(Met::is_of_disk));
        let signals = found.met.iter().map(|met| met.signal);
        assert!(signals.eq(met.iter().copied()), "{second}: {found:?}");
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
    let usage = using(0, 6 << 20, 0);
    let (_, eviction) = evict(met, [(&greedy, usage.as_ref())]).expect("somebody");
    let text = "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 1Mi. Container c was using 3Mi, \
                request is 0, has larger consumption of ephemeral-storage. ";
    assert_eq!(eviction.verdict.message, text);
    let notes = |eviction: &crate::Eviction| {
        let notes = eviction.verdict.annotations.iter();
        let notes = notes.map(|(key, text)| format!("{key}={text}"));
        notes.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        notes(&eviction),
        "offending_containers=c offending_containers_usage=3Mi starved_resource=ephemeral-storage"
    );
    let (_, eviction) = evict(met, [(&greedy, None)]).expect("somebody");
    assert_eq!(notes(&eviction), "");
    assert_eq!(
        eviction.verdict.message,
        "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 1Mi. "
    );
}
