//! The machine's files: a cpio archive in the "newc" format (`Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::run;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// An archive in the making.
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    present: BTreeSet<String>,
    modules: Vec<String>,
}

impl Archive {
    /// Busybox under the names of its applets, the libraries it needs, and `ldd`.
    pub(super) fn with_busybox() -> anyhow::Result<Self> {
        let mut archive = Self {
            bytes: Vec::new(),
            entries: 0,
            present: BTreeSet::new(),
            modules: Vec::new(),
        };
        for dir in [
            "dev", "proc", "sys", "tmp", "run", "data", "root", "newroot",
        ] {
            archive.directory(dir)?;
        }
        let busybox = Path::new("/bin/busybox");
        archive.program("usr/bin/busybox", busybox)?;
        // Busybox gives up privileges by itself; tests of privileges need a program that does not.
        archive.program("usr/bin/cat", Path::new("/usr/bin/cat"))?;
        for applet in run::output(Command::new(busybox).arg("--list"))?.lines() {
            archive.link(&format!("usr/bin/{applet}"), "busybox")?;
        }
        for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/bin")] {
            archive.link(link, target)?;
        }
        for library in libraries(busybox) {
            let name = library.to_string_lossy().into_owned();
            archive.program(name.trim_start_matches('/'), &library)?;
        }
        // Tests copy busybox with its libraries into their images.
        let ldd = "#!/bin/sh\nexec /lib64/ld-linux-x86-64.so.2 --list \"$1\"\n";
        archive.add("usr/bin/ldd", PROGRAM, ldd.as_bytes())?;
        archive.add("etc/passwd", PROGRAM, b"root:x:0:0:root:/root:/bin/sh\n")?;
        Ok(archive)
    }

    /// A program of the node under another name.
    pub(super) fn program(&mut self, name: &str, file: &Path) -> anyhow::Result<()> {
        let content = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
        self.add(name, PROGRAM, &content)
    }

    /// A kernel module, loaded after those added before it.
    pub(super) fn module(&mut self, name: &str, content: Vec<u8>) -> anyhow::Result<()> {
        self.modules.push(name.to_owned());
        self.add(&format!("modules/{name}.ko"), PROGRAM, &content)
    }

    /// The first process: a machine's mounts, the modules, `steps`, and the end.
    pub(super) fn init(&mut self, steps: &str) -> anyhow::Result<()> {
        let modules: String = self
            .modules
            .iter()
            .map(|name| format!("insmod /modules/{name}.ko\n"))
            .collect();
        // The kernel lets nobody leave its first file system by pivot_root(2); a bind mount of it on itself can be left.
        let first = "#!/bin/sh\nexport PATH=/usr/bin\n\
            mount --bind / /newroot\ncd /newroot\nmount --move . /\nexec chroot . /second\n";
        let second = format!(
            "#!/bin/sh\nexport PATH=/usr/bin HOME=/root RUST_BACKTRACE=0\n\
             mount -t proc proc /proc\nmount -t sysfs sysfs /sys\nmount -t devtmpfs dev /dev\n\
             mkdir -p /dev/pts /dev/shm\nmount -t devpts -o ptmxmode=666 devpts /dev/pts\nmount -t tmpfs shm /dev/shm\n\
             mount -t cgroup2 cgroup2 /sys/fs/cgroup\nmount -t tmpfs tmp /tmp\nmount -t tmpfs run /run\n\
             ip link set lo up\n{modules}{steps}poweroff -f\n"
        );
        self.add("init", PROGRAM, first.as_bytes())?;
        self.add("second", PROGRAM, second.as_bytes())
    }

    /// Ends the archive and writes it.
    pub(super) fn write(mut self, to: &Path) -> anyhow::Result<PathBuf> {
        self.entry("TRAILER!!!", 0, b"");
        let mut file = std::fs::File::create(to)?;
        file.write_all(&self.bytes)
            .with_context(|| format!("write {}", to.display()))?;
        Ok(to.to_owned())
    }

    fn directory(&mut self, name: &str) -> anyhow::Result<()> {
        self.add(name, DIRECTORY, b"")
    }

    fn link(&mut self, name: &str, target: &str) -> anyhow::Result<()> {
        self.add(name, LINK, target.as_bytes())
    }

    /// Adds a file after the directories it is in; what is there already stays.
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) -> anyhow::Result<()> {
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.directory(parent)?;
        }
        if self.present.insert(name.to_owned()) {
            u32::try_from(content.len()).with_context(|| format!("{name} is too large"))?;
            self.entry(name, mode, content);
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            content.len() as u32,
            0,
            0,
            0,
            0,
            name.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The libraries a program needs, its loader among them; none when it is static.
fn libraries(program: &Path) -> Vec<PathBuf> {
    // ldd fails for static programs.
    let listed = run::output(Command::new("ldd").arg(program)).unwrap_or_default();
    listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_parents_come_first() {
        let mut archive = Archive {
            bytes: Vec::new(),
            entries: 0,
            present: BTreeSet::new(),
            modules: Vec::new(),
        };
        archive.add("a/b/c", PROGRAM, b"12345").unwrap();
        archive.add("a/b", DIRECTORY, b"").unwrap();
        assert_eq!(archive.bytes.len() % 4, 0);
        let names: Vec<&str> = archive.present.iter().map(String::as_str).collect();
        assert_eq!((names, archive.entries), (vec!["a", "a/b", "a/b/c"], 3));
        // Magic number, 13 fields of 8 digits, name: the first is `a`, a directory.
        assert_eq!(&archive.bytes[..6], b"070701");
        assert_eq!(&archive.bytes[14..22], b"000041ED");
        assert_eq!(&archive.bytes[110..112], b"a\0");
    }
}
