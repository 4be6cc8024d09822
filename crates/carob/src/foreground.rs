//! What runs until it is told to end, an engine or a node: here, or detached until it is Ready.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use cli::{AgentArgs, Signals};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::settings::Settings;

/// Tells a detached process to say on its standard output when it is Ready: what follows on the line is for whoever started it.
const READY_LINE: &str = "ready ";

/// Exit code of what a second signal ended.
const INTERRUPTED: i32 = 130;

/// What runs.
pub(crate) trait Running {
    /// What is said when it is Ready: for whoever started it, and for people.
    fn greeting(&self, settings: &Settings) -> (String, String);
    /// Ends every component; containers go on.
    async fn stop(&mut self);
    /// Ends it as if it had not been started.
    async fn give_up(&mut self, settings: &Settings);
}

/// Runs what `start` starts until it is told to end (SIGTERM, SIGINT); told a second time, it ends at once. Who starts is told, too: what
/// it waits for is not to come any more.
pub(crate) fn run<R: Running>(
    settings: &Settings,
    start: impl AsyncFnOnce(&Settings, CancellationToken) -> anyhow::Result<R>,
) -> anyhow::Result<()> {
    crate::require_root()?;
    init_logging();
    outlive_pods();
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let told = CancellationToken::new();
        let mut starting = pin!(start(settings, told.clone()));
        let mut running = tokio::select! {
            started = &mut starting => started?,
            () = signals.next() => {
                told.cancel();
                tokio::select! {
                    // Half of it cannot be stopped, the whole can.
                    started = &mut starting => {
                        started?.give_up(settings).await;
                        bail!("interrupted before the node was Ready");
                    }
                    () = signals.next() => std::process::exit(INTERRUPTED),
                }
            }
        };
        let (ready, words) = running.greeting(settings);
        let mut stdout = std::io::stdout();
        // Whoever started us may have gone; we go on all the same.
        let _ = writeln!(stdout, "{READY_LINE}{ready}").and_then(|()| stdout.flush());
        eprintln!("{words}");
        signals.next().await;
        tokio::select! {
            () = running.stop() => Ok(()),
            // What it left is what a crash leaves: the next one finds its way.
            () = signals.next() => std::process::exit(INTERRUPTED),
        }
    })
}

/// Has the kernel end Pods before the engine where memory runs out, as upstream's agents ask for it (spec/pod-lifecycle 12.5).
fn outlive_pods() {
    if let Err(error) = fs::write("/proc/self/oom_score_adj", "-999") {
        tracing::debug!(%error, "the engine counts as any other process where memory runs out");
    }
}

/// A path from here, for a process that is elsewhere.
pub(crate) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("make {} absolute", path.display()))
}

/// Starts this program with the verb and flags that `arguments` add, in a session of its own, and returns once it is Ready; what it says then.
pub(crate) fn detached(
    settings: &Settings,
    agent: &AgentArgs,
    arguments: impl FnOnce(&mut Command) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    crate::require_root()?;
    fs::create_dir_all(&settings.paths.state)
        .with_context(|| format!("make {}", settings.paths.state.display()))?;
    let log_path = settings.paths.log();
    let log = File::options()
        .create(true)
        .append(true)
        .open(&log_path)
        .with_context(|| format!("open {}", log_path.display()))?;
    let said_before = log.metadata()?.len();
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    arguments(&mut command)?;
    of_agent(settings, agent, &mut command)?;
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    // SAFETY: setsid is async-signal-safe and touches nothing of ours.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into));
    }
    let mut engine = command.spawn().context("start the engine")?;
    let mut said = String::new();
    let mut byte = [0];
    let mut stdout = engine.stdout.take().context("hear the engine")?;
    while !said.ends_with('\n') && stdout.read(&mut byte)? == 1 {
        said.push(char::from(byte[0]));
    }
    if let Some(ready) = said.trim_end().strip_prefix(READY_LINE) {
        return Ok(ready.to_owned());
    }
    let status = engine.wait()?;
    let text = fs::read_to_string(&log_path).unwrap_or_default();
    let said = text
        .get(usize::try_from(said_before).unwrap_or_default()..)
        .unwrap_or_default();
    match said
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("error: "))
    {
        Some(reason) => bail!("{reason}"),
        None => bail!(
            "the engine did not start ({status}), see {}",
            log_path.display()
        ),
    }
}

/// The flags of whoever runs Pods, for a process that starts elsewhere.
fn of_agent(settings: &Settings, args: &AgentArgs, command: &mut Command) -> anyhow::Result<()> {
    if let Some(dir) = &args.cni_conf_dir {
        command.arg("--cni-conf-dir").arg(absolute(dir)?);
    }
    if args.cni_bin_dir.is_some() {
        let dirs = &settings.clone().with_agent(args)?.cni_bin_dirs;
        command
            .arg("--cni-bin-dir")
            .arg(std::env::join_paths(dirs)?);
    }
    if let Some(path) = &args.pod_manifest_path {
        command.arg("--pod-manifest-path").arg(absolute(path)?);
    }
    if let Some(root) = &settings.root {
        command.arg("--root").arg(root);
    }
    Ok(())
}

/// What is told unless `CAROB_LOG` says otherwise.
const LOG: &str = "info";
/// The name server's library tells of every question, unless `CAROB_LOG` names it.
const QUIET: &str = "hickory_server=warn";

fn init_logging() {
    let wanted = std::env::var("CAROB_LOG").unwrap_or_else(|_| LOG.into());
    let filter = EnvFilter::try_new(format!("{QUIET},{wanted}"))
        .unwrap_or_else(|_| format!("{QUIET},{LOG}").into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}
