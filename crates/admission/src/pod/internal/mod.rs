//! Values as upstream prints them in error texts: its in-memory structures encoded as JSON, field by field in their order, with
//! `null` and zero values spelled out. Clients show these texts, so they are wire behaviour.

mod persistent;
mod spec;
mod volumes;
mod workloads;

use api::field::{Error, Path};
use api::gotext;
use serde_json::Value;

use super::diff;
use crate::resources;
use crate::view::{self, get};

/// The fields of a structure: name in memory, name on the wire, shape.
type Layout = &'static [(&'static str, &'static str, Shape)];

/// How a field is held and therefore printed when it is absent.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Bool,
    Int,
    Quantity,
    IntOrString,
    /// A structure that prints as it does on the wire.
    Raw,
    Pointer(&'static Shape),
    Slice(&'static Shape),
    Map(&'static Shape),
    Struct(Layout),
}

/// Structures that appear in error texts.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A Pod's `spec`.
    PodSpec,
    /// A container's `securityContext`.
    SecurityContext,
    /// An ephemeral container.
    EphemeralContainer,
    /// A `seccompProfile`.
    SeccompProfile,
    /// A PersistentVolumeClaim's `spec`.
    ClaimSpec,
    /// What a PersistentVolume is of.
    PersistentVolumeSource,
    /// An entry of a CSINode's `spec.drivers`.
    NodeDriver,
    /// A VolumeAttachment's `spec`.
    AttachmentSpec,
    /// An entry of `spec.resourceClaims`.
    ResourceClaim,
    /// A node selector term.
    NodeSelectorTerm,
    /// A PodDisruptionBudget's `spec`.
    DisruptionBudgetSpec,
    /// What an IPAddress belongs to.
    ParentReference,
    /// A ServiceCIDR's `spec`.
    ServiceCidrSpec,
    /// A Deployment's `strategy`.
    DeploymentStrategy,
    /// A DaemonSet's `updateStrategy`.
    DaemonSetUpdateStrategy,
    /// A StatefulSet's `updateStrategy`.
    StatefulSetUpdateStrategy,
    /// A StatefulSet's `updateStrategy.rollingUpdate`.
    RollingUpdateStatefulSet,
    /// A Job's `podFailurePolicy`.
    PodFailurePolicy,
    /// A Job's `successPolicy`.
    SuccessPolicy,
    /// Pods that a Job's status is about to count.
    UncountedPods,
}

impl Kind {
    fn layout(self) -> Layout {
        match self {
            Self::PodSpec => spec::POD_SPEC,
            Self::SecurityContext => spec::SECURITY_CONTEXT,
            Self::EphemeralContainer => spec::EPHEMERAL_CONTAINER,
            Self::SeccompProfile => spec::SECCOMP_PROFILE,
            Self::ClaimSpec => volumes::PERSISTENT_VOLUME_CLAIM_SPEC,
            Self::PersistentVolumeSource => persistent::SOURCE,
            Self::NodeDriver => persistent::NODE_DRIVER,
            Self::AttachmentSpec => persistent::ATTACHMENT_SPEC,
            Self::ResourceClaim => spec::POD_RESOURCE_CLAIM,
            Self::NodeSelectorTerm => spec::NODE_SELECTOR_TERM,
            Self::DisruptionBudgetSpec => spec::DISRUPTION_BUDGET_SPEC,
            Self::ParentReference => spec::PARENT_REFERENCE,
            Self::ServiceCidrSpec => spec::SERVICE_CIDR_SPEC,
            Self::PodFailurePolicy => workloads::POD_FAILURE_POLICY,
            Self::SuccessPolicy => workloads::SUCCESS_POLICY,
            Self::UncountedPods => workloads::UNCOUNTED_PODS,
            // Both have the same fields.
            Self::DeploymentStrategy | Self::DaemonSetUpdateStrategy => workloads::STRATEGY,
            Self::StatefulSetUpdateStrategy => workloads::STATEFUL_SET_STRATEGY,
            Self::RollingUpdateStatefulSet => workloads::STATEFUL_SET_ROLLING,
        }
    }
}

/// One structure, indented by one space a level.
pub(crate) fn pretty(kind: Kind, value: &Value) -> String {
    let mut out = String::new();
    tree(Shape::Struct(kind.layout()), value, value).pretty(0, &mut out);
    out
}

/// What changes from one structure to another, line by line.
pub(crate) fn changes(kind: Kind, before: &Value, after: &Value) -> String {
    diff::unified(&pretty(kind, before), &pretty(kind, after))
}

/// `Unsupported value: <amounts>: supported values: …`
pub(crate) fn unsupported_amounts(path: &Path, amounts: &Value, supported: &[&str]) -> Error {
    let shown = tree(Shape::Map(&Shape::Quantity), amounts, amounts);
    show(Error::not_supported(path, Value::Null, supported), &shown)
}

/// `Invalid value: <structure>: detail`.
pub(crate) fn invalid(path: &Path, kind: Kind, value: &Value, detail: &str) -> Error {
    invalid_shown(
        path,
        &tree(Shape::Struct(kind.layout()), value, value),
        detail,
    )
}

/// `Invalid value: [<structures>]: detail`.
pub(crate) fn invalid_list(path: &Path, kind: Kind, values: &Value, detail: &str) -> Error {
    let items = view::list(values)
        .iter()
        .map(|value| tree(Shape::Struct(kind.layout()), value, value))
        .collect();
    let shown = if values.is_null() {
        Tree::Scalar("null".to_owned())
    } else {
        Tree::List(items)
    };
    invalid_shown(path, &shown, detail)
}

/// `Invalid value: <selector>: detail`, of a label selector.
pub(crate) fn invalid_selector(path: &Path, selector: &Value, detail: &str) -> Error {
    invalid_shown(path, &raw(selector), detail)
}

/// What a template's metadata shows, in this order, as far as it is there.
const METADATA: [&str; 6] = [
    "name",
    "generateName",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
];

/// `Invalid value: <template>: detail`, of a Pod's template.
pub(crate) fn invalid_template(path: &Path, template: &Value, detail: &str) -> Error {
    let (metadata, spec) = (get(template, "metadata"), get(template, "spec"));
    let given = METADATA
        .iter()
        .filter(|name| !view::is_zero(get(metadata, name)));
    let mut fields: Vec<(String, Tree)> = given
        .map(|name| ((*name).to_owned(), raw(get(metadata, name))))
        .collect();
    let spec = tree(Shape::Struct(Kind::PodSpec.layout()), spec, spec);
    fields.push(("Spec".to_owned(), spec));
    invalid_shown(path, &Tree::Object(fields), detail)
}

/// `Unsupported value: <structure>: supported values: …`
pub(crate) fn not_supported(path: &Path, kind: Kind, value: &Value, supported: &[&str]) -> Error {
    let shown = tree(Shape::Struct(kind.layout()), value, value);
    show(Error::not_supported(path, Value::Null, supported), &shown)
}

fn invalid_shown(path: &Path, shown: &Tree, detail: &str) -> Error {
    show(Error::invalid(path, Value::Null, detail), shown)
}

/// Puts the value into the detail: its own encoder would sort its fields.
fn show(mut error: Error, shown: &Tree) -> Error {
    let mut text = String::new();
    shown.compact(&mut text);
    error.detail = match error.detail.as_str() {
        "" => text,
        detail => format!("{text}: {detail}"),
    };
    error.value = None;
    error
}

enum Tree {
    Scalar(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

fn scalar(value: &Value) -> Tree {
    Tree::Scalar(gotext::json(value))
}

fn tree(shape: Shape, value: &Value, pod_spec: &Value) -> Tree {
    match shape {
        Shape::Text => scalar(&Value::from(view::text(value))),
        Shape::Bool => scalar(&Value::Bool(*value == Value::Bool(true))),
        Shape::Int => scalar(&Value::from(value.as_i64().unwrap_or(0))),
        Shape::Quantity => scalar(&Value::from(
            resources::quantity(value)
                .map_or_else(|| "0".to_owned(), |quantity| quantity.canonical()),
        )),
        Shape::IntOrString if value.is_null() => scalar(&Value::from(0)),
        Shape::IntOrString => scalar(value),
        Shape::Raw => raw(value),
        Shape::Pointer(_) | Shape::Slice(_) | Shape::Map(_) if value.is_null() => {
            scalar(&Value::Null)
        }
        Shape::Pointer(inner) => tree(*inner, value, pod_spec),
        Shape::Slice(inner) => Tree::List(
            view::list(value)
                .iter()
                .map(|item| tree(*inner, item, pod_spec))
                .collect(),
        ),
        Shape::Map(inner) => Tree::Object(
            view::entries(value)
                .map(|(key, item)| (key.to_owned(), tree(*inner, item, pod_spec)))
                .collect(),
        ),
        Shape::Struct(layout) => {
            let field = |wire: &str| match wire.strip_prefix('^') {
                Some(above) => get(pod_spec, above).clone(),
                None => get(value, wire).clone(),
            };
            Tree::Object(
                layout
                    .iter()
                    .map(|(name, wire, shape)| {
                        ((*name).to_owned(), tree(*shape, &field(wire), pod_spec))
                    })
                    .collect(),
            )
        }
    }
}

/// As on the wire; the only structure met in practice is a label selector, whose `matchLabels` come first.
fn raw(value: &Value) -> Tree {
    match value {
        Value::Array(items) => Tree::List(items.iter().map(raw).collect()),
        Value::Object(_) => {
            let mut fields: Vec<(String, Tree)> = view::entries(value)
                .filter(|(_, item)| item.is_string() || view::len(item) > 0)
                .map(|(key, item)| (key.to_owned(), raw(item)))
                .collect();
            fields.sort_by_key(|(key, _)| key != "matchLabels");
            Tree::Object(fields)
        }
        other => scalar(other),
    }
}

impl Tree {
    fn pretty(&self, depth: usize, out: &mut String) {
        let line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.push_str(&" ".repeat(depth));
        };
        match self {
            Self::Scalar(text) => out.push_str(text),
            Self::List(items) if items.is_empty() => out.push_str("[]"),
            Self::Object(fields) if fields.is_empty() => out.push_str("{}"),
            Self::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    line(out, depth + 1);
                    item.pretty(depth + 1, out);
                }
                line(out, depth);
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (i, (name, item)) in fields.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    line(out, depth + 1);
                    out.push_str(&gotext::json(&Value::from(name.as_str())));
                    out.push_str(": ");
                    item.pretty(depth + 1, out);
                }
                line(out, depth);
                out.push('}');
            }
        }
    }

    fn compact(&self, out: &mut String) {
        match self {
            Self::Scalar(text) => out.push_str(text),
            Self::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    item.compact(out);
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (i, (name, item)) in fields.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    out.push_str(&gotext::json(&Value::from(name.as_str())));
                    out.push(':');
                    item.compact(out);
                }
                out.push('}');
            }
        }
    }
}
