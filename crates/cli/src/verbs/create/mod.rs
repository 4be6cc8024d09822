//! `create` (§14.3): from files, or from flags.

mod quota;
mod workload;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Map, Value, json};

use crate::args::{
    CreateArgs, CreateCommand, CreateConfigMapArgs, CreateJobArgs, CreateSecretCommand, WriteArgs,
};
use crate::connect::{JSON, Server};
use crate::discovery::Resources;
use crate::failure;
use crate::select::Selection;
use crate::verbs::apply::{validation, with_last_applied};
use crate::verbs::write::{DryRun, Writer};

const MANAGER: &str = "kubectl-create";

/// `carob create`
pub(crate) async fn create(server: &Server, args: &CreateArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(command) => from_flags(server, command).await,
        None => from_files(server, args).await,
    }
}

async fn from_files(server: &Server, args: &CreateArgs) -> anyhow::Result<ExitCode> {
    if args.files.filenames.is_empty() {
        bail!("must specify one of -f and -k");
    }
    let writer = Writer::new(&args.write, MANAGER)?;
    let resources = Resources::discover(server).await?;
    let selection = Selection {
        files: args.files.clone(),
        ..Selection::default()
    };
    let (items, mut failures) = selection.items(server, &resources).await?;
    if items.is_empty() && failures.is_empty() {
        bail!("no objects passed to create");
    }
    let query = writer.query(&[("fieldValidation", validation(&args.validate))]);
    for item in &items {
        let object = item.object.clone().unwrap_or_default();
        let object = if args.save_config {
            with_last_applied(&object)
        } else {
            object
        };
        let made = if writer.dry_run == DryRun::Client {
            Ok(object)
        } else {
            let path = format!("{}{query}", item.collection());
            server.write(Method::POST, &path, &object).await
        };
        let told = made
            .with_context(|| {
                let source = item.source.as_deref().unwrap_or_default();
                format!("error when creating {source:?}")
            })
            .and_then(|made| {
                // A generated name is known only now.
                let name = made["metadata"]["name"].as_str().unwrap_or(&item.name);
                let label = format!("{}/{name}", item.resource.qualified());
                writer.done(&label, "created", &made)
            });
        failures.extend(told.err());
    }
    Ok(failure::outcome(&failures))
}

async fn from_flags(server: &Server, command: &CreateCommand) -> anyhow::Result<ExitCode> {
    let from = match command {
        CreateCommand::Job(CreateJobArgs {
            from: Some(word),
            image: None,
            ..
        }) => Some(cron_job(server, word).await?),
        _ => None,
    };
    let (kind, plural, object, write) = build(command, from.as_ref())?;
    let writer = Writer::new(write, MANAGER)?;
    let mut object = object;
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map(|(group, _)| group.to_owned());
    let root = match &group {
        Some(_) => format!("/apis/{version}"),
        None => format!("/api/{version}"),
    };
    let path = match kind {
        "namespace" | "priorityclass" => format!("{root}/{plural}"),
        _ => {
            if server.namespace_is_fixed {
                object["metadata"]["namespace"] = server.namespace.as_str().into();
            }
            format!("{root}/namespaces/{}/{plural}", server.namespace)
        }
    };
    let made = if writer.dry_run == DryRun::Client {
        object
    } else {
        let path = path + &writer.query(&[("fieldValidation", "Strict")]);
        match server.write(Method::POST, &path, &object).await {
            Ok(made) => made,
            Err(error) => return Err(told(kind, error)),
        }
    };
    let name = made["metadata"]["name"].as_str().unwrap_or_default();
    let label = match group {
        Some(group) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    };
    writer.done(&label, "created", &made)?;
    Ok(ExitCode::SUCCESS)
}

/// Namespaces are refused in the server's form, everything else in one of its own.
fn told(kind: &str, error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if kind != "namespace" => {
            let colon = if kind == "secret" { "" } else { ":" };
            let kind = if kind == "resourcequota" {
                "quota"
            } else {
                kind
            };
            anyhow!("failed to create {kind}{colon} {}", status.message)
        }
        other => other.into(),
    }
}

/// A kind, its plural, the object, and how to write it.
type Built<'a> = (&'static str, &'static str, Value, &'a WriteArgs);

