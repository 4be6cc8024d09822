//! ServiceCIDRs: ranges that the addresses of Services come from (KEP-1880, upstream's pkg/apis/networking/validation).

use api::field::{Error, ErrorList};
use serde_json::{Value, json};

use crate::pod::internal;
use crate::view::{At, dig, entry, list, object, restore, text};
use crate::{Rules, Subresource, generic, meta, net};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(false),
    default: generic::nothing,
    prepare_create: |range| {
        object(range).insert("status".to_owned(), json!({}));
    },
    prepare_update,
    validate_create: |range| meta::validate_new(range, false, "spec", validate_spec),
    validate_update,
};

const IMMUTABLE: &str = "field is immutable";
/// What a write of the status leaves alone of the metadata.
const NOT_OF_STATUS: [&str; 4] = ["labels", "annotations", "finalizers", "ownerReferences"];

/// Changes are not counted: upstream gives these objects no generation.
fn prepare_update(part: Subresource, new: &mut Value, old: &Value) {
    match part {
        Subresource::Status => {
            restore(new, old, "spec");
            let metadata = entry(new, "metadata");
            for field in NOT_OF_STATUS {
                restore(metadata, &old["metadata"], field);
            }
        }
        _ => restore(new, old, "status"),
    }
}

fn validate_spec(spec: &At<'_>) -> ErrorList {
    let networks = spec.get("cidrs");
    match networks.len() {
        0 => {
            return vec![Error::required(
                &networks.path,
                "at least one CIDR required",
            )];
        }
        1 | 2 => {}
        _ => {
            return vec![internal::invalid(
                &networks.path,
                internal::Kind::ServiceCidrSpec,
                spec.value,
                "may only hold up to 2 values",
            )];
        }
    }
    let each = networks.items();
    let mut errors: ErrorList = each
        .flat_map(|network| net::canonical_cidr(&network.path, network.text()))
        .collect();
    if let [first, second] = list(networks.value)
        && net::are_of_one_family(text(first), text(second))
    {
        errors.push(Error::invalid(
            &networks.path,
            networks.value.clone(),
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ));
    }
    errors
}

/// The networks stay; one of the other family may join a single one.
fn validate_update(part: Subresource, new: &Value, old: &Value) -> ErrorList {
    if part == Subresource::Status {
        return ErrorList::new();
    }
    let spec = At::field(new, "spec");
    let networks = spec.get("cidrs");
    let before = list(dig(old, &["spec", "cidrs"]));
    let joins = (before.len(), networks.len()) == (1, 2);
    if !joins && before.len() != networks.len() {
        let shown = networks.value.clone();
        return vec![Error::invalid(&networks.path, shown, IMMUTABLE)];
    }
    let pairs = networks.items().zip(before);
    let mut errors: ErrorList = pairs
        .filter(|(network, before)| network.value != *before)
        .map(|(network, _)| Error::invalid(&network.path, network.text(), IMMUTABLE))
        .collect();
    if joins {
        errors.extend(validate_spec(&spec));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{Subresource, prepare_create, prepare_update};

    #[test]
    fn the_status_has_its_own_path() {
        let resource = "servicecidrs.networking.k8s.io";
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let mut range = json!({"metadata": {"name": "r", "labels": {"a": "b"}}, "spec": {"cidrs": ["10.0.0.0/24"]}, "status": ready});
        prepare_create(resource, &mut range);
        assert_eq!(range["status"], json!({}));
        assert!(range["metadata"].get("generation").is_none());
        let mut changed = range.clone();
        changed["metadata"]["labels"]["a"] = "c".into();
        changed["metadata"]["finalizers"] = json!(["a/b"]);
        changed["spec"]["cidrs"] = json!(["10.0.0.0/24", "fd00::/112"]);
        changed["status"] = ready.clone();
        let mut seen = changed.clone();
        prepare_update(resource, Subresource::Main, &mut changed, &range);
        assert_eq!(changed["spec"]["cidrs"][1], "fd00::/112");
        assert_eq!(changed["metadata"]["labels"]["a"], "c");
        assert_eq!(changed["status"], json!({}));
        prepare_update(resource, Subresource::Status, &mut seen, &range);
        assert_eq!(
            (&seen["metadata"], &seen["spec"], &seen["status"]),
            (&range["metadata"], &range["spec"], &ready)
        );
    }
}
