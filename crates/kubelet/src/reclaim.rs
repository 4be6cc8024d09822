//! Takes images away that no Pod of the node needs, before a Pod has to go because the disk is short (spec `§2.9`).

use std::collections::BTreeSet;

use ports::images::{Image, ImageError};

use crate::agent::{Agent, View};
use crate::pull;

/// Removes the images that are not needed; how many bytes they took, if there were any. What never came from a registry stays:
/// nobody could pull it again.
pub(crate) async fn images(agent: &Agent) -> Option<u64> {
    agent.every_pod_listed().await;
    let images = match agent.images.list_images().await {
        Ok(images) => images,
        Err(error) => {
            failed(agent, "looking for unused images", &error);
            return None;
        }
    };
    let mut freed = None;
    for image in images.iter().filter(|image| !image.repo_digests.is_empty()) {
        // Whoever looks for it meanwhile finds it gone, or is seen to need it.
        let _alone = agent.removing_image.write().await;
        match is_needed(agent, image).await {
            Ok(false) => {}
            Ok(true) => continue,
            Err(error) => {
                failed(agent, "asking who needs an image", &error);
                continue;
            }
        }
        if remove(agent, image).await {
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

/// Whether a Pod of the node names this image, or has a container made from it. Pods are seen before they look for their images.
async fn is_needed(agent: &Agent, image: &Image) -> Result<bool, ImageError> {
    for name in agent.views.all().iter().flat_map(|view| names(view)) {
        let found = agent.images.image_status(&name).await?;
        if found.is_some_and(|found| found.id == image.id) {
            return Ok(true);
        }
    }
    Ok(false)
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
