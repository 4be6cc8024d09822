//! What is mounted into a container: its volumes, and the files the agent writes (spec `§3.6`, `§8.2` to `§8.4`, `§10.5`).

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use lifecycle::Event;
use ports::runtime::{ImageMount, Mount, MountPropagation};

use crate::blocking;
use crate::container::Job;
use crate::env::Env;
use crate::expand::expand_strictly;
use crate::hosts::{self, Resolver};
use crate::pull::{Found, OfVolumes};
use crate::sources;

/// The host file behind a container's termination message, one per run (spec `§3.6`).
pub(crate) fn message_file(pod_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_dir
        .join("containers")
        .join(container)
        .join(format!("{attempt:08x}"))
}

/// All mounts of a container.
pub(crate) struct Mounts {
    /// Those of the node's paths, outer ones first.
    pub(crate) binds: Vec<Mount>,
    pub(crate) images: Vec<ImageMount>,
}

/// All mounts of a container that mounts these images.
///
/// # Errors
/// The text of a `CreateContainerConfigError`.
pub(crate) async fn build(
    job: &Job,
    container: &Container,
    images: &OfVolumes,
    env: &Env,
) -> Result<Mounts, String> {
    let (mut binds, mut image_mounts) = (Vec::new(), Vec::new());
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        match images.get(&mount.name) {
            Some(image) => image_mounts.push(image_mount(mount, image, env)?),
            None => binds.push(volume(job, container, mount, index, env).await?),
        }
    }
    let own = own_files(job, container).await?;
    let taken = |path: &Path| {
        binds.iter().any(|m: &Mount| m.container_path == path)
            || image_mounts
                .iter()
                .any(|m: &ImageMount| m.container_path == path)
    };
    let own: Vec<Mount> = own
        .into_iter()
        .filter(|m| !taken(&m.container_path))
        .collect();
    binds.extend(own);
    binds.sort_by_key(|m| m.container_path.components().count());
    Ok(Mounts {
        binds,
        images: image_mounts,
    })
}

/// The mount of an image, which is read-only whatever the mount says (spec `§10.7`).
fn image_mount(
    mount: &VolumeMount,
    (image, name): &Found,
    env: &Env,
) -> Result<ImageMount, String> {
    Ok(ImageMount {
        container_path: absolute(&mount.mount_path),
        image_id: image.id.clone(),
        image: name.clone(),
        sub_path: sub_path(mount, env)?.unwrap_or_default().into(),
    })
}

async fn volume(
    job: &Job,
    container: &Container,
    mount: &VolumeMount,
    index: usize,
    env: &Env,
) -> Result<Mount, String> {
    let missing = || {
        format!(
            "cannot find volume {:?} to mount into container {:?}",
            mount.name, container.name
        )
    };
    let volumes = job
        .pod
        .spec
        .as_ref()
        .and_then(|s| s.volumes.as_deref())
        .unwrap_or_default();
    let declared: &Volume = volumes
        .iter()
        .find(|v| v.name == mount.name)
        .ok_or_else(missing)?;
    let place = job.volumes.get(&mount.name).ok_or_else(missing)?;
    let sub_path = sub_path(mount, env)?;
    let host_path = match sub_path {
        None => place.clone(),
        Some(sub_path) => {
            let uid = job.pod.metadata.uid.as_deref().unwrap_or_default();
            let pinned = job
                .agent
                .volumes
                .ensure_sub_path(uid, &mount.name, &sub_path, &container.name, index)
                .await;
            pinned.map_err(|error| {
                tracing::warn!(pod = uid, container = container.name, %error, "preparing a subPath");
                format!("failed to prepare subPath for volumeMount {:?} of container {:?}", mount.name, container.name)
            })?
        }
    };
    let readonly = mount.read_only.unwrap_or(false) || sources::always_read_only(declared);
    Ok(Mount {
        container_path: absolute(&mount.mount_path),
        host_path,
        readonly,
        recursive_readonly: readonly
            && matches!(
                mount.recursive_read_only.as_deref(),
                Some("Enabled" | "IfPossible")
            ),
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => MountPropagation::HostToContainer,
            Some("Bidirectional") => MountPropagation::Bidirectional,
            _ => MountPropagation::Private,
        },
    })
}

