//! A virtual machine and its serial console.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::kernel::Kernel;

/// A running machine; killed without warning when dropped.
pub(super) struct Machine {
    child: Child,
    lines: Receiver<String>,
}

/// Why listening ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The listener had heard enough.
    Enough,
    /// The machine ended.
    End,
    /// Time was up.
    Timeout,
}

impl Machine {
    /// Boots a machine, emulated: KVM inside of other virtual machines is not to be relied on. `disk` are QEMU's arguments for its
    /// disk; `line` is added to the kernel's command line.
    pub(super) fn boot(
        kernel: &Kernel,
        initramfs: &Path,
        disk: Option<&[String]>,
        line: &str,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-accel", "tcg", "-cpu", "max"])
            .args(["-smp", "2", "-m", "2048", "-nodefaults", "-no-reboot"])
            .args(["-display", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(initramfs)
            .arg("-append")
            .arg(format!(
                "console=ttyS0 quiet loglevel=3 panic=-1 cgroup_no_v1=all {line}"
            ))
            .args(disk.unwrap_or_default());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("start qemu-system-x86_64")?;
        let console = child.stdout.take().context("hear the console")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Hands every line of the console to `listener` until it returns `false`, the machine ends, or time is up.
    pub(super) fn listen(
        &mut self,
        within: Duration,
        mut listener: impl FnMut(&str) -> bool,
    ) -> anyhow::Result<Heard> {
        let end = Instant::now() + within;
        loop {
            match self
                .lines
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) if !listener(&line) => return Ok(Heard::Enough),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(Heard::Timeout),
                Err(RecvTimeoutError::Disconnected) => {
                    self.child.wait().context("wait for qemu-system-x86_64")?;
                    return Ok(Heard::End);
                }
            }
        }
    }

    /// Cuts the power: the emulator is killed, and with it what the machine held in memory. Returns what the console had said until then.
    pub(super) fn cut_power(mut self) -> anyhow::Result<Vec<String>> {
        self.child.kill().context("kill qemu-system-x86_64")?;
        self.child.wait().context("wait for qemu-system-x86_64")?;
        Ok(self.lines.iter().collect())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
