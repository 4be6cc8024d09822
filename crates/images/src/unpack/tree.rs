//! Makes entries below one directory, whatever their names say.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::UnpackError;
use super::lower::look_up;
use super::reader::{Entry, Kind, Reader};

/// The attribute by which overlayfs marks a directory that hides those below it.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";
const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
/// AUFS's own bookkeeping files.
const META_PREFIX: &[u8] = b".wh..wh.";
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;
/// Links followed while making missing directories.
const LINKS_MAX: usize = 40;
const COPY_BUFFER: usize = 128 << 10;

type Result<T> = std::result::Result<T, UnpackError>;

pub(crate) struct Tree<'a> {
    root: OwnedFd,
    root_path: PathBuf,
    lower: Option<&'a [PathBuf]>,
    leans_on_lower: bool,
    /// The directory of the previous entry; emptied when anything is removed.
    last_parent: Option<(PathBuf, OwnedFd)>,
    /// Set last, because making children changes them.
    directory_times: Vec<(PathBuf, (i64, u32))>,
    buffer: Vec<u8>,
}

fn refused<T>(reason: impl Into<String>) -> Result<T> {
    Err(UnpackError::Refused(reason.into()))
}

fn failed<E: Into<io::Error>>(verb: &'static str, path: &Path) -> impl FnOnce(E) -> UnpackError {
    let what = format!("{verb} {}", path.display());
    move |source| UnpackError::Write {
        what,
        source: source.into(),
    }
}

/// An entry's path without `.` and slashes at the end. `absolute_ok` takes one from the root, as for hard links.
fn clean(bytes: &[u8], absolute_ok: bool) -> Result<PathBuf> {
    let shown = || String::from_utf8_lossy(bytes).into_owned();
    if bytes.contains(&0) || bytes.len() > PATH_MAX {
        return refused(format!("entry name {:?} is not a path", shown()));
    }
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(bytes)).components() {
        match component {
            Component::Normal(name) if name.len() > NAME_MAX => {
                return refused(format!("entry name {:?} is too long", shown()));
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::RootDir if absolute_ok => {}
            Component::RootDir | Component::Prefix(_) => {
                return refused(format!("entry name {:?} is absolute", shown()));
            }
            Component::ParentDir => {
                return refused(format!("entry name {:?} holds \"..\"", shown()));
            }
        }
    }
    Ok(path)
}

impl<'a> Tree<'a> {
    pub(crate) fn open(root_path: &Path, lower: Option<&'a [PathBuf]>) -> Result<Self> {
        let root_path = root_path
            .canonicalize()
            .map_err(failed("find", root_path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&root_path, flags, Mode::empty())
            .map_err(failed("open", &root_path))?;
        let buffer = vec![0; COPY_BUFFER];
        Ok(Self {
            root,
            root_path,
            lower,
            leans_on_lower: false,
            last_parent: None,
            directory_times: Vec::new(),
            buffer,
        })
    }

    /// Makes one entry; `body` stands at its content.
    pub(crate) fn apply<R: Read>(&mut self, entry: &Entry, body: &mut Reader<R>) -> Result<()> {
        let path = clean(&entry.path, false)?;
        check_attributes(entry)?;
        let Some(name) = path.file_name() else {
            return self.root_entry(entry);
        };
        let parent_path = path.parent().unwrap_or(Path::new(""));
        let parent = self.parent(parent_path)?;
        match name.as_bytes() {
            OPAQUE_MARKER => return self.hide_lower(parent_path),
            bytes if bytes.starts_with(META_PREFIX) => return Ok(()),
            bytes => {
                if let Some(hidden) = bytes.strip_prefix(WHITEOUT_PREFIX) {
                    return self.whiteout(
                        &parent,
                        &path.with_file_name(OsStr::from_bytes(hidden)),
                        hidden,
                    );
                }
            }
        }
        match entry.kind {
            Kind::Directory => self.directory(&parent, &path, name, entry),
            Kind::File => self.file(&parent, &path, name, entry, body),
            Kind::HardLink => self.hard_link(&parent, &path, name, entry),
            Kind::Symlink => self.symlink(&parent, &path, name, entry),
            Kind::Fifo => self.fifo(&parent, &path, name, entry),
            Kind::Device => refused(format!("{} is a device node", path.display())),
        }
    }

    /// Sets what has to come last; tells whether lower layers are needed.
    pub(crate) fn finish(self) -> Result<bool> {
        for (path, mtime) in self.directory_times.iter().rev() {
            // It may have been replaced by something else since.
            if let Ok(directory) = open_in(
                &self.root,
                path,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
            ) {
                rustix::fs::futimens(&directory, &times(*mtime))
                    .map_err(failed("set times of", path))?;
            }
        }
        Ok(self.leans_on_lower)
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return refused("the root is not a directory");
        }
        let path = Path::new("");
        set_attributes(&self.root, entry, path)?;
        self.directory_times.push((path.to_owned(), entry.mtime));
        Ok(())
    }

