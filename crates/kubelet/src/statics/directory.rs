//! The directory of manifests: what its files describe, and when that changes. The kernel tells of changes; everything is read again
//! only when it could not tell of all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use informer::key_of;
use k8s_openapi::api::core::v1::Pod;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::manifest;
use crate::blocking;

/// Longest manifest, in bytes.
const LONGEST: u64 = 10 << 20;
/// A directory that cannot be followed is tried again after this.
const AGAIN: Duration = Duration::from_secs(10);
/// Room for some dozens of events with names.
const BUFFER: usize = 16 << 10;

/// What a directory of manifests holds.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    node: String,
    /// The Pods of good files.
    pods: BTreeMap<OsString, Pod>,
}

/// What has changed.
#[derive(Debug, Default)]
struct Changes {
    /// These files, and whether a name for each of them is all that is new.
    names: BTreeMap<OsString, bool>,
    /// More than was told.
    is_lost: bool,
    /// The directory is another one now, or none.
    is_gone: bool,
}

/// Tells all Pods of the directory for this node, and again whenever they are others. Ends when nobody listens. At the start the directory
/// is made if it is not there; later it may go and come back.
pub(super) async fn follow(path: PathBuf, node: String, told: mpsc::UnboundedSender<Vec<Pod>>) {
    let mut directory = Directory {
        path,
        node,
        pods: BTreeMap::new(),
    };
    if let Err(error) = fs::create_dir_all(&directory.path) {
        let path = directory.path.display();
        tracing::error!(%path, %error, "the directory of manifests cannot be made");
    }
    while !told.is_closed() {
        let watched = watch(&directory.path, of_files());
        directory = blocking::run(move || {
            directory.read_all();
            directory
        })
        .await;
        if told.send(directory.all()).is_err() {
            return;
        }
        let ended = match watched {
            Ok(watched) => heed(&watched, &mut directory, &told).await,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                appearance(&directory.path, &told).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            let path = directory.path.display();
            tracing::error!(%path, %error, "the directory of manifests cannot be followed");
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Keeps up with a directory until it is another one, or nobody listens.
async fn heed(
    watched: &AsyncFd<OwnedFd>,
    directory: &mut Directory,
    told: &mpsc::UnboundedSender<Vec<Pod>>,
) -> io::Result<()> {
    loop {
        let changes = tokio::select! {
            changes = changes(watched) => changes?,
            () = told.closed() => return Ok(()),
        };
        if changes.is_gone {
            return Ok(());
        }
        if changes.is_lost {
            tracing::warn!("changes of manifests were missed; reading all of them");
            directory.read_all();
        }
        for (name, is_only_named) in changes.names {
            directory.heed(&name, is_only_named);
        }
        if told.send(directory.all()).is_err() {
            return Ok(());
        }
    }
}

/// Waits until there is a directory of this name, or nobody listens.
async fn appearance(path: &Path, told: &mpsc::UnboundedSender<Vec<Pod>>) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    let watched = watch(parent, WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
    while !path.is_dir() {
        let changes = tokio::select! {
            changes = changes(&watched) => changes?,
            () = told.closed() => return Ok(()),
        };
        if changes.is_gone {
            return Err(ErrorKind::NotFound.into());
        }
    }
    Ok(())
}

/// What changes the Pods of a directory. A file that is being written is not looked at before it is closed.
fn of_files() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::ATTRIB
        | WatchFlags::DELETE
        | WatchFlags::MOVE
}

/// Has the kernel tell of this in a directory, and when it is another one.
fn watch(path: &Path, what: WatchFlags) -> io::Result<AsyncFd<OwnedFd>> {
    let notes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let of_itself = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
    inotify::add_watch(&notes, path, what | of_itself)?;
    #[expect(
        deprecated,
        reason = "the descriptor is owned, so it stays what it is; the successor needs unsafe"
    )]
    AsyncFd::new(notes)
}

/// Waits for changes.
async fn changes(watched: &AsyncFd<OwnedFd>) -> io::Result<Changes> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    loop {
        let mut ready = watched.readable().await?;
        let mut changes = Changes::default();
        let mut reader = inotify::Reader::new(watched.get_ref(), &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes().to_vec());
                    changes.note(event.events(), name.map(OsString::from_vec));
                }
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        ready.clear_ready();
        if changes.is_lost || changes.is_gone || !changes.names.is_empty() {
            return Ok(changes);
        }
    }
}

impl Changes {
    fn note(&mut self, events: ReadFlags, name: Option<OsString>) {
        let gone =
            ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED;
        self.is_gone |= events.intersects(gone);
        self.is_lost |= events.contains(ReadFlags::QUEUE_OVERFLOW);
        if let Some(name) = name {
            let is_only_named = self.names.entry(name).or_insert(true);
            *is_only_named &= events.contains(ReadFlags::CREATE);
        }
    }
}

