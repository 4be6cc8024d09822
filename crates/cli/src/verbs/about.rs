//! Verbs about the server and the way to it: `api-resources`, `version`, `config`, `kubeconfig`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use super::write::print;
use crate::args::{ApiResourcesArgs, ConfigCommand, Global, KubeconfigArgs, VersionArgs};
use crate::connect::{JSON, Server, engine_kubeconfig, read_kubeconfig};
use crate::discovery::{Resource, Resources};
use crate::output::Format;
use crate::output::table::TableWriter;

/// Kubernetes version whose command line this is.
const CLIENT_VERSION: &str = "v1.36.3";

/// `carob api-resources`
pub(crate) async fn api_resources(
    server: &Server,
    args: &ApiResourcesArgs,
) -> anyhow::Result<ExitCode> {
    let mut resources = Resources::discover(server).await?.0;
    let has_all = |have: &[String], wanted: &[String]| wanted.iter().all(|one| have.contains(one));
    resources.retain(|resource| {
        args.api_group
            .as_ref()
            .is_none_or(|group| *group == resource.group)
            && args
                .namespaced
                .is_none_or(|namespaced| namespaced == resource.namespaced)
            && has_all(&resource.verbs, &args.verbs)
            && has_all(&resource.categories, &args.categories)
    });
    resources.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural)));
    match args.output.as_deref() {
        Some("name") => {
            let name = |resource: &Resource| match resource.group.as_str() {
                "" => format!("{}\n", resource.plural),
                group => format!("{}.{group}\n", resource.plural),
            };
            print(&resources.iter().map(name).collect::<String>())?;
        }
        None | Some("wide") => {
            let wide = args.output.is_some();
            let mut rows = Vec::new();
            if !args.no_headers {
                let head = [
                    "NAME",
                    "SHORTNAMES",
                    "APIVERSION",
                    "NAMESPACED",
                    "KIND",
                    "VERBS",
                    "CATEGORIES",
                ];
                rows.push(cells(head.map(str::to_owned), wide));
            }
            rows.extend(
                resources
                    .iter()
                    .map(|resource| cells(columns(resource), wide)),
            );
            print(&TableWriter::default().lines(&rows))?;
        }
        Some(other) => bail!("--output {other} is not available"),
    }
    Ok(ExitCode::SUCCESS)
}

fn columns(resource: &Resource) -> [String; 7] {
    [
        resource.plural.clone(),
        resource.short_names.join(","),
        resource.api_version(),
        resource.namespaced.to_string(),
        resource.kind.clone(),
        resource.verbs.join(","),
        resource.categories.join(","),
    ]
}

fn cells(all: [String; 7], wide: bool) -> Vec<String> {
    let shown = if wide { 7 } else { 5 };
    all.into_iter().take(shown).collect()
}

