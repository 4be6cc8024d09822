//! Limits that the file system itself keeps: the files of a directory belong to a project, and the project has a quota (quotactl(2)). ext4
//! and XFS can, if they are mounted with `prjquota`. Elsewhere it is the node agent that looks at what is used, and evicts.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::io::Errno;

/// Projects of this agent's have this bit, and not the one above it: those of upstream's and of users are small numbers.
const OURS: u32 = 1 << 30;
/// Files that are made in a directory are of its project (`FS_XFLAG_PROJINHERIT`, linux/fs.h).
const INHERITED: u32 = 0x200;
/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`, linux/fs.h.
const GET_ATTRIBUTES: u64 = 0x801c_581f;
const SET_ATTRIBUTES: u64 = 0x401c_5820;
/// `PRJQUOTA`, linux/quota.h.
const PROJECTS: libc::c_int = 2;
/// Of what quotas count, what is limited is blocks, so many bytes each (`QIF_DQBLKSIZE`).
const BLOCK_BYTES: u64 = 1024;
/// Projects that are tried until one is free.
const TRIES: usize = 8;

/// `struct fsxattr`, linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_on_write_extent_size: u32,
    padding: [u8; 8],
}

/// Limits what a directory may hold that is empty, where the file system can. One that is limited already stays so.
pub(crate) fn limit(dir: &Path, bytes: u64) -> io::Result<()> {
    let dir = File::open(dir)?;
    let found = tolerated(attributes(&dir))?;
    let Some(mut attributes) = found.filter(|found| !is_ours(found.project)) else {
        return Ok(());
    };
    let Some(project) = tolerated(free(&dir))? else {
        return Ok(());
    };
    set(&dir, project, bytes.div_ceil(BLOCK_BYTES))?;
    attributes.project = project;
    attributes.flags |= INHERITED;
    put_attributes(&dir, &attributes)
}

/// Takes the limit of a directory away, if [`limit`] gave it one.
pub(crate) fn release(dir: &Path) -> io::Result<()> {
    let dir = File::open(dir)?;
    let project = tolerated(attributes(&dir))?.map_or(0, |found| found.project);
    match is_ours(project) {
        true => tolerated(set(&dir, project, 0)).map(drop),
        false => Ok(()),
    }
}

fn is_ours(project: u32) -> bool {
    project & (OURS | OURS << 1) == OURS
}

/// A project that nobody has and nothing belongs to.
fn free(dir: &File) -> io::Result<u32> {
    let chance = RandomState::new();
    for number in 0..TRIES {
        let project = OURS | (chance.hash_one(number) as u32 & (OURS - 1));
        let is_free = match get(dir, project) {
            // XFS knows nothing of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            found => {
                let found = found?;
                (
                    found.dqb_bhardlimit,
                    found.dqb_curspace,
                    found.dqb_curinodes,
                ) == (0, 0, 0)
            }
        };
        if is_free {
            return Ok(project);
        }
    }
    Err(Errno::AGAIN.into())
}

/// `None` for what a file system answers that has no projects, or no quotas of theirs, or none for those who are root in a part of the
/// machine only.
fn tolerated<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    const UNKNOWN: [Errno; 7] = [
        Errno::NOTTY,
        Errno::OPNOTSUPP,
        Errno::INVAL,
        Errno::NOSYS,
        Errno::SRCH,
        Errno::NODEV,
        Errno::PERM,
    ];
    match done {
        Err(error) if Errno::from_io_error(&error).is_some_and(|e| UNKNOWN.contains(&e)) => {
            Ok(None)
        }
        done => done.map(Some),
    }
}

fn attributes(dir: &File) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the descriptor is open, and the kernel writes one structure of this layout.
    let done = unsafe { libc::ioctl(dir.as_raw_fd(), GET_ATTRIBUTES as _, &raw mut attributes) };
    succeeded(done.into()).map(|()| attributes)
}

fn put_attributes(dir: &File, attributes: &Attributes) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the kernel reads one structure of this layout.
    let done = unsafe {
        libc::ioctl(
            dir.as_raw_fd(),
            SET_ATTRIBUTES as _,
            std::ptr::from_ref(attributes),
        )
    };
    succeeded(done.into())
}

fn get(dir: &File, project: u32) -> io::Result<libc::dqblk> {
    // SAFETY: it consists of numbers, for which zero is a value.
    let mut quota: libc::dqblk = unsafe { std::mem::zeroed() };
    call(dir, libc::Q_GETQUOTA, project, &mut quota).map(|()| quota)
}

fn set(dir: &File, project: u32, blocks: u64) -> io::Result<()> {
    // SAFETY: it consists of numbers, for which zero is a value.
    let mut quota: libc::dqblk = unsafe { std::mem::zeroed() };
    quota.dqb_bhardlimit = blocks;
    quota.dqb_valid = libc::QIF_BLIMITS;
    call(dir, libc::Q_SETQUOTA, project, &mut quota)
}

/// quotactl_fd(2), of Linux 5.14.
fn call(dir: &File, command: libc::c_int, project: u32, quota: &mut libc::dqblk) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the kernel reads or writes one structure of this layout.
    let done = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            dir.as_raw_fd(),
            libc::QCMD(command, PROJECTS),
            project,
            std::ptr::from_mut(quota),
        )
    };
    succeeded(done)
}

fn succeeded(done: i64) -> io::Result<()> {
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
