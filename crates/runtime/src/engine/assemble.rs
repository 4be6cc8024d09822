//! From what a container is made from to what the launcher executes. Pure, but for the seccomp profile handed in.

use std::path::{Path, PathBuf};

use ports::images::ImageConfig;
use ports::runtime::{
    ContainerConfig, ImageMount, Mount, MountPropagation, NamespaceMode, RuntimeError,
};

use super::record::{self, ContainerRecord, SandboxRecord};
use super::signal;
use crate::cgroup::Group;
use crate::launch::capabilities;
use crate::launch::{
    CgroupEntry, ExecSpec, ImageTree, LaunchSpec, PidNamespace, ProcessSpec, Root, SeccompProgram,
    UserRequest,
};
use crate::wire::StartSpec;

/// Where programs are looked for when neither image nor Pod say so (containerd's default).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// `STOPSIGNAL` of images that have none.
const DEFAULT_STOP_SIGNAL: i32 = libc::SIGTERM;

/// Files the runtime keeps for a sandbox and binds into its containers.
pub(crate) struct SandboxFiles {
    pub(crate) resolv_conf: Option<PathBuf>,
    pub(crate) hostname: Option<PathBuf>,
    pub(crate) shm: PathBuf,
}

/// ENTRYPOINT, CMD, command and args (spec/pod-lifecycle 9.4).
pub(crate) fn argv(
    config: &ContainerConfig,
    image: &ImageConfig,
) -> Result<Vec<String>, RuntimeError> {
    let (first, rest) = match (config.command.is_empty(), config.args.is_empty()) {
        (true, true) => (&image.entrypoint, &image.cmd),
        (true, false) => (&image.entrypoint, &config.args),
        (false, _) => (&config.command, &config.args),
    };
    let argv: Vec<String> = first.iter().chain(rest).cloned().collect();
    if argv.is_empty() {
        Err(RuntimeError::Create("no command specified".into()))
    } else {
        Ok(argv)
    }
}

/// The environment: defaults, the image's, the host name, the Pod's; later ones win, each name keeps its first place.
pub(crate) fn environment(
    config: &ContainerConfig,
    image: &ImageConfig,
    hostname: &str,
) -> Vec<(String, String)> {
    let mut merged: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match merged.iter_mut().find(|(known, _)| known == name)
    {
        Some((_, known)) => *known = value.to_string(),
        None => merged.push((name.to_string(), value.to_string())),
    };
    set("PATH", DEFAULT_PATH);
    if config.tty {
        set("TERM", "xterm");
    }
    for entry in &image.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(name, value);
    }
    set("HOSTNAME", hostname);
    for (name, value) in &config.env {
        set(name, value);
    }
    merged
}

/// The signal that asks a container to stop (spec/pod-lifecycle 2.5). Names nobody knows fall back to the default.
pub(crate) fn stop_signal(config: &ContainerConfig, image: &ImageConfig) -> i32 {
    let named = config
        .stop_signal
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or(&image.stop_signal);
    signal::number(named).unwrap_or(DEFAULT_STOP_SIGNAL)
}

/// The process of a container, or of an exec in it when `command` is given.
fn process(
    record: &ContainerRecord,
    hostname: &str,
    command: Vec<String>,
    seccomp: Option<SeccompProgram>,
) -> Result<ProcessSpec, RuntimeError> {
    let (config, image) = (&record.config, &record.image);
    let security = &config.security;
    let capabilities = capabilities::resolve(
        security.privileged,
        &security.add_capabilities,
        &security.drop_capabilities,
    )
    .map_err(|error| RuntimeError::Create(error.to_string()))?;
    let mut env = environment(config, image, hostname);
    if let (Some(home), false) = (&record.home, env.iter().any(|(name, _)| name == "HOME")) {
        env.push(("HOME".into(), home.clone()));
    }
    Ok(ProcessSpec {
        argv: command,
        env,
        cwd: if config.working_dir.is_empty() {
            image.working_dir.clone()
        } else {
            config.working_dir.clone()
        },
        capabilities,
        no_new_privs: security.no_new_privs,
        seccomp,
        rlimits: Vec::new(),
        oom_score_adj: record.resources.oom_score_adj,
    })
}

/// Everything pause needs to start the container.
pub(crate) fn start(
    record: &ContainerRecord,
    sandbox: &SandboxRecord,
    files: &SandboxFiles,
    directory: &Path,
    cgroup: &Group,
    seccomp: Option<SeccompProgram>,
    hostname: &str,
) -> Result<StartSpec, RuntimeError> {
    let config = &record.config;
    let security = &config.security;
    let bare = security.privileged || security.unmasked_proc;
    let launch = LaunchSpec {
        id: record.id.clone(),
        root: Root {
            layers: record.layers.clone(),
            upper: directory.join(record::UPPER),
            work: directory.join(record::WORK),
            readonly: security.readonly_rootfs,
        },
        process: process(record, hostname, argv(config, &record.image)?, seccomp)?,
        user: UserRequest {
            image_user: record.image.user.clone(),
            uid: security.run_as_user,
            gid: security.run_as_group,
            supplemental_groups: security.supplemental_groups.clone(),
            strict_groups: security.strict_groups,
            non_root: security.run_as_non_root,
        },
        pid_namespace: pid_namespace(config, sandbox),
        cgroup: cgroup.entry(),
        mounts: mounts(config, files),
        images: images(record, directory),
        shm: Some(files.shm.clone()),
        privileged: security.privileged,
        masked_paths: if bare {
            Vec::new()
        } else {
            crate::launch::default_masked_paths()
        },
        readonly_paths: if bare {
            Vec::new()
        } else {
            crate::launch::default_readonly_paths()
        },
    };
    Ok(StartSpec {
        launch,
        cgroup: cgroup.path().to_path_buf(),
        log_path: sandbox.config.log_directory.join(&config.log_path),
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
    })
}

