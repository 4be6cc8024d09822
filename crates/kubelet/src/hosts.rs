//! Host name, `/etc/hosts` and `/etc/resolv.conf` of a Pod (spec `§8.2` to `§8.4`), as text.

use std::fmt::Write as _;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

const MAX_HOSTNAME: usize = 63;
const MAX_FQDN: usize = 64;
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_BYTES: usize = 2048;
const MAX_DOMAIN_BYTES: usize = 253;

const HEADER: &str = "# Kubernetes-managed hosts file.\n\
    127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    fe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\n\
    fe00::2\tip6-allrouters\n";

/// How a Pod is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    /// Host name without a domain.
    pub(crate) host: String,
    /// Domain, or empty.
    pub(crate) domain: String,
    /// What the kernel is told.
    pub(crate) kernel: String,
}

/// The names of a Pod.
///
/// # Errors
/// The full name does not fit into the kernel's 64 bytes.
pub(crate) fn names(pod: &Pod, cluster_domain: &str) -> Result<Names, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    if let Some(name) = spec.hostname_override.filter(|n| !n.is_empty()) {
        return Ok(Names {
            host: name.clone(),
            domain: String::new(),
            kernel: name,
        });
    }
    let name = spec
        .hostname
        .filter(|n| !n.is_empty())
        .or_else(|| pod.metadata.name.clone())
        .unwrap_or_default();
    let host = shortened(&name).to_owned();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let subdomain = spec.subdomain.filter(|s| !s.is_empty());
    let domain = subdomain
        .map(|s| format!("{s}.{namespace}.svc.{cluster_domain}"))
        .unwrap_or_default();
    let full = spec.set_hostname_as_fqdn.unwrap_or(false) && !domain.is_empty();
    let kernel = if full {
        format!("{host}.{domain}")
    } else {
        host.clone()
    };
    if kernel.len() > MAX_FQDN {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {kernel} is too long ({MAX_FQDN} characters is the max, \
             {} characters requested)",
            kernel.len()
        ));
    }
    Ok(Names {
        host,
        domain,
        kernel,
    })
}

fn shortened(name: &str) -> &str {
    match name.char_indices().map(|(at, _)| at).nth(MAX_HOSTNAME) {
        Some(end) => name[..end].trim_end_matches(['-', '.']),
        None => name,
    }
}

/// The hosts file of a Pod with these addresses; `node_file` is the node's own, for hostNetwork.
pub(crate) fn hosts(pod: &Pod, ips: &[IpAddr], names: &Names, node_file: Option<&str>) -> String {
    let mut text = match node_file {
        Some(file) => format!("# Kubernetes-managed hosts file (host network).\n{file}"),
        None => {
            let mut text = HEADER.to_owned();
            for ip in ips {
                // Writing to a String cannot fail.
                let _ = match names.domain.as_str() {
                    "" => writeln!(text, "{ip}\t{}", names.host),
                    domain => writeln!(text, "{ip}\t{}.{domain}\t{}", names.host, names.host),
                };
            }
            text
        }
    };
    let aliases = pod
        .spec
        .as_ref()
        .and_then(|s| s.host_aliases.as_deref())
        .unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let _ = writeln!(
                text,
                "{}\t{}",
                alias.ip,
                alias.hostnames.as_deref().unwrap_or_default().join("\t")
            );
        }
    }
    text
}

/// Resolver settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    pub(crate) servers: Vec<String>,
    pub(crate) searches: Vec<String>,
    pub(crate) options: Vec<String>,
}

