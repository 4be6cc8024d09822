//! What the containers of a Pod share, and what they do not.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::board::Wait;
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "shared::one_network_and_name_own_files_and_processes",
        one_network_and_name_own_files_and_processes,
    ),
    (
        "shared::the_address_outlives_containers",
        the_address_outlives_containers,
    ),
];

/// A GET of the test's own: body and headers as they came.
pub(crate) fn http_get(ip: &str, port: u16, path: &str) -> anyhow::Result<String> {
    let mut stream = connect(ip, port)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {ip}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Connects as soon as a program listens; that it does is told by nothing but a connection.
fn connect(ip: &str, port: u16) -> anyhow::Result<TcpStream> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect((ip, port)) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(20));
            }
            connected => return connected.with_context(|| format!("connect to {ip}:{port}")),
        }
    }
}

fn one_network_and_name_own_files_and_processes(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: together}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: "nginx:latest"}
  - {name: shell, image: "busybox:1.36", command: [sh, -c, "echo mine > /only-here; sleep 3600"]}
"#,
    )?;
    user.wait("together", "Running", "2/2")?;
    let shell =
        |command: &str| user.run(&["exec", "together", "-c", "shell", "--", "sh", "-c", command]);
    let page = shell(
        "until nc -z 127.0.0.1 80; do sleep 0.05; done; wget -q -O - http://127.0.0.1/ | head -n 4",
    )?;
    ensure!(
        page.to_lowercase().contains("nginx"),
        "localhost is shared: {page}"
    );
    ensure!(shell("hostname")? == "together\n");
    ensure!(
        user.run(&[
            "exec",
            "together",
            "-c",
            "web",
            "--",
            "cat",
            "/etc/hostname"
        ])? == "together\n"
    );
    let ip = user.pod_ip("together")?;
    ensure!(
        shell("cat /etc/hosts")?.contains(&format!("{ip}\ttogether")),
        "the Pod's own address is in its hosts file"
    );
    ensure!(shell("until [ -s /only-here ]; do sleep 0.05; done; cat /only-here")? == "mine\n");
    let missing = user.fails(&["exec", "together", "-c", "web", "--", "ls", "/only-here"])?;
    ensure!(
        missing.code == 1 && missing.stderr.contains("exit code 1"),
        "the exit code comes through: {missing:?}"
    );
    let first = shell("cat /proc/1/comm")?;
    ensure!(
        first
            == "sh
" || first
            == "sleep
",
        "its own process is number one: {first}"
    );
    ensure!(
        !shell("ps")?.contains("nginx"),
        "other containers' processes are not seen"
    );
    Ok(())
}

fn the_address_outlives_containers(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: stays}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: one, image: "busybox:1.36", command: [sh, -c, "sleep 1; exit 1"]}
"#,
    )?;
    user.wait("stays", "Running", "1/1")?;
    let before = user.pod_ip("stays")?;
    user.wait_for(&Wait {
        pod: "stays".into(),
        restarts: Some(1),
        timeout: 40,
        ..Wait::default()
    })?;
    ensure!(user.pod_ip("stays")? == before);
    Ok(())
}
