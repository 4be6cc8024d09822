//! The Pods of a set: their names, and what tells them from any other Pod.

use k8s_openapi::api::apps::v1::StatefulSetSpec;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaimVolumeSource, Pod, PodSpec, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{POD_INDEX_LABEL, POD_NAME_LABEL, claim};
use crate::history::REVISION_LABEL;
use crate::object::name;
use crate::pod;

/// The name of the Pod of this ordinal.
pub(super) fn pod_name(set: &str, ordinal: i32) -> String {
    format!("{set}-{ordinal}")
}

/// Which of the set's Pods has this name. (Upstream takes `web-01` for another one of ordinal 1.)
pub(super) fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let ordinal: i32 = digits.parse().ok()?;
    Some(ordinal).filter(|n| n.to_string() == digits)
}

/// The revision a Pod was made from; empty if it does not say so.
pub(super) fn revision(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    let revision = labels.and_then(|l| l.get(REVISION_LABEL));
    revision.map(String::as_str).unwrap_or_default()
}

/// The Pod of this ordinal, made from a template, which is that of the revision of this name.
pub(super) fn new(
    spec: &StatefulSetSpec,
    reference: &OwnerReference,
    ordinal: i32,
    template: &PodTemplateSpec,
    revision: &str,
) -> Pod {
    let mut pod = pod::from_template(reference, template);
    let own = pod_name(&reference.name, ordinal);
    pod.metadata.name = Some(own.clone());
    identify(&mut pod, &own, ordinal);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), revision.to_owned());
    let inner = pod.spec.get_or_insert_default();
    inner.hostname = Some(own);
    inner.subdomain = spec.service_name.clone().filter(|s| !s.is_empty());
    mount(spec, &reference.name, ordinal, inner);
    pod
}

/// The Pod as it should be, if it is not.
pub(super) fn mended(
    spec: &StatefulSetSpec,
    set: &str,
    ordinal: i32,
    pod: &Pod,
) -> Option<Box<Pod>> {
    let mut mended = pod.clone();
    identify(&mut mended, name(&pod.metadata), ordinal);
    if !has_storage(spec, set, ordinal, pod) {
        let inner = mended.spec.get_or_insert_default();
        mount(spec, set, ordinal, inner);
    }
    (mended != *pod).then(|| Box::new(mended))
}

fn identify(pod: &mut Pod, name: &str, ordinal: i32) {
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME_LABEL.to_owned(), name.to_owned());
    labels.insert(POD_INDEX_LABEL.to_owned(), ordinal.to_string());
}

/// Whether all the claims of the Pod of this ordinal are among its volumes.
pub(super) fn has_storage(spec: &StatefulSetSpec, set: &str, ordinal: i32, pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_ref());
    let is_mounted = |(volume, claim): (&str, String)| {
        let mut volumes = volumes.into_iter().flatten();
        let found = volumes.find(|v| v.name == volume);
        let source = found.and_then(|v| v.persistent_volume_claim.as_ref());
        source.is_some_and(|s| s.claim_name == claim)
    };
    claim::names(spec, set, ordinal).all(is_mounted)
}

/// The claims become volumes, instead of others of their names.
fn mount(spec: &StatefulSetSpec, set: &str, ordinal: i32, pod: &mut PodSpec) {
    let claims = claim::names(spec, set, ordinal);
    let mut volumes: Vec<Volume> = claims.map(|(name, claim)| volume(name, claim)).collect();
    if volumes.is_empty() {
        return;
    }
    let claims = volumes.len();
    for other in pod.volumes.take().into_iter().flatten() {
        let is_claim = volumes[..claims].iter().any(|v| v.name == other.name);
        if !is_claim {
            volumes.push(other);
        }
    }
    pod.volumes = Some(volumes);
}

fn volume(name: &str, claim_name: String) -> Volume {
    Volume {
        name: name.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name,
            read_only: None,
        }),
        ..Volume::default()
    }
}
