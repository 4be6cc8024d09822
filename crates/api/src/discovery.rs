//! Discovery documents (spec kubectl-and-api §3), generated from the registry: aggregated for modern clients, legacy for the others.

use crate::resource::{Gvk, RESOURCES, Resource, Subresource, group_versions};
use serde_json::{Value, json};

/// The `Content-Type` of the aggregated documents; clients take anything else for a legacy one.
pub const AGGREGATED_CONTENT_TYPE: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Whether one clause of `Accept` asks for the aggregated form at v2.
pub fn accepts_aggregated(clause: &str) -> bool {
    let mut words = clause.split(';').map(str::trim);
    if words.next() != Some("application/json") {
        return false;
    }
    let parameters: Vec<&str> = words.collect();
    ["g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"]
        .iter()
        .all(|p| parameters.contains(p))
}

/// The aggregated document of `/api`.
pub fn aggregated_core() -> Value {
    aggregated(|group| group.is_empty())
}

/// The aggregated document of `/apis`.
pub fn aggregated_groups() -> Value {
    aggregated(|group| !group.is_empty())
}

fn aggregated(wanted: impl Fn(&str) -> bool) -> Value {
    let items: Vec<Value> = groups()
        .into_iter()
        .filter(|group| wanted(group))
        .map(|group| {
            let versions: Vec<Value> = versions(group)
                .map(|version| {
                    let resources: Vec<Value> = resources(group, version)
                        .into_iter()
                        .map(aggregated_resource)
                        .collect();
                    json!({"version": version, "freshness": "Current", "resources": resources})
                })
                .collect();
            let metadata = if group.is_empty() {
                json!({})
            } else {
                json!({"name": group})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

/// Groups in order of priority.
fn groups() -> Vec<&'static str> {
    let mut out = Vec::new();
    for (group, _) in group_versions() {
        if !out.contains(&group) {
            out.push(group);
        }
    }
    out
}

fn versions(group: &str) -> impl Iterator<Item = &'static str> {
    group_versions()
        .into_iter()
        .filter(move |(g, _)| *g == group)
        .map(|(_, version)| version)
}

/// Resources in order of their names.
fn resources(group: &str, version: &str) -> Vec<&'static Resource> {
    let mut out: Vec<_> = RESOURCES
        .iter()
        .filter(|r| r.gvk.group == group && r.gvk.version == version)
        .collect();
    out.sort_by_key(|r| r.plural);
    out
}

fn kind(gvk: Gvk) -> Value {
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

fn aggregated_resource(resource: &Resource) -> Value {
    let mut out = json!({
        "resource": resource.plural,
        "responseKind": kind(resource.gvk),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        out["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        out["categories"] = json!(resource.categories);
    }
    if !resource.subresources.is_empty() {
        let subresources: Vec<Value> = resource
            .subresources
            .iter()
            .map(|s| json!({"subresource": s.name, "responseKind": kind(s.gvk), "verbs": s.verbs}))
            .collect();
        out["subresources"] = subresources.into();
    }
    out
}

/// The legacy document of `/api`; `address` is the server's `host:port`.
pub fn core_versions(address: &str) -> Value {
    let versions: Vec<&str> = versions("").collect();
    json!({"kind": "APIVersions", "versions": versions,
           "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]})
}

/// The legacy document of `/apis`.
pub fn group_list() -> Value {
    let groups: Vec<Value> = groups()
        .into_iter()
        .filter(|g| !g.is_empty())
        .map(group_entry)
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn group_entry(group: &str) -> Value {
    let versions: Vec<Value> = versions(group)
        .map(|version| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    json!({"name": group, "preferredVersion": versions[0], "versions": versions})
}

/// The legacy document of `/apis/GROUP`; `None` for a group not served.
pub fn group(group: &str) -> Option<Value> {
    let known = !group.is_empty() && groups().contains(&group);
    known.then(|| {
        let mut entry = group_entry(group);
        entry["kind"] = "APIGroup".into();
        entry["apiVersion"] = "v1".into();
        entry
    })
}

/// The legacy document of `/api/v1` or `/apis/GROUP/VERSION`; `None` for a version not served.
pub fn resource_list(group: &str, version: &str) -> Option<Value> {
    let mut entries = Vec::new();
    for resource in resources(group, version) {
        entries.push(resource_entry(resource));
        entries.extend(
            resource
                .subresources
                .iter()
                .map(|s| subresource_entry(resource, s)),
        );
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    (!entries.is_empty()).then(|| {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries})
    })
}

fn resource_entry(resource: &Resource) -> Value {
    let mut out = json!({"name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
                         "kind": resource.gvk.kind, "verbs": resource.verbs});
    if !resource.short_names.is_empty() {
        out["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        out["categories"] = json!(resource.categories);
    }
    out
}

fn subresource_entry(resource: &Resource, subresource: &Subresource) -> Value {
    let mut out = json!({"name": format!("{}/{}", resource.plural, subresource.name), "singularName": "",
                         "namespaced": resource.namespaced, "kind": subresource.gvk.kind, "verbs": subresource.verbs});
    if (subresource.gvk.group, subresource.gvk.version)
        != (resource.gvk.group, resource.gvk.version)
    {
        out["group"] = subresource.gvk.group.into();
        out["version"] = subresource.gvk.version.into();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregated_documents() {
        let core = aggregated_core();
        assert_eq!(core["items"].as_array().map(Vec::len), Some(1));
        let resources = core["items"][0]["versions"][0]["resources"]
            .as_array()
            .unwrap();
        let pods = resources.iter().find(|r| r["resource"] == "pods").unwrap();
        assert_eq!(
            pods["responseKind"],
            json!({"group": "", "version": "v1", "kind": "Pod"})
        );
        assert_eq!(
            (&pods["scope"], &pods["shortNames"], &pods["categories"]),
            (&json!("Namespaced"), &json!(["po"]), &json!(["all"]))
        );
        let eviction = pods["subresources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["subresource"] == "eviction")
            .unwrap();
        assert_eq!(eviction["responseKind"]["group"], "policy");
        let groups = aggregated_groups();
        assert!(
            groups["items"]
                .as_array()
                .unwrap()
                .iter()
                .any(|g| g["metadata"]["name"] == "events.k8s.io")
        );
        assert!(
            groups["items"]
                .as_array()
                .unwrap()
                .iter()
                .all(|g| g["metadata"]["name"] != "")
        );
    }

    #[test]
    fn legacy_documents() {
        let list = resource_list("", "v1").unwrap();
        let entries = list["resources"].as_array().unwrap();
        let eviction = entries
            .iter()
            .find(|r| r["name"] == "pods/eviction")
            .unwrap();
        assert_eq!(
            (&eviction["group"], &eviction["version"], &eviction["kind"]),
            (&json!("policy"), &json!("v1"), &json!("Eviction"))
        );
        let status = entries.iter().find(|r| r["name"] == "pods/status").unwrap();
        assert!(status.get("group").is_none());
        assert_eq!(resource_list("nothing", "v1"), None);
        assert_eq!(group("").map(drop), None);
        assert_eq!(
            group("coordination.k8s.io").unwrap()["preferredVersion"]["groupVersion"],
            "coordination.k8s.io/v1"
        );
        assert_eq!(core_versions("h:1")["versions"], json!(["v1"]));
        assert_eq!(group_list()["kind"], "APIGroupList");
    }

    #[test]
    fn accept_clauses() {
        for (clause, aggregated) in [
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                true,
            ),
            (
                "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io;profile=nopeer",
                true,
            ),
            (
                "application/json; g=apidiscovery.k8s.io; v=v2beta1; as=APIGroupDiscoveryList",
                false,
            ),
            ("application/json", false),
            ("*/*", false),
        ] {
            assert_eq!(accepts_aggregated(clause), aggregated, "{clause}");
        }
    }
}
