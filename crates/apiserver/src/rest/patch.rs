//! PATCH (spec kubectl-and-api §7).

use admission::Subresource;
use api::status::{self, StatusError};
use http::Response;

use super::Rest;
use crate::respond::Body;

impl Rest {
    pub(super) async fn patch(&self, _part: Subresource) -> Result<Response<Body>, StatusError> {
        Err(status::unsupported_media_type(&[]))
    }
}
