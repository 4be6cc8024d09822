//! What drivers of the Container Storage Interface tell of themselves: CSIDrivers, CSINodes and CSIStorageCapacities (upstream's
//! pkg/apis/storage).

use std::collections::BTreeSet;

use api::field::{Error, ErrorList};
use api::names;
use serde_json::{Value, json};

use crate::meta::{self, count_generation, immutable, immutable_struct, invalid_text};
use crate::pod::internal::Kind;
use crate::pod::{deprecated_label, deprecated_requirements, label_selector, non_negative};
use crate::resources::non_negative_quantity;
use crate::view::{At, dig, entry, get, is_zero, remove, same, set_if_absent};
use crate::{Rules, Subresource, generic};

pub(crate) const DRIVER_RULES: Rules = Rules {
    namespaced: Some(false),
    default: default_driver,
    prepare_create: forget_ungated,
    prepare_update: |_, new, old| {
        if dig(old, &["spec", UNGATED]).is_null() {
            forget_ungated(new);
        }
        let changed = !same(get(new, "spec"), get(old, "spec"));
        count_generation(new, old, changed);
    },
    validate_create: |driver| meta::validate_new(driver, false, "spec", validate_driver),
    validate_update: |_, new, old| {
        let (spec, before) = (At::field(new, "spec"), get(old, "spec"));
        let mut errors = validate_driver(&spec);
        let attach = spec.get("attachRequired");
        let attach = attach.reported_at(spec.path.child(ATTACH));
        errors.extend(immutable(&attach, get(before, "attachRequired")));
        let modes = spec.get("volumeLifecycleModes");
        errors.extend(immutable(&modes, get(before, "volumeLifecycleModes")));
        errors
    },
};

pub(crate) const NODE_RULES: Rules = Rules {
    namespaced: Some(false),
    default: generic::nothing,
    prepare_create: generic::nothing,
    prepare_update: generic::keep,
    validate_create: validate_node,
    validate_update: validate_node_update,
};

pub(crate) const CAPACITY_RULES: Rules = Rules {
    namespaced: Some(true),
    default: generic::nothing,
    prepare_create: generic::nothing,
    prepare_update: generic::keep,
    validate_create: validate_capacity,
    validate_update: |_, new, old| {
        let mut errors = validate_capacity(new);
        for name in ["nodeTopology", "storageClassName"] {
            errors.extend(immutable(&At::field(new, name), get(old, name)));
        }
        errors
    },
};

/// The field of a driver that upstream does not keep by default (feature VolumeLimitScaling).
const UNGATED: &str = "preventPodSchedulingIfMissing";
/// How upstream reports `attachRequired`.
const ATTACH: &str = "attachedRequired";
const MAX_NAME: usize = 63;
const MAX_NODE_ID: usize = 256;
const GROUP_POLICIES: [&str; 3] = ["File", "None", "ReadWriteOnceWithFSType"];
const MODES: [&str; 2] = ["Persistent", "Ephemeral"];
/// Seconds: ten minutes, and upstream's longest.
const TOKEN_LIFE: (i64, i64) = (600, 1 << 32);
/// Seconds.
const SHORTEST_PERIOD: i64 = 10;

/// A driver's name where something names it.
pub(crate) fn driver_name(at: &At<'_>) -> ErrorList {
    if at.text().is_empty() {
        return vec![Error::required(&at.path, "")];
    }
    let mut errors = ErrorList::new();
    if at.text().len() > MAX_NAME {
        errors.push(Error::too_long(&at.path, MAX_NAME));
    }
    let name = at.text().to_lowercase();
    errors.extend(invalid_text(at, names::dns1123_subdomain(&name)));
    errors
}

/// What a client is told about a driver besides the answer: that its Pods' tokens may be logged.
pub(crate) fn driver_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let requests = dig(new, &["spec", "tokenRequests"]);
    let is_said = dig(new, &["spec", "serviceAccountTokenInSecrets"]).is_boolean();
    let is_old = old.is_some_and(|old| same(dig(old, &["spec", "tokenRequests"]), requests));
    if is_zero(requests) || is_said || is_old {
        return Vec::new();
    }
    let text = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";
    vec![text.to_owned()]
}

/// What a client is told about a capacity besides the answer: names of nodes' labels that are no more.
pub(crate) fn capacity_warnings(capacity: &Value) -> Vec<String> {
    let topology = At::field(capacity, "nodeTopology");
    let mut found = deprecated_requirements(&topology.get("matchExpressions"));
    let labels = topology.get("matchLabels");
    for (key, _) in labels.entries() {
        let path = labels.path.child(key);
        found.extend(deprecated_label(key).map(|why| format!("{path}: {why}")));
    }
    found
}

