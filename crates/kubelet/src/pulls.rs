//! What the node knows of its pulls, kept over restarts (spec `§4.4` rule 3): who may use which image is decided by
//! [`lifecycle::image::access`]; here it is read from files and written to them.
//!
//! Below the agent's directory `pulls`, one file by image id says who may use that image, and `begun` which pulls are under way. Each
//! is replaced as a whole, and on the disk before the pull begins or counts as over. A record that cannot be read counts as one of an
//! image nobody has shown credentials for.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lifecycle::image::access::{PullSecret, Pulls, Record, Verdict, Verification};
use ports::images::Images;
use tokio::sync::OnceCell;

use crate::blocking;

/// The pulls under way.
const BEGUN: &str = "begun";

/// The node's pulls, and where they are written down.
pub(crate) struct KeptPulls {
    dir: PathBuf,
    pulls: OnceCell<Mutex<Pulls>>,
    /// Held by who writes, so that the last to write has the last to say.
    writing: tokio::sync::Mutex<()>,
}

/// A pull under way; over when it is dropped.
pub(crate) struct Begun<'a> {
    pulls: &'a Mutex<Pulls>,
    name: &'a str,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        lock(self.pulls).end(self.name);
    }
}

fn lock(pulls: &Mutex<Pulls>) -> MutexGuard<'_, Pulls> {
    pulls.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KeptPulls {
    /// Those of the agent with this directory; they are read when they are first asked for.
    pub(crate) fn new(root: &Path) -> Self {
        KeptPulls {
            dir: root.join("pulls"),
            pulls: OnceCell::new(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    async fn pulls(&self, images: &dyn Images) -> &Mutex<Pulls> {
        self.pulls.get_or_init(|| self.resume(images)).await
    }

    /// What was known before the agent started.
    async fn resume(&self, images: &dyn Images) -> Mutex<Pulls> {
        let dir = self.dir.clone();
        let (records, begun) = blocking::run(move || read(&dir)).await;
        let mut here = Vec::new();
        for name in &begun {
            let status = images.image_status(name).await;
            here.extend(status.ok().flatten().map(|image| (name.clone(), image.id)));
        }
        let pulls = Mutex::new(Pulls::resumed(records, &here));
        for (_, id) in here {
            self.write_record(&pulls, &id).await;
        }
        if !begun.is_empty() {
            self.write_begun(&pulls).await;
        }
        pulls
    }

    /// Whether a Pod may use an image that is here, by name and id; `shown` reads what it has, where that is asked for.
    pub(crate) async fn may_use(
        &self,
        images: &dyn Images,
        verification: &Verification,
        (name, id): (&str, &str),
        shown: impl Future<Output = Vec<PullSecret>>,
    ) -> bool {
        let pulls = self.pulls(images).await;
        match lock(pulls).verdict(verification, name, id) {
            Verdict::Allowed => return true,
            Verdict::Unknown => return false,
            Verdict::Holding(_) => {}
        }
        let shown = shown.await;
        let answer = lock(pulls).present(name, id, &shown);
        if answer == Some(true) {
            self.write_record(pulls, id).await;
        }
        answer.is_some()
    }

    /// A pull begins.
    pub(crate) async fn begin<'a>(&'a self, images: &dyn Images, name: &'a str) -> Begun<'a> {
        let pulls = self.pulls(images).await;
        let is_first = lock(pulls).begin(name);
        let begun = Begun { pulls, name };
        if is_first {
            self.write_begun(pulls).await;
        }
        begun
    }

    /// A pull got an image, by its id, with a secret or without any.
    pub(crate) async fn got(&self, begun: Begun<'_>, id: &str, secret: Option<PullSecret>) {
        let is_news = lock(begun.pulls).got(begun.name, id, secret);
        if is_news {
            self.write_record(begun.pulls, id).await;
        }
        self.over(begun).await;
    }

    /// A pull is over.
    pub(crate) async fn over(&self, begun: Begun<'_>) {
        let pulls = begun.pulls;
        drop(begun);
        self.write_begun(pulls).await;
    }

    /// Forgets images that are no longer here.
    pub(crate) async fn prune(&self, images: &dyn Images) {
        let pulls = self.pulls(images).await;
        let known = lock(pulls).ids();
        let Ok(here) = images.list_images().await else {
            return;
        };
        let is_here = |id: &String| here.iter().any(|image| image.id == *id);
        for id in known.into_iter().filter(|id| !is_here(id)) {
            let _writing = self.writing.lock().await;
            lock(pulls).forget(&id);
            let path = self.dir.join(file_of(&id));
            let removed = blocking::run(move || fs::remove_file(path)).await;
            self.told(&id, removed);
        }
    }

    async fn write_record(&self, pulls: &Mutex<Pulls>, id: &str) {
        let text = || lock(pulls).record(id).map(serde_json::to_string);
        self.write(file_of(id), text).await;
    }

    async fn write_begun(&self, pulls: &Mutex<Pulls>) {
        let text = || Some(serde_json::to_string(&lock(pulls).under_way()));
        self.write(BEGUN.to_owned(), text).await;
    }

    /// Writes what there is to say once it is this one's turn.
    async fn write(&self, name: String, text: impl FnOnce() -> Option<serde_json::Result<String>>) {
        let _writing = self.writing.lock().await;
        let Some(text) = text() else {
            return;
        };
        let (dir, file) = (self.dir.clone(), name.clone());
        let write = move || replace(&dir, &file, &text.map_err(io::Error::other)?);
        let written = blocking::run(write).await;
        self.told(&name, written);
    }

    fn told(&self, file: &str, done: io::Result<()>) {
        if let Err(error) = done {
            let dir = self.dir.display();
            tracing::warn!(file, %error, "keeping what is known of pulls in {dir}");
        }
    }
}

/// File of the record of an image.
fn file_of(id: &str) -> String {
    id.replacen(':', "-", 1)
}

/// Records by image id, and the pulls that were under way.
fn read(dir: &Path) -> (BTreeMap<String, Record>, Vec<String>) {
    let mut records = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((algorithm, hex)) = name.split_once('-').filter(|_| !name.starts_with('.')) else {
            continue;
        };
        let text = fs::read(entry.path()).unwrap_or_default();
        let record = serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(file = name, %error, "a record of a pull cannot be read");
            Record::new()
        });
        records.insert(format!("{algorithm}:{hex}"), record);
    }
    let begun = fs::read(dir.join(BEGUN)).unwrap_or_default();
    (records, serde_json::from_slice(&begun).unwrap_or_default())
}

/// Puts a new file in the place of the old one.
fn replace(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let aside = dir.join(format!(".{name}"));
    let mut file = match File::create(&aside) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(dir)?;
            fs::set_permissions(dir, Permissions::from_mode(0o700))?;
            File::create(&aside)?
        }
        opened => opened?,
    };
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(aside, dir.join(name))?;
    File::open(dir)?.sync_all()
}
