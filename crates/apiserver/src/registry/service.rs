//! Services: cluster addresses and node ports, whose only record is the Services themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::field::{Error, ErrorList, Path};
use api::status::{self, StatusError};
use rand::Rng;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::MutexGuard;

use crate::config::ServiceRange;
use crate::registry;
use crate::rest::{Rest, meta};

/// Node ports are from here.
const PORTS: std::ops::Range<u16> = 30000..32768;

/// Addresses and ports of every Service but one.
#[derive(Default)]
struct Taken {
    addresses: BTreeSet<IpAddr>,
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
    let ranges: Vec<ServiceRange> = rest.inner.config.service_ranges().collect();
    let families: Vec<&str> = ranges.iter().map(|range| range.family()).collect();
    let errors = admission::service::settle_families(service, old, &families);
    if !errors.is_empty() {
        return Err(invalid(rest, service, errors));
    }
    let mut taken = taken(rest, service);
    let mut errors = ErrorList::new();
    if let Err(error) = addresses(service, old, &taken, &ranges) {
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
    Err(invalid(rest, service, errors))
}

fn invalid(rest: &Rest, service: &Value, errors: ErrorList) -> StatusError {
    status::invalid(&rest.group_kind(), meta(service, "name"), errors)
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
        let addresses = spec.cluster_ips.iter();
        let addresses = addresses.filter_map(|ip| ip.parse::<IpAddr>().ok());
        taken.addresses.extend(addresses);
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
    #[serde(borrow, default, rename = "clusterIPs")]
    cluster_ips: Vec<&'a str>,
    #[serde(default)]
    ports: Vec<OtherPort>,
    health_check_node_port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OtherPort {
    node_port: Option<u16>,
}

/// Gives a Service an address of each of its families, and checks those that are asked for. Those it has stay.
fn addresses(
    service: &mut Value,
    old: Option<&Value>,
    taken: &Taken,
    ranges: &[ServiceRange],
) -> Result<(), Error> {
    let before = old.filter(|old| old["spec"]["type"] != "ExternalName");
    let before = before.map_or(&Value::Null, |old| &old["spec"]["clusterIPs"]);
    if service["spec"]["clusterIPs"][0] == "None" || before[0] == "None" {
        return Ok(());
    }
    let families = service["spec"]["ipFamilies"].as_array().cloned();
    let mut own = service["spec"]["clusterIPs"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for (n, family) in families.into_iter().flatten().enumerate() {
        let Some(range) = ranges.iter().find(|range| family == range.family()) else {
            continue;
        };
        match own.get(n) {
            Some(wanted) if *wanted == before[n] => {}
            Some(wanted) => claim_address(wanted, &own, taken, *range)?,
            None => {
                let full = "failed to allocate a serviceIP: range is full";
                let at = Path::new("spec").child("clusterIPs");
                let free = free_address(taken, *range).ok_or_else(|| Error::internal(&at, full))?;
                own.push(free.to_string().into());
            }
        }
    }
    service["spec"]["clusterIP"] = own.first().cloned().unwrap_or_default();
    service["spec"]["clusterIPs"] = own.into();
    Ok(())
}

/// Whether an address that is asked for can be had.
fn claim_address(
    wanted: &Value,
    all: &[Value],
    taken: &Taken,
    range: ServiceRange,
) -> Result<(), Error> {
    let wanted = wanted.as_str().unwrap_or_default();
    // Validation has its own words for what is no address.
    let Ok(ip) = wanted.parse::<IpAddr>() else {
        return Ok(());
    };
    let why = if !range.contains(ip) {
        format!(
            "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}"
        )
    } else if taken.addresses.contains(&ip) {
        "provided IP is already allocated".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::invalid(
        &Path::new("spec").child("clusterIPs"),
        Value::Array(all.to_vec()),
        format!("failed to allocate IP {wanted}: {why}"),
    ))
}

/// A free address, by preference not from the low part, which is left to addresses that are asked for (KEP-3070).
fn free_address(taken: &Taken, range: ServiceRange) -> Option<IpAddr> {
    let end = range.end();
    let reserved = (end.div_ceil(16)).clamp(16, 256).min(end.div_ceil(2));
    let upper = reserved..end;
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
    use std::net::Ipv4Addr;

    use serde_json::json;

    use super::*;

    fn range() -> ServiceRange {
        ServiceRange::new(Ipv4Addr::new(10, 96, 0, 0), 24).unwrap()
    }

    #[test]
    fn addresses_are_chosen_checked_and_refused() {
        let taken = Taken {
            addresses: [Ipv4Addr::new(10, 96, 0, 5).into()].into(),
            ..Taken::default()
        };
        let with = |ip: &str| json!({"spec":{"clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"]}});
        let mut free = json!({"spec": {"ipFamilies": ["IPv4"]}});
        addresses(&mut free, None, &taken, &[range()]).unwrap();
        let chosen: Ipv4Addr = free["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
        assert!(
            range().contains(chosen.into()) && chosen.octets()[3] >= 16,
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
            let result = addresses(&mut with(ip), None, &taken, &[range()]);
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
        let few = ServiceRange::new("fd00::".parse::<IpAddr>().unwrap(), 123).unwrap();
        while let Some(ip) = free_address(&taken, few) {
            assert!(taken.addresses.insert(ip));
        }
        assert_eq!(taken.addresses.len(), 254 + 31);
    }

    #[test]
    fn each_family_has_an_address_of_its_range_and_keeps_it() {
        let of_v6 = ServiceRange::new("fd00::".parse::<IpAddr>().unwrap(), 112).unwrap();
        let ranges = [range(), of_v6];
        let taken = Taken::default();
        let mut one = json!({"spec": {"ipFamilies": ["IPv6"]}});
        addresses(&mut one, None, &taken, &ranges).unwrap();
        let first = one["spec"]["clusterIPs"][0].clone();
        assert!(of_v6.contains(first.as_str().unwrap().parse().unwrap()));
        let mut both = one.clone();
        both["spec"]["ipFamilies"] = json!(["IPv6", "IPv4"]);
        addresses(&mut both, Some(&one), &taken, &ranges).unwrap();
        let second = both["spec"]["clusterIPs"][1].as_str().unwrap();
        assert!(range().contains(second.parse().unwrap()));
        assert_eq!(
            (&both["spec"]["clusterIPs"][0], &both["spec"]["clusterIP"]),
            (&first, &first)
        );
    }
}
