//! Services: cluster addresses and node ports, whose only record is the Services themselves.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use api::field::{Error, ErrorList, Path};
use api::status::{self, StatusError};
use rand::Rng;
use serde::Deserialize;
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
        node_ports(service, old.is_none(), &mut taken, &mut errors)?;
    }
    if admission::service::needs_health_check(service) {
        let had = old.is_some_and(|old| {
            old["spec"]["healthCheckNodePort"] == service["spec"]["healthCheckNodePort"]
        });
        if !had {
            health_check_port(service, &mut taken)?;
        }
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
        let Ok(Other { spec }) = serde_json::from_slice(&entry.value) else {
            continue;
        };
        let address = spec.cluster_ip.and_then(|ip| ip.parse::<Ipv4Addr>().ok());
        taken.addresses.extend(address);
        let ports = spec.ports.iter().map(|port| port.node_port);
        taken
            .ports
            .extend(ports.chain([spec.health_check_node_port]).flatten());
    }
    taken
}

/// No more of a Service than what it has taken: all of them are read for each new one.
#[derive(Deserialize)]
struct Other<'a> {
    #[serde(borrow)]
    spec: OtherSpec<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OtherSpec<'a> {
    #[serde(borrow, rename = "clusterIP")]
    cluster_ip: Option<Cow<'a, str>>,
    #[serde(default)]
    ports: Vec<OtherPort>,
    health_check_node_port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OtherPort {
    node_port: Option<u16>,
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

/// Gives ports their node ports, and checks those that are asked for. In a new Service ports of one number share theirs when nothing
/// else is asked for: DNS over UDP and TCP, say.
fn node_ports(
    service: &mut Value,
    is_new: bool,
    taken: &mut Taken,
    errors: &mut ErrorList,
) -> Result<(), StatusError> {
    let wants = service["spec"]["type"] != "LoadBalancer"
        || service["spec"]["allocateLoadBalancerNodePorts"] != false;
    let Some(ports) = service["spec"]["ports"].as_array_mut() else {
        return Ok(());
    };
    let mut own = BTreeSet::new();
    let mut of_number = BTreeMap::new();
    for (n, port) in ports.iter().enumerate() {
        let asked = port["nodePort"].as_u64().unwrap_or_default();
        if asked == 0 {
            continue;
        }
        let at = Path::new("spec").child("ports").index(n).child("nodePort");
        match claim(asked, taken, &own) {
            Ok(asked) => {
                own.insert(asked);
                of_number.entry(port["port"].as_u64()).or_insert(asked);
            }
            Err(why) => {
                errors.push(Error::invalid(&at, asked, why));
                return Ok(());
            }
        }
    }
    taken.ports.extend(own);
    let unset = |port: &&mut Value| wants && port["nodePort"].as_u64().unwrap_or_default() == 0;
    for port in ports.iter_mut().filter(unset) {
        let number = port["port"].as_u64();
        let shared = of_number.get(&number).copied().filter(|_| is_new);
        let full = || status::internal("failed to allocate a nodePort: range is full");
        let free = shared
            .or_else(|| free_port(&taken.ports))
            .ok_or_else(full)?;
        taken.ports.insert(free);
        of_number.insert(number, free);
        port["nodePort"] = free.into();
    }
    Ok(())
}

/// Whether a port that is asked for can be had, or why not. One Service may use a port twice, for two protocols.
fn claim(asked: u64, taken: &Taken, own: &BTreeSet<u16>) -> Result<u16, &'static str> {
    const RANGE: &str =
        "provided port is not in the valid range. The range of valid ports is 30000-32767";
    let in_range = u16::try_from(asked)
        .ok()
        .filter(|port| PORTS.contains(port));
    match in_range.ok_or(RANGE)? {
        port if taken.ports.contains(&port) && !own.contains(&port) => {
            Err("provided port is already allocated")
        }
        port => Ok(port),
    }
}

/// The port where balancers elsewhere ask whether a Service has endpoints here (`externalTrafficPolicy: Local`).
fn health_check_port(service: &mut Value, taken: &mut Taken) -> Result<(), StatusError> {
    let asked = service["spec"]["healthCheckNodePort"]
        .as_u64()
        .unwrap_or_default();
    if asked == 0 {
        let free = free_port(&taken.ports).ok_or_else(|| {
            let what = "failed to allocate a HealthCheck NodePort 0: range is full";
            status::internal(what)
        })?;
        service["spec"]["healthCheckNodePort"] = free.into();
        return Ok(());
    }
    claim(asked, taken, &BTreeSet::new()).map_err(|why| {
        status::internal(format!(
            "failed to allocate requested HealthCheck NodePort {asked}: {why}"
        ))
    })?;
    Ok(())
}

/// A free port, by preference not from the low part, which is left to ports that are asked for (KEP-3668).
fn free_port(taken: &BTreeSet<u16>) -> Option<u16> {
    const RESERVED: u16 = 86;
    let upper = PORTS.start + RESERVED..PORTS.end;
    let start = rand::rng().random_range(upper.clone());
    (start..upper.end)
        .chain(upper.start..start)
        .chain(PORTS.start..upper.start)
        .find(|port| !taken.contains(port))
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
    fn a_new_services_ports_of_one_number_share_a_node_port() {
        let mut dns = json!({"spec": {"type": "NodePort", "ports": [
            {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 54},
        ]}});
        let mut errors = ErrorList::new();
        node_ports(&mut dns, true, &mut Taken::default(), &mut errors).unwrap();
        assert_eq!(errors, ErrorList::new());
        let [one, two, other] = [0, 1, 2].map(|n| dns["spec"]["ports"][n]["nodePort"].clone());
        assert_eq!(one, two);
        assert_ne!(one, other);
        let before = Taken {
            ports: (PORTS.start..PORTS.end).collect(),
            ..Taken::default()
        };
        let mut late = json!({"spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        let mut taken = before;
        let full = node_ports(&mut late, true, &mut taken, &mut errors).unwrap_err();
        let what = "Internal error occurred: failed to allocate a nodePort: range is full";
        assert_eq!(full.to_string(), what);
        taken.ports.remove(&30007);
        node_ports(&mut late, true, &mut taken, &mut errors).unwrap();
        assert_eq!(late["spec"]["ports"][0]["nodePort"], 30007, "the last one");
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
