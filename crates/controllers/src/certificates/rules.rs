//! What is to be done about a certificate request. Pure: the authority only reads for it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use ports::certificates::{Asked, Authority};

/// Signs for clients of the API.
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Signs for nodes as clients of the API.
const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Signs for nodes as servers.
const NODE_SERVER: &str = "kubernetes.io/kubelet-serving";
/// Signs whatever it is asked to.
const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// How long a request stays that was signed, denied or refused.
const DONE: SignedDuration = SignedDuration::from_hours(1);
/// How long a request stays that nobody has done anything about.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// How long a certificate counts at most.
const LONGEST: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How long it counts at least.
const SHORTEST: SignedDuration = SignedDuration::from_mins(10);
/// So long before it is signed it counts, for clocks that are behind.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// What is shorter than this is not shortened by that.
const SHORT: SignedDuration = SignedDuration::from_hours(8);

/// What a requester must be allowed to create, and what is said when they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Permission {
    pub(super) subresource: &'static str,
    pub(super) message: &'static str,
}

const SELF_NODE: Permission = Permission {
    subresource: "selfnodeclient",
    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
};
const NODE: Permission = Permission {
    subresource: "nodeclient",
    message: "Auto approving kubelet client certificate after SubjectAccessReview.",
};

/// What is to be done about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// Its time is over.
    Delete,
    /// Approve it if the requester has one of these permissions.
    Approve(Vec<Permission>),
    /// Say that it will never be signed, and why.
    Fail(String),
    /// Sign it.
    Sign {
        from: Timestamp,
        to: Timestamp,
    },
}

/// What is to be done about a request now, and when to look again if nothing happens.
pub(super) fn plan(
    request: &CertificateSigningRequest,
    authority: &dyn Authority,
    now: Timestamp,
) -> (Step, Option<Timestamp>) {
    let end = end(request, authority);
    if end.is_some_and(|end| end < now) {
        return (Step::Delete, None);
    }
    let step = match authority.read(&request.spec.request.0) {
        _ if is_issued(request) || has(request, "Denied") || has(request, "Failed") => {
            Step::Nothing
        }
        Err(_) => Step::Nothing,
        Ok(asked) if has(request, "Approved") => sign(request, &asked, authority, now),
        Ok(asked) => approve(request, &asked),
    };
    // What is over at a moment goes after it.
    let wake = end.and_then(|end| end.checked_add(SignedDuration::from_secs(1)).ok());
    (step, wake)
}

fn conditions(request: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    let status = request.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref());
    conditions.unwrap_or_default()
}

fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    conditions(request).iter().any(|c| c.type_ == kind)
}

fn is_issued(request: &CertificateSigningRequest) -> bool {
    let certificate = request.status.as_ref().and_then(|s| s.certificate.as_ref());
    certificate.is_some_and(|certificate| !certificate.0.is_empty())
}

/// When the time of a request is over.
fn end(request: &CertificateSigningRequest, authority: &dyn Authority) -> Option<Timestamp> {
    let is_issued = is_issued(request);
    let of = |condition: &CertificateSigningRequestCondition| {
        let stays = match condition.type_.as_str() {
            "Denied" | "Failed" => DONE,
            "Approved" if is_issued => DONE,
            "Approved" => PENDING,
            _ => return None,
        };
        let since = condition.last_update_time.as_ref()?;
        since.0.checked_add(stays).ok()
    };
    let conditions = conditions(request);
    let mut ends: BTreeSet<Timestamp> = conditions.iter().filter_map(of).collect();
    if conditions.is_empty() {
        let made = request.metadata.creation_timestamp.as_ref();
        ends.extend(made.and_then(|made| made.0.checked_add(PENDING).ok()));
    }
    if is_issued && has(request, "Approved") {
        let status = request.status.as_ref();
        let certificate = status.and_then(|status| status.certificate.as_ref());
        ends.extend(certificate.and_then(|c| authority.end_of(&c.0)));
    }
    ends.first().copied()
}

