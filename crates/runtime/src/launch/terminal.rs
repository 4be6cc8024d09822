//! Terminals of a container's own devpts.

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

use super::dev::new_fs;
use super::error::Errno;
use super::sys::call;
use super::userns::Owner;

/// Both sides of a terminal.
pub(super) struct Terminal {
    /// The controlling side, kept by pause.
    pub(super) master: OwnedFd,
    /// The side the process has as its standard streams.
    pub(super) slave: OwnedFd,
}

/// Group of terminals, by convention.
const TTY: u32 = 5;

/// A new devpts for `owner`, attached nowhere.
pub(super) fn new_devpts(owner: Owner) -> Result<OwnedFd, Errno> {
    let group = owner.shift(TTY).to_string();
    let options = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", &group)];
    let devpts = new_fs(
        "devpts",
        &options,
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )?;
    owner.take(devpts.as_fd())?;
    owner.take_in(devpts.as_fd(), "ptmx".as_ref())?;
    Ok(devpts)
}

/// Opens a terminal on a devpts, attached or not.
pub(super) fn open(devpts: BorrowedFd<'_>, size: (u16, u16)) -> Result<Terminal, Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(devpts, c"ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    // By TIOCGPTPEER, not by name: the name may mean something else in the container.
    let slave = call!(
        libc::SYS_ioctl,
        std::os::fd::AsRawFd::as_raw_fd(&master),
        libc::TIOCGPTPEER,
        flags.bits()
    )?;
    // SAFETY: the kernel has just opened it for us.
    let slave = unsafe { OwnedFd::from_raw_fd(slave as i32) };
    if size != (0, 0) {
        let size = rustix::termios::Winsize {
            ws_col: size.0,
            ws_row: size.1,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(master.as_fd(), size)?;
    }
    Ok(Terminal { master, slave })
}