impl Directory {
    fn read_all(&mut self) {
        self.pods.clear();
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%path, %error, "the directory of manifests cannot be read");
                return;
            }
        };
        for entry in entries.flatten() {
            self.read(&entry.file_name());
        }
    }

    /// Takes in a change. A file that was only just made is still to be written, and told of again, unless it is a link.
    fn heed(&mut self, name: &OsStr, is_only_named: bool) {
        let about = fs::symlink_metadata(self.path.join(name));
        if !is_only_named || about.is_ok_and(|about| !about.is_file() || about.nlink() > 1) {
            self.read(name);
        }
    }

    /// Takes in one file as it is now. Of one that is bad there is no Pod.
    fn read(&mut self, name: &OsStr) {
        if name.as_bytes().starts_with(b".") {
            return;
        }
        self.pods.remove(name);
        let path = self.path.join(name);
        let body = match read_file(&path) {
            Ok(Some(body)) => body,
            Ok(None) => return,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "could not read a manifest");
                return;
            }
        };
        match manifest::read(&body, &self.node, &path) {
            Ok(found) => {
                for problem in found.problems {
                    tracing::warn!(path = %path.display(), "in a manifest: {problem}");
                }
                self.pods.insert(name.to_owned(), found.pod);
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "could not process a manifest");
            }
        }
    }

    /// Every Pod. Of those that ask for one name the first by file has it.
    fn all(&self) -> Vec<Pod> {
        let mut names = BTreeSet::new();
        let mut pods = Vec::new();
        for (file, pod) in &self.pods {
            if names.insert(key_of(pod)) {
                pods.push(pod.clone());
            } else {
                let path = self.path.join(file);
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                tracing::warn!(path = %path.display(), "ignored due to duplicate pod name {name:?}");
            }
        }
        pods
    }
}

/// A manifest's text. A file that was just made and holds nothing yet is none; it is told of again.
fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let about = fs::metadata(path)?;
    if about.is_dir() {
        return Err(io::Error::other(
            "it is a directory, which is not looked into",
        ));
    }
    if !about.is_file() {
        return Err(io::Error::other("it is neither a file nor a directory"));
    }
    if about.size() == 0 {
        return Ok(None);
    }
    let mut body = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut body)?;
    if body.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than 10 MiB"));
    }
    Ok(Some(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, image: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: \"{image}\"}}]}}\n"
        )
    }

    fn images(pods: &[Pod]) -> Vec<&str> {
        let images = pods.iter().map(|pod| {
            let image = pod
                .spec
                .as_ref()
                .and_then(|s| s.containers[0].image.as_deref());
            image.unwrap_or_default()
        });
        images.collect()
    }

    /// The next answer that satisfies.
    async fn until(
        told: &mut mpsc::UnboundedReceiver<Vec<Pod>>,
        want: &[&str],
    ) -> Result<(), tokio::time::error::Elapsed> {
        tokio::time::timeout(Duration::from_secs(20), async {
            while images(&told.recv().await.expect("it is followed")) != want {}
        })
        .await
    }

    #[tokio::test]
    async fn changes_of_files_are_followed() {
        let root = tempfile::tempdir().unwrap();
        // It is made.
        let path = root.path().join("manifests");
        let (tell, mut told) = mpsc::unbounded_channel();
        let following = tokio::spawn(follow(path.clone(), "n".into(), tell));
        until(&mut told, &[]).await.unwrap();
        let write = |name: &str, text: &str| fs::write(path.join(name), text).unwrap();
        write("a.yaml", &manifest("a", "one"));
        until(&mut told, &["one"]).await.unwrap();
        // Neither is a manifest, and the good ones stay.
        write(".b.yaml", &manifest("b", "hidden"));
        write("bad.yaml", "kind: [");
        fs::create_dir(path.join("more")).unwrap();
        write("c.json", &manifest("c", "two"));
        until(&mut told, &["one", "two"]).await.unwrap();
        // As editors do it.
        write(".a.swp", &manifest("a", "three"));
        fs::rename(path.join(".a.swp"), path.join("a.yaml")).unwrap();
        until(&mut told, &["three", "two"]).await.unwrap();
        // The first has the name.
        write("z.yaml", &manifest("a", "four"));
        fs::remove_file(path.join("c.json")).unwrap();
        until(&mut told, &["three"]).await.unwrap();
        fs::remove_file(path.join("a.yaml")).unwrap();
        until(&mut told, &["four"]).await.unwrap();
        // What is no Pod any more has none.
        write("z.yaml", "kind: Pod");
        until(&mut told, &[]).await.unwrap();
        std::os::unix::fs::symlink("/dev/null", path.join("link")).unwrap();
        fs::write(root.path().join("target"), manifest("l", "linked")).unwrap();
        std::os::unix::fs::symlink("../target", path.join("l.yaml")).unwrap();
        until(&mut told, &["linked"]).await.unwrap();
        // Another directory takes its place.
        fs::remove_dir_all(&path).unwrap();
        until(&mut told, &[]).await.unwrap();
        let next = root.path().join("next");
        fs::create_dir(&next).unwrap();
        fs::write(next.join("d.yaml"), manifest("d", "five")).unwrap();
        fs::rename(&next, &path).unwrap();
        until(&mut told, &["five"]).await.unwrap();
        fs::rename(&path, &next).unwrap();
        until(&mut told, &[]).await.unwrap();
        drop(told);
        following.await.unwrap();
    }
}
