//! Which volumes of drivers this node uses (`volumesInUse` of the Node): said before a volume is used that has to be attached, so that it
//! stays attached, and taken back once nothing of it is here.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use ports::drivers::Drivers;
use tokio::sync::Mutex;

use crate::agent::Agent;

/// The volumes in use, by the names Nodes have for them.
#[derive(Default)]
pub(crate) struct InUse(Mutex<Said>);

#[derive(Default)]
struct Said {
    /// What the Node says, once that was read.
    names: Option<BTreeSet<String>>,
    /// Which Pods use them, as far as they have said so since the start.
    users: BTreeMap<String, BTreeSet<String>>,
}

impl InUse {
    /// Says that a Pod uses a volume from now on.
    ///
    /// # Errors
    /// Whatever the API answers: it has not been said then.
    pub(crate) async fn hold(
        &self,
        agent: &Agent,
        uid: &str,
        name: &str,
    ) -> Result<(), kube::Error> {
        let mut said = self.0.lock().await;
        let mut names = said.read(agent).await?;
        let users = said.users.entry(name.to_owned()).or_default();
        users.insert(uid.to_owned());
        if names.insert(name.to_owned()) {
            said.write(agent, names).await?;
        }
        Ok(())
    }

    /// Takes in what the Node says when the agent starts.
    pub(crate) async fn seed(&self, node: &Node) {
        self.0.lock().await.names.get_or_insert_with(|| names(node));
    }

    /// Whether a Pod has said that it uses a volume.
    pub(crate) async fn is_used_by(&self, uid: &str) -> bool {
        let said = self.0.lock().await;
        said.users.values().any(|users| users.contains(uid))
    }

    /// Says of what is gone that it is not used any more; `uid` is a Pod that uses nothing now.
    ///
    /// # Errors
    /// What is here cannot be read, or the API's words.
    pub(crate) async fn release(
        &self,
        agent: &Agent,
        drivers: &dyn Drivers,
        uid: &str,
    ) -> Result<(), String> {
        let mut said = self.0.lock().await;
        said.users.retain(|_, users| {
            users.remove(uid);
            !users.is_empty()
        });
        let names = said.read(agent).await.map_err(|e| e.to_string())?;
        if names.is_empty() {
            return Ok(());
        }
        let here = drivers.mounted().await.map_err(|e| e.to_string())?;
        let here: BTreeSet<String> = here
            .iter()
            .map(|(driver, handle)| claims::attach::unique_name(driver, handle))
            .collect();
        let is_used = |name: &&String| said.users.contains_key(*name) || here.contains(*name);
        let left: BTreeSet<String> = names.iter().filter(is_used).cloned().collect();
        if left != names {
            said.write(agent, left).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

fn names(node: &Node) -> BTreeSet<String> {
    let names = node.status.as_ref().and_then(|s| s.volumes_in_use.as_ref());
    names.into_iter().flatten().cloned().collect()
}

impl Said {
    async fn read(&mut self, agent: &Agent) -> Result<BTreeSet<String>, kube::Error> {
        if let Some(names) = &self.names {
            return Ok(names.clone());
        }
        let api: Api<Node> = Api::all(agent.client.clone());
        let node = api.get(&agent.config.node_name).await?;
        let names = names(&node);
        self.names = Some(names.clone());
        Ok(names)
    }

    async fn write(&mut self, agent: &Agent, names: BTreeSet<String>) -> Result<(), kube::Error> {
        let api: Api<Node> = Api::all(agent.client.clone());
        let patch = serde_json::json!({"status": {"volumesInUse": names}});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let name = &agent.config.node_name;
        api.patch_status(name, &params, &patch).await?;
        self.names = Some(names);
        Ok(())
    }
}
