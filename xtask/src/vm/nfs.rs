//! Volumes of a file server (`nfs`) with an engine in the machine: most kernels that tests run on have no client of NFS.
//!
//! The server is the kernel's own, in a network namespace of its own behind a veth pair, so that it can vanish as a machine does. What
//! nfs-utils' mountd would tell it of exports is written to its caches beforehand. The rest is the script [`SCRIPT`], which drives
//! `carob` as a user would and says on the console what became of each test.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::bail;

use super::checks::{self, FAILED, PASSED, THROUGH};
use super::kernel::Kernel;
use super::machine::{Heard, Machine};
use crate::run;

const SCRIPT: &str = concat!(include_str!("checks.sh"), include_str!("nfs.sh"));
/// An engine, emulated, takes its time.
const WITHIN: Duration = Duration::from_secs(600);
const DISK_BYTES: u64 = 2 << 30;
/// What client and server need of the kernel.
const MODULES: [&str; 4] = ["nfs", "nfsv3", "nfsv4", "nfsd"];

/// Runs the script in a machine.
pub(super) fn share(dir: &Path, kernel: &Kernel) -> anyhow::Result<()> {
    let initramfs = checks::initramfs(dir, kernel, "nfs", SCRIPT, &MODULES)?;
    let disk = dir.join("nfs.img");
    std::fs::File::create(&disk)?.set_len(DISK_BYTES)?;
    run::command(Command::new("mkfs.ext4").arg("-q").arg(&disk))?;
    let disk = [
        "-drive".to_owned(),
        format!("file={},format=raw,if=virtio", disk.display()),
    ];
    let mut machine = Machine::boot(kernel, &initramfs, Some(&disk), "")?;
    let (mut passed, mut failed, mut is_through) = (0, 0, false);
    let heard = machine.listen(WITHIN, |line| {
        if let Some(name) = line.strip_prefix(PASSED) {
            println!("test {name} ... ok");
            passed += 1;
        } else if let Some(name) = line.strip_prefix(FAILED) {
            println!("test {name} ... FAILED");
            failed += 1;
        } else {
            println!("{line}");
        }
        is_through |= line == THROUGH;
        !is_through
    })?;
    let outcome = if failed == 0 && is_through {
        "ok"
    } else {
        "FAILED"
    };
    println!("test result: {outcome}. {passed} passed; {failed} failed; 0 ignored");
    match heard {
        Heard::Timeout => bail!("the machine was not done in {} s", WITHIN.as_secs()),
        _ if !is_through => bail!("the machine ended early"),
        _ if failed > 0 => bail!("tests failed in the machine"),
        _ => Ok(()),
    }
}
