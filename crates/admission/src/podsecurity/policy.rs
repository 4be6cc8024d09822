//! Levels, versions, and the policy that a namespace's labels ask for.

use std::fmt;

use api::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::view::{dig, get};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How much a Pod may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Privileged,
    /// What is known to break out is forbidden.
    Baseline,
    /// What is known to harden is required.
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "privileged" => Self::Privileged,
            "baseline" => Self::Baseline,
            "restricted" => Self::Restricted,
            _ => return None,
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        })
    }
}

/// Of which Kubernetes version a level's checks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `v1.N`.
    Minor(u32),
    /// `latest`.
    Latest,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let plain = minor == "0" || !minor.starts_with('0');
        let digits = !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit());
        minor
            .parse()
            .ok()
            .filter(|_| plain && digits)
            .map(Self::Minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minor(minor) => write!(f, "v1.{minor}"),
            Self::Latest => f.write_str("latest"),
        }
    }
}

/// A level as it was in a version; prints as `restricted:latest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelVersion {
    /// How much a Pod may do.
    pub level: Level,
    /// By whose checks.
    pub version: Version,
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

/// What a namespace asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Pods that violate it are refused.
    pub enforce: LevelVersion,
    /// Violations are noted for the operator.
    pub audit: LevelVersion,
    /// Violations are told to the user.
    pub warn: LevelVersion,
}

impl Policy {
    /// What a namespace's labels say, and what is wrong with them. What cannot be read is `restricted` where it is enforced and
    /// `privileged` elsewhere.
    pub fn of(namespace: &Value) -> (Self, ErrorList) {
        let open = LevelVersion {
            level: Level::Privileged,
            version: Version::Latest,
        };
        let mut policy = Self {
            enforce: open,
            audit: open,
            warn: open,
        };
        let mut labels = Labels {
            map: dig(namespace, &["metadata", "labels"]),
            errors: ErrorList::new(),
        };
        let enforced = labels.read("enforce", &mut policy.enforce, Level::Restricted);
        labels.read("audit", &mut policy.audit, Level::Privileged);
        let warned = labels.read("warn", &mut policy.warn, Level::Privileged);
        // What is enforced is told too, unless the labels say otherwise.
        if !warned.level_given && enforced.level_read && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if !warned.version_given {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, labels.errors)
    }

    /// Whether nothing is ever looked at.
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn]
            .iter()
            .all(|lv| lv.level == Level::Privileged)
    }
}

struct Labels<'a> {
    map: &'a Value,
    errors: ErrorList,
}

struct Found {
    level_given: bool,
    level_read: bool,
    version_given: bool,
}

impl Labels<'_> {
    fn read(&mut self, mode: &str, into: &mut LevelVersion, unreadable: Level) -> Found {
        let level = self.get(
            &format!("{PREFIX}{mode}"),
            Level::parse,
            "must be one of privileged, baseline, restricted",
        );
        let version = self.get(
            &format!("{PREFIX}{mode}-version"),
            Version::parse,
            "must be \"latest\" or \"v1.x\"",
        );
        if let Some(found) = level {
            into.level = found.unwrap_or(unreadable);
        }
        if let Some(found) = version {
            into.version = found.unwrap_or(Version::Latest);
        }
        Found {
            level_given: level.is_some(),
            level_read: level.flatten().is_some(),
            version_given: version.is_some(),
        }
    }

    /// A label read; `None` within when it says something else.
    fn get<T>(
        &mut self,
        label: &str,
        parse: fn(&str) -> Option<T>,
        wanted: &str,
    ) -> Option<Option<T>> {
        let text = get(self.map, label).as_str()?;
        let found = parse(text);
        if found.is_none() {
            let path = Path::new("metadata").child("labels").key(label);
            self.errors.push(Error::invalid(&path, text, wanted));
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(labels: Value) -> (String, Vec<String>) {
        let mut named = serde_json::Map::new();
        for (key, value) in labels.as_object().unwrap() {
            named.insert(format!("{PREFIX}{key}"), value.clone());
        }
        let (policy, errors) = Policy::of(&json!({"metadata": {"labels": named}}));
        let text = format!("{} {} {}", policy.enforce, policy.audit, policy.warn);
        (text, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn labels_make_a_policy() {
        for (labels, wanted) in [
            (
                json!({}),
                "privileged:latest privileged:latest privileged:latest",
            ),
            (
                json!({"enforce": "baseline"}),
                "baseline:latest privileged:latest baseline:latest",
            ),
            (
                json!({"enforce": "restricted", "enforce-version": "v1.20"}),
                "restricted:v1.20 privileged:latest restricted:v1.20",
            ),
            (
                json!({"enforce": "restricted", "enforce-version": "v1.20", "warn-version": "v1.30"}),
                "restricted:v1.20 privileged:latest restricted:v1.30",
            ),
            (
                json!({"enforce": "restricted", "warn": "privileged", "audit": "baseline"}),
                "restricted:latest baseline:latest privileged:latest",
            ),
            (
                json!({"enforce": "privileged", "warn": "restricted", "warn-version": "v1.0"}),
                "privileged:latest privileged:latest restricted:v1.0",
            ),
        ] {
            assert_eq!(
                policy(labels.clone()),
                (wanted.to_owned(), vec![]),
                "{labels}"
            );
        }
    }

    #[test]
    fn what_labels_say_wrong_is_told() {
        let (text, errors) = policy(json!({
            "enforce": "strict", "enforce-version": "v1.01", "audit": "", "audit-version": "v2.0", "warn": "Baseline", "warn-version": "1.2"
        }));
        assert_eq!(
            text,
            "restricted:latest privileged:latest privileged:latest"
        );
        let level = "must be one of privileged, baseline, restricted";
        let version = "must be \"latest\" or \"v1.x\"";
        let told = |label: &str, value: &str, wanted: &str| {
            format!(
                "metadata.labels[pod-security.kubernetes.io/{label}]: Invalid value: \"{value}\": {wanted}"
            )
        };
        assert_eq!(
            errors,
            [
                told("enforce", "strict", level),
                told("enforce-version", "v1.01", version),
                told("audit", "", level),
                told("audit-version", "v2.0", version),
                told("warn", "Baseline", level),
                told("warn-version", "1.2", version),
            ]
        );
        for text in ["v1.", "v1.+1", "v1.99999999999", "v1.1.1", " latest"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        assert_eq!(Version::parse("v1.0"), Some(Version::Minor(0)));
    }
}
