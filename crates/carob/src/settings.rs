//! Settings: flags over the settings file over defaults, resolved into plain values before anything is opened.

mod agent;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use api::names::dns1123_subdomain;
use cli::{AgentArgs, Global, NodeArgs, UpArgs};
use network::{Family, Ranges};
use serde::Deserialize;

use crate::foreground::absolute;

/// Where the API listens unless told otherwise.
const LISTEN: &str = "127.0.0.1:6443";
/// Where a node is reached unless told otherwise, as upstream's.
const KUBELET_PORT: u16 = 10250;
/// Domain of Services unless told otherwise.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// Where network plugins are unless told otherwise, as with other runtimes.
const CNI_BIN_DIR: &str = "/opt/cni/bin";

/// Everything an engine is told.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `--root`, absolute; everything is below it when given.
    pub(crate) root: Option<PathBuf>,
    pub(crate) paths: Paths,
    pub(crate) listen: SocketAddr,
    /// Where a node without an API server of its own is reached by the one it has; 0 is the kernel's choice.
    pub(crate) kubelet_port: u16,
    /// The address others reach this node by, where that is known.
    pub(crate) node_ip: Option<IpAddr>,
    pub(crate) node_name: String,
    pub(crate) bridge: Option<String>,
    pub(crate) pod_ranges: Option<Ranges>,
    pub(crate) service_ranges: Option<Ranges>,
    pub(crate) cluster_domain: String,
    /// Where networks of plugins are configured, absolute; `None` for the built-in network.
    pub(crate) cni_conf_dir: Option<PathBuf>,
    /// Where plugins are, absolute.
    pub(crate) cni_bin_dirs: Vec<PathBuf>,
    /// What the node agent is told.
    pub(crate) agent: agent::Settings,
}

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    /// What must outlive a reboot: store, keys, images, Pods' volumes, logs.
    pub(crate) state: PathBuf,
    /// What ends with the machine: sockets, locks.
    pub(crate) run: PathBuf,
    /// The settings file.
    pub(crate) config: PathBuf,
    /// Registry hosts, in containerd's layout.
    pub(crate) certs_d: PathBuf,
    /// The administrator's kubeconfig.
    pub(crate) kubeconfig: PathBuf,
}

impl Paths {
    fn system() -> Self {
        Paths {
            state: "/var/lib/carob".into(),
            run: "/run/carob".into(),
            config: "/etc/carob/config.yaml".into(),
            certs_d: "/etc/carob/certs.d".into(),
            kubeconfig: "/etc/carob/kubeconfig".into(),
        }
    }

    fn below(root: &Path) -> Self {
        Paths {
            state: root.join("state"),
            run: root.join("run"),
            config: root.join("config.yaml"),
            certs_d: root.join("certs.d"),
            kubeconfig: root.join("kubeconfig"),
        }
    }

    /// State of the Pod network.
    pub(crate) fn network(&self) -> PathBuf {
        self.state.join("network")
    }

    /// Records of sandboxes and containers.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.state.join("runtime")
    }

    /// The running engine's mark.
    pub(crate) fn lock(&self) -> PathBuf {
        self.run.join("engine.lock")
    }

    /// What a detached engine says.
    pub(crate) fn log(&self) -> PathBuf {
        self.state.join("engine.log")
    }
}

/// The settings file; every field may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    listen: Option<String>,
    kubelet_port: Option<u16>,
    node_name: Option<String>,
    bridge: Option<String>,
    pod_range: Option<String>,
    service_range: Option<String>,
    cluster_domain: Option<String>,
    cni_conf_dir: Option<String>,
    cni_bin_dir: Option<String>,
    eviction_hard: Option<BTreeMap<String, String>>,
    eviction_soft: BTreeMap<String, String>,
    eviction_soft_grace_period: BTreeMap<String, String>,
    eviction_minimum_reclaim: BTreeMap<String, String>,
    eviction_max_pod_grace_period: i64,
    eviction_pressure_transition_period: Option<String>,
    image_pull_credentials_verification_policy: Option<String>,
    preloaded_images_verification_allowlist: Vec<String>,
    static_pod_path: Option<PathBuf>,
    max_pods: Option<u32>,
    pod_pids_limit: Option<i64>,
    #[serde(rename = "singleProcessOOMKill")]
    single_process_oom_kill: bool,
    allowed_unsafe_sysctls: Vec<String>,
    crash_loop_back_off: agent::CrashLoopBackOff,
}

