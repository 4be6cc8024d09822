//! `label` and `annotate` (§14.18).

use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Map, Value, json};

use super::write::{DryRun, Writer, print};
use crate::args::MetadataArgs;
use crate::connect::{JSON, Server};
use crate::discovery::Resources;
use crate::failure;
use crate::select::{Item, Selection};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Labels,
    Annotations,
}

impl Which {
    fn field(self) -> &'static str {
        match self {
            Which::Labels => "labels",
            Which::Annotations => "annotations",
        }
    }
}

/// What is to be set, and what removed.
#[derive(Debug, Default, PartialEq)]
struct Changes {
    set: Vec<(String, String)>,
    removed: Vec<String>,
}

/// `carob label`, `carob annotate`
pub(crate) async fn change(
    server: &Server,
    args: &MetadataArgs,
    which: Which,
) -> anyhow::Result<ExitCode> {
    let (words, changes) = split(&args.words, which)?;
    if changes == Changes::default() && !args.list {
        bail!("at least one {} update is required", singular(which));
    }
    let manager = match which {
        Which::Labels => "kubectl-label",
        Which::Annotations => "kubectl-annotate",
    };
    let writer = Writer::new(&args.write, manager)?;
    let resources = Resources::discover(server).await?;
    let selection = Selection {
        words: &words,
        files: args.files.clone(),
        label_selector: args.selector.as_deref(),
        field_selector: None,
        all: args.all,
        all_namespaces: args.all_namespaces,
    };
    let (items, mut failures) = selection.items(server, &resources).await?;
    let several = items.len() > 1;
    for item in &items {
        let done = if args.list {
            list(server, item, which, several).await
        } else {
            one(server, args, &writer, item, which, &changes).await
        };
        failures.extend(done.err());
    }
    Ok(failure::outcome(&failures))
}

fn singular(which: Which) -> &'static str {
    match which {
        Which::Labels => "label",
        Which::Annotations => "annotation",
    }
}

/// Parts resources from `KEY=VALUE` and `KEY-`.
fn split(words: &[String], which: Which) -> anyhow::Result<(Vec<String>, Changes)> {
    let is_change = |word: &String| word.contains('=') || word.ends_with('-');
    let first = words.iter().position(is_change).unwrap_or(words.len());
    let (resources, rest) = words.split_at(first);
    let mut changes = Changes::default();
    for word in rest {
        match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                if which == Which::Labels
                    && let Err(wrong) = wrong_label(value)
                {
                    bail!("invalid label value: {word:?}: {wrong}");
                }
                changes.set.push((key.to_owned(), value.to_owned()));
            }
            None if word.ends_with('-') && word.len() > 1 => {
                changes.removed.push(word[..word.len() - 1].to_owned());
            }
            _ => bail!(
                "unexpected args: [{word}]; expected KEY=VALUE or KEY- for a {}",
                singular(which)
            ),
        }
    }
    if let Some((key, _)) = changes
        .set
        .iter()
        .find(|(key, _)| changes.removed.contains(key))
    {
        bail!(
            "can not both modify and remove {} in the same command: {key}",
            match which {
                Which::Labels => "a label",
                Which::Annotations => "an annotation",
            }
        );
    }
    Ok((resources.to_vec(), changes))
}

fn wrong_label(value: &str) -> Result<(), String> {
    match api::names::label_value(value).first() {
        Some(wrong) => Err(wrong.to_string()),
        None => Ok(()),
    }
}

/// The patch and what to say of it; refuses to replace a value unless asked.
fn decide(
    current: &Map<String, Value>,
    changes: &Changes,
    overwrite: bool,
    which: Which,
) -> Result<(Map<String, Value>, &'static str), String> {
    let taken: Vec<String> = changes
        .set
        .iter()
        .filter(|(key, value)| current.get(key).is_some_and(|old| old != value))
        .map(|(key, _)| {
            let old = current[key.as_str()].as_str().unwrap_or_default();
            format!("'{key}' already has a value ({old})")
        })
        .collect();
    if !overwrite && let Some(first) = taken.first() {
        return Err(match which {
            Which::Labels => format!("{first}, and --overwrite is false"),
            Which::Annotations => format!(
                "--overwrite is false but found the following declared annotation(s): {}",
                taken.join("; ")
            ),
        });
    }
    let mut patch = Map::new();
    for (key, value) in &changes.set {
        if current.get(key).is_none_or(|old| old != value) {
            patch.insert(key.clone(), value.as_str().into());
        }
    }
    let sets = !patch.is_empty();
    for key in changes
        .removed
        .iter()
        .filter(|key| current.contains_key(*key))
    {
        patch.insert(key.clone(), Value::Null);
    }
    let participle = match which {
        Which::Annotations => "annotated",
        Which::Labels if patch.is_empty() => "not labeled",
        Which::Labels if !sets => "unlabeled",
        Which::Labels => "labeled",
    };
    Ok((patch, participle))
}

