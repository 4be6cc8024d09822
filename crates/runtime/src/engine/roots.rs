//! Root file systems made ahead of the containers that will have them.
//!
//! Mounting an overlay makes files, and on a disk where many were made and removed of late each takes a while. What was started is often
//! started again: the next container of the Pod, its next run, the next Pod. So as many roots as were asked for of late are kept of
//! the images that were used last. [`super::spare`]'s task makes them when nothing is being started.
//!
//! A root is a directory like a container's own ([`super::record`]), which becomes that by a new name, and the mount, which nobody but
//! this process holds. It goes with the engine, and its successor removes the directory.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::record::{UPPER, WORK};
use super::sandbox::remove_tree;
use super::{Inner, lock};
use crate::launch::{self, Root};

/// Stacks of layers that roots are kept of.
const STACKS: usize = 4;
/// Roots that are kept of one.
const EACH: usize = 4;

/// What is there for the next containers.
pub(super) struct Roots {
    directory: PathBuf,
    /// What was asked for last is last.
    stacks: Mutex<Vec<Stack>>,
}

/// Layers, uppermost first, and what is made of them.
struct Stack {
    layers: Vec<PathBuf>,
    ready: Vec<Ready>,
    /// How often it was asked for since roots were made.
    asked: usize,
}

/// A root.
pub(super) struct Ready {
    directory: PathBuf,
    mount: OwnedFd,
    /// Device and inode of each layer: an image that was removed and pulled again has its layers elsewhere.
    identity: Vec<(u64, u64)>,
}

impl Roots {
    /// Roots are made in `directory`.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            stacks: Mutex::default(),
        }
    }

    /// A root of these layers, if there is one; in any case more of them will be wanted.
    pub(super) fn take(&self, layers: &[PathBuf]) -> Option<Ready> {
        let mut stacks = lock(&self.stacks);
        let known = stacks.iter().position(|stack| stack.layers == layers);
        let mut stack = known.map_or_else(
            || Stack {
                layers: layers.to_vec(),
                ready: Vec::new(),
                asked: 0,
            },
            |place| stacks.remove(place),
        );
        stack.asked += 1;
        let found = stack.ready.pop();
        stacks.push(stack);
        drop(stacks);
        let found = found?;
        if identity(layers).is_ok_and(|now| now == found.identity) {
            return Some(found);
        }
        found.remove();
        None
    }

    /// Makes what is likely to be asked for next, and removes what is not.
    pub(super) fn fill(&self) {
        let (wanted, unwanted) = self.plan();
        for root in unwanted {
            root.remove();
        }
        for (layers, count) in wanted {
            for _ in 0..count {
                match self.make(&layers) {
                    Ok(root) => self.put(&layers, root),
                    Err(error) => {
                        // The container makes its own, and tells of it if it cannot.
                        tracing::debug!(%error, "no root ahead of the next container");
                        break;
                    }
                }
            }
        }
    }

    /// What is missing, and what is too much.
    fn plan(&self) -> (Vec<(Vec<PathBuf>, usize)>, Vec<Ready>) {
        let mut stacks = lock(&self.stacks);
        let forgotten = stacks.len().saturating_sub(STACKS);
        let mut unwanted: Vec<Ready> = stacks.drain(..forgotten).flat_map(|s| s.ready).collect();
        let mut wanted = Vec::new();
        for stack in stacks.iter_mut().filter(|stack| stack.asked > 0) {
            let count = std::mem::take(&mut stack.asked).min(EACH);
            unwanted.extend(stack.ready.drain(count.min(stack.ready.len())..));
            wanted.push((stack.layers.clone(), count - stack.ready.len()));
        }
        (wanted, unwanted)
    }

    fn put(&self, layers: &[PathBuf], root: Ready) {
        let mut stacks = lock(&self.stacks);
        match stacks.iter_mut().find(|stack| stack.layers == layers) {
            Some(stack) => stack.ready.push(root),
            None => root.remove(),
        }
    }

    fn make(&self, layers: &[PathBuf]) -> io::Result<Ready> {
        fs::create_dir_all(&self.directory)?;
        let directory = self.directory.join(Inner::new_id());
        let made = mount(&directory, layers);
        if made.is_err() {
            let _ = remove_tree(&directory);
        }
        made
    }

    /// Removes all of them.
    pub(super) fn clear(&self) {
        for root in lock(&self.stacks).drain(..).flat_map(|stack| stack.ready) {
            root.remove();
        }
    }

    /// Removes what an earlier engine made.
    ///
    /// # Errors
    /// The directory cannot be emptied.
    pub(super) fn forget(&self) -> io::Result<()> {
        remove_tree(&self.directory)
    }
}

