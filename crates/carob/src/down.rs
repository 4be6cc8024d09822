//! `carob down`: end the engine, and with `--all` everything it started.

use anyhow::Context;
use cli::DownArgs;
use ports::runtime::ContainerRuntime;
use ports::volumes::Volumes;

use crate::effects::{self, Effects};
use crate::instance::{self, Instance};
use crate::settings::Settings;

/// Ends the engine. With `--all` every Pod is stopped, and network, mounts and cgroups are removed; what the API knows stays.
pub(crate) fn down(settings: &Settings, args: &DownArgs) -> anyhow::Result<()> {
    crate::require_root()?;
    let was_running = instance::stop(&settings.paths.lock())?;
    if !was_running && !args.all {
        eprintln!("no engine is running");
        return Ok(());
    }
    if !args.all {
        eprintln!("the engine has ended; containers go on");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the async runtime")?;
    runtime.block_on(clear(settings))?;
    eprintln!("the engine and its Pods have ended");
    Ok(())
}

/// Stops every Pod and removes network, mounts and cgroups; no engine may run.
pub(crate) async fn clear(settings: &Settings) -> anyhow::Result<()> {
    let _instance = Instance::acquire(&settings.paths.lock())?;
    if !settings.paths.network().join("network.json").exists() {
        return Ok(());
    }
    let effects = Effects::open(settings).await?;
    let sandboxes = effects.runtime.list_sandboxes(None).await;
    let stops = sandboxes.iter().map(|sandbox| async {
        effects.runtime.stop_sandbox(&sandbox.id).await?;
        effects.runtime.remove_sandbox(&sandbox.id).await
    });
    futures::future::try_join_all(stops)
        .await
        .context("stop the Pods")?;
    for uid in effects.volumes.pods().await? {
        effects
            .volumes
            .teardown(&uid)
            .await
            .with_context(|| format!("remove the volumes of Pod {uid}"))?;
    }
    effects
        .volumes
        .remove()
        .await
        .context("remove where volumes were kept")?;
    effects.runtime.remove_cgroups()?;
    effects
        .network
        .remove(&effects::network_config(settings))
        .context("remove the Pod network")?;
    Ok(())
}
