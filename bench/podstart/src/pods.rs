//! The Pods that are started, as JSON a server takes.

use clap::ValueEnum;
use serde_json::{Value, json};

/// What a Pod consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// One container.
    One,
    /// An init container that writes into a shared volume, a sidecar, and one container.
    Multi,
}

impl Shape {
    pub(crate) fn id(self) -> &'static str {
        match self {
            Shape::One => "one",
            Shape::Multi => "multi",
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Shape::One => "one container",
            Shape::Multi => "1 init + 1 sidecar + 1 app",
        }
    }
}

/// Label that all Pods of one run of the benchmark carry; its value is the run's mark.
pub(crate) const LABEL: &str = "bench-podstart";

/// How Pods are made in one run.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) image: String,
    /// Distinguishes this run's Pods from any other's.
    pub(crate) mark: String,
}

impl Recipe {
    /// Name of the Pod number `index` of a measure.
    pub(crate) fn name(&self, measure: &str, index: usize) -> String {
        format!("bench-{measure}-{}-{index}", self.mark)
    }

    /// A Pod that sleeps until it is deleted, which takes no grace period.
    pub(crate) fn pod(&self, name: &str, shape: Shape) -> Value {
        self.sleeping(name, shape, "3600", "Always")
    }

    /// A Pod of one container that sleeps `seconds` and is never started again.
    pub(crate) fn pod_once(&self, name: &str, seconds: &str) -> Value {
        self.sleeping(name, Shape::One, seconds, "Never")
    }

    fn sleeping(&self, name: &str, shape: Shape, seconds: &str, restart: &str) -> Value {
        let container = |name: &str| {
            json!({
                "name": name,
                "image": self.image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", seconds],
            })
        };
        let mut spec = json!({
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "containers": [container("app")],
        });
        if shape == Shape::Multi {
            let mount = json!([{"name": "w", "mountPath": "/w"}]);
            let (mut init, mut side) = (container("init"), container("side"));
            init["command"] = json!(["sh", "-c", "echo hi > /w/f"]);
            init["volumeMounts"] = mount.clone();
            side["restartPolicy"] = json!("Always");
            side["volumeMounts"] = mount.clone();
            spec["containers"][0]["volumeMounts"] = mount;
            spec["initContainers"] = json!([init, side]);
            spec["volumes"] = json!([{"name": "w", "emptyDir": {}}]);
        }
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {LABEL: self.mark}},
            "spec": spec,
        })
    }
}

/// The same Pod for podman, which knows no sidecars: they become ordinary containers. Its init containers are kept when they
/// have ended (podman-kube-play(1)), for removing one at once fails while podman still takes it for running.
pub(crate) fn for_podman(mut pod: Value) -> Value {
    pod["metadata"]["annotations"] = json!({"io.podman.annotations.init.container.type": "always"});
    let spec = &mut pod["spec"];
    let inits = spec.get_mut("initContainers").and_then(Value::as_array_mut);
    let Some(inits) = inits else {
        return pod;
    };
    let (sidecars, inits): (Vec<Value>, Vec<Value>) = inits
        .drain(..)
        .partition(|container| container["restartPolicy"] == "Always");
    spec["initContainers"] = Value::Array(inits);
    if let Some(containers) = spec["containers"].as_array_mut() {
        containers.extend(sidecars.into_iter().map(|mut sidecar| {
            if let Some(fields) = sidecar.as_object_mut() {
                fields.remove("restartPolicy");
            }
            sidecar
        }));
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        Recipe {
            image: "busybox:1.36".into(),
            mark: "7".into(),
        }
    }

    #[test]
    fn shapes_differ_in_their_containers() {
        let one = recipe().pod("a", Shape::One);
        assert_eq!(one["spec"]["containers"].as_array().map(Vec::len), Some(1));
        assert!(one["spec"]["initContainers"].is_null());
        let multi = recipe().pod("a", Shape::Multi);
        assert_eq!(
            multi["spec"]["initContainers"][1]["restartPolicy"],
            "Always"
        );
        assert!(multi["spec"]["initContainers"][0]["restartPolicy"].is_null());
        assert_eq!(multi["metadata"]["labels"][LABEL], "7");
        let once = recipe().pod_once("a", "12");
        assert_eq!(once["spec"]["restartPolicy"], "Never");
        assert_eq!(once["spec"]["containers"][0]["command"][1], "12");
    }

    #[test]
    fn sidecars_become_containers_elsewhere() {
        let pod = for_podman(recipe().pod("a", Shape::Multi));
        assert_eq!(
            pod["spec"]["initContainers"].as_array().map(Vec::len),
            Some(1)
        );
        assert_eq!(pod["spec"]["containers"][1]["name"], "side");
        assert!(pod["spec"]["containers"][1]["restartPolicy"].is_null());
        let one = recipe().pod("a", Shape::One);
        assert_eq!(for_podman(one.clone())["spec"], one["spec"]);
    }

    #[test]
    fn names_tell_runs_and_pods_apart() {
        assert_eq!(recipe().name("exit", 3), "bench-exit-7-3");
    }
}
