//! Object metadata: what every write owes it (spec kubectl-and-api §5.1).

use api::field::{Error, ErrorList, Path};
use api::names;
use serde_json::Value;

use crate::Subresource;
use crate::pod::internal;
use crate::view::{self, At, dig, get, text};

/// Says what is wrong with a name; empty when nothing is.
pub(crate) type NameRule = fn(&str) -> Vec<String>;

const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;
const IMMUTABLE: &str = "field is immutable";

/// One `Invalid value` per message.
pub(crate) fn invalid_text(at: &At<'_>, messages: Vec<String>) -> ErrorList {
    messages
        .into_iter()
        .map(|message| Error::invalid(&at.path, at.text(), message))
        .collect()
}

/// A DNS label that may end in a dash while it is only a `generateName`.
fn of_prefix(rule: NameRule, prefix: &str) -> Vec<String> {
    match prefix.strip_suffix('-') {
        Some(stem) if !stem.is_empty() => rule(&format!("{stem}a")),
        _ => rule(prefix),
    }
}

/// Of a new object: its metadata, whose name is that of a subdomain, and the part that says what it is to be.
pub(crate) fn validate_new(
    object: &Value,
    namespaced: bool,
    part: &str,
    validate_part: fn(&At<'_>) -> ErrorList,
) -> ErrorList {
    let mut errors = validate(object, namespaced, names::dns1123_subdomain);
    errors.extend(validate_part(&At::field(object, part)));
    errors
}

/// Validates the metadata of a new object.
pub(crate) fn validate(object: &Value, namespaced: bool, rule: NameRule) -> ErrorList {
    let meta = At::field(object, "metadata");
    let mut errors = validate_generic(&meta, namespaced, rule);
    for finalizer in meta.get("finalizers").items() {
        errors.extend(standard_finalizer(&finalizer));
    }
    errors
}

fn validate_generic(meta: &At<'_>, namespaced: bool, rule: NameRule) -> ErrorList {
    let mut errors = ErrorList::new();
    let generate = meta.get("generateName");
    if !generate.text().is_empty() {
        errors.extend(invalid_text(&generate, of_prefix(rule, generate.text())));
    }
    let name = meta.get("name");
    if name.text().is_empty() {
        errors.push(Error::required(
            &name.path,
            "name or generateName is required",
        ));
    } else {
        errors.extend(invalid_text(&name, rule(name.text())));
    }
    errors.extend(namespace(&meta.get("namespace"), namespaced));
    errors.extend(crate::pod::non_negative(&meta.get("generation")));
    errors.extend(labels(&meta.get("labels")));
    errors.extend(annotations(&meta.get("annotations")));
    errors.extend(owner_references(&meta.get("ownerReferences")));
    errors.extend(finalizers(&meta.get("finalizers")));
    errors.extend(managed_fields(&meta.get("managedFields")));
    errors
}

fn namespace(at: &At<'_>, namespaced: bool) -> ErrorList {
    match (namespaced, at.text()) {
        (true, "") => vec![Error::required(&at.path, "")],
        (true, name) => invalid_text(at, names::dns1123_label(name)),
        (false, "") => ErrorList::new(),
        (false, _) => vec![Error::forbidden(&at.path, "not allowed on this type")],
    }
}

/// Label keys and values.
pub(crate) fn labels(at: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for (key, value) in at.entries() {
        errors.extend(label_name(&at.path, key));
        errors.extend(
            names::label_value(value.text())
                .into_iter()
                .map(|message| Error::invalid(&at.path, value.text(), message)),
        );
    }
    errors
}

/// A label's key.
pub(crate) fn label_name(path: &Path, key: &str) -> ErrorList {
    names::qualified_name(key)
        .into_iter()
        .map(|message| Error::invalid(path, key, message))
        .collect()
}

pub(crate) fn annotations(at: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut size = 0;
    for (key, value) in at.entries() {
        errors.extend(
            names::qualified_name(&key.to_lowercase())
                .into_iter()
                .map(|message| Error::invalid(&at.path, key, message)),
        );
        size += key.len() + value.text().len();
    }
    if size > ANNOTATIONS_MAX_BYTES {
        errors.push(Error::too_long(&at.path, ANNOTATIONS_MAX_BYTES));
    }
    errors
}

fn owner_references(at: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut controller: Option<String> = None;
    for reference in at.items() {
        let field = |name: &str| At {
            value: get(reference.value, name),
            path: at.path.child(name),
        };
        let version = field("apiVersion");
        if version.text().is_empty() || version.text().ends_with('/') {
            errors.push(Error::invalid(
                &version.path,
                version.text(),
                "version must not be empty",
            ));
        }
        for name in ["kind", "name", "uid"] {
            let field = field(name);
            if field.text().is_empty() {
                errors.push(Error::invalid(&field.path, "", "must not be empty"));
            }
        }
        if (version.text(), text(get(reference.value, "kind"))) == ("v1", "Event") {
            errors.push(Error::invalid(
                &at.path,
                reference.value.clone(),
                "/v1, Kind=Event is disallowed from being an owner",
            ));
        }
        if reference.get("controller").is_true() {
            let this = format!(
                "{}/{}",
                text(get(reference.value, "kind")),
                text(get(reference.value, "name"))
            );
            match &controller {
                Some(first) => errors.push(two_controllers(at, first, &this)),
                None => controller = Some(this),
            }
        }
    }
    errors
}

/// The references print in the order of their structure's fields.
fn two_controllers(at: &At<'_>, first: &str, second: &str) -> Error {
    const FIELDS: [&str; 6] = [
        "apiVersion",
        "kind",
        "name",
        "uid",
        "controller",
        "blockOwnerDeletion",
    ];
    let shown = |reference: &Value| {
        let given = FIELDS.iter().filter(|name| !get(reference, name).is_null());
        let fields: Vec<String> = given
            .map(|name| format!("\"{name}\":{}", api::gotext::json(get(reference, name))))
            .collect();
        format!("{{{}}}", fields.join(","))
    };
    let references: Vec<String> = view::list(at.value).iter().map(shown).collect();
    let rule =
        "Only one reference can have Controller set to true. Found \"true\" in references for";
    let mut error = Error::invalid(
        &at.path,
        Value::Null,
        format!("[{}]: {rule} {first} and {second}", references.join(",")),
    );
    error.value = None;
    error
}

fn finalizers(at: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for finalizer in at.items() {
        errors.extend(finalizer_name(&finalizer.reported_at(at.path.clone())));
    }
    let has = |name: &str| {
        view::list(at.value)
            .iter()
            .any(|finalizer| text(finalizer) == name)
    };
    if has("foregroundDeletion") && has("orphan") {
        errors.push(Error::invalid(
            &at.path,
            at.value.clone(),
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
    errors
}

/// A finalizer is a qualified name.
pub(crate) fn finalizer_name(at: &At<'_>) -> ErrorList {
    invalid_text(at, names::qualified_name(at.text()))
}

/// A finalizer without a domain must be one that Kubernetes itself uses.
pub(crate) fn standard_finalizer(at: &At<'_>) -> ErrorList {
    if at.text().contains('/')
        || ["kubernetes", "orphan", "foregroundDeletion"].contains(&at.text())
    {
        return ErrorList::new();
    }
    vec![Error::invalid(
        &at.path,
        at.text(),
        "name is neither a standard finalizer name nor is it fully qualified",
    )]
}

fn managed_fields(at: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for entry in at.items() {
        match entry.get("operation").text() {
            "Apply" | "Update" => {}
            other => errors.push(Error::invalid(
                &entry.path.child("operation"),
                other,
                "must be `Apply` or `Update`",
            )),
        }
        let kind = entry.get("fieldsType");
        if !kind.text().is_empty() && kind.text() != "FieldsV1" {
            errors.push(Error::invalid(
                &kind.path,
                kind.text(),
                "must be `FieldsV1`",
            ));
        }
        errors.extend(field_manager(&entry.get("manager")));
    }
    errors
}

fn field_manager(at: &At<'_>) -> ErrorList {
    validate_field_manager(&at.path, at.text())
}

/// What is wrong with the name of who owns fields: it is short and can be printed.
pub fn validate_field_manager(path: &Path, name: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    if name.len() > 128 {
        errors.push(Error::too_long(path, 128));
    }
    for (i, c) in name.char_indices().filter(|(_, c)| c.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {i})", u32::from(c));
        errors.push(Error::invalid(path, name, why));
    }
    errors
}

/// What every update keeps, whatever the client sent: identity, times, and the generation until a strategy counts it.
pub(crate) fn prepare_update(subresource: Subresource, new: &mut Value, old: &Value) {
    let old = get(old, "metadata");
    let new = view::entry(new, "metadata");
    view::restore(new, old, "generation");
    if text(get(new, "uid")).is_empty() {
        view::restore(new, old, "uid");
    }
    for name in ["creationTimestamp", "deletionTimestamp"] {
        if !get(old, name).is_null() {
            view::restore(new, old, name);
        }
    }
    if get(new, "deletionGracePeriodSeconds").is_null() {
        view::restore(new, old, "deletionGracePeriodSeconds");
    }
    if matches!(
        subresource,
        Subresource::EphemeralContainers | Subresource::Resize
    ) {
        for name in [
            "deletionTimestamp",
            "labels",
            "annotations",
            "finalizers",
            "ownerReferences",
        ] {
            view::restore(new, old, name);
        }
    }
}

/// Counts up `metadata.generation` when `changed`.
pub(crate) fn count_generation(new: &mut Value, old: &Value, changed: bool) {
    if changed {
        let generation = dig(old, &["metadata", "generation"]).as_i64().unwrap_or(0);
        view::object(view::entry(new, "metadata"))
            .insert("generation".to_owned(), (generation + 1).into());
    }
}

/// The checks that run on every update before the kind's own.
pub(crate) fn validate_common(new: &Value, old: &Value, namespaced: bool) -> ErrorList {
    let mut errors = validate_generic(&At::field(new, "metadata"), namespaced, names::path_segment);
    errors.extend(validate_update(new, old));
    errors
}

/// Validates a change of metadata.
pub(crate) fn validate_update(new: &Value, old: &Value) -> ErrorList {
    let (meta, old) = (At::field(new, "metadata"), get(old, "metadata"));
    let mut errors = ErrorList::new();
    if !get(old, "deletionTimestamp").is_null() {
        errors.extend(no_new_finalizers(
            &meta.get("finalizers"),
            get(old, "finalizers"),
        ));
    }
    let version = meta.get("resourceVersion");
    if version.text().is_empty() {
        errors.push(Error::invalid(
            &version.path,
            "",
            "must be specified for an update",
        ));
    }
    let generation = meta.get("generation");
    if generation.int().unwrap_or(0) < get(old, "generation").as_i64().unwrap_or(0) {
        errors.push(Error::invalid(
            &generation.path,
            generation.int().unwrap_or(0),
            "must not be decremented",
        ));
    }
    for name in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        errors.extend(immutable(&meta.get(name), get(old, name)));
    }
    errors.extend(labels(&meta.get("labels")));
    errors.extend(annotations(&meta.get("annotations")));
    errors.extend(owner_references(&meta.get("ownerReferences")));
    errors.extend(managed_fields(&meta.get("managedFields")));
    for finalizer in meta.get("finalizers").items() {
        errors.extend(standard_finalizer(&finalizer));
    }
    errors
}

fn no_new_finalizers(at: &At<'_>, old: &Value) -> ErrorList {
    let mut extra: Vec<&str> = view::list(at.value)
        .iter()
        .map(text)
        .filter(|name| !view::list(old).iter().any(|old| text(old) == *name))
        .collect();
    if extra.is_empty() {
        return ErrorList::new();
    }
    extra.sort_unstable();
    extra.dedup();
    let listed: Vec<String> = extra.into_iter().map(api::gotext::quote).collect();
    let found = listed.join(", ");
    vec![Error::forbidden(
        &at.path,
        format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{found}}}"
        ),
    )]
}

