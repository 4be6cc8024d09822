//! `set env`: environment variables of containers, set, removed and listed.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Map, Value, json};

use super::{LISTS, MANAGER, change, pod_spec, without_pods};
use crate::args::SetEnvArgs;
use crate::connect::{JSON, Server};
use crate::discovery::Resources;
use crate::failure;
use crate::select::{Item, Selection};
use crate::verbs::write::{Writer, print};

/// What is to be set, and what removed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    set: Vec<(String, String)>,
    removed: Vec<String>,
}

/// `carob set env`
pub(super) async fn env(server: &Server, args: &SetEnvArgs) -> anyhow::Result<ExitCode> {
    let objects = &args.objects;
    if objects.all && objects.selector.is_some() {
        bail!("cannot set --all and --selector at the same time");
    }
    let (words, rest) = split(&args.words)?;
    if words.is_empty() && objects.files.filenames.is_empty() {
        bail!("one or more resources must be specified as <resource> <name> or <resource>/<name>");
    }
    if args.list && objects.write.output.is_some() {
        bail!("--list and --output may not be specified together");
    }
    let changes = read(args.env.iter().chain(&rest))?;
    let writer = Writer::new(&objects.write, MANAGER)?;
    let resources = Resources::discover(server).await?;
    let selection = Selection {
        words: &words,
        files: objects.files.clone(),
        label_selector: objects.selector.as_deref(),
        all: objects.all,
        ..Selection::default()
    };
    let (items, mut failures) = selection.items(server, &resources).await?;
    for item in &items {
        let done = one(server, args, &writer, item, &changes).await;
        failures.extend(done.err());
    }
    Ok(failure::outcome(&failures))
}

/// Parts resources from `KEY=VALUE` and `KEY-`.
fn split(words: &[String]) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let is_change = |word: &String| word.ends_with('-') || word.find('=').is_some_and(|at| at > 0);
    let first = words.iter().position(is_change).unwrap_or(words.len());
    let (resources, rest) = words.split_at(first);
    if !rest.iter().all(is_change) {
        bail!(
            "all resources must be specified before environment changes: {}",
            words.join(" ")
        );
    }
    Ok((resources.to_vec(), rest.to_vec()))
}

fn read<'w>(words: impl Iterator<Item = &'w String>) -> anyhow::Result<Changes> {
    let mut changes = Changes::default();
    for word in words {
        if let Some((name, value)) = word.split_once('=') {
            if let Some(wrong) = api::names::strict_env_var_name(name).first() {
                bail!("{name:?} is not a valid key name: {wrong}");
            }
            changes.set.push((name.to_owned(), value.to_owned()));
        } else if let Some(name) = word.strip_suffix('-') {
            changes.removed.push(name.to_owned());
        } else {
            bail!("unknown environment variable: {word}");
        }
    }
    if changes
        .set
        .iter()
        .any(|(name, _)| changes.removed.contains(name))
    {
        bail!("can not both modify and remove the same environment variable in the same command");
    }
    Ok(changes)
}

async fn one(
    server: &Server,
    args: &SetEnvArgs,
    writer: &Writer,
    item: &Item,
    changes: &Changes,
) -> anyhow::Result<()> {
    let object = server.get(&item.path(), JSON).await?;
    let path = pod_spec(&object).ok_or_else(|| without_pods(item))?;
    let spec = object.pointer(path).unwrap_or(&Value::Null);
    let chosen: Vec<&Value> = LISTS
        .iter()
        .flat_map(|list| spec[list].as_array().into_iter().flatten())
        .filter(|container| is_chosen(container, &args.containers))
        .collect();
    let (kind, name) = (&item.resource.kind, &item.name);
    if chosen.is_empty() {
        eprintln!(
            "Warning: {kind}/{name} does not have any containers matching {:?}",
            args.containers
        );
    }
    if !args.overwrite
        && let Some(taken) = chosen.iter().find_map(|one| taken(one, changes))
    {
        bail!("{}/{name} {taken}", item.resource.plural);
    }
    if args.list {
        let text: String = chosen
            .iter()
            .map(|container| {
                let of = container["name"].as_str().unwrap_or_default();
                format!(
                    "# {kind} {name}, container {of}\n{}",
                    listed(container, changes)
                )
            })
            .collect();
        return print(&text);
    }
    let patch = decide(spec, changes, &args.containers);
    if patch.is_empty() {
        return Ok(());
    }
    change(server, writer, item, object, path, patch, "env").await
}

