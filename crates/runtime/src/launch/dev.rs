//! `/dev`, `/sys` and the kernel's other file systems of a container, as detached mounts.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rustix::fs::{FileType, Gid, Mode, Uid};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::error::{Errno, LaunchError};
use super::userns::Owner;

/// Nodes every container has, with their device numbers (OCI runtime specification, default devices).
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Directories of the node's `/dev` that containers have their own of, or that are none of their business.
const SKIPPED: [&str; 6] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts"];

pub(super) const HARDENED: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// A new file system, attached nowhere.
pub(super) fn new_fs(
    kind: &str,
    options: &[(&str, &str)],
    attrs: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(fs.as_fd(), "source", kind)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(fs.as_fd(), *key, *value)?;
    }
    rustix::mount::fsconfig_create(fs.as_fd())?;
    Ok(rustix::mount::fsmount(
        fs.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attrs,
    )?)
}

/// A device node of the node, to be made in a privileged container.
pub(super) struct HostDevice {
    path: PathBuf,
    kind: FileType,
    mode: u32,
    owner: (u32, u32),
    number: u64,
}

/// Every device node below the node's `/dev`.
pub(super) fn host_devices() -> Vec<HostDevice> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), Path::new(""), &mut found);
    found
}

fn collect(dir: &Path, below: &Path, found: &mut Vec<HostDevice>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Ok(meta) = entry.metadata() else { continue };
        let kind = meta.file_type();
        if kind.is_dir() && !SKIPPED.iter().any(|s| name == *s) {
            collect(&entry.path(), &below.join(&name), found);
        } else if (kind.is_char_device() || kind.is_block_device())
            && name != "console"
            && name != "ptmx"
        {
            found.push(HostDevice {
                path: below.join(&name),
                kind: if kind.is_block_device() {
                    FileType::BlockDevice
                } else {
                    FileType::CharacterDevice
                },
                mode: meta.mode() & 0o7777,
                owner: (meta.uid(), meta.gid()),
                number: meta.rdev(),
            });
        }
    }
}

/// A tmpfs with device nodes and links, and the directories `pts`, `shm` and `mqueue` to mount on. The umask must be 0.
pub(super) fn make_dev(extra: &[HostDevice], owner: Owner) -> Result<OwnedFd, LaunchError> {
    let fail = LaunchError::setup("set up /dev");
    let attrs = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    let dev = new_fs("tmpfs", &[("mode", "755"), ("size", "65536k")], attrs);
    let dev = dev.and_then(|dev| populate(&dev, extra, owner).map(|()| dev));
    dev.map_err(fail)
}

fn populate(dev: &OwnedFd, extra: &[HostDevice], owner: Owner) -> Result<(), Errno> {
    owner.take(dev.as_fd())?;
    for (name, major, minor) in NODES {
        let number = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(
            dev,
            name,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            number,
        )?;
        owner.take_in(dev.as_fd(), name.as_ref())?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, dev, name)?;
        owner.take_in(dev.as_fd(), name.as_ref())?;
    }
    for name in ["pts", "shm", "mqueue"] {
        rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
        owner.take_in(dev.as_fd(), name.as_ref())?;
    }
    for device in extra {
        make_device(dev, device)?;
    }
    Ok(())
}

fn make_device(dev: &OwnedFd, device: &HostDevice) -> Result<(), Errno> {
    for dir in device
        .path
        .ancestors()
        .skip(1)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .filter(|d| !d.as_os_str().is_empty())
    {
        ignore_existing(rustix::fs::mkdirat(dev, dir, Mode::from_raw_mode(0o755)))?;
    }
    ignore_existing(rustix::fs::mknodat(
        dev,
        &device.path,
        device.kind,
        Mode::from_raw_mode(device.mode),
        device.number,
    ))?;
    let (uid, gid) = (Uid::from_raw(device.owner.0), Gid::from_raw(device.owner.1));
    Ok(rustix::fs::chownat(
        dev,
        &device.path,
        Some(uid),
        Some(gid),
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

fn ignore_existing(result: rustix::io::Result<()>) -> Result<(), Errno> {
    match result {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        other => Ok(other?),
    }
}

/// Paths hidden from containers unless the Pod asks for an unmasked proc (spec `§11.3`). Looked up once.
pub fn default_masked_paths() -> Vec<PathBuf> {
    static PATHS: LazyLock<Vec<PathBuf>> = LazyLock::new(masked_paths);
    PATHS.clone()
}

fn masked_paths() -> Vec<PathBuf> {
    let fixed = [
        "/proc/asound",
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ];
    let processors = std::fs::read_dir("/sys/devices/system/cpu");
    let throttle = processors
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| is_processor(entry.file_name().as_encoded_bytes()))
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.exists());
    fixed
        .into_iter()
        .map(PathBuf::from)
        .chain(throttle)
        .collect()
}

/// `cpu0`, `cpu1`, …
fn is_processor(name: &[u8]) -> bool {
    name.strip_prefix(b"cpu")
        .is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit))
}

/// Paths containers can read but not write unless the Pod asks for an unmasked proc (spec `§11.3`).
pub fn default_readonly_paths() -> Vec<PathBuf> {
    [
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    ]
    .into_iter()
    .map(PathBuf::from)
    .collect()
}
