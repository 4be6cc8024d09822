//! `carob up` that cannot be: the reason in a line, a failing exit code, and nothing left of the attempt.

use std::fs;
use std::io::Read;
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock, inotify};
use rustix::process::{Pid, Signal, kill_process};

/// Where an engine of a test's own has everything. The name of its bridge is that of its cgroups and firewall table, too.
struct Root {
    directory: tempfile::TempDir,
    bridge: String,
}

/// Counts roots.
static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Root {
    fn new() -> Root {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = Root {
            directory: tempfile::tempdir().expect("a directory"),
            bridge: format!("up{}n{number}", std::process::id()),
        };
        root.configure("");
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the settings file.
    fn configure(&self, settings: &str) {
        let text = format!("bridge: {}\n{settings}", self.bridge);
        fs::write(self.path("config.yaml"), text).expect("writes");
    }

    fn carob(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_carob"));
        command.arg("--root").arg(self.directory.path());
        command.args(arguments).stdin(Stdio::null());
        command.output().expect("carob starts")
    }

    /// A command that must succeed; what it said.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.carob(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    /// A command that must fail; its words.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.carob(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(
            said.starts_with("error: ") && said.lines().count() == 1,
            "one line: {said:?}"
        );
        said
    }

    /// What on this machine belongs to this engine, besides files below its root.
    fn traces(&self) -> Vec<String> {
        let mut traces = Vec::new();
        let root = self.directory.path().to_string_lossy().into_owned();
        let link = Path::new("/sys/class/net").join(&self.bridge);
        traces.extend(link.exists().then(|| format!("link {}", self.bridge)));
        let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten();
        let groups = hierarchies
            .map(|entry| entry.path())
            .chain([PathBuf::from("/sys/fs/cgroup")])
            .map(|dir| dir.join(&self.bridge));
        traces.extend(
            groups
                .filter(|dir| dir.exists())
                .map(|dir| format!("cgroup {}", dir.display())),
        );
        let tables = Command::new("nft").args(["list", "tables"]).output();
        let tables = tables.expect("nft runs").stdout;
        let ours = |line: &&str| line.split(' ').any(|word| word == self.bridge);
        traces.extend(
            String::from_utf8_lossy(&tables)
                .lines()
                .filter(ours)
                .map(str::to_owned),
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        traces.extend(
            mounts
                .lines()
                .filter(|m| m.contains(&root))
                .map(str::to_owned),
        );
        for process in fs::read_dir("/proc").expect("processes").flatten() {
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&root) {
                traces.push(format!("process {}", process.path().display()));
            }
        }
        for file in ["run/engine.sock", "state/network/network.json"] {
            traces.extend(self.path(file).exists().then(|| file.to_owned()));
        }
        traces
    }

    fn assert_clean(&self, after: &str) {
        assert_eq!(self.traces(), Vec::<String>::new(), "{after}");
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Of a test that failed, too, nothing is to stay.
        self.carob(&["down", "--all"]);
    }
}

const UP: [&str; 3] = ["up", "-d", "--listen=127.0.0.1:0"];

#[test]
fn wrong_settings_are_told_before_anything_is_made() {
    for (settings, words) in [
        (
            "listen: nowhere\n",
            "listen: \"nowhere\" is not an address and port such as",
        ),
        ("color: green\n", "unknown field"),
        (
            "serviceRange: 10.0.0.0/31\n",
            "serviceRange: 10.0.0.0/31 must have between 8 and 30 fixed bits",
        ),
        (
            "serviceRange: ten\n",
            "serviceRange: \"ten\" is not a range such as 10.244.0.0/16 or fd00:10:244::/64",
        ),
        (
            "podRange: 10.0.0.0/30\n",
            "podRange: 10.0.0.0/30 must have between 8 and 29 fixed bits",
        ),
        (
            "podRange: 10.50.0.0/24\nserviceRange: 10.50.0.0/16\n",
            "podRange 10.50.0.0/24 and serviceRange 10.50.0.0/16 overlap",
        ),
        (
            "nodeName: Bad_Name\n",
            "nodeName: \"Bad_Name\": a lowercase RFC 1123 subdomain must",
        ),
        (
            "clusterDomain: a b\n",
            "clusterDomain: \"a b\": a lowercase RFC 1123 subdomain must",
        ),
        ("podRange: [\n", "is no valid settings file"),
    ] {
        let root = Root::new();
        root.configure(settings);
        for command in [&UP[..], &["up"], &["down", "--all"], &["image", "ls"]] {
            let said = root.refused(command);
            assert!(
                said.contains("config.yaml") && said.contains(words),
                "{said}"
            );
        }
        let entries = fs::read_dir(root.directory.path()).expect("lists").count();
        assert_eq!(entries, 1, "nothing but the file itself is there");
        root.configure("");
        root.assert_clean(settings);
    }
}

#[test]
fn a_link_of_somebody_else_is_not_taken() {
    let root = Root::new();
    root.configure("");
    let config = "bridge: lo\n";
    fs::write(root.path("config.yaml"), config).expect("writes");
    let said = root.refused(&UP);
    assert!(
        said.contains("bring the Pod network up: make bridge lo: File exists"),
        "{said}"
    );
    root.done(&["down", "--all"]);
    assert!(Path::new("/sys/class/net/lo").exists());
    root.assert_clean(config);
    // The name that did not do is not remembered.
    root.configure("");
    root.done(&UP);
    root.done(&["down", "--all"]);
    root.assert_clean("down --all");
}