impl Settings {
    /// Reads the settings file, if there is one, under the flags.
    pub(crate) fn resolve(global: &Global) -> anyhow::Result<Settings> {
        let root = global
            .root
            .as_deref()
            .map(std::path::absolute)
            .transpose()
            .context("make --root absolute")?;
        let paths = root.as_deref().map_or_else(Paths::system, Paths::below);
        let file = read(&paths.config)?;
        let config = paths.config.clone();
        check(file, paths, root).with_context(|| config.display().to_string())
    }

    /// The same under the flags of `up`.
    pub(crate) fn with(mut self, args: &UpArgs) -> anyhow::Result<Settings> {
        if let Some(listen) = args.listen {
            self.listen = listen;
        }
        self.node_ip = reached_at(self.listen.ip());
        self.with_agent(&args.agent)
    }

    /// The same under the flags of `node`.
    pub(crate) fn with_node(mut self, args: &NodeArgs) -> anyhow::Result<Settings> {
        self.kubelet_port = args.kubelet_port.unwrap_or(self.kubelet_port);
        self.with_agent(&args.agent)
    }

    /// The same under the flags of whoever runs Pods.
    pub(crate) fn with_agent(mut self, args: &AgentArgs) -> anyhow::Result<Settings> {
        if let Some(dir) = &args.cni_conf_dir {
            let dir = std::path::absolute(dir).context("make --cni-conf-dir absolute")?;
            self.cni_conf_dir = Some(dir);
        }
        if let Some(dirs) = &args.cni_bin_dir {
            self.cni_bin_dirs = directories(dirs).context("--cni-bin-dir")?;
        }
        if let Some(path) = &args.pod_manifest_path {
            self.agent.static_pod_path = Some(absolute(path)?);
        }
        Ok(self)
    }
}

/// What the file says, under defaults; the errors name the field.
fn check(file: File, paths: Paths, root: Option<PathBuf>) -> anyhow::Result<Settings> {
    let (pod_ranges, service_ranges) = ranges(&file)?;
    let agent = agent::Settings::check(&file)?;
    Ok(Settings {
        listen: listen(file.listen.as_deref().unwrap_or(LISTEN))?,
        kubelet_port: file.kubelet_port.unwrap_or(KUBELET_PORT),
        node_ip: None,
        node_name: domain("nodeName", file.node_name.unwrap_or_else(host_name))?,
        bridge: file.bridge,
        pod_ranges,
        service_ranges,
        cluster_domain: domain(
            "clusterDomain",
            file.cluster_domain.unwrap_or_else(|| CLUSTER_DOMAIN.into()),
        )?,
        cni_conf_dir: file
            .cni_conf_dir
            .map(std::path::absolute)
            .transpose()
            .context("cniConfDir")?,
        cni_bin_dirs: directories(file.cni_bin_dir.as_deref().unwrap_or(CNI_BIN_DIR))
            .context("cniBinDir")?,
        agent,
        paths,
        root,
    })
}

/// Who listens at one address that others reach has that address as the node's.
fn reached_at(listen: IpAddr) -> Option<IpAddr> {
    let is_for_others = !listen.is_unspecified() && !listen.is_loopback();
    is_for_others.then_some(listen)
}

/// Directories separated by colons.
fn directories(text: &str) -> anyhow::Result<Vec<PathBuf>> {
    let parts = text.split(':').map(std::path::absolute);
    Ok(parts.collect::<io::Result<_>>()?)
}

fn listen(text: &str) -> anyhow::Result<SocketAddr> {
    text.parse()
        .with_context(|| format!("listen: {text:?} is not an address and port such as {LISTEN}"))
}

/// Where Pods and Services have their addresses. Both have those of the same families, in the same order; who names the ranges of
/// one of them only leaves those of the other to the engine, unless they are not of IPv4 alone.
fn ranges(file: &File) -> anyhow::Result<(Option<Ranges>, Option<Ranges>)> {
    let lengths = |family| match family {
        Family::V4 => 8..=29,
        Family::V6 => 48..=125,
    };
    let pods = some_ranges("podRange", file.pod_range.as_deref(), lengths)?;
    let lengths = |family| match family {
        Family::V4 => 8..=30,
        Family::V6 => 64..=126,
    };
    let services = some_ranges("serviceRange", file.service_range.as_deref(), lengths)?;
    match (pods, services) {
        (Some(pods), Some(services)) if pods.overlaps(services) => {
            bail!("podRange {pods} and serviceRange {services} overlap")
        }
        (Some(pods), Some(services)) if !pods.families().eq(services.families()) => {
            bail!(
                "podRange {pods} and serviceRange {services} are not of the same families in the same order"
            )
        }
        (None, Some(services)) if !services.families().eq([Family::V4]) => {
            bail!("serviceRange: {services} needs a podRange of the same families")
        }
        both => Ok(both),
    }
}