/// `from` is the CronJob that a Job is made of, if it is to be of one.
fn build<'a>(command: &'a CreateCommand, from: Option<&Value>) -> anyhow::Result<Built<'a>> {
    Ok(match command {
        CreateCommand::Namespace(args) => (
            "namespace",
            "namespaces",
            named("Namespace", &args.name),
            &args.write,
        ),
        CreateCommand::ServiceAccount(args) => (
            "serviceaccount",
            "serviceaccounts",
            named("ServiceAccount", &args.name),
            &args.write,
        ),
        CreateCommand::ConfigMap(args) => {
            let mut object = named("ConfigMap", &args.name);
            for (key, bytes) in data(args)? {
                match String::from_utf8(bytes) {
                    Ok(text) => object["data"][key] = text.into(),
                    Err(error) => {
                        object["binaryData"][key] = STANDARD.encode(error.as_bytes()).into();
                    }
                }
            }
            ("configmap", "configmaps", object, &args.write)
        }
        CreateCommand::Secret(args) => {
            let (object, write) = secret(&args.command)?;
            ("secret", "secrets", object, write)
        }
        CreateCommand::PriorityClass(args) => {
            let mut object = named("PriorityClass", &args.name);
            object["apiVersion"] = "scheduling.k8s.io/v1".into();
            object["value"] = args.value.into();
            object["preemptionPolicy"] = args.preemption_policy.as_str().into();
            if args.global_default {
                object["globalDefault"] = true.into();
            }
            if !args.description.is_empty() {
                object["description"] = args.description.as_str().into();
            }
            ("priorityclass", "priorityclasses", object, &args.write)
        }
        CreateCommand::Quota(args) => {
            let quota = quota::quota(args)?;
            ("resourcequota", "resourcequotas", quota, &args.write)
        }
        CreateCommand::Deployment(args) => (
            "deployment",
            "deployments",
            workload::deployment(args)?,
            &args.write,
        ),
        CreateCommand::Job(args) => ("job", "jobs", workload::job(args, from)?, &args.write),
        CreateCommand::CronJob(args) => (
            "cronjob",
            "cronjobs",
            workload::cron_job(args)?,
            &args.write,
        ),
    })
}

/// The CronJob a word names.
async fn cron_job(server: &Server, word: &str) -> anyhow::Result<Value> {
    let resources = Resources::discover(server).await?;
    let words = [word.to_owned()];
    let selection = Selection {
        words: &words,
        ..Selection::default()
    };
    let (items, _) = selection.items(server, &resources).await?;
    let [item] = items.as_slice() else {
        bail!("from must be an existing cronjob");
    };
    if item.resource.qualified() != "cronjob.batch" {
        bail!("unknown object type {}", item.resource.kind);
    }
    Ok(server.get(&item.path(), JSON).await?)
}

fn named(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}})
}

fn secret(command: &CreateSecretCommand) -> anyhow::Result<(Value, &WriteArgs)> {
    match command {
        CreateSecretCommand::Generic { data: args, kind } => {
            let mut object = named("Secret", &args.name);
            if let Some(kind) = kind {
                object["type"] = kind.as_str().into();
            }
            let values: Map<String, Value> = data(args)?
                .into_iter()
                .map(|(key, bytes)| (key, STANDARD.encode(bytes).into()))
                .collect();
            if !values.is_empty() {
                object["data"] = values.into();
            }
            Ok((object, &args.write))
        }
        CreateSecretCommand::DockerRegistry(args) => {
            let (user, password) = (&args.docker_username, &args.docker_password);
            let mut auth = json!({
                "username": user,
                "password": password,
                "auth": STANDARD.encode(format!("{user}:{password}")),
            });
            if let Some(email) = &args.docker_email {
                auth["email"] = email.as_str().into();
            }
            let config = json!({"auths": {args.docker_server.as_str(): auth}}).to_string();
            let mut object = named("Secret", &args.name);
            object["type"] = "kubernetes.io/dockerconfigjson".into();
            object["data"] = json!({".dockerconfigjson": STANDARD.encode(config)});
            Ok((object, &args.write))
        }
    }
}

/// Keys and values from literals, files and files of variables, each key once.
fn data(args: &CreateConfigMapArgs) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let has_other_sources = !args.from_file.is_empty() || !args.from_literal.is_empty();
    if !args.from_env_file.is_empty() && has_other_sources {
        bail!("from-env-file cannot be combined with from-file or from-literal");
    }
    let mut pairs = Vec::new();
    for text in &args.from_file {
        pairs.extend(from_file(text)?);
    }
    for text in &args.from_literal {
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| anyhow!("invalid literal source {text}, expected key=value"))?;
        let unquoted = unquoted(value);
        pairs.push((key.to_owned(), unquoted.as_bytes().to_vec()));
    }
    for path in &args.from_env_file {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("error reading {path}"))?;
        pairs.extend(variables(&text)?);
    }
    for (place, (key, _)) in pairs.iter().enumerate() {
        if pairs[..place].iter().any(|(other, _)| other == key) {
            bail!("cannot add key {key:?}, another key by that name already exists in Data");
        }
    }
    Ok(pairs)
}

/// One pair of quotes around a literal is the shell's.
fn unquoted(value: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value)
}

