//! The resources served: one line each in [`RESOURCES`], from which routing, discovery and OpenAPI follow.

mod autoscaling;
mod events;
mod fields;
mod list;

pub use autoscaling::{cpu_utilization, to_autoscaler_v1, to_autoscaler_v2};
pub use events::{to_core_event, to_events_event};
pub use fields::field;
pub use list::RESOURCES;

use serde_json::{Map, Value};

use crate::gvk::{GroupKind, GroupResource, GroupVersion, GroupVersionKind};

/// Words of a group, version and kind known at compile time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gvk {
    /// Empty for core.
    pub group: &'static str,
    /// `v1`.
    pub version: &'static str,
    /// `Pod`.
    pub kind: &'static str,
}

/// A resource.
#[derive(Debug, Clone, Copy)]
pub struct Resource {
    /// What its objects are.
    pub gvk: Gvk,
    /// `pods`.
    pub plural: &'static str,
    /// `pod`.
    pub singular: &'static str,
    /// `po`.
    pub short_names: &'static [&'static str],
    /// Such as `all`.
    pub categories: &'static [&'static str],
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// In the order discovery lists them.
    pub verbs: &'static [&'static str],
    /// In order of their names.
    pub subresources: &'static [Subresource],
    /// Paths a field selector may name, besides `metadata.name` and `metadata.namespace`.
    pub selectable: &'static [&'static str],
    /// The word in storage keys; resources with the same word show the same objects.
    pub storage: &'static str,
    /// The form its objects are stored in.
    pub form: Form,
    /// Whether PUT creates an absent object (spec kubectl-and-api §5.3).
    pub create_on_update: bool,
    /// Whether an update has to say which version of the object it changes.
    pub update_needs_revision: bool,
    /// Whether its objects have a status of their own, which only `/status` writes.
    pub has_status: bool,
    /// Whether its objects are measured when they are asked for. They have no schema: upstream has another server for them.
    pub is_measured: bool,
}

/// The form objects are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As the resource shows them.
    Shown,
    /// As core Events.
    CoreEvent,
    /// As HorizontalPodAutoscalers of autoscaling/v2.
    AutoscalerV2,
}

/// A subresource.
#[derive(Debug, Clone, Copy)]
pub struct Subresource {
    /// `status`.
    pub name: &'static str,
    /// What it takes and gives.
    pub gvk: Gvk,
    /// In the order discovery lists them.
    pub verbs: &'static [&'static str],
}

/// The verbs of a stored resource.
pub const STORED: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

impl Gvk {
    /// With owned words.
    pub fn to_owned(self) -> GroupVersionKind {
        GroupVersionKind::new(self.group, self.version, self.kind)
    }
}

impl Resource {
    const fn new(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
        singular: &'static str,
    ) -> Self {
        Self {
            gvk: Gvk {
                group,
                version,
                kind,
            },
            plural,
            singular,
            short_names: &[],
            categories: &[],
            namespaced: true,
            verbs: STORED,
            subresources: &[],
            selectable: &[],
            storage: plural,
            form: Form::Shown,
            create_on_update: false,
            update_needs_revision: false,
            has_status: false,
            is_measured: false,
        }
    }

    const fn short(mut self, names: &'static [&'static str]) -> Self {
        self.short_names = names;
        self
    }

    const fn in_all(mut self) -> Self {
        self.categories = &["all"];
        self
    }

    const fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn verbs(mut self, verbs: &'static [&'static str]) -> Self {
        self.verbs = verbs;
        self
    }

    const fn sub(mut self, subresources: &'static [Subresource]) -> Self {
        self.subresources = subresources;
        let mut i = 0;
        while i < subresources.len() {
            // `==` on str is not const; no other subresource begins with "st".
            let name = subresources[i].name.as_bytes();
            self.has_status |= name.len() == 6 && name[0] == b's' && name[1] == b't';
            i += 1;
        }
        self
    }

    const fn fields(mut self, paths: &'static [&'static str]) -> Self {
        self.selectable = paths;
        self
    }

    const fn put_creates(mut self) -> Self {
        self.create_on_update = true;
        self
    }

    const fn conditional(mut self) -> Self {
        self.update_needs_revision = true;
        self
    }

    const fn stored(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    const fn measured(mut self) -> Self {
        self.verbs = &["get", "list"];
        self.is_measured = true;
        self
    }

    /// For messages: `pods`, `deployments.apps`.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.gvk.group, self.plural)
    }

    /// For Invalid messages: `Pod`, `Deployment.apps`.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(self.gvk.group, self.gvk.kind)
    }

    /// `v1`, `apps/v1`.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(self.gvk.group, self.gvk.version)
    }

    /// `PodList`.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.gvk.kind)
    }

    /// Whether it allows a verb.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// Whether its objects are kept in the store; the others are measured, or only answer to POST.
    pub fn is_stored(&self) -> bool {
        self.allows("get") && !self.is_measured
    }

    /// Turns an object into the form it is stored in.
    pub fn to_stored(&self, object: &mut Map<String, Value>) {
        match self.form {
            Form::Shown => {}
            Form::CoreEvent => to_core_event(object),
            Form::AutoscalerV2 => to_autoscaler_v2(object),
        }
    }

    /// Turns a stored object into the form it is shown in.
    pub fn to_shown(&self, object: &mut Map<String, Value>) {
        match self.form {
            Form::Shown => {}
            Form::CoreEvent => to_events_event(object),
            Form::AutoscalerV2 => to_autoscaler_v1(object),
        }
    }

    /// The resource that shows the same objects as they are stored.
    pub fn as_stored(&'static self) -> &'static Resource {
        let mut all = RESOURCES.iter();
        let same = all.find(|r| r.storage == self.storage && r.form == Form::Shown);
        same.unwrap_or(self)
    }

    /// A subresource by name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// `/registry/pods/default/web`; without a name, the prefix of a namespace's objects; without both, of all objects.
    pub fn key(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let mut key = format!("/registry/{}/", self.storage);
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            key.push_str(namespace);
            key.push('/');
        }
        key.push_str(name.unwrap_or_default());
        key
    }
}