fn some_ranges(
    field: &str,
    text: Option<&str>,
    lengths: impl Fn(Family) -> std::ops::RangeInclusive<u8>,
) -> anyhow::Result<Option<Ranges>> {
    let ranges: Option<Ranges> = text.map(str::parse).transpose().context(field.to_owned())?;
    for range in ranges.into_iter().flat_map(Ranges::iter) {
        let lengths = lengths(range.family());
        if !lengths.contains(&range.prefix()) {
            let (least, most) = (lengths.start(), lengths.end());
            bail!("{field}: {range} must have between {least} and {most} fixed bits");
        }
    }
    Ok(ranges)
}

/// A name that goes into DNS.
fn domain(field: &str, text: String) -> anyhow::Result<String> {
    match dns1123_subdomain(&text).first() {
        Some(wrong) => bail!("{field}: {text:?}: {wrong}"),
        None => Ok(text),
    }
}

fn read(path: &Path) -> anyhow::Result<File> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(File::default()),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    serde_saphyr::from_str(&text).map_err(|error| {
        // The first line says it all; a picture of the place follows.
        let words = error.to_string();
        let first = words.lines().next().unwrap_or_default();
        let reason = first.strip_prefix("error: ").unwrap_or(first);
        anyhow::anyhow!("{} is no valid settings file: {reason}", path.display())
    })
}

/// The machine's name as a Node's.
fn host_name() -> String {
    node_name(&rustix::system::uname().nodename().to_string_lossy())
}