fn default_driver(driver: &mut Value) {
    let spec = entry(driver, "spec");
    set_if_absent(spec, "attachRequired", true);
    set_if_absent(spec, "podInfoOnMount", false);
    set_if_absent(spec, "storageCapacity", false);
    set_if_absent(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if is_zero(get(spec, "volumeLifecycleModes")) {
        remove(spec, "volumeLifecycleModes");
        set_if_absent(spec, "volumeLifecycleModes", json!(["Persistent"]));
    }
    set_if_absent(spec, "requiresRepublish", false);
    set_if_absent(spec, "seLinuxMount", false);
}

fn forget_ungated(driver: &mut Value) {
    remove(entry(driver, "spec"), UNGATED);
}

fn validate_driver(spec: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let policy = spec.get("fsGroupPolicy");
    if policy.given() && !GROUP_POLICIES.contains(&policy.text()) {
        errors.push(Error::not_supported(
            &policy.path,
            policy.text(),
            &GROUP_POLICIES,
        ));
    }
    let requests = spec.get("tokenRequests");
    errors.extend(tokens(&requests));
    let modes = spec.get("volumeLifecycleModes");
    for mode in modes.items() {
        if !MODES.contains(&mode.text()) {
            errors.push(Error::not_supported(&modes.path, mode.text(), &MODES));
        }
    }
    let period = spec.get("nodeAllocatableUpdatePeriodSeconds");
    if let Some(seconds) = period.int()
        && seconds < SHORTEST_PERIOD
    {
        let why = "must be greater than or equal to 10 seconds";
        errors.push(Error::invalid(&period.path, seconds, why));
    }
    let in_secrets = spec.get("serviceAccountTokenInSecrets");
    if in_secrets.given() && requests.len() == 0 {
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.push(Error::invalid(
            &in_secrets.path,
            in_secrets.value.clone(),
            why,
        ));
    }
    errors
}

/// Tokens for several audiences; one may leave its audience out.
fn tokens(requests: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut audiences = BTreeSet::new();
    for request in requests.items() {
        let audience = request.get("audience");
        if !audiences.insert(audience.text()) {
            errors.push(Error::duplicate(&audience.path, audience.text()));
            continue;
        }
        let life = request.get("expirationSeconds");
        let why = match life.int() {
            Some(seconds) if seconds < TOKEN_LIFE.0 => {
                "may not specify a duration less than 10 minutes"
            }
            Some(seconds) if seconds > TOKEN_LIFE.1 => {
                "may not specify a duration larger than 2^32 seconds"
            }
            _ => continue,
        };
        errors.push(Error::invalid(&life.path, life.value.clone(), why));
    }
    errors
}

fn validate_node(node: &Value) -> ErrorList {
    let mut errors = meta::validate(node, false, names::dns1123_subdomain);
    let mut drivers = BTreeSet::new();
    for driver in At::field(node, "spec").get("drivers").items() {
        let name = driver.get("name");
        errors.extend(driver_name(&name));
        errors.extend(node_id(&driver.get("nodeID")));
        errors.extend(non_negative(&driver.get("allocatable").get("count")));
        if !drivers.insert(name.text()) {
            errors.push(Error::duplicate(&name.path, name.text()));
        }
        errors.extend(topology_keys(&driver));
    }
    errors
}

fn node_id(id: &At<'_>) -> Option<Error> {
    match id.text() {
        "" => Some(Error::required(&id.path, "")),
        text if text.len() > MAX_NODE_ID => {
            let why = format!("must be {MAX_NODE_ID} characters or less");
            Some(Error::invalid(&id.path, text, why))
        }
        _ => None,
    }
}

/// Upstream reports them at the driver.
fn topology_keys(driver: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for key in driver.get("topologyKeys").items() {
        if key.text().is_empty() {
            errors.push(Error::required(&driver.path, ""));
        }
        if !seen.insert(key.text()) {
            errors.push(Error::duplicate(&driver.path, key.text()));
        }
        let wrong = names::qualified_name(key.text()).into_iter();
        errors.extend(wrong.map(|why| Error::invalid(&driver.path, key.text(), why)));
    }
    errors
}

/// Of a driver that was there before only the number of volumes may change.
fn validate_node_update(_: Subresource, new: &Value, old: &Value) -> ErrorList {
    let mut errors = validate_node(new);
    let drivers = At::field(new, "spec").get("drivers");
    let fixed = |driver: &Value| {
        let mut driver = driver.clone();
        remove(&mut driver, "allocatable");
        driver
    };
    for before in At::field(old, "spec").get("drivers").items() {
        for now in drivers.items() {
            if now.get("name").text() == before.get("name").text() {
                let (now, before) = (fixed(now.value), fixed(before.value));
                let now = At {
                    path: drivers.path.clone(),
                    value: &now,
                };
                errors.extend(immutable_struct(&now, &before, Kind::NodeDriver));
            }
        }
    }
    errors
}

fn validate_capacity(capacity: &Value) -> ErrorList {
    let mut errors = meta::validate(capacity, true, names::dns1123_subdomain);
    let topology = At::field(capacity, "nodeTopology");
    if topology.given() {
        errors.extend(label_selector(&topology));
    }
    let class = At::field(capacity, "storageClassName");
    errors.extend(invalid_text(&class, names::dns1123_subdomain(class.text())));
    let amount = At::field(capacity, "capacity");
    errors.extend(non_negative_quantity(&amount));
    errors
}
