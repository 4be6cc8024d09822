//! The agent's images and volumes on the simulated machine.

use std::path::PathBuf;

use async_trait::async_trait;
use ports::images::{AuthConfig, Image, ImageConfig, ImageError, Images, ProgressSink, Rootfs};
use ports::volumes::{Space, VolumeError, VolumeSpec, Volumes};
use rand::Rng;

use crate::machine::{DISK, IMAGE};
use crate::ports_of::{Ports, broken};
use crate::scenario::LOADED;

/// How the id of an image begins; its name follows.
const ID: &str = "sha256:";

/// The name of an image that is asked for by name or id.
pub(crate) fn named(reference: &str) -> &str {
    reference.strip_prefix(ID).unwrap_or(reference)
}

fn image(reference: &str) -> Image {
    let digest = format!("{reference}@{ID}0");
    let digests = Some(digest).filter(|_| reference != LOADED);
    Image {
        id: format!("{ID}{reference}"),
        repo_tags: vec![reference.to_owned()],
        repo_digests: digests.into_iter().collect(),
        size_bytes: IMAGE,
        config: ImageConfig::default(),
    }
}

#[async_trait]
impl Images for Ports {
    async fn image_status(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        self.step(1, |state| {
            let name = named(reference);
            let is_here = state.machine.images.contains(name);
            Ok(is_here.then(|| image(name)))
        })
        .await
    }

    async fn list_images(&self) -> Result<Vec<Image>, ImageError> {
        self.step(1, |state| {
            Ok(state
                .machine
                .images
                .iter()
                .map(|name| image(name))
                .collect())
        })
        .await
    }

    async fn pull_image(
        &self,
        reference: &str,
        _auth: Option<AuthConfig>,
        _progress: Option<ProgressSink>,
    ) -> Result<Image, ImageError> {
        self.step(1, |state| {
            let found = state
                .checks
                .pulls(reference, self.world.clock.passed(), self.now());
            self.world.trace_in(state, format!("pull {reference}"));
            self.world.found(state, found);
        })
        .await;
        let is_slow = self.world.lock().dice.random_bool(0.2);
        self.step(if is_slow { 60_000 } else { 2_000 }, |state| {
            if self.fails(state, |odds| odds.pull) {
                state
                    .checks
                    .pull_failed(reference, self.world.clock.passed(), self.now());
                return Err(ImageError::NotFound {
                    reference: reference.to_owned(),
                });
            }
            state.machine.images.insert(reference.to_owned());
            state.checks.pull_done(reference);
            Ok(image(reference))
        })
        .await
    }

    async fn remove_image(&self, reference: &str) -> Result<(), ImageError> {
        // Layers are many files.
        self.step(500, |state| {
            if self.fails(state, |odds| odds.volume) {
                return Err(ImageError::Io {
                    what: "remove a layer".to_owned(),
                    source: broken(),
                });
            }
            let name = named(reference);
            let found = state.checks.image_goes(name, &state.machine);
            self.world.trace_in(state, format!("remove image {name}"));
            self.world.found(state, found);
            state.machine.images.remove(name);
            Ok(())
        })
        .await
    }

    async fn rootfs(&self, _image_id: &str) -> Result<Rootfs, ImageError> {
        Ok(Rootfs { layers: Vec::new() })
    }
}

#[async_trait]
impl Volumes for Ports {
    async fn ensure(
        &self,
        pod_uid: &str,
        volume: &str,
        _spec: &VolumeSpec,
    ) -> Result<PathBuf, VolumeError> {
        let dir = self.directory(pod_uid).await?;
        self.step(5, |state| {
            if self.fails(state, |odds| odds.volume) {
                return Err(VolumeError::Io {
                    what: "write a volume".to_owned(),
                    source: broken(),
                });
            }
            let volumes = state.machine.volumes.entry(pod_uid.to_owned()).or_default();
            volumes.insert(volume.to_owned());
            Ok(dir.join(volume))
        })
        .await
    }

    async fn ensure_sub_path(
        &self,
        pod_uid: &str,
        volume: &str,
        sub_path: &str,
        _container: &str,
        _index: usize,
    ) -> Result<PathBuf, VolumeError> {
        Ok(self.directory(pod_uid).await?.join(volume).join(sub_path))
    }

    async fn pod_dir(&self, pod_uid: &str) -> Result<PathBuf, VolumeError> {
        self.directory(pod_uid).await
    }

    async fn give_up(&self, _pod_uid: &str) -> Result<(), VolumeError> {
        Ok(())
    }

    async fn teardown(&self, pod_uid: &str) -> Result<(), VolumeError> {
        self.step(5, |state| {
            if self.fails(state, |odds| odds.volume) {
                return Err(VolumeError::Io {
                    what: "unmount".to_owned(),
                    source: broken(),
                });
            }
            let found = state.checks.torn_down(pod_uid, &state.machine);
            self.world.found(state, found);
            state.machine.volumes.remove(pod_uid);
            drop(std::fs::remove_dir_all(
                self.world.dir.join("pods").join(pod_uid),
            ));
            Ok(())
        })
        .await
    }

    async fn pods(&self) -> Result<Vec<String>, VolumeError> {
        self.step(1, |state| {
            Ok(state.machine.volumes.keys().cloned().collect())
        })
        .await
    }

    async fn space(&self) -> Result<Space, VolumeError> {
        self.step(1, |state| {
            Ok(Space {
                capacity_bytes: DISK,
                available_bytes: state.machine.disk_left(),
                inodes: 1 << 20,
                inodes_free: 1 << 19,
            })
        })
        .await
    }
}

impl Ports {
    async fn directory(&self, pod_uid: &str) -> Result<PathBuf, VolumeError> {
        let dir = self.world.dir.join("pods").join(pod_uid);
        let made = self
            .step(1, |state| {
                state.machine.volumes.entry(pod_uid.to_owned()).or_default();
                std::fs::create_dir_all(&dir)
            })
            .await;
        made.map(|()| dir).map_err(|source| VolumeError::Io {
            what: "make a pod's directory".to_owned(),
            source,
        })
    }
}