/// `carob version`; asks no server with `--client`.
pub(crate) async fn version(args: &VersionArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let mut versions = json!({"clientVersion": {"gitVersion": CLIENT_VERSION, "carobVersion": env!("CARGO_PKG_VERSION")}});
    if !args.client {
        let server = Server::connect(global).await?;
        versions["serverVersion"] = server.get("/version", JSON).await?;
    }
    let text = |version: &Value| {
        version["gitVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    match args.output.as_deref() {
        Some(format @ ("json" | "yaml")) => print(&Format::parse(format)?.print(&versions)?)?,
        Some(_) => bail!("--output must be 'yaml' or 'json'"),
        None => {
            let mut lines = format!(
                "Client Version: {} (carob {})\n",
                text(&versions["clientVersion"]),
                env!("CARGO_PKG_VERSION")
            );
            if !args.client {
                lines.push_str(&format!(
                    "Server Version: {}\n",
                    text(&versions["serverVersion"])
                ));
            }
            print(&lines)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `carob config`
pub(crate) fn config(command: &ConfigCommand, global: &Global) -> anyhow::Result<ExitCode> {
    let config = read_kubeconfig(global)?;
    match command {
        ConfigCommand::CurrentContext => match current(&config, global) {
            Some(name) => print(&format!("{name}\n"))?,
            None => bail!("current-context is not set"),
        },
        ConfigCommand::GetContexts => print(&contexts(&config, global))?,
        ConfigCommand::View {
            raw,
            minify,
            output,
        } => {
            let mut shown = serde_json::to_value(&config)?;
            if *minify {
                let name = current(&config, global)
                    .context("current-context must exist in order to minify")?;
                minified(&mut shown, &name);
            }
            if !raw {
                redact(&mut shown);
            }
            print(&Format::parse(output.as_deref().unwrap_or("yaml"))?.print(&shown)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn current(config: &Kubeconfig, global: &Global) -> Option<String> {
    let name = global
        .context
        .clone()
        .or_else(|| config.current_context.clone());
    name.filter(|name| !name.is_empty())
}

fn contexts(config: &Kubeconfig, global: &Global) -> String {
    let current = current(config, global);
    let head = ["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for named in &config.contexts {
        let context = named.context.clone().unwrap_or_default();
        let mark = if current.as_ref() == Some(&named.name) {
            "*"
        } else {
            ""
        };
        rows.push(vec![
            mark.to_owned(),
            named.name.clone(),
            context.cluster,
            context.user.unwrap_or_default(),
            context.namespace.unwrap_or_default(),
        ]);
    }
    TableWriter::default().lines(&rows)
}

/// Keeps one context, its cluster and its user.
fn minified(config: &mut Value, context: &str) {
    keep(&mut config["contexts"], context);
    let used = config["contexts"][0]["context"].clone();
    for (list, field) in [("clusters", "cluster"), ("users", "user")] {
        keep(&mut config[list], used[field].as_str().unwrap_or_default());
    }
    config["current-context"] = context.into();
}

fn keep(list: &mut Value, name: &str) {
    if let Some(list) = list.as_array_mut() {
        list.retain(|entry| entry["name"] == name);
    }
}

/// Takes secrets out.
fn redact(config: &mut Value) {
    let entries = |list: &'static str, field: &'static str| (list, field);
    for (list, field) in [entries("clusters", "cluster"), entries("users", "user")] {
        for entry in config[list].as_array_mut().into_iter().flatten() {
            let Some(values) = entry[field].as_object_mut() else {
                continue;
            };
            for (key, value) in values {
                match key.as_str() {
                    "certificate-authority-data"
                    | "client-certificate-data"
                    | "client-key-data" => {
                        *value = "DATA+OMITTED".into();
                    }
                    "token" | "password" => *value = "REDACTED".into(),
                    _ => {}
                }
            }
        }
    }
}

/// `carob kubeconfig`
pub(crate) fn kubeconfig(args: &KubeconfigArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let path = engine_kubeconfig(global);
    if !path.exists() {
        bail!(
            "{} does not exist; `carob up -d` starts an engine, which writes it",
            path.display()
        );
    }
    if args.path {
        print(&format!("{}\n", path.display()))?;
    } else if args.merge {
        let target = own_kubeconfig()?;
        merge_into(&path, &target)?;
        eprintln!("merged into {}", target.display());
    } else {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The file that stock clients write to.
fn own_kubeconfig() -> anyhow::Result<PathBuf> {
    let list = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty());
    if let Some(first) = list.and_then(|list| std::env::split_paths(&list).next()) {
        return Ok(first);
    }
    let home = std::env::home_dir().context("there is no home directory")?;
    Ok(home.join(".kube/config"))
}

/// Adds the engine's cluster, user and context in place of earlier ones of the same names, and makes the context current.
fn merge_into(engine: &Path, target: &Path) -> anyhow::Result<()> {
    let read = |path: &Path| -> anyhow::Result<Value> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        crate::manifest::from_yaml(&text)
            .with_context(|| format!("error loading config file {:?}", path.display()))
    };
    let ours = read(engine)?;
    let mut merged = if target.exists() {
        read(target)?
    } else {
        json!({"apiVersion": "v1", "kind": "Config"})
    };
    if merged.is_null() {
        merged = json!({"apiVersion": "v1", "kind": "Config"});
    }
    merge(&mut merged, &ours);
    let text = Format::Yaml.print(&merged)?;
    write_private(target, &text).with_context(|| format!("write {}", target.display()))
}

fn merge(into: &mut Value, ours: &Value) {
    for list in ["clusters", "users", "contexts"] {
        let new = ours[list].as_array().cloned().unwrap_or_default();
        if !into[list].is_array() {
            into[list] = json!([]);
        }
        if let Some(entries) = into[list].as_array_mut() {
            entries.retain(|entry| new.iter().all(|new| new["name"] != entry["name"]));
            entries.extend(new);
        }
    }
    into["current-context"] = ours["current-context"].clone();
}

/// Replaces a file at once, readable by its owner only.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(name);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Value {
        json!({"apiVersion": "v1", "kind": "Config", "current-context": "carob",
            "clusters": [{"name": "carob", "cluster": {"server": "https://127.0.0.1:1", "certificate-authority-data": "QQ=="}}],
            "users": [{"name": "carob", "user": {"client-key-data": "Qg==", "token": "t"}}],
            "contexts": [{"name": "carob", "context": {"cluster": "carob", "user": "carob"}}]})
    }

    #[test]
    fn secrets_are_left_out() {
        let mut shown = config();
        redact(&mut shown);
        assert_eq!(
            shown["clusters"][0]["cluster"],
            json!({"server": "https://127.0.0.1:1", "certificate-authority-data": "DATA+OMITTED"})
        );
        assert_eq!(
            shown["users"][0]["user"],
            json!({"client-key-data": "DATA+OMITTED", "token": "REDACTED"})
        );
    }

    #[test]
    fn merging_replaces_what_has_the_same_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let (engine, target) = (dir.path().join("engine"), dir.path().join("deep/config"));
        std::fs::write(&engine, config().to_string()).expect("written");
        merge_into(&engine, &target).expect("merges into nothing");
        let mut other = config();
        other["clusters"][0]["cluster"]["server"] = "https://old".into();
        other["users"][0]["name"] = "someone".into();
        std::fs::write(&target, other.to_string()).expect("written");
        merge_into(&engine, &target).expect("merges");
        let merged = crate::manifest::from_yaml(&std::fs::read_to_string(&target).expect("there"))
            .expect("YAML");
        assert_eq!(merged["clusters"], config()["clusters"]);
        assert_eq!(merged["users"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            std::fs::read_dir(dir.path().join("deep"))
                .expect("listed")
                .count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn one_context_is_kept() {
        let mut two = config();
        two["contexts"] = json!([{"name": "other", "context": {}}, {"name": "carob", "context": {"cluster": "carob", "user": "nobody"}}]);
        minified(&mut two, "carob");
        assert_eq!(two["contexts"].as_array().map(Vec::len), Some(1));
        assert_eq!(two["clusters"].as_array().map(Vec::len), Some(1));
        assert_eq!(two["users"], json!([]));
    }
}
