//! Which families of addresses a Service has, and how that may change (KEP-563; upstream's Service storage decides the same between
//! preparing and validating).

use api::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use super::{kind, validate};
use crate::view::{self, dig, list, same, text};

/// The two families, as the API names them.
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// Fills in `ipFamilyPolicy` and `ipFamilies` as far as the client left them open, and releases the second family where the policy gives
/// it up. `configured` are the families of the ranges of Services, the primary one first. The errors are all there is to say then.
pub fn settle_families(
    service: &mut Value,
    old: Option<&Value>,
    configured: &[&'static str],
) -> ErrorList {
    if kind(service) == "ExternalName" || old.is_some_and(|old| prefers_the_same(service, old)) {
        return ErrorList::new();
    }
    if policy(service).is_empty() {
        let own = old.map(policy).filter(|own| !own.is_empty());
        let by_kind = match is_headless_without_selector(service) {
            true => "RequireDualStack",
            false => "SingleStack",
        };
        let settled = own.unwrap_or(by_kind).to_owned();
        set(service, "ipFamilyPolicy", settled.into());
    }
    let errors = validate::cluster_addresses(service, old);
    if !errors.is_empty() {
        return errors;
    }
    let mut errors = match old {
        Some(old) => release_second(service, old),
        None => ErrorList::new(),
    };
    errors.extend(too_many(service));
    errors.extend(add_families_of_addresses(service, configured));
    if errors.is_empty() {
        errors = fill_up(service, configured);
    }
    errors
}

/// One that preferred two families and got one is not looked at again until something of that changes.
fn prefers_the_same(new: &Value, old: &Value) -> bool {
    let prefers = |service| policy(service) == "PreferDualStack";
    let unchanged = |name| same(dig(new, &["spec", name]), dig(old, &["spec", name]));
    let prefer = prefers(new) && (policy(old).is_empty() || prefers(old));
    prefer
        && ["type", "clusterIPs", "ipFamilies"]
            .into_iter()
            .all(unchanged)
}

/// With one family alone the second goes, unless the client has a new one in mind; else it stays.
fn release_second(service: &mut Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    for (name, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let (has, had) = (
            field(service, name).to_vec(),
            list(dig(old, &["spec", name])),
        );
        if policy(service) == "SingleStack" {
            if has == had && has.len() > 1 {
                set(service, name, json!([has[0]]));
            }
        } else if !has.is_empty() && has.len() < had.len() {
            let detail = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(Error::invalid(
                &at("ipFamilyPolicy"),
                policy(service),
                detail,
            ));
        }
    }
    errors
}

fn too_many(service: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    for (name, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
        if policy(service) == "SingleStack" && field(service, name).len() == 2 {
            let detail = format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            );
            errors.push(Error::invalid(
                &at("ipFamilyPolicy"),
                policy(service),
                detail,
            ));
        }
    }
    errors
}

/// Who asks for an address asks for its family.
fn add_families_of_addresses(service: &mut Value, configured: &[&str]) -> ErrorList {
    let mut errors = ErrorList::new();
    let addresses = field(service, "clusterIPs").to_vec();
    if addresses.first().map(text) == Some("None") {
        return errors;
    }
    let known = field(service, "ipFamilies").len();
    for (n, address) in addresses.iter().enumerate().skip(known) {
        let family = FAMILIES[usize::from(text(address).contains(':'))];
        if configured.contains(&family) {
            push(service, family);
        } else {
            let detail = format!("{family} is not configured on this cluster");
            let shown = Value::Array(addresses.clone());
            errors.push(Error::invalid(&at("clusterIPs").index(n), shown, detail));
        }
    }
    errors
}

/// The families that are left open.
fn fill_up(service: &mut Value, configured: &[&'static str]) -> ErrorList {
    let is_anywhere = is_headless_without_selector(service);
    let errors = match is_anywhere {
        true => ErrorList::new(),
        false => unconfigured(service, configured),
    };
    if !errors.is_empty() {
        return errors;
    }
    if field(service, "ipFamilies").is_empty() {
        push(service, configured.first().copied().unwrap_or(FAMILIES[0]));
    }
    let can_have_two = is_anywhere || configured.len() == 2;
    let [only] = field(service, "ipFamilies") else {
        return errors;
    };
    if policy(service) != "SingleStack" && can_have_two {
        let other = FAMILIES[usize::from(text(only) == FAMILIES[0])];
        push(service, other);
    }
    errors
}

fn unconfigured(service: &Value, configured: &[&str]) -> ErrorList {
    let mut errors = ErrorList::new();
    if policy(service) == "RequireDualStack" && configured.len() < 2 {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(Error::invalid(
            &at("ipFamilyPolicy"),
            policy(service),
            detail,
        ));
    }
    for (n, family) in field(service, "ipFamilies").iter().enumerate() {
        if !configured.contains(&text(family)) {
            let path = at("ipFamilies").index(n);
            let detail = "not configured on this cluster";
            errors.push(Error::invalid(&path, text(family), detail));
        }
    }
    errors
}

/// Its endpoints are what somebody writes down, of whatever family.
fn is_headless_without_selector(service: &Value) -> bool {
    let selector = dig(service, &["spec", "selector"]).as_object();
    text(dig(service, &["spec", "clusterIP"])) == "None"
        && selector.is_none_or(serde_json::Map::is_empty)
}

fn policy(service: &Value) -> &str {
    text(dig(service, &["spec", "ipFamilyPolicy"]))
}

fn field<'a>(service: &'a Value, name: &str) -> &'a [Value] {
    list(dig(service, &["spec", name]))
}

