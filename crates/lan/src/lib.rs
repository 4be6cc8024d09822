//! A second machine's network: a namespace on the other end of a cable, on which images can be had.

use std::ffi::OsStr;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, ensure};

/// Counts them.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The namespace and the cable. They go when it is dropped.
#[derive(Debug)]
pub struct Lan {
    /// Of the namespace, and of the cable's end there.
    name: String,
    /// The first three numbers of its addresses.
    prefix: String,
}

impl Lan {
    /// Lays the cable.
    pub fn lay() -> anyhow::Result<Lan> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let lan = Lan {
            name: format!("lan{process}m{number}"),
            prefix: format!("10.254.{}", (process + number) % 250),
        };
        let (name, here) = (&lan.name, end_here(&lan.name));
        let address = |host: u8| format!("{}.{host}/24", lan.prefix);
        for arguments in [
            format!("netns add {name}"),
            format!("link add {here} type veth peer name eth0 netns {name}"),
            format!("addr add {} dev {here}", address(1)),
            format!("link set {here} up"),
            format!("-n {name} link set lo up"),
            format!("-n {name} addr add {} dev eth0", address(2)),
            format!("-n {name} link set eth0 up"),
        ] {
            ip(&arguments)?;
        }
        Ok(lan)
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.name
    }

    /// The address of this end.
    pub fn address(&self) -> String {
        format!("{}.1", self.prefix)
    }

    /// The address of the other end.
    pub fn other(&self) -> String {
        format!("{}.2", self.prefix)
    }

    /// Puts a registry on the cable that is reached here only; where it is there.
    pub fn registry(&self, registry: &str) -> anyhow::Result<String> {
        let listener = TcpListener::bind((self.address(), 0)).context("listen")?;
        let address = listener.local_addr()?.to_string();
        let registry = registry.to_owned();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let registry = registry.clone();
                // A client that hangs up has what it wanted.
                thread::spawn(move || drop(relay(&client, &registry)));
            }
        });
        Ok(address)
    }

    /// Unplugs the cable, or plugs it in again.
    pub fn plug(&self, is_in: bool) -> anyhow::Result<()> {
        let state = if is_in { "up" } else { "down" };
        ip(&format!("link set {} {state}", end_here(&self.name)))
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            eprintln!("{error:#}");
        }
    }
}

/// Removes a namespace and its cable, such as those of a process that was killed.
pub fn remove(namespace: &str) -> anyhow::Result<()> {
    // The cable goes with the namespace, but only when nothing is in it any more.
    ip(&format!("link delete {}", end_here(namespace)))
        .and(ip(&format!("netns delete {namespace}")))
}

/// Has a program run in a namespace.
pub fn command_in(namespace: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{namespace}"))
        .arg(program);
    command
}

/// The cable's end here.
fn end_here(namespace: &str) -> String {
    format!("{namespace}h")
}

fn relay(client: &TcpStream, server: &str) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    let (mut up, mut down) = (client.try_clone()?, server.try_clone()?);
    let (mut to_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let asking = thread::spawn(move || {
        let copied = io::copy(&mut up, &mut to_server);
        to_server.shutdown(Shutdown::Write).and(copied)
    });
    let answered = io::copy(&mut down, &mut to_client);
    client.shutdown(Shutdown::Write)?;
    drop(asking.join());
    answered.map(drop)
}

fn ip(arguments: &str) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .context("start ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {said}");
    Ok(())
}
