//! Services: cluster addresses and node ports, whose only record is the Services themselves.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use api::field::{Error, ErrorList, Path};
use api::status::{self, StatusError};
use rand::Rng;
use serde_json::{Value, json};
use tokio::sync::MutexGuard;

use crate::config::ServiceRange;
use crate::registry;
use crate::rest::{Rest, meta};

/// Node ports are from here.
const PORTS: std::ops::Range<u16> = 30000..32768;

/// Addresses and ports of every Service but one.
#[derive(Default)]
struct Taken {
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<u16>,
}

/// Gives a Service its address and ports, unless it has them already or needs none.
pub(super) async fn allocate<'a>(
    rest: &'a Rest,
    service: &mut Value,
    old: Option<&Value>,
) -> Result<MutexGuard<'a, ()>, StatusError> {
    let guard = rest.inner.addresses.lock().await;
    if service["spec"]["type"] == "ExternalName" {
        return Ok(guard);
    }
    let mut taken = taken(rest, service);
    let mut errors = ErrorList::new();
    set_families(service);
    let before = old.map_or("", |o| o["spec"]["clusterIP"].as_str().unwrap_or_default());
    if let Err(error) = address(service, before, &taken, rest.inner.config.service_range) {
        errors.push(error);
    }
    if matches!(
        service["spec"]["type"].as_str(),
        Some("NodePort" | "LoadBalancer")
    ) {
        node_ports(service, &mut taken, &mut errors);
    }
    if errors.is_empty() {
        return Ok(guard);
    }
    Err(status::invalid(
        &rest.group_kind(),
        meta(service, "name"),
        errors,
    ))
}

fn taken(rest: &Rest, service: &Value) -> Taken {
    let own = registry::key(rest.kind, meta(service, "namespace"), meta(service, "name"));
    let mut taken = Taken::default();
    let (_, entries) = rest
        .inner
        .store
        .range(&registry::prefix(rest.kind, ""), None, 0);
    for entry in entries.iter().filter(|e| e.key != own) {
        let Ok(other) = serde_json::from_slice::<Value>(&entry.value) else {
            continue;
        };
        taken.addresses.extend(
            other["spec"]["clusterIP"]
                .as_str()
                .and_then(|ip| ip.parse::<Ipv4Addr>().ok()),
        );
        let ports = other["spec"]["ports"].as_array().into_iter().flatten();
        taken.ports.extend(
            ports
                .filter_map(|p| p["nodePort"].as_u64())
                .filter_map(|p| u16::try_from(p).ok()),
        );
    }
    taken
}

fn set_families(service: &mut Value) {
    let headless = service["spec"]["clusterIP"] == "None";
    let selects = service["spec"]["selector"]
        .as_object()
        .is_some_and(|s| !s.is_empty());
    let both = headless && !selects && service["spec"]["ipFamilyPolicy"].is_null();
    if service["spec"]["ipFamilies"]
        .as_array()
        .is_none_or(Vec::is_empty)
    {
        service["spec"]["ipFamilies"] = if both {
            json!(["IPv4", "IPv6"])
        } else {
            json!(["IPv4"])
        };
    }
    if service["spec"]["ipFamilyPolicy"].is_null() {
        service["spec"]["ipFamilyPolicy"] = if both {
            "RequireDualStack".into()
        } else {
            "SingleStack".into()
        };
    }
}

fn address(
    service: &mut Value,
    before: &str,
    taken: &Taken,
    range: ServiceRange,
) -> Result<(), Error> {
    let wanted = service["spec"]["clusterIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if wanted == "None" || (!wanted.is_empty() && wanted == before) {
        return Ok(());
    }
    let at = Path::new("spec").child("clusterIPs");
    let refuse = |why: String| {
        Error::invalid(
            &at,
            json!([wanted.as_str()]),
            format!("failed to allocate IP {wanted}: {why}"),
        )
    };
    let chosen = if wanted.is_empty() {
        free_address(taken, range)
            .ok_or_else(|| Error::internal(&at, "failed to allocate a serviceIP: range is full"))?
    } else {
        // Validation has its own words for what is no address.
        let Ok(ip) = wanted.parse::<Ipv4Addr>() else {
            return Ok(());
        };
        if !range.contains(ip) {
            return Err(refuse(format!(
                "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}"
            )));
        }
        if taken.addresses.contains(&ip) {
            return Err(refuse("provided IP is already allocated".to_owned()));
        }
        ip
    };
    service["spec"]["clusterIP"] = chosen.to_string().into();
    service["spec"]["clusterIPs"] = json!([chosen.to_string()]);
    Ok(())
}

