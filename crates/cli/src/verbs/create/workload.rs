//! Deployments, Jobs and CronJobs as kubectl makes them of flags.

use anyhow::bail;
use serde_json::{Value, json};

use crate::args::{CreateCronJobArgs, CreateDeploymentArgs, CreateJobArgs};

/// Letters of names that are made up: no vowels, so that no words come about.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A Deployment with a container for each image.
pub(super) fn deployment(args: &CreateDeploymentArgs) -> anyhow::Result<Value> {
    if args.image.is_empty() {
        bail!("required flag(s) \"image\" not set");
    }
    if args.image.len() > 1 && !args.command.is_empty() {
        bail!("cannot specify multiple --image options and command");
    }
    let mut containers: Vec<Value> = args
        .image
        .iter()
        .map(|image| container(&name_of(image), image, &args.command))
        .collect();
    if args.port >= 0 {
        containers[0]["ports"] = json!([{"containerPort": args.port}]);
    }
    let labels = json!({"app": args.name});
    Ok(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": args.name, "labels": labels},
        "spec": {
            "replicas": args.replicas,
            "selector": {"matchLabels": labels},
            "strategy": {},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
        "status": {},
    }))
}

/// A Job of an image, or of what a CronJob runs.
pub(super) fn job(args: &CreateJobArgs, from: Option<&Value>) -> anyhow::Result<Value> {
    if args.image.is_none() == args.from.is_none() {
        bail!("either --image or --from must be specified");
    }
    if args.from.is_some() && !args.command.is_empty() {
        bail!("cannot specify --from and command");
    }
    let mut job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": args.name},
        "status": {},
    });
    let Some(cron) = from else {
        let image = args.image.as_deref().unwrap_or_default();
        job["spec"] = job_spec(&args.name, image, &args.command, "Never");
        return Ok(job);
    };
    let template = &cron["spec"]["jobTemplate"];
    let mut annotations = json!({"cronjob.kubernetes.io/instantiate": "manual"});
    for (key, value) in template["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten()
    {
        annotations[key] = value.clone();
    }
    job["metadata"]["annotations"] = annotations;
    if template["metadata"]["labels"].is_object() {
        job["metadata"]["labels"] = template["metadata"]["labels"].clone();
    }
    job["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "name": cron["metadata"]["name"],
        "uid": cron["metadata"]["uid"],
        "controller": true,
    }]);
    job["spec"] = template["spec"].clone();
    Ok(job)
}

/// A CronJob of an image.
pub(super) fn cron_job(args: &CreateCronJobArgs) -> anyhow::Result<Value> {
    let missing: Vec<&str> = [("image", &args.image), ("schedule", &args.schedule)]
        .into_iter()
        .filter(|(_, value)| value.is_none())
        .map(|(name, _)| name)
        .collect();
    if !missing.is_empty() {
        bail!("required flag(s) \"{}\" not set", missing.join("\", \""));
    }
    let image = args.image.as_deref().unwrap_or_default();
    let spec = job_spec(&args.name, image, &args.command, &args.restart);
    Ok(json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": args.name},
        "spec": {
            "schedule": args.schedule,
            "jobTemplate": {"metadata": {"name": args.name}, "spec": spec},
        },
        "status": {},
    }))
}

fn job_spec(name: &str, image: &str, command: &[String], restart: &str) -> Value {
    json!({"template": {"metadata": {}, "spec": {
        "containers": [container(name, image, command)],
        "restartPolicy": restart,
    }}})
}

fn container(name: &str, image: &str, command: &[String]) -> Value {
    let mut container = json!({"name": name, "image": image, "resources": {}});
    if !command.is_empty() {
        container["command"] = command.into();
    }
    container
}

