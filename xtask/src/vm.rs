//! `cargo xtask vm`: tests that take a kernel of their own, in a virtual machine with cgroup v2 alone.
//!
//! Debian's cloud kernel is downloaded and unpacked, never installed, and booted from an initramfs made on the fly: busybox, the
//! static test programs, an `init` script. Everything is seen and decided on the serial console: `init` says how each program
//! ended, and a machine that does not say so in time has failed.

mod disklog;
mod initramfs;
mod kernel;
mod machine;
mod nfs;
mod powercut;

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
/// What the tests need of the kernel.
const MODULES: [&str; 6] = [
    "overlay",
    "bridge",
    "veth",
    "nf_tables",
    "virtio_pci",
    "virtio_blk",
];
/// Size of the tests' disk, bytes; it is sparse.
const DISK_BYTES: u64 = 2 << 30;
/// How `init` announces a program's end.
const ENDED: &str = "vm: ended with ";

/// What can be run; all of it without a name.
const PARTS: [&str; 3] = ["runtime", "powercut", "nfs"];

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
    if wanted("runtime") && !report(runtime(&dir, &kernel)) {
        failed.push("runtime");
    }
    if wanted("powercut") && !report(powercut::survive(&dir, &kernel)) {
        failed.push("powercut");
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

/// The runtime's tests, with every controller on cgroup v2.
fn runtime(dir: &Path, kernel: &kernel::Kernel) -> anyhow::Result<()> {
    let programs = test_programs("runtime")?;
    let mut archive = Archive::with_busybox()?;
    kernel.add_modules(&mut archive, &MODULES)?;
    // A disk, because the ids of this kernel's tmpfs cannot be mapped.
    let mut steps =
        "mount -t ext4 /dev/vda /data\nmkdir /data/tmp\nexport TMPDIR=/data/tmp\n".to_owned();
    for Program { name, path } in &programs {
        archive.program(&format!("tests/{name}"), path)?;
        // Harnesses run one test at a time where tests share the machine; libtest is told to.
        steps += &format!("echo 'vm: {name}'; /tests/{name} --test-threads=1; echo '{ENDED}'$?\n");
    }
    archive.init(&steps)?;
    let initramfs = archive.write(&dir.join("runtime.cpio"))?;
    let disk = dir.join("runtime.img");
    std::fs::File::create(&disk)?.set_len(DISK_BYTES)?;
    run::command(Command::new("mkfs.ext4").arg("-q").arg(&disk))?;
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
