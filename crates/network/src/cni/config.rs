//! Network configurations as administrators write them: lists of plugins (`.conflist`), or one plugin alone.

use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::version::{self, Version};

/// A network: plugins that are asked one after another.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) version: Version,
    pub(super) disable_check: bool,
    pub(super) disable_gc: bool,
    /// In order; there is at least one.
    pub(super) plugins: Vec<Plugin>,
}

/// One plugin of a network.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plugin {
    /// Name of its program.
    pub(super) kind: String,
    /// Data from the runtime it wants to have (`capabilities`).
    pub(super) capabilities: Vec<String>,
    /// Its configuration, as it is written.
    pub(super) config: Map<String, Value>,
}

/// Why a configuration is none.
#[derive(Debug, Error)]
pub(super) enum ConfigError {
    #[error("it is no JSON object")]
    Json(#[source] serde_json::Error),
    #[error("no name")]
    NoName,
    #[error("{0:?} is no name of a network: letters, digits, '.', '-' and '_' are")]
    Name(String),
    #[error("no plugins")]
    NoPlugins,
    #[error("plugin {0} has no type")]
    NoType(usize),
    #[error("version {0:?} of CNI is not known here")]
    Version(String),
    #[error("disableCheck and disableGC are true or false")]
    Flag,
}

/// What files that hold a network end with.
const ENDINGS: [&str; 3] = [".conf", ".conflist", ".json"];
const LIST: &str = ".conflist";

/// The file that counts among those of a directory: the first in lexical order, as containerd has it.
pub(super) fn first<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let fits = |name: &&str| ENDINGS.iter().any(|ending| name.ends_with(ending));
    names.into_iter().filter(fits).min()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    cni_version: Option<String>,
    #[serde(default)]
    cni_versions: Vec<String>,
    #[serde(default)]
    disable_check: Value,
    #[serde(default, rename = "disableGC")]
    disable_gc: Value,
}

/// Reads a network; the file's name tells a list from a plugin alone.
///
/// # Errors
/// What of it is missing or wrong.
pub(super) fn parse(file_name: &str, text: &str) -> Result<Network, ConfigError> {
    let whole: Map<String, Value> = serde_json::from_str(text).map_err(ConfigError::Json)?;
    let head: Head =
        serde_json::from_value(Value::Object(whole.clone())).map_err(ConfigError::Json)?;
    let name = head.name.filter(|name| !name.is_empty());
    let name = name.ok_or(ConfigError::NoName)?;
    if !is_name(&name) {
        return Err(ConfigError::Name(name));
    }
    let version = version::choose(head.cni_version.as_deref(), &head.cni_versions);
    let entries = match file_name.ends_with(LIST) {
        true => match whole.get("plugins") {
            Some(Value::Array(entries)) => entries.clone(),
            _ => Vec::new(),
        },
        false => vec![Value::Object(whole)],
    };
    let plugins = entries.into_iter().enumerate().map(plugin);
    let plugins = plugins.collect::<Result<Vec<Plugin>, ConfigError>>()?;
    if plugins.is_empty() {
        return Err(ConfigError::NoPlugins);
    }
    Ok(Network {
        name,
        version: version.map_err(ConfigError::Version)?,
        disable_check: flag(&head.disable_check)?,
        disable_gc: flag(&head.disable_gc)?,
        plugins,
    })
}

fn plugin((number, entry): (usize, Value)) -> Result<Plugin, ConfigError> {
    let Value::Object(config) = entry else {
        return Err(ConfigError::NoType(number));
    };
    let kind = config.get("type").and_then(Value::as_str);
    let kind = kind.filter(|kind| !kind.is_empty());
    let kind = kind.ok_or(ConfigError::NoType(number))?.to_owned();
    let declared = config.get("capabilities").and_then(Value::as_object);
    let declared = declared.into_iter().flatten();
    let wanted = declared.filter(|(_, wanted)| **wanted == Value::Bool(true));
    Ok(Plugin {
        kind,
        capabilities: wanted.map(|(name, _)| name.clone()).collect(),
        config,
    })
}

