//! Volumes that drivers mount (CSI): drivers are found where they register, and asked over their sockets.
//!
//! Of one volume one thing is asked at a time. A driver's answer that leaves open what came of it leaves the record, so that the volume
//! is taken back once the Pod goes.

mod calls;
mod records;
mod registry;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use ports::drivers::{DriverError, DriverEvent, DriverVolume, Drivers};
use tokio::sync::mpsc;

use crate::ownership;
use crate::{LocalVolumes, blocking};
use calls::{Capabilities, Endpoint, is_final};
use records::{Place, Record};
use registry::Version;

/// What upstream's plugin begins its words with.
const SPEAKER: &str = "kubernetes.io/csi:";

/// Driver and handle.
type Key = (String, String);

/// Who is there, and who is being asked.
#[derive(Clone, Default)]
pub(crate) struct Known {
    drivers: Arc<Mutex<BTreeMap<String, (Endpoint, Version)>>>,
    /// Held while something is asked of a volume.
    busy: Arc<Mutex<HashMap<Key, Weak<tokio::sync::Mutex<()>>>>>,
}

impl Known {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (Endpoint, Version)>> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a driver in, unless another is as good as it.
    fn add(&self, name: &str, endpoint: Endpoint, version: Version) -> Result<(), String> {
        let mut drivers = self.lock();
        if let Some((_, [major, minor, patch])) = drivers.get(name).filter(|(_, v)| *v >= version) {
            return Err(format!(
                "{SPEAKER} ValidatePlugin for CSI driver {name:?} failed. Another driver with the same name is already registered with a higher supported version: \"{major}.{minor}.{patch}\""
            ));
        }
        drivers.insert(name.to_owned(), (endpoint, version));
        Ok(())
    }

    /// Takes in what a driver says of itself now.
    fn renew(&self, name: &str, endpoint: Endpoint, version: Version) {
        self.lock().insert(name.to_owned(), (endpoint, version));
    }

    fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    fn endpoint(&self, name: &str) -> Result<Endpoint, String> {
        let drivers = self.lock();
        let found = drivers.get(name).map(|(endpoint, _)| endpoint.clone());
        found.ok_or_else(|| {
            format!("driver name {name} not found in the list of registered CSI drivers")
        })
    }

    /// What is to be held while something is asked of a volume.
    fn turn(&self, driver: &str, handle: &str) -> Arc<tokio::sync::Mutex<()>> {
        let key = (driver.to_owned(), handle.to_owned());
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let found = busy.get(&key).and_then(Weak::upgrade);
        found.unwrap_or_else(|| {
            busy.retain(|_, turn| turn.strong_count() > 0);
            let turn = Arc::default();
            busy.insert(key, Arc::downgrade(&turn));
            turn
        })
    }
}

#[async_trait]
impl Drivers for LocalVolumes {
    fn follow(&self) -> mpsc::UnboundedReceiver<DriverEvent> {
        let (told, events) = mpsc::unbounded_channel();
        let directory = self.layout.registry().to_owned();
        tokio::spawn(registry::follow(directory, self.drivers.clone(), told));
        events
    }

    async fn mount(
        &self,
        pod_uid: &str,
        name: &str,
        volume: &DriverVolume,
    ) -> Result<PathBuf, DriverError> {
        let turn = self.drivers.turn(&volume.driver, &volume.handle);
        let _turn = turn.lock().await;
        if let Some(target) = self.places.find(pod_uid, name) {
            return Ok(target);
        }
        let endpoint = self.drivers.endpoint(&volume.driver);
        let endpoint = endpoint.map_err(|why| absent(volume, &why))?;
        let pods = Place::of_pod(&self.layout, pod_uid, &volume.name);
        let nodes = Place::of_node(&self.layout, &volume.driver, &volume.handle);
        let places = pods.and_then(|pods| Ok((pods, nodes?)));
        let (pods, nodes) = places.map_err(publish_error(volume))?;
        let request = Request {
            endpoint,
            volume,
            pods,
            nodes,
        };
        request.carry_out().await?;
        self.places
            .remember(pod_uid, name, request.pods.target.clone(), None);
        Ok(request.pods.target)
    }

    async fn unmount(&self, pod_uid: &str) -> Result<bool, DriverError> {
        let (layout, uid) = (self.layout.clone(), pod_uid.to_owned());
        let found = blocking(move || records::of_pod(&layout, &uid)).await;
        let found = found.map_err(DriverError::Records)?;
        let had_some = !found.is_empty();
        for (place, record) in found {
            let turn = self.drivers.turn(&record.driver, &record.handle);
            let _turn = turn.lock().await;
            self.take_back(pod_uid, &place, &record).await?;
        }
        Ok(had_some)
    }

    async fn mounted(&self) -> Result<BTreeSet<(String, String)>, DriverError> {
        let layout = self.layout.clone();
        let all = blocking(move || records::all(&layout)).await;
        all.map_err(DriverError::Records)
    }
}

