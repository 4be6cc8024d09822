//! Lists (spec kubectl-and-api §5.4).

use api::resource::Resource;
use api::status::{self, StatusError};
use http::Response;
use ports::store::{Entry, Revision};

use super::options::{Continue, ListOptions};
use super::{Rest, snapshot};
use crate::respond::Body;

/// The text of upstream's 410 for a `continue` whose snapshot is gone.
const STALE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// One page, ready to be presented.
pub(crate) struct Page {
    pub(crate) revision: Revision,
    pub(crate) entries: Vec<Entry>,
    /// Token of the next page.
    pub(crate) next: Option<String>,
    /// How many objects are left, when that is known.
    pub(crate) remaining: Option<usize>,
}

impl Rest {
    pub(super) async fn list(&self) -> Result<Response<Body>, StatusError> {
        let options = ListOptions::parse(&self.call.query, self.kind, false)?;
        let page = self.page(&options).await?;
        self.present_list(&page)
    }

    /// Every object of a kind that the request selects.
    pub(crate) fn selected(&self, kind: &Resource) -> Result<Vec<Entry>, StatusError> {
        let options = ListOptions::parse(&self.call.query, kind, false)?;
        let prefix = snapshot::prefix(kind, &self.target.namespace, &options.selection);
        let (_, entries, _) = snapshot::select(
            &self.inner,
            &prefix,
            &options.selection,
            None,
            options.limit,
        );
        Ok(entries)
    }

    async fn page(&self, options: &ListOptions) -> Result<Page, StatusError> {
        let prefix = snapshot::prefix(self.kind, &self.target.namespace, &options.selection);
        if let Some(asked) = options.revision {
            snapshot::reach(&self.inner, asked).await?;
            if options.exact && !snapshot::is_unchanged(&self.inner, &prefix, asked)? {
                return Err(status::too_old_resource_version(
                    asked,
                    self.inner.store.revision(),
                ));
            }
        }
        if let Some(token) = &options.continues {
            self.check_continue(&prefix, token)?;
        }
        let after = options.continues.as_ref().map(|c| c.start.as_str());
        let (current, entries, more) = snapshot::select(
            &self.inner,
            &prefix,
            &options.selection,
            after,
            options.limit,
        );
        let revision = match (&options.continues, options.exact, options.revision) {
            (Some(token), _, _) => token.revision,
            (None, true, Some(asked)) => asked,
            _ => current,
        };
        let last = entries.last().filter(|_| more);
        let next = last.map(|e| {
            Continue {
                revision,
                start: e.key.clone(),
            }
            .encode()
        });
        let remaining = last.filter(|_| options.selection.is_everything());
        let remaining = remaining.map(|e| self.inner.store.range(&prefix, Some(&e.key), 0).1.len());
        Ok(Page {
            revision,
            entries,
            next,
            remaining,
        })
    }

    /// A later page shows newer objects under the first page's revision: whoever watches from there is told of every change
    /// since, so the two agree in the end. That holds as long as that history is kept.
    fn check_continue(&self, prefix: &str, token: &Continue) -> Result<(), StatusError> {
        if !token.start.starts_with(prefix) {
            return Err(status::bad_request(
                "continue key is not valid: invalid start key",
            ));
        }
        let Err(error) = snapshot::is_unchanged(&self.inner, prefix, token.revision) else {
            return Ok(());
        };
        if error.code != 410 {
            return Err(error);
        }
        let mut error = status::expired(STALE);
        let fresh = Continue {
            revision: self.inner.store.revision(),
            start: token.start.clone(),
        };
        error.metadata.continue_token = fresh.encode();
        Err(error)
    }
}
