//! Generated Pods, container behaviour and mishaps. Whatever happens, the invariants of §16 hold at every step (they are
//! checked by the world itself), and every Pod comes to its end.
//!
//! `PROPTEST_CASES` sets how many are tried.

use proptest::prelude::*;
use testkit::{PodBuilder, pod, probe};

use crate::world::{Outside, Run, Starts, World};

/// A Pod and how its containers behave.
#[derive(Debug, Clone)]
struct Life {
    policy: &'static str,
    grace: i64,
    deadline: Option<i64>,
    /// Kind, own policy, behaviour of each run; the last goes on.
    init: Vec<(bool, Option<Own>, Vec<Run>, Extras)>,
    apps: Vec<(Option<Own>, Vec<Run>, Extras)>,
}

/// A container's own restart policy, and with which exit code it, or with it all of the Pod, is restarted all the same.
#[derive(Debug, Clone)]
struct Own {
    policy: &'static str,
    rule: Option<(bool, i32)>,
}

impl Own {
    fn add(&self, builder: PodBuilder) -> PodBuilder {
        let builder = builder.own_policy(self.policy);
        match self.rule {
            Some((true, code)) => builder.rule_for_all(&[code]),
            Some((false, code)) => builder.rule("In", &[code]),
            None => builder,
        }
    }
}

/// What a container has: a startup, liveness and readiness probe, a `preStop` and a `postStart` hook.
type Extras = [bool; 5];

fn with_extras(
    mut builder: PodBuilder,
    [startup, liveness, readiness, pre_stop, post_start]: Extras,
) -> PodBuilder {
    if pre_stop {
        builder = builder.pre_stop();
    }
    if post_start {
        builder = builder.post_start();
    }
    if startup {
        builder = builder.startup(probe(1, 3));
    }
    if liveness {
        builder = builder.liveness(probe(2, 2));
    }
    if readiness {
        builder = builder.readiness(probe(3, 1));
    }
    builder
}

impl Life {
    fn world(&self) -> World {
        let mut builder: PodBuilder = pod().policy(self.policy).grace(self.grace);
        if let Some(seconds) = self.deadline {
            builder = builder.deadline(seconds);
        }
        let mut scripts = Vec::new();
        for (index, (sidecar, own, runs, extras)) in self.init.iter().enumerate() {
            let name = format!("{}{index}", if *sidecar { "side" } else { "init" });
            builder = if *sidecar {
                builder.sidecar(&name)
            } else {
                builder.init(&name)
            };
            if let (false, Some(own)) = (sidecar, own) {
                builder = own.add(builder);
            }
            if *sidecar {
                builder = with_extras(builder, *extras);
            }
            builder = builder.image(&format!("image-{name}"));
            scripts.push((name, runs));
        }
        for (index, (own, runs, extras)) in self.apps.iter().enumerate() {
            // Names that sort against the order of the spec.
            let name = format!("app{}", 9 - index);
            builder = builder.app(&name).image(&format!("image-{name}"));
            builder = with_extras(builder, *extras);
            if let Some(own) = own {
                builder = own.add(builder);
            }
            scripts.push((name, runs));
        }
        let scripts: Vec<_> = scripts
            .iter()
            .map(|(name, runs)| (name.as_str(), runs.as_slice()))
            .collect();
        World::new(builder.build(), &scripts)
    }
}

fn run() -> impl Strategy<Value = Run> {
    let lasts = prop_oneof![2 => Just(None), 4 => (0..30_i64).prop_map(Some), 1 => (500..900_i64).prop_map(Some)];
    let code = prop_oneof![3 => Just(0), 2 => Just(1), 1 => Just(137)];
    let on_stop = prop_oneof![
        4 => (0..3_i64, prop_oneof![Just(0), Just(143)]).prop_map(Some),
        1 => Just(None),
    ];
    let start = prop_oneof![
        16 => Just(Starts::Well),
        1 => Just(Starts::NoImage),
        1 => Just(Starts::NoConfig),
        1 => Just(Starts::NoProgram),
    ];
    let healthy = prop_oneof![
        3 => Just((0, i64::MAX)),
        2 => (0..8_i64, 0..60_i64).prop_map(|(from, lasts)| (from, from + lasts)),
    ];
    let post_start = (0..8_i64, any::<bool>());
    let parts = (lasts, code, on_stop, start, 0..25_i64, post_start, healthy);
    parts.prop_map(
        |(lasts, code, on_stop, start, hook, post_start, healthy)| Run {
            lasts,
            code,
            on_stop,
            start,
            hook,
            post_start,
            healthy,
        },
    )
}

