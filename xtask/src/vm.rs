//! `cargo xtask vm`: tests that take a kernel of their own, in a virtual machine with cgroup v2 alone, and a disk with quotas.
//!
//! Debian's cloud kernel is downloaded and unpacked, never installed, and booted from an initramfs made on the fly: busybox, the
//! static test programs, an `init` script. Everything is seen and decided on the serial console: `init` says how each program
//! ended, and a machine that does not say so in time has failed.

mod checks;
mod disklog;
mod initramfs;
mod kernel;
mod machine;
mod nfs;
mod powercut;
mod powercut_volumes;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::{run, setup};
use initramfs::Archive;
use machine::{Heard, Machine};

/// Debian packages that only this command needs.
const PACKAGES: [&str; 4] = ["busybox", "e2fsprogs", "libc-bin", "qemu-system-x86"];
/// The machine's tests, emulated, take some minutes; ten thousand processes are among them.
const TESTS_WITHIN: Duration = Duration::from_secs(1200);
/// The runtime's, with every controller on cgroup v2. They have a disk, because the ids of this kernel's tmpfs cannot be mapped.
const RUNTIME: Suite = Suite {
    package: "runtime",
    only: None,
    modules: &[
        "overlay",
        "bridge",
        "veth",
        "nf_tables",
        "virtio_pci",
        "virtio_blk",
    ],
    format: &[],
    mount: "defaults",
};
/// Those of volumes that are about the disk.
const VOLUMES: Suite = Suite {
    package: "volumes",
    only: Some("quotas"),
    modules: &["virtio_pci", "virtio_blk", "quota_v2"],
    format: &["-O", "project,quota", "-E", "quotatype=prjquota"],
    mount: "prjquota",
};
/// Size of the tests' disk, bytes; it is sparse.
const DISK_BYTES: u64 = 2 << 30;
/// How `init` announces a program's end.
const ENDED: &str = "vm: ended with ";

/// What can be run; all of it without a name.
const PARTS: [&str; 5] = ["runtime", "volumes", "powercut", "powercut-volumes", "nfs"];

/// Tests of a package, on a disk.
struct Suite {
    package: &'static str,
    /// The one program of it that is meant.
    only: Option<&'static str>,
    /// What they need of the kernel.
    modules: &'static [&'static str],
    /// How the disk is formatted.
    format: &'static [&'static str],
    /// Options it is mounted with.
    mount: &'static str,
}

/// A test program and the name it has in the machine.
struct Program {
    name: String,
    path: PathBuf,
}

/// Runs the named parts, or all.
pub(crate) fn run(parts: &[String]) -> anyhow::Result<()> {
    if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        bail!("there is no part {unknown}; parts are {}", PARTS.join(", "));
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|named| named == part);
    setup::install_packages(&PACKAGES)?;
    let dir = run::target_dir().join("vm");
    std::fs::create_dir_all(&dir).context("make the machine's directory")?;
    let kernel = kernel::unpack(&dir)?;
    let mut failed = Vec::new();
    for suite in [RUNTIME, VOLUMES] {
        if wanted(suite.package) && !report(test(&dir, &kernel, &suite)) {
            failed.push(suite.package);
        }
    }
    if wanted("powercut") && !report(powercut::survive(&dir, &kernel)) {
        failed.push("powercut");
    }
    if wanted("powercut-volumes") && !report(powercut_volumes::survive(&dir, &kernel)) {
        failed.push("powercut-volumes");
    }
    if wanted("nfs") && !report(nfs::share(&dir, &kernel)) {
        failed.push("nfs");
    }
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("not green: {}", failed.join(", "))
    }
}

fn report(outcome: anyhow::Result<()>) -> bool {
    if let Err(error) = &outcome {
        eprintln!("vm: {error:#}");
    }
    outcome.is_ok()
}

/// Runs tests in a machine.
fn test(dir: &Path, kernel: &kernel::Kernel, suite: &Suite) -> anyhow::Result<()> {
    let package = suite.package;
    let mut programs = test_programs(package)?;
    programs.retain(|program| suite.only.is_none_or(|only| program.name == only));
    let mut archive = Archive::with_busybox()?;
    kernel.add_modules(&mut archive, suite.modules)?;
    let mut steps = format!(
        "mount -t ext4 -o {} /dev/vda /data\nmkdir /data/tmp\nexport TMPDIR=/data/tmp\n",
        suite.mount
    );
    for Program { name, path } in &programs {
        archive.program(&format!("tests/{name}"), path)?;
        // Harnesses run one test at a time where tests share the machine; libtest is told to.
        steps += &format!("echo 'vm: {name}'; /tests/{name} --test-threads=1; echo '{ENDED}'$?\n");
    }
    archive.init(&steps)?;
    let initramfs = archive.write(&dir.join(format!("{package}.cpio")))?;
    let disk = dir.join(format!("{package}.img"));
    std::fs::File::create(&disk)?.set_len(DISK_BYTES)?;
    let mut format = Command::new("mkfs.ext4");
    run::command(format.arg("-q").args(suite.format).arg(&disk))?;
    let disk = [
        "-drive".to_owned(),
        format!("file={},format=raw,if=virtio", disk.display()),
    ];
    let mut machine = Machine::boot(kernel, &initramfs, Some(&disk), "")?;
    let mut statuses = Vec::new();
    let heard = machine.listen(TESTS_WITHIN, |line| {
        println!("{line}");
        if let Some(status) = line.strip_prefix(ENDED) {
            statuses.push(status.to_owned());
        }
        true
    })?;
    match heard {
        Heard::End if statuses.len() == programs.len() => {}
        Heard::End => bail!("the machine ended early"),
        Heard::Enough | Heard::Timeout => {
            bail!("the machine was not done in {} s", TESTS_WITHIN.as_secs())
        }
    }
    if statuses.iter().any(|status| status != "0") {
        bail!("tests failed in the machine");
    }
    Ok(())
}

/// Builds a package's tests and returns their programs.
fn test_programs(package: &str) -> anyhow::Result<Vec<Program>> {
    let built = run::output(
        run::cargo()
            .args(["test", "--locked", "--no-run", "--message-format=json"])
            .args(["--package", package])
            .stderr(std::process::Stdio::inherit()),
    )?;
    let programs: Vec<Program> = built.lines().filter_map(program).collect();
    if programs.is_empty() {
        bail!("cargo built no test program of {package}");
    }
    Ok(programs)
}

/// The program a message of cargo tells of, if any.
fn program(message: &str) -> Option<Program> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    Some(Program {
        path: message.get("executable")?.as_str()?.into(),
        name: message.get("target")?.get("name")?.as_str()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::program;

    #[test]
    fn cargos_messages_are_read() {
        let built =
            r#"{"reason":"compiler-artifact","target":{"name":"pods"},"executable":"/t/pods-1"}"#;
        let program = program(built).map(|p| (p.name, p.path));
        assert_eq!(program, Some(("pods".into(), "/t/pods-1".into())));
        let library =
            r#"{"reason":"compiler-artifact","target":{"name":"ports"},"executable":null}"#;
        assert!(super::program(library).is_none());
        assert!(super::program("").is_none());
    }
}