/// A resource by its place in a URL.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES
        .iter()
        .find(|r| r.plural == plural && r.gvk.group == group && r.gvk.version == version)
}

/// The resource that stores a kind.
pub fn of_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    RESOURCES
        .iter()
        .find(|r| r.gvk.kind == kind && r.gvk.group == group && r.gvk.version == version)
}

/// The resource a word of a user means: plural, singular, short name or kind in any case, with or without `.group`. Earlier lines win.
pub fn named(word: &str) -> Option<&'static Resource> {
    let lower = word.to_ascii_lowercase();
    let (name, group) = lower
        .split_once('.')
        .map_or((lower.as_str(), None), |(name, group)| (name, Some(group)));
    let stored = RESOURCES.iter().filter(|r| {
        group.is_none_or(|g| r.gvk.group == g || format!("{}.{}", r.gvk.version, r.gvk.group) == g)
    });
    stored.into_iter().find(|r| {
        r.plural == name
            || r.singular == name
            || r.short_names.contains(&name)
            || r.gvk.kind.eq_ignore_ascii_case(name)
    })
}

/// The groups with their versions, in the order discovery lists them; core comes first.
pub fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut out = Vec::new();
    for resource in RESOURCES {
        let pair = (resource.gvk.group, resource.gvk.version);
        if !out.contains(&pair) {
            out.push(pair);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;

    #[test]
    fn every_kind_has_a_schema() {
        for resource in RESOURCES.iter().filter(|r| !r.is_measured) {
            let Gvk {
                group,
                version,
                kind,
            } = resource.gvk;
            assert!(Schema::get().of(group, version, kind).is_some(), "{kind}");
            assert_eq!(
                resource.has_status,
                resource.subresource("status").is_some(),
                "{kind}"
            );
            assert!(resource.subresources.is_sorted_by_key(|s| s.name), "{kind}");
        }
    }

    #[test]
    fn lookups() {
        assert_eq!(find("", "v1", "pods").unwrap().gvk.kind, "Pod");
        assert!(find("apps", "v1", "pods").is_none());
        for word in ["po", "pod", "Pod", "pods", "PODS"] {
            assert_eq!(named(word).unwrap().plural, "pods", "{word}");
        }
        assert_eq!(named("events").unwrap().gvk.group, "");
        assert_eq!(
            named("events.events.k8s.io").unwrap().gvk.group,
            "events.k8s.io"
        );
        assert_eq!(
            named("events.v1.events.k8s.io").unwrap().gvk.group,
            "events.k8s.io"
        );
        let versions = ["hpa", "hpa.v2.autoscaling", "hpa.v1.autoscaling"];
        let versions = versions.map(|word| named(word).unwrap().gvk.version);
        assert_eq!(versions, ["v2", "v2", "v1"]);
        assert!(named("nothing").is_none());
        assert_eq!(group_versions()[0], ("", "v1"));
    }

    #[test]
    fn two_resources_may_show_the_same_objects() {
        for resource in RESOURCES.iter().filter(|r| r.is_stored()) {
            let stored = resource.as_stored();
            assert_eq!(stored.form, Form::Shown, "{resource:?}");
            assert_eq!(stored.key(None, None), resource.key(None, None));
        }
        let old = find("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        assert_eq!(old.as_stored().gvk.version, "v2");
    }

    #[test]
    fn keys() {
        let pods = find("", "v1", "pods").unwrap();
        assert_eq!(
            pods.key(Some("default"), Some("web")),
            "/registry/pods/default/web"
        );
        assert_eq!(pods.key(Some("default"), None), "/registry/pods/default/");
        assert_eq!(pods.key(None, None), "/registry/pods/");
        assert_eq!(
            find("", "v1", "nodes").unwrap().key(None, Some("n")),
            "/registry/nodes/n"
        );
        assert_eq!(
            find("events.k8s.io", "v1", "events")
                .unwrap()
                .key(None, None),
            "/registry/events/"
        );
    }
}
