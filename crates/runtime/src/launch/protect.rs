//! Keeps the engine's own file out of containers' reach (CVE-2019-5736).
//!
//! Until a child executes its program, and when a script names `/proc/self/exe` as its interpreter, that link leads to the file
//! of the launching process. So pause is executed from a detached read-only mount of the file: whoever gets hold of it that way
//! cannot open it for writing, and nobody can remount what is mounted nowhere.

use std::ffi::{CString, OsString, c_char};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::CWD;

use super::binds::set_readonly;
use super::error::{Errno, LaunchError};
use super::sys::{self, call};

/// A read-only view of a program file, to be executed with `fexecve` or as `/proc/self/fd/N`.
pub fn readonly_file(path: &Path) -> Result<OwnedFd, LaunchError> {
    let path = CString::new(OsString::from(path).into_vec())
        .map_err(|_| LaunchError::Nul { what: "path" })?;
    let file = sys::clone_tree(CWD, &path).map_err(LaunchError::setup("open_tree"))?;
    set_readonly(&file, false).map_err(LaunchError::setup("make program file read-only"))?;
    Ok(file)
}

/// Whether this process's file cannot be written through `/proc/self/exe`.
pub fn is_protected() -> bool {
    rustix::fs::statvfs("/proc/self/exe")
        .is_ok_and(|s| s.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Executes this program again from a read-only view of its file, with the same arguments and environment. Returns only if it
/// already is, or if that fails; to be called before threads are started and files are opened.
pub fn reexecute() -> Result<(), LaunchError> {
    if is_protected() {
        return Ok(());
    }
    let exe = std::env::current_exe().map_err(LaunchError::setup("find own program file"))?;
    let file = readonly_file(&exe)?;
    let strings = |items: Vec<OsString>| {
        items
            .into_iter()
            .map(|i| CString::new(i.into_vec()))
            .collect::<Result<Vec<_>, _>>()
    };
    let nul = |_| LaunchError::Nul { what: "argument" };
    let arguments = strings(std::env::args_os().collect()).map_err(nul)?;
    let join = |(mut key, value): (OsString, OsString)| {
        key.push("=");
        key.push(value);
        key
    };
    let environment = strings(std::env::vars_os().map(join).collect()).map_err(nul)?;
    let pointers = |s: &[CString]| {
        s.iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect::<Vec<*const c_char>>()
    };
    let (argv, envp) = (pointers(&arguments), pointers(&environment));
    let failed = call!(
        libc::SYS_execveat,
        file.as_raw_fd(),
        c"".as_ptr(),
        argv.as_ptr(),
        envp.as_ptr(),
        libc::AT_EMPTY_PATH
    );
    Err(LaunchError::Setup {
        step: "execute own program file",
        errno: failed.err().unwrap_or(Errno(libc::EIO)),
    })
}
