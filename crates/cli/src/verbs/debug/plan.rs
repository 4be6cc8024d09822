//! What is to be made for debugging: an ephemeral container, a copy of the Pod, or a Pod on a node; pure.

use anyhow::{anyhow, bail};
use api::schema::{Schema, TypeId};
use serde_json::{Map, Value, json};

use super::profile::{Keep, Profile, Style, container_mut, push, remove};
use crate::args::DebugArgs;
use crate::manifest;

/// Refuses flags that do not go together, in kubectl's words.
pub(super) fn check(args: &DebugArgs) -> anyhow::Result<()> {
    let has_image = args.image.as_deref().is_some_and(|image| !image.is_empty());
    if args.attach == Some(true) && !has_image && args.container.is_none() {
        bail!(
            "you must specify --container or create a new container using --image in order to attach."
        );
    }
    if args.copy_to.is_some() {
        if !has_image && args.set_image.is_empty() && args.command.is_empty() {
            bail!("you must specify --image, --set-image or command arguments.");
        }
        if !args.command.is_empty() && args.container.is_none() && !has_image {
            bail!("you must specify an existing container or a new image when specifying args.");
        }
    } else if args.replace {
        bail!("--replace may only be used with --copy-to.");
    } else if args.same_node {
        bail!("--same-node may only be used with --copy-to.");
    } else if !args.set_image.is_empty() {
        bail!("--set-image may only be used with --copy-to.");
    } else if !has_image {
        bail!("you must specify --image when not using --copy-to.");
    }
    if args.words.is_empty() && args.files.filenames.is_empty() {
        bail!("NAME or filename is required for debug");
    }
    if let Some(policy) = &args.image_pull_policy
        && !["", "Always", "IfNotPresent", "Never"].contains(&policy.as_str())
    {
        bail!("invalid image pull policy: {policy}");
    }
    if args.target.is_some() && args.copy_to.is_some() {
        bail!("--target is incompatible with --copy-to. Use --share-processes instead.");
    }
    if args.tty && !args.stdin {
        bail!("-i/--stdin is required for containers with -t/--tty=true");
    }
    Ok(())
}

/// Reads what is to be merged into the debug container; `file` is its name, for messages.
pub(super) fn custom(file: &str, text: &str) -> anyhow::Result<Value> {
    let no_container = |why: &dyn std::fmt::Display| {
        anyhow!("{file} does not contain a valid container spec: {why}")
    };
    let container = manifest::from_yaml(text).map_err(|error| no_container(&error))?;
    let ty = container_type()?;
    let decoded = api::validate::decode_value(&container, ty);
    decoded.map_err(|error| no_container(&error))?;
    let is_set = |field: &str| {
        let value = &container[field];
        !(value.is_null() || value == "" || value == &json!([]))
    };
    let fixed = ["name", "command", "image", "lifecycle", "volumeDevices"];
    if fixed.into_iter().any(is_set) {
        bail!(
            "name, command, image, lifecycle and volume devices are not modifiable via custom profile"
        );
    }
    Ok(container)
}

fn container_type() -> anyhow::Result<TypeId> {
    let ty = Schema::get().named("core/v1.Container");
    ty.ok_or_else(|| anyhow!("containers are not known"))
}

/// Merges `custom` into a container.
fn customise(container: &mut Value, custom: Option<&Value>) -> anyhow::Result<()> {
    let Some(custom) = custom else { return Ok(()) };
    api::patch::strategic_merge(container, custom.clone(), container_type()?).map_err(|error| {
        anyhow!("error creating three way patch to add debug container: {error}")
    })?;
    Ok(())
}

/// `KEY=VALUE` flags.
fn pairs<'a>(flag: &str, texts: &'a [String]) -> anyhow::Result<Vec<(&'a str, &'a str)>> {
    let pair = |text: &'a String| {
        text.split_once('=')
            .ok_or_else(|| anyhow!("invalid argument {text:?} for \"--{flag}\" flag: {text} must be formatted as key=value"))
    };
    texts.iter().map(pair).collect()
}

