//! An engine with volumes of every kind against power cuts.
//!
//! The script [`SCRIPT`] looks for everything that was acknowledged before, then makes Pods and claims, writes to their volumes, edits
//! what they are made from, and deletes them, until the power is cut; each acknowledgement is said on the console, and what is known of
//! them ([`Known`]) is told to the next machine. Every boot is a real one, from the disk as the last flush before the cut left it: all
//! later writes are lost, in the same way as with [`powercut`](super::powercut); earlier ones are all there, in their order. Every fourth cut comes
//! while the engine takes up what the cut before left.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use super::checks::{self, FAILED, THROUGH};
use super::disklog;
use super::kernel::Kernel;
use super::machine::{Heard, Machine};
use super::powercut::disk_arguments;
use crate::run;

const SCRIPT: &str = concat!(
    include_str!("checks.sh"),
    include_str!("powercut_volumes.sh")
);
/// How often the power is cut.
const CUTS: u32 = 20;
/// For what is acknowledged before a cut.
const WITHIN: Duration = Duration::from_secs(180);
const DISK_BYTES: u64 = 512 << 20;
/// How the script says that an engine is about to start, and that all that was known was found.
const STARTING: &str = "vm: starting";
const INTACT: &str = "vm: intact";

/// What is known of the workload: for each word the greatest number that was said of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known {
    /// Versions of the ConfigMap and of the Secret.
    config: u64,
    secret: u64,
    /// Pods that were made; whose volumes have been written to; whose deletion was asked for; that are gone.
    made: u64,
    marked: u64,
    going: u64,
    gone: u64,
}

impl Known {
    /// Takes in what the console said. Returns whether that was an acknowledgement.
    fn hear(&mut self, line: &str) -> bool {
        let Some((word, number)) = line
            .strip_prefix("vm: ")
            .and_then(|said| said.split_once(' '))
        else {
            return false;
        };
        let place = match word {
            "config" => &mut self.config,
            "secret" => &mut self.secret,
            "made" => &mut self.made,
            "marked" => &mut self.marked,
            "going" => &mut self.going,
            "gone" => &mut self.gone,
            _ => return false,
        };
        let number = number.parse().ok();
        *place = number.unwrap_or(*place);
        number.is_some()
    }

    /// What the next machine is told.
    fn line(self) -> String {
        let Known {
            config,
            secret,
            made,
            marked,
            going,
            gone,
        } = self;
        format!("known={config},{secret},{made},{marked},{going},{gone}")
    }
}

/// When a machine's power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// So long after an engine began to start.
    Starting(Duration),
    /// So long after so many acknowledgements that followed the proof.
    After(u32, Duration),
    /// Never: everything is taken down instead.
    Never,
}

impl Cut {
    /// Moments are spread over the workload's steps, the same in every run.
    fn nth(n: u32) -> Cut {
        let later = Duration::from_millis(u64::from(n * 137 % 500));
        match n % 4 {
            3 => Cut::Starting(later * 12),
            _ => Cut::After(5 + n * 7 % 13, later),
        }
    }
}

/// Cuts the power again and again, looks after each cut for what was acknowledged, and takes everything down in the end.
pub(super) fn survive(dir: &Path, kernel: &Kernel) -> anyhow::Result<()> {
    let initramfs = checks::initramfs(dir, kernel, "powercut-volumes", SCRIPT, &[])?;
    let (disk, log) = (dir.join("engine.img"), dir.join("engine.log"));
    let safe = dir.join("engine.safe");
    std::fs::File::create(&disk)?.set_len(DISK_BYTES)?;
    run::command(Command::new("mkfs.ext4").arg("-q").arg(&disk))?;
    let mut known = Known::default();
    for (n, cut) in (1..=CUTS)
        .map(|n| (n, Cut::nth(n)))
        .chain([(0, Cut::Never)])
    {
        disklog::fresh(&log)?;
        std::fs::copy(&disk, &safe)?;
        let line = match cut {
            Cut::Never => format!("{} last", known.line()),
            _ => known.line(),
        };
        let arguments = disk_arguments(&disk, &log);
        let machine = Machine::boot(kernel, &initramfs, Some(&arguments), &line)?;
        if let Err(error) = life(machine, cut, &mut known) {
            println!("test {line} ({cut:?}) ... FAILED");
            println!("test result: FAILED. {n} cuts");
            return Err(error);
        }
        println!("test {line} ({cut:?}) ... ok");
        disklog::replay(&log, &safe)?;
        std::fs::rename(&safe, &disk)?;
    }
    println!("test result: ok. {CUTS} cuts survived; 0 failed");
    Ok(())
}

/// One machine from boot to cut.
fn life(mut machine: Machine, cut: Cut, known: &mut Known) -> anyhow::Result<()> {
    let (mut said, mut acknowledged, mut is_intact) = (String::new(), 0, false);
    let (mut has_failed, mut is_through) = (false, false);
    let mut listener = |line: &str| {
        said = format!("{said}{line}\n");
        acknowledged += u32::from(known.hear(line) && is_intact);
        is_intact |= line == INTACT;
        has_failed |= line.starts_with(FAILED);
        is_through |= line == THROUGH;
        let goes_on = match cut {
            Cut::Starting(_) => line != STARTING,
            Cut::After(enough, _) => acknowledged < enough,
            Cut::Never => !is_through,
        };
        goes_on && !has_failed
    };
    let mut heard = machine.listen(WITHIN, &mut listener)?;
    if let (Heard::Enough, Cut::Starting(later) | Cut::After(_, later)) = (&heard, cut) {
        let until = std::time::Instant::now() + later;
        // What is said meanwhile counts as well.
        while heard == Heard::Enough {
            let left = until.saturating_duration_since(std::time::Instant::now());
            heard = machine.listen(left, &mut listener)?;
        }
        if heard == Heard::Timeout {
            heard = Heard::Enough;
        }
    }
    for line in machine.cut_power().context("cut the power")? {
        listener(&line);
    }
    let is_proved = match cut {
        Cut::Starting(_) => true,
        Cut::After(..) => is_intact,
        Cut::Never => is_through,
    };
    if heard == Heard::Enough && is_proved && !has_failed {
        return Ok(());
    }
    bail!("{cut:?}: {heard:?}, {known:?}:\n{said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_told_to_the_next_machine() {
        let mut known = Known::default();
        for line in ["vm: config 3", "vm: made 2", "vm: going 1", "vm: config 4"] {
            assert!(known.hear(line), "{line}");
        }
        for line in ["vm: ok engine starts", "config 9", "vm: made", "vm: made x"] {
            assert!(!known.hear(line), "{line}");
        }
        assert_eq!(known.line(), "known=4,0,2,0,1,0");
    }

    #[test]
    fn some_cuts_come_while_the_engine_starts() {
        let cuts: Vec<Cut> = (1..=CUTS).map(Cut::nth).collect();
        let starting = cuts.iter().filter(|cut| matches!(cut, Cut::Starting(_)));
        assert_eq!(starting.count(), 5);
        assert!(matches!(cuts[0], Cut::After(12, _)));
    }
}
