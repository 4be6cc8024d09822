//! In-place resize (§12.7): what is granted, in which order it is carried out, what is reported.

use std::collections::BTreeMap;

use cri::{ContainerStatus, SandboxState};
use k8s_openapi::api::core::v1::Pod;
use lifecycle::resize::{self, Allocation, Pending, Progress, ResizeError, Shrink, Target};
use lifecycle::resources::{self, Amounts};
use lifecycle::room::{Answer, Ask, Room};
use lifecycle::share::Share;
use lifecycle::{NodePolicy, Observed, Stopping, VolumesSeen, plan, status};
use serde_json::{Value, json};
use testkit::{at, exited, running, sandbox};

/// A container `name: cpu request/limit memory request/limit`, in millicores and mebibytes; `-` is none.
fn container(text: &str) -> Value {
    let (name, amounts) = text.split_once(": ").unwrap();
    let (cpu, memory) = amounts.split_once(' ').unwrap();
    let mut resources = json!({"requests": {}, "limits": {}});
    for (name, pair, unit) in [("cpu", cpu, "m"), ("memory", memory, "Mi")] {
        let (request, limit) = pair.split_once('/').unwrap();
        for (list, amount) in [("requests", request), ("limits", limit)] {
            if amount != "-" {
                resources[list][name] = json!(format!("{amount}{unit}"));
            }
        }
    }
    json!({"name": name, "image": "i", "resources": resources})
}

fn pod(init: Value, containers: &[&str]) -> Pod {
    let containers: Vec<Value> = containers.iter().map(|text| container(text)).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "uid", "generation": 2},
        "spec": {"restartPolicy": "Always", "initContainers": init, "containers": containers},
        "status": {"phase": "Running", "qosClass": "Burstable", "observedGeneration": 1,
            "startTime": "2026-01-01T00:00:00Z"},
    }))
    .unwrap()
}

fn apps(containers: &[&str]) -> Pod {
    pod(json!([]), containers)
}

/// A record as one made for this Pod.
fn made(pod: &Pod, mut record: ContainerStatus) -> ContainerStatus {
    let members = lifecycle::kinds::members(pod);
    let member = members.iter().find(|m| m.name() == record.name).unwrap();
    record.resources = resources::container(pod, member.spec, 1 << 30);
    record.annotations = BTreeMap::from([Amounts::of(pod, member.spec).note()]);
    record
}

/// A look at this Pod with these records, everything as it was allocated.
fn seen(pod: &Pod, records: Vec<ContainerStatus>) -> Observed {
    let mut sandbox = sandbox(0, SandboxState::Ready);
    sandbox.resources = resources::pod(pod);
    sandbox.annotations = BTreeMap::from([Allocation::of(pod).note()]);
    Observed {
        sandboxes: vec![sandbox],
        containers: records.into_iter().map(|r| made(pod, r)).collect(),
        volumes: VolumesSeen::Ready,
        ..Observed::default()
    }
}

fn all_running(pod: &Pod) -> Observed {
    let members = lifecycle::kinds::members(pod);
    let records = members.iter().map(|m| running(m.name(), 0, 1)).collect();
    seen(pod, records)
}

fn steps(pod: &Pod, seen: &Observed, second: i64) -> String {
    plan(pod, seen, at(second), &NodePolicy::default()).to_string()
}

const MIB: i64 = 1 << 20;

