//! Which part of a log is asked for.

use api::field::{Error, Path};
use api::gvk::GroupKind;
use api::query::Query;
use api::status::{self, StatusError};
use jiff::{SignedDuration, Timestamp};
use ports::node::LogOptions;

/// `PodLogOptions` of a URL, for the Pod of this name.
///
/// # Errors
/// What the client is to be told of options that are none.
pub fn log_options(query: &Query, pod: &str, now: Timestamp) -> Result<LogOptions, StatusError> {
    let number = |name| query.integer(name).map_err(status::bad_request);
    let (tail, limit, since) = (
        number("tailLines")?,
        number("limitBytes")?,
        number("sinceSeconds")?,
    );
    let since_time = match query.text("sinceTime") {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|e: jiff::Error| status::bad_request(e.to_string()))?,
        ),
    };
    let mut errors = Vec::new();
    let mut check = |name: &str, value: Option<i64>, least: i64, why: &str| {
        if let Some(value) = value.filter(|v| *v < least) {
            errors.push(Error::invalid(&Path::new(name), value, why));
        }
    };
    check("tailLines", tail, 0, "must be greater than or equal to 0");
    check("limitBytes", limit, 1, "must be greater than 0");
    if since.is_some() && since_time.is_some() {
        errors.push(Error::forbidden(
            &Path::root(),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    } else if let Some(seconds) = since.filter(|s| *s < 1) {
        errors.push(Error::invalid(
            &Path::new("sinceSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
    if !errors.is_empty() {
        return Err(status::invalid(
            &GroupKind::new("", "PodLogOptions"),
            pod,
            errors,
        ));
    }
    let ago = since.and_then(|s| now.checked_sub(SignedDuration::from_secs(s)).ok());
    Ok(LogOptions {
        follow: query.bool("follow"),
        previous: query.bool("previous"),
        timestamps: query.bool("timestamps"),
        since: since_time.or(ago),
        tail_lines: tail.and_then(|n| u64::try_from(n).ok()),
        limit_bytes: limit.and_then(|n| u64::try_from(n).ok()),
    })
}
