//! Query options of lists and watches, and their rules (spec kubectl-and-api §5.4, §5.8).

use api::field::{Error, ErrorList, Path};
use api::gvk::GroupKind;
use api::query::Query;
use api::selector::{FieldSelector, Selector};
use api::status::{self, StatusError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ports::store::Revision;
use serde::{Deserialize, Serialize};

use crate::head::Selection;
use api::resource::Resource;

/// `ListOptions` as read from the query.
#[derive(Debug, Default)]
pub(crate) struct ListOptions {
    pub(crate) selection: Selection,
    /// `None` when unset.
    pub(crate) revision: Option<Revision>,
    pub(crate) exact: bool,
    pub(crate) limit: usize,
    pub(crate) continues: Option<Continue>,
    pub(crate) timeout: Option<u64>,
    pub(crate) bookmarks: bool,
    pub(crate) initial_events: Option<bool>,
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Continue {
    /// Revision of the first page.
    #[serde(rename = "rv")]
    pub(crate) revision: Revision,
    /// The last key given.
    pub(crate) start: String,
}

impl Continue {
    pub(crate) fn encode(&self) -> String {
        // Two plain fields always serialise.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(token: &str) -> Result<Continue, StatusError> {
        let decoded = URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        decoded.ok_or_else(|| {
            status::bad_request("continue key is not valid: unrecognized continue token")
        })
    }
}

impl ListOptions {
    pub(crate) fn parse(
        query: &Query,
        kind: &Resource,
        watch: bool,
    ) -> Result<ListOptions, StatusError> {
        check(query, watch)?;
        let selection = selection(query, kind)?;
        let number = |name| query.integer(name).map_err(status::bad_request);
        let revision = match query.text("resourceVersion") {
            "" => None,
            text => Some(text.parse().map_err(|_| invalid_revision(text))?),
        };
        let continues = match query.text("continue") {
            "" => None,
            token => Some(Continue::decode(token)?),
        };
        if continues.is_some() && revision.is_some_and(|r| r != 0) {
            return Err(status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        Ok(ListOptions {
            selection,
            revision,
            exact: query.text("resourceVersionMatch") == "Exact",
            limit: number("limit")?
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or_default(),
            continues,
            timeout: number("timeoutSeconds")?.and_then(|n| u64::try_from(n).ok()),
            bookmarks: query.bool("allowWatchBookmarks"),
            initial_events: query.maybe_bool("sendInitialEvents"),
        })
    }
}

fn invalid_revision(text: &str) -> StatusError {
    let error = Error::invalid(
        &Path::new("resourceVersion"),
        text,
        "strconv.ParseUint: parsing: invalid syntax",
    );
    invalid(vec![error])
}

fn invalid(errors: ErrorList) -> StatusError {
    status::invalid(&GroupKind::new("meta.k8s.io", "ListOptions"), "", errors)
}

/// The label and field selectors in the query.
pub(crate) fn selection(query: &Query, kind: &Resource) -> Result<Selection, StatusError> {
    let labels = Selector::parse(query.text("labelSelector"))
        .map_err(|e| status::bad_request(e.to_string()))?;
    let fields = FieldSelector::parse(query.text("fieldSelector"))
        .map_err(|e| status::bad_request(e.to_string()))?;
    kind.check_fields(&fields)
        .map_err(|e| status::bad_request(e.to_string()))?;
    Ok(Selection { labels, fields })
}

fn check(query: &Query, watch: bool) -> Result<(), StatusError> {
    let errors = if watch {
        check_watch(query)
    } else {
        check_list(query)
    };
    if errors.is_empty() {
        Ok(())
    } else {
        Err(invalid(errors))
    }
}

fn check_list(query: &Query) -> ErrorList {
    let matching = query.text("resourceVersionMatch");
    let at = Path::new("resourceVersionMatch");
    let mut errors = ErrorList::new();
    if !matching.is_empty() {
        if query.text("resourceVersion").is_empty() {
            errors.push(Error::forbidden(
                &at,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if !query.text("continue").is_empty() {
            errors.push(Error::forbidden(
                &at,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.push(Error::not_supported(
                &at,
                matching,
                &["Exact", "NotOlderThan", ""],
            ));
        }
        if matching == "Exact" && query.text("resourceVersion") == "0" {
            errors.push(Error::forbidden(
                &at,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
    }
    if query.get("sendInitialEvents").is_some() {
        errors.push(Error::forbidden(
            &Path::new("sendInitialEvents"),
            "sendInitialEvents is forbidden for list",
        ));
    }
    errors
}

fn check_watch(query: &Query) -> ErrorList {
    let matching = query.text("resourceVersionMatch");
    let initial = query.get("sendInitialEvents").is_some();
    let at = Path::new("resourceVersionMatch");
    let mut errors = ErrorList::new();
    if initial && matching != "NotOlderThan" {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(Error::forbidden(&at, why));
    }
    if !matching.is_empty() {
        if !initial {
            errors.push(Error::forbidden(
                &at,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        if matching != "NotOlderThan" {
            errors.push(Error::not_supported(&at, matching, &["NotOlderThan"]));
        }
        if !query.text("continue").is_empty() {
            errors.push(Error::forbidden(
                &at,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
    }
    errors
}