#[test]
fn limits_of_the_pod_always_cover_those_of_its_containers() {
    let rows = [
        (
            "as it was",
            vec!["a: 100/200 32/64"],
            vec!["a: 100/200 32/64"],
            String::new(),
        ),
        (
            "however it is written",
            vec!["a: 1000/1000 1024/1024"],
            vec!["a: 1000/1000 1024/1024"],
            String::new(),
        ),
        (
            "growing: the Pod first",
            vec!["a: 100/200 32/64"],
            vec!["a: 200/400 64/128"],
            format!(
                "resize pod memory={0}, a memory={0}, pod quota=40000, pod shares=204, a quota=40000 shares=204",
                128 * MIB
            ),
        ),
        (
            "shrinking: the Pod last",
            vec!["a: 200/400 64/128"],
            vec!["a: 100/200 32/64"],
            format!(
                "resize a memory={0}, pod memory={0}, a quota=20000 shares=102, pod shares=102, pod quota=20000",
                64 * MIB
            ),
        ),
        (
            "who shrinks makes room for who grows",
            vec!["a: 100/200 32/64", "b: 200/300 64/96"],
            vec!["a: 200/300 64/96", "b: 100/200 32/64"],
            format!(
                "resize b memory={}, a memory={}, b quota=20000 shares=102, a quota=30000 shares=204",
                64 * MIB,
                96 * MIB
            ),
        ),
        (
            "a limit where there was none",
            vec!["a: 100/- 32/-"],
            vec!["a: 100/200 32/64"],
            format!(
                "resize a memory={0}, pod memory={0}, a quota=20000 shares=102, pod quota=20000",
                64 * MIB
            ),
        ),
        (
            "a memory request changes nothing but the note",
            vec!["a: 100/200 32/64"],
            vec!["a: 100/200 48/64"],
            format!("resize a memory={}", 64 * MIB),
        ),
    ];
    for (name, from, to, want) in rows {
        let (from, to) = (apps(&from), apps(&to));
        assert_eq!(steps(&to, &all_running(&from), 10), want, "{name}");
    }
}

#[test]
fn init_containers_and_pods_of_their_own_size_too() {
    let mut init = container("one: 100/200 32/64");
    let from = pod(json!([init]), &["a: 100/200 32/64"]);
    init["resources"]["limits"]["memory"] = json!("96Mi");
    let to = pod(json!([init]), &["a: 100/200 32/64"]);
    let want = format!("resize pod memory={0}, one memory={0}", 96 * MIB);
    assert_eq!(
        steps(&to, &seen(&from, vec![running("one", 0, 1)]), 10),
        want
    );

    let whole = |cpu: &str, memory: &str| {
        let mut pod = apps(&["a: 100/- 32/-"]);
        let list = json!({"cpu": cpu, "memory": memory});
        let own = json!({"requests": list, "limits": list});
        pod.spec.as_mut().unwrap().resources = serde_json::from_value(own).unwrap();
        pod
    };
    let (from, to) = (whole("500m", "128Mi"), whole("600m", "100Mi"));
    let want = format!(
        "resize a memory={0}, pod memory={0}, pod quota=60000, pod shares=614, a quota=60000 shares=102",
        100 * MIB
    );
    assert_eq!(steps(&to, &all_running(&from), 10), want);
}

#[test]
fn a_policy_asks_for_a_restart() {
    let with_policy = |text: &str| {
        let mut pod = apps(&[text]);
        let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        pod.spec.as_mut().unwrap().containers[0].resize_policy =
            serde_json::from_value(policy).unwrap();
        pod
    };
    let from = with_policy("a: 100/200 32/64");
    let cpu = with_policy("a: 150/200 32/64");
    let want = "resize pod shares=153, a quota=20000 shares=153";
    assert_eq!(steps(&cpu, &all_running(&from), 10), want);
    let memory = with_policy("a: 100/200 48/96");
    let mut seen = all_running(&from);
    let want = "stop container a (a-0) within 30 s: Container a resize requires restart";
    let first = plan(&memory, &seen, at(10), &NodePolicy::default());
    assert_eq!(first.to_string(), want);
    assert!(first.resizing.is_some(), "it is in progress");
    // Once it has stopped, the Pod grows, and it starts anew.
    seen.containers = vec![made(&from, exited("a", 0, 1, 11, 137))];
    let stop = Stopping {
        since: at(10),
        grace_seconds: 30,
        then_restart: true,
    };
    seen.memory.stopping.insert("a-0".to_owned(), stop);
    seen.memory.resizing.progress = first.resizing;
    let want = format!("resize pod memory={}\nstart container a #1", 96 * MIB);
    let second = plan(&memory, &seen, at(11), &NodePolicy::default());
    assert_eq!(second.to_string(), want);
    assert!(second.resizing.is_some(), "it is still in progress");
    seen.sandboxes[0].resources = resources::pod(&memory);
    assert_eq!(steps(&memory, &seen, 11), "start container a #1");
    seen.containers.push(made(&memory, running("a", 1, 12)));
    let last = plan(&memory, &seen, at(12), &NodePolicy::default());
    assert!(last.to_string().contains("ResizeCompleted"), "{last}");
    assert_eq!(last.resizing, None);
}

