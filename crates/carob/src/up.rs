//! `carob up`: run the engine here, or detached until it is Ready.

use cli::UpArgs;

use crate::engine::Engine;
use crate::foreground::{self, Running};
use crate::settings::Settings;

/// Runs the engine until it is told to end.
pub(crate) fn foreground(settings: &Settings) -> anyhow::Result<()> {
    foreground::run(settings, async |settings, _| Engine::start(settings).await)
}

/// Starts the engine in a session of its own and returns once its node is Ready.
pub(crate) fn detached(settings: &Settings, args: &UpArgs) -> anyhow::Result<()> {
    let kubeconfig = foreground::detached(settings, &args.agent, |command| {
        command
            .arg("up")
            .args(args.listen.map(|listen| format!("--listen={listen}")));
        Ok(())
    })?;
    eprintln!("the engine is Ready; export KUBECONFIG={kubeconfig}");
    Ok(())
}

impl Running for Engine {
    fn greeting(&self, settings: &Settings) -> (String, String) {
        let kubeconfig = settings.paths.kubeconfig.display().to_string();
        let address = self.address();
        let words = format!("serving at https://{address}; export KUBECONFIG={kubeconfig}");
        (kubeconfig, words)
    }

    async fn stop(&mut self) {
        Engine::stop(self).await;
    }

    async fn give_up(&mut self, settings: &Settings) {
        Engine::give_up(self, settings).await;
    }
}
