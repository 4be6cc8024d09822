//! Who may use an image that is here because somebody else's secret was good enough for it (§4.4 rule 3, KEP-2535).
//!
//! [`Pulls`] is what a node knows of its pulls. A pull is noted when it begins, and how it ended afterwards; what was being pulled
//! when the node went down is known to be from a registry, but not who may have it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::reference;

/// Most secrets of one image that are noted without a pull of their own (upstream's `writeRecordWhileMatchingLimit`).
const MOST_NOTED: usize = 100;

/// Which images that are here are asked about (`imagePullCredentialsVerificationPolicy`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Verification {
    /// None: `NeverVerify`.
    Never,
    /// Those the node agent pulled: `NeverVerifyPreloadedImages`.
    #[default]
    Pulled,
    /// All but these repositories, or all below one that ends in `/*`: `NeverVerifyAllowlistedImages`.
    NotListed(Vec<String>),
    /// All: `AlwaysVerify`.
    Always,
}

/// A secret that was good for an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullSecret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// Digest of the credentials in it that were used.
    pub hash: String,
}

impl PullSecret {
    fn is_same_object(&self, other: &PullSecret) -> bool {
        (&self.uid, &self.namespace, &self.name) == (&other.uid, &other.namespace, &other.name)
    }
}

/// Who may use an image under a repository's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Access {
    /// Every Pod of the node: it was pulled without credentials, or with the node's.
    Everyone,
    /// Pods with one of these, or with the same credentials in another.
    Secrets(Vec<PullSecret>),
}

/// Who may use an image, by repository in full. One of which nothing is known any more is empty.
pub type Record = BTreeMap<String, Access>;

/// What a node knows of its pulls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pulls {
    /// How many pulls of an image, as Pods write it, are under way.
    begun: BTreeMap<String, u32>,
    /// By image id.
    records: BTreeMap<String, Record>,
}

/// Whether a Pod may use an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It may.
    Allowed,
    /// If it has one of these: see [`Pulls::present`].
    Holding(&'a [PullSecret]),
    /// Only the registry can tell.
    Unknown,
}

impl Pulls {
    /// What was known when the node went down, and what is here, by name and id, although its pull was not over then.
    pub fn resumed(records: BTreeMap<String, Record>, cut_off: &[(String, String)]) -> Self {
        let mut pulls = Pulls {
            begun: BTreeMap::new(),
            records,
        };
        for (name, id) in cut_off {
            let record = pulls.records.entry(id.clone()).or_default();
            let nobody = || Access::Secrets(Vec::new());
            record
                .entry(reference::repository(name))
                .or_insert_with(nobody);
        }
        pulls
    }

    /// Images of the pulls under way, as Pods write them.
    pub fn under_way(&self) -> Vec<&str> {
        self.begun.keys().map(String::as_str).collect()
    }

    /// Ids of the images of which something is known.
    pub fn ids(&self) -> Vec<String> {
        self.records.keys().cloned().collect()
    }

    /// What is known of an image.
    pub fn record(&self, id: &str) -> Option<&Record> {
        self.records.get(id)
    }

    /// A pull begins; whether it is the only one of this image.
    pub fn begin(&mut self, image: &str) -> bool {
        let count = self.begun.entry(image.to_owned()).or_default();
        *count += 1;
        *count == 1
    }

    /// A pull is over.
    pub fn end(&mut self, image: &str) {
        if let Some(count) = self.begun.get_mut(image) {
            *count -= 1;
            if *count == 0 {
                self.begun.remove(image);
            }
        }
    }

    /// An image was got with this secret, or without any; whether that was not known.
    pub fn got(&mut self, image: &str, id: &str, secret: Option<PullSecret>) -> bool {
        let is_new = !self.records.contains_key(id);
        let record = self.records.entry(id.to_owned()).or_default();
        let repository = reference::repository(image);
        match (record.get_mut(&repository), secret) {
            (Some(Access::Everyone), _) => is_new,
            (_, None) => {
                record.insert(repository, Access::Everyone);
                true
            }
            (None, Some(secret)) => {
                record.insert(repository, Access::Secrets(vec![secret]));
                true
            }
            (Some(Access::Secrets(known)), Some(secret)) => note(known, secret),
        }
    }

