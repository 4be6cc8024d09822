//! Details of the status, of images and of admission that no whole life shows.

use cri::{SandboxState, UserStatus};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Node, PodCondition, PodReadinessGate, PodStatus};
use lifecycle::image::{self, Decision, Presence, PullPolicy};
use lifecycle::room::Room;
use lifecycle::{NodePolicy, Observed, VolumesSeen, WorkerPhase, admit, kinds, status};
use testkit::{at, exited, pod, running, sandbox};

fn seen(containers: Vec<cri::ContainerStatus>) -> Observed {
    Observed {
        sandboxes: vec![sandbox(0, SandboxState::Ready)],
        containers,
        volumes: VolumesSeen::Ready,
        host_ips: vec![
            "192.0.2.1".parse().expect("an address"),
            "2001:db8::1".parse().expect("an address"),
        ],
        ..Observed::default()
    }
}

#[test]
fn identities_and_addresses_are_reported() {
    let mut record = running("a", 0, 1);
    record.user = Some(UserStatus {
        uid: 1000,
        gid: 1000,
        supplemental_groups: vec![1000, 2000],
    });
    let mut pod = pod().app("a").build();
    let spec = pod.spec.as_mut().expect("a spec");
    let hooks = spec.containers[0].lifecycle.get_or_insert_default();
    hooks.stop_signal = Some("SIGUSR1".to_owned());
    let status = status(&pod, &seen(vec![record]), at(5));
    let a = &status.container_statuses.as_deref().unwrap_or_default()[0];
    assert_eq!(a.container_id.as_deref(), Some("carob://a-0"), "§3.5");
    assert_eq!(a.image_id, "docker.io/library/busybox@sha256:feed");
    assert_eq!(a.stop_signal.as_deref(), Some("SIGUSR1"), "§2.5");
    let user = a
        .user
        .as_ref()
        .and_then(|u| u.linux.as_ref())
        .expect("a user");
    assert_eq!(
        (user.uid, user.supplemental_groups.as_deref()),
        (1000, Some([1000, 2000].as_slice()))
    );
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.9"), "§3.3");
    assert_eq!(status.host_ips.map(|ips| ips.len()), Some(2));
    assert_eq!(status.start_time.map(|t| t.0), Some(at(5)));
    assert_eq!(status.observed_generation, Some(1));
}

#[test]
fn the_pods_addresses_stay_when_its_sandbox_is_gone() {
    let mut pod = pod().app("a").build();
    pod.status = Some(status(&pod, &seen(vec![running("a", 0, 1)]), at(5)));
    let mut dead = seen(vec![exited("a", 0, 1, 6, 137)]);
    dead.sandboxes[0].state = SandboxState::NotReady;
    assert_eq!(
        status(&pod, &dead, at(7)).pod_ip.as_deref(),
        Some("10.0.0.9"),
        "§3.3"
    );
}

#[test]
fn apps_are_sorted_by_name_and_init_containers_stay_in_order() {
    let status = status(
        &pod().init("z").init("b").app("y").app("x").build(),
        &seen(vec![]),
        at(0),
    );
    let names = |list: Option<Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
        list.unwrap_or_default()
            .into_iter()
            .map(|c| c.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(status.init_container_statuses), ["z", "b"], "§3.4");
    assert_eq!(names(status.container_statuses), ["x", "y"], "§3.4");
}

#[test]
fn termination_messages_are_shared_out() {
    let mut world = seen(vec![exited("a", 0, 1, 2, 1)]);
    world
        .termination_messages
        .insert("a-0".to_owned(), "x".repeat(4096));
    let mut builder = pod().policy("Never").app("a");
    for name in ["b", "c", "d"] {
        builder = builder.app(name);
    }
    let status = status(&builder.build(), &world, at(3));
    let ended = status.container_statuses.as_deref().unwrap_or_default()[0]
        .state
        .clone()
        .and_then(|s| s.terminated);
    assert_eq!(
        ended.and_then(|t| t.message).map(|m| m.len()),
        Some(12_288 / 4),
        "§3.6"
    );
}

#[test]
fn foreign_conditions_stay_and_readiness_gates_count() {
    let mut pod = pod().app("a").build();
    pod.spec.as_mut().expect("a spec").readiness_gates = Some(vec![PodReadinessGate {
        condition_type: "x/gate".to_owned(),
    }]);
    let live = seen(vec![running("a", 0, 1)]);
    let ready = |pod: &k8s_openapi::api::core::v1::Pod| {
        let conditions = status(pod, &live, at(5)).conditions.unwrap_or_default();
        conditions
            .into_iter()
            .find(|c| c.type_ == "Ready")
            .expect("Ready")
    };
    let without = ready(&pod);
    assert_eq!(
        without.reason.as_deref(),
        Some("ReadinessGatesNotReady"),
        "§3.2"
    );
    assert_eq!(
        without.message.as_deref(),
        Some("corresponding condition of pod readiness gate \"x/gate\" does not exist.")
    );
    let gate = PodCondition {
        type_: "x/gate".to_owned(),
        status: "True".to_owned(),
        ..PodCondition::default()
    };
    pod.status.get_or_insert_default().conditions = Some(vec![gate.clone()]);
    assert_eq!(ready(&pod).status, "True");
    assert_eq!(
        status(&pod, &live, at(5)).conditions.unwrap_or_default()[0],
        gate,
        "§3.2"
    );
}