#[test]
fn what_is_granted_is_noted_before_anything_else() {
    let (from, to) = (apps(&["a: 100/200 32/64"]), apps(&["a: 200/400 32/64"]));
    let mut seen = all_running(&from);
    let pending = |answer| {
        Some(Pending {
            wanted: Allocation::of(&to),
            generation: 2,
            answer,
        })
    };
    for (answer, want) in [
        (None, ""),
        (Some(Answer::Deferred("full".to_owned())), ""),
        (Some(Answer::Granted), "note the allocation"),
    ] {
        seen.memory.resizing.pending = pending(answer);
        assert_eq!(steps(&from, &seen, 10), want);
    }
    seen.memory.resizing.retry_at = Some(at(12));
    let waits = plan(&from, &seen, at(10), &NodePolicy::default());
    assert_eq!(
        (waits.to_string(), waits.wake_at),
        (String::new(), Some(at(12)))
    );
    // A later engine finds it.
    let noted = Allocation::noted(&seen.sandboxes).unwrap();
    assert!(noted.is_same(&Allocation::of(&from)));
    let mut pod = to.clone();
    noted.apply(&mut pod);
    assert_eq!(pod.spec, from.spec);
}

#[test]
fn what_fails_is_tried_again_later() {
    let (from, to) = (apps(&["a: 100/200 32/64"]), apps(&["a: 100/200 16/32"]));
    let mut seen = all_running(&from);
    seen.memory.resizing.progress = Some(Progress {
        generation: 2,
        error: Some(ResizeError {
            message: "in use".to_owned(),
            at: at(10),
        }),
    });
    let waits = plan(&to, &seen, at(15), &NodePolicy::default());
    assert_eq!(
        (waits.to_string(), waits.wake_at),
        (String::new(), Some(at(20)))
    );
    assert_eq!(waits.resizing, seen.memory.resizing.progress);
    let want = format!("resize a memory={0}, pod memory={0}", 32 * MIB);
    assert_eq!(steps(&to, &seen, 20), want);
}

#[test]
fn limits_shrink_no_further_than_what_is_used() {
    let pod = Shrink {
        target: Target::Pod {
            sandbox: "s".to_owned(),
        },
        limit: 100,
    };
    let a = Shrink {
        target: Target::Container {
            id: "a-0".to_owned(),
            name: "a".to_owned(),
        },
        limit: 50,
    };
    let of_a = "attempting to set container \"a\" memory limit (50) below current usage (50)";
    let of_pod = "attempting to set pod memory limit (100) below current usage (101)";
    for (uses, want) in [
        (vec![(pod.clone(), 99), (a.clone(), 49)], None),
        (
            vec![(pod.clone(), 99), (a.clone(), 50)],
            Some(format!("cannot decrease memory limits: {of_a}")),
        ),
        (
            vec![(pod, 101), (a, 50)],
            Some(format!("cannot decrease memory limits: [{of_pod}, {of_a}]")),
        ),
    ] {
        assert_eq!(resize::refused(&uses), want);
    }
}

#[test]
fn records_of_another_engine_are_left_alone() {
    let (from, to) = (apps(&["a: 100/200 32/64"]), apps(&["a: 200/400 32/64"]));
    let mut seen = all_running(&from);
    seen.sandboxes[0].annotations.clear();
    seen.containers[0].annotations.clear();
    assert_eq!(steps(&to, &seen, 10), "");
}

fn conditions(pod: &Pod, seen: &Observed, second: i64) -> Vec<String> {
    let all = status(pod, seen, at(second)).conditions.unwrap_or_default();
    all.iter()
        .filter(|c| c.type_.starts_with("PodResize"))
        .map(|c| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let since = c
                .last_transition_time
                .as_ref()
                .unwrap()
                .0
                .duration_since(at(0));
            let (reason, message) = (text(&c.reason), text(&c.message));
            let generation = c.observed_generation.unwrap();
            format!(
                "{} {reason} {message} {generation} @{}",
                c.type_,
                since.as_secs()
            )
        })
        .collect()
}