    fn directory(
        &mut self,
        parent: &OwnedFd,
        path: &Path,
        name: &OsStr,
        entry: &Entry,
    ) -> Result<()> {
        let mut was_whiteout = false;
        let existing = stat(parent, name, path)?;
        if existing
            .as_ref()
            .is_none_or(|s| FileType::from_raw_mode(s.st_mode) != FileType::Directory)
        {
            was_whiteout = existing.as_ref().is_some_and(is_whiteout);
            self.remove(parent, path, name)?;
            rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(failed("make", path))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory =
            rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(failed("open", path))?;
        set_attributes(&directory, entry, path)?;
        if was_whiteout {
            mark_opaque(&directory, path)?;
        }
        self.directory_times.push((path.to_owned(), entry.mtime));
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        parent: &OwnedFd,
        path: &Path,
        name: &OsStr,
        entry: &Entry,
        body: &mut Reader<R>,
    ) -> Result<()> {
        let mut file = self.create(parent, path, name)?;
        loop {
            let n = match body.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(super::classify(e)),
            };
            file.write_all(&self.buffer[..n])
                .map_err(failed("write", path))?;
        }
        set_attributes(&file, entry, path)?;
        rustix::fs::futimens(&file, &times(entry.mtime)).map_err(failed("set times of", path))
    }

