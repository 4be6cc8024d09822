//! Connections into Pods: forwarded ports, copies, terminals.

use std::io::{BufRead, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::board::Wait;
use e2e::user::{Running, User};

use crate::Scenario;
use crate::terminal::Terminal;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("streams::forwards_ports", forwards_ports),
    ("streams::forwards_ends", forwards_ends),
    ("streams::forwards_to_the_node", forwards_to_the_node),
    ("streams::copies_both_ways", copies_both_ways),
    ("streams::a_terminal", a_terminal),
    ("streams::attaches", attaches),
    (
        "streams::attaches_with_a_terminal",
        attaches_with_a_terminal,
    ),
];

/// Connections at once.
const PARALLEL: usize = 40;
/// Bytes of the large file.
const LARGE: usize = 16 << 20;
/// Longest wait for a terminal to show something.
const PATIENCE: Duration = Duration::from_secs(15);

/// A web server that listens on the Pod's loopback only.
const WEB: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, "mkdir /www; echo small > /www/small; head -c 16777216 /dev/zero | tr '\\0' x > /www/large; exec httpd -f -p 127.0.0.1:8080 -h /www"]
"#;

fn forwards_ports(user: &User) -> anyhow::Result<()> {
    user.apply(WEB)?;
    user.wait("web", "Running", "1/1")?;
    let listens =
        "until wget -q -O /dev/null http://127.0.0.1:8080/small 2>/dev/null; do sleep 0.05; done";
    user.run(&["exec", "web", "--", "sh", "-c", listens])?;
    let ports = [
        "port-forward",
        "--address=127.0.0.1",
        "pod/web",
        ":8080",
        ":9",
    ];
    let mut client = user
        .command(&ports)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map(Running::from)?;
    let mut lines = client.stdout()?.lines();
    let mut local = |remote: &str| -> anyhow::Result<u16> {
        let line = lines.next().context("it ended early")??;
        let port = line
            .strip_prefix("Forwarding from 127.0.0.1:")
            .and_then(|rest| rest.strip_suffix(&format!(" -> {remote}")));
        Ok(port.with_context(|| line.clone())?.parse()?)
    };
    let (web, nobody) = (local("8080")?, local("9")?);
    // Whoever reads on keeps the client from waiting for a reader.
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).count());

    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..PARALLEL)
            .map(|_| scope.spawn(|| get(web, "small")))
            .collect();
        for answer in asked {
            let body = answer.join().ok().context("a reader panicked")??;
            ensure!(body == b"small\n", "{}", String::from_utf8_lossy(&body));
        }
        anyhow::Ok(())
    })?;
    let large = get(web, "large")?;
    ensure!(
        large.len() == LARGE && large.iter().all(|b| *b == b'x'),
        "{} bytes came",
        large.len()
    );

    // Nobody listens there: the connection is closed, the client says why and ends.
    let mut refused = TcpStream::connect(("127.0.0.1", nobody))?;
    ensure!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)));
    let mut told = String::new();
    client.stderr()?.read_to_string(&mut told)?;
    ensure!(client.wait()?.code() == Some(1), "{told}");
    ensure!(
        told.contains("failed to connect to localhost:9 inside namespace")
            && told.contains(": connection refused")
            && !told.contains("os error")
            && told.contains("error: lost connection to pod"),
        "{told}"
    );
    reader.join().ok().context("the reader panicked")?;
    Ok(())
}

/// A client that forwards a port until it is dropped, and the port it listens on.
pub(crate) fn forward(user: &User, target: &str, port: &str) -> anyhow::Result<(Running, u16)> {
    let asked = format!(":{port}");
    let arguments = ["port-forward", "--address=127.0.0.1", target, &asked];
    let mut client = user.start(&arguments)?;
    let mut line = String::new();
    let mut said = client.stdout()?;
    said.read_line(&mut line)?;
    let local = line
        .strip_prefix("Forwarding from 127.0.0.1:")
        .and_then(|rest| rest.split(" -> ").next())
        .with_context(|| format!("{target}: {line:?}"))?;
    let local = local.parse()?;
    // Whoever reads on keeps the client from waiting for a reader.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    Ok((client, local))
}