/// `[KEY=]PATH`; a directory gives every regular file whose name is a key.
fn from_file(text: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let (key, path) = match text.split_once('=') {
        Some((key, path)) if !key.is_empty() && !path.is_empty() => (Some(key), path),
        Some(_) => bail!("key name or file path is missing in {text:?}"),
        None => (None, text),
    };
    let path = Path::new(path);
    let shown = path.display();
    let name_of = |path: &Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    if !path.is_dir() {
        let bytes = std::fs::read(path).with_context(|| format!("error reading {shown}"))?;
        return Ok(vec![(
            key.map_or_else(|| name_of(path), str::to_owned),
            bytes,
        )]);
    }
    if key.is_some() {
        bail!("cannot give a key name for a directory path");
    }
    let mut files: Vec<_> = std::fs::read_dir(path)
        .with_context(|| format!("error listing files in {shown}"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    files
        .iter()
        .filter(|file| file.is_file())
        .map(|file| {
            let bytes =
                std::fs::read(file).with_context(|| format!("error reading {}", file.display()))?;
            Ok((name_of(file), bytes))
        })
        .collect()
}

/// `KEY=VALUE` lines; `KEY` alone takes the variable of this process; `#` begins a comment.
fn variables(text: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut pairs = Vec::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                pairs.push((key.to_owned(), value.as_bytes().to_vec()));
            }
            Some(_) => bail!("{line:?} is not a valid variable"),
            None => pairs.extend(
                std::env::var(line)
                    .ok()
                    .map(|value| (line.to_owned(), value.into_bytes())),
            ),
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn built(words: &[&str]) -> anyhow::Result<Value> {
        #[derive(Parser)]
        struct Only {
            #[command(subcommand)]
            command: CreateCommand,
        }
        let typed = Only::parse_from([&["create"], words].concat());
        build(&typed.command, None).map(|(_, _, object, _)| object)
    }

    #[test]
    fn objects_from_flags() {
        for (words, expected) in [
            (
                &["namespace", "n"][..],
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}),
            ),
            (
                &["ns", "n"],
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}),
            ),
            (
                &["cm", "c", "--from-literal=a=1=2", "--from-literal", "b='q'"],
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1=2", "b": "q"}}),
            ),
            (
                &["secret", "generic", "s", "--from-literal=a=b", "--type=x/y"],
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "type": "x/y", "data": {"a": "Yg=="}}),
            ),
            (
                &["sa", "robot"],
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}),
            ),
            (
                &[
                    "quota",
                    "q",
                    "--hard=cpu=1,pods=1000m",
                    "--scopes=Terminating,BestEffort",
                ],
                json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"cpu": "1", "pods": "1"}, "scopes": ["Terminating", "BestEffort"]}, "status": {}}),
            ),
            (
                &["resourcequota", "q"],
                json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {}, "status": {}}),
            ),
            (
                &["pc", "high", "--value=-7", "--description=d"],
                json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": -7,
                    "preemptionPolicy": "PreemptLowerPriority", "description": "d"}),
            ),
        ] {
            assert_eq!(built(words).expect("builds"), expected, "{words:?}");
        }
    }

    #[test]
    fn credentials_are_written_as_docker_writes_them() {
        let words = [
            "secret",
            "docker-registry",
            "s",
            "--docker-server=r.io",
            "--docker-username=u",
            "--docker-password=p:x",
        ];
        let object = built(&words).expect("builds");
        assert_eq!(object["type"], "kubernetes.io/dockerconfigjson");
        let text = object["data"][".dockerconfigjson"]
            .as_str()
            .expect("a text");
        let config: Value =
            serde_json::from_slice(&STANDARD.decode(text).expect("base64")).expect("JSON");
        let auth = json!({"username": "u", "password": "p:x", "auth": "dTpwOng="});
        assert_eq!(config, json!({"auths": {"r.io": auth}}));
    }

    #[test]
    fn what_is_not_a_pair_is_refused() {
        for words in [
            ["configmap", "c", "--from-literal=a"],
            ["configmap", "c", "--from-file=k="],
            ["configmap", "c", "--from-file=/no/such/file"],
        ] {
            assert!(built(&words).is_err(), "{words:?}");
        }
        let twice = ["configmap", "c", "--from-literal=a=1", "--from-literal=a=2"];
        assert!(
            built(&twice)
                .expect_err("twice")
                .to_string()
                .starts_with("cannot add key \"a\"")
        );
    }

    #[test]
    fn files_become_keys() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("text"), "t").expect("written");
        std::fs::write(dir.path().join("raw"), [0xff]).expect("written");
        std::fs::write(dir.path().join("env"), "# c\nA=1\nB= 2 \n").expect("written");
        let flag = |name: &str, rest: &str| format!("--{name}={}{rest}", dir.path().display());
        let whole = built(&["configmap", "c", &flag("from-file", "")]).expect("builds");
        assert_eq!(whole["data"]["text"], "t");
        assert_eq!(whole["binaryData"]["raw"], "/w==");
        let variables = built(&["configmap", "c", &flag("from-env-file", "/env")]).expect("builds");
        assert_eq!(variables["data"], json!({"A": "1", "B": " 2 "}));
    }
}
