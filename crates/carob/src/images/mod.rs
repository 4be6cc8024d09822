//! `carob image`: one client and one service.
//!
//! The image store is held by one process. While an engine runs that is the engine, so commands reach it through a private
//! HTTP/1.1 service on a socket of the run directory ([`socket`]); while none runs the command opens the store itself and
//! speaks to the same service in its own process. Every request is a [`Call`] in a header, with an archive as its body
//! where one is sent; answers are JSON, lines of [`Told`] for a pull, and an archive for a save.
//!
//! Tasks: one that accepts, one a connection, one an archive that comes in. A connection that ends ends what it asked for.
//! The service serves its own kind only: both ends are the same version, as both are the same program.

mod body;
mod change;
mod client;
mod commands;
mod progress;
mod service;
mod show;
pub(crate) mod socket;

use std::collections::BTreeSet;

use ports::images::{AuthConfig, Image, ImageConfig, PullProgress};
use serde::{Deserialize, Serialize};

pub(crate) use self::commands::run;
pub(crate) use self::service::Service;

/// Header that holds a [`Call`] as JSON.
const CALL: &str = "carob-call";

/// What is asked of the service.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Call {
    /// Every image; answers with a list of [`Image`].
    List,
    /// Answers with lines of [`Told`].
    Pull {
        reference: String,
        credentials: Option<Credentials>,
    },
    /// Answers with [`Removed`].
    Remove { reference: String, force: bool },
    /// Takes an archive of images; answers with a list of [`Image`].
    Load,
    /// Takes an archive of files; answers with an [`Image`].
    Import { name: String, config: ImageConfig },
    /// Answers with an archive.
    Save { references: Vec<String> },
    /// Answers with the [`Image`].
    Tag { source: String, target: String },
    /// Answers with [`Pruned`].
    Prune { all: bool },
}

/// Who we are to a registry.
#[derive(Serialize, Deserialize)]
struct Credentials {
    username: String,
    password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl From<Credentials> for AuthConfig {
    fn from(credentials: Credentials) -> Self {
        AuthConfig {
            username: credentials.username,
            password: credentials.password,
            identity_token: String::new(),
        }
    }
}

/// One line of a pull's answer; the last is no `Progress`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Told {
    Progress(PullProgress),
    Image(Box<Image>),
    Failed(Failure),
}

/// What a removal took away.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Removed {
    untagged: BTreeSet<String>,
    /// The image's id, if no name of it is left.
    deleted: Option<String>,
}

/// What a prune took away.
#[derive(Debug, Serialize, Deserialize)]
struct Pruned {
    images: Vec<Image>,
    freed_bytes: u64,
}

/// A refusal, in words for the user.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
struct Failure {
    message: String,
}