/// The path below the volume, expanded; `None` for the whole volume.
fn sub_path(mount: &VolumeMount, env: &Env) -> Result<Option<String>, String> {
    let plain = mount.sub_path.clone().filter(|p| !p.is_empty());
    match mount.sub_path_expr.as_deref().filter(|p| !p.is_empty()) {
        None => Ok(plain),
        Some(expression) => {
            let expanded = expand_strictly(expression, |name| env.get(name).map(str::to_owned));
            let path =
                expanded.map_err(|names| format!("missing value for {}", names.join(", ")))?;
            let escapes = path.starts_with('/') || path.split('/').any(|part| part == "..");
            if escapes {
                Err(format!(
                    "subPath {path:?} must be a relative path without '..'"
                ))
            } else {
                Ok(Some(path))
            }
        }
    }
}

fn absolute(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

/// Text files of the Pod, and this run's termination message file.
struct OwnFiles {
    pod_dir: PathBuf,
    hosts: Option<String>,
    resolver: String,
    hostname: Option<String>,
    message: PathBuf,
    logs: PathBuf,
}

async fn own_files(job: &Job, container: &Container) -> Result<Vec<Mount>, String> {
    let (agent, pod) = (&job.agent, &job.pod);
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let pod_dir = agent
        .volumes
        .pod_dir(uid)
        .await
        .map_err(|e| e.to_string())?;
    let names = hosts::names(pod, &agent.config.cluster_domain)?;
    let on_host = pod
        .spec
        .as_ref()
        .and_then(|s| s.host_network)
        .unwrap_or(false);
    let node_hosts = if on_host {
        Some(read_node_file(&agent.config.hosts_file))
    } else {
        None
    };
    let node_resolver = Resolver::parse(&read_node_file(&agent.config.resolv_conf));
    let (resolver, events) = hosts::resolver(
        pod,
        &node_resolver,
        &agent.config.cluster_dns,
        &agent.config.cluster_domain,
    );
    for (reason, message) in events {
        agent.recorder.record(pod, Event::warning(reason, message));
    }
    let files = OwnFiles {
        message: message_file(&pod_dir, &container.name, job.start.restart_count),
        hosts: hosts_text(pod, &job.pod_ips, &names, node_hosts.as_deref()),
        resolver: resolver.text(),
        hostname: (!on_host).then(|| format!("{}\n", names.kernel)),
        logs: agent.log_directory(pod).join(&container.name),
        pod_dir,
    };
    let message_path = absolute(
        container
            .termination_message_path
            .as_deref()
            .unwrap_or("/dev/termination-log"),
    );
    let read_only_root = container
        .security_context
        .as_ref()
        .and_then(|s| s.read_only_root_filesystem)
        .unwrap_or(false);
    blocking::run(move || write(files, message_path, read_only_root)).await
}

/// Without an address there is no hosts file to write (spec `§8.3`).
fn hosts_text(
    pod: &Pod,
    ips: &[IpAddr],
    names: &hosts::Names,
    node_hosts: Option<&str>,
) -> Option<String> {
    (!ips.is_empty() || node_hosts.is_some()).then(|| hosts::hosts(pod, ips, names, node_hosts))
}

/// A node without the file has nothing to say in it.
fn read_node_file(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn write(
    files: OwnFiles,
    message_path: PathBuf,
    read_only_root: bool,
) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    let mut put =
        |file: PathBuf, text: &str, mode: u32, at: PathBuf, readonly: bool| -> Result<(), String> {
            let failed = |e: std::io::Error| format!("failed to write {}: {e}", file.display());
            // Truncating a file has its new contents written to disk at once, on some file systems.
            if !std::fs::read(&file).is_ok_and(|there| there == text.as_bytes()) {
                std::fs::write(&file, text).map_err(failed)?;
            }
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode))
                .map_err(failed)?;
            let (propagation, recursive_readonly) = (MountPropagation::Private, false);
            mounts.push(Mount {
                container_path: at,
                host_path: file,
                readonly,
                recursive_readonly,
                propagation,
            });
            Ok(())
        };
    let make_dir = |dir: &Path| {
        std::fs::create_dir_all(dir).map_err(|e| format!("failed to make {}: {e}", dir.display()))
    };
    if let Some(dir) = files.message.parent() {
        make_dir(dir)?;
    }
    make_dir(&files.logs)?;
    if let Some(text) = &files.hosts {
        put(
            files.pod_dir.join("etc-hosts"),
            text,
            0o644,
            "/etc/hosts".into(),
            false,
        )?;
    }
    if let Some(text) = &files.hostname {
        put(
            files.pod_dir.join("hostname"),
            text,
            0o644,
            "/etc/hostname".into(),
            read_only_root,
        )?;
    }
    put(
        files.pod_dir.join("resolv.conf"),
        &files.resolver,
        0o644,
        "/etc/resolv.conf".into(),
        read_only_root,
    )?;
    put(files.message, "", 0o666, message_path, false)?;
    Ok(mounts)
}
