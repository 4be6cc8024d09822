//! What plugins answer: results in the layouts of all versions, and errors.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::version::{Layout, Version};

/// What a plugin said that it refused ({code, msg, details}).
#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// The text of an error result; `None` if it is none.
pub(super) fn refusal(stdout: &[u8]) -> Option<String> {
    let Refusal { msg, details } = serde_json::from_slice(stdout).ok()?;
    match (msg.is_empty(), details.is_empty()) {
        (true, true) => None,
        (_, true) => Some(msg),
        (_, false) => Some(format!("{msg}; {details}")),
    }
}

/// Why a result cannot be used.
#[derive(Debug, Error)]
pub(super) enum ResultError {
    #[error("its result is no JSON object")]
    Json(#[source] serde_json::Error),
    #[error("its result is of version {0:?} of CNI, which is not known here")]
    Version(String),
    #[error("its result has the address {0:?}, which is none")]
    Address(String),
    #[error("its result has an address of interface {0}, of which there is none")]
    Interface(u64),
    #[error("its result has no address of the Pod")]
    NoAddress,
}

/// Reads a result and puts it into the layout of `version`, which is that of the network.
///
/// # Errors
/// It is no result.
pub(super) fn convert(stdout: &[u8], version: Version) -> Result<Value, ResultError> {
    let result: Map<String, Value> = serde_json::from_slice(stdout).map_err(ResultError::Json)?;
    let own = result.get("cniVersion").and_then(Value::as_str);
    let own = own.unwrap_or_default();
    let own = Version::parse(own).ok_or_else(|| ResultError::Version(own.to_owned()))?;
    let mut converted = match (own.layout(), version.layout()) {
        (from, to) if from == to => result,
        (Layout::Families, to) => listed(&result, to),
        (Layout::Versioned | Layout::Plain, Layout::Families) => by_family(&result),
        (Layout::Versioned | Layout::Plain, to) => relabelled(result, to),
    };
    converted.insert("cniVersion".into(), version.number().into());
    Ok(Value::Object(converted))
}

/// The Pod's addresses in a result, which is in the layout of `version`: IPv4 first.
///
/// # Errors
/// There is none, or one that cannot be.
pub(super) fn addresses(result: &Value, version: Version) -> Result<Vec<IpAddr>, ResultError> {
    let mut found = match version.layout() {
        Layout::Families => ["ip4", "ip6"]
            .iter()
            .filter_map(|family| result[family]["ip"].as_str())
            .map(address)
            .collect::<Result<Vec<IpAddr>, ResultError>>()?,
        Layout::Versioned | Layout::Plain => of_interfaces(result)?,
    };
    if found.is_empty() {
        return Err(ResultError::NoAddress);
    }
    found.sort_by_key(IpAddr::is_ipv6);
    Ok(found)
}

/// Addresses of interfaces inside the Pod, and those that name no interface.
fn of_interfaces(result: &Value) -> Result<Vec<IpAddr>, ResultError> {
    let mut found = Vec::new();
    for ip in list(&result["ips"]) {
        // Absent, or -1, where it is not known.
        if let Some(number) = ip["interface"].as_u64() {
            let interface = usize::try_from(number)
                .ok()
                .and_then(|n| result["interfaces"].get(n));
            let interface = interface.ok_or(ResultError::Interface(number))?;
            if interface["sandbox"].as_str().unwrap_or_default().is_empty() {
                continue;
            }
        }
        found.push(address(ip["address"].as_str().unwrap_or_default())?);
    }
    Ok(found)
}

/// An address with the length of its range.
fn address(text: &str) -> Result<IpAddr, ResultError> {
    let wrong = || ResultError::Address(text.to_owned());
    let (ip, length) = text.split_once('/').ok_or_else(wrong)?;
    let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    match length.parse::<u8>() {
        Ok(length) if length <= most => Ok(ip),
        _ => Err(wrong()),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is_v6(text: &Value) -> bool {
    text.as_str().is_some_and(|text| text.contains(':'))
}

/// The family of an address, as results name it.
fn family(address: &Value) -> Value {
    if is_v6(address) { "6" } else { "4" }.into()
}

/// One address of each family becomes a list.
fn listed(result: &Map<String, Value>, to: Layout) -> Map<String, Value> {
    let (mut ips, mut routes) = (Vec::new(), Vec::new());
    for config in ["ip4", "ip6"].iter().filter_map(|name| result.get(*name)) {
        let mut ip = json!({"address": config["ip"]});
        if config["gateway"].is_string() {
            ip["gateway"] = config["gateway"].clone();
        }
        if to == Layout::Versioned {
            ip["version"] = family(&config["ip"]);
        }
        ips.push(ip);
        routes.extend(list(&config["routes"]).iter().cloned());
    }
    let mut converted = Map::new();
    converted.insert("ips".into(), ips.into());
    converted.insert("routes".into(), routes.into());
    converted.extend(result.get("dns").map(|dns| ("dns".into(), dns.clone())));
    converted
}

/// Addresses get or lose the name of their family.
fn relabelled(mut result: Map<String, Value>, to: Layout) -> Map<String, Value> {
    let ips = result.get_mut("ips").and_then(Value::as_array_mut);
    for ip in ips.into_iter().flatten().filter_map(Value::as_object_mut) {
        match to {
            Layout::Versioned => {
                let family = family(ip.get("address").unwrap_or(&Value::Null));
                ip.insert("version".into(), family);
            }
            Layout::Plain | Layout::Families => drop(ip.remove("version")),
        }
    }
    result
}

/// A list becomes the first address of each family, with the routes of that.
fn by_family(result: &Map<String, Value>) -> Map<String, Value> {
    let mut converted = Map::new();
    let of = |name: &str| result.get(name).map_or(&[][..], list);
    for (name, v6) in [("ip4", false), ("ip6", true)] {
        let Some(ip) = of("ips").iter().find(|ip| is_v6(&ip["address"]) == v6) else {
            continue;
        };
        let routes: Vec<&Value> = of("routes")
            .iter()
            .filter(|route| is_v6(&route["dst"]) == v6)
            .collect();
        let mut config = json!({"ip": ip["address"], "routes": routes});
        if ip["gateway"].is_string() {
            config["gateway"] = ip["gateway"].clone();
        }
        converted.insert(name.into(), config);
    }
    converted.extend(result.get("dns").map(|dns| ("dns".into(), dns.clone())));
    converted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(result: &Value, version: Version) -> Value {
        convert(result.to_string().as_bytes(), version).expect("a result")
    }

    #[test]
    fn layouts_become_each_other() {
        let families = json!({"cniVersion": "0.2.0", "dns": {"domain": "d"},
            "ip4": {"ip": "10.1.0.5/24", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]},
            "ip6": {"ip": "fd00::5/64", "routes": [{"dst": "::/0"}]}});
        let plain = json!({"cniVersion": "1.0.0", "dns": {"domain": "d"},
            "ips": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}, {"address": "fd00::5/64"}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0"}]});
        let versioned = json!({"cniVersion": "0.4.0", "dns": {"domain": "d"},
            "ips": [{"version": "4", "address": "10.1.0.5/24", "gateway": "10.1.0.1"}, {"version": "6", "address": "fd00::5/64"}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0"}]});
        let all = [
            (&families, Version::V0_2_0),
            (&versioned, Version::V0_4_0),
            (&plain, Version::V1_0_0),
        ];
        for (from, _) in all {
            for (to, version) in all {
                assert_eq!(converted(from, version), *to);
            }
        }
        let mut unversioned = families.clone();
        unversioned
            .as_object_mut()
            .expect("an object")
            .remove("cniVersion");
        assert_eq!(converted(&unversioned, Version::V0_2_0), families);
    }

    #[test]
    fn addresses_are_those_inside_the_pod() {
        let interfaces = json!([{"name": "cni0"}, {"name": "eth0", "sandbox": "/run/netns/a"}]);
        type Row<'a> = (Value, Version, Result<&'a [&'a str], &'a str>);
        let rows: [Row<'_>; 9] = [
            (
                json!({"interfaces": interfaces, "ips": [
                    {"address": "fd00::5/64", "interface": 1}, {"address": "10.1.0.5/24", "interface": 1}, {"address": "10.1.0.1/24", "interface": 0}]}),
                Version::V1_1_0,
                Ok(&["10.1.0.5", "fd00::5"]),
            ),
            (
                json!({"ips": [{"address": "10.1.0.5/24", "interface": -1}]}),
                Version::V0_4_0,
                Ok(&["10.1.0.5"]),
            ),
            (
                json!({"ip4": {"ip": "10.1.0.5/24"}}),
                Version::V0_1_0,
                Ok(&["10.1.0.5"]),
            ),
            (json!({}), Version::V0_1_0, Err("its result has no address")),
            (
                json!({"ips": []}),
                Version::V1_0_0,
                Err("its result has no address"),
            ),
            (
                json!({"ips": [{"address": "10.1.0.5/24", "interface": 9}]}),
                Version::V1_0_0,
                Err("its result has an address of interface 9"),
            ),
            (
                json!({"ips": [{"address": "10.1.0.5"}]}),
                Version::V1_0_0,
                Err("its result has the address \"10.1.0.5\""),
            ),
            (
                json!({"ips": [{"address": "10.1.0.5/33"}]}),
                Version::V1_0_0,
                Err("its result has the address"),
            ),
            (
                json!({"ips": [7]}),
                Version::V1_0_0,
                Err("its result has the address \"\""),
            ),
        ];
        for (result, version, expected) in rows {
            let found = addresses(&result, version);
            let found = found.map(|ips| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>());
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(why)) => assert!(error.to_string().starts_with(why), "{error}"),
                (found, _) => panic!("{found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_result_is_told() {
        for (text, why) in [
            ("", "its result is no JSON object"),
            ("null", "its result is no JSON object"),
            ("hello", "its result is no JSON object"),
            (
                r#"{"cniVersion": "9.9.9"}"#,
                "its result is of version \"9.9.9\"",
            ),
        ] {
            let error = convert(text.as_bytes(), Version::V1_0_0).expect_err(why);
            assert!(error.to_string().starts_with(why), "{error}");
        }
        let refused = br#"{"cniVersion": "1.0.0", "code": 11, "msg": "try later", "details": "the pool is locked"}"#;
        assert_eq!(
            refusal(refused).as_deref(),
            Some("try later; the pool is locked")
        );
        assert_eq!(
            refusal(br#"{"code": 7, "msg": "no"}"#).as_deref(),
            Some("no")
        );
        assert_eq!((refusal(b"panic: oh"), refusal(b"{}")), (None, None));
    }
}