    /// Whether a Pod may use an image that is here. Under a name of another repository it was put here by someone who may.
    pub fn verdict(&self, verification: &Verification, image: &str, id: &str) -> Verdict<'_> {
        let repository = reference::repository(image);
        let record = self.records.get(id);
        let access = record.and_then(|record| record.get(&repository));
        let is_begun = |name: &String| reference::repository(name) == repository;
        let asks = match verification {
            Verification::Never => false,
            Verification::Pulled => {
                let is_forgotten = record.is_some_and(BTreeMap::is_empty);
                access.is_some() || is_forgotten || self.begun.keys().any(is_begun)
            }
            Verification::NotListed(list) => !list.iter().any(|entry| is_of(&repository, entry)),
            Verification::Always => true,
        };
        match access {
            _ if !asks => Verdict::Allowed,
            Some(Access::Everyone) => Verdict::Allowed,
            Some(Access::Secrets(secrets)) if !secrets.is_empty() => Verdict::Holding(secrets),
            _ => Verdict::Unknown,
        }
    }

    /// A Pod shows what it has: `None` if that is not enough, else whether something was learnt. A secret that was good once is good
    /// with other credentials too, and good credentials are in any secret.
    pub fn present(&mut self, image: &str, id: &str, shown: &[PullSecret]) -> Option<bool> {
        let access = self.records.get_mut(id)?;
        let Access::Secrets(known) = access.get_mut(&reference::repository(image))? else {
            return Some(false);
        };
        for secret in shown {
            let is_good = |k: &PullSecret| k.is_same_object(secret) || k.hash == secret.hash;
            if known.iter().any(is_good) {
                return Some(known.len() < MOST_NOTED && note(known, secret.clone()));
            }
        }
        None
    }

    /// Forgets an image.
    pub fn forget(&mut self, id: &str) {
        self.records.remove(id);
    }
}

/// Adds a secret, or its newer credentials; whether it was not known so.
fn note(known: &mut Vec<PullSecret>, secret: PullSecret) -> bool {
    match known.iter_mut().find(|k| k.is_same_object(&secret)) {
        Some(same) if *same == secret => false,
        Some(same) => {
            *same = secret;
            true
        }
        None => {
            known.push(secret);
            true
        }
    }
}

/// Whether a repository is what an entry of the list says.
fn is_of(repository: &str, entry: &str) -> bool {
    match entry.strip_suffix('*') {
        Some(prefix) => repository.starts_with(prefix),
        None => repository == reference::repository(entry),
    }
}

impl Verification {
    /// Reads the settings `imagePullCredentialsVerificationPolicy` and `preloadedImagesVerificationAllowlist`.
    ///
    /// # Errors
    /// What is wrong with them, by field.
    pub fn read(policy: Option<&str>, listed: Vec<String>) -> Result<Self, String> {
        const POLICY: &str = "imagePullCredentialsVerificationPolicy";
        const LIST: &str = "preloadedImagesVerificationAllowlist";
        for entry in &listed {
            check(entry).map_err(|error| format!("{LIST}: {entry:?}: {error}"))?;
        }
        let verification = match policy {
            Some("NeverVerifyAllowlistedImages") => return Ok(Verification::NotListed(listed)),
            None | Some("NeverVerifyPreloadedImages") => Verification::Pulled,
            Some("NeverVerify") => Verification::Never,
            Some("AlwaysVerify") => Verification::Always,
            Some(other) => {
                return Err(format!(
                    "{POLICY}: {other:?} is none of NeverVerify, NeverVerifyPreloadedImages, NeverVerifyAllowlistedImages, AlwaysVerify"
                ));
            }
        };
        if listed.is_empty() {
            Ok(verification)
        } else {
            Err(format!(
                "{LIST}: needs {POLICY} to be NeverVerifyAllowlistedImages"
            ))
        }
    }
}

/// Whether an entry of the list is a repository, or a path of one with `/*` behind it.
fn check(entry: &str) -> Result<(), &'static str> {
    let repository = entry.strip_suffix("/*").unwrap_or(entry);
    if repository.contains('*') {
        return Err("only patterns that end in /* are allowed");
    }
    if reference::with_default_tag(repository).is_err() {
        return Err("it is not the name of a repository");
    }
    if reference::has_tag_or_digest(repository) {
        return Err("neither tag nor digest is allowed");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
