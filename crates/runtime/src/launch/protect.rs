//! Keeps the engine's own file out of containers' reach (CVE-2019-5736).
//!
//! Until a child executes its program, and when a script names `/proc/self/exe` as its interpreter, that link leads to the file
//! of the launching process. So pause is executed from a detached read-only mount of the file: whoever gets hold of it that way
//! cannot open it for writing, and nobody can remount what is mounted nowhere.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::CWD;

use super::binds::set_readonly;
use super::error::LaunchError;
use super::sys;

/// A read-only view of a program file, to be executed as `/proc/self/fd/N`. Takes `mount_setattr` (Linux 5.12).
pub fn readonly_file(path: &Path) -> Result<OwnedFd, LaunchError> {
    let path =
        CString::new(path.as_os_str().as_bytes()).map_err(|_| LaunchError::Nul { what: "path" })?;
    let file = sys::clone_tree(CWD, &path).map_err(LaunchError::setup("open_tree"))?;
    set_readonly(&file, false).map_err(LaunchError::setup("make program file read-only"))?;
    Ok(file)
}
