//! How a failure is told: the server's words under `Error from server`, ours under `error:` (§11.2).

use std::fmt;
use std::io;
use std::process::ExitCode;

use kube::core::Status;
use kube::core::response::StatusDetails;

/// Exit code of a program that SIGPIPE ended, as shells see it.
const SIGPIPE: u8 = 141;

/// A failure whose text is complete, with the exit code to end with.
#[derive(Debug)]
pub(crate) struct Exit {
    /// Printed to standard error as it is; empty prints nothing.
    pub(crate) message: String,
    /// Exit code, 1 to 255.
    pub(crate) code: u8,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Exit {}

/// Prints a failure and returns the exit code it stands for.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(exit) = error.downcast_ref::<Exit>() {
        if !exit.message.is_empty() {
            eprintln!("{}", exit.message);
        }
        return ExitCode::from(exit.code);
    }
    if is_broken_pipe(error) {
        return ExitCode::from(SIGPIPE);
    }
    match status_of(error) {
        Some(status) => eprintln!("{}", server_error(status, &prefixes(error))),
        None => eprintln!("error: {error:#}"),
    }
    ExitCode::FAILURE
}

/// The server's refusal inside an error, if that is what it is.
pub(crate) fn status_of(error: &anyhow::Error) -> Option<&Status> {
    error
        .chain()
        .find_map(|cause| match cause.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(status)) => Some(&**status),
            _ => None,
        })
}

/// Prints several failures, and ends with a failure if there is one.
pub(crate) fn outcome(failures: &[anyhow::Error]) -> ExitCode {
    for failure in failures {
        report(failure);
    }
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether the server says that the object is not there.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// What the server says, to be told within a sentence of our own.
pub(crate) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Contexts put around a refusal (`error when creating "f.yaml"`), outermost first.
fn prefixes(error: &anyhow::Error) -> String {
    let own = error
        .chain()
        .take_while(|cause| cause.downcast_ref::<kube::Error>().is_none());
    own.map(|cause| format!("{cause}: ")).collect()
}

/// `Error from server (NotFound): pods "x" not found`; refusals of an object's content have a form of their own.
fn server_error(status: &Status, prefix: &str) -> String {
    let reason = if status.reason.is_empty() {
        String::new()
    } else {
        format!(" ({})", status.reason)
    };
    match status
        .details
        .as_ref()
        .filter(|_| status.reason == "Invalid")
    {
        Some(details) => invalid(details),
        None if status.reason == "Invalid" => format!("The request is invalid: {}", status.message),
        None if status.code == 401 => format!(
            "error: You must be logged in to the server ({prefix}{})",
            status.message
        ),
        None => format!("Error from server{reason}: {prefix}{}", status.message),
    }
}

/// Refused content, cause by cause. Refusals of a patch name no object.
fn invalid(details: &StatusDetails) -> String {
    let mut causes = Vec::new();
    for cause in &details.causes {
        let text = match cause.field.as_str() {
            "" => cause.message.clone(),
            field => format!("{field}: {}", cause.message),
        };
        if !causes.contains(&text) {
            causes.push(text);
        }
    }
    let subject = match details.kind.as_str() {
        "" => "request".to_owned(),
        kind => format!("{kind} {:?}", details.name),
    };
    match causes.as_slice() {
        [] => format!("The {subject} is invalid"),
        [one] => format!("The {subject} is invalid: {one}"),
        several => format!("The {subject} is invalid: \n* {}", several.join("\n* ")),
    }
}

/// Whether the reader of standard output went away, which is nothing to tell.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    // A server that hangs up is something to tell.
    error
        .chain()
        .take_while(|cause| cause.downcast_ref::<kube::Error>().is_none())
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(status: serde_json::Value, prefix: &str) -> String {
        let status: Status = serde_json::from_value(status).expect("a status");
        server_error(&status, prefix)
    }

    #[test]
    fn only_readers_that_go_away_are_not_told_of() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(
            &anyhow::Error::from(broken()).context("write")
        ));
        let by_server = kube::Error::Service(Box::new(broken()));
        assert!(!is_broken_pipe(
            &anyhow::Error::from(by_server).context("create")
        ));
    }

    #[test]
    fn refusals_are_told_as_kubectl_tells_them() {
        let cause = |field: &str, message: &str| json!({"reason": "FieldValueInvalid", "field": field, "message": message});
        let invalid = |causes: serde_json::Value| json!({"reason": "Invalid", "message": "m", "code": 422, "details": {"name": "p", "kind": "Pod", "causes": causes}});
        for (status, prefix, text) in [
            (
                json!({"reason": "NotFound", "message": "pods \"x\" not found", "code": 404}),
                "",
                "Error from server (NotFound): pods \"x\" not found",
            ),
            (
                json!({"reason": "BadRequest", "message": "no", "code": 400}),
                "error when creating \"STDIN\": ",
                "Error from server (BadRequest): error when creating \"STDIN\": no",
            ),
            (
                json!({"message": "odd", "code": 500}),
                "",
                "Error from server: odd",
            ),
            (
                json!({"reason": "Unauthorized", "message": "Unauthorized", "code": 401}),
                "",
                "error: You must be logged in to the server (Unauthorized)",
            ),
            (
                invalid(json!([cause("a", "bad")])),
                "error when creating \"STDIN\": ",
                "The Pod \"p\" is invalid: a: bad",
            ),
            (
                json!({"reason": "Invalid", "message": "patch: bad", "code": 422, "details": {"causes": [cause("patch", "bad")]}}),
                "",
                "The request is invalid: patch: bad",
            ),
            (
                invalid(json!([
                    cause("a", "bad"),
                    cause("b", "worse"),
                    cause("a", "bad")
                ])),
                "",
                "The Pod \"p\" is invalid: \n* a: bad\n* b: worse",
            ),
        ] {
            assert_eq!(told(status, prefix), text);
        }
    }
}
