//! Addresses and networks: in fields that predate strict parsing (upstream's "legacy" IP fields), and in those that want them written
//! in the one canonical way (RFC 5952 for IPv6).

use std::net::{IpAddr, Ipv4Addr};

use api::field::{Error, ErrorList, Path};

/// Parses as Go's older parser did: leading zeros in IPv4 octets are decimal.
pub(crate) fn parse_sloppy(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let octets: Vec<&str> = text.split('.').collect();
    let [a, b, c, d] = octets.as_slice() else {
        return None;
    };
    let octet = |text: &str| -> Option<u8> {
        let stripped = text.trim_start_matches('0');
        let digits = if stripped.is_empty() && !text.is_empty() {
            "0"
        } else {
            stripped
        };
        (digits.bytes().all(|c| c.is_ascii_digit()) && digits.len() <= 3)
            .then(|| digits.parse().ok())
            .flatten()
    };
    Some(IpAddr::V4(Ipv4Addr::new(
        octet(a)?,
        octet(b)?,
        octet(c)?,
        octet(d)?,
    )))
}

/// An IP address, unless `old` already held the same text.
pub(crate) fn ip(path: &Path, text: &str, old: &[&str]) -> ErrorList {
    if old.contains(&text) {
        return ErrorList::new();
    }
    let strict = text.parse::<IpAddr>();
    let Some(_) = parse_sloppy(text) else {
        return vec![Error::invalid(
            path,
            text,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        )];
    };
    match strict {
        Err(_) => vec![Error::invalid(path, text, "must not have leading 0s")],
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => vec![Error::invalid(
            path,
            text,
            "must not be an IPv4-mapped IPv6 address",
        )],
        Ok(_) => ErrorList::new(),
    }
}

/// A network in CIDR form, unless `old` already held the same text.
pub(crate) fn cidr(path: &Path, text: &str, old: &[&str]) -> ErrorList {
    if old.contains(&text) {
        return ErrorList::new();
    }
    let invalid = |detail: String| vec![Error::invalid(path, text, detail)];
    let Some((ip, bits)) = parse_cidr(text) else {
        return invalid(
            "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned(),
        );
    };
    let (address, length) = text.split_once('/').unwrap_or_default();
    if address.parse::<IpAddr>().is_err() || (length.len() > 1 && length.starts_with('0')) {
        return invalid("must not have leading 0s in IP or prefix length".to_owned());
    }
    if matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return invalid("must not have an IPv4-mapped IPv6 address".to_owned());
    }
    if network_of(ip, bits) != ip {
        return invalid("must not have bits set beyond the prefix length".to_owned());
    }
    ErrorList::new()
}

/// Whether the text is a network, written in whatever way.
pub(crate) fn is_cidr(text: &str) -> bool {
    parse_cidr(text).is_some()
}

/// Whether a network is part of another, and not all of it.
pub(crate) fn is_strictly_within(inner: &str, outer: &str) -> bool {
    match (parse_cidr(inner), parse_cidr(outer)) {
        (Some((ip, length)), Some((base, bits))) => {
            ip.is_ipv4() == base.is_ipv4()
                && length > bits
                && network_of(ip, bits) == network_of(base, bits)
        }
        _ => false,
    }
}

/// What there is to say of a valid network that is not written as it should be.
pub(crate) fn cidr_warning(path: &Path, text: &str) -> Option<String> {
    let (ip, bits) = parse_cidr(text).filter(|(ip, _)| ip.is_ipv6())?;
    let canonical = format!("{ip}/{bits}");
    (canonical != text).then(|| {
        format!(
            "{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})"
        )
    })
}

/// Address and prefix length of a network, read as Go's older parser did.
fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let ip = parse_sloppy(address)?;
    let bits = length.parse().ok().filter(|_| !length.starts_with('+'))?;
    (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, bits))
}

/// An IP address in canonical form.
pub(crate) fn canonical_ip(path: &Path, text: &str) -> ErrorList {
    let errors = ip(path, text, &[]);
    match text.parse::<IpAddr>() {
        Ok(ip) if errors.is_empty() => canonical(path, text, &ip.to_string()),
        _ => errors,
    }
}

/// A network in canonical form.
pub(crate) fn canonical_cidr(path: &Path, text: &str) -> ErrorList {
    let errors = cidr(path, text, &[]);
    match parse_cidr(text) {
        Some((ip, bits)) if errors.is_empty() => canonical(path, text, &format!("{ip}/{bits}")),
        _ => errors,
    }
}

/// Whether both are networks, and of the same address family.
pub(crate) fn are_of_one_family(one: &str, other: &str) -> bool {
    match (parse_cidr(one), parse_cidr(other)) {
        (Some((one, _)), Some((other, _))) => one.is_ipv4() == other.is_ipv4(),
        _ => false,
    }
}

fn canonical(path: &Path, text: &str, wanted: &str) -> ErrorList {
    if text == wanted {
        return ErrorList::new();
    }
    vec![Error::invalid(
        path,
        text,
        format!("must be in canonical form ({wanted:?})"),
    )]
}

fn network_of(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::V4(
            (u32::from(v4) & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)).into(),
        ),
        IpAddr::V6(v6) => IpAddr::V6(
            (u128::from(v6) & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)).into(),
        ),
    }
}

/// An address that can be an endpoint.
pub(crate) fn endpoint_ip(path: &Path, text: &str) -> ErrorList {
    let Some(ip) = parse_sloppy(text) else {
        return vec![Error::invalid(path, text, "must be a valid IP address")];
    };
    let mut errors = ErrorList::new();
    let mut refuse = |detail: String| errors.push(Error::invalid(path, text, detail));
    if ip.is_unspecified() {
        refuse(format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        refuse("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned());
    }
    let (link_unicast, link_multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (
            v6.segments()[0] & 0xffc0 == 0xfe80,
            v6.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    if link_unicast {
        refuse("may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned());
    }
    if link_multicast {
        refuse("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned());
    }
    errors
}

/// Whether there is at most one address of each family.
pub(crate) fn one_per_family(ips: &[&str]) -> bool {
    let v4 = ips.iter().filter(|ip| !ip.contains(':')).count();
    v4 <= 1 && ips.len() - v4 <= 1
}