    fn create(&mut self, parent: &OwnedFd, path: &Path, name: &OsStr) -> Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR);
        let made = match create() {
            Err(Errno::EXIST) => {
                self.remove(parent, path, name)?;
                create()
            }
            other => other,
        };
        made.map(File::from).map_err(failed("create", path))
    }

    fn hard_link(
        &mut self,
        parent: &OwnedFd,
        path: &Path,
        name: &OsStr,
        entry: &Entry,
    ) -> Result<()> {
        let target = clean(&entry.link, true)?;
        let Some(target_name) = target.file_name() else {
            return refused(format!("{} is a hard link to the root", path.display()));
        };
        if target == path {
            return refused(format!("{} is a hard link to itself", path.display()));
        }
        let target_directory = target.parent().unwrap_or(Path::new(""));
        let missing = format!(
            "{} is a hard link to {}, which is not there",
            path.display(),
            target.display()
        );
        let source = match open_in(
            &self.root,
            target_directory,
            OFlags::PATH | OFlags::DIRECTORY,
        ) {
            Ok(directory) => directory,
            Err(_) if self.lower.is_none() => {
                self.leans_on_lower = true;
                return Ok(());
            }
            Err(_) if self.lower.is_some_and(<[PathBuf]>::is_empty) => return refused(missing),
            Err(_) => self.parent(target_directory)?,
        };
        if stat(&source, target_name, &target)?.is_none() {
            let Some(lower) = self.lower else {
                self.leans_on_lower = true;
                return Ok(());
            };
            let real = self.real(&source)?.join(target_name);
            let Some((from, metadata)) = look_up(lower, &real) else {
                return refused(missing);
            };
            self.copy_up(&source, &target, target_name, &from, &metadata)?;
        }
        self.remove(parent, path, name)?;
        match rustix::fs::linkat(&source, target_name, parent, name, AtFlags::empty()) {
            Err(Errno::PERM) => {
                refused(format!("{} is a hard link to a directory", path.display()))
            }
            other => other.map_err(failed("link", path)),
        }
    }

    fn symlink(
        &mut self,
        parent: &OwnedFd,
        path: &Path,
        name: &OsStr,
        entry: &Entry,
    ) -> Result<()> {
        if entry.link.is_empty() || entry.link.contains(&0) || entry.link.len() >= PATH_MAX {
            return refused(format!("{} is a link to nowhere", path.display()));
        }
        self.remove(parent, path, name)?;
        rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), parent, name)
            .map_err(failed("link", path))?;
        set_owner_and_times(parent, name, entry, path)
    }

    fn fifo(&mut self, parent: &OwnedFd, path: &Path, name: &OsStr, entry: &Entry) -> Result<()> {
        self.remove(parent, path, name)?;
        rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::RUSR, 0)
            .map_err(failed("make", path))?;
        set_owner_and_times(parent, name, entry, path)?;
        rustix::fs::chmodat(
            parent,
            name,
            Mode::from_raw_mode(entry.mode),
            AtFlags::empty(),
        )
        .map_err(failed("chmod", path))
    }

    /// Hides what lower layers have at `path`; what this layer has there itself stays (OCI image spec, "Whiteouts").
    fn whiteout(&mut self, parent: &OwnedFd, path: &Path, hidden: &[u8]) -> Result<()> {
        if matches!(hidden, b"" | b"." | b"..") {
            return refused("a whiteout of no name");
        }
        let name = OsStr::from_bytes(hidden);
        match stat(parent, name, path)? {
            None => {
                let mode = Mode::empty();
                rustix::fs::mknodat(parent, name, FileType::CharacterDevice, mode, 0)
                    .map_err(failed("hide", path))
            }
            Some(existing) if FileType::from_raw_mode(existing.st_mode) == FileType::Directory => {
                self.hide_lower(path)
            }
            Some(_) => Ok(()),
        }
    }

    fn hide_lower(&mut self, path: &Path) -> Result<()> {
        let directory = open_in(&self.root, path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(failed("open", path))?;
        mark_opaque(&directory, path)
    }

    /// Removes whatever bears this name.
    fn remove(&mut self, parent: &OwnedFd, path: &Path, name: &OsStr) -> Result<()> {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {
                let real = self.root_path.join(self.real(parent)?).join(name);
                fs::remove_dir_all(&real).map_err(failed("remove", path))?;
            }
            Err(e) => return Err(failed("remove", path)(e)),
        }
        self.last_parent = None;
        Ok(())
    }

    /// The directory at `path`, made with those above it if need be.
    fn parent(&mut self, path: &Path) -> Result<OwnedFd> {
        if let Some((last, directory)) = &self.last_parent
            && last == path
        {
            return directory.try_clone().map_err(failed("open", path));
        }
        let directory = match open_in(&self.root, path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => {
                self.make_directories(path, 0)?;
                open_in(&self.root, path, OFlags::PATH | OFlags::DIRECTORY)
                    .map_err(failed("open", path))?
            }
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return refused(format!("{} is not a directory", path.display()));
            }
            Err(e) => return Err(failed("open", path)(e)),
        };
        let kept = directory.try_clone().map_err(failed("open", path))?;
        self.last_parent = Some((path.to_owned(), kept));
        Ok(directory)
    }

    fn make_directories(&mut self, path: &Path, links: usize) -> Result<()> {
        if links > LINKS_MAX {
            return refused(format!("{}: too many links", path.display()));
        }
        let mut above = PathBuf::new();
        for name in path.components() {
            let here = above.join(name);
            match open_in(&self.root, &here, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(_) => {}
                Err(Errno::NOENT) => {
                    let parent = open_in(&self.root, &above, OFlags::PATH | OFlags::DIRECTORY)
                        .map_err(failed("open", &above))?;
                    self.make_directory(&parent, &here, name.as_os_str(), links)?;
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return refused(format!("{} is not a directory", here.display()));
                }
                Err(e) => return Err(failed("open", &here)(e)),
            }
            above = here;
        }
        Ok(())
    }

    /// Makes one directory no entry told of: like the one below in the stack, or 0755. A link there is followed.
    fn make_directory(
        &mut self,
        parent: &OwnedFd,
        path: &Path,
        name: &OsStr,
        links: usize,
    ) -> Result<()> {
        let real_parent = self.real(parent)?;
        if stat(parent, name, path)?.is_none() {
            match self.lower {
                Some(lower) => {
                    if let Some((from, metadata)) = look_up(lower, &real_parent.join(name)) {
                        self.copy_up(parent, path, name, &from, &metadata)?;
                    }
                }
                None => self.leans_on_lower = true,
            }
        }
        match rustix::fs::readlinkat(parent, name, Vec::new()) {
            Ok(target) => {
                let target = within(
                    &real_parent,
                    Path::new(OsStr::from_bytes(target.as_bytes())),
                );
                return self.make_directories(&target, links + 1);
            }
            Err(Errno::NOENT | Errno::INVAL) => {}
            Err(e) => return Err(failed("read link", path)(e)),
        }
        match stat(parent, name, path)? {
            None => {
                let mode = Mode::from_raw_mode(0o755);
                rustix::fs::mkdirat(parent, name, mode).map_err(failed("make", path))?;
                rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
                    .map_err(failed("chmod", path))
            }
            Some(existing) if FileType::from_raw_mode(existing.st_mode) == FileType::Directory => {
                Ok(())
            }
            Some(_) => refused(format!("{} is not a directory", path.display())),
        }
    }

    /// Copies a directory (without its content), link or file from a lower layer, as overlayfs would on a write.
    fn copy_up(
        &mut self,
        parent: &OwnedFd,
        path: &Path,
        name: &OsStr,
        from: &Path,
        metadata: &Metadata,
    ) -> Result<()> {
        let entry = Entry {
            path: Vec::new(),
            kind: Kind::File,
            link: Vec::new(),
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            size: metadata.len(),
            mtime: (
                metadata.mtime(),
                u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
            ),
            xattrs: super::attributes::read(from).map_err(failed("read attributes of", from))?,
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            self.directory(parent, path, name, &entry)
        } else if kind.is_symlink() {
            let link = fs::read_link(from)
                .map_err(failed("read link", from))?
                .into_os_string();
            self.symlink(
                parent,
                path,
                name,
                &Entry {
                    link: link.as_bytes().to_vec(),
                    ..entry
                },
            )
        } else if kind.is_file() {
            let mut file = self.create(parent, path, name)?;
            let mut source = File::open(from).map_err(failed("open", from))?;
            io::copy(&mut source, &mut file).map_err(failed("copy", path))?;
            set_attributes(&file, &entry, path)?;
            rustix::fs::futimens(&file, &times(entry.mtime)).map_err(failed("set times of", path))
        } else {
            refused(format!("{} is neither file nor directory", path.display()))
        }
    }

    /// Where an open directory is, relative to the root.
    fn real(&self, directory: &OwnedFd) -> Result<PathBuf> {
        use std::os::fd::AsRawFd;
        let link = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let real = fs::read_link(&link).map_err(failed("read link", &link))?;
        match real.strip_prefix(&self.root_path) {
            Ok(inside) => Ok(inside.to_owned()),
            Err(_) => refused(format!("{} is outside of the layer", real.display())),
        }
    }
}