/// `field is immutable` unless both structures mean the same; the error shows it as upstream holds it.
pub(crate) fn immutable_struct(at: &At<'_>, old: &Value, kind: internal::Kind) -> Option<Error> {
    let is_same = view::same(at.value, old);
    (!is_same).then(|| internal::invalid(&at.path, kind, at.value, IMMUTABLE))
}

/// `field is immutable` unless both values mean the same.
pub(crate) fn immutable(at: &At<'_>, old: &Value) -> ErrorList {
    if view::same(at.value, old) {
        return ErrorList::new();
    }
    let shown = if at.value.is_null() && old.is_string() {
        Value::from("")
    } else {
        at.value.clone()
    };
    vec![Error::invalid(&at.path, shown, IMMUTABLE)]
}

/// An annotation's value.
pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    get(dig(object, &["metadata", "annotations"]), key).as_str()
}

/// Adds a finalizer, unless it is there.
pub(crate) fn protect(object: &mut Value, finalizer: &str) {
    let finalizers = view::entry(view::entry(object, "metadata"), "finalizers");
    if view::list(finalizers).iter().any(|f| f == finalizer) {
        return;
    }
    match finalizers {
        Value::Array(list) => list.push(finalizer.into()),
        other => *other = Value::Array(vec![finalizer.into()]),
    }
}

/// Whether the object is on its way out.
pub(crate) fn is_deleting(object: &Value) -> bool {
    dig(object, &["metadata", "deletionTimestamp"]).is_string()
}

/// Whether the object names a namespace.
pub(crate) fn is_in_namespace(object: &Value) -> bool {
    !text(dig(object, &["metadata", "namespace"])).is_empty()
}
