//! From flags and a manifest to what is printed.

use clap::Parser;
use jiff::SignedDuration;
use lifecycle::forecast::forecast;
use serde_json::{Value, json};

use super::suppose::Suppositions;
use super::{check, show};
use crate::args::{Cli, Command, PlanArgs, Verb};
use crate::failure::status_of;
use crate::manifest::Document;

fn args(flags: &str) -> PlanArgs {
    let words = ["carob", "plan"]
        .into_iter()
        .chain(flags.split_whitespace());
    match Cli::parse_from(words).command {
        Command::Verb(Verb::Plan(args)) => args,
        _ => unreachable!("plan was typed"),
    }
}

fn document(object: Value) -> Document {
    Document {
        source: "f.yaml".to_owned(),
        object,
    }
}

fn demo() -> Value {
    let probe = json!({"tcpSocket": {"port": 80}, "periodSeconds": 1});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "demo"}, "spec": {
        "initContainers": [
            {"name": "migrate", "image": "busybox:1.36"},
            {"name": "proxy", "image": "busybox:1.36", "restartPolicy": "Always", "startupProbe": probe},
        ],
        "containers": [{"name": "app", "image": "busybox:1.36", "livenessProbe": probe, "readinessProbe": probe}],
    }})
}

/// What is printed for the demo, or why nothing is.
fn planned(flags: &str) -> Result<(String, Value), String> {
    let pod = check::pod(document(demo()), None).map_err(|error| format!("{error:#}"))?;
    let args = args(flags);
    let text = |error: anyhow::Error| format!("{error:#}");
    let conduct = Suppositions::read(&args)
        .and_then(|all| all.conduct(&pod))
        .map_err(text)?;
    let supposed = show::supposed(&pod, &conduct);
    let horizon = SignedDuration::from_secs(20);
    let life = forecast(pod.clone(), conduct, horizon).map_err(|error| error.to_string())?;
    Ok((
        show::text(&pod, &supposed, &life, horizon),
        show::json(&pod, &supposed, &life),
    ))
}

#[test]
fn a_life_is_told_from_its_suppositions() {
    let flags =
        "--exit migrate=1,0 --delay proxy=3s --probe app:liveness=fail@5s --stop app=143@2s";
    let (text, value) = planned(flags).expect("a plan");
    let expected = "\
pod/demo

CONTAINER   KIND             SUPPOSED
migrate     init container   ends with 1 after 1s, then ends with 0 after 1s
proxy       sidecar          runs on; startup probe succeeds from 3s
app         container        runs on; liveness probe fails from 5s; ends with 143 2s after it is asked to stop

AT    WHO       WHAT
0s    proxy     waits: PodInitializing
0s    app       waits: PodInitializing
0s    migrate   runs
0s    pod       Pending, PodReadyToStartContainers=True
1s    migrate   ended with 1 (Error)
1s    migrate   runs, restart 1
2s    migrate   ended with 0 (Completed)
2s    proxy     runs
5s    proxy     ready
5s    app       runs
5s    app       ready
5s    pod       Running, ContainersReady=True, Initialized=True, Ready=True
12s   app       Container app failed liveness probe, will be restarted
14s   app       ended with 143 (Error)
14s   app       runs, restart 1
14s   app       ready

still Running after 20s, restarts: migrate 1, app 1
";
    assert_eq!(text, expected);
    assert_eq!(
        value["final"],
        json!({"phase": "Running", "reason": null, "finished": false, "seconds": 14.0,
            "restarts": {"migrate": 1, "proxy": 0, "app": 1}})
    );
    let migrate = |moment: &Value| {
        let containers = moment["containers"].as_array().into_iter().flatten();
        let mut migrate = containers.filter(|c| c["name"] == "migrate");
        migrate.any(|c| c["exitCode"] == 1 && c["momentary"] == false)
    };
    let mut moments = value["timeline"].as_array().into_iter().flatten();
    assert!(moments.any(migrate), "{value:#}");
}

#[test]
fn flags_that_say_nothing_are_refused() {
    for (flags, words) in [
        ("--exit app", "--exit app: NAME=VALUE is expected"),
        ("--exit app=256", "\"256\" is no exit code from 0 to 255"),
        ("--delay app=5", "time: missing unit in duration \"5\""),
        ("--delay app=-5s", "a time cannot be negative"),
        (
            "--probe app=fail",
            "say which, app:liveness or app:readiness",
        ),
        (
            "--probe app:startup=fail",
            "container app has no startup probe",
        ),
        ("--probe migrate=ok", "container migrate has no probe"),
        (
            "--probe app:life=ok",
            "\"life\" is none of startup, liveness, readiness",
        ),
        ("--probe proxy=well", "\"well\" is neither ok nor fail"),
        ("--probe proxy=ok@3s,fail@2s", "times have to grow"),
        ("--stop app=TERM", "\"TERM\" is no exit code"),
        (
            "--lacks app=luck",
            "\"luck\" is none of image, config, program",
        ),
    ] {
        let error = planned(flags).expect_err(flags);
        assert!(error.contains(words), "{flags}: {error}");
    }
}

#[test]
fn names_that_no_pod_has_are_found() {
    let pods = [check::pod(document(demo()), None).expect("a Pod")];
    for (flags, unknown) in [
        ("--exit app=0 --delay proxy=1s --stop migrate=ignore", None),
        ("--exit app=0 --lacks web=image", Some("web")),
    ] {
        let all = Suppositions::read(&args(flags)).expect("reads");
        assert_eq!(all.unknown(&pods), unknown);
    }
}

#[test]
fn bad_manifests_are_refused_in_the_servers_words() {
    let with = |path: &str, value: Value| {
        let mut object = demo();
        *object.pointer_mut(path).expect("a place") = value;
        object
    };
    let mut misspelt = demo();
    misspelt["spec"]["containers"][0]["imagee"] = "x".into();
    for (object, code, words) in [
        (
            misspelt,
            400,
            "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.containers[0].imagee\"",
        ),
        (
            with("/spec/containers/0/name", "A_b".into()),
            422,
            "Pod \"demo\" is invalid: spec.containers[0].name: Invalid value: \"A_b\"",
        ),
        (
            with("/spec/containers/0/image", 7.into()),
            400,
            "cannot be handled as a Pod: json: cannot unmarshal number into Go struct field",
        ),
        (
            with("/metadata/name", "".into()),
            422,
            "metadata.name: Required value",
        ),
        (
            with("/apiVersion", "v2".into()),
            400,
            "the API version in the data (v2) does not match the expected API version (v1)",
        ),
    ] {
        let error = check::pod(document(object), Some("shop")).expect_err(words);
        let status = status_of(&error).expect("a refusal");
        assert_eq!(status.code, code, "{status:?}");
        assert!(status.message.contains(words), "{}", status.message);
    }
    let pod = check::pod(document(demo()), Some("shop")).expect("a Pod");
    assert_eq!(pod.metadata.namespace.as_deref(), Some("shop"));
}