async fn one(
    server: &Server,
    args: &MetadataArgs,
    writer: &Writer,
    item: &Item,
    which: Which,
    changes: &Changes,
) -> anyhow::Result<()> {
    let current = server.get(&item.path(), JSON).await?;
    let empty = Map::new();
    let present = current["metadata"][which.field()]
        .as_object()
        .unwrap_or(&empty);
    let (fields, participle) =
        decide(present, changes, args.overwrite, which).map_err(anyhow::Error::msg)?;
    if which == Which::Labels {
        for key in changes
            .removed
            .iter()
            .filter(|key| !present.contains_key(*key))
        {
            print(&format!("label {key:?} not found.\n"))?;
        }
    }
    let mut patch = json!({});
    if !fields.is_empty() {
        patch["metadata"][which.field()] = fields.into();
    }
    if let Some(version) = &args.resource_version {
        patch["metadata"]["resourceVersion"] = version.as_str().into();
    }
    let object = if writer.dry_run == DryRun::Client {
        let mut object = current.clone();
        api::patch::merge(&mut object, patch.to_string().as_bytes())?;
        object
    } else {
        let path = format!("{}{}", item.path(), writer.query(&[]));
        server
            .patch(&path, "application/merge-patch+json", &patch)
            .await?
    };
    writer.done(&item.label(), participle, &object)
}

async fn list(server: &Server, item: &Item, which: Which, several: bool) -> anyhow::Result<()> {
    let object = server.get(&item.path(), JSON).await?;
    let mut text = String::new();
    if several {
        text.push_str(&format!(
            "Listing {} for {}.{}/{}:\n",
            which.field(),
            item.resource.kind,
            item.resource.group,
            item.name
        ));
    }
    for (key, value) in object["metadata"][which.field()]
        .as_object()
        .into_iter()
        .flatten()
    {
        let indent = if several { " " } else { "" };
        text.push_str(&format!(
            "{indent}{key}={}\n",
            value.as_str().unwrap_or_default()
        ));
    }
    print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn words_are_parted() {
        let (resources, changes) =
            split(&words("pod web a=1 b- c="), Which::Labels).expect("parts");
        assert_eq!(resources, ["pod", "web"]);
        assert_eq!(
            changes,
            Changes {
                set: vec![("a".into(), "1".into()), ("c".into(), String::new())],
                removed: vec!["b".into()]
            }
        );
        for bad in [
            "pod web a=1 a-",
            "pod web a=1 x",
            "pod web =1",
            "pod web a=!",
        ] {
            assert!(split(&words(bad), Which::Labels).is_err(), "{bad}");
        }
    }

    #[test]
    fn decides_what_to_send_and_say() {
        let current = json!({"a": "b", "old": "1"});
        let current = current.as_object().expect("an object");
        let decided = |text: &str, overwrite, which| {
            let (_, changes) = split(&words(text), which).expect("parts");
            decide(current, &changes, overwrite, which)
                .map(|(patch, said)| (Value::Object(patch), said))
        };
        use Which::{Annotations, Labels};
        assert_eq!(
            decided("x=1", false, Labels),
            Ok((json!({"x": "1"}), "labeled"))
        );
        assert_eq!(
            decided("a=b", false, Labels),
            Ok((json!({}), "not labeled"))
        );
        assert_eq!(
            decided("old-", false, Labels),
            Ok((json!({"old": null}), "unlabeled"))
        );
        assert_eq!(
            decided("none-", false, Labels),
            Ok((json!({}), "not labeled"))
        );
        assert_eq!(
            decided("a=c", true, Labels),
            Ok((json!({"a": "c"}), "labeled"))
        );
        assert_eq!(
            decided("a=c", false, Labels),
            Err("'a' already has a value (b), and --overwrite is false".into())
        );
        assert_eq!(
            decided("a=c", false, Annotations),
            Err("--overwrite is false but found the following declared annotation(s): 'a' already has a value (b)".into())
        );
        assert_eq!(
            decided("a=b", false, Annotations),
            Ok((json!({}), "annotated"))
        );
    }
}
