//! What an engine does to the machine: every effect, opened; and what of it must not outlive a failed start.

use std::sync::Arc;

use anyhow::Context;
use ports::clock::{Clock, SystemClock};
use ports::runtime::ContainerRuntime;
use runtime::cgroup::Tree;

use crate::engine::PAUSE;
use crate::settings::Settings;

/// The effects of one engine, opened.
pub(crate) struct Effects {
    pub(crate) network: Arc<network::Network>,
    pub(crate) plugins: Arc<network::cni::Plugins>,
    pub(crate) images: Arc<::images::Store>,
    pub(crate) volumes: Arc<volumes::LocalVolumes>,
    pub(crate) runtime: Arc<runtime::Runtime>,
}

impl Effects {
    /// Opens everything that touches the machine, and finds the Pods an earlier engine left running.
    pub(crate) async fn open(settings: &Settings) -> anyhow::Result<Effects> {
        // First what only reads files: when it fails, nothing was made.
        let images = Arc::new(open_images(settings)?);
        let config = network_config(settings);
        let network = tokio::task::spawn_blocking(move || network::Network::open(&config))
            .await?
            .context("bring the Pod network up")?;
        let network = Arc::new(network);
        let opened = Effects::over(settings, images, network.clone()).await;
        if opened.is_err()
            && let Err(error) = network.give_up(&network_config(settings))
        {
            tracing::error!(%error, "the Pod network stays");
        }
        opened
    }

    /// The effects that need a network.
    async fn over(
        settings: &Settings,
        images: Arc<::images::Store>,
        network: Arc<network::Network>,
    ) -> anyhow::Result<Effects> {
        let paths = &settings.paths;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let volumes = Arc::new(volumes::LocalVolumes::new(
            paths.state.join("kubelet"),
            clock,
        ));
        let config = runtime::Config {
            state_dir: paths.runtime(),
            run_dir: paths.run.join("pods"),
            cgroup_root: network.bridge().to_owned(),
            pause: runtime::PauseCommand {
                program: std::env::current_exe().context("find this program")?,
                args: vec![PAUSE.into()],
            },
        };
        let (config_of_plugins, wired) = (plugins_config(settings), network.clone());
        let plugins = tokio::task::spawn_blocking(move || {
            network::cni::Plugins::open(config_of_plugins, wired)
        });
        let plugins = plugins.await?.context("get ready for network plugins")?;
        let plugins = Arc::new(plugins);
        let runtime = Arc::new(
            runtime::Runtime::new(config, images.clone(), plugins.clone())
                .context("set the runtime up")?,
        );
        let effects = Effects {
            network,
            plugins,
            images,
            volumes,
            runtime,
        };
        let recovered = effects.runtime.recover().await;
        if recovered.is_err() {
            effects.remove_cgroups();
        }
        recovered.context("find running Pods again")?;
        Ok(effects)
    }

    /// Takes back what opening made, for an engine that cannot start after all. Pods that run keep what they need.
    pub(crate) async fn give_up(&self, settings: &Settings) {
        if !self.runtime.list_sandboxes(None).await.is_empty() {
            return;
        }
        self.remove_cgroups();
        if let Err(error) = self.network.give_up(&network_config(settings)) {
            tracing::error!(%error, "the Pod network stays");
        }
    }

    /// Groups that hold processes refuse to go, and those of Pods that run are to stay.
    fn remove_cgroups(&self) {
        if let Err(error) = self.runtime.remove_cgroups() {
            tracing::debug!(%error, "cgroups stay");
        }
    }
}

/// Opens the image store, which one process holds at a time.
pub(crate) fn open_images(settings: &Settings) -> anyhow::Result<::images::Store> {
    ::images::Store::open(&settings.paths.state.join("images"), hosts_config(settings))
        .context("open the image store")
}

/// Where registries are, and who we are to them.
fn hosts_config(settings: &Settings) -> ::images::HostsConfig {
    let directory = std::env::var_os("DOCKER_CONFIG").map(std::path::PathBuf::from);
    let directory = directory.or_else(|| Some(std::env::home_dir()?.join(".docker")));
    let docker_config = directory.map(|directory| directory.join("config.json"));
    ::images::HostsConfig {
        certs_dir: Some(settings.paths.certs_d.clone()),
        docker_config,
        ..::images::HostsConfig::default()
    }
}

/// How the Pod network is to be.
pub(crate) fn network_config(settings: &Settings) -> network::Config {
    network::Config {
        state_dir: settings.paths.network(),
        bridge: settings.bridge.clone(),
        is_taken: has_cgroup,
        pod_ranges: settings.pod_ranges,
        node_ip: settings.node_ip,
    }
}

/// Whether there is a group of this name, which is that of another engine's Pods: its bridge may be in another network namespace.
fn has_cgroup(name: &str) -> bool {
    let layout = runtime::cgroup::detect();
    layout.is_ok_and(|layout| Tree::new(layout, name).group("").path().exists())
}

/// Where network plugins are, and what they attached.
fn plugins_config(settings: &Settings) -> network::cni::Config {
    network::cni::Config {
        conf_dir: settings.cni_conf_dir.clone(),
        bin_dirs: settings.cni_bin_dirs.clone(),
        state_dir: settings.paths.network().join("attachments"),
        run_dir: settings.paths.run.join("netns"),
        patience: network::cni::PATIENCE,
    }
}