impl Ready {
    /// Makes it the root of the container whose directory is to be `directory`, and gives the mount.
    ///
    /// # Errors
    /// The directory cannot be had under that name; it is removed.
    pub(super) fn become_root_in(self, directory: &Path) -> io::Result<OwnedFd> {
        match fs::rename(&self.directory, directory) {
            Ok(()) => Ok(self.mount),
            Err(error) => {
                self.remove();
                Err(error)
            }
        }
    }

    fn remove(self) {
        drop(self.mount);
        if let Err(error) = remove_tree(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "a spare root is left");
        }
    }
}

fn mount(directory: &Path, layers: &[PathBuf]) -> io::Result<Ready> {
    make_directories(directory)?;
    // Before the layers are looked up, so that nothing else can be mounted than what was identified.
    let identity = identity(layers)?;
    let root = Root {
        layers: layers.to_vec(),
        upper: directory.join(UPPER),
        work: directory.join(WORK),
        readonly: false,
    };
    let mount = launch::mount_root(&root).map_err(io::Error::other)?;
    Ok(Ready {
        directory: directory.to_owned(),
        mount,
        identity,
    })
}

/// Makes the directory of a container with what its root needs.
pub(super) fn make_directories(directory: &Path) -> io::Result<()> {
    let upper = directory.join(UPPER);
    fs::create_dir(directory)?;
    fs::create_dir(&upper)?;
    // It becomes the container's `/`, whatever the engine's umask is.
    fs::set_permissions(&upper, Permissions::from_mode(0o755))?;
    fs::create_dir(directory.join(WORK))
}

fn identity(layers: &[PathBuf]) -> io::Result<Vec<(u64, u64)>> {
    let each = layers.iter().map(|layer| {
        let metadata = fs::metadata(layer)?;
        Ok((metadata.dev(), metadata.ino()))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(dir: &Path, count: usize) -> Vec<PathBuf> {
        let make = |n| {
            let layer = dir.join(format!("layer{n}"));
            fs::create_dir_all(&layer).unwrap();
            layer
        };
        (0..count).map(make).collect()
    }

    fn ready(roots: &Roots) -> Vec<usize> {
        let stacks = lock(&roots.stacks);
        let counts = stacks.iter().map(|stack| stack.ready.len());
        counts.collect()
    }

    #[test]
    fn as_many_are_kept_as_were_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::new(dir.path().join("roots"));
        let layers = layers(dir.path(), 2);
        assert!(roots.take(&layers).is_none(), "nothing is made unasked");
        for (asked, kept) in [(0, 1), (3, 3), (1, 1), (0, 1), (9, EACH)] {
            for _ in 0..asked {
                roots.take(&layers).into_iter().for_each(Ready::remove);
            }
            roots.fill();
            assert_eq!(ready(&roots), [kept], "asked {asked} times");
        }
        roots.clear();
        let mut left = fs::read_dir(&roots.directory).unwrap();
        assert!(left.next().is_none());
    }

    #[test]
    fn stacks_used_long_ago_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::new(dir.path().join("roots"));
        let all = layers(dir.path(), STACKS + 2);
        for pair in all.windows(2) {
            roots.take(pair);
            roots.fill();
        }
        assert_eq!(ready(&roots), [1; STACKS]);
        assert!(roots.take(&all[..2]).is_none());
        assert!(roots.take(&all[STACKS..]).is_some());
    }

    #[test]
    fn a_root_of_layers_that_were_replaced_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::new(dir.path().join("roots"));
        let layers = layers(dir.path(), 2);
        roots.take(&layers);
        roots.fill();
        fs::remove_dir(&layers[1]).unwrap();
        fs::create_dir(&layers[1]).unwrap();
        assert!(roots.take(&layers).is_none());
        roots.fill();
        let container = dir.path().join("container");
        let root = roots.take(&layers).unwrap();
        let mount = root.become_root_in(&container).unwrap();
        rustix::fs::mkdirat(&mount, "made", rustix::fs::Mode::RWXU).unwrap();
        assert!(container.join(UPPER).join("made").is_dir());
    }
}