fn set(service: &mut Value, name: &str, value: Value) {
    view::object(view::entry(service, "spec")).insert(name.to_owned(), value);
}

fn push(service: &mut Value, family: &str) {
    let mut families = field(service, "ipFamilies").to_vec();
    families.push(family.into());
    set(service, "ipFamilies", families.into());
}

fn at(name: &str) -> Path {
    Path::new("spec").child(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &[&str] = &["IPv4"];
    const V6: &[&str] = &["IPv6"];
    const BOTH: &[&str] = &["IPv4", "IPv6"];
    const BOTH_V6: &[&str] = &["IPv6", "IPv4"];

    /// Policy, families and addresses after settling, or the errors.
    fn settled(spec: Value, old: Option<Value>, configured: &[&'static str]) -> String {
        let full = |mut spec: Value| {
            view::set_if_zero(&mut spec, "type", "ClusterIP");
            json!({"spec": spec})
        };
        let mut service = full(spec);
        let errors = settle_families(&mut service, old.map(full).as_ref(), configured);
        if !errors.is_empty() {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return texts.join("; ");
        }
        let joined = |name| {
            let texts: Vec<&str> = field(&service, name).iter().map(text).collect();
            texts.join(",")
        };
        let (families, addresses) = (joined("ipFamilies"), joined("clusterIPs"));
        format!("{} {families} {addresses}", policy(&service))
            .trim()
            .to_owned()
    }

    #[test]
    fn what_is_left_open_follows_the_cluster() {
        let headless = || json!({"clusterIP": "None", "clusterIPs": ["None"]});
        let selecting =
            || json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"}});
        let of = |policy: &str| json!({"ipFamilyPolicy": policy});
        for (spec, configured, expected) in [
            (json!({}), V4, "SingleStack IPv4"),
            (json!({}), V6, "SingleStack IPv6"),
            (json!({}), BOTH_V6, "SingleStack IPv6"),
            (of("PreferDualStack"), V4, "PreferDualStack IPv4"),
            (of("PreferDualStack"), BOTH, "PreferDualStack IPv4,IPv6"),
            (
                of("RequireDualStack"),
                BOTH_V6,
                "RequireDualStack IPv6,IPv4",
            ),
            (headless(), V4, "RequireDualStack IPv4,IPv6 None"),
            (headless(), V6, "RequireDualStack IPv6,IPv4 None"),
            (selecting(), V4, "SingleStack IPv4 None"),
            (selecting(), BOTH, "SingleStack IPv4 None"),
            (
                json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "PreferDualStack"}),
                BOTH,
                "PreferDualStack IPv6,IPv4",
            ),
            (
                json!({"clusterIP": "fd00::7", "clusterIPs": ["fd00::7"]}),
                BOTH,
                "SingleStack IPv6 fd00::7",
            ),
            (json!({"type": "ExternalName"}), BOTH, ""),
        ] {
            assert_eq!(settled(spec.clone(), None, configured), expected, "{spec}");
        }
    }

    #[test]
    fn what_the_cluster_does_not_have_is_refused() {
        for (spec, configured, expected) in [
            (
                json!({"ipFamilyPolicy": "RequireDualStack"}),
                V4,
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
            ),
            (
                json!({"ipFamilies": ["IPv6"]}),
                V4,
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
            ),
            (
                json!({"clusterIP": "fd00::7", "clusterIPs": ["fd00::7"]}),
                V4,
                "spec.clusterIPs[0]: Invalid value: [\"fd00::7\"]: IPv6 is not configured on this cluster",
            ),
            (
                json!({"ipFamilies": ["IPv4", "IPv6"]}),
                BOTH,
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
            ),
            (
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::7"], "ipFamilyPolicy": "SingleStack"}),
                BOTH,
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified",
            ),
            (
                json!({"ipFamilies": ["IPv5"]}),
                BOTH,
                "spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
            ),
        ] {
            assert!(
                settled(spec.clone(), None, configured).starts_with(expected),
                "{spec}: {}",
                settled(spec.clone(), None, configured)
            );
        }
    }

    #[test]
    fn a_second_family_comes_and_goes_with_the_policy() {
        let one = json!({
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        });
        let two = json!({
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::7"], "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "RequireDualStack",
        });
        let with = |spec: &Value, name: &str, value: Value| {
            let mut spec = spec.clone();
            spec[name] = value;
            spec
        };
        let preferring = with(&one, "ipFamilyPolicy", json!("PreferDualStack"));
        for (new, old, expected) in [
            (
                with(&one, "ipFamilyPolicy", json!("RequireDualStack")),
                &one,
                "RequireDualStack IPv4,IPv6 10.0.0.1",
            ),
            (
                with(&two, "ipFamilyPolicy", json!("SingleStack")),
                &two,
                "SingleStack IPv4 10.0.0.1",
            ),
            (
                preferring.clone(),
                &preferring,
                "PreferDualStack IPv4 10.0.0.1",
            ),
            (
                with(&one, "ipFamilyPolicy", Value::Null),
                &preferring,
                "PreferDualStack IPv4,IPv6 10.0.0.1",
            ),
            (
                with(&two, "clusterIPs", json!(["10.0.0.1"])),
                &two,
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary cluster IP",
            ),
            (
                with(&two, "ipFamilies", json!(["IPv4"])),
                &two,
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary IP family",
            ),
        ] {
            assert_eq!(
                settled(new.clone(), Some(old.clone()), BOTH),
                expected,
                "{new}"
            );
        }
    }
}
