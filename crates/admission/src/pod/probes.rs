//! Probes, hooks and what they run.

use api::field::{Error, ErrorList};
use api::names;

use super::{non_negative, optional_word, port_number, port_number_or_name};
use crate::view::At;

/// A container's three probes; `grace` is the Pod's grace period in seconds.
pub(super) fn all(container: &At<'_>, grace: Option<i64>) -> ErrorList {
    let mut errors = ErrorList::new();
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.get(name);
        if !probe.given() {
            continue;
        }
        errors.extend(one(&probe, grace));
        let (threshold, own_grace) = (
            probe.get("successThreshold"),
            probe.get("terminationGracePeriodSeconds"),
        );
        if name != "readinessProbe" && threshold.int() != Some(1) {
            errors.push(Error::invalid(
                &threshold.path,
                threshold.int().unwrap_or(0),
                "must be 1",
            ));
        }
        if name == "readinessProbe"
            && let Some(seconds) = own_grace.int()
        {
            errors.push(Error::invalid(
                &own_grace.path,
                seconds,
                "must not be set for readinessProbes",
            ));
        }
    }
    errors
}

fn one(probe: &At<'_>, grace: Option<i64>) -> ErrorList {
    let mut errors = handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], grace);
    for name in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        errors.extend(non_negative(&probe.get(name)));
    }
    let own_grace = probe.get("terminationGracePeriodSeconds");
    if let Some(seconds) = own_grace.int().filter(|seconds| *seconds <= 0) {
        errors.push(Error::invalid(
            &own_grace.path,
            seconds,
            "must be greater than 0",
        ));
    }
    errors
}

/// `lifecycle`; `os` is `spec.os`.
pub(super) fn lifecycle(lifecycle: &At<'_>, grace: Option<i64>, os: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for name in ["postStart", "preStop"] {
        let hook = lifecycle.get(name);
        if hook.given() {
            errors.extend(handler(
                &hook,
                &["exec", "httpGet", "tcpSocket", "sleep"],
                grace,
            ));
        }
    }
    let signal = lifecycle.get("stopSignal");
    if signal.given() {
        errors.extend(stop_signal(&signal, os));
    }
    errors
}

fn handler(at: &At<'_>, kinds: &[&str], grace: Option<i64>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut found = false;
    for kind in kinds {
        let action = at.get(kind);
        if !action.given() {
            continue;
        }
        if found {
            errors.push(Error::forbidden(
                &action.path,
                "may not specify more than 1 handler type",
            ));
            continue;
        }
        found = true;
        errors.extend(match *kind {
            "exec" if action.get("command").len() == 0 => {
                vec![Error::required(&action.path.child("command"), "")]
            }
            "httpGet" => http_get(&action),
            "tcpSocket" => port_number_or_name(&action.get("port")),
            "grpc" => port_number(&action.get("port")),
            "sleep" => sleep(&action, grace),
            _ => ErrorList::new(),
        });
    }
    if !found {
        errors.push(Error::required(&at.path, "must specify a handler type"));
    }
    errors
}

fn http_get(action: &At<'_>) -> ErrorList {
    let path = action.get("path");
    let mut errors = ErrorList::new();
    if path.text().is_empty() {
        errors.push(Error::required(&path.path, ""));
    }
    errors.extend(port_number_or_name(&action.get("port")));
    let scheme = action.get("scheme");
    if !["HTTP", "HTTPS"].contains(&scheme.text()) {
        errors.push(Error::not_supported(
            &scheme.path,
            scheme.text(),
            &["HTTP", "HTTPS"],
        ));
    }
    let headers = action.get("httpHeaders");
    for header in headers.items() {
        let name = header.get("name");
        errors.extend(
            names::http_header_name(name.text())
                .into_iter()
                .map(|message| Error::invalid(&headers.path, name.text(), message)),
        );
    }
    errors
}

fn sleep(action: &At<'_>, grace: Option<i64>) -> ErrorList {
    let seconds = action.get("seconds").int().unwrap_or(0);
    match grace {
        Some(grace) if seconds < 0 || seconds > grace => {
            let detail = format!(
                "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
            );
            vec![Error::invalid(&action.path, seconds, detail)]
        }
        _ => ErrorList::new(),
    }
}

fn stop_signal(signal: &At<'_>, os: &At<'_>) -> ErrorList {
    if !os.given() {
        return vec![Error::forbidden(
            &signal.path,
            "may not be set for containers with empty `spec.os.name`",
        )];
    }
    match os.get("name").text() {
        "windows" => optional_word(signal, &["SIGKILL", "SIGTERM"]),
        "linux" => {
            let supported = linux_signals();
            let supported: Vec<&str> = supported.iter().map(String::as_str).collect();
            optional_word(signal, &supported)
        }
        _ => ErrorList::new(),
    }
}

/// Every signal a container may be stopped with, sorted as upstream prints them.
fn linux_signals() -> Vec<String> {
    const NAMES: &str = "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT RTMAX RTMIN SEGV STKFLT STOP SYS \
                         TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ";
    let mut signals: Vec<String> = NAMES
        .split_ascii_whitespace()
        .map(|name| format!("SIG{name}"))
        .collect();
    signals.extend((1..=14).map(|n| format!("SIGRTMAX-{n}")));
    signals.extend((1..=15).map(|n| format!("SIGRTMIN+{n}")));
    signals.sort_unstable();
    signals
}
