//! Takes images away that no Pod of the node needs, before a Pod has to go because the disk is short (spec `§2.9`).

use std::collections::BTreeSet;

use ports::images::{Image, ImageError};

use crate::agent::{Agent, View};
use crate::pull;

/// Removes the images that are not needed; how many bytes they took, if there were any. What never came from a registry stays:
/// nobody could pull it again.
pub(crate) async fn images(agent: &Agent) -> Option<u64> {
    let images = match unneeded(agent).await {
        Ok(images) => images,
        Err(error) => {
            failed(agent, "looking for unused images", &error);
            return None;
        }
    };
    let mut freed = None;
    for image in images {
        if remove(agent, &image).await {
            freed = Some(freed.unwrap_or(0) + image.size_bytes);
        }
    }
    if freed.is_some() {
        agent.pulls.prune(agent.images.as_ref()).await;
    }
    freed
}

fn failed(agent: &Agent, what: &str, error: &ImageError) {
    let error = pull::chain(error);
    tracing::warn!(error, "{what}");
    let event = lifecycle::node_events::image_gc_failed(&error);
    agent.recorder.record_node(&agent.config.node_name, event);
}

async fn unneeded(agent: &Agent) -> Result<Vec<Image>, ImageError> {
    agent.every_pod_listed().await;
    let mut images = agent.images.list_images().await?;
    let mut needed = BTreeSet::new();
    // Asked last, so that an image that was pulled meanwhile has not been listed or is asked for.
    for name in agent.views.all().iter().flat_map(|view| names(view)) {
        if let Some(image) = agent.images.image_status(&name).await? {
            needed.insert(image.id);
        }
    }
    images.retain(|image| !image.repo_digests.is_empty() && !needed.contains(&image.id));
    Ok(images)
}

/// The images a Pod's spec names, and those its containers were made from.
fn names(view: &View) -> BTreeSet<String> {
    let members = lifecycle::kinds::members(&view.pod);
    let wanted = members
        .iter()
        .flat_map(|member| lifecycle::image::all(&view.pod, member))
        .map(|wanted| wanted.image.to_owned());
    let used = view.containers.iter().map(|c| c.image_ref.clone());
    wanted.chain(used).filter(|name| !name.is_empty()).collect()
}

async fn remove(agent: &Agent, image: &Image) -> bool {
    let names = &image.repo_tags;
    match agent.images.remove_image(&image.id).await {
        Ok(()) => {
            tracing::info!(id = image.id, ?names, "removed an unused image");
            true
        }
        Err(error) => {
            failed(agent, "removing an image", &error);
            false
        }
    }
}