/// Who has said all there is to say still hears the answer: each side ends by itself.
fn forwards_ends(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: counts}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: debian:12
    command:
    - perl
    - -MIO::Socket::INET
    - -e
    - |
      $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1:9000", Listen => 5);
      while ($c = $s->accept) {
        $n = 0;
        while ($r = sysread($c, $b, 65536)) { $n += $r }
        print $c $n;
        close $c;
      }
"#,
    )?;
    user.wait("counts", "Running", "1/1")?;
    let listens =
        "until grep -q ' 0100007F:2328 00000000:0000 0A ' /proc/net/tcp; do sleep 0.05; done";
    user.run(&["exec", "counts", "--", "sh", "-c", listens])?;
    let (_client, port) = forward(user, "pod/counts", "9000")?;
    for bytes in [0, 1, 100_000, LARGE] {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&vec![b'x'; bytes])?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer == bytes.to_string(), "{bytes}: {answer:?}");
    }
    Ok(())
}

/// The loopback of a Pod on the node's network is the node's.
fn forwards_to_the_node(user: &User) -> anyhow::Result<()> {
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let serves =
        format!("mkdir /www; echo small > /www/small; exec httpd -f -p 127.0.0.1:{port} -h /www");
    user.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, "{serves}"]
    readinessProbe: {{exec: {{command: [wget, -q, -O, /dev/null, "http://127.0.0.1:{port}/small"]}}, periodSeconds: 1}}
"#
    ))?;
    user.wait("web", "Running", "1/1")?;
    let (_client, local) = forward(user, "pod/web", &port.to_string())?;
    let body = get(local, "small")?;
    ensure!(body == b"small\n", "{}", String::from_utf8_lossy(&body));
    Ok(())
}

/// Gets a file over HTTP/1.0.
fn get(port: u16, file: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET /{file} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n");
    Ok(answer.split_off(head.context("no end of the header")? + 4))
}

fn copies_both_ways(user: &User) -> anyhow::Result<()> {
    user.apply(WEB)?;
    user.wait("web", "Running", "1/1")?;
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let bytes: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::create_dir_all(dir.path().join("out/deep"))?;
    std::fs::write(path("out/one"), &bytes)?;
    std::fs::write(path("out/deep/two"), "two\n")?;

    user.run(&["cp", &path("out/one"), "web:/tmp/one"])?;
    user.run(&["cp", "web:/tmp/one", &path("back")])?;
    ensure!(std::fs::read(path("back"))? == bytes);
    user.run(&["cp", &path("out"), "web:/tmp"])?;
    ensure!(user.run(&["exec", "web", "--", "cat", "/tmp/out/deep/two"])? == "two\n");
    user.run(&["cp", "web:/tmp/out", &path("in")])?;
    ensure!(std::fs::read(path("in/one"))? == bytes);
    ensure!(std::fs::read_to_string(path("in/deep/two"))? == "two\n");

    let absent = user.fails(&["cp", &path("nowhere"), "web:/tmp"])?;
    ensure!(absent.stderr.contains("nowhere"), "{absent:?}");
    Ok(())
}

