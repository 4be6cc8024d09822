//! Claims for storage: the class of those that name none.

use admission::persistentvolumeclaim;
use api::status::StatusError;
use serde_json::Value;

use crate::rest::{Rest, Stored};

/// What the keys of all classes begin with.
const CLASSES: &str = "/registry/storageclasses/";

/// Protects a new claim and gives it its class.
pub(super) fn admit(rest: &Rest, claim: &mut Value) -> Result<(), StatusError> {
    let (_, entries) = rest.inner.store.range(CLASSES, None, 0);
    let decoded = entries
        .into_iter()
        .map(|entry| Stored::decode(entry).map(|stored| stored.object));
    let classes: Vec<Value> = decoded.collect::<Result<_, _>>()?;
    persistentvolumeclaim::admit(claim, &classes);
    Ok(())
}
