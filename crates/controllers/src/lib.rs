//! The controllers every cluster has: Deployments, ReplicaSets and Jobs have the Pods they ask for, and as many as autoscalers find they
//! need; which addresses the Pods of a node have; what a namespace is given when it is made, and its end; what disruption budgets allow;
//! who is behind a Service, and which has the address of the node; who has to leave a node, and that one under pressure, or of which
//! nothing is heard, gets no more; which Pods nobody looks after any more; which claims have which volumes, and which of these are attached
//! to which nodes; what is used of quotas; which objects have lost their owners; and which requests for certificates are approved, signed
//! and over.
//!
//! Each controller is a file and a task; all of them know the Kubernetes API only, are driven by watches, and can be stopped and
//! started at any time: what they do is always derived from what is there.

mod autoscaler;
mod balancer;
mod certificates;
mod conditions;
mod disruption;
mod endpoints;
mod garbage;
mod heartbeats;
mod namespace;
mod owners;
mod pods;
mod provision;
mod quota;
mod ranges;
mod storage;
mod taints;
mod workload;

use std::sync::Arc;

use api::resource::Resource;
use futures::future::OptionFuture;
use kube::Client;
use kube::api::ApiResource;
use ports::certificates::Authority;
use ports::clock::Clock;
use ports::volumes::Directories;
use tokio_util::sync::CancellationToken;

pub use ranges::PodRanges;

/// Who tells of what no controller tells of by its own name.
const MANAGER: &str = "controllermanager";

/// A resource as a client is told of it.
fn words(kind: &Resource) -> ApiResource {
    ApiResource {
        group: kind.gvk.group.into(),
        version: kind.gvk.version.into(),
        api_version: kind.group_version().to_string(),
        kind: kind.gvk.kind.into(),
        plural: kind.plural.into(),
    }
}

/// What the controllers are told.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The certificate authority of the API, in PEM: `ca.crt` of every namespace's `kube-root-ca.crt`.
    pub ca_pem: String,
}

/// All controllers.
pub struct Controllers {
    client: Client,
    clock: Arc<dyn Clock>,
    config: Config,
    directories: Option<Arc<dyn Directories>>,
    authority: Option<Arc<dyn Authority>>,
    ranges: Option<PodRanges>,
}

impl Controllers {
    /// Controllers that talk to the API through `client`.
    pub fn new(client: Client, clock: Arc<dyn Clock>, config: Config) -> Self {
        Controllers {
            client,
            clock,
            config,
            directories: None,
            authority: None,
            ranges: None,
        }
    }

    /// Makes volumes of directories, too, and gives them and others to claims. Without it, claims are left to somebody else.
    #[must_use]
    pub fn with_directories(mut self, directories: Arc<dyn Directories>) -> Self {
        self.directories = Some(directories);
        self
    }

    /// Looks after requests for certificates, too, and has this authority sign them. Without it, they are left to somebody else.
    #[must_use]
    pub fn with_authority(mut self, authority: Arc<dyn Authority>) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Gives nodes the ranges of their Pods, too. Without it, that is left to somebody else.
    #[must_use]
    pub fn with_pod_ranges(mut self, ranges: PodRanges) -> Self {
        self.ranges = Some(ranges);
        self
    }

    /// Runs every controller until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let clock = self.clock.clone();
        let now = Arc::new(move || clock.now());
        let (recorder, poster) = events::new(self.client.clone(), now, MANAGER, None);
        let storage = self
            .directories
            .map(|made| storage::run(self.client.clone(), &recorder, made, shutdown.clone()));
        let (client, clock) = (self.client.clone(), self.clock.clone());
        let certificates = self
            .authority
            .map(|signs| certificates::run(client, clock, signs, shutdown.clone()));
        let ranges = self
            .ranges
            .map(|known| ranges::run(self.client.clone(), &recorder, known, shutdown.clone()));
        tokio::join!(
            OptionFuture::from(certificates),
            OptionFuture::from(ranges),
            poster.run(shutdown.clone()),
            OptionFuture::from(storage),
            storage::ephemeral::run(self.client.clone(), &recorder, shutdown.clone()),
            storage::attach::run(self.client.clone(), &recorder, shutdown.clone()),
            namespace::run(self.client.clone(), self.clock.clone(), shutdown.clone()),
            endpoints::run(self.client.clone(), shutdown.clone()),
            endpoints::mirroring::run(self.client.clone(), shutdown.clone()),
            disruption::run(
                self.client.clone(),
                recorder.clone(),
                self.clock.clone(),
                shutdown.clone(),
            ),
            garbage::run(self.client.clone(), self.clock.clone(), shutdown.clone()),
            conditions::run(self.client.clone(), self.clock.clone(), shutdown.clone()),
            autoscaler::run(
                self.client.clone(),
                &recorder,
                self.clock.clone(),
                shutdown.clone(),
            ),
            heartbeats::run(
                self.client.clone(),
                &recorder,
                self.clock.clone(),
                shutdown.clone(),
            ),
            balancer::run(self.client.clone(), &recorder, shutdown.clone()),
            taints::run(
                self.client.clone(),
                &recorder,
                self.clock.clone(),
                shutdown.clone(),
            ),
            owners::run(self.client.clone(), &recorder, shutdown.clone()),
            quota::run(self.client.clone(), self.clock.clone(), shutdown.clone()),
            workload::run(self.client.clone(), &recorder, self.clock, shutdown.clone(),),
            provision::service_accounts(self.client.clone(), shutdown.clone()),
            provision::root_certificates(self.client, self.config.ca_pem, shutdown),
        );
    }
}
