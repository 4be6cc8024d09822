//! Scenarios: what a person does with a manifest and a handful of commands, and what they must then see. Each runs in a
//! namespace of its own, once with each client: two versions of stock kubectl and `carob`.

mod autoscaling;
mod bad_input;
mod certificates;
mod configuration;
mod daemons;
mod data_tier;
mod debug;
mod disruption;
mod dns;
mod drivers;
mod endpoints;
mod exposed;
mod families;
mod files;
mod garbage;
mod hooks;
mod init;
mod jobs;
mod limits;
mod mounts;
mod namespaces;
mod nodes;
mod plugins;
mod policies;
mod prepare;
mod pressure;
mod priority;
mod private;
mod proxies;
mod quotas;
mod records;
mod resize;
mod restart;
mod rollouts;
mod running;
mod security;
mod services;
mod sets;
mod shared;
mod sidecar;
mod statics;
mod storage;
mod streams;
mod taints;
mod terminal;
mod volumes;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, anyhow};
use e2e::engine::{Engine, Outside};
use e2e::user::{Program, User};
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

/// What a scenario is given.
type Scenario = fn(&User) -> anyhow::Result<()>;

/// Counts namespaces.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Scenarios at once: they wait more than they work.
const AT_ONCE: usize = 4;

fn scenarios() -> Vec<(&'static str, Scenario)> {
    [
        init::SCENARIOS,
        jobs::SCENARIOS,
        prepare::SCENARIOS,
        sidecar::SCENARIOS,
        storage::SCENARIOS,
        policies::SCENARIOS,
        proxies::SCENARIOS,
        services::SCENARIOS,
        dns::SCENARIOS,
        data_tier::SCENARIOS,
        exposed::SCENARIOS,
        shared::SCENARIOS,
        private::SCENARIOS,
        namespaces::SCENARIOS,
        hooks::SCENARIOS,
        endpoints::SCENARIOS,
        limits::SCENARIOS,
        security::SCENARIOS,
        volumes::SCENARIOS,
        configuration::SCENARIOS,
        mounts::SCENARIOS,
        resize::SCENARIOS,
        running::SCENARIOS,
        files::SCENARIOS,
        garbage::SCENARIOS,
        streams::SCENARIOS,
        debug::SCENARIOS,
        autoscaling::SCENARIOS,
        bad_input::SCENARIOS,
        disruption::SCENARIOS,
        priority::SCENARIOS,
        quotas::SCENARIOS,
        rollouts::SCENARIOS,
        sets::SCENARIOS,
        daemons::SCENARIOS,
    ]
    .concat()
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    match play(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let outside = Outside::from_env()?;
    let engine = Arc::new(Engine::start(&outside)?);
    let runtime = Arc::new(
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?,
    );
    let clients = [
        ("kubectl", Program::Kubectl(outside.kubectl.clone())),
        (
            "older-kubectl",
            Program::OlderKubectl(outside.older_kubectl.clone()),
        ),
        ("carob", Program::Carob(outside.carob.clone())),
    ];
    let mut trials: Vec<Trial> = Vec::new();
    for (client, program) in &clients {
        let own = match program {
            Program::Carob(_) => debug::OWN.to_vec(),
            Program::Kubectl(_) | Program::OlderKubectl(_) => [
                autoscaling::KUBECTL,
                certificates::KUBECTL,
                disruption::KUBECTL,
                exposed::KUBECTL,
            ]
            .concat(),
        };
        for (name, scenario) in scenarios().into_iter().chain(own) {
            trials.push(trial(&engine, &runtime, client, program, name, scenario));
        }
    }
    trials.extend(of_engine(&outside));
    let conclusion = libtest_mimic::run(arguments, trials);
    Arc::into_inner(engine)
        .context("a scenario still holds the engine")?
        .down()?;
    Ok(conclusion.exit_code())
}

/// What is seen on the machine, of engines of their own: once.
fn of_engine(outside: &Outside) -> Vec<Trial> {
    let scenarios: Vec<(&str, fn(&Outside) -> anyhow::Result<()>)> = vec![
        ("resizes_survive_kills", resize::survives),
        ("survives_restarts", restart::survives),
        ("static_pods", statics::follow_their_files),
        ("dead_containers_are_collected", records::are_collected),
        ("logs_are_put_aside", records::logs_are_put_aside),
        ("plugins_wire_pods", plugins::wire_pods),
        ("drivers_mount_volumes", drivers::mount_volumes),
        ("families_are_served", families::are_served),
        ("taints_evict", taints::evict),
        ("nodes_join", nodes::join),
        ("critical_pods_make_room", pressure::critical_pods_make_room),
        ("memory_runs_out", pressure::memory_runs_out),
        ("unused_images_go_first", pressure::unused_images_go_first),
    ];
    let trial = |(name, scenario): (&str, fn(&Outside) -> anyhow::Result<()>)| {
        let outside = outside.clone();
        Trial::test(format!("engine::{name}"), move || {
            scenario(&outside).map_err(|error| format!("{error:#}").into())
        })
    };
    scenarios.into_iter().map(trial).collect()
}

fn trial(
    engine: &Arc<Engine>,
    runtime: &Arc<Runtime>,
    client: &str,
    program: &Program,
    name: &str,
    scenario: Scenario,
) -> Trial {
    let (engine, runtime, program) = (engine.clone(), runtime.clone(), program.clone());
    // Names of scenarios are longer than names of namespaces may be.
    let namespace = format!("{client}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    Trial::test(format!("{client}::{name}"), move || {
        let played = User::new(engine, program, &namespace, runtime).and_then(|user| {
            scenario(&user).map_err(|error| anyhow!("{error:#}\n{}", user.surroundings()))
        });
        played.map_err(|error| format!("{error:#}").into())
    })
}
