//! Serving HTTPS: connections of a listener, whom the certificates of their clients name, and plain answers.
//!
//! One task per connection; all of them end, within a few seconds, when serving ends.

mod respond;
mod serve;
mod tls;

pub use respond::{Body, BoxError, JSON, full, json, stream, text, with_type};
pub use serve::serve;
pub use tls::{Peer, TlsError, server_config};