#[test]
fn conditions_tell_what_is_pending_and_in_progress() {
    let (from, to) = (apps(&["a: 100/200 32/64"]), apps(&["a: 200/400 32/64"]));
    let mut pod = from.clone();
    let mut seen = all_running(&from);
    assert_eq!(conditions(&pod, &seen, 10), Vec::<String>::new());
    let pending = |answer| {
        Some(Pending {
            wanted: Allocation::of(&to),
            generation: 2,
            answer,
        })
    };
    // Until there is an answer the report is about the spec before.
    seen.memory.resizing.pending = pending(Some(Answer::Granted));
    assert_eq!(status(&pod, &seen, at(10)).observed_generation, Some(1));
    seen.memory.resizing.pending = pending(Some(Answer::Deferred("no room".to_owned())));
    let deferred = status(&pod, &seen, at(10));
    assert_eq!(deferred.observed_generation, Some(2));
    pod.status = Some(deferred);
    assert_eq!(
        conditions(&pod, &seen, 20),
        ["PodResizePending Deferred no room 2 @10"]
    );
    // A new engine that cannot know yet leaves it, and so does one that has still to note what was granted.
    for answer in [None, Some(Answer::Granted)] {
        seen.memory.resizing.pending = pending(answer);
        assert_eq!(
            conditions(&pod, &seen, 30),
            ["PodResizePending Deferred no room 2 @10"]
        );
    }
    seen.memory.resizing.pending = None;
    let progress = |message: Option<&str>| {
        Some(Progress {
            generation: 2,
            error: message.map(|message| ResizeError {
                message: message.to_owned(),
                at: at(40),
            }),
        })
    };
    seen.memory.resizing.progress = progress(None);
    pod.status = Some(status(&pod, &seen, at(40)));
    assert_eq!(conditions(&pod, &seen, 41), ["PodResizeInProgress   2 @40"]);
    seen.memory.resizing.progress = progress(Some("in use"));
    assert_eq!(
        conditions(&pod, &seen, 42),
        ["PodResizeInProgress Error in use 2 @42"]
    );
    seen.memory.resizing.progress = None;
    assert_eq!(conditions(&pod, &seen, 43), Vec::<String>::new());
}