#[test]
fn images_are_used_pulled_or_refused() {
    let base = |policy: &str| pod().app("a").pull(policy).build();
    let decide = |policy: &str, presence: Presence| {
        let pod = base(policy);
        let member = kinds::members(&pod)[0];
        match image::decide(&image::own(&member), &presence, None, at(0)) {
            Decision::Use { event } | Decision::Pull { event } => event.reason,
            Decision::Fail(failure) => failure.error.reason,
        }
    };
    let rows = [
        ("Always", Presence::Present, "Pulling"),
        ("Always", Presence::Unknown("broken".to_owned()), "Pulling"),
        ("IfNotPresent", Presence::Present, "Pulled"),
        ("IfNotPresent", Presence::Absent, "Pulling"),
        (
            "IfNotPresent",
            Presence::Unknown("broken".to_owned()),
            "ImageInspectError",
        ),
        ("Never", Presence::Present, "Pulled"),
        ("Never", Presence::Absent, "ErrImageNeverPull"),
    ];
    for (policy, presence, want) in rows {
        assert_eq!(
            decide(policy, presence.clone()),
            want,
            "{policy} {presence:?} §4.4"
        );
    }
    let plain = pod().app("a").image("busybox").pull("").build();
    assert_eq!(
        image::own(&kinds::members(&plain)[0]).policy,
        PullPolicy::Always,
        "§15.1"
    );
}

#[test]
fn pulls_are_told_and_backed_off() {
    let pod = pod().app("a").build();
    let member = kinds::members(&pod)[0];
    let own = image::own(&member);
    let event = image::pulled(
        &own,
        SignedDuration::from_micros(1_234_567),
        SignedDuration::from_micros(2_000_900),
        77,
    );
    let want = "Successfully pulled image \"docker.io/library/busybox:1.36\" in 1.234s (2s including waiting). Image size: 77 bytes.";
    assert_eq!(event.message, want, "§4.4");
    let policy = NodePolicy::default();
    let mut entry = None;
    let mut delays = Vec::new();
    for second in 0..7 {
        entry = image::failed(&own, "no", entry.as_ref(), at(second), &policy).back_off;
        delays.push(entry.as_ref().map_or(0, |e| e.delay.as_secs()));
    }
    assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300], "§4.2");
    let late = image::failed(&own, "no", entry.as_ref(), at(700), &policy).back_off;
    assert_eq!(
        late.map(|e| e.delay.as_secs()),
        Some(10),
        "§4.2: unused for 600 s"
    );
    let class = image::failed(&own, "RegistryUnavailable: down", None, at(0), &policy).error;
    assert_eq!(class.reason, "RegistryUnavailable", "§4.4");
    let message = "image pull failed for docker.io/library/busybox:1.36 because the registry is unavailable: down";
    assert_eq!(class.message, message);
}

#[test]
fn images_of_volumes_are_the_pods_affair() {
    let mut pod = pod()
        .app("a")
        .image_volume("tools", "tools")
        .image_volume("data", "data:1")
        .app("b")
        .build();
    let spec = pod.spec.as_mut().expect("a spec");
    // Mounted twice, wanted once; what nobody mounts is not wanted.
    let mounts = spec.containers[0].volume_mounts.as_mut().expect("mounts");
    mounts.push(mounts[0].clone());
    let volumes = spec.volumes.as_mut().expect("volumes");
    let mut unused = volumes[0].clone();
    unused.name = "unused".to_owned();
    volumes.push(unused);
    let members = kinds::members(&pod);
    let wanted = |member| {
        let of_volumes = image::of_volumes(&pod, member).into_iter();
        let of_volumes = of_volumes.map(|w| (w.volume.unwrap_or_default(), w.image, w.policy));
        of_volumes.collect::<Vec<_>>()
    };
    let both = [
        ("tools", "tools", PullPolicy::Always),
        ("data", "data:1", PullPolicy::IfNotPresent),
    ];
    assert_eq!(wanted(&members[0]), both, "§10.7, §15.1");
    assert_eq!(wanted(&members[1]), []);
    let images: Vec<&str> = image::all(&pod, &members[0])
        .iter()
        .map(|wanted| wanted.image)
        .collect();
    let own = "docker.io/library/busybox:1.36";
    assert_eq!(images, ["tools", "data:1", own], "its own comes last");
    let data = image::of_volumes(&pod, &members[0])[1];
    let events = |decision| match decision {
        Decision::Use { event } | Decision::Pull { event } => vec![event],
        Decision::Fail(failure) => failure.events,
    };
    let told = |decision| {
        let events: Vec<_> = events(decision);
        let told = events.iter().map(|e| (e.reason.clone(), e.field_path()));
        told.collect::<Vec<_>>()
    };
    let container = Some("spec.containers{a}".to_owned());
    let pulling = image::decide(&data, &Presence::Absent, None, at(0));
    assert_eq!(told(pulling), [("Pulling".to_owned(), None)]);
    let failure = image::failed(&data, "no", None, at(0), &NodePolicy::default());
    let entry = failure.back_off.clone();
    let failed = || "Failed".to_owned();
    assert_eq!(
        told(Decision::Fail(failure)),
        [(failed(), None), (failed(), container.clone())]
    );
    let held = image::decide(&data, &Presence::Absent, entry.as_ref(), at(1));
    assert_eq!(
        told(held),
        [("BackOff".to_owned(), None), (failed(), container)]
    );
}

