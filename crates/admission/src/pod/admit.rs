//! Mutating admission that is on by default and changes Pods (spec §15.1): priority, tolerations, service account.

use serde_json::{Value, json};
use thiserror::Error;

use super::{is_mirror, references};
use crate::priority;
use crate::view::{self, dig, entry, get, list, object, text};

/// What admission needs to know besides the Pod.
#[derive(Debug, Clone, Copy)]
pub struct AdmitContext<'a> {
    /// The Pod's namespace.
    pub namespace: &'a str,
    /// The ServiceAccount that the Pod names (`default` when it names none), if it exists.
    pub service_account: Option<&'a Value>,
    /// The PriorityClass that the Pod names, or the global default when it names none, if it exists.
    pub priority_class: Option<&'a Value>,
    /// Five random characters for the token volume's name, as [`api::names::generate`] makes them.
    pub random_suffix: &'a str,
}

/// Why a Pod is refused: 403 `pods "<name>" is forbidden: <this>`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Denied {
    /// No such ServiceAccount.
    #[error(
        "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
    )]
    NoServiceAccount {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// No such PriorityClass.
    #[error("no PriorityClass with name {name} was found")]
    NoPriorityClass {
        /// Name.
        name: String,
    },
    /// The Pod gives a priority other than its class's.
    #[error(
        "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
    )]
    Priority {
        /// What the Pod says.
        given: i64,
        /// What its class says.
        computed: i64,
    },
    /// The Pod gives a preemption policy other than its class's.
    #[error(
        "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
    )]
    PreemptionPolicy {
        /// What the Pod says.
        given: String,
        /// What its class says.
        computed: String,
    },
    /// A static Pod's stand-in asks for what only the API can give.
    #[error("a mirror pod may not {what}")]
    Mirror {
        /// `reference service accounts` and so on.
        what: &'static str,
    },
}

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKEN_VOLUME: &str = "kube-api-access-";
/// Lifetime asked for API tokens, in seconds: an hour and a bit, which issuers know to extend for old clients.
const TOKEN_SECONDS: i64 = 3607;
/// How long Pods stay on a node that is gone, in seconds.
const EVICTION_SECONDS: i64 = 300;

/// Runs the plugins in upstream's order on a new Pod that has its defaults.
pub fn admit(pod: &mut Value, context: &AdmitContext<'_>) -> Result<(), Denied> {
    service_account(pod, context)?;
    priority(pod, context)?;
    tolerations(pod);
    Ok(())
}

fn service_account(pod: &mut Value, context: &AdmitContext<'_>) -> Result<(), Denied> {
    if is_mirror(pod) {
        return mirror_pod(pod);
    }
    let spec = entry(pod, "spec");
    if text(get(spec, "serviceAccountName")).is_empty() {
        object(spec).insert("serviceAccountName".to_owned(), "default".into());
    }
    let name = text(get(spec, "serviceAccountName")).to_owned();
    object(spec).insert("serviceAccount".to_owned(), name.clone().into());
    let Some(account) = context.service_account else {
        return Err(Denied::NoServiceAccount {
            namespace: context.namespace.to_owned(),
            name,
        });
    };
    if wants_token(spec, account) {
        mount_token(spec, context.random_suffix);
    }
    if list(get(spec, "imagePullSecrets")).is_empty()
        && !list(get(account, "imagePullSecrets")).is_empty()
    {
        view::restore(spec, account, "imagePullSecrets");
    }
    Ok(())
}

/// Stand-ins of static Pods cannot use anything of the API.
fn mirror_pod(pod: &Value) -> Result<(), Denied> {
    let spec = get(pod, "spec");
    if !text(get(spec, "serviceAccountName")).is_empty() {
        return Err(Denied::Mirror {
            what: "reference service accounts",
        });
    }
    if references::names_secret(spec) {
        return Err(Denied::Mirror {
            what: "reference secrets",
        });
    }
    let has_token = |volume: &Value| {
        list(dig(volume, &["projected", "sources"]))
            .iter()
            .any(|source| !get(source, "serviceAccountToken").is_null())
    };
    if list(get(spec, "volumes")).iter().any(has_token) {
        return Err(Denied::Mirror {
            what: "use ServiceAccountToken volume projections",
        });
    }
    Ok(())
}

