//! Further processes in running containers.

use std::io::Read;
use std::os::fd::AsFd;

use runtime::launch::{
    ExecFds, ExecSpec, LaunchError, LaunchSpec, Launched, Launcher, Stdio, capabilities,
};
use runtime::seccomp;
use rustix::process::{Signal, pidfd_send_signal};

use super::Case;
use super::files::bind;
use crate::bundle::{Bundle, Finished, Pipes, start, wait};

pub(crate) const ALL: &[(&str, Case)] = &[
    ("an_exec_is_in_the_container", an_exec_is_in_the_container),
    (
        "an_exec_has_the_containers_rights",
        an_exec_has_the_containers_rights,
    ),
    ("an_exec_can_have_a_terminal", an_exec_can_have_a_terminal),
    (
        "an_exec_needs_a_running_container",
        an_exec_needs_a_running_container,
    ),
];

fn exec_spec(container: &LaunchSpec, launched: &Launched, script: &str) -> ExecSpec {
    let mut process = container.process.clone();
    process.argv = vec!["sh".into(), "-c".into(), script.into()];
    process
        .env
        .extend(launched.home.iter().map(|h| ("HOME".to_owned(), h.clone())));
    ExecSpec {
        process,
        user: launched.user.clone(),
        cgroup: container.cgroup.clone(),
    }
}

fn exec(launcher: &Launcher, spec: &ExecSpec, target: &Launched) -> Result<Finished, LaunchError> {
    let pipes = Pipes::new();
    let fds = ExecFds {
        stdio: pipes.stdio(),
        target: target.pidfd.as_fd(),
        devpts: None,
    };
    let launched = launcher.exec(spec, fds)?;
    let out = pipes.read();
    Ok(Finished {
        out,
        code: wait(&launched),
    })
}

fn stop(container: &Launched) {
    pidfd_send_signal(&container.pidfd, Signal::KILL).unwrap();
    wait(container);
}

fn an_exec_is_in_the_container(launcher: &Launcher) {
    let bundle = Bundle::new();
    let mut spec = bundle.spec("echo made > /tmp/mark; exec sleep 1000");
    spec.process.cwd = "/root".into();
    spec.mounts = vec![bind(bundle.path("volume"), "/data")];
    let (container, _pipes) = start(launcher, &spec).unwrap();
    let script = "until test -s /tmp/mark; do sleep 0.01; done; cat /tmp/mark; pwd; echo $HOME; tr '\\0' ' ' < /proc/1/cmdline; echo; test $$ -gt 1 && test -d /data && exit 7";
    let done = exec(launcher, &exec_spec(&spec, &container, script), &container).unwrap();
    assert!(
        done.out.starts_with("made\n/root\n/root\n") && done.out.contains("sleep 1000"),
        "{}",
        done.out
    );
    assert_eq!(done.code, 7);
    let mut missing = exec_spec(&spec, &container, "");
    missing.process.argv = vec!["nosuch".into()];
    let error = exec(launcher, &missing, &container)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        r#"exec: "nosuch": executable file not found in $PATH"#
    );
    stop(&container);
}

fn an_exec_has_the_containers_rights(launcher: &Launcher) {
    let bundle = Bundle::new();
    let mut spec = bundle.spec("exec sleep 1000");
    let set = capabilities::resolve(false, &[], &["KILL".into()]).unwrap();
    spec.process.capabilities = set;
    spec.process.seccomp = Some(seccomp::runtime_default(set.bounding));
    spec.process.no_new_privs = true;
    spec.process.oom_score_adj = Some(500);
    spec.user.uid = Some(33);
    let (container, _pipes) = start(launcher, &spec).unwrap();
    let script = "id -u; id -G; awk '/^(CapBnd|NoNew|Seccomp:)/ {print $2}' /proc/self/status; cat /proc/self/oom_score_adj; ls /proc/self/fd | wc -l";
    let done = exec(launcher, &exec_spec(&spec, &container, script), &container).unwrap();
    assert_eq!(done.out, "33\n34 50\n00000000a80425db\n1\n2\n500\n4\n");
    stop(&container);
}

fn an_exec_can_have_a_terminal(launcher: &Launcher) {
    let bundle = Bundle::new();
    let spec = bundle.spec("exec sleep 1000");
    let (container, _pipes) = start(launcher, &spec).unwrap();
    let target = container.pidfd.as_fd();
    let stdio = Stdio::Terminal { size: (80, 24) };
    let exec = exec_spec(&spec, &container, "tty; stty size");
    let error = launcher
        .exec(
            &exec,
            ExecFds {
                stdio,
                target,
                devpts: None,
            },
        )
        .unwrap_err();
    assert_eq!(error, LaunchError::NoDevpts);
    let devpts = container.devpts.as_ref().map(AsFd::as_fd);
    let launched = launcher
        .exec(
            &exec,
            ExecFds {
                stdio,
                target,
                devpts,
            },
        )
        .unwrap();
    let mut out = Vec::new();
    let _ = std::fs::File::from(launched.terminal.as_ref().unwrap().try_clone().unwrap())
        .read_to_end(&mut out);
    assert_eq!(String::from_utf8_lossy(&out), "/dev/pts/0\r\n24 80\r\n");
    assert_eq!(wait(&launched), 0);
    stop(&container);
}

fn an_exec_needs_a_running_container(launcher: &Launcher) {
    let bundle = Bundle::new();
    let spec = bundle.spec("exec sleep 1000");
    let (container, _pipes) = start(launcher, &spec).unwrap();
    let exec_spec = exec_spec(&spec, &container, "true");
    stop(&container);
    assert_eq!(
        exec(launcher, &exec_spec, &container).unwrap_err(),
        LaunchError::Stopped
    );
}
