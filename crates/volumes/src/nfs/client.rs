//! The kernel's own client of NFS, asked by the calls that replace mount(2): fsopen(2), fsconfig(2), fsmount(2).

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::options::Parameter;

/// What is to be mounted.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Server and path as the mount table has them.
    pub(super) source: String,
    pub(super) told: Vec<Parameter>,
    pub(super) attributes: MountAttrFlags,
}

/// Why the kernel mounts nothing.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) errno: Errno,
    /// Its own words, where it has some.
    said: String,
}

/// Makes a mount that is attached nowhere; closing it ends it. The kernel waits for the server meanwhile, unless the thread is killed.
pub(super) fn mount(request: &Request) -> Result<OwnedFd, Refusal> {
    let silent = |errno| Refusal {
        errno,
        said: String::new(),
    };
    let fs = fsopen("nfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(silent)?;
    let configured = || {
        fsconfig_set_string(&fs, "source", request.source.as_str())?;
        for (key, value) in &request.told {
            match value {
                Some(value) => fsconfig_set_string(&fs, key.as_str(), value.as_str())?,
                None => fsconfig_set_flag(&fs, key.as_str())?,
            }
        }
        fsconfig_create(&fs)?;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, request.attributes)
    };
    configured().map_err(|errno| Refusal {
        errno,
        said: said(&fs),
    })
}

/// The errors among the messages that the kernel keeps for who configures a file system: one for each read, `e ` and the text.
fn said(fs: &OwnedFd) -> String {
    let mut errors = Vec::new();
    let mut message = [0; 1024];
    while let Ok(length @ 1..) = rustix::io::read(fs, &mut message) {
        let message = String::from_utf8_lossy(&message[..length]);
        let error = message
            .strip_prefix("e ")
            .map(|text| text.trim().to_owned());
        errors.extend(error);
    }
    errors.join("; ")
}

impl Refusal {
    /// Whether the server, or the kernel, does not have the version that was asked for.
    pub(super) fn is_of_version(&self) -> bool {
        matches!(self.errno, Errno::PROTONOSUPPORT | Errno::INVAL)
    }

    /// What there is to tell, in mount.nfs' words where it has some.
    pub(super) fn text(&self) -> String {
        let why = match self.errno {
            Errno::NODEV => "the kernel has no NFS (module nfs)".to_owned(),
            Errno::ACCESS => "access denied by server".to_owned(),
            Errno::NOENT => "reason given by server: No such file or directory".to_owned(),
            Errno::PROTONOSUPPORT => {
                "requested NFS version or transport protocol is not supported".to_owned()
            }
            Errno::INVAL => "an incorrect mount option was specified".to_owned(),
            errno => std::io::Error::from(errno).to_string(),
        };
        match self.said.is_empty() {
            true => why,
            false => format!("{why}: {}", self.said),
        }
    }
}