/// A name that can be a Node's (RFC 1123): lower case, other characters made hyphens.
fn node_name(host: &str) -> String {
    let lower = host.to_lowercase();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.';
    let name: String = lower
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .collect();
    match name.trim_matches(['-', '.']) {
        "" => "localhost".into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(config: &str) -> anyhow::Result<Settings> {
        let root = tempfile::tempdir().expect("a directory");
        fs::write(root.path().join("config.yaml"), config).expect("writes");
        Settings::resolve(&Global {
            root: Some(root.path().into()),
            ..Global::default()
        })
    }

    #[test]
    fn a_root_moves_everything() {
        let settings = Settings::resolve(&Global {
            root: Some("/srv/one".into()),
            ..Global::default()
        })
        .expect("resolves");
        assert_eq!(settings.paths.kubeconfig, Path::new("/srv/one/kubeconfig"));
        assert_eq!(settings.paths.state, Path::new("/srv/one/state"));
        let system = Settings::resolve(&Global::default()).expect("resolves");
        assert_eq!(system.paths.certs_d, Path::new("/etc/carob/certs.d"));
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let settings =
            resolve("listen: 127.0.0.1:7000\npodRange: 10.9.0.0/16\n").expect("resolves");
        assert_eq!(
            (
                settings.listen.port(),
                settings.pod_ranges.map(|r| r.to_string())
            ),
            (7000, Some("10.9.0.0/16".into()))
        );
        let flags = UpArgs {
            detach: false,
            listen: Some("127.0.0.1:0".parse().expect("an address")),
            agent: AgentArgs {
                cni_conf_dir: Some("/a".into()),
                cni_bin_dir: Some("/b:/c".into()),
                pod_manifest_path: Some("/srv/pods".into()),
            },
        };
        let flagged = settings.with(&flags).expect("resolves");
        assert_eq!(flagged.listen.port(), 0);
        assert_eq!(flagged.cni_conf_dir.as_deref(), Some(Path::new("/a")));
        assert_eq!(flagged.cni_bin_dirs, [Path::new("/b"), Path::new("/c")]);
        let pods = flagged.agent.static_pod_path.as_deref();
        assert_eq!(pods, Some(Path::new("/srv/pods")));
        let plain = resolve("").expect("resolves");
        let plugins = [PathBuf::from("/opt/cni/bin")];
        assert_eq!(
            (&plain.cni_conf_dir, &plain.cni_bin_dirs[..]),
            (&None, &plugins[..])
        );
        let own = resolve("cniConfDir: /etc/cni/net.d\n").expect("resolves");
        assert_eq!(own.cni_conf_dir, Some("/etc/cni/net.d".into()));
        let thresholds = plain.agent.evictions.thresholds.len();
        assert_eq!((plain.listen.port(), thresholds), (6443, 2));
        let none = resolve("evictionHard: {}\n").expect("resolves");
        assert!(none.agent.evictions.thresholds.is_empty());
        let soft = "evictionSoft: {imagefs.available: 10%}\nevictionSoftGracePeriod: {imagefs.available: 1m}\n";
        let soft = resolve(soft).expect("resolves");
        assert_eq!(soft.agent.evictions.thresholds.len(), 3);
    }

    #[test]
    fn ranges_are_of_one_family_or_of_both() {
        let shown = |config| {
            let settings = resolve(config).expect("resolves");
            [settings.pod_ranges, settings.service_ranges].map(|ranges| {
                let ranges = ranges.map(|ranges| ranges.to_string());
                ranges.unwrap_or_default()
            })
        };
        assert_eq!(shown(""), ["", ""]);
        assert_eq!(shown("podRange: fd00:9::/64\n"), ["fd00:9::/64", ""]);
        let both =
            shown("podRange: 10.9.0.0/16, fd00:9::/64\nserviceRange: 10.8.0.0/16,fd00:8::/112\n");
        assert_eq!(
            both,
            ["10.9.0.0/16,fd00:9::/64", "10.8.0.0/16,fd00:8::/112"]
        );
    }

    #[test]
    fn the_agents_settings_have_upstreams_names() {
        let agent = |text| resolve(text).expect("resolves").agent;
        let plain = agent("");
        assert_eq!((plain.max_pods, plain.pod_pids_limit), (1000, None));
        assert_eq!(plain.static_pod_path, None);
        let pods = agent("staticPodPath: /etc/carob/manifests\n").static_pod_path;
        assert_eq!(pods.as_deref(), Some(Path::new("/etc/carob/manifests")));
        assert_eq!(agent("podPidsLimit: -1\n").pod_pids_limit, None);
        let all = agent(
            "maxPods: 20\npodPidsLimit: 64\nsingleProcessOOMKill: true\nallowedUnsafeSysctls: [kernel.msg*]\n\
             crashLoopBackOff: {maxContainerRestartPeriod: 5s}\n",
        );
        assert_eq!((all.max_pods, all.pod_pids_limit), (20, Some(64)));
        assert!(all.single_process_oom_kill && !plain.single_process_oom_kill);
        assert_ne!(all.unsafe_sysctls, plain.unsafe_sysctls);
        let most = |agent: &agent::Settings| agent.policy.crash_back_off_max.as_secs();
        assert_eq!((most(&all), most(&plain)), (5, 300));
    }

    #[test]
    fn mistakes_in_the_file_are_told_with_its_name() {
        for bad in [
            "listen: nowhere\n",
            "podRanges: 10.0.0.0/8\n",
            "podRange: 10.0.0.0/40\n",
            "podRange: 10.0.0.0/30\n",
            "serviceRange: 10.0.0.0/31\n",
            "serviceRange: nowhere\n",
            "podRange: fd00::/40\n",
            "podRange: 10.9.0.0/16,10.10.0.0/16\n",
            "serviceRange: fd00::/48\n",
            "serviceRange: 10.96.0.0/16,fd00::/112\n",
            "podRange: fd00::/64\nserviceRange: 10.96.0.0/16\n",
            "podRange: 10.9.0.0/16,fd00::/64\nserviceRange: fd01::/112,10.96.0.0/16\n",
            "nodeName: Bad_Name\n",
            "clusterDomain: a b\n",
            "cniConfDir: ''\n",
            "cniBinDir: /a::/b\n",
            "podRange: 10.50.4.0/24\nserviceRange: 10.50.0.0/16\n",
            "evictionHard: {rootfs.available: 10%}\n",
            "evictionSoft: {memory.available: 1Gi}\n",
            "evictionSoftGracePeriod: {memory.available: 90}\n",
            "evictionMinimumReclaim: {memory.available: -1}\n",
            "evictionMaxPodGracePeriod: -1\n",
            "evictionPressureTransitionPeriod: soon\n",
            "evictionHard: {memory.available: none}\n",
            "imagePullCredentialsVerificationPolicy: Sometimes\n",
            "preloadedImagesVerificationAllowlist: [docker.io/a]\n",
            "staticPodPath: manifests\n",
            "maxPods: 0\n",
            "podPidsLimit: 0\n",
            "podPidsLimit: -2\n",
            "allowedUnsafeSysctls: [vm.swappiness]\n",
            "crashLoopBackOff: {maxContainerRestartPeriod: 0s}\n",
            "crashLoopBackOff: {maxContainerRestartPeriod: 6m}\n",
            "listen: [\n",
        ] {
            let error = format!("{:#}", resolve(bad).expect_err(bad));
            let field = bad.split(':').next().unwrap_or_default();
            assert!(
                error.contains("config.yaml") && (error.contains(field) || bad.ends_with("[\n")),
                "{error}"
            );
        }
    }

    #[test]
    fn any_machine_has_a_name() {
        for (host, name) in [
            ("Box.Example", "box.example"),
            ("my_box", "my-box"),
            ("-", "localhost"),
            ("", "localhost"),
        ] {
            assert_eq!(node_name(host), name);
        }
    }
}
