//! A root file system made of Debian's busybox and the libraries it needs, in a directory that goes away with the value.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime::launch::{
    LaunchError, LaunchFds, LaunchSpec, Launched, Launcher, ProcessSpec, Root, Stdio, UserRequest,
    capabilities, default_masked_paths, default_readonly_paths,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// A container's directories: one image layer, upper and work, and a place for volumes.
pub(crate) struct Bundle {
    pub(crate) dir: tempfile::TempDir,
}

/// What a container that ran to its end left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) out: String,
    pub(crate) code: i32,
}

fn copy_into(layer: &Path, file: &Path) {
    let to = layer.join(file.strip_prefix("/").unwrap());
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(file, to).unwrap();
}

impl Bundle {
    pub(crate) fn new() -> Self {
        let bundle = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for name in ["layer", "upper", "work", "volume"] {
            fs::create_dir(bundle.path(name)).unwrap();
        }
        let layer = bundle.path("layer");
        for dir in ["bin", "etc", "tmp", "root"] {
            fs::create_dir(layer.join(dir)).unwrap();
        }
        let busybox = Path::new("/usr/bin/busybox");
        fs::copy(busybox, layer.join("bin/busybox")).unwrap();
        let ldd = Command::new("ldd").arg(busybox).output().unwrap();
        for word in String::from_utf8_lossy(&ldd.stdout)
            .split_whitespace()
            .filter(|w| w.starts_with('/'))
        {
            copy_into(&layer, Path::new(word));
        }
        let applets = Command::new(busybox).arg("--list").output().unwrap();
        for applet in String::from_utf8_lossy(&applets.stdout)
            .lines()
            .filter(|a| *a != "busybox")
        {
            symlink("busybox", layer.join("bin").join(applet)).unwrap();
        }
        fs::write(
            layer.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n",
        )
        .unwrap();
        fs::write(
            layer.join("etc/group"),
            "root:x:0:\nwheel:x:10:root\nweb:x:34:\nlog:x:50:web\n",
        )
        .unwrap();
        bundle
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The specification of a container with the default rights that runs `script` in a shell.
    pub(crate) fn spec(&self, script: &str) -> LaunchSpec {
        LaunchSpec {
            id: "c".repeat(64),
            root: Root {
                layers: vec![self.path("layer")],
                upper: self.path("upper"),
                work: self.path("work"),
                readonly: false,
            },
            process: ProcessSpec {
                argv: vec!["sh".into(), "-c".into(), script.into()],
                env: vec![("PATH".into(), "/usr/bin:/bin".into())],
                cwd: "/".into(),
                capabilities: capabilities::resolve(false, &[], &[]).unwrap(),
                ..ProcessSpec::default()
            },
            user: UserRequest::default(),
            pid_namespace: Default::default(),
            cgroup: Default::default(),
            mounts: Vec::new(),
            images: Vec::new(),
            shm: None,
            privileged: false,
            masked_paths: default_masked_paths(),
            readonly_paths: default_readonly_paths(),
        }
    }
}

/// Pipes for a process's streams: what the process gets, and our end of its output.
pub(crate) struct Pipes {
    stdin: OwnedFd,
    out: OwnedFd,
    pub(crate) reader: fs::File,
}

impl Pipes {
    pub(crate) fn new() -> Self {
        let (reader, out) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        Self {
            stdin: fs::File::open("/dev/null").unwrap().into(),
            out,
            reader: reader.into(),
        }
    }

    pub(crate) fn stdio(&self) -> Stdio<'_> {
        Stdio::Files {
            stdin: self.stdin.as_fd(),
            stdout: self.out.as_fd(),
            stderr: self.out.as_fd(),
        }
    }

    /// Reads what the process writes until it and its children have closed the pipe.
    pub(crate) fn read(self) -> String {
        drop((self.stdin, self.out));
        std::io::read_to_string(self.reader).unwrap()
    }
}

/// Waits for a launched process and returns its exit code, 128 + N for a signal.
pub(crate) fn wait(launched: &Launched) -> i32 {
    let status = waitid(WaitId::PidFd(launched.pidfd.as_fd()), WaitIdOptions::EXITED)
        .unwrap()
        .unwrap();
    status
        .exit_status()
        .unwrap_or_else(|| 128 + status.terminating_signal().unwrap())
}

/// Launches with pipes, without waiting.
pub(crate) fn start(
    launcher: &Launcher,
    spec: &LaunchSpec,
) -> Result<(Launched, Pipes), LaunchError> {
    let pipes = Pipes::new();
    let launched = launcher.launch(
        spec,
        LaunchFds {
            stdio: pipes.stdio(),
            pid_target: None,
            root: None,
        },
    )?;
    Ok((launched, pipes))
}

/// Launches, collects the output and waits for the end.
pub(crate) fn run(launcher: &Launcher, spec: &LaunchSpec) -> Result<Finished, LaunchError> {
    let (launched, pipes) = start(launcher, spec)?;
    let out = pipes.read();
    Ok(Finished {
        out,
        code: wait(&launched),
    })
}
