//! What of a driver of storage (CSI) is not on nodes, for tests: it makes and removes the volumes of claims, and attaches volumes to
//! nodes, as the driver's containers beside it do in a cluster.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::task::AbortOnDropHandle;

use crate::client::Api;

/// Makes volumes until it is dropped.
pub struct Provisioner {
    _tasks: Vec<AbortOnDropHandle<()>>,
}

#[derive(Clone)]
struct Maker {
    api: Api,
    driver: String,
    data: PathBuf,
}

impl Provisioner {
    /// Makes the volumes of classes whose provisioner is `driver`, as directories below `data`.
    pub fn start(runtime: &Arc<Runtime>, api: &Api, driver: &str, data: PathBuf) -> Provisioner {
        let maker = Maker {
            api: api.clone(),
            driver: driver.to_owned(),
            data,
        };
        let kinds = [
            "/api/v1/persistentvolumeclaims",
            "/api/v1/persistentvolumes",
            "/apis/storage.k8s.io/v1/volumeattachments",
        ];
        let follow = |kind: &'static str| {
            let maker = maker.clone();
            AbortOnDropHandle::new(runtime.spawn(async move {
                if let Err(error) = maker.follow(kind).await {
                    eprintln!("the provisioner of {}: {error:#}", maker.driver);
                }
            }))
        };
        Provisioner {
            _tasks: kinds.map(follow).into(),
        }
    }
}

impl Maker {
    /// Handles every object of a kind as it is and as it becomes.
    async fn follow(&self, kind: &'static str) -> anyhow::Result<()> {
        let (told, mut events) = tokio::sync::mpsc::unbounded_channel();
        let path = format!("{kind}?watch=1");
        let watching = self.api.watch(&path, "application/json", |event| {
            // Both ends are of this function.
            let _ = told.send(event);
        });
        let handling = async {
            while let Some(event) = events.recv().await {
                let object = &event["object"];
                match kind {
                    _ if event["type"] == "DELETED" => {}
                    "/api/v1/persistentvolumeclaims" => self.provision(object).await?,
                    "/api/v1/persistentvolumes" => self.reclaim(object).await?,
                    _ => self.attach(object).await?,
                }
            }
            anyhow::Ok(())
        };
        tokio::select! {
            ended = watching => ended,
            ended = handling => ended,
        }
    }

    /// Makes the volume of a claim that asks for one.
    async fn provision(&self, claim: &Value) -> anyhow::Result<()> {
        let meta = &claim["metadata"];
        let asked = &meta["annotations"]["volume.kubernetes.io/storage-provisioner"];
        if *asked != self.driver.as_str() || claim["status"]["phase"] != "Pending" {
            return Ok(());
        }
        let spec = &claim["spec"];
        let class = spec["storageClassName"].as_str().context("a class")?;
        let class = format!("/apis/storage.k8s.io/v1/storageclasses/{class}");
        let class = self.api.get(&class).await?;
        let node = &meta["annotations"]["volume.kubernetes.io/selected-node"];
        if class["volumeBindingMode"] == "WaitForFirstConsumer" && node.is_null() {
            return Ok(());
        }
        let name = format!("pvc-{}", meta["uid"].as_str().context("a UID")?);
        std::fs::create_dir_all(self.data.join(&name))?;
        let parameters = class["parameters"].as_object().cloned().unwrap_or_default();
        let volume = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": name,
                "annotations": {"pv.kubernetes.io/provisioned-by": self.driver},
            },
            "spec": {
                "accessModes": spec["accessModes"],
                "capacity": spec["resources"]["requests"],
                "claimRef": {
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                    "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"],
                },
                "csi": {"driver": self.driver, "volumeHandle": name, "fsType": "dir", "volumeAttributes": parameters},
                "mountOptions": class["mountOptions"],
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": spec["storageClassName"],
                "volumeMode": spec["volumeMode"],
            },
        });
        // It was made for an earlier event otherwise.
        let _ = self.api.create("/api/v1/persistentvolumes", &volume).await;
        Ok(())
    }

    /// Removes a volume that nobody claims any more.
    async fn reclaim(&self, volume: &Value) -> anyhow::Result<()> {
        let is_left = volume["status"]["phase"] == "Released";
        if volume["spec"]["csi"]["driver"] != self.driver.as_str() || !is_left {
            return Ok(());
        }
        let name = volume["metadata"]["name"].as_str().context("a name")?;
        let directory = self.data.join(name);
        if directory.exists() {
            std::fs::remove_dir_all(directory)?;
            let path = format!("/api/v1/persistentvolumes/{name}");
            self.api.delete(&path).await?;
        }
        Ok(())
    }

    /// Says that a volume is attached, and what the node is to know of that.
    async fn attach(&self, attachment: &Value) -> anyhow::Result<()> {
        let is_done = attachment["status"]["attached"] == true;
        if attachment["spec"]["attacher"] != self.driver.as_str() || is_done {
            return Ok(());
        }
        let name = attachment["metadata"]["name"].as_str().context("a name")?;
        let path = format!("/apis/storage.k8s.io/v1/volumeattachments/{name}/status");
        let status = json!({"status": {"attached": true, "attachmentMetadata": {"path": name}}});
        self.api.patch(&path, &status).await.map(drop)
    }
}
