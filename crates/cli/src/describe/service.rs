//! Services (§15.4) and namespaces (§15.6).

use serde_json::Value;

use super::tabs::Tabs;
use super::{is_set, labels_and_annotations, list, name_and_namespace, pairs, shown, text, time};

/// Most addresses that are shown of a port.
const MOST_ENDPOINTS: usize = 3;

/// A Service, with the EndpointSlices that belong to it.
pub(super) fn service(out: &mut Tabs, service: &Value, slices: &[Value]) {
    let spec = &service["spec"];
    name_and_namespace(out, service);
    labels_and_annotations(out, service);
    out.field(0, "Selector", none_if_empty(&pairs(&spec["selector"])));
    out.field(0, "Type", text(&spec["type"]));
    if is_set(&spec["ipFamilyPolicy"]) {
        out.field(0, "IP Family Policy", text(&spec["ipFamilyPolicy"]));
    }
    out.field(0, "IP Families", none_if_empty(&texts(&spec["ipFamilies"])));
    out.field(0, "IP", text(&spec["clusterIP"]));
    out.field(0, "IPs", none_if_empty(&texts(&spec["clusterIPs"])));
    if is_set(&spec["externalIPs"]) {
        out.field(0, "External IPs", texts(&spec["externalIPs"]).join(","));
    }
    for (name, field) in [
        ("Desired LoadBalancer IP", "loadBalancerIP"),
        ("External Name", "externalName"),
    ] {
        if is_set(&spec[field]) {
            out.field(0, name, text(&spec[field]));
        }
    }
    for port in list(&spec["ports"]) {
        one_port(out, port, slices);
    }
    out.field(0, "Session Affinity", text(&spec["sessionAffinity"]));
    for (name, field) in [
        ("External Traffic Policy", "externalTrafficPolicy"),
        ("Internal Traffic Policy", "internalTrafficPolicy"),
        ("Traffic Distribution", "trafficDistribution"),
    ] {
        if is_set(&spec[field]) {
            out.field(0, name, text(&spec[field]));
        }
    }
}

fn one_port(out: &mut Tabs, port: &Value, slices: &[Value]) {
    let protocol = text(&port["protocol"]);
    let name = match text(&port["name"]) {
        "" => "<unset>",
        name => name,
    };
    out.line(
        0,
        format!("Port:\t{name}\t{}/{protocol}", shown(&port["port"])),
    );
    let target = shown(&port["targetPort"]);
    out.field(0, "TargetPort", format!("{target}/{protocol}"));
    if is_set(&port["appProtocol"]) {
        out.field(0, "AppProtocol", text(&port["appProtocol"]));
    }
    if port["nodePort"].as_i64().unwrap_or(0) != 0 {
        let node_port = shown(&port["nodePort"]);
        out.line(0, format!("NodePort:\t{name}\t{node_port}/{protocol}"));
    }
    out.field(0, "Endpoints", endpoints(slices, text(&port["name"])));
}

/// Ready addresses behind a port.
fn endpoints(slices: &[Value], port_name: &str) -> String {
    if slices.is_empty() {
        return "<none>".into();
    }
    let mut found = Vec::new();
    for slice in slices {
        let ports = list(&slice["ports"]).iter();
        for port in ports.filter(|port| text(&port["name"]) == port_name) {
            let ready = list(&slice["endpoints"])
                .iter()
                .filter(|endpoint| endpoint["conditions"]["ready"] != false);
            found.extend(ready.map(|endpoint| {
                let address = text(&endpoint["addresses"][0]);
                let bracketed = if address.contains(':') {
                    format!("[{address}]")
                } else {
                    address.to_owned()
                };
                format!("{bracketed}:{}", shown(&port["port"]))
            }));
        }
    }
    let more = found.len().saturating_sub(MOST_ENDPOINTS);
    found.truncate(MOST_ENDPOINTS);
    match more {
        0 => found.join(","),
        more => format!("{} + {more} more...", found.join(",")),
    }
}

fn texts(value: &Value) -> Vec<String> {
    list(value)
        .iter()
        .map(|item| text(item).to_owned())
        .collect()
}

fn none_if_empty(values: &[String]) -> String {
    if values.is_empty() {
        "<none>".into()
    } else {
        values.join(",")
    }
}

/// A namespace, without quotas and limit ranges, as on a server that has neither.
pub(super) fn namespace(out: &mut Tabs, namespace: &Value) {
    out.field(0, "Name", text(&namespace["metadata"]["name"]));
    labels_and_annotations(out, namespace);
    out.field(0, "Status", text(&namespace["status"]["phase"]));
    let conditions = list(&namespace["status"]["conditions"]);
    if !conditions.is_empty() {
        out.line(0, "Conditions:");
        out.line(1, "Type\tStatus\tLastTransitionTime\tReason\tMessage");
        out.line(1, "----\t------\t------------------\t------\t-------");
    }
    for condition in conditions {
        out.line(
            1,
            format!(
                "{}\t{}\t{}\t{}\t{}",
                text(&condition["type"]),
                text(&condition["status"]),
                time(&condition["lastTransitionTime"]),
                text(&condition["reason"]),
                text(&condition["message"])
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_is_described() {
        let object = json!({"metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}}, "spec": {
            "selector": {"app": "web"}, "type": "NodePort", "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"], "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80, "nodePort": 30080}], "sessionAffinity": "None",
            "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster"}});
        let endpoint = |last: u8, ready: bool| json!({"addresses": [format!("10.1.0.{last}")], "conditions": {"ready": ready}});
        let slices = [
            json!({"ports": [{"name": "http", "port": 80}], "endpoints": [endpoint(7, true), endpoint(6, false), endpoint(8, true), endpoint(9, true), endpoint(10, true)]}),
        ];
        let mut out = Tabs::default();
        service(&mut out, &object, &slices);
        assert_eq!(
            out.finish(),
            "\
Name:                     web
Namespace:                default
Labels:                   app=web
Annotations:              <none>
Selector:                 app=web
Type:                     NodePort
IP Family Policy:         SingleStack
IP Families:              IPv4
IP:                       10.96.0.10
IPs:                      10.96.0.10
Port:                     http  80/TCP
TargetPort:               80/TCP
NodePort:                 http  30080/TCP
Endpoints:                10.1.0.7:80,10.1.0.8:80,10.1.0.9:80 + 1 more...
Session Affinity:         None
External Traffic Policy:  Cluster
Internal Traffic Policy:  Cluster
"
        );
        assert_eq!(endpoints(&[], "http"), "<none>");
    }
}
