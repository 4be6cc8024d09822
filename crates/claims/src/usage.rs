//! What Pods do with claims (upstream's pvcprotection).

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::{Key, Use};

/// What a Pod does with claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The Pod's UID.
    pub uid: String,
    /// Names of claims in the Pod's namespace.
    pub claims: Vec<String>,
    /// The node it is bound to; empty if it is to none.
    pub node: String,
    /// It will not run any more.
    pub has_ended: bool,
}

impl Needs {
    /// What a Pod needs, if it names claims at all.
    pub fn of(pod: &Pod) -> Option<Needs> {
        let spec = pod.spec.as_ref()?;
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let volumes = spec.volumes.iter().flatten();
        let claims: Vec<String> = volumes
            .filter_map(|volume| api::pod::claim_of(name, volume))
            .map(Cow::into_owned)
            .collect();
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        let needs = Needs {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            claims,
            node: spec.node_name.clone().unwrap_or_default(),
            has_ended: pod.metadata.deletion_timestamp.is_some()
                || matches!(phase, Some("Succeeded" | "Failed")),
        };
        (!needs.claims.is_empty()).then_some(needs)
    }
}

/// What is done with each claim, of Pods by the namespace they are in. A Pod that has ended holds its claims until it is gone, as
/// upstream has it.
pub fn uses<'a>(pods: impl IntoIterator<Item = (&'a str, &'a Needs)>) -> BTreeMap<Key, Use> {
    let mut uses: BTreeMap<Key, Use> = BTreeMap::new();
    for (namespace, needs) in pods {
        for claim in &needs.claims {
            let key = (namespace.to_owned(), claim.clone());
            let found = uses.entry(key).or_default();
            found.is_held |= !needs.node.is_empty();
            found.is_wanted |= !needs.has_ended;
        }
    }
    uses
}
