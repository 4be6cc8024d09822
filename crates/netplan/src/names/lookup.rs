//! From a question to its answer.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Names;
use super::message::{Answer, Data, Kind, Question, Record, Reply};
use super::service::{Host, Named, Port, Slice, dashed};
use crate::Key;

/// The version of the specification that is followed, as `dns-version` has it.
const VERSION: &str = "1.1.0";
/// The Service of the name server.
const SERVER: &str = "kube-dns.kube-system.svc";
/// So often is an alias followed: more are a circle.
const ALIASES: usize = 8;

impl Names {
    /// Answers a question that came from the address `from`.
    pub fn answer(&self, question: &Question, from: IpAddr) -> Answer {
        let Some(rest) = self.below_domain(&question.labels) else {
            return self.reverse(question);
        };
        let mut reply = Reply::default();
        self.resolve(rest, question.name(), question.kind, &mut reply);
        if !reply.exists && reply.records.is_empty() {
            reply.exists = match rest {
                [name] => self.is_expected(name, from),
                [name, svc] => svc == "svc" && self.is_expected(name, from),
                _ => false,
            };
        }
        let kind = question.kind;
        let has_answer = reply.records.iter().any(|r| r.data.answers(kind));
        if !has_answer && reply.follow.is_none() {
            reply.zone = Some(self.start_of_zone(self.domain.join(".")));
        }
        Answer::Ours(reply)
    }

    /// Whether a Pod at this address has a Service of this name in its namespace. BusyBox then takes it amiss if the name does not
    /// exist under any other domain of its search list.
    pub fn is_expected(&self, name: &str, from: IpAddr) -> bool {
        let pods = self.pods_at.at(from);
        let mut pods = pods.filter(|key| self.pods.get(key).is_some_and(|pod| !pod.on_host));
        pods.any(|(namespace, _)| self.services.contains_key(&own(namespace, name)))
    }

