//! Machines in which a script drives `carob` as a user would, and says on the console what became of each test.

use std::path::{Path, PathBuf};

use super::initramfs::Archive;
use super::kernel::Kernel;
use crate::run;

/// How a script says what became of a test.
pub(super) const PASSED: &str = "vm: ok ";
pub(super) const FAILED: &str = "vm: FAILED ";
/// How a script says that it is through.
pub(super) const THROUGH: &str = "vm: through";

/// What an engine's Pods and Services need of the kernel.
const MODULES: [&str; 14] = [
    "overlay",
    "bridge",
    "veth",
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_fib_inet",
    "nft_fib_ipv4",
    "nft_masq",
    "nft_nat",
    "nft_numgen",
    "nft_reject_ipv4",
    "virtio_pci",
    "virtio_blk",
];

/// A machine's files: it mounts its disk and runs the script, with an engine's modules and more.
pub(super) fn initramfs(
    dir: &Path,
    kernel: &Kernel,
    name: &str,
    script: &str,
    modules: &[&str],
) -> anyhow::Result<PathBuf> {
    let mut archive = Archive::with_busybox()?;
    kernel.add_modules(&mut archive, &[&MODULES, modules].concat())?;
    archive.program("usr/bin/carob", &run::engine()?)?;
    let path = dir.join(format!("{name}.sh"));
    std::fs::write(&path, script)?;
    archive.program("script.sh", &path)?;
    archive.init("mount -t ext4 /dev/vda /data\nsh /script.sh\n")?;
    archive.write(&dir.join(format!("{name}.cpio")))
}
