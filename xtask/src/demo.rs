//! `cargo xtask demo`: from nothing to a multi-container Pod that serves a page, and back to nothing.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::{images, run, setup};

const EXAMPLE: &str = "examples/web-with-sidecar.yaml";

/// An engine of the demo's own; it and everything it made end with this value.
struct Demo {
    carob: PathBuf,
    root: PathBuf,
}

/// Shows the main job on this machine.
pub(crate) fn demo() -> anyhow::Result<()> {
    setup::install()?;
    let carob = run::build_release()?;
    let demo = Demo {
        carob,
        root: run::target_dir().join("demo"),
    };
    // A demo that was interrupted may have left its engine.
    demo.down()?;
    let shown = demo.show();
    demo.down()?;
    shown?;
    let left = demo.leftovers()?;
    if !left.is_empty() {
        bail!("left behind:\n{left}");
    }
    fs::remove_dir_all(&demo.root).context("remove the demo's directory")?;
    say("nothing is left: no process, mount or network of the demo");
    Ok(())
}

impl Demo {
    fn show(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.root)?;
        say("starting an engine");
        let started = Instant::now();
        self.carob(&["up", "-d", "--listen", "127.0.0.1:0"])?;
        say(&format!(
            "its node is Ready after {} ms",
            started.elapsed().as_millis()
        ));
        let _registry = self.registry()?;

        say(&format!("watching Pods, and applying {EXAMPLE}"));
        let mut watch = Command::new(&self.carob)
            .args(self.arguments(&["get", "pods", "-w"]))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        self.carob(&["apply", "-f", EXAMPLE])?;
        let shown = show_until(&mut watch, |row| {
            row.contains("2/2") && row.contains("Running")
        });
        watch.kill()?;
        watch.wait()?;
        shown?;

        let ip = self.output(&["get", "pod", "web", "-o", "jsonpath={.status.podIP}"])?;
        say(&format!("requesting http://{ip}/"));
        print!("{}", get(&ip)?);
        say("the sidecar's log, which follows nginx's access log through a shared volume");
        self.show_access_log()?;
        say("carob describe pod web");
        self.carob(&["describe", "pod", "web"])?;
        say("deleting the Pod");
        self.carob(&["delete", "pod", "web"])
    }

    /// Stand-in images when the public registry cannot be reached.
    fn registry(&self) -> anyhow::Result<Option<images::Registry>> {
        say("pulling busybox:1.36");
        let pulled = Command::new(&self.carob)
            .args(self.arguments(&["image", "pull", "busybox:1.36"]))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if pulled.success() {
            return Ok(None);
        }
        say(
            "the public registry cannot be reached: serving stand-in images from a registry on loopback",
        );
        let filled = images::fill(None, &run::target_dir(), None)?;
        let hosts = self.root.join("certs.d/_default");
        fs::create_dir_all(&hosts)?;
        fs::write(
            hosts.join("hosts.toml"),
            format!(
                "[host.\"http://{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
                filled.address
            ),
        )?;
        Ok(filled.registry)
    }

    fn show_access_log(&self) -> anyhow::Result<()> {
        let mut follow = Command::new(&self.carob)
            .args(self.arguments(&["logs", "web", "-c", "access-log", "-f"]))
            .stdout(Stdio::piped())
            .spawn()?;
        let shown = show_until(&mut follow, |line| line.contains("GET / "));
        follow.kill()?;
        follow.wait()?;
        shown
    }

    fn down(&self) -> anyhow::Result<()> {
        if self.root.exists() {
            self.carob(&["down", "--all"])?;
        }
        Ok(())
    }

    /// Mounts and processes that name the demo's directory.
    fn leftovers(&self) -> anyhow::Result<String> {
        let root = self.root.to_string_lossy();
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mut left: Vec<String> = mounts
            .lines()
            .filter(|line| line.contains(&*root))
            .map(str::to_owned)
            .collect();
        for process in fs::read_dir("/proc")?.flatten() {
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&*root) {
                left.push(format!("process {}", process.file_name().to_string_lossy()));
            }
        }
        Ok(left.join("\n"))
    }

    fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [
            &["--root", self.root.to_str().unwrap_or_default()],
            arguments,
        ]
        .concat()
    }

    fn carob(&self, arguments: &[&str]) -> anyhow::Result<()> {
        run::command(Command::new(&self.carob).args(self.arguments(arguments)))
    }

    fn output(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run::output(Command::new(&self.carob).args(self.arguments(arguments)))
    }
}

fn say(text: &str) {
    println!("\n── {text}");
}

/// Prints a program's lines up to and including the one awaited.
fn show_until(
    program: &mut std::process::Child,
    is_awaited: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    for line in BufReader::new(program.stdout.take().context("hear the program")?).lines() {
        let line = line?;
        println!("{line}");
        if is_awaited(&line) {
            return Ok(());
        }
    }
    bail!("the program ended before it showed what was awaited")
}

/// The page at `/`, as soon as the server listens.
fn get(ip: &str) -> anyhow::Result<String> {
    let end = Instant::now() + Duration::from_secs(10);
    let mut stream = loop {
        match TcpStream::connect((ip, 80)) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > end => {
                return Err(error).with_context(|| format!("connect to {ip}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    stream.write_all(format!("GET / HTTP/1.0\r\nHost: {ip}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    answer
        .split_once("\r\n\r\n")
        .map(|(_, page)| page.to_owned())
        .context("the server gave no page")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_is_there() {
        assert!(crate::run::root().join(super::EXAMPLE).is_file());
    }
}
