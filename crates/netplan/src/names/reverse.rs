//! From an address to its names.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Names;
use super::lookup::own;
use super::message::{Answer, Data, Question, Record, Reply};
use super::service::Named;

impl Names {
    /// Addresses nobody here has are not ours to tell about.
    pub(super) fn reverse(&self, question: &Question) -> Answer {
        let Some(address) = address_of(&question.labels) else {
            return Answer::Elsewhere;
        };
        let services = self.services_at.at(address);
        let services = services.map(|(namespace, name)| format!("{name}.{namespace}.svc"));
        let mut names: BTreeSet<String> = services.collect();
        if names.is_empty() {
            names = self.endpoints_at(address);
        }
        if names.is_empty() {
            return Answer::Elsewhere;
        }
        let names = names.into_iter().map(|name| Data::Ptr(self.whole(&name)));
        let asked = names.filter(|data| data.answers(question.kind));
        let records: Vec<Record> = asked
            .map(|data| Record {
                name: question.name(),
                data,
            })
            .collect();
        let zone = records
            .is_empty()
            .then(|| self.start_of_zone(question.name()));
        Answer::Ours(Reply {
            exists: true,
            records,
            zone,
            ..Reply::default()
        })
    }

    /// The names of endpoints of headless Services at an address.
    fn endpoints_at(&self, address: IpAddr) -> BTreeSet<String> {
        let slices = self.slices_at.at(address).filter_map(|key| {
            let slice = self.slices.get(key)?;
            let service = own(&key.0, &slice.service);
            let is_headless = self.services.get(&service) == Some(&Named::Headless);
            is_headless.then_some((slice, service))
        });
        let names = slices.flat_map(|(slice, (namespace, service))| {
            let hosts = slice.endpoints.iter();
            let hosts = hosts.filter(move |host| host.addresses.contains(&address));
            hosts.map(move |host| format!("{}.{service}.{namespace}.svc", host.name(address)))
        });
        names.collect()
    }
}

/// The address of a name of the reverse zones (RFC 1035 section 3.5, RFC 3596 section 2.5).
fn address_of(labels: &[String]) -> Option<IpAddr> {
    let (digits, zone) = labels.split_at_checked(labels.len().checked_sub(2)?)?;
    let (base, zone) = match zone {
        [inner, outer] if outer == "arpa" => match inner.as_str() {
            "in-addr" => (10, 4),
            "ip6" => (16, 32),
            _ => return None,
        },
        _ => return None,
    };
    let digits: Option<Vec<u8>> = digits
        .iter()
        .rev()
        .map(|digit| u8::from_str_radix(digit, base).ok())
        .collect();
    let digits = digits.filter(|digits| digits.len() == zone)?;
    if let Ok(octets) = <[u8; 4]>::try_from(digits.as_slice()) {
        return Some(octets.into());
    }
    let nibbles = digits.iter().all(|digit| *digit < 16);
    let octets: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair[0] * 16 + pair[1])
        .collect();
    <[u8; 16]>::try_from(octets)
        .ok()
        .filter(|_| nibbles)
        .map(IpAddr::from)
}
