//! Versions of the specification, and which of them is spoken on a network.

/// A version of CNI this runtime knows, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

use Version::*;

const ALL: [(Version, &str); 7] = [
    (V0_1_0, "0.1.0"),
    (V0_2_0, "0.2.0"),
    (V0_3_0, "0.3.0"),
    (V0_3_1, "0.3.1"),
    (V0_4_0, "0.4.0"),
    (V1_0_0, "1.0.0"),
    (V1_1_0, "1.1.0"),
];

/// How a result is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// One address of each family, `ip4` and `ip6` (to 0.2.0).
    Families,
    /// A list of addresses that name their family (to 0.4.0).
    Versioned,
    /// A list of addresses.
    Plain,
}

impl Version {
    /// The version of that number; none at all is the first one's way.
    pub(super) fn parse(text: &str) -> Option<Version> {
        if text.is_empty() {
            return Some(V0_1_0);
        }
        let found = ALL.iter().find(|(_, number)| *number == text);
        found.map(|(version, _)| *version)
    }

    pub(super) fn number(self) -> &'static str {
        ALL[self as usize].1
    }

    pub(super) fn layout(self) -> Layout {
        match self {
            V0_1_0 | V0_2_0 => Layout::Families,
            V0_3_0 | V0_3_1 | V0_4_0 => Layout::Versioned,
            V1_0_0 | V1_1_0 => Layout::Plain,
        }
    }

    /// Whether plugins know CHECK, and are told the result on DEL.
    pub(super) fn has_check(self) -> bool {
        self >= V0_4_0
    }

    /// Whether plugins know STATUS and GC.
    pub(super) fn has_status(self) -> bool {
        self >= V1_1_0
    }
}

/// The version a network is spoken to in: the highest that is known of those its configuration names (`cniVersion`, `cniVersions`).
///
/// # Errors
/// Those it names, if none of them is known.
pub(super) fn choose(own: Option<&str>, others: &[String]) -> Result<Version, String> {
    let mut named: Vec<&str> = others.iter().map(String::as_str).collect();
    named.extend(own.or(others.is_empty().then_some("")));
    let known = named.iter().filter_map(|text| Version::parse(text)).max();
    known.ok_or_else(|| named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_that_both_know_is_spoken() {
        type Row<'a> = (Option<&'a str>, &'a [&'a str], Result<Version, &'a str>);
        let rows: [Row<'_>; 9] = [
            (Some("1.0.0"), &[], Ok(V1_0_0)),
            (None, &[], Ok(V0_1_0)),
            (Some("0.4.0"), &["1.0.0", "1.1.0"], Ok(V1_1_0)),
            (Some("1.1.0"), &["0.3.1"], Ok(V1_1_0)),
            (None, &["0.3.1", "0.4.0"], Ok(V0_4_0)),
            (Some("0.4.0"), &["9.0.0"], Ok(V0_4_0)),
            (Some("2.0.0"), &["1.0.0"], Ok(V1_0_0)),
            (Some("2.0.0"), &[], Err("2.0.0")),
            (Some("latest"), &["newest"], Err("newest, latest")),
        ];
        for (own, others, chosen) in rows {
            let others: Vec<String> = others.iter().map(|text| (*text).to_owned()).collect();
            let found = choose(own, &others);
            assert_eq!(found, chosen.map_err(str::to_owned), "{own:?} {others:?}");
        }
        for (version, number) in ALL {
            assert_eq!(version.number(), number);
        }
    }
}
