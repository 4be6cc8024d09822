//! `wait` (§14.17): for a condition, a value, a beginning or an end.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::Value;

use super::delete::until_gone;
use super::write::Writer;
use crate::args::{FileArgs, WaitArgs, WriteArgs};
use crate::connect::{JSON, Server};
use crate::discovery::Resources;
use crate::failure::{self, is_not_found};
use crate::output::jsonpath::Template;
use crate::select::{Item, Selection};
use crate::watching;

/// How long a negative timeout is.
const A_WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// What to wait for.
#[derive(Debug, PartialEq)]
enum Wanted {
    Delete,
    Create,
    /// A condition's type and status, in lower case.
    Condition(String, String),
    /// A path, and what it is to lead to; `None` is anything.
    Path(Template, Option<String>),
}

/// `carob wait`
pub(crate) async fn wait(server: &Server, args: &WaitArgs) -> anyhow::Result<ExitCode> {
    let wanted = parse(&args.state)?;
    let limit = limit(&args.timeout)?;
    let write = WriteArgs {
        output: args.output.clone(),
        ..WriteArgs::default()
    };
    let writer = Writer::new(&write, "")?;
    let resources = Resources::discover(server).await?;
    let selection = Selection {
        words: &args.words,
        files: FileArgs {
            filenames: args.filenames.clone(),
            recursive: args.recursive,
        },
        label_selector: args.selector.as_deref(),
        field_selector: args.field_selector.as_deref(),
        all: args.all,
        all_namespaces: args.all_namespaces,
    };
    let (items, mut failures) = selection.items(server, &resources).await?;
    if items.is_empty() && failures.is_empty() {
        if wanted == Wanted::Delete {
            return Ok(ExitCode::SUCCESS);
        }
        bail!("no matching resources found");
    }
    let deadline = tokio::time::Instant::now() + limit;
    for item in &items {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        match one(server, item, &wanted, left, limit.is_zero()).await {
            Ok(Some(object)) => writer.done(&item.label(), "condition met", &object)?,
            Ok(None) => {}
            Err(error) => failures.push(error),
        }
    }
    Ok(failure::outcome(&failures))
}

fn limit(text: &str) -> anyhow::Result<Duration> {
    match api::duration::parse_go(text) {
        Ok(nanoseconds) => Ok(u64::try_from(nanoseconds).map_or(A_WEEK, Duration::from_nanos)),
        Err(error) => bail!("invalid argument {text:?} for \"--timeout\" flag: {error}"),
    }
}

fn parse(text: &str) -> anyhow::Result<Wanted> {
    let lower = text.to_lowercase();
    if lower == "delete" {
        return Ok(Wanted::Delete);
    }
    if lower == "create" {
        return Ok(Wanted::Create);
    }
    if let Some(rest) = text.strip_prefix("condition=") {
        let (kind, status) = rest.split_once('=').unwrap_or((rest, "true"));
        return Ok(Wanted::Condition(
            kind.to_lowercase(),
            status.to_lowercase(),
        ));
    }
    if let Some(rest) = text.strip_prefix("jsonpath=") {
        return path(rest);
    }
    bail!("unrecognized condition: {text:?}")
}

/// `{.status.phase}=Running`, braces and value left out or not.
fn path(text: &str) -> anyhow::Result<Wanted> {
    let text = text.trim_matches('\'');
    let (path, value) = match text.find('}') {
        Some(end) if text.starts_with('{') => {
            let (path, rest) = text.split_at(end + 1);
            (path, rest.strip_prefix('='))
        }
        _ => match text.split_once('=') {
            Some((path, value)) => (path, Some(value)),
            None => (text, None),
        },
    };
    let value = value.map(|value| value.trim_matches(['\'', '"']));
    if path.is_empty() || value == Some("") {
        bail!(
            "jsonpath wait format must be --for=jsonpath='{{.status.readyReplicas}}'=3 or --for=jsonpath='{{.status.readyReplicas}}'"
        );
    }
    let template = Template::parse_relaxed(path).map_err(|_| {
        anyhow!(
            "unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{{name1.name2}}' or '{{.name1.name2}}'"
        )
    })?;
    Ok(Wanted::Path(template, value.map(str::to_owned)))
}

