//! `cargo xtask demo`: from nothing to a multi-container Pod that serves a page, and back to nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::engine::Engine;
use crate::{images, run, setup};

const EXAMPLE: &str = "examples/web-with-sidecar.yaml";

/// Shows the main job on this machine.
pub(crate) fn demo() -> anyhow::Result<()> {
    setup::install()?;
    let demo = Demo(Engine::fresh(run::build_release(&[])?, "demo")?);
    let shown = demo.show();
    demo.0.remove()?;
    shown?;
    say("nothing is left: no process, mount or network of the demo");
    Ok(())
}

/// The demo's engine.
struct Demo(Engine);

impl Demo {
    fn show(&self) -> anyhow::Result<()> {
        say("starting an engine");
        let started = Instant::now();
        self.0.up()?;
        say(&format!(
            "its node is Ready after {} ms",
            started.elapsed().as_millis()
        ));
        let _registry = self.registry()?;

        say(&format!("watching Pods, and applying {EXAMPLE}"));
        let mut watch = self
            .0
            .command(&["get", "pods", "-w"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        self.0.carob(&["apply", "-f", EXAMPLE])?;
        let shown = show_until(&mut watch, |row| {
            row.contains("2/2") && row.contains("Running")
        });
        watch.kill()?;
        watch.wait()?;
        shown?;

        let ip = self
            .0
            .output(&["get", "pod", "web", "-o", "jsonpath={.status.podIP}"])?;
        say(&format!("requesting http://{ip}/"));
        print!("{}", get(&ip)?);
        say("the sidecar's log, which follows nginx's access log through a shared volume");
        self.show_access_log()?;
        say("carob describe pod web");
        self.0.carob(&["describe", "pod", "web"])?;
        say("deleting the Pod");
        self.0.carob(&["delete", "pod", "web"])
    }

    /// Stand-in images when the public registry cannot be reached.
    fn registry(&self) -> anyhow::Result<Option<images::Registry>> {
        say("pulling busybox:1.36");
        let pulled = self
            .0
            .command(&["image", "pull", "busybox:1.36"])
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
        self.0.mirror(&filled.address)?;
        Ok(filled.registry)
    }

    fn show_access_log(&self) -> anyhow::Result<()> {
        let mut follow = self
            .0
            .command(&["logs", "web", "-c", "access-log", "-f"])
            .stdout(Stdio::piped())
            .spawn()?;
        let shown = show_until(&mut follow, |line| line.contains("GET / "));
        follow.kill()?;
        follow.wait()?;
        shown
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