impl LocalVolumes {
    /// Has a driver take back a Pod's volume, and from the node what no other Pod uses.
    async fn take_back(
        &self,
        uid: &str,
        place: &Place,
        record: &Record,
    ) -> Result<(), DriverError> {
        let volume = record.name.clone();
        let unpublish = |why: String| DriverError::Unpublish {
            volume: volume.clone(),
            why,
        };
        let unstage = |why: String| DriverError::Unstage {
            volume: volume.clone(),
            why,
        };
        let endpoint = self.drivers.endpoint(&record.driver);
        let endpoint = endpoint.map_err(|why| {
            unpublish(format!(
                "{SPEAKER} Unmounter.TearDownAt failed to get CSI client: {why}"
            ))
        })?;
        let unpublished = endpoint.unpublish(&record.handle, &place.target).await;
        unpublished
            .map_err(|why| unpublish(format!("{SPEAKER} Unmounter.TearDownAt failed: {why}")))?;
        let of_node = Place::of_node(&self.layout, &record.driver, &record.handle);
        let of_node = of_node.map_err(|error| unstage(error.to_string()))?;
        let (layout, own, nodes) = (self.layout.clone(), place.clone(), of_node.clone());
        let (uid, record) = (uid.to_owned(), record.clone());
        let handle = record.handle.clone();
        let is_last = blocking(move || {
            own.clear_target()?;
            let is_staged = nodes.read()?.is_some();
            Ok(is_staged && !records::is_used_besides(&layout, &uid, &record)?)
        });
        let is_last = is_last.await.map_err(|error| {
            unpublish(format!(
                "{SPEAKER} Unmounter.TearDownAt failed to clean mount dir [{}]: {error}",
                place.target.display()
            ))
        })?;
        if is_last {
            let unstaged = endpoint.unstage(&handle, &of_node.target).await;
            unstaged.map_err(|error| unstage(error.to_string()))?;
        }
        let own = place.clone();
        let removed = blocking(move || {
            if is_last {
                of_node.remove()?;
            }
            own.remove()
        });
        removed.await.map_err(|error| unpublish(error.to_string()))
    }
}

/// What is asked of a driver for a Pod.
struct Request<'v> {
    endpoint: Endpoint,
    volume: &'v DriverVolume,
    /// The Pod's.
    pods: Place,
    /// The node's.
    nodes: Place,
}

impl Request<'_> {
    async fn carry_out(&self) -> Result<(), DriverError> {
        let can = self.endpoint.capabilities().await;
        let can = can.map_err(|error| stage_error(self.volume)(error.to_string()))?;
        let record = self.record();
        // That of the Pod tells which the Pod has, of the node as well.
        let (pods, written) = (self.pods.clone(), record.clone());
        let written = blocking(move || pods.write(&written)).await;
        written.map_err(publish_error(self.volume))?;
        let is_staged = can.stages && !self.volume.is_ephemeral;
        if is_staged {
            self.stage(can, &record).await?;
        }
        self.publish(can, is_staged).await?;
        self.give_to_group(can).await
    }

    fn record(&self) -> Record {
        let lifecycle = match self.volume.is_ephemeral {
            true => "Ephemeral",
            false => "Persistent",
        };
        Record {
            name: self.volume.name.clone(),
            handle: self.volume.handle.clone(),
            driver: self.volume.driver.clone(),
            lifecycle: lifecycle.to_owned(),
        }
    }

    async fn stage(&self, can: Capabilities, record: &Record) -> Result<(), DriverError> {
        let failed = stage_error(self.volume);
        let (nodes, record) = (self.nodes.clone(), record.clone());
        let prepared = blocking(move || {
            let before = nodes.read()?;
            nodes.write(&record)?;
            nodes.make_target()?;
            Ok(before)
        });
        let before = prepared.await.map_err(|error| failed(error.to_string()))?;
        let staged = self
            .endpoint
            .stage(self.volume, can, &self.nodes.target)
            .await;
        staged.map_err(|error| {
            if is_final(&error) && before.is_none() {
                self.forget(&[&self.nodes, &self.pods]);
            }
            failed(error.to_string())
        })
    }

    async fn publish(&self, can: Capabilities, is_staged: bool) -> Result<(), DriverError> {
        let staged = is_staged.then_some(self.nodes.target.as_path());
        let published = self
            .endpoint
            .publish(self.volume, can, staged, &self.pods.target)
            .await;
        published.map_err(|error| {
            // What is on the node is taken from there with the Pod's record.
            if is_final(&error) && !is_staged {
                self.forget(&[&self.pods]);
            }
            publish_error(self.volume)(error)
        })
    }

    /// Removes records of what the driver says it has not done.
    fn forget(&self, places: &[&Place]) {
        for place in places {
            if let Err(error) = place.remove() {
                tracing::warn!(volume = ?self.volume, %error, "a record stays");
            }
        }
    }

    async fn give_to_group(&self, can: Capabilities) -> Result<(), DriverError> {
        let group = self
            .volume
            .fs_group
            .filter(|group| group.is_given && !can.gives_to_group && !self.volume.is_read_only);
        let Some(group) = group else { return Ok(()) };
        let target = self.pods.target.clone();
        let given = blocking(move || ownership::give_tree(&target, group.gid, group.trusts_root));
        given.await.map_err(|error| {
            let why = format!(
                "applyFSGroup failed for vol {}: {error}",
                self.volume.handle
            );
            publish_error(self.volume)(why)
        })
    }
}

/// Why nothing can be asked: the driver is not there.
fn absent(volume: &DriverVolume, why: &str) -> DriverError {
    if volume.is_ephemeral {
        let why = format!("{SPEAKER} mounter.SetUpAt failed to get CSI client: {why}");
        return publish_error(volume)(why);
    }
    let why = format!("{SPEAKER} attacher.MountDevice failed to create newCsiDriverClient: {why}");
    stage_error(volume)(why)
}

fn stage_error(volume: &DriverVolume) -> impl Fn(String) -> DriverError {
    let volume = volume.name.clone();
    move |why| DriverError::Stage {
        volume: volume.clone(),
        why,
    }
}

fn publish_error<E: ToString>(volume: &DriverVolume) -> impl Fn(E) -> DriverError {
    let volume = volume.name.clone();
    move |error| DriverError::Publish {
        volume: volume.clone(),
        why: error.to_string(),
    }
}