    /// The labels before the cluster's domain.
    fn below_domain<'a>(&self, labels: &'a [String]) -> Option<&'a [String]> {
        labels.strip_suffix(self.domain.as_slice())
    }

    fn resolve(&self, rest: &[String], name: String, kind: Kind, reply: &mut Reply) {
        let Some(found) = self.find(rest, kind) else {
            return;
        };
        let alias = found.iter().find_map(|data| match data {
            Data::Cname(target) => Some(target.clone()),
            _ => None,
        });
        for data in found {
            if data.answers(kind) || alias.is_some() {
                if let Data::Srv { target, .. } = &data {
                    self.add_addresses(target, &mut reply.more);
                }
                let name = name.clone();
                reply.records.push(Record { name, data });
            }
        }
        reply.exists = true;
        if let Some(target) = alias.filter(|_| !matches!(kind, Kind::Cname | Kind::Any)) {
            reply.exists = false;
            self.follow(&target, kind, reply);
        }
    }

    fn follow(&self, target: &str, kind: Kind, reply: &mut Reply) {
        let next = Question::of(target, kind);
        match self.below_domain(&next.labels) {
            Some(_) if reply.records.len() >= ALIASES => {}
            Some(rest) => self.resolve(rest, next.name(), kind, reply),
            None => {
                reply.exists = true;
                reply.follow = Some(next.name());
            }
        }
    }

    fn add_addresses(&self, target: &str, more: &mut Vec<Record>) {
        if more.iter().any(|record| record.name == target) {
            return;
        }
        let labels = Question::of(target, Kind::Any).labels;
        let found = self
            .below_domain(&labels)
            .and_then(|rest| self.find(rest, Kind::A));
        let addresses = found.into_iter().flatten();
        let addresses = addresses.filter(|data| matches!(data, Data::A(_) | Data::Aaaa(_)));
        more.extend(addresses.map(|data| Record {
            name: target.to_owned(),
            data,
        }));
    }

    /// What a name has, at least of type `kind`; `None` if there is no such name, nor any below it.
    fn find(&self, rest: &[String], kind: Kind) -> Option<Vec<Data>> {
        let labels: Vec<&str> = rest.iter().map(String::as_str).collect();
        match labels.as_slice() {
            [] => {
                let start = self.start_of_zone(String::new()).data;
                Some(vec![start, Data::Ns(self.whole(SERVER))])
            }
            ["dns-version"] => Some(vec![Data::Txt(VERSION.to_owned())]),
            ["svc" | "pod"] => Some(Vec::new()),
            [namespace, "svc"] => self.has_service(namespace).then(Vec::new),
            [name, namespace, "svc"] => self.service_records(&own(namespace, name), kind),
            [inner, name, namespace, "svc"] => self.below_service(&own(namespace, name), inner),
            [port, protocol, name, namespace, "svc"] => {
                let (port, protocol) = (port.strip_prefix('_')?, protocol.strip_prefix('_')?);
                let is_it = |p: &Port| p.name == port && p.protocol == protocol;
                let found = self.ports(&own(namespace, name), is_it);
                (!found.is_empty()).then_some(found)
            }
            [namespace, "pod"] => self.has_pod(namespace).then(Vec::new),
            [address, namespace, "pod"] => self.pod_records(address, namespace),
            _ => None,
        }
    }

    fn service_records(&self, key: &Key, kind: Kind) -> Option<Vec<Data>> {
        let mut found: Vec<Data> = match self.services.get(key)? {
            Named::Alias(target) if target.parse::<IpAddr>().is_ok() => Vec::new(),
            Named::Alias(target) => vec![Data::Cname(Question::of(target, kind).name())],
            Named::Cluster { addresses, .. } => {
                addresses.iter().copied().map(Data::address).collect()
            }
            Named::Headless => {
                let all: BTreeSet<IpAddr> =
                    self.hosts(key).map(|(_, _, address)| address).collect();
                all.into_iter().map(Data::address).collect()
            }
        };
        // CoreDNS tells all ports of a Service by its name alone.
        if kind == Kind::Srv {
            found.extend(self.ports(key, |_| true));
        }
        Some(found)
    }

    /// A label right below a Service: a protocol of its ports, or one of its endpoints.
    fn below_service(&self, key: &Key, label: &str) -> Option<Vec<Data>> {
        self.services.get(key)?;
        if let Some(protocol) = label.strip_prefix('_') {
            let ports = self.ports(key, |port| port.protocol == protocol);
            return (!ports.is_empty()).then(Vec::new);
        }
        let hosts = self.hosts(key);
        let named = hosts.filter(|(_, host, address)| host.name(*address) == label);
        let found: BTreeSet<Data> = named.map(|(_, _, at)| Data::address(at)).collect();
        (!found.is_empty()).then(|| found.into_iter().collect())
    }

    /// The named ports of a Service, as far as asked for: its own, or those of its endpoints.
    fn ports(&self, key: &Key, is_asked: impl Fn(&Port) -> bool) -> Vec<Data> {
        let service = self.whole(&format!("{}.{}.svc", key.1, key.0));
        let srv = |port: &Port, target: String| Data::Srv {
            port: port.number,
            target,
        };
        let found: BTreeSet<Data> = match self.services.get(key) {
            Some(Named::Cluster { ports, .. }) => {
                let ports = ports.iter().filter(|port| is_asked(port));
                ports.map(|port| srv(port, service.clone())).collect()
            }
            Some(Named::Headless) => {
                let hosts = self.hosts(key);
                let each = hosts.flat_map(|(slice, host, address)| {
                    let target = format!("{}.{service}", host.name(address));
                    let ports = slice.ports.iter().filter(|port| is_asked(port));
                    ports.map(move |port| srv(port, target.clone()))
                });
                each.collect()
            }
            Some(Named::Alias(_)) | None => BTreeSet::new(),
        };
        found.into_iter().collect()
    }

    /// The endpoints of a Service, at each of their addresses.
    fn hosts(&self, key: &Key) -> impl Iterator<Item = (&Slice, &Host, IpAddr)> {
        let names = self.of_service.get(key).into_iter().flatten();
        let namespace = key.0.clone();
        let slices = names.filter_map(move |name| self.slices.get(&own(&namespace, name)));
        slices.flat_map(|slice| {
            let hosts = slice.endpoints.iter();
            hosts.flat_map(move |host| host.addresses.iter().map(move |at| (slice, host, *at)))
        })
    }

    fn has_service(&self, namespace: &str) -> bool {
        let from = self.services.range(own(namespace, "")..);
        from.map(|(key, _)| &key.0)
            .next()
            .is_some_and(|n| n == namespace)
    }

    fn has_pod(&self, namespace: &str) -> bool {
        let from = self.pods.range(own(namespace, "")..);
        let mut pods = from.take_while(|(key, _)| key.0 == namespace);
        pods.any(|(_, pod)| !pod.addresses.is_empty())
    }

    fn pod_records(&self, label: &str, namespace: &str) -> Option<Vec<Data>> {
        let address = undashed(label)?;
        let is_there = self.pods_at.at(address).any(|(of, _)| of == namespace);
        is_there.then(|| vec![Data::address(address)])
    }

    pub(super) fn start_of_zone(&self, name: String) -> Record {
        Record {
            name,
            data: Data::Soa {
                server: self.whole(SERVER),
                mailbox: self.whole("hostmaster"),
            },
        }
    }

    /// A name below the domain, whole.
    pub(super) fn whole(&self, name: &str) -> String {
        format!("{name}.{}", self.domain.join("."))
    }
}

pub(super) fn own(namespace: &str, name: &str) -> Key {
    (namespace.to_owned(), name.to_owned())
}

/// The address that a label is made from. Only the way it is made is taken, so that an address has one name.
fn undashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    let v6 = || label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6);
    let address = v4.or_else(|_| v6()).ok()?;
    (dashed(address) == label).then_some(address)
}
