//! Images that a registry gives to those with credentials only.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, ensure};
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[(
    "private::images_are_for_who_has_the_secret",
    images_are_for_who_has_the_secret,
)];

/// `jane:secret`, as HTTP's Basic scheme writes it.
const JANE: &str = "Basic amFuZTpzZWNyZXQ=";

/// Answers one request of a registry's client: those without credentials are asked for some, others are handed on.
fn answer(mut client: TcpStream, registry: &str) -> io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    let mut is_known = false;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let (name, value) = line.split_once(':').unwrap_or((line.trim_end(), ""));
        match name.to_ascii_lowercase().as_str() {
            "" => break,
            "authorization" => is_known = value.trim() == JANE,
            "connection" | "host" => {}
            _ => head.push_str(&line),
        }
    }
    if !is_known {
        let wanted = "WWW-Authenticate: Basic realm=\"private\"";
        return write!(
            client,
            "HTTP/1.1 401 Unauthorized\r\n{wanted}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let mut server = TcpStream::connect(registry)?;
    write!(
        server,
        "{head}Host: {registry}\r\nConnection: close\r\n\r\n"
    )?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match server.read(&mut buffer)? {
            0 => return Ok(()),
            count => client.write_all(&buffer[..count])?,
        }
    }
}

/// A registry at an address of its own that knows nobody but Jane; it lives as long as the tests do.
fn private(registry: String) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let registry = registry.clone();
            // A client that hangs up has what it wanted.
            thread::spawn(move || drop(answer(client, &registry)));
        }
    });
    Ok(address)
}

fn images_are_for_who_has_the_secret(user: &User) -> anyhow::Result<()> {
    let engine = user.engine();
    let address = private(engine.registry().to_owned())?.to_string();
    let hosts = engine.root().join("certs.d").join(&address);
    fs::create_dir_all(&hosts)?;
    let server = format!("server = \"http://{address}\"\n");
    fs::write(hosts.join("hosts.toml"), server)?;
    for (name, password) in [("good", "secret"), ("same", "secret"), ("bad", "guess")] {
        let server = format!("--docker-server={address}");
        let password = format!("--docker-password={password}");
        user.run(&[
            "create",
            "secret",
            "docker-registry",
            name,
            &server,
            "--docker-username=jane",
            &password,
        ])?;
    }
    let pod = |name: &str, policy: &str, secret: &str| {
        user.apply(&format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  imagePullSecrets: [{{name: {secret}}}]
  containers:
  - {{name: app, image: "{address}/library/busybox:1.36", imagePullPolicy: {policy}, command: [sleep, "3600"]}}
"#
        ))
    };
    pod("stranger", "IfNotPresent", "none")?;
    user.wait("stranger", "ErrImagePull", "0/1")?;
    pod("first", "IfNotPresent", "good")?;
    user.wait("first", "Running", "1/1")?;
    pod("second", "Never", "same")?;
    user.wait("second", "Running", "1/1")?;
    pod("guesser", "IfNotPresent", "bad")?;
    user.wait("guesser", "ErrImagePull", "0/1")?;
    pod("late", "Never", "none")?;
    user.wait("late", "ErrImageNeverPull", "0/1")?;
    // States are told before Events are.
    user.wait_event("Normal Pulled second: ")?;
    let told = user.run(&["describe", "pod", "second"])?;
    let words = "already present on machine and can be accessed by the pod";
    ensure!(told.contains(words), "{told}");
    user.wait_event("Warning Failed guesser: Failed to pull image")?;
    let told = user.run(&["describe", "pod", "guesser"])?;
    ensure!(told.contains("Failed to pull image"), "{told}");
    Ok(())
}
