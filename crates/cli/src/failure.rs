//! How a failure is told: the server's words under `Error from server`, ours under `error:` (§11.2).

use std::fmt;
use std::process::ExitCode;

use kube::core::Status;

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

/// Whether the server says that the object is not there.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
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
        .filter(|_| status.reason == "Invalid" && prefix.is_empty())
    {
        Some(details) => {
            let causes = details
                .causes
                .iter()
                .map(|cause| format!("{}: {}", cause.field, cause.message))
                .collect::<Vec<_>>();
            let kind = if details.group.is_empty() {
                details.kind.clone()
            } else {
                format!("{}.{}", details.kind, details.group)
            };
            let body = match causes.as_slice() {
                [one] => format!(" {one}"),
                several => several.iter().map(|cause| format!("\n* {cause}")).collect(),
            };
            format!("The {kind} \"{}\" is invalid:{body}", details.name)
        }
        None => format!("Error from server{reason}: {prefix}{}", status.message),
    }
}
