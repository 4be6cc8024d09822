//! What happens from outside: the user's acts, mishaps, and in the end the calm, after which everything has to come to rest and
//! to go when it is told to.

mod workloads;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::scenario::Act;
use crate::world::World;

/// How far the story has come; it goes on from there in the next life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Acting,
    Settling,
    Leaving,
}

/// Longer than the longest back-off, and than a clock is set back.
const SETTLED_AFTER: Duration = Duration::from_secs(1_500);
/// By then everything that was deleted must be gone.
const GONE_AFTER: Duration = Duration::from_secs(600);
/// The user gives up after so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lets mishaps happen at their time.
pub(crate) async fn mishaps(world: Arc<World>) {
    loop {
        let next = world.lock().scenario.mishaps.first().copied();
        let Some((at, mishap)) = next else { return };
        tokio::time::sleep_until(world.clock.instant(at)).await;
        world.lock().scenario.mishaps.remove(0);
        world.mishap(mishap);
    }
}

/// Tells the story from `stage` to its end.
pub(crate) async fn tell(world: &World, client: Client, stage: &mut Stage) {
    let calm = world.lock().scenario.calm;
    if *stage == Stage::Acting {
        acts(world, &client).await;
        tokio::time::sleep_until(world.clock.instant(calm)).await;
        world.calm_down();
        *stage = Stage::Settling;
    }
    if *stage == Stage::Settling {
        tokio::time::sleep_until(world.clock.instant(calm + SETTLED_AFTER)).await;
        let passed = world.clock.passed();
        let mut state = world.lock();
        let state = &mut *state;
        let found = state.checks.settled(&state.machine, passed);
        world.found(state, found);
        *stage = Stage::Leaving;
    }
    leave(world, &client).await;
}

async fn acts(world: &World, client: &Client) {
    loop {
        let next = world.lock().scenario.acts.first().cloned();
        let Some((at, act)) = next else { return };
        tokio::time::sleep_until(world.clock.instant(at)).await;
        world.trace(format!("user: {}", short(&act)));
        let give_up = tokio::time::Instant::now() + PATIENCE;
        while let Err(error) = perform(world, client, &act).await {
            let is_useless =
                matches!(&error, kube::Error::Api(e) if matches!(e.code, 403 | 404 | 422));
            if is_useless || tokio::time::Instant::now() >= give_up {
                world.trace(format!("user: gives up: {error}"));
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        world.lock().scenario.acts.remove(0);
    }
}

fn short(act: &Act) -> String {
    match act {
        Act::Create(object) => format!("create {object}"),
        other => format!("{other:?}"),
    }
}

async fn perform(world: &World, client: &Client, act: &Act) -> Result<(), kube::Error> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    match act {
        Act::Create(object) => {
            let pod: Pod =
                serde_json::from_value((**object).clone()).map_err(kube::Error::SerdeError)?;
            pods.create(&PostParams::default(), &pod).await.map(drop)
        }
        Act::CreateConfigMap(name) => {
            let object = json!({"metadata": {"name": name}, "data": {"key": "value"}});
            let object: ConfigMap =
                serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
            let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
            maps.create(&PostParams::default(), &object).await.map(drop)
        }
        Act::Delete { pod, grace } => {
            let params = DeleteParams {
                grace_period_seconds: *grace,
                ..DeleteParams::default()
            };
            pods.delete(pod, &params).await.map(drop)
        }
        Act::Evict { pod, grace } => {
            let delete_options = Some(DeleteParams {
                grace_period_seconds: *grace,
                ..DeleteParams::default()
            });
            let params = EvictParams {
                delete_options,
                ..EvictParams::default()
            };
            pods.evict(pod, &params).await.map(drop)
        }
        Act::Force { pod } => {
            world.lock().checks.forced(pod);
            let params = DeleteParams::default().grace_period(0);
            pods.delete(pod, &params).await.map(drop)
        }
        Act::SetImage { pod, container } => {
            let image = format!("{pod}-{container}:2");
            let patch = json!({"spec": {"containers": [{"name": container, "image": image}]}});
            let patch = Patch::Strategic(&patch);
            pods.patch(pod, &PatchParams::default(), &patch)
                .await
                .map(drop)
        }
        Act::Debug {
            pod,
            container,
            target,
        } => {
            let image = format!("{pod}-{container}:1");
            let added = json!({"name": container, "image": image, "targetContainerName": target});
            let patch = Patch::Strategic(json!({"spec": {"ephemeralContainers": [added]}}));
            pods.patch_subresource("ephemeralcontainers", pod, &PatchParams::default(), &patch)
                .await
                .map(drop)
        }
        Act::Resize { pod, sizes } => {
            let patch = Patch::Strategic(json!({ "spec": sizes }));
            pods.patch_subresource("resize", pod, &PatchParams::default(), &patch)
                .await
                .map(drop)
        }
        Act::CreateWorkload(kind, object) => workloads::create(client, kind, object).await,
        Act::EditWorkload(kind, name, patch) => workloads::edit(client, kind, name, patch).await,
        Act::DeleteWorkload(kind, name, policy) => {
            workloads::delete(client, kind, name, policy).await
        }
        Act::DeleteOneOf(of) => workloads::delete_one(client, of).await,
        Act::CreateStranger(of) => workloads::create_stranger(client, of).await,
        Act::EndDebug { pod, container } => {
            let old = pods.get(pod).await?.metadata.annotations;
            let old = old.as_ref().and_then(|all| all.get(api::asks::STOP));
            let asked = api::asks::stop(old.map(String::as_str), container);
            let patch = json!({"metadata": {"annotations": {(api::asks::STOP): asked}}});
            let patch = Patch::Strategic(&patch);
            pods.patch(pod, &PatchParams::default(), &patch)
                .await
                .map(drop)
        }
    }
}

/// Everything is deleted, and has to go.
async fn leave(world: &World, client: &Client) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let give_up = tokio::time::Instant::now() + GONE_AFTER;
    world.trace("user: deletes everything".to_owned());
    loop {
        workloads::leave(client).await;
        if let Ok(left) = pods.list(&ListParams::default()).await {
            let left = left.items.into_iter();
            for pod in left.filter(|p| p.metadata.deletion_timestamp.is_none()) {
                let name = pod.metadata.name.unwrap_or_default();
                drop(pods.delete(&name, &DeleteParams::default()).await);
            }
        }
        {
            let mut state = world.lock();
            let state = &mut *state;
            let found = state.checks.nothing_left(&state.machine);
            if found.is_ok() {
                return;
            }
            if tokio::time::Instant::now() >= give_up {
                world.found(state, found);
                return;
            }
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}