/// A container's name after its image, which may have letters that names have not.
fn name_of(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    let name = last.split([':', '@']).next().unwrap_or_default();
    if !name.contains(['_', '.']) {
        return name.to_owned();
    }
    let suffix: String = (0..5)
        .map(|_| char::from(LETTERS[fastrand::usize(..LETTERS.len())]))
        .collect();
    format!("{}-{suffix}", name.replace(['_', '.'], "-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command, CreateCommand, Verb};
    use clap::Parser;

    /// The object that a command line makes.
    fn made(line: &str, from: Option<&Value>) -> Result<Value, String> {
        let words = ["carob", "create"].into_iter().chain(line.split(' '));
        let Command::Verb(Verb::Create(args)) = Cli::parse_from(words).command else {
            panic!("{line} is no create");
        };
        match args.command.expect("a kind") {
            CreateCommand::Deployment(args) => deployment(&args),
            CreateCommand::Job(args) => job(&args, from),
            CreateCommand::CronJob(args) => cron_job(&args),
            other => panic!("{other:?} is no workload"),
        }
        .map_err(|error| error.to_string())
    }

    #[test]
    fn workloads_are_made_as_kubectl_makes_them() {
        let labels = json!({"app": "web"});
        assert_eq!(
            made(
                "deployment web --image=a/b:1 --image=c@sha256:1 --port=80 --replicas=2",
                None
            ),
            Ok(
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": labels},
                "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "strategy": {}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [
                    {"name": "b", "image": "a/b:1", "ports": [{"containerPort": 80}], "resources": {}},
                    {"name": "c", "image": "c@sha256:1", "resources": {}}]}}},
                "status": {}})
            )
        );
        let spec = |restart: &str| {
            json!({"template": {"metadata": {}, "spec": {"restartPolicy": restart,
            "containers": [{"name": "j", "image": "x", "command": ["a", "b"], "resources": {}}]}}})
        };
        assert_eq!(
            made("job j --image=x -- a b", None),
            Ok(
                json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": spec("Never"), "status": {}})
            )
        );
        let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "j"},
            "spec": {"schedule": "@daily", "jobTemplate": {"metadata": {"name": "j"}, "spec": spec("OnFailure")}}, "status": {}});
        assert_eq!(
            made("cronjob j --image=x --schedule=@daily -- a b", None),
            Ok(cron.clone())
        );
        let mut stored = cron;
        stored["metadata"]["uid"] = "7".into();
        stored["spec"]["jobTemplate"]["metadata"] =
            json!({"labels": {"a": "b"}, "annotations": {"why": "nightly"}});
        assert_eq!(
            made("job now --from=cronjob/j", Some(&stored)),
            Ok(
                json!({"apiVersion": "batch/v1", "kind": "Job", "spec": spec("OnFailure"), "status": {},
                "metadata": {"name": "now", "labels": {"a": "b"}, "annotations": {"cronjob.kubernetes.io/instantiate": "manual", "why": "nightly"},
                    "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "j", "uid": "7", "controller": true}]}})
            )
        );
    }

    #[test]
    fn mistakes_are_told() {
        for (line, words) in [
            ("deployment web", "required flag(s) \"image\" not set"),
            (
                "deployment web --image=a,b -- c",
                "cannot specify multiple --image options and command",
            ),
            ("job j", "either --image or --from must be specified"),
            (
                "job j --image=x --from=cronjob/y",
                "either --image or --from must be specified",
            ),
            (
                "job j --from=cronjob/y -- a",
                "cannot specify --from and command",
            ),
            (
                "cronjob j",
                "required flag(s) \"image\", \"schedule\" not set",
            ),
        ] {
            assert_eq!(made(line, None), Err(words.to_owned()), "{line}");
        }
    }

    #[test]
    fn containers_are_named_after_images() {
        assert_eq!(name_of("registry.example:5000/a/web:1.2"), "web");
        let made_up = name_of("a_b.c:1");
        assert!(
            made_up.starts_with("a-b-c-") && made_up.len() == 11,
            "{made_up}"
        );
    }
}