/// The Pod's own word counts, then the account's; unsaid means yes.
fn wants_token(spec: &Value, account: &Value) -> bool {
    let said = [spec, account]
        .into_iter()
        .find_map(|object| get(object, "automountServiceAccountToken").as_bool());
    said.unwrap_or(true)
}

fn mount_token(spec: &mut Value, suffix: &str) {
    let named = |volume: &Value| text(get(volume, "name")).to_owned();
    let existing = list(get(spec, "volumes")).iter().find(|volume| {
        named(volume).starts_with(TOKEN_VOLUME) && !get(volume, "projected").is_null()
    });
    let (name, is_new) = match existing {
        Some(volume) => (named(volume), false),
        None => (format!("{TOKEN_VOLUME}{suffix}"), true),
    };
    let mount = json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH});
    let mut mounted = false;
    for field in ["initContainers", "containers"] {
        for container in view::list_mut(spec, field) {
            let mounts = list(get(container, "volumeMounts"));
            if mounts
                .iter()
                .any(|mount| text(get(mount, "mountPath")) == TOKEN_PATH)
            {
                continue;
            }
            mounted = true;
            let mut mounts = mounts.to_vec();
            mounts.push(mount.clone());
            object(container).insert("volumeMounts".to_owned(), mounts.into());
        }
    }
    if mounted && is_new {
        let mut volumes = list(get(spec, "volumes")).to_vec();
        volumes.push(json!({"name": name, "projected": token_projection()}));
        object(spec).insert("volumes".to_owned(), volumes.into());
    }
}

fn token_projection() -> Value {
    json!({
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ],
        "defaultMode": 0o644,
    })
}

/// What a Pod's class says, or else that it is as important as any other and may take the place of those that are less.
fn priority(pod: &mut Value, context: &AdmitContext<'_>) -> Result<(), Denied> {
    let spec = entry(pod, "spec");
    let name = text(get(spec, "priorityClassName")).to_owned();
    let (computed, policy) = match context.priority_class {
        Some(class) => (
            get(class, "value").as_i64().unwrap_or(0),
            text(get(class, "preemptionPolicy")).to_owned(),
        ),
        None if name.is_empty() => (0, priority::PREEMPT.to_owned()),
        None => return Err(Denied::NoPriorityClass { name }),
    };
    if let (true, Some(class)) = (name.is_empty(), context.priority_class) {
        let name = priority::name(class);
        object(spec).insert("priorityClassName".to_owned(), name.into());
    }
    if let Some(given) = get(spec, "priority")
        .as_i64()
        .filter(|given| *given != computed)
    {
        return Err(Denied::Priority { given, computed });
    }
    object(spec).insert("priority".to_owned(), computed.into());
    let given = text(get(spec, "preemptionPolicy"));
    if !given.is_empty() && given != policy {
        return Err(Denied::PreemptionPolicy {
            given: given.to_owned(),
            computed: policy,
        });
    }
    object(spec).insert("preemptionPolicy".to_owned(), policy.into());
    Ok(())
}

/// A Pod stays five minutes on a node that is not ready or out of reach, unless it says otherwise.
pub(super) fn tolerations(pod: &mut Value) {
    let spec = entry(pod, "spec");
    let mut tolerations = list(get(spec, "tolerations")).to_vec();
    let before = tolerations.len();
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let tolerated = tolerations.iter().any(|toleration| {
            [key, ""].contains(&text(get(toleration, "key")))
                && ["NoExecute", ""].contains(&text(get(toleration, "effect")))
        });
        if !tolerated {
            tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": EVICTION_SECONDS}));
        }
    }
    if tolerations.len() > before {
        object(spec).insert("tolerations".to_owned(), tolerations.into());
    }
}