fn a_terminal(user: &User) -> anyhow::Result<()> {
    user.apply(WEB)?;
    user.wait("web", "Running", "1/1")?;
    let mut terminal = Terminal::new(30, 100)?;
    let mut client = terminal.run(user.command(&["exec", "-it", "web", "--", "sh"]))?;
    // Words are broken by quotes where they are typed, so that what the terminal echoes is not taken for an answer.
    terminal.type_in("test -t 0 && echo termi''nal; stty size\n")?;
    terminal.shows("terminal\r\n30 100\r\n")?;
    terminal.resize(40, 120)?;
    terminal
        .type_in("until [ \"$(stty size)\" = '40 120' ]; do sleep 0.05; done; echo resi''zed\n")?;
    terminal.shows("resized\r\n")?;
    // The job says it itself: then the terminal is its own, and so will be the interrupt.
    terminal.type_in("sh -c \"echo slee''ping; exec sleep 1000\"\n")?;
    terminal.shows("sleeping\r\n")?;
    // What is typed before the shell has taken the terminal back is lost with the interrupt.
    terminal.seen.clear();
    terminal.type_in("\u{3}")?;
    terminal.shows("# ")?;
    terminal.type_in("exit 7\n")?;
    ensure!(client.wait()?.code() == Some(7), "{}", terminal.seen);
    Ok(())
}

fn attaches(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: "busybox:1.36", stdin: true, stdinOnce: true, command: [sh, -c, "echo before; while read line; do echo \"got $line\"; echo \"err $line\" >&2; done; echo end; exit 3"]}]
"#,
    )?;
    user.wait("reader", "Running", "1/1")?;
    let mut following = user.start(&["logs", "reader", "-f"])?;
    let first = following.stdout()?.lines().next();
    ensure!(first.context("the log ended")?? == "before");
    // What was written before is in the log alone.
    let heard = user.pipe(&["attach", "-i", "reader"], "one\ntwo\n")?;
    ensure!(heard == "got one\ngot two\nend\n", "{heard:?}");
    user.wait_phase("reader", "Failed")?;
    let log = user.run(&["logs", "reader"])?;
    // The two streams have an order each, and none between them.
    let of = |is_error: bool| -> Vec<&str> {
        let lines = log.lines();
        lines.filter(|l| l.starts_with("err") == is_error).collect()
    };
    let (output, errors) = (of(false), of(true));
    ensure!(
        output == ["before", "got one", "got two", "end"] && errors == ["err one", "err two"],
        "{log}"
    );
    let late = user.fails(&["attach", "reader"])?;
    ensure!(
        late.stderr
            .contains("cannot attach a container in a completed pod; current phase is Failed"),
        "{late:?}"
    );
    Ok(())
}

fn attaches_with_a_terminal(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: other, image: "busybox:1.36", command: [sleep, "3600"]}
  - {name: shell, image: "busybox:1.36", stdin: true, tty: true, command: [sh]}
"#,
    )?;
    user.wait("shell", "Running", "2/2")?;
    let mut terminal = Terminal::new(24, 90)?;
    let mut client = terminal.run(user.command(&["attach", "-it", "shell", "-c", "shell"]))?;
    terminal
        .type_in("until [ \"$(stty size)\" = '24 90' ]; do sleep 0.05; done; echo att''ached\n")?;
    terminal.shows("attached\r\n")?;
    terminal.resize(50, 100)?;
    terminal
        .type_in("until [ \"$(stty size)\" = '50 100' ]; do sleep 0.05; done; echo resi''zed\n")?;
    terminal.shows("resized\r\n")?;
    terminal.type_in("kept=here; echo ke''pt\n")?;
    terminal.shows("kept\r\n")?;
    // The client goes; the shell stays, and whoever comes next finds it as it was.
    drop(client);
    let mut again = Terminal::new(24, 80)?;
    client = again.run(user.command(&["attach", "-it", "shell", "-c", "shell"]))?;
    again.type_in("echo \"still $kept\"\n")?;
    again.shows("still here\r\n")?;
    again.type_in("exit 0\n")?;
    ensure!(client.wait()?.success(), "{}", again.seen);
    again.shows("Session ended, resume using")?;
    user.wait_for(&Wait {
        pod: "shell".into(),
        restarts: Some(1),
        timeout: 30,
        ..Wait::default()
    })?;
    let refused = user.fails(&["attach", "-c", "nobody", "shell"])?;
    ensure!(
        refused.code == 1 && refused.stderr.contains("container nobody"),
        "{refused:?}"
    );
    Ok(())
}