/// Whether a container's name matches a pattern in which `*` stands for any letters.
fn is_chosen(container: &Value, pattern: &str) -> bool {
    let mut rest = container["name"].as_str().unwrap_or_default();
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else {
        return false;
    };
    rest = after;
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn variables(container: &Value) -> &[Value] {
    container["env"].as_array().map_or(&[], Vec::as_slice)
}

/// What a container has that may not be replaced.
fn taken(container: &Value, changes: &Changes) -> Option<String> {
    changes.set.iter().find_map(|(name, value)| {
        let old = variables(container)
            .iter()
            .find(|variable| variable["name"] == name.as_str())?;
        let old = old["value"].as_str().unwrap_or_default();
        (old != value)
            .then(|| format!("'{name}' already has a value ({old}), and --overwrite is false"))
    })
}

/// The variables of a container after the changes, one a line.
fn listed(container: &Value, changes: &Changes) -> String {
    let changed = |name: &str| {
        changes.removed.iter().any(|other| other == name)
            || changes.set.iter().any(|(other, _)| other == name)
    };
    let stays = variables(container)
        .iter()
        .filter(|variable| !changed(variable["name"].as_str().unwrap_or_default()))
        .map(|variable| {
            let name = variable["name"].as_str().unwrap_or_default();
            match variable["valueFrom"].is_object() {
                true => format!("# {name} from {}\n", source(&variable["valueFrom"])),
                false => format!(
                    "{name}={}\n",
                    variable["value"].as_str().unwrap_or_default()
                ),
            }
        });
    let new = changes
        .set
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"));
    stays.chain(new).collect()
}

/// Where a variable's value comes from, in kubectl's words.
fn source(from: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for (field, word) in [("secretKeyRef", "secret"), ("configMapKeyRef", "configmap")] {
        if from[field].is_object() {
            let (name, key) = (text(&from[field]["name"]), text(&from[field]["key"]));
            return format!("{word} {name}, key {key}");
        }
    }
    if from["fieldRef"].is_object() {
        return format!("field path {}", text(&from["fieldRef"]["fieldPath"]));
    }
    let reference = &from["resourceFieldRef"];
    let container = match text(&reference["containerName"]) {
        none if none.is_empty() => none,
        name => format!("{name}/"),
    };
    format!("resource field {container}{}", text(&reference["resource"]))
}

/// The fields of the spec to patch.
fn decide(spec: &Value, changes: &Changes, pattern: &str) -> Map<String, Value> {
    let mut patch = Map::new();
    for list in LISTS {
        let containers = spec[list].as_array().into_iter().flatten();
        let changed: Vec<Value> = containers
            .filter(|container| is_chosen(container, pattern))
            .filter_map(|container| {
                let env = of_container(container, changes);
                (!env.is_empty()).then(|| json!({"name": container["name"], "env": env}))
            })
            .collect();
        if !changed.is_empty() {
            patch.insert(list.to_owned(), changed.into());
        }
    }
    patch
}

/// Patches of the variables that change.
fn of_container(container: &Value, changes: &Changes) -> Vec<Value> {
    let current = |name: &str| {
        variables(container)
            .iter()
            .find(|variable| variable["name"] == name)
    };
    let set = changes.set.iter().filter_map(|(name, value)| {
        let patch = json!({"name": name, "value": value});
        match current(name) {
            Some(old) if old["valueFrom"].is_object() => {
                Some(json!({"name": name, "value": value, "valueFrom": null}))
            }
            Some(old) if old["value"].as_str().unwrap_or_default() == value => None,
            _ => Some(patch),
        }
    });
    let removed = changes
        .removed
        .iter()
        .filter(|name| current(name).is_some())
        .map(|name| json!({"$patch": "delete", "name": name}));
    set.chain(removed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(text: &str) -> Result<Changes, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        split(&words)
            .and_then(|(_, rest)| read(rest.iter()))
            .map_err(|error| error.to_string())
    }

    fn spec() -> Value {
        json!({"containers": [{"name": "main", "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}, {"name": "side"}]})
    }

    #[test]
    fn variables_become_patches() {
        for (words, pattern, patch) in [
            (
                "d/w A=2 C=3",
                "main",
                json!({"containers": [{"name": "main", "env": [{"name": "A", "value": "2"}, {"name": "C", "value": "3"}]}]}),
            ),
            ("d/w A=1", "m*", json!({})),
            (
                "d/w A- B=x Z-",
                "m*n",
                json!({"containers": [{"name": "main", "env": [{"name": "B", "value": "x", "valueFrom": null}, {"$patch": "delete", "name": "A"}]}]}),
            ),
            (
                "d/w A=1",
                "*",
                json!({"containers": [{"name": "side", "env": [{"name": "A", "value": "1"}]}]}),
            ),
        ] {
            let changes = changes(words).expect("changes");
            assert_eq!(
                Value::from(decide(&spec(), &changes, pattern)),
                patch,
                "{words}"
            );
        }
    }

    #[test]
    fn variables_are_listed_and_kept() {
        let spec = spec();
        let main = &spec["containers"][0];
        assert_eq!(
            listed(main, &Changes::default()),
            "A=1\n# B from field path metadata.name\n"
        );
        assert_eq!(
            taken(main, &changes("d/w A=2").expect("changes")).as_deref(),
            Some("'A' already has a value (1), and --overwrite is false")
        );
        assert_eq!(taken(main, &changes("d/w A=1").expect("changes")), None);
    }

    #[test]
    fn mistakes_are_told() {
        for (words, expected) in [
            (
                "d/w A=1 A-",
                "can not both modify and remove the same environment variable in the same command",
            ),
            (
                "d/w A=1 x",
                "all resources must be specified before environment changes: d/w A=1 x",
            ),
            ("d/w 1x=3", "\"1x\" is not a valid key name: a valid"),
        ] {
            let told = changes(words).expect_err(words);
            assert!(told.starts_with(expected), "{told}");
        }
    }

    #[test]
    fn patterns_choose_containers() {
        for (pattern, expected) in [
            ("*", true),
            ("main", true),
            ("mai", false),
            ("m*", true),
            ("*n", true),
            ("m*i*n", true),
            ("m*x*n", false),
            ("x*", false),
        ] {
            assert_eq!(
                is_chosen(&json!({"name": "main"}), pattern),
                expected,
                "{pattern}"
            );
        }
    }
}