/// Some runs, then one that goes on for ever.
fn runs() -> impl Strategy<Value = Vec<Run>> {
    proptest::collection::vec(run(), 1..4)
}

fn extras() -> impl Strategy<Value = Extras> {
    prop_oneof![2 => Just([false; 5]), 1 => any::<Extras>()]
}

fn policy() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")]
}

fn own(choices: &'static [&'static str]) -> impl Strategy<Value = Option<Own>> {
    let code = prop_oneof![Just(0), Just(1), Just(137)];
    let rule = proptest::option::of((any::<bool>(), code));
    let own = (proptest::sample::select(choices), rule);
    let own = own.prop_map(|(policy, rule)| Own { policy, rule });
    prop_oneof![3 => Just(None), 1 => own.prop_map(Some)]
}

fn life() -> impl Strategy<Value = Life> {
    let init = (
        any::<bool>(),
        own(&["OnFailure", "Never"]),
        runs(),
        extras(),
    );
    let app = (own(&["Always", "OnFailure", "Never"]), runs(), extras());
    (
        policy(),
        0..20_i64,
        prop_oneof![5 => Just(None), 1 => (1..100_i64).prop_map(Some)],
        proptest::collection::vec(init, 0..4),
        proptest::collection::vec(app, 1..4),
    )
        .prop_map(|(policy, grace, deadline, init, apps)| Life {
            policy,
            grace,
            deadline,
            init,
            apps,
        })
}

fn mishap() -> impl Strategy<Value = Outside> {
    prop_oneof![
        2 => (0..25_i64).prop_map(Outside::Delete),
        1 => Just(Outside::Force),
        2 => Just(Outside::SandboxDies),
        2 => Just(Outside::Debug),
        4 => (0..6_u32).prop_map(Outside::AgentDies),
    ]
}

pub(crate) fn config() -> ProptestConfig {
    testkit::cases(2_000, 16)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn pods_keep_the_invariants_until_they_are_gone(
        life in life(),
        mishaps in proptest::collection::vec((0..120_i64, mishap()), 0..5),
    ) {
        let mut world = life.world();
        let mut second = 0;
        for (wait, mishap) in mishaps {
            second += wait;
            world.run_to(second);
            world.outside(mishap);
        }
        world.run_to(second + 1_000);
        world.outside(Outside::Delete(life.grace.max(1)));
        // 21: nothing is left of a deleted Pod after a bounded time.
        world.run_to(second + 1_000 + 3_600);
        prop_assert!(world.seen.gone, "19: still in the API: {}", world.summary());
        prop_assert!(world.seen.sandboxes.is_empty() && world.seen.containers.is_empty(), "21: records are left");
        prop_assert_eq!(&world.seen.volumes, &lifecycle::VolumesSeen::Released, "21: volumes are left");
    }

    #[test]
    fn quiet_pods_end_as_their_containers_do(life in life()) {
        let mut world = life.world();
        world.run_to(4_000);
        let status = world.pod.status.clone().unwrap_or_default();
        let phase = status.phase.unwrap_or_default();
        // 24: the phase depends on the last run of every app container and on nothing else.
        if world.seen.memory.phase == lifecycle::WorkerPhase::Finished {
            prop_assert!(matches!(phase.as_str(), "Succeeded" | "Failed"), "finished in phase {phase}");
        } else {
            prop_assert!(matches!(phase.as_str(), "Pending" | "Running"), "alive in phase {phase}");
        }
        let once = life.policy == "Never" && life.apps.iter().all(|(own, runs, extras)| {
            own.is_none() && *extras == [false; 5] && matches!(runs[0], Run { lasts: Some(_), start: Starts::Well, .. })
        });
        if once && life.init.is_empty() && life.deadline.is_none() {
            let well = life.apps.iter().all(|(_, runs, _)| runs[0].code == 0);
            prop_assert_eq!(phase, if well { "Succeeded" } else { "Failed" });
        }
    }

    #[test]
    fn any_numbers_are_taken(grace in any::<i64>(), held in any::<i64>(), deadline in any::<i64>(), start in 0..1_000_i64) {
        let pod = pod().app("a").deadline(deadline).started(start).deleted(0, grace).build();
        let mut seen = lifecycle::Observed::default();
        seen.containers.push(testkit::running("a", 0, 0));
        seen.memory.termination = Some(lifecycle::Termination { since: testkit::at(0), grace_seconds: held, verdict: None });
        let plan = lifecycle::plan(&pod, &seen, testkit::at(start), &lifecycle::NodePolicy::default());
        for step in plan.steps {
            if let lifecycle::Step::Stop(stop) = step {
                prop_assert!(stop.grace_seconds >= 2);
            }
        }
    }
}