/// Whether an object is as wanted.
fn is_met(object: &Value, wanted: &Wanted) -> anyhow::Result<bool> {
    Ok(match wanted {
        Wanted::Create => true,
        Wanted::Delete => false,
        Wanted::Condition(kind, status) => {
            let conditions = object["status"]["conditions"].as_array();
            let same = |value: &Value, wanted: &str| {
                value.as_str().unwrap_or_default().to_lowercase() == wanted
            };
            let found = conditions
                .into_iter()
                .flatten()
                .find(|condition| same(&condition["type"], kind));
            found.is_some_and(|condition| {
                let generation = object["metadata"]["generation"].as_i64();
                let observed = condition["observedGeneration"]
                    .as_i64()
                    .or(object["status"]["observedGeneration"].as_i64());
                let is_old = generation
                    .zip(observed)
                    .is_some_and(|(now, seen)| seen < now);
                !is_old && same(&condition["status"], status)
            })
        }
        Wanted::Path(template, value) => {
            let found = template.values(object).unwrap_or_default();
            match (found.as_slice(), value) {
                ([], _) => false,
                ([Value::Object(_) | Value::Array(_)], Some(_)) => {
                    bail!("jsonpath leads to a nested object or list which is not supported")
                }
                ([one], Some(value)) => match one {
                    Value::String(text) => text == value,
                    other => other.to_string() == *value,
                },
                ([_], None) => true,
                _ => bail!("given jsonpath expression matches more than one value"),
            }
        }
    })
}

/// The object as it then is; `None` if there never was one to wait for the end of.
async fn one(
    server: &Server,
    item: &Item,
    wanted: &Wanted,
    left: Duration,
    only_look: bool,
) -> anyhow::Result<Option<Value>> {
    let current = match server.get(&item.path(), JSON).await {
        Ok(current) => Some(current),
        Err(error) if is_not_found(&error) && matches!(wanted, Wanted::Create | Wanted::Delete) => {
            None
        }
        Err(error) => return Err(error.into()),
    };
    if *wanted == Wanted::Delete {
        let Some(current) = current else {
            return Ok(None);
        };
        let uid = current["metadata"]["uid"].as_str();
        until_gone(server, item, uid, Some(left)).await?;
        return Ok(Some(current));
    }
    if let Some(current) = current
        && is_met(&current, wanted)?
    {
        return Ok(Some(current));
    }
    let in_vain = || match wanted {
        Wanted::Create => anyhow!("timed out waiting for the condition"),
        _ => anyhow!(
            "timed out waiting for the condition on {}",
            item.plural_label()
        ),
    };
    if only_look {
        bail!("condition not met for {}", item.plural_label());
    }
    match tokio::time::timeout(left, until_met(server, item, wanted)).await {
        Ok(object) => object.map(Some),
        Err(_) => Err(in_vain()),
    }
}

async fn until_met(server: &Server, item: &Item, wanted: &Wanted) -> anyhow::Result<Value> {
    let look = |object: Option<&Value>| match object {
        Some(object) if is_met(object, wanted)? => Ok(Some(object.clone())),
        _ => Ok(None),
    };
    watching::until(server, item, look).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn met(state: &str, object: &Value) -> Result<bool, String> {
        parse(state)
            .and_then(|wanted| is_met(object, &wanted))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn states() {
        let pod = json!({"metadata": {"generation": 2}, "status": {"phase": "Running", "n": 3, "list": [1, 2],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "True", "observedGeneration": 1}, {"type": "No", "status": "False"}]}});
        for (state, expected) in [
            ("condition=Ready", Ok(true)),
            ("condition=ready=true", Ok(true)),
            ("condition=Ready=False", Ok(false)),
            ("condition=No=false", Ok(true)),
            ("condition=Old", Ok(false)),
            ("condition=Absent", Ok(false)),
            ("jsonpath={.status.phase}=Running", Ok(true)),
            ("jsonpath='{.status.phase}'=Running", Ok(true)),
            ("jsonpath=.status.phase=Pending", Ok(false)),
            ("jsonpath={.status.n}=3", Ok(true)),
            ("jsonpath={.status.n}", Ok(true)),
            ("jsonpath={.status.absent}", Ok(false)),
            (
                "jsonpath={.status.list[*]}=1",
                Err("given jsonpath expression matches more than one value"),
            ),
            ("create", Ok(true)),
            ("delete", Ok(false)),
            ("x", Err("unrecognized condition: \"x\"")),
        ] {
            assert_eq!(met(state, &pod), expected.map_err(str::to_owned), "{state}");
        }
    }
}
