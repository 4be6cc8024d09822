//! `metadata.managedFields`: who owns which fields (spec kubectl-and-api §8.2).

use super::element::ElementError;
use super::set::Set;
use crate::gotext;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Entries of updates that are kept apart; older ones are thrown together.
const MOST_UPDATERS: usize = 10;
/// Whom those that are thrown together are ascribed to.
const ANCIENT: &str = "ancient-changes";

/// How a manager wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// By server-side apply.
    Apply,
    /// By anything else.
    Update,
}

/// Who owns fields. Two writes of the same manager are the same owner if all of this is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manager {
    /// `kubectl-edit`.
    pub name: String,
    /// How it wrote.
    pub operation: Operation,
    /// In which version. Empty for those that apply, which are the same in every version.
    pub api_version: String,
    /// Which part: `status`, or empty.
    pub subresource: String,
}

impl Manager {
    /// What upstream sorts by.
    fn identity(&self) -> String {
        let mut map = vec![format!(
            "\"manager\":{}",
            gotext::json(&self.name.as_str().into())
        )];
        let operation = match self.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        map.push(format!("\"operation\":\"{operation}\""));
        for (key, text) in [
            ("apiVersion", &self.api_version),
            ("subresource", &self.subresource),
        ] {
            if !text.is_empty() {
                map.push(format!("\"{key}\":{}", gotext::json(&text.as_str().into())));
            }
        }
        format!("{{{}}}", map.join(","))
    }

    /// `"kubectl-edit" with subresource "status" using v1`
    pub(super) fn describe(&self) -> String {
        let mut text = gotext::quote(&self.name);
        if !self.subresource.is_empty() {
            text.push_str(&format!(
                " with subresource {}",
                gotext::quote(&self.subresource)
            ));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// What one manager owns.
#[derive(Debug, Clone)]
pub(super) struct Owned {
    pub(super) manager: Manager,
    pub(super) version: String,
    pub(super) set: Set,
    /// As it is written; absent in entries that have none.
    pub(super) time: Option<Value>,
}

/// All owners, by identity.
#[derive(Debug, Clone, Default)]
pub(super) struct Managed(pub(super) BTreeMap<String, Owned>);

/// Entries that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManagedError {
    /// `operation` is something else.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// `apiVersion` is empty.
    #[error("apiVersion must not be empty")]
    ApiVersion,
    /// `fieldsType` is missing or not known.
    #[error("{0} in managed fields entry {1}")]
    FieldsType(String, usize),
    /// `fieldsV1` does not read.
    #[error("error decoding set: {0}")]
    Fields(#[from] ElementError),
}

impl Managed {
    /// Reads the entries of an object.
    pub(super) fn decode(entries: &Value) -> Result<Self, ManagedError> {
        let mut managed = Self::default();
        for (i, entry) in entries.as_array().into_iter().flatten().enumerate() {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            let operation = match text("operation").as_str() {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err(ManagedError::Operation),
            };
            let version = text("apiVersion");
            if version.is_empty() {
                return Err(ManagedError::ApiVersion);
            }
            match text("fieldsType").as_str() {
                "FieldsV1" => {}
                "" => return Err(ManagedError::FieldsType("missing fieldsType".into(), i)),
                other => {
                    let why = format!("invalid fieldsType {}", gotext::quote(other));
                    return Err(ManagedError::FieldsType(why, i));
                }
            }
            let set = match &entry["fieldsV1"] {
                Value::Null => Set::default(),
                fields => Set::decode(fields)?,
            };
            let manager = Manager {
                name: text("manager"),
                operation,
                api_version: match operation {
                    Operation::Apply => String::new(),
                    Operation::Update => version.clone(),
                },
                subresource: text("subresource"),
            };
            let time = entry.get("time").filter(|t| !t.is_null()).cloned();
            managed.insert(Owned {
                manager,
                version,
                set,
                time,
            });
        }
        Ok(managed)
    }

    pub(super) fn insert(&mut self, owned: Owned) {
        self.0.insert(owned.manager.identity(), owned);
    }

    pub(super) fn remove(&mut self, manager: &Manager) -> Option<Owned> {
        self.0.remove(&manager.identity())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everyone but one.
    pub(super) fn others<'a>(
        &'a self,
        manager: &Manager,
    ) -> impl Iterator<Item = &'a Owned> + use<'a> {
        let own = manager.identity();
        self.0
            .iter()
            .filter(move |(id, _)| **id != own)
            .map(|(_, owned)| owned)
    }

    /// Throws the oldest updates together when there are too many, one bucket a version.
    pub(super) fn cap(&mut self) {
        let mut updaters: Vec<(Value, String)> = self
            .0
            .iter()
            .filter(|(_, o)| o.manager.operation == Operation::Update)
            .map(|(id, o)| (o.time.clone().unwrap_or_default(), id.clone()))
            .collect();
        // Times are RFC 3339 in UTC, so that their texts have their order.
        updaters.sort_by(|a, b| (a.0.as_str(), &a.1).cmp(&(b.0.as_str(), &b.1)));
        let mut left = updaters.len();
        let mut first: BTreeMap<String, String> = BTreeMap::new();
        for (time, id) in updaters {
            if left <= MOST_UPDATERS {
                return;
            }
            let Some(version) = self.0.get(&id).map(|o| o.version.clone()) else {
                continue;
            };
            let Some(oldest) = first.get(&version) else {
                first.insert(version, id);
                continue;
            };
            let bucket = Manager {
                name: ANCIENT.to_owned(),
                operation: Operation::Update,
                api_version: version.clone(),
                subresource: String::new(),
            };
            let begun = self.remove(&bucket).or_else(|| self.0.remove(oldest));
            let (begun, moved) = (begun.map(|o| o.set), self.0.remove(&id).map(|o| o.set));
            let set = moved.unwrap_or_default().union(&begun.unwrap_or_default());
            self.insert(Owned {
                manager: bucket,
                version,
                set,
                time: Some(time).filter(|t| !t.is_null()),
            });
            left -= 1;
        }
    }

    /// The entries as an object has them; nothing when nobody owns anything.
    pub(super) fn encode(self) -> Option<Value> {
        let mut owned: Vec<Owned> = self.0.into_values().collect();
        owned.sort_by(|a, b| {
            let key = |o: &Owned| {
                let time = o.time.as_ref().and_then(Value::as_str).unwrap_or_default();
                (
                    o.manager.operation == Operation::Update,
                    time.to_owned(),
                    o.manager.name.clone(),
                    o.version.clone(),
                    o.manager.subresource.clone(),
                )
            };
            key(a).cmp(&key(b))
        });
        let entries: Vec<Value> = owned.into_iter().map(entry).collect();
        (!entries.is_empty()).then_some(Value::Array(entries))
    }
}

fn entry(owned: Owned) -> Value {
    let mut map = Map::new();
    let operation = match owned.manager.operation {
        Operation::Apply => "Apply",
        Operation::Update => "Update",
    };
    map.insert("manager".into(), owned.manager.name.into());
    map.insert("operation".into(), operation.into());
    map.insert("apiVersion".into(), owned.version.into());
    map.extend(owned.time.map(|time| ("time".to_owned(), time)));
    map.insert("fieldsType".into(), "FieldsV1".into());
    map.insert("fieldsV1".into(), owned.set.encode());
    if !owned.manager.subresource.is_empty() {
        map.insert("subresource".into(), owned.manager.subresource.into());
    }
    Value::Object(map)
}
