//! The store on disk.
//!
//! ```text
//! lock          held (flock) by the one process that has the store open
//! index.json    the images and their names; replaced atomically
//! blobs/sha256/ manifests, configurations and compressed layers by digest
//! layers/       unpacked layers by chain id
//! empty/        the root of an image without layers
//! tmp/          whatever is not finished; emptied at open
//! ```
//!
//! Everything is made under `tmp`, synced, and renamed to where its name promises that it is whole.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ports::images::ImageError;
use tempfile::{NamedTempFile, TempDir};

use crate::digest::Digest;
use crate::error::{io as io_error, sys};

/// Something kept under a name that is its digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    Blob(Digest),
    /// An unpacked layer, by chain id.
    Layer(Digest),
}

#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes what is missing and throws away what was left unfinished. Layers hold set-id programs, so no one but root
    /// may walk in.
    pub(crate) fn open(root: &Path) -> Result<(Self, File), ImageError> {
        let private = |path: &Path| {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(io_error(format!("make {}", path.display())))
        };
        private(root)?;
        let root = root
            .canonicalize()
            .map_err(io_error(format!("find {}", root.display())))?;
        let lock_path = root.join("lock");
        let lock =
            File::create(&lock_path).map_err(io_error(format!("open {}", lock_path.display())))?;
        let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        rustix::fs::flock(&lock, exclusive).map_err(sys(format!(
            "{} is in use by another process",
            root.display()
        )))?;
        let layout = Self { root };
        remove_all(&layout.tmp()).map_err(io_error("empty tmp"))?;
        for path in [
            layout.tmp(),
            layout.root.join("blobs/sha256"),
            layout.root.join("layers"),
        ] {
            private(&path)?;
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(layout.empty())
            .map_err(io_error("make the empty layer"))?;
        Ok((layout, lock))
    }

    pub(crate) fn path(&self, key: &Key) -> PathBuf {
        match key {
            Key::Blob(digest) => self.blob(digest),
            Key::Layer(chain_id) => self.layer(chain_id),
        }
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn layer(&self, chain_id: &Digest) -> PathBuf {
        self.root.join("layers").join(chain_id.hex())
    }

    pub(crate) fn empty(&self) -> PathBuf {
        self.root.join("empty")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index.json")
    }

    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// A file that vanishes unless it is given a name.
    pub(crate) fn temporary_file(&self) -> Result<NamedTempFile, ImageError> {
        NamedTempFile::new_in(self.tmp()).map_err(io_error("make a temporary file"))
    }

    /// A directory that vanishes unless it is given a name.
    pub(crate) fn temporary_directory(&self) -> Result<TempDir, ImageError> {
        let directory =
            TempDir::new_in(self.tmp()).map_err(io_error("make a temporary directory"))?;
        // The root of a layer that says nothing about its own.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(directory.path(), mode)
            .map_err(io_error("make a temporary directory"))?;
        Ok(directory)
    }

    /// Gives a written file its name, durably.
    pub(crate) fn keep_file(&self, file: NamedTempFile, target: &Path) -> Result<(), ImageError> {
        let what = || format!("write {}", target.display());
        file.as_file().sync_all().map_err(io_error(what()))?;
        file.persist(target)
            .map_err(|e| io_error(what())(e.error))?;
        sync_directory(target.parent().unwrap_or(&self.root))
    }

    /// Gives an unpacked layer its name, durably. Someone else's copy of the same layer is as good.
    pub(crate) fn keep_layer(
        &self,
        directory: TempDir,
        chain_id: &Digest,
    ) -> Result<(), ImageError> {
        let target = self.layer(chain_id);
        let what = || format!("write {}", target.display());
        let handle = File::open(directory.path()).map_err(io_error(what()))?;
        rustix::fs::syncfs(&handle).map_err(sys(what()))?;
        match fs::rename(directory.path(), &target) {
            Ok(()) => {
                let _renamed = directory.keep();
            }
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) => {}
            Err(e) => return Err(io_error(what())(e)),
        }
        sync_directory(&self.root.join("layers"))
    }

    /// Takes something out of sight at once; the returned path is still to be removed.
    pub(crate) fn set_aside(&self, key: &Key) -> Result<Option<PathBuf>, ImageError> {
        let path = self.path(key);
        let prefix = if matches!(key, Key::Blob(_)) {
            "blob"
        } else {
            "layer"
        };
        // The same content can be removed again while its first copy is still being deleted.
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let aside = self.tmp().join(format!("gone-{prefix}-{serial}"));
        match fs::rename(&path, &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error(format!("remove {}", path.display()))(e)),
        }
    }

    /// Everything that is there, by name.
    pub(crate) fn keys(&self) -> Result<Vec<Key>, ImageError> {
        let mut found: Vec<Key> = self
            .digests("blobs/sha256")?
            .into_iter()
            .map(Key::Blob)
            .collect();
        found.extend(self.digests("layers")?.into_iter().map(Key::Layer));
        Ok(found)
    }

    fn digests(&self, directory: &str) -> Result<Vec<Digest>, ImageError> {
        let path = self.root.join(directory);
        let what = || format!("list {}", path.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(&path).map_err(io_error(what()))? {
            let name = entry.map_err(io_error(what()))?.file_name();
            found.extend(Digest::parse(&format!("sha256:{}", name.display())));
        }
        Ok(found)
    }
}

/// Removes a file or a tree; what is not there is removed already.
pub(crate) fn remove_all(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn sync_directory(path: &Path) -> Result<(), ImageError> {
    File::open(path)
        .and_then(|d| d.sync_all())
        .map_err(io_error(format!("sync {}", path.display())))
}

/// Bytes of disk below a path, links not followed; what vanishes meanwhile counts nothing.
pub(crate) fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return 0;
    };
    let own = metadata.blocks() * 512;
    if !metadata.is_dir() {
        return own;
    }
    let children = fs::read_dir(path).into_iter().flatten().flatten();
    children
        .map(|entry| disk_bytes(&entry.path()))
        .fold(own, u64::saturating_add)
}
