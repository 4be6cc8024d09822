//! Who is let in: Pods that are new on the node are checked against the node as the API has it, and against what the others hold of
//! it (spec `§1.2`). A Pod that was let in once stays, also after a restart.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::runtime::watcher::Event;
use lifecycle::{Rejection, node_events};

use crate::agent::Agent;
use crate::node;

/// Checks Pods against the node.
pub(crate) struct Door {
    agent: Arc<Agent>,
    /// The node as the API had it last, or as it will be registered.
    node: Node,
}

impl Door {
    /// A door of this node.
    pub(crate) fn new(agent: Arc<Agent>, node: Node) -> Self {
        let mut door = Door { agent, node };
        door.looks_like(door.node.clone());
        door
    }

    /// The API knows the node, which may look different there.
    pub(crate) fn registered(&mut self, node: Node) {
        self.node = node.clone();
        self.looks_like(node);
    }

    /// Takes in how the node has changed. One that was deleted stays as it was.
    pub(crate) fn node(&mut self, event: Event<Node>) {
        if let Event::InitApply(node) | Event::Apply(node) = event {
            self.looks_like(node);
        }
    }

    fn looks_like(&mut self, node: Node) {
        if let Some(event) = node_events::changed(&self.node, &node) {
            let name = &self.agent.config.node_name;
            self.agent.recorder.record_node(name, event);
        }
        let share = node::share(&self.agent.config, Some(&node));
        self.agent.allocations.resize(share);
        self.node = node;
    }

    /// Lets a Pod in; UIDs of the Pods that have to go before it begins.
    ///
    /// # Errors
    /// Why it is refused, for good.
    pub(crate) async fn admit(&mut self, pod: &Pod) -> Result<Vec<String>, Rejection> {
        let pressures = self.agent.pressures().await;
        if let Some(rejection) = lifecycle::pressure::refuse(pod, &pressures) {
            return Err(rejection);
        }
        let refused = match self.look_at(pod) {
            Err(rejection) if lifecycle::is_about_labels(&rejection) => rejection,
            answer => return answer,
        };
        // Who bound it may have seen labels that have not been heard of here.
        let api: Api<Node> = Api::all(self.agent.client.clone());
        match api.get(&self.agent.config.node_name).await {
            Ok(node) => self.looks_like(node),
            Err(error) => {
                tracing::warn!(%error, "asking for the node");
                return Err(refused);
            }
        }
        self.look_at(pod)
    }

    fn look_at(&self, pod: &Pod) -> Result<Vec<String>, Rejection> {
        let Agent {
            allocations,
            config,
            ..
        } = &*self.agent;
        allocations.admit(pod, &self.node, &config.unsafe_sysctls)
    }
}