/// Another process in a running container, with its identity, environment and rights.
pub(crate) fn exec(
    record: &ContainerRecord,
    hostname: &str,
    command: Vec<String>,
    cgroup: CgroupEntry,
    seccomp: Option<SeccompProgram>,
    tty: bool,
) -> Result<ExecSpec, RuntimeError> {
    let mut process = process(record, hostname, command, seccomp)?;
    if tty && !process.env.iter().any(|(name, _)| name == "TERM") {
        process.env.push(("TERM".into(), "xterm".into()));
    }
    let user = record.user.clone().unwrap_or(ports::runtime::UserStatus {
        uid: 0,
        gid: 0,
        supplemental_groups: Vec::new(),
    });
    Ok(ExecSpec {
        process,
        user,
        cgroup,
    })
}

/// A shared or the node's namespace is the one pause lives in; only then does a target make no difference.
fn pid_namespace(config: &ContainerConfig, sandbox: &SandboxRecord) -> PidNamespace {
    match (sandbox.config.namespaces.pid, &config.security.pid_target) {
        (NamespaceMode::Pod | NamespaceMode::Node, _) => PidNamespace::Pause,
        (NamespaceMode::Container, Some(target)) => PidNamespace::Target(target.clone()),
        (NamespaceMode::Container, None) => PidNamespace::New,
    }
}

/// The Pod's mounts, and the sandbox's own files where the Pod puts nothing else.
pub(super) fn mounts(config: &ContainerConfig, files: &SandboxFiles) -> Vec<Mount> {
    let readonly = config.security.readonly_rootfs;
    let own = [
        ("/etc/resolv.conf", &files.resolv_conf),
        ("/etc/hostname", &files.hostname),
    ];
    let own = own
        .into_iter()
        .filter_map(|(path, host)| Some((path, host.as_ref()?)));
    let free = own.filter(|(path, _)| {
        let bound = config.mounts.iter().map(|mount| &mount.container_path);
        let images = config.image_mounts.iter();
        let mut taken = bound.chain(images.map(|mount| &mount.container_path));
        !taken.any(|taken| taken == Path::new(path))
    });
    let own = free.map(|(path, host)| Mount {
        container_path: path.into(),
        host_path: host.clone(),
        readonly,
        recursive_readonly: false,
        propagation: MountPropagation::Private,
    });
    own.chain(config.mounts.iter().cloned()).collect()
}

/// The images that a container with this directory mounts.
pub(super) fn images(record: &ContainerRecord, directory: &Path) -> Vec<ImageTree> {
    let tree = |mount: &ImageMount| {
        let layers = record.image_layers.get(&mount.image_id).cloned();
        let mut layers = layers.unwrap_or_default();
        if layers.len() < 2 {
            layers.push(directory.join(record::EMPTY));
        }
        ImageTree {
            image: mount.image.clone(),
            layers,
            sub_path: mount.sub_path.clone(),
            container_path: mount.container_path.clone(),
        }
    };
    record.config.image_mounts.iter().map(tree).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{container_config, strings};

    #[test]
    fn command_and_args_replace_entrypoint_and_cmd() {
        type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str]);
        let table: &[Row<'_>] = &[
            (&[], &[], &["entry", "cmd"]),
            (&["c"], &[], &["c"]),
            (&[], &["a"], &["entry", "a"]),
            (&["c"], &["a"], &["c", "a"]),
        ];
        let image = ImageConfig {
            entrypoint: strings(&["entry"]),
            cmd: strings(&["cmd"]),
            ..ImageConfig::default()
        };
        for (command, args, expected) in table {
            let config = ContainerConfig {
                command: strings(command),
                args: strings(args),
                ..container_config("c")
            };
            assert_eq!(
                argv(&config, &image).expect("a command"),
                strings(expected),
                "{command:?} {args:?}"
            );
        }
        let nothing =
            argv(&container_config("c"), &ImageConfig::default()).expect_err("nothing to execute");
        assert_eq!(
            nothing.to_string(),
            "failed to create container: no command specified"
        );
    }

    #[test]
    fn the_pods_environment_wins_over_the_images() {
        let image = ImageConfig {
            env: strings(&["PATH=/bin", "A=image", "EMPTY"]),
            ..ImageConfig::default()
        };
        let env = vec![
            ("A".to_string(), "pod=1".to_string()),
            ("B".to_string(), "2".to_string()),
        ];
        let config = ContainerConfig {
            env,
            tty: true,
            ..container_config("c")
        };
        let merged: Vec<String> = environment(&config, &image, "host")
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            merged,
            [
                "PATH=/bin",
                "TERM=xterm",
                "A=pod=1",
                "EMPTY=",
                "HOSTNAME=host",
                "B=2"
            ]
        );
    }

    #[test]
    fn stop_signals_come_from_the_pod_then_the_image() {
        let table = [
            (None, "", 15),
            (None, "SIGQUIT", 3),
            (Some("SIGUSR1"), "SIGQUIT", 10),
            (Some(""), "9", 9),
            (None, "SIGWHAT", 15),
        ];
        for (pod, image, expected) in table {
            let config = ContainerConfig {
                stop_signal: pod.map(str::to_string),
                ..container_config("c")
            };
            let image = ImageConfig {
                stop_signal: image.to_string(),
                ..ImageConfig::default()
            };
            assert_eq!(stop_signal(&config, &image), expected, "{pod:?} {image:?}");
        }
    }
}
