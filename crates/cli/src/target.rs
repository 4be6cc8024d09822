//! What a command is about: `TYPE NAME…`, `TYPE/NAME…`, `TYPE,TYPE`.

use anyhow::bail;

use crate::discovery::{Resource, Resources};

/// A resource, and the names asked for; none is all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) resource: Resource,
    pub(crate) names: Vec<String>,
}

/// Reads the words after a verb.
pub(crate) fn targets(words: &[String], resources: &Resources) -> anyhow::Result<Vec<Target>> {
    let Some(first) = words.first() else {
        bail!(
            "You must specify the type of resource to get. Use \"carob api-resources\" for a list of supported resources."
        )
    };
    if words.iter().any(|word| word.contains('/')) {
        return words
            .iter()
            .map(|word| one_by_one(word, resources))
            .collect();
    }
    let names = words[1..].to_vec();
    if first == "all" {
        return Ok(resources
            .in_category("all")
            .map(|resource| Target {
                resource: resource.clone(),
                names: names.clone(),
            })
            .collect());
    }
    first
        .split(',')
        .map(|word| {
            Ok(Target {
                resource: resources.find(word)?.clone(),
                names: names.clone(),
            })
        })
        .collect()
}

fn one_by_one(word: &str, resources: &Resources) -> anyhow::Result<Target> {
    match word.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Target {
                resource: resources.find(kind)?.clone(),
                names: vec![name.to_owned()],
            })
        }
        Some(_) => bail!("arguments in resource/name form must have a single resource and name"),
        None => bail!(
            "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'carob get resource/<resource_name>' instead of 'carob get resource resource/<resource_name>'"
        ),
    }
}
