//! NetworkPolicies in detail: who may reach the Pods, and whom they may reach.

use serde_json::Value;

use super::other::label_selector;
use super::{Tabs, is_set, labels_and_annotations, list, name_and_namespace, shown, text};

/// The words for one way that traffic goes.
struct Way {
    kind: &'static str,
    word: &'static str,
    peers: &'static str,
    heading: &'static str,
    end: &'static str,
}

const WAYS: [Way; 2] = [
    Way {
        kind: "Ingress",
        word: "ingress",
        peers: "from",
        heading: "From:",
        end: "source",
    },
    Way {
        kind: "Egress",
        word: "egress",
        peers: "to",
        heading: "To:",
        end: "destination",
    },
];

pub(super) fn network_policy(out: &mut Tabs, object: &Value) {
    name_and_namespace(out, object);
    out.field(0, "Created on", created(object));
    labels_and_annotations(out, object);
    out.line(0, "Spec:");
    let spec = &object["spec"];
    let selector = match label_selector(&spec["podSelector"]).as_str() {
        "<none>" | "<unset>" => {
            "<none> (Allowing the specific traffic to all pods in this namespace)".to_owned()
        }
        selector => selector.to_owned(),
    };
    out.line(1, format!("PodSelector:     {selector}"));
    let types: Vec<&str> = list(&spec["policyTypes"]).iter().map(text).collect();
    for way in &WAYS {
        if types.contains(&way.kind) {
            out.line(1, format!("Allowing {} traffic:", way.word));
            rules(out, way, list(&spec[way.word]));
        } else {
            out.line(1, format!("Not affecting {} traffic", way.word));
        }
    }
    let types = match types.is_empty() {
        true => "<none>".to_owned(),
        false => types.join(", "),
    };
    out.line(1, format!("Policy Types: {types}"));
}

fn created(object: &Value) -> String {
    let time = api::time::parse(text(&object["metadata"]["creationTimestamp"]));
    let shown = time.map(|time| time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string());
    shown.unwrap_or_else(|| "0001-01-01 00:00:00 +0000 UTC".into())
}

fn rules(out: &mut Tabs, way: &Way, rules: &[Value]) {
    if rules.is_empty() {
        let word = way.word;
        let none = format!("<none> (Selected pods are isolated for {word} connectivity)");
        return out.line(2, none);
    }
    for (place, rule) in rules.iter().enumerate() {
        if place > 0 {
            out.line(2, "----------");
        }
        if !is_set(&rule["ports"]) {
            out.line(2, "To Port: <any> (traffic allowed to all ports)");
        }
        list(&rule["ports"]).iter().for_each(|of| port(out, of));
        let peers = list(&rule[way.peers]);
        if peers.is_empty() {
            let (heading, end) = (way.heading, way.end);
            let any = format!("{heading} <any> (traffic not restricted by {end})");
            out.line(2, any);
        }
        for of in peers {
            out.line(2, way.heading);
            peer(out, of);
        }
    }
}

fn port(out: &mut Tabs, port: &Value) {
    let number = match &port["port"] {
        Value::Null => "<nil>".to_owned(),
        port => shown(port),
    };
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    match &port["endPort"] {
        Value::Null => out.line(2, format!("To Port: {number}/{protocol}")),
        end => out.line(2, format!("To Port Range: {number}-{end}/{protocol}")),
    }
}

fn peer(out: &mut Tabs, peer: &Value) {
    let selectors = [
        ("NamespaceSelector", "namespaceSelector"),
        ("PodSelector", "podSelector"),
    ];
    for (name, field) in selectors.iter().filter(|(_, field)| !peer[field].is_null()) {
        out.line(3, format!("{name}: {}", label_selector(&peer[field])));
    }
    let block = &peer["ipBlock"];
    if !block.is_null() {
        let except: Vec<&str> = list(&block["except"]).iter().map(text).collect();
        out.line(3, "IPBlock:");
        out.line(4, format!("CIDR: {}", text(&block["cidr"])));
        out.line(4, format!("Except: {}", except.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::describe::{Beside, describe};

    #[test]
    fn policies_are_described_as_kubectl_does() {
        let mut policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "p", "namespace": "d", "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "web"}},
                "policyTypes": ["Ingress"],
                "ingress": [
                    {"ports": [{"port": 80, "protocol": "TCP"}, {"protocol": "SCTP"}, {"port": 1, "endPort": 9, "protocol": "UDP"}],
                     "from": [{"podSelector": {"matchLabels": {"a": "b"}}, "namespaceSelector": {}},
                              {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.0/16"]}}]},
                    {},
                ],
            },
        });
        let shown = |policy: &serde_json::Value| {
            let now = "2026-01-02T03:05:05Z".parse().expect("a time");
            describe(policy, &Beside::default(), now)
        };
        assert_eq!(
            shown(&policy),
            "\
Name:         p
Namespace:    d
Created on:   2026-01-02 03:04:05 +0000 UTC
Labels:       <none>
Annotations:  <none>
Spec:
  PodSelector:     app=web
  Allowing ingress traffic:
    To Port: 80/TCP
    To Port: <nil>/SCTP
    To Port Range: 1-9/UDP
    From:
      NamespaceSelector: <none>
      PodSelector: a=b
    From:
      IPBlock:
        CIDR: 10.0.0.0/8
        Except: 10.1.0.0/16, 10.2.0.0/16
    ----------
    To Port: <any> (traffic allowed to all ports)
    From: <any> (traffic not restricted by source)
  Not affecting egress traffic
  Policy Types: Ingress
"
        );
        policy["spec"] =
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{}]});
        let wanted = "\
Spec:
  PodSelector:     <none> (Allowing the specific traffic to all pods in this namespace)
  Allowing ingress traffic:
    <none> (Selected pods are isolated for ingress connectivity)
  Allowing egress traffic:
    To Port: <any> (traffic allowed to all ports)
    To: <any> (traffic not restricted by destination)
  Policy Types: Ingress, Egress
";
        assert!(shown(&policy).ends_with(wanted), "{}", shown(&policy));
    }
}