#[test]
fn the_status_says_what_is_in_force() {
    let (from, to) = (apps(&["a: 100/200 32/64"]), apps(&["a: 200/400 48/128"]));
    let mut seen = all_running(&from);
    let shown = |seen: &Observed| {
        let status = status(&to, seen, at(10));
        let a = status.container_statuses.unwrap().remove(0);
        json!({
            "a": a.resources, "allocated": a.allocated_resources,
            "pod": status.resources, "podAllocated": status.allocated_resources,
        })
    };
    let allocated = json!({"cpu": "200m", "memory": "48Mi"});
    let old = json!({"limits": {"cpu": "200m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "48Mi"}});
    assert_eq!(
        shown(&seen),
        json!({"a": old, "allocated": allocated, "pod": old, "podAllocated": allocated})
    );
    seen.containers[0] = made(&to, running("a", 0, 1));
    seen.sandboxes[0].resources = resources::pod(&to);
    let new = json!({"limits": {"cpu": "400m", "memory": "128Mi"}, "requests": allocated});
    assert_eq!(
        shown(&seen),
        json!({"a": new, "allocated": allocated, "pod": new, "podAllocated": allocated})
    );
    // What is not there has what it was allocated.
    seen.containers = vec![made(&from, exited("a", 0, 1, 2, 1))];
    assert_eq!(shown(&seen)["a"], new);
    // The kernel knows no less than two shares and a hundredth of a processor.
    let least = apps(&["a: 1/5 4/4"]);
    let status = status(&least, &all_running(&least), at(10));
    let a = status.container_statuses.unwrap().remove(0).resources;
    let want = json!({"limits": {"cpu": "5m", "memory": "4Mi"}, "requests": {"cpu": "1m", "memory": "4Mi"}});
    assert_eq!(serde_json::to_value(a).unwrap(), want);
}

/// So much, and room for three Pods.
fn share(cpu_milli: i64, mebibytes: i64) -> Share {
    let list =
        json!({"cpu": format!("{cpu_milli}m"), "memory": format!("{mebibytes}Mi"), "pods": "3"});
    Share::listed(Some(&serde_json::from_value(list).unwrap()))
}

fn ask(text: &str, priority: i32, class: &str, since: i64) -> Option<Ask> {
    let mut pod = apps(&[text]);
    pod.spec.as_mut().unwrap().priority = Some(priority);
    pod.status.as_mut().unwrap().qos_class = Some(class.to_owned());
    Some(Ask::of(&pod, at(since)))
}

#[test]
fn a_node_grants_what_fits() {
    let mut room = Room::new(share(2000, 1000));
    room.hold("a", share(500, 100));
    room.hold("b", share(1000, 100));
    room.ask("a", ask("a: 1100/- 200/-", 0, "Burstable", 1));
    assert_eq!(room.grant(), Vec::<String>::new());
    assert_eq!(
        room.obstacle("a").unwrap(),
        "Node didn't have enough resource: cpu, requested: 1100, used: 1000, capacity: 2000"
    );
    // What needs more memory than there is fails for that.
    room.ask("b", ask("b: 1000/- 901/-", 0, "Burstable", 1));
    assert_eq!(
        room.obstacle("b").unwrap(),
        format!(
            "Node didn't have enough resource: memory, requested: {}, used: {}, capacity: {}",
            901 * MIB,
            100 * MIB,
            1000 * MIB
        )
    );
    // Less is always granted, and holds what it had until it is done.
    room.ask("b", ask("b: 100/- 100/-", 0, "Burstable", 1));
    assert_eq!(room.grant(), ["b"]);
    assert!(room.obstacle("a").is_some());
    room.hold("b", share(100, 100));
    assert_eq!(room.grant(), ["a"]);
    assert_eq!(room.obstacle("a"), None);
    // Also where Pods hold more than there is.
    room.hold("c", share(5000, 100));
    room.ask("c", ask("c: 4000/- 100/-", 0, "Burstable", 1));
    assert_eq!(room.grant(), ["c"]);
}

#[test]
fn who_goes_first() {
    let rows = [
        (
            "who asks for no more",
            ["a: 900/- 1/-", "b: 50/- 1/-"],
            [9, 0],
            ["Guaranteed", "Burstable"],
            [1, 2],
        ),
        (
            "the higher priority",
            ["a: 900/- 1/-", "b: 900/- 1/-"],
            [0, 9],
            ["Guaranteed", "Burstable"],
            [1, 2],
        ),
        (
            "the better class",
            ["a: 900/- 1/-", "b: 900/- 1/-"],
            [0, 0],
            ["Burstable", "Guaranteed"],
            [1, 2],
        ),
        (
            "who has waited longer",
            ["a: 900/- 1/-", "b: 900/- 1/-"],
            [0, 0],
            ["Burstable", "Burstable"],
            [2, 1],
        ),
    ];
    for (name, wants, priority, class, since) in rows {
        let mut room = Room::new(share(1000, 100));
        for (i, uid) in ["a", "b"].into_iter().enumerate() {
            room.hold(uid, share(100, 1));
            room.ask(uid, ask(wants[i], priority[i], class[i], since[i]));
        }
        assert_eq!(
            room.grant().first().map(String::as_str),
            Some("b"),
            "{name}"
        );
    }
    let mut room = Room::new(share(100, 100));
    room.hold("a", share(100, 1));
    room.ask("b", ask("b: 50/- 1/-", 0, "Burstable", 1));
    room.leave("a");
    assert_eq!(room.grant(), ["b"]);
}

#[test]
fn events_carry_the_sizes() {
    let mut side = container("s: 10/20 8/-");
    side["restartPolicy"] = json!("Always");
    let pod = pod(json!([side]), &["a: 100/200 32/64", "b: -/- -/-"]);
    let sizes = r#""initContainers":[{"name":"s","resources":{"limits":{"cpu":"20m"},"requests":{"cpu":"10m","memory":"8Mi"}}}],"containers":[{"name":"a","resources":{"limits":{"cpu":"200m","memory":"64Mi"},"requests":{"cpu":"100m","memory":"32Mi"}}},{"name":"b","resources":{}}],"generation":3"#;
    for (event, want) in [
        (
            resize::started(&pod, 3),
            format!("Normal ResizeStarted: Pod resize started: {{{sizes}}}"),
        ),
        (
            resize::completed(&pod, 3),
            format!("Normal ResizeCompleted: Pod resize completed: {{{sizes}}}"),
        ),
        (
            resize::deferred(&pod, 3, "no room"),
            format!(
                "Warning ResizeDeferred: Pod resize Deferred: {{{sizes},\"error\":\"no room\"}}"
            ),
        ),
        (
            resize::failed(&pod, 3, "in use"),
            format!("Warning ResizeError: Pod resize error: {{{sizes},\"error\":\"in use\"}}"),
        ),
    ] {
        assert_eq!(event.to_string(), want);
    }
}