impl Resolver {
    /// Reads a resolv.conf: name servers add up, the last search list counts, options add up.
    pub(crate) fn parse(text: &str) -> Self {
        let mut found = Resolver::default();
        for line in text
            .lines()
            .filter(|l| !l.trim_start().starts_with(['#', ';']))
        {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => found.servers.extend(words.next().map(str::to_owned)),
                Some("search") => {
                    let trimmed = words.map(|w| w.strip_suffix('.').unwrap_or(w).to_owned());
                    found.searches = trimmed.filter(|w| !w.is_empty()).collect();
                }
                Some("options") => words.for_each(|w| merge_option(&mut found.options, w)),
                _ => {}
            }
        }
        found
    }

    /// The file as containers see it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            let _ = writeln!(text, "search {}", self.searches.join(" "));
        }
        for server in &self.servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.join(" "));
        }
        text
    }
}

/// The resolver of a Pod, and texts of events to report (reason, message).
pub(crate) fn resolver(
    pod: &Pod,
    node: &Resolver,
    cluster_dns: &[IpAddr],
    cluster_domain: &str,
) -> (Resolver, Vec<(&'static str, String)>) {
    let spec = pod.spec.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut events = Vec::new();
    let on_host = spec.host_network.unwrap_or(false);
    let in_cluster = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" => !on_host,
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut resolver = if spec.dns_policy.as_deref() == Some("None") {
        Resolver::default()
    } else if in_cluster && cluster_dns.is_empty() {
        let pod = lifecycle::text::pod_format(pod);
        let text = format!(
            "pod: {pod:?}. kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. Falling \
             back to \"Default\" policy."
        );
        events.push(("MissingClusterDNS", text));
        node.clone()
    } else if in_cluster {
        let own = [
            format!("{namespace}.svc.{cluster_domain}"),
            format!("svc.{cluster_domain}"),
            cluster_domain.to_owned(),
        ];
        let mut searches = own.to_vec();
        extend_unique(&mut searches, &node.searches);
        Resolver {
            servers: cluster_dns.iter().map(ToString::to_string).collect(),
            searches,
            options: vec!["ndots:5".into()],
        }
    } else {
        node.clone()
    };
    if let Some(config) = spec.dns_config {
        extend_unique(
            &mut resolver.servers,
            &config.nameservers.unwrap_or_default(),
        );
        extend_unique(&mut resolver.searches, &config.searches.unwrap_or_default());
        for option in config.options.into_iter().flatten() {
            let name = option.name.unwrap_or_default();
            let text = option
                .value
                .filter(|v| !v.is_empty())
                .map_or_else(|| name.clone(), |v| format!("{name}:{v}"));
            merge_option(&mut resolver.options, &text);
        }
    }
    limit(&mut resolver, &mut events);
    (resolver, events)
}

fn extend_unique(list: &mut Vec<String>, more: &[String]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// An option of the same name is replaced.
fn merge_option(options: &mut Vec<String>, option: &str) {
    let name = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
    match options.iter_mut().find(|o| name(o) == name(option)) {
        Some(old) => option.clone_into(old),
        None => options.push(option.to_owned()),
    }
}

fn limit(resolver: &mut Resolver, events: &mut Vec<(&'static str, String)>) {
    if resolver.servers.len() > MAX_NAMESERVERS {
        resolver.servers.truncate(MAX_NAMESERVERS);
        let line = resolver.servers.join(" ");
        let text = format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {line}"
        );
        events.push(("DNSConfigForming", text));
    }
    let before = resolver.searches.len();
    resolver.searches.retain(|s| s.len() <= MAX_DOMAIN_BYTES);
    resolver.searches.truncate(MAX_SEARCHES);
    while resolver.searches.join(" ").len() > MAX_SEARCH_BYTES {
        resolver.searches.pop();
    }
    if resolver.searches.len() < before {
        let line = resolver.searches.join(" ");
        let text = format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {line}"
        );
        events.push(("DNSConfigForming", text));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}),
        )
        .unwrap()
    }

    #[test]
    fn names_follow_hostname_and_subdomain() {
        let long = format!("{}-x", "a".repeat(62));
        let rows = [
            (json!({"containers": []}), ("p", "", "p")),
            (
                json!({"containers": [], "hostname": "h", "subdomain": "s"}),
                ("h", "s.n.svc.c.l", "h"),
            ),
            (
                json!({"containers": [], "hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}),
                ("h", "s.n.svc.c.l", "h.s.n.svc.c.l"),
            ),
            (
                json!({"containers": [], "hostnameOverride": "a.b"}),
                ("a.b", "", "a.b"),
            ),
            (
                json!({"containers": [], "hostname": long}),
                (&"a".repeat(62), "", &"a".repeat(62)),
            ),
        ];
        for (spec, (host, domain, kernel)) in rows {
            let want = Names {
                host: host.into(),
                domain: domain.into(),
                kernel: kernel.into(),
            };
            assert_eq!(names(&pod(spec), "c.l"), Ok(want));
        }
        let spec = json!({"containers": [], "hostname": "h".repeat(60), "subdomain": "s", "setHostnameAsFQDN": true});
        assert!(
            names(&pod(spec), "c.l")
                .unwrap_err()
                .contains("is too long (64 characters is the max, 72 characters requested)")
        );
    }

    #[test]
    fn the_hosts_file_is_upstreams_to_the_byte() {
        let pod = pod(
            json!({"containers": [], "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}),
        );
        let named = |domain: &str| Names {
            host: "p".into(),
            domain: domain.into(),
            kernel: "p".into(),
        };
        let ips = ["10.0.0.2".parse().unwrap()];
        let text = hosts(&pod, &ips, &named("s.n"), None);
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost"), "{text}");
        assert!(
            text.ends_with(
                "10.0.0.2\tp.s.n\tp\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"
            ),
            "{text}"
        );
        assert!(hosts(&pod, &ips, &named(""), None).contains("\n10.0.0.2\tp\n"));
        let host = hosts(&pod, &ips, &named(""), Some("127.0.0.1 me\n"));
        assert!(
            host.starts_with(
                "# Kubernetes-managed hosts file (host network).\n127.0.0.1 me\n\n# Entries"
            ),
            "{host}"
        );
    }

    #[test]
    fn resolvers_follow_the_policy() {
        let node = Resolver::parse(
            "# x\nsearch a.\nsearch corp.example .\nnameserver 9.9.9.9\noptions ndots:1 edns0\n",
        );
        let dns = ["10.96.0.10".parse().unwrap()];
        let cases = [
            (
                json!({"containers": []}),
                "search n.svc.c.l svc.c.l c.l corp.example\nnameserver 10.96.0.10\noptions ndots:5\n",
            ),
            (
                json!({"containers": [], "hostNetwork": true}),
                "search corp.example\nnameserver 9.9.9.9\noptions ndots:1 edns0\n",
            ),
            (
                json!({"containers": [], "dnsPolicy": "Default"}),
                "search corp.example\nnameserver 9.9.9.9\noptions ndots:1 edns0\n",
            ),
            (
                json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.1"], "options": [{"name": "a", "value": "1"}, {"name": "b"}]}}),
                "nameserver 1.1.1.1\noptions a:1 b\n",
            ),
        ];
        for (spec, want) in cases {
            let (resolver, events) = resolver(&pod(spec), &node, &dns, "c.l");
            assert_eq!(resolver.text(), want);
            assert_eq!(events, []);
        }
    }

    #[test]
    fn limits_and_missing_dns_are_told() {
        let node = Resolver::default();
        let spec = json!({"containers": [], "dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]}});
        let (limited, events) =
            resolver(&pod(spec), &node, &["10.96.0.10".parse().unwrap()], "c.l");
        assert_eq!(limited.servers.len(), 3);
        assert!(
            events[0].1.ends_with("line is: 10.96.0.10 1.1.1.1 1.1.1.2"),
            "{events:?}"
        );
        let (_, events) = resolver(&pod(json!({"containers": []})), &node, &[], "c.l");
        assert_eq!(events[0].0, "MissingClusterDNS");
    }
}