#[test]
fn what_is_in_the_way_is_named() {
    for (path, is_directory, words) in [
        ("state", false, "state"),
        ("run", false, "run"),
        ("kubeconfig", true, "kubeconfig"),
        ("state/store.db", true, "open the store"),
        ("state/images", false, "open the image store"),
        (
            "state/network",
            false,
            "bring the Pod network up: address pool: ",
        ),
        ("state/runtime", false, "state/runtime"),
        ("state/pki", false, "state/pki"),
        ("run/engine.sock", true, "make the socket below"),
        ("run/pods", false, "run/pods"),
    ] {
        let root = Root::new();
        let place = root.path(path);
        fs::create_dir_all(place.parent().expect("a parent")).expect("makes");
        if is_directory {
            fs::create_dir_all(place.join("inside")).expect("makes");
        } else {
            fs::write(&place, "in the way").expect("writes");
        }
        let said = root.refused(&UP);
        assert!(said.contains(words), "{path}: {said}");
        let removed = if is_directory {
            fs::remove_dir_all(&place)
        } else {
            fs::remove_file(&place)
        };
        removed.expect("nobody else touched it");
        root.assert_clean(path);
        // Without it, all is well.
        root.done(&UP);
        root.done(&["down", "--all"]);
        root.assert_clean(path);
    }
}

#[test]
fn a_taken_port_and_a_second_engine() {
    let root = Root::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let taken = listener.local_addr().expect("an address");
    let said = root.refused(&["up", "-d", &format!("--listen={taken}")]);
    assert!(
        said.contains(&format!("listen at {taken}: Address already in use")),
        "{said}"
    );
    root.assert_clean("a taken port");
    let said = root.refused(&["up", &format!("--listen={taken}")]);
    assert!(said.contains("Address already in use"), "{said}");

    assert!(
        root.done(&UP)
            .starts_with("the engine is Ready; export KUBECONFIG=")
    );
    let first = fs::read_to_string(root.path("run/engine.lock")).expect("its process id");
    for second in [&UP[..], &["up", "--listen=127.0.0.1:0"]] {
        let said = root.refused(second);
        let words = format!("an engine is already running with this root (process {first})");
        assert!(said.contains(&words), "{said}");
    }
    let nodes = root.carob(&["get", "nodes", "--no-headers"]);
    let nodes = String::from_utf8_lossy(&nodes.stdout).into_owned();
    assert!(nodes.contains(" Ready "), "the first goes on: {nodes}");
    assert_eq!(
        root.done(&["down"]),
        "the engine has ended; containers go on\n"
    );
    assert_eq!(root.done(&["down"]), "no engine is running\n");
    assert_eq!(
        root.done(&["down", "--all"]),
        "the engine and its Pods have ended\n"
    );
    root.assert_clean("down --all");
    assert_eq!(
        root.done(&["down", "--all"]),
        "the engine and its Pods have ended\n"
    );
}

#[test]
fn an_interrupted_start_leaves_nothing() {
    let root = Root::new();
    fs::create_dir(root.path("run")).expect("makes");
    let files = inotify::init(inotify::CreateFlags::CLOEXEC).expect("inotify");
    let made = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&files, root.path("run"), made).expect("watches");
    // Engines choose their networks one after another, by this lock: the start cannot go beyond it.
    let turn = fs::File::open("/run").expect("opens");
    flock(&turn, FlockOperation::LockExclusive).expect("locks");
    let mut command = Command::new(env!("CARGO_BIN_EXE_carob"));
    command.arg("--root").arg(root.directory.path());
    command.args(["up", "--listen=127.0.0.1:0"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut starting = command.stderr(Stdio::piped()).spawn().expect("starts");
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(files, &mut buffer);
    loop {
        let event = events.next().expect("an event");
        if event.file_name().is_some_and(|name| name == c"engine.sock") {
            break;
        }
    }
    let pid = i32::try_from(starting.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), Signal::INT).expect("it runs");
    drop(turn);
    let mut said = String::new();
    let mut errors = starting.stderr.take().expect("its errors");
    errors.read_to_string(&mut said).expect("reads");
    let status = starting.wait().expect("ends");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.ends_with("error: interrupted before the node was Ready\n"),
        "{said}"
    );
    root.assert_clean("an interrupt");
}

#[test]
fn the_range_of_services_is_fixed_by_the_first_start() {
    let root = Root::new();
    root.configure("serviceRange: 10.50.0.0/16\n");
    root.done(&UP);
    root.done(&["down", "--all"]);
    root.configure("serviceRange: 10.51.0.0/16\n");
    let said = root.refused(&UP);
    assert!(
        said.contains("the Service range 10.51.0.0/16 needs 10.51.0.1 for the Service kubernetes, which has \"10.50.0.1\" since the first start"),
        "{said}"
    );
    root.assert_clean("another range");
    root.configure("serviceRange: 10.50.0.0/16\n");
    root.done(&UP);
    root.done(&["down", "--all"]);
    root.assert_clean("down --all");
}