/// Where a link in directory `base` leads within the root; `..` stops at the root.
fn within(base: &Path, target: &Path) -> PathBuf {
    let mut at = if target.is_absolute() {
        PathBuf::new()
    } else {
        base.to_owned()
    };
    for component in target.components() {
        match component {
            Component::Normal(name) => at.push(name),
            Component::ParentDir => {
                at.pop();
            }
            _ => {}
        }
    }
    at
}

fn open_in(root: &OwnedFd, path: &Path, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        // The kernel gives up with EAGAIN when something was renamed meanwhile, anywhere on the system.
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

fn stat(parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<Option<rustix::fs::Stat>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(failed("look at", path)(e)),
    }
}

fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn mark_opaque(directory: &OwnedFd, path: &Path) -> Result<()> {
    rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())
        .map_err(failed("mark", path))
}

/// overlayfs's attributes steer what a mount shows; a layer has no business with them.
fn check_attributes(entry: &Entry) -> Result<()> {
    let private = |n: &[u8]| n.starts_with(b"trusted.overlay.") || n.starts_with(b"user.overlay.");
    for name in entry.xattrs.keys() {
        if private(name) || name.contains(&0) || name.len() > NAME_MAX {
            return refused(format!(
                "extended attribute {:?}",
                String::from_utf8_lossy(name)
            ));
        }
    }
    Ok(())
}

fn set_attributes(file: impl AsFd, entry: &Entry, path: &Path) -> Result<()> {
    let (owner, group) = owner(entry, path)?;
    // Ownership first: changing it drops set-id bits and capabilities.
    rustix::fs::fchown(&file, Some(owner), Some(group)).map_err(failed("chown", path))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode)).map_err(failed("chmod", path))?;
    for (name, value) in &entry.xattrs {
        match rustix::fs::fsetxattr(&file, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            // Labels of a security module that is not here.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(e) => return Err(failed("set attributes of", path)(e)),
        }
    }
    Ok(())
}

fn set_owner_and_times(parent: &OwnedFd, name: &OsStr, entry: &Entry, path: &Path) -> Result<()> {
    let (owner, group) = owner(entry, path)?;
    rustix::fs::chownat(
        parent,
        name,
        Some(owner),
        Some(group),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .map_err(failed("chown", path))?;
    rustix::fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(failed("set times of", path))
}

/// The id of all ones means "leave it" to the kernel and is no one's.
fn owner(entry: &Entry, path: &Path) -> Result<(Uid, Gid)> {
    if entry.uid == u32::MAX || entry.gid == u32::MAX {
        return refused(format!("{} has no valid owner", path.display()));
    }
    Ok((Uid::from_raw(entry.uid), Gid::from_raw(entry.gid)))
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
