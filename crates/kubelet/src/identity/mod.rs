//! Who the agent is to a server elsewhere: a key of its own and a certificate of `system:node:NAME`, which is asked for with somebody
//! else's credentials at first (upstream's TLS bootstrap) and with its own before it ends.
//!
//! Both are in one file below the agent's state, readable by its owner only. The key never leaves the node.

mod request;
mod transport;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client};
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use request::Pair;
use transport::Presented;

/// What the user of a node's agent is called, with the node's name behind it.
const NODE: &str = "system:node:";
/// A certificate is renewed when so much of its time is over, as upstream does between seven and nine tenths.
const RENEWED_AFTER: f64 = 0.8;
/// What could not be renewed is tried again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// Why the agent is nobody to the server.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The server refused, or could not be reached.
    #[error("{what}")]
    Api {
        /// What was asked for.
        what: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// A file of the agent could not be read or written.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A key could not be made or used.
    #[error("make a key and a request for its certificate: {0}")]
    Key(String),
    /// Nobody will sign.
    #[error("the request {name} for a certificate was not granted: {why}")]
    Refused {
        /// Its name.
        name: String,
        /// What its condition says.
        why: String,
    },
    /// What was signed is no certificate of the key.
    #[error("the certificate of the node cannot be used: {0}")]
    Certificate(String),
}

/// The identity of an agent that has a key of its own.
pub struct Identity {
    node: String,
    path: PathBuf,
    presented: Arc<Presented>,
    /// From when and until when the certificate counts.
    validity: RwLock<(Timestamp, Timestamp)>,
}

/// Who the server takes the client for.
///
/// # Errors
/// The server's answer, or that there is none.
pub async fn who_am_i(client: &Client) -> Result<String, IdentityError> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .map_err(|source| api("ask the server who this is", source))?;
    let user = review.status.and_then(|status| status.user_info);
    Ok(user.and_then(|user| user.username).unwrap_or_default())
}

/// The user that the agent of this node is.
pub fn user_of(node: &str) -> String {
    format!("{NODE}{node}")
}

impl Identity {
    /// The identity that is kept in this file, if it is this node's and counts.
    ///
    /// # Errors
    /// The file cannot be read; one that makes no sense is as none.
    pub fn kept(path: &Path, node: &str, now: Timestamp) -> Result<Option<Self>, IdentityError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(file("read", path, source)),
        };
        Ok(Pair::parse(&text)
            .filter(|pair| pair.user == user_of(node) && pair.validity.1 > now)
            .map(|pair| Identity::new(path, node, pair)))
    }

    /// A new one, which `asker` asks for; it waits until somebody has approved and signed it.
    ///
    /// # Errors
    /// It is refused, or what is needed for it cannot be had.
    pub async fn asked_for(asker: &Client, path: &Path, node: &str) -> Result<Self, IdentityError> {
        let pair = request::sign(asker, node).await?;
        keep(path, &pair.pem)?;
        Ok(Identity::new(path, node, pair))
    }

    fn new(path: &Path, node: &str, pair: Pair) -> Self {
        Identity {
            node: node.to_owned(),
            path: path.to_owned(),
            presented: Arc::new(Presented::new(pair.certified)),
            validity: RwLock::new(pair.validity),
        }
    }

    /// A client of the server that `config` leads to, as this node, also after the certificate was renewed.
    ///
    /// # Errors
    /// `config` is of no use for TLS.
    pub fn client(&self, config: &kube::Config) -> Result<Client, IdentityError> {
        transport::client(config, self.presented.clone())
            .map_err(|source| api("prepare for TLS", source))
    }

    /// Renews the certificate before it ends, until `shutdown`; `client` is this identity's.
    pub async fn renew(self, client: Client, shutdown: CancellationToken) {
        let renewing = async {
            loop {
                sleep(self.rest(Timestamp::now())).await;
                if let Err(error) = self.renew_once(&client).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "renewing the node's certificate"
                    );
                    sleep(AGAIN).await;
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = renewing => {}
        }
    }

    async fn renew_once(&self, client: &Client) -> Result<(), IdentityError> {
        let pair = request::sign(client, &self.node).await?;
        keep(&self.path, &pair.pem)?;
        self.presented.replace(pair.certified);
        *self
            .validity
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = pair.validity;
        Ok(())
    }

    /// How long the certificate need not be renewed.
    fn rest(&self, now: Timestamp) -> Duration {
        let (from, to) = *self
            .validity
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        rest(from, to, now)
    }
}

fn rest(from: Timestamp, to: Timestamp, now: Timestamp) -> Duration {
    let whole = to.duration_since(from).as_secs_f64();
    let over = now.duration_since(from).as_secs_f64();
    Duration::from_secs_f64((whole * RENEWED_AFTER - over).max(0.0))
}

/// Puts what only the owner may read into a file, in one step.
fn keep(path: &Path, text: &[u8]) -> Result<(), IdentityError> {
    let new = path.with_extension("new");
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|source| file("write", path, source))
}

fn api(what: impl Into<String>, source: kube::Error) -> IdentityError {
    IdentityError::Api {
        what: what.into(),
        source: Box::new(source),
    }
}

fn file(what: &'static str, path: &Path, source: io::Error) -> IdentityError {
    IdentityError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_in_the_last_fifth_of_its_time() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        for (now, left) in [(0, 800), (500, 300), (800, 0), (2000, 0)] {
            let rest = rest(at(0), at(1000), at(now));
            assert_eq!(rest, Duration::from_secs(left), "at {now}");
        }
    }

    #[test]
    fn what_is_kept_is_for_the_owner_and_for_this_node_while_it_counts() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pki/kubelet-client.pem");
        let now = Timestamp::now();
        let kept = |node: &str, at: Timestamp| {
            let kept = Identity::kept(&path, node, at);
            kept.expect("reads").is_some()
        };
        assert!(!kept("n", now), "nothing is there yet");
        keep(&path, &request::tests::pair("system:node:n")).expect("writes");
        let mode = fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let late = Timestamp::from_second(now.as_second() + 100 * 366 * 86_400).expect("a time");
        for (node, at, expected) in [("n", now, true), ("m", now, false), ("n", late, false)] {
            assert_eq!(kept(node, at), expected, "{node} {at}");
        }
        fs::write(&path, "nothing").expect("writes");
        assert!(!kept("n", now), "what makes no sense is as nothing");
    }
}
