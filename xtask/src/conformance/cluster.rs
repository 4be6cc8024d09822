//! What the suite runs against: an engine, and where it is asked for a second node on the other end of a cable.

use std::path::{Path, PathBuf};

use anyhow::Result;
use lan::Lan;

use crate::engine::Engine;

/// Most nodes there can be.
pub(super) const MOST_NODES: u8 = 2;

/// Directory of the second node's agent.
const NODE: &str = "conformance-node";

/// An engine, which is the first node, and the second one.
pub(super) struct Cluster {
    engine: Engine,
    second: Option<Second>,
}

/// The agent of another node, in a network of its own.
struct Second {
    agent: Engine,
    lan: Lan,
}

impl Cluster {
    /// A cluster with so many nodes that pulls from `registry`, yet to be started.
    pub(super) fn fresh(carob: &Path, nodes: u8, registry: &str) -> Result<Self> {
        // An agent that an interrupted command left names the engine's kubeconfig, so it goes first.
        Engine::clear(carob.to_owned(), NODE)?;
        let engine = Engine::fresh(carob.to_owned(), "conformance-engine")?;
        engine.mirror(registry)?;
        let second = match nodes {
            1 => None,
            _ => Some(Second::on_a_cable(carob, registry)?),
        };
        Ok(Self { engine, second })
    }

    /// Starts it, and returns when every node is Ready.
    pub(super) fn up(&self) -> Result<()> {
        let Some(Second { agent, lan }) = &self.second else {
            return self.engine.up();
        };
        self.engine.up_at(&format!("{}:0", lan.address()))?;
        agent.join(&self.kubeconfig())
    }

    /// The administrator's kubeconfig.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.engine.kubeconfig()
    }

    /// Copies what engine and agent have said to a directory.
    pub(super) fn keep_logs(&self, directory: &Path) -> Result<()> {
        std::fs::copy(self.engine.log(), directory.join("engine.log"))?;
        if let Some(Second { agent, .. }) = &self.second {
            std::fs::copy(agent.log(), directory.join("node.log"))?;
        }
        Ok(())
    }

    /// Ends it, and checks that nothing of it is left.
    pub(super) fn remove(self) -> Result<()> {
        let agent = self
            .second
            .map_or(Ok(()), |Second { agent, .. }| agent.remove());
        agent.and(self.engine.remove())
    }
}

impl Second {
    fn on_a_cable(carob: &Path, registry: &str) -> Result<Self> {
        let mut agent = Engine::fresh(carob.to_owned(), NODE)?;
        let lan = Lan::lay()?;
        agent.mirror(&lan.registry(registry)?)?;
        // Its bridge is not seen by the engine, but names cgroups as that one's does.
        let bridge = lan.namespace();
        agent.settings(&format!("nodeName: second\nbridge: {bridge}\n"))?;
        agent.move_to(lan.namespace())?;
        Ok(Self { agent, lan })
    }
}