/// The settings of a container that flags give.
fn flags(args: &DebugArgs) -> anyhow::Result<Map<String, Value>> {
    let mut set = Map::new();
    let mut put = |field: &str, value: Value| set.insert(field.to_owned(), value);
    if let Some(image) = &args.image {
        put("image", image.as_str().into());
    }
    if let Some(policy) = args.image_pull_policy.as_deref().filter(|p| !p.is_empty()) {
        put("imagePullPolicy", policy.into());
    }
    let env = pairs("env", &args.env)?;
    if !env.is_empty() {
        let entry = |(name, value)| json!({"name": name, "value": value});
        put("env", env.into_iter().map(entry).collect());
    }
    if !args.command.is_empty() {
        let field = if args.arguments_only {
            "args"
        } else {
            "command"
        };
        put(field, args.command.clone().into());
    }
    put("stdin", args.stdin.into());
    put("tty", args.tty.into());
    Ok(set)
}

/// A container that was not there before.
fn fresh(args: &DebugArgs, name: &str) -> anyhow::Result<Value> {
    let mut container = flags(args)?;
    container.insert("name".into(), name.into());
    container.insert("terminationMessagePolicy".into(), "File".into());
    Ok(container.into())
}

fn keep(args: &DebugArgs) -> Keep {
    Keep {
        labels: args.keep_labels,
        annotations: args.keep_annotations,
        liveness: args.keep_liveness,
        readiness: args.keep_readiness,
        startup: args.keep_startup,
        init_containers: args.keep_init_containers,
    }
}

/// The ephemeral container to add to a Pod.
pub(super) fn ephemeral(
    args: &DebugArgs,
    custom: Option<&Value>,
    pod: &Value,
    name: &str,
) -> anyhow::Result<Value> {
    let profile = Profile::parse(&args.profile)?;
    let mut pod = pod.clone();
    let mut container = fresh(args, name)?;
    if let Some(target) = &args.target {
        container["targetContainerName"] = target.as_str().into();
    }
    push(&mut pod["spec"]["ephemeralContainers"], container);
    profile.apply(Style::Ephemeral, keep(args), &mut pod, name);
    let container = container_mut(&mut pod, name).map(Value::take);
    let mut container = container.ok_or_else(|| anyhow!("container {name} exists already"))?;
    customise(&mut container, custom)?;
    Ok(container)
}

/// A copy of a Pod, and the container in it that debugs; images alone may be all that changes.
pub(super) fn copy(
    args: &DebugArgs,
    custom: Option<&Value>,
    pod: &Value,
    new_name: impl FnOnce() -> String,
) -> anyhow::Result<(Value, Option<String>)> {
    let profile = Profile::parse(&args.profile)?;
    let metadata = &pod["metadata"];
    let mut copy = json!({
        "apiVersion": "v1", "kind": "Pod", "spec": pod["spec"],
        "metadata": {"name": args.copy_to, "namespace": metadata["namespace"]},
    });
    for field in ["labels", "annotations"] {
        if !metadata[field].is_null() {
            copy["metadata"][field] = metadata[field].clone();
        }
    }
    remove(&mut copy["spec"], "ephemeralContainers");
    if !args.same_node {
        remove(&mut copy["spec"], "nodeName");
    }
    if let Some(share) = args.share_processes {
        copy["spec"]["shareProcessNamespace"] = share.into();
    }
    set_images(args, &mut copy)?;
    let wanted = args.container.clone().unwrap_or_default();
    let name = match container_mut(&mut copy, &wanted) {
        Some(container) => {
            if !args.command.is_empty() && !args.arguments_only {
                remove(container, "args");
            }
            for (field, value) in flags(args)? {
                container[field] = value;
            }
            wanted
        }
        None if args.image.is_none() && !args.set_image.is_empty() => return Ok((copy, None)),
        None if args.image.is_none() => {
            bail!("you must specify image when creating new container")
        }
        None => {
            let name = if wanted.is_empty() {
                new_name()
            } else {
                wanted
            };
            push(&mut copy["spec"]["containers"], fresh(args, &name)?);
            name
        }
    };
    profile.apply(Style::Copy, keep(args), &mut copy, &name);
    if let Some(container) = container_mut(&mut copy, &name) {
        customise(container, custom)?;
    }
    Ok((copy, Some(name)))
}

