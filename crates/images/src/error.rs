//! Short ways to make [`ImageError`]s, and to hand one failure to several waiters.

use std::fmt::Display;
use std::io;

use ports::images::ImageError;

/// What was tried, for `map_err` on file-system calls.
pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> ImageError {
    let what = what.into();
    move |source| ImageError::Io { what, source }
}

/// The same for rustix calls.
pub(crate) fn sys(what: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> ImageError {
    let what = what.into();
    move |errno| ImageError::Io {
        what,
        source: errno.into(),
    }
}

/// Input that is not taken.
pub(crate) fn refused(what: impl Display, reason: impl Display) -> ImageError {
    ImageError::Refused {
        what: what.to_string(),
        reason: reason.to_string(),
    }
}

/// The text of an error and of all its causes, outermost first.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = inner.source();
    }
    text
}

/// A second copy of a failure, for everyone who waited on a shared pull; causes become text.
pub(crate) fn duplicate(error: &ImageError) -> ImageError {
    match error {
        ImageError::InvalidName { reference, reason } => ImageError::InvalidName {
            reference: reference.clone(),
            reason: reason.clone(),
        },
        ImageError::NotFound { reference } => ImageError::NotFound {
            reference: reference.clone(),
        },
        ImageError::Unreachable { host, source } => ImageError::Unreachable {
            host: host.clone(),
            source: chain(source.as_ref()).into(),
        },
        ImageError::Unauthorized { reference, reason } => ImageError::Unauthorized {
            reference: reference.clone(),
            reason: reason.clone(),
        },
        ImageError::Refused { what, reason } => ImageError::Refused {
            what: what.clone(),
            reason: reason.clone(),
        },
        ImageError::InUse { reference, by } => ImageError::InUse {
            reference: reference.clone(),
            by: by.clone(),
        },
        ImageError::Io { what, source } => ImageError::Io {
            what: what.clone(),
            source: io::Error::new(source.kind(), source.to_string()),
        },
    }
}