/// A flag may be written as text.
fn flag(value: &Value) -> Result<bool, ConfigError> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(*flag),
        Value::String(text) => text.parse().map_err(|_| ConfigError::Flag),
        _ => Err(ConfigError::Flag),
    }
}

/// What names of networks look like (libcni).
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_in_lexical_order_counts() {
        for (names, chosen) in [
            (&["b.conf", "a.conflist", "c.json"][..], Some("a.conflist")),
            (&["20-x.json", "10-x.conf"], Some("10-x.conf")),
            (&["a.conf.bak", "README", ".a.conf.swp"], None),
            (&[], None),
        ] {
            assert_eq!(first(names.iter().copied()), chosen);
        }
    }

    #[test]
    fn lists_and_single_plugins_are_read() {
        let list = r#"{"cniVersion": "0.4.0", "cniVersions": ["1.0.0"], "name": "pods", "disableCheck": "true", "plugins": [
            {"type": "bridge", "ipam": {"type": "host-local"}},
            {"type": "portmap", "capabilities": {"portMappings": true, "bandwidth": false}}]}"#;
        let list = parse("10.conflist", list).expect("a list");
        assert_eq!(
            (&*list.name, list.version, list.disable_check),
            ("pods", Version::V1_0_0, true)
        );
        let kinds: Vec<_> = list
            .plugins
            .iter()
            .map(|p| (&*p.kind, &p.capabilities[..]))
            .collect();
        assert_eq!(
            kinds,
            [
                ("bridge", &[][..]),
                ("portmap", &["portMappings".to_owned()])
            ]
        );
        let alone = r#"{"name": "one", "type": "ptp", "mtu": 1400}"#;
        let alone = parse("10.json", alone).expect("a plugin");
        assert_eq!(alone.version, Version::V0_1_0);
        assert_eq!(alone.plugins[0].config["mtu"], 1400);
    }

    #[test]
    fn what_is_no_network_is_told() {
        let deep = "[".repeat(100_000);
        for (file, text, why) in [
            ("a.conflist", "", "it is no JSON object"),
            ("a.conflist", "[]", "it is no JSON object"),
            ("a.conflist", &deep, "it is no JSON object"),
            ("a.conflist", r#"{"name": 7}"#, "it is no JSON object"),
            ("a.conflist", "{}", "no name"),
            ("a.conflist", r#"{"name": ""}"#, "no name"),
            ("a.conflist", r#"{"name": "a/b"}"#, "\"a/b\" is no name"),
            ("a.conflist", r#"{"name": "-a"}"#, "\"-a\" is no name"),
            ("a.conflist", r#"{"name": "a"}"#, "no plugins"),
            (
                "a.conflist",
                r#"{"name": "a", "plugins": {}}"#,
                "no plugins",
            ),
            (
                "a.conflist",
                r#"{"name": "a", "plugins": []}"#,
                "no plugins",
            ),
            (
                "a.conflist",
                r#"{"name": "a", "plugins": [{"type": "b"}, 3]}"#,
                "plugin 1 has no type",
            ),
            ("a.conf", r#"{"name": "a"}"#, "plugin 0 has no type"),
            (
                "a.conf",
                r#"{"name": "a", "type": ""}"#,
                "plugin 0 has no type",
            ),
            (
                "a.conf",
                r#"{"name": "a", "type": "b", "cniVersion": "7.0.0"}"#,
                "version \"7.0.0\"",
            ),
            (
                "a.conf",
                r#"{"name": "a", "type": "b", "disableCheck": "often"}"#,
                "disableCheck",
            ),
        ] {
            let error = parse(file, text).expect_err(why).to_string();
            assert!(error.starts_with(why), "{error}, not {why}");
        }
    }
}