fn set_images(args: &DebugArgs, pod: &mut Value) -> anyhow::Result<()> {
    let images = pairs("set-image", &args.set_image)?;
    let image = |name: &str| images.iter().rev().find(|(of, _)| *of == name);
    let containers = pod["spec"]["containers"].as_array_mut();
    for container in containers.into_iter().flatten() {
        let own = container["name"].as_str().and_then(image);
        if let Some((_, image)) = own.or_else(|| image("*")) {
            container["image"] = (*image).into();
        }
    }
    Ok(())
}

/// A Pod that debugs a node.
pub(super) fn of_node(
    args: &DebugArgs,
    custom: Option<&Value>,
    node: &str,
    pod_name: &str,
) -> anyhow::Result<(Value, String)> {
    let profile = Profile::parse(&args.profile)?;
    let name = args.container.as_deref().unwrap_or("debugger");
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod_name, "labels": {"app.kubernetes.io/managed-by": "kubectl-debug"}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "tolerations": [{"operator": "Exists"}],
            "containers": [fresh(args, name)?],
        },
    });
    profile.apply(Style::Node, keep(args), &mut pod, name);
    if let Some(container) = container_mut(&mut pod, name) {
        customise(container, custom)?;
    }
    Ok((pod, name.to_owned()))
}

