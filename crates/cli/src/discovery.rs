//! Which resources a server has, and which of them a user's word means.

use anyhow::bail;
use serde_json::Value;

use crate::connect::Server;

/// A resource as discovery tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resource {
    /// Empty for the core group.
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
}

/// Everything a server serves, preferred versions first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resources(pub(crate) Vec<Resource>);

impl Resource {
    /// Path of the collection, in a namespace when it has namespaces and one is given.
    pub(crate) fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.plural),
            None => format!("{root}/{}", self.plural),
        }
    }

    /// Path of one object.
    pub(crate) fn object(&self, namespace: Option<&str>, name: &str) -> String {
        format!("{}/{name}", self.collection(namespace))
    }

    /// `v1`, `apps/v1`
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pod`, `deployment.apps`: how messages name it.
    pub(crate) fn qualified(&self) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() {
            kind
        } else {
            format!("{kind}.{}", self.group)
        }
    }

    fn is_called(&self, word: &str) -> bool {
        let (name, rest) = word
            .split_once('.')
            .map_or((word, None), |(name, rest)| (name, Some(rest)));
        let of_group = rest.is_none_or(|rest| {
            rest == self.group
                || rest == format!("{}.{}", self.version, self.group)
                || (self.group.is_empty() && rest == self.version)
        });
        let named = name == self.plural
            || name == self.singular
            || name == self.kind.to_lowercase()
            || self.short_names.iter().any(|short| short == name);
        of_group && named
    }
}

impl Resources {
    /// Asks the server.
    pub(crate) async fn discover(server: &Server) -> anyhow::Result<Resources> {
        const AGGREGATED: &str =
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let mut resources = Vec::new();
        for root in ["/api", "/apis"] {
            resources.extend(read(&server.get(root, AGGREGATED).await?));
        }
        Ok(Resources(resources))
    }

    /// The resource a word means, in any of its forms.
    pub(crate) fn find(&self, word: &str) -> anyhow::Result<&Resource> {
        let lower = word.to_lowercase();
        match self.0.iter().find(|resource| resource.is_called(&lower)) {
            Some(resource) => Ok(resource),
            None => bail!("the server doesn't have a resource type \"{word}\""),
        }
    }

    /// The resource of a manifest.
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.0.iter().find(|resource| {
            resource.group == group && resource.version == version && resource.kind == kind
        })
    }

    /// Every listable resource of a category (`all`).
    pub(crate) fn in_category<'a>(
        &'a self,
        category: &'a str,
    ) -> impl Iterator<Item = &'a Resource> {
        self.0.iter().filter(move |resource| {
            resource.categories.iter().any(|c| c == category)
                && resource.verbs.iter().any(|verb| verb == "list")
        })
    }
}

/// Reads an aggregated discovery document.
fn read(document: &Value) -> Vec<Resource> {
    let mut resources = Vec::new();
    for group in document["items"].as_array().into_iter().flatten() {
        for version in group["versions"].as_array().into_iter().flatten() {
            for resource in version["resources"].as_array().into_iter().flatten() {
                resources.push(Resource {
                    group: text(&group["metadata"]["name"]),
                    version: text(&version["version"]),
                    kind: text(&resource["responseKind"]["kind"]),
                    plural: text(&resource["resource"]),
                    singular: text(&resource["singularResource"]),
                    short_names: texts(&resource["shortNames"]),
                    categories: texts(&resource["categories"]),
                    namespaced: resource["scope"] == "Namespaced",
                    verbs: texts(&resource["verbs"]),
                });
            }
        }
    }
    resources
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resources() -> Resources {
        let resource = |plural: &str, kind: &str, short: &[&str], scope: &str| json!({"resource": plural, "responseKind": {"kind": kind}, "singularResource": kind.to_lowercase(), "shortNames": short, "scope": scope, "verbs": ["get", "list"], "categories": ["all"]});
        let core = json!({"items": [{"metadata": {}, "versions": [{"version": "v1", "resources": [resource("pods", "Pod", &["po"], "Namespaced"), resource("nodes", "Node", &["no"], "Cluster")]}]}]});
        let apps = json!({"items": [{"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [resource("deployments", "Deployment", &["deploy"], "Namespaced")]}]}]});
        Resources([read(&core), read(&apps)].concat())
    }

    #[test]
    fn finds_a_resource_under_every_name() {
        let resources = resources();
        for word in ["po", "pod", "pods", "Pod", "pods.v1"] {
            assert_eq!(resources.find(word).expect(word).plural, "pods");
        }
        for word in ["deploy", "deployments.apps", "deployment.v1.apps"] {
            assert_eq!(
                resources.find(word).expect(word).qualified(),
                "deployment.apps"
            );
        }
        assert_eq!(
            resources
                .find("things")
                .expect_err("no such type")
                .to_string(),
            "the server doesn't have a resource type \"things\""
        );
        assert!(resources.of_kind("apps/v1", "Deployment").is_some());
        assert!(resources.of_kind("v1", "Deployment").is_none());
    }

    #[test]
    fn builds_paths() {
        let resources = resources();
        assert_eq!(
            resources.find("po").expect("pods").object(Some("ns"), "p"),
            "/api/v1/namespaces/ns/pods/p"
        );
        assert_eq!(
            resources.find("no").expect("nodes").object(Some("ns"), "n"),
            "/api/v1/nodes/n"
        );
        assert_eq!(
            resources
                .find("deploy")
                .expect("deployments")
                .collection(None),
            "/apis/apps/v1/deployments"
        );
    }
}
