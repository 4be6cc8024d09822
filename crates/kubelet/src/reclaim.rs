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
    let needed = needed(agent).await?;
    let is_spare = |image: &&Image| !image.repo_digests.is_empty() && !needed.contains(&image.id);
    for image in images.iter().filter(is_spare) {
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

/// Ids of the images that Pods of the node name, or have containers made from; none where that cannot be told. Pods are seen before they
/// look for their images.
async fn needed(agent: &Agent) -> Option<BTreeSet<String>> {
    let names: BTreeSet<String> = agent.views.all().iter().flat_map(|v| names(v)).collect();
    let mut needed = BTreeSet::new();
    for name in names {
        match agent.images.image_status(&name).await {
            Ok(image) => needed.extend(image.map(|image| image.id)),
            Err(error) => {
                failed(agent, "asking which images are needed", &error);
                return None;
            }
        }
    }
    Some(needed)
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

/// Removes an image unless somebody needs it by now; whether it did.
async fn remove(agent: &Agent, image: &Image) -> bool {
    // Whoever looks for it meanwhile finds it gone, or is seen to need it.
    let _alone = agent.removing_image.write().await;
    let needed = needed(agent).await;
    if needed.is_none_or(|needed| needed.contains(&image.id)) {
        return false;
    }
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