/// Whether rights that a profile gives are of no use, because the Pod's user is not root.
pub(super) fn is_in_vain(pod: &Value, container: &Value) -> bool {
    let is_root = |context: &Value| context["runAsUser"] == 0;
    let pod = &pod["spec"]["securityContext"];
    let own = &container["securityContext"];
    let adds = own["capabilities"]["add"].as_array();
    let rights = own["privileged"] == true || adds.is_some_and(|add| !add.is_empty());
    !pod["runAsUser"].is_null() && !is_root(pod) && !is_root(own) && rights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command, Verb};
    use clap::Parser;

    fn args(line: &str) -> DebugArgs {
        let words = ["carob", "debug"]
            .into_iter()
            .chain(line.split_whitespace());
        match Cli::try_parse_from(words).expect(line).command {
            Command::Verb(Verb::Debug(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    fn pod() -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "u", "labels": {"app": "web"}},
            "spec": {"nodeName": "n", "containers": [{"name": "app", "image": "a", "args": ["x"]}, {"name": "side", "image": "s"}],
                "ephemeralContainers": [{"name": "old"}]},
            "status": {"phase": "Running"},
        })
    }

    #[test]
    fn flags_that_do_not_go_together() {
        for (line, words) in [
            ("web", "you must specify --image when not using --copy-to."),
            ("--image=x", "NAME or filename is required for debug"),
            ("web --image=x -t", "-i/--stdin is required"),
            (
                "web --image=x --replace",
                "--replace may only be used with --copy-to.",
            ),
            ("web --image=x --same-node", "--same-node may only"),
            ("web --set-image=a=b", "--set-image may only"),
            (
                "web --copy-to=c",
                "you must specify --image, --set-image or command arguments.",
            ),
            (
                "web --copy-to=c -- sh",
                "you must specify an existing container or a new image",
            ),
            (
                "web --copy-to=c --image=x --target=app",
                "--target is incompatible with --copy-to.",
            ),
            (
                "web --image=x --image-pull-policy=Often",
                "invalid image pull policy: Often",
            ),
            (
                "web --copy-to=c --attach --set-image=a=b",
                "you must specify --container or create",
            ),
        ] {
            let error = check(&args(line)).expect_err(line).to_string();
            assert!(error.starts_with(words), "{line}: {error}");
        }
        check(&args("web -it --image=x --target=app -- sh -c id")).expect("is fine");
    }

    #[test]
    fn an_ephemeral_container() {
        let args = args("web -it --image=b --target=app --env=A=1,B=2 -- sh -c id");
        assert_eq!(
            ephemeral(&args, None, &pod(), "d").expect("a container"),
            json!({
                "name": "d", "image": "b", "stdin": true, "tty": true, "terminationMessagePolicy": "File",
                "targetContainerName": "app", "command": ["sh", "-c", "id"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}},
            })
        );
    }

    #[test]
    fn a_custom_part_is_merged_into_what_the_profile_makes() {
        let custom = custom(
            "c.yaml",
            "env: [{name: B, value: '3'}, {name: C, value: '4'}]\nsecurityContext: {capabilities: {add: [NET_ADMIN]}, runAsUser: 5}\n",
        )
        .expect("a part of a container");
        let made = ephemeral(
            &args("web --image=b --env=A=1,B=2"),
            Some(&custom),
            &pod(),
            "d",
        )
        .expect("a container");
        assert_eq!(made["image"], "b");
        let env = made["env"].as_array().expect("env");
        let value = |name: &str| {
            env.iter()
                .find(|entry| entry["name"] == name)
                .map(|entry| entry["value"].clone())
        };
        assert_eq!(
            ["A", "B", "C"].map(value),
            [Some(json!("1")), Some(json!("3")), Some(json!("4"))]
        );
        assert_eq!(
            made["securityContext"],
            json!({"capabilities": {"add": ["NET_ADMIN"]}, "runAsUser": 5}),
            "lists without keys are replaced"
        );
        let (copied, name) = copy(
            &args("web --copy-to=c --image=b"),
            Some(&custom),
            &pod(),
            || "new".into(),
        )
        .expect("a copy");
        assert_eq!(name.as_deref(), Some("new"));
        let containers = &copied["spec"]["containers"];
        assert_eq!(containers[2]["securityContext"]["runAsUser"], 5);
        assert!(containers[0]["securityContext"].is_null());
    }

    #[test]
    fn custom_parts_that_are_refused() {
        let fixed = "name, command, image, lifecycle and volume devices are not modifiable via custom profile";
        for (text, words) in [
            ("{\"name\": \"x\"}", fixed),
            ("command: [sh]", fixed),
            ("image: x", fixed),
            ("lifecycle: {preStop: {sleep: {seconds: 1}}}", fixed),
            ("volumeDevices: [{name: a, devicePath: /x}]", fixed),
            ("[", "c does not contain a valid container spec: "),
            ("env: 3", "c does not contain a valid container spec: "),
        ] {
            let error = custom("c", text).expect_err(text).to_string();
            assert!(error.starts_with(words), "{text}: {error}");
        }
        custom("c", "name: ''\ncommand: []\nenv: []\n").expect("nothing of it is set");
    }

    #[test]
    fn copies() {
        let copied = |line: &str| copy(&args(line), None, &pod(), || "new".into()).expect(line);
        let (added, name) = copied("web --copy-to=c --image=b");
        assert_eq!(name.as_deref(), Some("new"));
        assert_eq!(added["metadata"], json!({"name": "c", "namespace": "ns"}));
        assert_eq!(added["spec"]["containers"][2]["image"], "b");
        assert!(added["spec"]["nodeName"].is_null() && added["status"].is_null());
        assert!(added["spec"]["ephemeralContainers"].is_null());
        assert_eq!(added["spec"]["shareProcessNamespace"], true);

        let (changed, name) =
            copied("web --copy-to=c -c app --share-processes=false --same-node -- sh");
        assert_eq!(name.as_deref(), Some("app"));
        let app = &changed["spec"]["containers"][0];
        assert_eq!(
            (&app["command"], &app["image"]),
            (&json!(["sh"]), &json!("a"))
        );
        assert!(app["args"].is_null() && changed["spec"]["nodeName"] == "n");
        assert_eq!(changed["spec"]["shareProcessNamespace"], false);

        let (images, name) = copied("web --copy-to=c --set-image=*=x,side=y --keep-labels");
        assert_eq!(name, None);
        assert_eq!(images["spec"]["containers"][0]["image"], "x");
        assert_eq!(images["spec"]["containers"][1]["image"], "y");
        assert!(
            copy(
                &args("web --copy-to=c -c none -- sh"),
                None,
                &pod(),
                String::new
            )
            .is_err()
        );
    }

    #[test]
    fn rights_in_vain() {
        let context = |user: Value| json!({"spec": {"securityContext": {"runAsUser": user}}});
        let rights = json!({"securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}});
        assert!(is_in_vain(&context(json!(1)), &rights));
        assert!(!is_in_vain(&context(json!(0)), &rights));
        assert!(!is_in_vain(&context(Value::Null), &rights));
        assert!(!is_in_vain(&context(json!(1)), &json!({})));
    }
}
