//! What every worker shares: settings, ports, and views of the world that all of them need.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Client;
use lifecycle::pressure::Pressure;
use ports::clock::Clock;
use ports::drivers::Drivers;
use ports::images::Images;
use ports::network::Gate;
use ports::node::Target;
use ports::runtime::{ContainerRuntime, ContainerStatus};
use ports::volumes::Volumes;
use tokio::sync::{Notify, watch};

use crate::allocations::Allocations;
use crate::config::Config;
use crate::drivers::InUse;
use crate::objects::Watches;
use crate::pulls::KeptPulls;
use crate::recorder::Recorder;
use crate::users::Users;

/// The shared part of the agent.
pub(crate) struct Agent {
    pub(crate) config: Config,
    /// What the node gives to Pods.
    pub(crate) allocatable: BTreeMap<String, Quantity>,
    pub(crate) allocations: Allocations,
    pub(crate) client: Client,
    pub(crate) runtime: Arc<dyn ContainerRuntime>,
    pub(crate) images: Arc<dyn Images>,
    /// Held by who removes an image, and shared by those who look whether theirs is here.
    pub(crate) removing_image: tokio::sync::RwLock<()>,
    /// How images came here, and who may use them.
    pub(crate) pulls: KeptPulls,
    pub(crate) volumes: Arc<dyn Volumes>,
    /// Who mounts what the node cannot.
    pub(crate) drivers: Option<Arc<dyn Drivers>>,
    /// Which of their volumes are in use.
    pub(crate) in_use: InUse,
    /// Rung when a driver came or went.
    pub(crate) drivers_changed: watch::Sender<()>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where Pods are held back until what they may receive and send is settled.
    pub(crate) gate: Option<Arc<dyn Gate>>,
    pub(crate) recorder: Recorder,
    pub(crate) watches: Watches,
    /// Every Service, kept up to date by a watch.
    pub(crate) services: RwLock<BTreeMap<(String, String), Service>>,
    /// Rung when an image was pulled.
    pub(crate) images_changed: Notify,
    pub(crate) views: Views,
    /// Ranges of Pods with users of their own.
    pub(crate) users: Users,
    /// What the node runs out of, once that was looked at.
    pub(crate) pressures: watch::Sender<Option<BTreeSet<Pressure>>>,
    /// Whether every Pod of this node was listed once, so that one without a view is not here.
    pub(crate) listed: watch::Sender<bool>,
}

impl Agent {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What the node runs out of.
    pub(crate) async fn pressures(&self) -> BTreeSet<Pressure> {
        let mut pressures = self.pressures.subscribe();
        // Fails only when the agent is gone.
        let known = pressures.wait_for(Option::is_some).await;
        known
            .ok()
            .and_then(|known| known.clone())
            .unwrap_or_default()
    }

    /// The UID on this node of a Pod that the API knows by this UID and name, once the node's Pods are known.
    pub(crate) async fn resolve(&self, target: &Target) -> Option<String> {
        self.every_pod_listed().await;
        let Target {
            uid,
            namespace,
            pod,
            ..
        } = target;
        self.views.resolve(uid, namespace, pod)
    }

    /// A Pod's view, once the node's Pods are known.
    pub(crate) async fn view(&self, target: &Target) -> Option<watch::Receiver<Arc<View>>> {
        let uid = self.resolve(target).await?;
        self.views.follow(&uid)
    }

    /// Waits until the node's Pods are known.
    pub(crate) async fn every_pod_listed(&self) {
        // Fails only when the agent is gone, and nothing is known then.
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }

    /// The Services a Pod of this namespace may hear of: its own and those of `default`.
    pub(crate) fn services_for(&self, namespace: &str) -> Vec<Service> {
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        services
            .iter()
            .filter(|((ns, _), _)| ns == namespace || ns == "default")
            .map(|(_, s)| s.clone())
            .collect()
    }

    /// Where a Pod's logs go (spec `§13.1`).
    pub(crate) fn log_directory(&self, pod: &Pod) -> PathBuf {
        let meta = &pod.metadata;
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        self.config.log_root.join(format!(
            "{}_{}_{}",
            part(&meta.namespace),
            part(&meta.name),
            part(&meta.uid)
        ))
    }
}

/// What the streaming verbs need to know of a Pod.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) pod: Arc<Pod>,
    pub(crate) status: PodStatus,
    pub(crate) containers: Vec<ContainerStatus>,
    /// UID of what stands for a static Pod in the API.
    pub(crate) mirror: Option<String>,
}

/// The latest view of each Pod, by UID: written by its worker, read by logs, exec and attach.
#[derive(Default)]
pub(crate) struct Views(Mutex<HashMap<String, watch::Sender<Arc<View>>>>);

impl Views {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, watch::Sender<Arc<View>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn publish(&self, uid: &str, view: View) {
        let mut views = self.lock();
        match views.get(uid) {
            Some(sender) => {
                sender.send_replace(Arc::new(view));
            }
            None => {
                views.insert(uid.to_owned(), watch::Sender::new(Arc::new(view)));
            }
        }
    }

    pub(crate) fn remove(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// The view of every Pod.
    pub(crate) fn all(&self) -> Vec<Arc<View>> {
        let views = self.lock();
        views.values().map(|view| view.borrow().clone()).collect()
    }

    /// The Pod of this name and UID in the API: the UID may be that of what stands for a static Pod, which has been made again a moment
    /// ago.
    pub(crate) fn resolve(&self, uid: &str, namespace: &str, name: &str) -> Option<String> {
        let views = self.lock();
        if views.contains_key(uid) {
            return Some(uid.to_owned());
        }
        let is_it = |view: &View| {
            let meta = &view.pod.metadata;
            let own = (meta.namespace.as_deref(), meta.name.as_deref());
            api::pod::is_static(&view.pod) && own == (Some(namespace), Some(name))
        };
        let found = views.iter().find(|(_, view)| is_it(&view.borrow()));
        found.map(|(uid, _)| uid.clone())
    }

    /// The Pod for which this UID stands in the API, unless it is its own.
    pub(crate) fn mirrored_by(&self, uid: &str) -> Option<String> {
        let views = self.lock();
        let is_it = |view: &View| view.mirror.as_deref() == Some(uid);
        let found = views.iter().find(|(_, view)| is_it(&view.borrow()));
        found.map(|(uid, _)| uid.clone())
    }

    pub(crate) fn follow(&self, uid: &str) -> Option<watch::Receiver<Arc<View>>> {
        self.lock().get(uid).map(watch::Sender::subscribe)
    }
}