/// Those of nodes for themselves, or by whoever may ask for nodes.
fn approve(request: &CertificateSigningRequest, asked: &Asked) -> Step {
    let is_node = request.spec.signer_name == NODE_CLIENT
        && wrong_node_client(asked, &usages(request)).is_none();
    if !is_node {
        return Step::Nothing;
    }
    let is_own = request.spec.username.as_deref() == Some(&*asked.common_name);
    Step::Approve(match is_own {
        true => vec![SELF_NODE, NODE],
        false => vec![NODE],
    })
}

fn usages(request: &CertificateSigningRequest) -> BTreeSet<&str> {
    let usages = request.spec.usages.iter().flatten();
    usages.map(String::as_str).collect()
}

fn sign(
    request: &CertificateSigningRequest,
    asked: &Asked,
    authority: &dyn Authority,
    now: Timestamp,
) -> Step {
    let usages = usages(request);
    let wrong = match request.spec.signer_name.as_str() {
        CLIENT => wrong_client(request),
        NODE_CLIENT => wrong_node_client(asked, &usages),
        NODE_SERVER => wrong_node_server(asked, &usages),
        LEGACY => None,
        _ => return Step::Nothing,
    };
    if let Some(why) = wrong {
        return Step::Fail(why);
    }
    let asked = request.spec.expiration_seconds;
    let asked = asked.map(|seconds| SignedDuration::from_secs(seconds.into()));
    let lasts = asked.map_or(LONGEST, |asked| asked.clamp(SHORTEST, LONGEST));
    let until = if lasts < SHORT {
        lasts
    } else {
        lasts - BACKDATE
    };
    let (Ok(from), Ok(to)) = (now.checked_sub(BACKDATE), now.checked_add(until)) else {
        return Step::Nothing;
    };
    if authority.end() <= now {
        return Step::Nothing;
    }
    Step::Sign { from, to }
}

fn wrong_client(request: &CertificateSigningRequest) -> Option<String> {
    let usages = request.spec.usages.as_deref().unwrap_or_default();
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !known.contains(&usage.as_str())) {
        return Some(format!("invalid usage for client certificate: {other}"));
    }
    let is_client = usages.iter().any(|usage| usage == "client auth");
    let why = "missing required usage for client certificate: client auth";
    (!is_client).then(|| why.to_owned())
}

fn wrong_node_client(asked: &Asked, usages: &BTreeSet<&str>) -> Option<String> {
    let why = if asked.organizations != ["system:nodes"] {
        "subject organization is not system:nodes"
    } else if !asked.dns_names.is_empty() {
        "DNS subjectAltNames are not allowed"
    } else if asked.emails > 0 {
        "Email subjectAltNames are not allowed"
    } else if asked.addresses > 0 {
        "IP subjectAltNames are not allowed"
    } else if asked.uris > 0 {
        "URI subjectAltNames are not allowed"
    } else if !asked.common_name.starts_with("system:node:") {
        "subject common name does not begin with system:node:"
    } else {
        return wrong_usages(usages, "client auth");
    };
    Some(why.to_owned())
}

fn wrong_node_server(asked: &Asked, usages: &BTreeSet<&str>) -> Option<String> {
    let why = if asked.organizations != ["system:nodes"] {
        "subject organization is not system:nodes"
    } else if asked.dns_names.is_empty() && asked.addresses == 0 {
        "DNS or IP subjectAltName is required"
    } else if asked.emails > 0 {
        "Email subjectAltNames are not allowed"
    } else if asked.uris > 0 {
        "URI subjectAltNames are not allowed"
    } else if let Some(why) = wrong_usages(usages, "server auth") {
        return Some(why);
    } else if !asked.common_name.starts_with("system:node:") {
        "subject common name does not begin with system:node:"
    } else {
        return None;
    };
    Some(why.to_owned())
}

/// With this usage goes one, or go both, of how keys are used.
fn wrong_usages(usages: &BTreeSet<&str>, this: &'static str) -> Option<String> {
    let less = BTreeSet::from([this, "digital signature"]);
    let more = BTreeSet::from([this, "digital signature", "key encipherment"]);
    let all: Vec<&str> = more.iter().copied().collect();
    let is_known = *usages == less || *usages == more;
    (!is_known).then(|| format!("usages did not match [{}]", all.join(" ")))
}
