//! `carob play`: on the running engine, or on one of its own for as long as it lasts.

use std::process::ExitCode;

use anyhow::Context;
use cli::{Global, PlayArgs, Signals, Verb};

use crate::down;
use crate::engine::Engine;
use crate::instance;
use crate::settings::Settings;

/// Runs what the files describe. An engine of its own listens at a port of the kernel's choice; at the end it goes, and with
/// it everything it made, unless containers were there before or are to stay.
pub(crate) fn play(
    args: PlayArgs,
    global: &Global,
    mut settings: Settings,
) -> anyhow::Result<ExitCode> {
    let names_a_server = global.kubeconfig.is_some() || global.context.is_some();
    if names_a_server || instance::is_running(&settings.paths.lock())? {
        let mut global = global.clone();
        if !names_a_server {
            global.kubeconfig = Some(settings.paths.kubeconfig);
        }
        return crate::block_on(Box::pin(cli::run(Verb::Play(args), &global)));
    }
    crate::require_root()?;
    // Pods that an earlier engine left are not ours to end.
    let had_pods = runtime::has_sandboxes(&settings.paths.runtime())
        .context("look for Pods of an earlier engine")?;
    settings.listen.set_port(0);
    let played = crate::block_on(Box::pin(async {
        // From here on nothing ends without having cleaned up.
        let signals = Signals::new().context("listen for signals")?;
        let mut engine = Engine::start(&settings).await?;
        let played = cli::play(engine.client(), &args, signals).await;
        engine.stop().await;
        played
    }));
    // The engine's last tasks went with their async runtime, and let go of the stores.
    if !args.keep && !had_pods {
        crate::block_on(Box::pin(down::clear(&settings)))?;
    }
    played
}
