//! CertificateSigningRequests (upstream's pkg/apis/certificates and its strategies): what they ask for never changes, approval and status
//! have paths of their own. What only an X.509 parser can tell is looked at by the server.

#[cfg(test)]
mod tests;

use api::field::{Error, ErrorList, Path};
use api::names;
use serde_json::{Value, json};

use crate::view::{At, dig, entry, get, list, object, restore, text};
use crate::{Rules, Subresource, meta};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(false),
    default: crate::generic::nothing,
    prepare_create: |request| {
        object(request).insert("status".to_owned(), json!({}));
    },
    prepare_update,
    validate_create: |request| {
        let mut errors = meta::validate(request, false, |_| Vec::new());
        errors.extend(validate(request, None));
        errors
    },
    validate_update: |part, new, old| {
        let mut errors = validate(new, Some(old));
        errors.extend(changes(part, new, old));
        errors
    },
};

/// The shortest a certificate may be asked for, in seconds.
const SHORTEST: i64 = 600;
const LEGACY: &str = "kubernetes.io/legacy-unknown";
/// The conditions that are never taken back.
const FINAL: [&str; 3] = ["Approved", "Denied", "Failed"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
/// What a certificate may be used for.
pub const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Says who asks; whatever the request says of that is dropped.
pub fn ascribe(request: &mut Value, user: &Value) {
    let spec = object(entry(request, "spec"));
    for (field, name) in [
        ("username", "username"),
        ("uid", "uid"),
        ("groups", "groups"),
        ("extra", "extra"),
    ] {
        spec.remove(field);
        if !get(user, name).is_null() {
            spec.insert(field.to_owned(), get(user, name).clone());
        }
    }
}

/// Gives conditions the times they lack: of one that was there in this state, when it became so.
pub fn stamp(new: &mut Value, old: &Value, now: &str) {
    let before = list(dig(old, &["status", "conditions"])).to_vec();
    let status = entry(new, "status");
    for condition in crate::view::list_mut(status, "conditions") {
        let same = before.iter().find(|b| {
            let is_same = |name| text(get(b, name)) == text(get(condition, name));
            is_same("type") && is_same("status")
        });
        let since = same.map(|same| text(get(same, "lastTransitionTime")));
        let since = since.filter(|since| !since.is_empty()).unwrap_or(now);
        for (name, time) in [("lastUpdateTime", now), ("lastTransitionTime", since)] {
            if text(get(condition, name)).is_empty() {
                object(condition).insert(name.to_owned(), time.into());
            }
        }
    }
}

fn prepare_update(part: Subresource, new: &mut Value, old: &Value) {
    restore(new, old, "spec");
    match part {
        Subresource::Approval => {
            let conditions = dig(new, &["status", "conditions"]).clone();
            restore(new, old, "status");
            let status = object(entry(new, "status"));
            match conditions.is_null() {
                true => status.remove("conditions"),
                false => status.insert("conditions".to_owned(), conditions),
            };
        }
        Subresource::Status => {
            for kind in ["Approved", "Denied"] {
                keep_conditions(new, old, kind);
            }
        }
        _ => restore(new, old, "status"),
    }
}

/// Conditions of this type stay as they were, unless some came or went, which is refused later.
fn keep_conditions(new: &mut Value, old: &Value, kind: &str) {
    let before: Vec<Value> = of_type(old, kind).cloned().collect();
    if of_type(new, kind).count() != before.len() {
        return;
    }
    let mut before = before.into_iter();
    let status = entry(new, "status");
    for condition in crate::view::list_mut(status, "conditions") {
        if text(get(condition, "type")) == kind
            && let Some(kept) = before.next()
        {
            *condition = kept;
        }
    }
}

fn of_type<'a>(request: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let conditions = list(dig(request, &["status", "conditions"])).iter();
    conditions.filter(move |condition| text(get(condition, "type")) == kind)
}

fn validate(request: &Value, old: Option<&Value>) -> ErrorList {
    let spec = At::field(request, "spec");
    let usages = spec.get("usages");
    let mut errors = ErrorList::new();
    if usages.len() == 0 {
        errors.push(Error::required(&usages.path, ""));
    }
    let before: Vec<&str> = old.map_or_else(Vec::new, |old| {
        let usages = list(dig(old, &["spec", "usages"])).iter();
        usages.map(text).collect()
    });
    if before.iter().all(|usage| USAGES.contains(usage)) {
        let unknown = usages.items().filter(|u| !USAGES.contains(&u.text()));
        errors.extend(unknown.map(|u| Error::not_supported(&u.path, u.text(), &USAGES)));
    }
    if !has_repeats(&before) {
        errors.extend(repeats(usages.items()));
    }
    let signer = spec.get("signerName");
    let was_legacy = old.is_some_and(|old| text(dig(old, &["spec", "signerName"])) == LEGACY);
    if signer.text() == LEGACY && !was_legacy {
        let why = "the legacy signerName is not allowed via this API version";
        errors.push(Error::invalid(&signer.path, LEGACY, why));
    } else {
        errors.extend(signer_name(&signer.path, signer.text()));
    }
    let seconds = spec.get("expirationSeconds");
    if let Some(value) = seconds.int().filter(|value| *value < SHORTEST) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(Error::invalid(&seconds.path, value, why));
    }
    let conditions = At::field(request, "status").get("conditions");
    errors.extend(validate_conditions(&conditions, old));
    errors
}