/// A free address, by preference not from the low part, which is left to addresses that are asked for (KEP-3070).
fn free_address(taken: &Taken, range: ServiceRange) -> Option<Ipv4Addr> {
    let size = range.size();
    let reserved = (size / 16).clamp(16, 256).min(size / 2);
    let upper = reserved..size - 1;
    let start = rand::rng().random_range(upper.clone());
    let order = (start..upper.end)
        .chain(upper.start..start)
        .chain(1..upper.start);
    order
        .map(|n| range.nth(n))
        .find(|ip| !taken.addresses.contains(ip))
}

fn node_ports(service: &mut Value, taken: &mut Taken, errors: &mut ErrorList) {
    let wants = service["spec"]["type"] != "LoadBalancer"
        || service["spec"]["allocateLoadBalancerNodePorts"] != false;
    let Some(ports) = service["spec"]["ports"].as_array_mut() else {
        return;
    };
    let mut own = BTreeSet::new();
    for (n, port) in ports.iter_mut().enumerate() {
        let at = Path::new("spec").child("ports").index(n).child("nodePort");
        match port["nodePort"].as_u64().unwrap_or_default() {
            0 if wants => match free_port(&taken.ports) {
                Some(free) => {
                    taken.ports.insert(free);
                    port["nodePort"] = free.into();
                }
                None => errors.push(Error::internal(
                    &at,
                    "failed to allocate a nodePort: range is full",
                )),
            },
            0 => {}
            asked => match u16::try_from(asked) {
                Ok(asked) if PORTS.contains(&asked) => {
                    // One Service may use a port twice, for two protocols.
                    if taken.ports.contains(&asked) && !own.contains(&asked) {
                        errors.push(Error::invalid(
                            &at,
                            asked,
                            "provided port is already allocated",
                        ));
                    }
                    own.insert(asked);
                    taken.ports.insert(asked);
                }
                _ => {
                    let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                    errors.push(Error::invalid(&at, asked, why));
                }
            },
        }
    }
}

fn free_port(taken: &BTreeSet<u16>) -> Option<u16> {
    let start = rand::rng().random_range(PORTS);
    (start..PORTS.end)
        .chain(PORTS.start..start)
        .find(|p| !taken.contains(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> ServiceRange {
        ServiceRange::new(Ipv4Addr::new(10, 96, 0, 0), 24).unwrap()
    }

    #[test]
    fn addresses_are_chosen_checked_and_refused() {
        let taken = Taken {
            addresses: [Ipv4Addr::new(10, 96, 0, 5)].into(),
            ..Taken::default()
        };
        let with = |ip: &str| json!({"spec":{"clusterIP": ip}});
        let mut free = with("");
        address(&mut free, "", &taken, range()).unwrap();
        let chosen: Ipv4Addr = free["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
        assert!(
            range().contains(chosen) && chosen.octets()[3] >= 16,
            "{chosen}"
        );
        for (ip, error) in [
            ("10.96.0.7", None),
            ("None", None),
            (
                "10.96.0.5",
                Some(
                    "spec.clusterIPs: Invalid value: [\"10.96.0.5\"]: failed to allocate IP 10.96.0.5: provided IP is already allocated",
                ),
            ),
            (
                "10.97.0.5",
                Some(
                    "spec.clusterIPs: Invalid value: [\"10.97.0.5\"]: failed to allocate IP 10.97.0.5: the provided IP (10.97.0.5) is not in the valid range. The range of valid IPs is 10.96.0.0/24",
                ),
            ),
        ] {
            let result = address(&mut with(ip), "", &taken, range());
            assert_eq!(result.err().map(|e| e.to_string()).as_deref(), error);
        }
    }

    #[test]
    fn the_whole_range_is_used() {
        let mut taken = Taken::default();
        while let Some(ip) = free_address(&taken, range()) {
            assert!(taken.addresses.insert(ip));
        }
        assert_eq!(taken.addresses.len(), 254);
    }
}
