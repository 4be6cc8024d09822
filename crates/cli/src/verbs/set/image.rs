//! `set image`: new images for containers.

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use serde_json::{Map, Value, json};

use super::{LISTS, MANAGER, change, pod_spec, without_pods};
use crate::args::SetImageArgs;
use crate::connect::{JSON, Server};
use crate::discovery::Resources;
use crate::failure;
use crate::select::{Item, Selection};
use crate::verbs::write::Writer;

/// A container's name, or `*`, and its new image.
type Pair = (String, String);

/// `carob set image`
pub(super) async fn image(server: &Server, args: &SetImageArgs) -> anyhow::Result<ExitCode> {
    let objects = &args.objects;
    let (words, pairs) = split(&args.words)?;
    if objects.all && objects.selector.is_some() {
        bail!("cannot set --all and --selector at the same time");
    }
    if words.is_empty() && objects.files.filenames.is_empty() {
        bail!("one or more resources must be specified as <resource> <name> or <resource>/<name>");
    }
    if pairs.is_empty() {
        bail!("at least one image update is required");
    }
    if pairs.len() > 1 && pairs.iter().any(|(name, _)| name == "*") {
        bail!(
            "all containers are already specified by *, but saw more than one container_name=container_image pairs"
        );
    }
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
        match one(server, &writer, item, &pairs).await {
            Ok(missing) => failures.extend(missing),
            Err(error) => failures.push(error),
        }
    }
    Ok(failure::outcome(&failures))
}

/// Parts resources from `CONTAINER=IMAGE`.
fn split(words: &[String]) -> anyhow::Result<(Vec<String>, Vec<Pair>)> {
    let first = words.iter().position(|word| word.contains('='));
    let (resources, rest) = words.split_at(first.unwrap_or(words.len()));
    let mut pairs: Vec<Pair> = Vec::new();
    for word in rest {
        let Some((name, image)) = word.split_once('=') else {
            bail!("all resources must be specified before image changes: {word}");
        };
        if name.is_empty() || image.is_empty() {
            bail!("invalid image format: {word}");
        }
        pairs.retain(|(other, _)| other != name);
        pairs.push((name.to_owned(), image.to_owned()));
    }
    Ok((resources.to_vec(), pairs))
}

/// Changes an object, if there is something to change; returns what could not be found in it.
async fn one(
    server: &Server,
    writer: &Writer,
    item: &Item,
    pairs: &[Pair],
) -> anyhow::Result<Vec<anyhow::Error>> {
    let object = server.get(&item.path(), JSON).await?;
    let path = pod_spec(&object).ok_or_else(|| without_pods(item))?;
    let (spec, missing) = decide(object.pointer(path).unwrap_or(&Value::Null), pairs);
    let missing = missing
        .into_iter()
        .map(|name| anyhow!("unable to find container named {name:?}"))
        .collect();
    if spec.is_empty() {
        return Ok(missing);
    }
    change(server, writer, item, object, path, spec, "image").await?;
    Ok(missing)
}

/// The fields of the spec to patch, and names of containers that are not there.
fn decide<'p>(spec: &Value, pairs: &'p [Pair]) -> (Map<String, Value>, Vec<&'p str>) {
    let mut patch = Map::new();
    let mut missing: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    for list in LISTS {
        let mut changed = Vec::new();
        for container in spec[list].as_array().into_iter().flatten() {
            let pair = pairs
                .iter()
                .find(|(name, _)| name == "*" || container["name"] == name.as_str());
            let Some((name, image)) = pair else {
                continue;
            };
            missing.retain(|other| other != name);
            if container["image"] != image.as_str() {
                changed.push(json!({"name": container["name"], "image": image}));
            }
        }
        if !changed.is_empty() {
            patch.insert(list.to_owned(), changed.into());
        }
    }
    (patch, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn images_become_patches() {
        let spec = json!({"containers": [{"name": "a", "image": "old"}, {"name": "b", "image": "new"}], "initContainers": [{"name": "i", "image": "old"}]});
        for (pairs, patch, missing) in [
            (
                "a=new",
                json!({"containers": [{"name": "a", "image": "new"}]}),
                vec![],
            ),
            ("b=new", json!({}), vec![]),
            (
                "i=new x=y",
                json!({"initContainers": [{"name": "i", "image": "new"}]}),
                vec!["x"],
            ),
            (
                "*=new",
                json!({"containers": [{"name": "a", "image": "new"}], "initContainers": [{"name": "i", "image": "new"}]}),
                vec![],
            ),
        ] {
            let (_, pairs) = split(&words(pairs)).expect("pairs");
            let (found, absent) = decide(&spec, &pairs);
            assert_eq!((Value::from(found), absent), (patch, missing));
        }
    }

    #[test]
    fn words_are_parted() {
        let (resources, pairs) = split(&words("deploy web a=b:1 c=d a=e")).expect("fine");
        assert_eq!(resources, ["deploy", "web"]);
        let pair = |name: &str, image: &str| (name.to_owned(), image.to_owned());
        assert_eq!(pairs, [pair("c", "d"), pair("a", "e")]);
        assert_eq!(
            split(&words("deploy/web a=b x"))
                .expect_err("late")
                .to_string(),
            "all resources must be specified before image changes: x"
        );
    }
}
