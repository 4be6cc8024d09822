//! Lowest layers that hold nothing but mount points.
//!
//! A mount needs something to be mounted on. What an image lacks of that would be made in the container's own writable layer, where
//! each directory and file costs the overlay a copy of what it is in. So it lies below the image, in a layer that all containers
//! with the same mounts share. Whatever the image has hides it, and what is hidden or could not be made is made as ever
//! when the container starts ([`crate::launch`]): it saves time and decides nothing.
//!
//! A layer stays until an engine starts that finds no container made with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use ports::runtime::Mount;

use super::{Inner, lock};

/// Layers an engine makes at most; later containers do without.
const MOST: usize = 256;
/// Containers of more layers do without: kernels have bounds, the lowest of them about 200.
const MOST_BELOW: usize = 100;
/// What the launcher mounts in every container.
const ALWAYS: [&str; 3] = ["proc", "sys", "dev"];

/// Paths below the root, and whether each is a directory.
type Points = BTreeMap<PathBuf, bool>;

/// The layers there are, by what they hold.
pub(super) struct MountPoints {
    directory: PathBuf,
    made: Mutex<BTreeMap<Points, PathBuf>>,
}

impl MountPoints {
    /// Layers are made in `directory`.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            made: Mutex::default(),
        }
    }

    /// Adds the layer for `mounts` below `layers`, the uppermost of which is the first.
    pub(super) fn put_below(&self, layers: &mut Vec<PathBuf>, mounts: &[Mount]) {
        if layers.len() > MOST_BELOW {
            return;
        }
        match self.layer(points(mounts)) {
            Ok(layer) => layers.extend(layer),
            Err(error) => tracing::debug!(%error, "no layer of mount points"),
        }
    }

    fn layer(&self, points: Points) -> io::Result<Option<PathBuf>> {
        let mut made = lock(&self.made);
        if let Some(layer) = made.get(&points) {
            return Ok(Some(layer.clone()));
        }
        if made.len() == MOST {
            return Ok(None);
        }
        let layer = self.directory.join(Inner::new_id());
        make_directory(&layer)?;
        for (path, is_dir) in &points {
            make(&layer, path, *is_dir)?;
        }
        made.insert(points, layer.clone());
        Ok(Some(layer))
    }

    /// Removes what an earlier engine made, but for what is `used`.
    ///
    /// # Errors
    /// The directory can be neither read nor emptied.
    pub(super) fn forget_all_but(&self, used: &BTreeSet<PathBuf>) -> io::Result<()> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let layer = entry?.path();
            if !used.contains(&layer) {
                super::sandbox::remove_tree(&layer)?;
            }
        }
        Ok(())
    }
}

/// What `mounts` are mounted on. A mount within another one finds its point there; one whose source is missing fails later.
fn points(mounts: &[Mount]) -> Points {
    let targets: BTreeSet<PathBuf> = mounts.iter().filter_map(target).collect();
    let covered = |path: &Path| {
        let mut above = path.ancestors().skip(1);
        above.any(|a| targets.contains(a) || ALWAYS.iter().any(|name| a == Path::new(name)))
    };
    let sources = mounts.iter().filter_map(|mount| {
        let path = target(mount).filter(|path| !covered(path))?;
        Some((path, fs::metadata(&mount.host_path).ok()?.is_dir()))
    });
    let always = ALWAYS.iter().map(|name| (PathBuf::from(name), true));
    sources.chain(always).collect()
}

/// The plain path below the root, if it is one.
fn target(mount: &Mount) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in mount.container_path.components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(path).filter(|path| path != Path::new(""))
}

/// Makes one point with the modes the launcher would give it.
fn make(layer: &Path, path: &Path, is_dir: bool) -> io::Result<()> {
    let directories = if is_dir { Some(path) } else { path.parent() };
    let mut at = layer.to_path_buf();
    for name in directories.into_iter().flat_map(Path::components) {
        at.push(name);
        make_directory(&at)?;
    }
    if !is_dir {
        let file = fs::File::create(layer.join(path))?;
        file.set_permissions(Permissions::from_mode(0o644))?;
    }
    Ok(())
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ports::runtime::MountPropagation;

    fn mount(container: &str, host: &str) -> Mount {
        Mount {
            container_path: container.into(),
            host_path: host.into(),
            readonly: false,
            recursive_readonly: false,
            propagation: MountPropagation::Private,
        }
    }

    #[test]
    fn a_point_for_each_mount_that_needs_one() {
        let always = [("dev", true), ("proc", true), ("sys", true)];
        type Row<'a> = (&'a [&'a str], &'a [(&'a str, bool)]);
        let table: &[Row<'_>] = &[
            (&[], &[]),
            (&["/data/in"], &[("data/in", true)]),
            (&["/data", "/data/in"], &[("data", true)]),
            (&["//a/./b"], &[("a/b", true)]),
            (&["/a/../b", "/", "/dev/x", "/dev"], &[]),
        ];
        for (targets, expected) in table {
            let mounts: Vec<Mount> = targets.iter().map(|t| mount(t, "/")).collect();
            let expected: Points = always
                .iter()
                .chain(*expected)
                .map(|(path, is_dir)| (PathBuf::from(path), *is_dir))
                .collect();
            assert_eq!(points(&mounts), expected, "{targets:?}");
        }
        let found = points(&[mount("/etc/x", "/proc/self/stat"), mount("/y", "/no/such")]);
        assert_eq!(found.get(Path::new("etc/x")), Some(&false));
        assert_eq!(found.len(), ALWAYS.len() + 1);
    }

    #[test]
    fn the_same_mounts_share_a_layer() {
        let directory = tempfile::tempdir().expect("a directory");
        let points = MountPoints::new(directory.path().join("points"));
        let below = |mounts: &[Mount]| {
            let mut layers = vec![PathBuf::from("/image")];
            points.put_below(&mut layers, mounts);
            layers.pop().expect("a layer")
        };
        let one = below(&[mount("/a/b", "/"), mount("/c/d", "/proc/self/stat")]);
        assert_eq!(
            one,
            below(&[mount("/c/d", "/proc/self/stat"), mount("/a/b", "/")])
        );
        let other = below(&[]);
        assert_ne!(one, other);
        let mode = |path: &str| {
            let found = fs::metadata(one.join(path)).expect(path);
            (found.is_dir(), found.permissions().mode() & 0o7777)
        };
        let found = ["", "a", "a/b", "c", "c/d", "proc"].map(mode);
        let directory = (true, 0o755);
        let expected = [
            directory,
            directory,
            directory,
            directory,
            (false, 0o644),
            directory,
        ];
        assert_eq!(found, expected);
        points
            .forget_all_but(&[one.clone()].into())
            .expect("removes");
        assert_eq!((one.exists(), other.exists()), (true, false));
    }

    #[test]
    fn deep_images_do_without() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let points = MountPoints::new(file.path().to_path_buf());
        let mut layers = vec![PathBuf::from("/image"); MOST_BELOW + 1];
        points.put_below(&mut layers, &[]);
        assert_eq!(layers.len(), MOST_BELOW + 1);
        layers.truncate(1);
        points.put_below(&mut layers, &[]);
        assert_eq!(layers.len(), 1, "what cannot be made is done without");
    }
}
