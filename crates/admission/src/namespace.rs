//! Namespaces, and what they allow to be made inside them.

use api::field::{Error, ErrorList, Path};
use api::names;
use serde_json::{Value, json};
use thiserror::Error as ThisError;

use crate::view::{self, At, dig, get, list, text};
use crate::{Rules, Subresource, meta};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(false),
    default,
    prepare_create,
    prepare_update,
    validate_create: validate,
    validate_update,
};

/// The label every namespace carries with its own name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Why nothing may be created in a namespace (NamespaceLifecycle admission).
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum Refusal {
    /// There is no such namespace: 404 `namespaces "x" not found`.
    #[error("namespaces {name:?} not found")]
    Missing {
        /// Its name.
        name: String,
    },
    /// It is being deleted: 403, with the cause `NamespaceTerminating` on `metadata.namespace`.
    #[error("unable to create new content in namespace {name} because it is being terminated")]
    Terminating {
        /// Its name.
        name: String,
    },
}

impl Refusal {
    /// The cause that goes with [`Refusal::Terminating`], as `(reason, message, field)`.
    pub fn cause(&self) -> Option<(&'static str, String, &'static str)> {
        match self {
            Self::Missing { .. } => None,
            Self::Terminating { name } => Some((
                "NamespaceTerminating",
                format!("namespace {name} is being terminated"),
                "metadata.namespace",
            )),
        }
    }
}

/// Whether an object may be created in the namespace `name`, of which `found` is what is stored.
pub fn check_create(name: &str, found: Option<&Value>) -> Result<(), Refusal> {
    let Some(namespace) = found else {
        return Err(Refusal::Missing {
            name: name.to_owned(),
        });
    };
    if text(dig(namespace, &["status", "phase"])) == "Terminating" {
        return Err(Refusal::Terminating {
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// Namespaces that may not be deleted: 403 `namespaces "x" is forbidden: this namespace may not be deleted`.
pub const UNDELETABLE: [&str; 3] = ["default", "kube-system", "kube-public"];

fn default(object: &mut Value) {
    let name = text(dig(object, &["metadata", "name"])).to_owned();
    if !name.is_empty() {
        let labels = view::entry(view::entry(object, "metadata"), "labels");
        view::object(labels).insert(NAME_LABEL.to_owned(), name.into());
    }
    view::set_if_zero(view::entry(object, "status"), "phase", "Active");
}

fn prepare_create(object: &mut Value) {
    view::object(object).insert("status".to_owned(), json!({"phase": "Active"}));
    let spec = view::entry(object, "spec");
    let mut finalizers = list(get(spec, "finalizers")).to_vec();
    if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
        finalizers.push("kubernetes".into());
    }
    view::object(spec).insert("finalizers".to_owned(), finalizers.into());
}

fn prepare_update(subresource: Subresource, new: &mut Value, old: &Value) {
    match subresource {
        Subresource::Status => view::restore(new, old, "spec"),
        Subresource::Finalize => view::restore(new, old, "status"),
        _ => {
            view::restore(view::entry(new, "spec"), get(old, "spec"), "finalizers");
            view::restore(new, old, "status");
        }
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = meta::validate(object, false, names::dns1123_label);
    let path = Path::new("spec.finalizers");
    for finalizer in At::field(object, "spec").get("finalizers").items() {
        errors.extend(finalizer_errors(&finalizer.reported_at(path.clone())));
    }
    errors
}

fn finalizer_errors(at: &At<'_>) -> ErrorList {
    let mut errors = meta::finalizer_name(at);
    errors.extend(meta::standard_finalizer(at));
    errors
}

fn validate_update(subresource: Subresource, new: &Value, old: &Value) -> ErrorList {
    match subresource {
        Subresource::Status => {
            let mut errors = meta::validate_update(new, old);
            errors.extend(phase_errors(new));
            errors
        }
        Subresource::Finalize => {
            let mut errors = meta::validate_update(new, old);
            for finalizer in At::field(new, "spec").get("finalizers").items() {
                errors.extend(finalizer_errors(&finalizer));
            }
            errors
        }
        _ => {
            let mut errors = validate(new);
            errors.extend(meta::validate_update(new, old));
            errors
        }
    }
}

fn phase_errors(object: &Value) -> ErrorList {
    let phase = text(dig(object, &["status", "phase"]));
    let path = Path::new("status.Phase");
    match (meta::is_deleting(object), phase) {
        (false, "Active") | (true, "Terminating") => ErrorList::new(),
        (false, _) => vec![Error::invalid(
            &path,
            phase,
            "may only be 'Active' if `deletionTimestamp` is empty",
        )],
        (true, _) => vec![Error::invalid(
            &path,
            phase,
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        )],
    }
}
