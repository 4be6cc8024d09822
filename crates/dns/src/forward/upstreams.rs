//! Whom the node asks about names.

use std::net::{IpAddr, SocketAddr};

/// The port of name servers.
const PORT: u16 = 53;
/// More are not asked (resolv.conf(5), MAXNS).
const MOST: usize = 3;

/// Name servers in the order in which they are asked, and the domains that short names are looked up in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upstreams {
    /// Addresses and ports.
    pub servers: Vec<SocketAddr>,
    /// Domains without a last dot.
    pub searches: Vec<String>,
}

impl Upstreams {
    /// Reads a resolv.conf(5): name servers add up, the last list of domains counts; what cannot be read is passed over.
    pub fn parse(text: &str) -> Self {
        let mut found = Upstreams::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let ip = words.next().and_then(|ip| ip.parse::<IpAddr>().ok());
                    found.servers.extend(ip.map(|ip| SocketAddr::new(ip, PORT)));
                }
                Some("search" | "domain") => {
                    let domains = words.map(|domain| domain.trim_end_matches('.').to_owned());
                    found.searches = domains.filter(|domain| !domain.is_empty()).collect();
                }
                _ => {}
            }
        }
        found.servers.truncate(MOST);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_resolvers_read() {
        let server = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), PORT);
        for (text, servers, searches) in [
            ("", vec![], vec![]),
            (
                "# nameserver 9.9.9.9\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \nnameserver here\n",
                vec![server("192.0.2.1"), server("2001:db8::1")],
                vec![],
            ),
            (
                "search a.example. b.example\nsearch c.example .\noptions ndots:2\n",
                vec![],
                vec!["c.example"],
            ),
            (
                "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n",
                vec![
                    server("192.0.2.1"),
                    server("192.0.2.2"),
                    server("192.0.2.3"),
                ],
                vec![],
            ),
        ] {
            let searches = searches.into_iter().map(str::to_owned).collect();
            assert_eq!(
                Upstreams::parse(text),
                Upstreams { servers, searches },
                "{text}"
            );
        }
    }
}