#[test]
fn a_full_node_refuses() {
    let pod = pod().app("a").build();
    let refused = admit(
        &pod,
        &Node::default(),
        &Room::default(),
        &Default::default(),
    )
    .expect_err("full");
    let text = "Node didn't have enough resource: pods, requested: 1, used: 0, capacity: 0";
    assert_eq!(
        (refused.reason.as_str(), refused.message.as_str()),
        ("OutOfpods", text),
        "§1.2"
    );
    let status = refused.status(&pod, at(3));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.message, Some(format!("Pod was rejected: {text}")));
    assert_eq!(status.container_statuses, None);
}

#[test]
fn ephemeral_containers_count_for_nothing() {
    let pods = || pod().app("a").ephemeral("z").ephemeral("d").build();
    let records = vec![running("a", 0, 1), exited("d", 0, 2, 3, 1)];
    let status = status(&pods(), &seen(records), at(5));
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let is_ready = |kind: &str| {
        let conditions = status.conditions.iter().flatten();
        conditions
            .into_iter()
            .any(|c| c.type_ == kind && c.status == "True")
    };
    assert!(is_ready("Ready") && is_ready("ContainersReady"));
    let reported = status
        .ephemeral_container_statuses
        .as_deref()
        .unwrap_or_default();
    let names: Vec<_> = reported.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["d", "z"], "§7");
    assert!(
        reported.iter().all(|s| !s.ready && s.started.is_none()),
        "§3.5"
    );
    let state = |at: usize| reported[at].state.clone().unwrap_or_default();
    assert_eq!(state(0).terminated.map(|t| t.exit_code), Some(1));
    let waiting = state(1).waiting.and_then(|w| w.reason);
    assert_eq!(waiting.as_deref(), Some("ContainerCreating"));
}

#[test]
fn a_container_that_waits_says_what_it_will_mount() {
    let mut pod = pod().app("a").image_volume("tools", "tools").build();
    let mounts = |status: &PodStatus| {
        let app = &status.container_statuses.as_deref().unwrap_or_default()[0];
        let mounts = app.volume_mounts.clone().unwrap_or_default();
        mounts.into_iter().map(|m| m.name).collect::<Vec<_>>()
    };
    let waiting = status(&pod, &seen(vec![]), at(1));
    assert_eq!(mounts(&waiting), ["tools"], "§3.5");
    pod.status = Some(waiting);
    let runs = status(&pod, &seen(vec![running("a", 0, 2)]), at(2));
    assert_eq!(mounts(&runs), ["tools"], "§3.5");
}

#[test]
fn an_init_container_removed_to_restart_all_says_so_from_the_first() {
    let mut pod = pod()
        .policy("Never")
        .init("i")
        .app("a")
        .own_policy("Never")
        .rule_for_all(&[42])
        .build();
    let (i, a) = (exited("i", 0, 1, 2, 0), exited("a", 0, 2, 3, 42));
    pod.status = Some(status(&pod, &seen(vec![i, a.clone()]), at(3)));
    // The source of the restart is removed last, so its record is still there.
    for left in [vec![a], vec![]] {
        let mut removing = seen(left);
        removing.memory.restarting_all = true;
        let status = status(&pod, &removing, at(3));
        let i = &status
            .init_container_statuses
            .as_deref()
            .unwrap_or_default()[0];
        let waiting = i.state.as_ref().and_then(|state| state.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
        assert_eq!(
            (reason, i.restart_count),
            (Some("RestartingAllContainers"), 1),
            "§1.10"
        );
        // What was removed counts as about to restart.
        assert_eq!(status.phase.as_deref(), Some("Running"), "§3.1");
        pod.status = Some(status);
    }
}

#[test]
fn a_static_pod_that_is_ended_is_not_made_final() {
    for (source, code, want) in [
        ("api", 0, "Succeeded"),
        ("api", 1, "Failed"),
        ("file", 0, "Running"),
        ("file", 1, "Running"),
    ] {
        let pod = pod()
            .app("a")
            .policy("Always")
            .annotation("kubernetes.io/config.source", source)
            .phase("Running")
            .deleted(10, 30);
        let mut seen = seen(vec![exited("a", 0, 1, 11, code)]);
        seen.memory.phase = WorkerPhase::Terminated;
        let told = status(&pod.build(), &seen, at(12)).phase;
        assert_eq!(told.as_deref(), Some(want), "{source} {code} §3.1");
    }
}
