//! The downward API: fields and resources of a Pod as text (spec `§9.3`, `§10.4`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

/// What the fields are read from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// The Pod.
    pub(crate) pod: &'a Pod,
    /// Its addresses, primary first; the node's with hostNetwork.
    pub(crate) pod_ips: &'a [IpAddr],
    /// The node's addresses, primary first.
    pub(crate) host_ips: &'a [IpAddr],
    /// What the node gives: the answer where no limit is set.
    pub(crate) allocatable: &'a BTreeMap<String, Wire>,
}

impl Source<'_> {
    /// The text of a `fieldRef`, labels and annotations as a map included.
    pub(crate) fn field(&self, path: &str) -> Result<String, String> {
        let meta = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let text = match path {
            "metadata.name" => meta.name.clone(),
            "metadata.namespace" => meta.namespace.clone(),
            "metadata.uid" => meta.uid.clone(),
            "metadata.labels" => Some(map_text(meta.labels.as_ref())),
            "metadata.annotations" => Some(map_text(meta.annotations.as_ref())),
            "spec.nodeName" => spec.and_then(|s| s.node_name.clone()),
            "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()),
            "status.hostIP" => self.host_ips.first().map(ToString::to_string),
            "status.hostIPs" => Some(joined(self.host_ips)),
            "status.podIP" => self.pod_ips.first().map(ToString::to_string),
            "status.podIPs" => Some(joined(self.pod_ips)),
            _ => {
                let keyed = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix("']");
                let (map, key) = match (keyed("metadata.labels['"), keyed("metadata.annotations['"))
                {
                    (Some(key), _) => (meta.labels.as_ref(), key),
                    (None, Some(key)) => (meta.annotations.as_ref(), key),
                    (None, None) => return Err(format!("unsupported fieldPath: {path}")),
                };
                map.and_then(|m| m.get(key)).cloned()
            }
        };
        Ok(text.unwrap_or_default())
    }

    /// The text of a `resourceFieldRef`; `own` is the container it stands in, for volumes none.
    pub(crate) fn resource(
        &self,
        selector: &ResourceFieldSelector,
        own: Option<&Container>,
    ) -> Result<String, String> {
        let container = match selector
            .container_name
            .as_deref()
            .filter(|name| !name.is_empty())
        {
            Some(name) => self
                .container(name)
                .ok_or_else(|| format!("container {name} not found"))?,
            None => own.ok_or("no container name")?,
        };
        let (kind, resource) = selector
            .resource
            .split_once('.')
            .filter(|(kind, _)| matches!(*kind, "limits" | "requests"))
            .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?;
        let resources = container.resources.as_ref();
        let (limits, requests) = (
            resources.and_then(|r| r.limits.as_ref()),
            resources.and_then(|r| r.requests.as_ref()),
        );
        let set =
            if kind == "limits" { limits } else { requests }.and_then(|list| list.get(resource));
        let of_pod = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.resources.as_ref()?.limits.as_ref()?.get(resource));
        let fallback = || of_pod.or_else(|| self.allocatable.get(resource));
        let wire = if kind == "limits" {
            set.or_else(fallback)
        } else {
            set
        };
        let value = wire
            .map(Quantity::try_from)
            .transpose()
            .map_err(|e| e.to_string())?;
        let divisor = selector
            .divisor
            .as_ref()
            .map(Quantity::try_from)
            .transpose()
            .map_err(|e| e.to_string())?;
        Ok(divided(value, divisor, resource).to_string())
    }

    fn container(&self, name: &str) -> Option<&Container> {
        let spec = self.pod.spec.as_ref()?;
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .find(|c| c.name == name)
    }
}

/// `ceil(value / divisor)`; processors are counted in thousandths on both sides.
fn divided(value: Option<Quantity>, divisor: Option<Quantity>, resource: &str) -> i64 {
    let Some(value) = value else { return 0 };
    let divisor = divisor
        .filter(|d| !d.is_zero())
        .unwrap_or_else(|| Quantity::from_i64(1));
    let (value, divisor) = if resource == "cpu" {
        (value.milli_value(), divisor.milli_value())
    } else {
        (value.value(), divisor.value())
    };
    let divisor = divisor.max(1);
    value / divisor + i64::from(value % divisor > 0)
}

fn joined(ips: &[IpAddr]) -> String {
    ips.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// `key="value"` a line, sorted, values quoted as Go quotes.
fn map_text(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", api::gotext::quote(v)))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2", "a": "x\n\"y\""}},
            "spec": {"nodeName": "node", "serviceAccountName": "sa", "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "100m"}}},
                {"name": "d"}
            ]}
        }))
        .unwrap()
    }

    #[test]
    fn fields_read_as_upstream_writes_them() {
        let pod = pod();
        let ips = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let allocatable = BTreeMap::new();
        let source = Source {
            pod: &pod,
            pod_ips: &ips,
            host_ips: &ips[..1],
            allocatable: &allocatable,
        };
        let rows = [
            ("metadata.name", "p"),
            ("metadata.uid", "u"),
            ("metadata.labels", "a=\"x\\n\\\"y\\\"\"\nb=\"2\""),
            ("metadata.labels['b']", "2"),
            ("metadata.labels['no']", ""),
            ("metadata.annotations", ""),
            ("spec.nodeName", "node"),
            ("status.podIP", "10.0.0.2"),
            ("status.podIPs", "10.0.0.2,fd00::2"),
            ("status.hostIPs", "10.0.0.2"),
        ];
        for (path, want) in rows {
            assert_eq!(source.field(path).as_deref(), Ok(want), "{path}");
        }
        assert!(source.field("status.phase").is_err());
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let pod = pod();
        let allocatable = BTreeMap::from([
            ("cpu".to_owned(), Wire("4".into())),
            ("memory".to_owned(), Wire("1Gi".into())),
        ]);
        let source = Source {
            pod: &pod,
            pod_ips: &[],
            host_ips: &[],
            allocatable: &allocatable,
        };
        let rows = [
            ("c", "limits.cpu", None, "2"),
            ("c", "limits.cpu", Some("1m"), "1500"),
            ("c", "limits.memory", Some("1Mi"), "64"),
            ("c", "limits.memory", None, "67108864"),
            ("c", "requests.cpu", Some("1m"), "100"),
            ("c", "requests.memory", None, "0"),
            ("d", "limits.cpu", None, "4"),
            ("d", "limits.memory", Some("1Gi"), "1"),
        ];
        for (container, resource, divisor, want) in rows {
            let selector = ResourceFieldSelector {
                container_name: Some(container.into()),
                resource: resource.into(),
                divisor: divisor.map(|d| Wire(d.into())),
            };
            assert_eq!(
                source.resource(&selector, None).as_deref(),
                Ok(want),
                "{container} {resource} {divisor:?}"
            );
        }
    }
}