fn has_repeats(words: &[&str]) -> bool {
    let mut rest = words;
    while let Some((first, others)) = rest.split_first() {
        if others.contains(first) {
            return true;
        }
        rest = others;
    }
    false
}

fn repeats<'a>(words: impl Iterator<Item = At<'a>>) -> ErrorList {
    let (mut seen, mut errors) = (Vec::new(), ErrorList::new());
    for word in words {
        match seen.contains(&word.text()) {
            true => errors.push(Error::duplicate(&word.path, word.text())),
            false => seen.push(word.text()),
        }
    }
    errors
}

/// `domain/path`: fully qualified, and short enough.
fn signer_name(path: &Path, name: &str) -> ErrorList {
    const DOMAIN: usize = 253;
    const LONGEST: usize = DOMAIN + (DOMAIN + 63 + 1) + 1;
    if name.is_empty() {
        return vec![Error::required(path, "")];
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return vec![Error::invalid(path, name, why)];
    };
    let mut errors = ErrorList::new();
    if domain.len() > DOMAIN {
        errors.push(Error::too_long(path, DOMAIN));
    }
    errors.extend(labels(path, domain, names::dns1123_label));
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, domain, why));
    }
    errors.extend(labels(path, rest, names::dns1123_subdomain));
    if name.len() > LONGEST {
        errors.push(Error::too_long(path, LONGEST));
    }
    errors
}

/// The first of the labels that is wrong.
fn labels(path: &Path, text: &str, rule: meta::NameRule) -> ErrorList {
    let wrong = text.split('.').map(|label| (label, rule(label)));
    let mut wrong = wrong.filter(|(_, messages)| !messages.is_empty());
    let Some((label, messages)) = wrong.next() else {
        return ErrorList::new();
    };
    let quoted = api::gotext::quote(label);
    let invalid =
        |message| Error::invalid(path, text, format!("validating label {quoted}: {message}"));
    messages.into_iter().map(invalid).collect()
}

fn validate_conditions(conditions: &At<'_>, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let before: Vec<&str> = old.map_or_else(Vec::new, |old| {
        let conditions = list(dig(old, &["status", "conditions"])).iter();
        conditions.map(|c| text(get(c, "type"))).collect()
    });
    let was_both = before.contains(&"Approved") && before.contains(&"Denied");
    let mut seen: Vec<&str> = Vec::new();
    for condition in conditions.items() {
        let (kind, status) = (condition.get("type"), condition.get("status"));
        if kind.text().is_empty() && !before.contains(&"") {
            errors.push(Error::required(&kind.path, ""));
        }
        let allowed: &[&str] = match FINAL.contains(&kind.text()) {
            true => &["True"],
            false => &STATUSES,
        };
        match status.text() {
            "" => errors.push(Error::required(&status.path, "")),
            known if allowed.contains(&known) => {}
            other => errors.push(Error::not_supported(&status.path, other, allowed)),
        }
        let opposite = match kind.text() {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !was_both && !opposite.is_empty() && seen.contains(&opposite) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(Error::invalid(&conditions.path, kind.text(), why));
        }
        if !has_repeats(&before) && seen.contains(&kind.text()) {
            errors.push(Error::duplicate(&kind.path, kind.text()));
        }
        seen.push(kind.text());
    }
    errors
}

/// What a write to this part may not change.
fn changes(part: Subresource, new: &Value, old: &Value) -> ErrorList {
    let path = Path::new("status").child("conditions");
    let mut errors = ErrorList::new();
    let counts = |kind| (of_type(new, kind).count(), of_type(old, kind).count());
    for kind in FINAL {
        let (now, before) = counts(kind);
        if now < before {
            let why = format!("updates may not remove a condition of type \"{kind}\"");
            errors.push(Error::forbidden(&path, why));
        }
    }
    if part != Subresource::Approval {
        for kind in ["Approved", "Denied"] {
            let (now, before) = counts(kind);
            if now > before {
                let why = format!("updates may not add a condition of type \"{kind}\"");
                errors.push(Error::forbidden(&path, why));
            }
        }
    }
    let certificate = |request| text(dig(request, &["status", "certificate"]));
    let (now, before) = (certificate(new), certificate(old));
    if now != before {
        let why = match part {
            Subresource::Status if before.is_empty() => return errors,
            Subresource::Status => "updates may not modify existing certificate content",
            _ => "updates may not set certificate content",
        };
        let path = Path::new("status").child("certificate");
        errors.push(Error::forbidden(&path, why));
    }
    errors
}
