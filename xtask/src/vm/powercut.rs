//! The store against power cuts: what was acknowledged before the machine was killed is there after the next boot.
//!
//! The writer (`crates/store/examples/powercut.rs`) checks what it finds, then commits and acknowledges each commit on the console.
//! Its disk is an ext4 image behind QEMU's `blklogwrites`, which logs every write and flush ([`disklog`]). After the cut only what
//! was written before the last flush is put on the next machine's disk, so a commit that was acknowledged without a flush is
//! lost, as it would be in a real disk's cache.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use super::disklog;
use super::initramfs::Archive;
use super::kernel::Kernel;
use super::machine::{Heard, Machine};
use crate::run;

/// How many commits are acknowledged before each cut.
const CUTS_AFTER: [u64; 4] = [1, 25, 60, 140];
/// A boot takes seconds, a commit milliseconds, emulated.
const WITHIN: Duration = Duration::from_secs(120);
/// What the writer found, all of it as it was acknowledged.
const INTACT: &str = "vm: intact ";
/// A commit: how many there are now.
const ACKNOWLEDGED: &str = "vm: acknowledged ";
/// Size of the disk, bytes.
const DISK_BYTES: u64 = 64 << 20;

/// Cuts the power again and again, and checks the store after each cut.
pub(super) fn survive(dir: &Path, kernel: &Kernel) -> anyhow::Result<()> {
    let initramfs = initramfs(dir, kernel)?;
    let (disk, log) = (dir.join("disk.img"), dir.join("disk.log"));
    std::fs::File::create(&disk)?.set_len(DISK_BYTES)?;
    run::command(Command::new("mkfs.ext4").arg("-q").arg(&disk))?;
    let mut acknowledged = 0;
    let mut survived = 0;
    for cut_after in CUTS_AFTER.into_iter().map(Some).chain([None]) {
        disklog::fresh(&log)?;
        let safe = dir.join("disk.safe");
        std::fs::copy(&disk, &safe)?;
        let line = format!("powercut={acknowledged}");
        let machine = Machine::boot(
            kernel,
            &initramfs,
            Some(&disk_arguments(&disk, &log)),
            &line,
        )?;
        let outcome = life(machine, acknowledged, cut_after);
        if acknowledged > 0 {
            let result = if outcome.is_ok() { "ok" } else { "FAILED" };
            println!("test {acknowledged}_acknowledged_commits_survive_a_power_cut ... {result}");
        }
        match outcome {
            Ok(_) if acknowledged == 0 => {}
            Ok(_) => survived += 1,
            Err(error) => {
                println!("test result: FAILED. {survived} passed; 1 failed; 0 ignored");
                return Err(error);
            }
        }
        acknowledged = outcome?;
        // Everything after the last flush is lost.
        disklog::replay(&log, &safe)?;
        std::fs::rename(&safe, &disk)?;
    }
    println!("test result: ok. {survived} passed; 0 failed; 0 ignored");
    Ok(())
}

/// One machine from boot to cut. Returns how many commits have been acknowledged.
fn life(mut machine: Machine, expected: u64, cut_after: Option<u64>) -> anyhow::Result<u64> {
    let mut said = String::new();
    let mut intact = None;
    let mut acknowledged = expected;
    let heard = machine.listen(WITHIN, |line| {
        said = format!("{said}{line}\n");
        intact = intact.or_else(|| number(line, INTACT));
        acknowledged = number(line, ACKNOWLEDGED).unwrap_or(acknowledged);
        match cut_after {
            Some(more) => acknowledged < expected + more,
            None => intact.is_none(),
        }
    })?;
    for line in machine.cut_power()? {
        acknowledged = number(&line, ACKNOWLEDGED).unwrap_or(acknowledged);
    }
    match (heard, intact) {
        // One more may have been written and not yet acknowledged.
        (Heard::Enough, Some(found)) if found >= expected => Ok(acknowledged),
        (heard, found) => {
            bail!("{expected} commits were acknowledged, found {found:?} ({heard:?}):\n{said}")
        }
    }
}

fn number(line: &str, after: &str) -> Option<u64> {
    line.strip_prefix(after)?.parse().ok()
}

fn initramfs(dir: &Path, kernel: &Kernel) -> anyhow::Result<std::path::PathBuf> {
    run::command(run::cargo().args([
        "build",
        "--locked",
        "--package",
        "store",
        "--example",
        "powercut",
    ]))?;
    let host = run::output(Command::new("rustc").arg("--print=host-tuple"))?;
    let writer = run::target_dir()
        .join(host.trim())
        .join("debug/examples/powercut");
    let mut archive = Archive::with_busybox()?;
    kernel.add_modules(&mut archive, &["virtio_pci", "virtio_blk"])?;
    archive
        .program("powercut", &writer)
        .context("add the writer")?;
    archive.init(
        "mount -t ext4 /dev/vda /data\n\
         expected=$(sed 's/.*powercut=\\([0-9]*\\).*/\\1/' /proc/cmdline)\n\
         /powercut /data/store.db \"$expected\"\n",
    )?;
    archive.write(&dir.join("powercut.cpio"))
}

/// QEMU's arguments for a disk whose writes are logged.
pub(super) fn disk_arguments(disk: &Path, log: &Path) -> Vec<String> {
    let (disk, log) = (disk.display(), log.display());
    [
        "-blockdev",
        &format!("driver=file,node-name=disk,filename={disk}"),
        "-blockdev",
        &format!("driver=file,node-name=log,filename={log}"),
        "-blockdev",
        "driver=blklogwrites,node-name=logged,file=disk,log=log",
        "-device",
        "virtio-blk-pci,drive=logged",
    ]
    .map(str::to_owned)
    .into()
}
