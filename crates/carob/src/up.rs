//! `carob up`: run the engine here, or detached until it is Ready.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use cli::{Signals, UpArgs};
use tracing_subscriber::EnvFilter;

use crate::engine::Engine;
use crate::settings::Settings;

/// Tells a detached engine to say on its standard output when it is Ready: the line is the kubeconfig's path.
const READY_LINE: &str = "ready ";

/// Exit code of an engine that a second signal ended.
const INTERRUPTED: i32 = 130;

/// Runs the engine until it is told to end (SIGTERM, SIGINT); told a second time, it ends at once.
pub(crate) fn foreground(settings: &Settings) -> anyhow::Result<()> {
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
        let mut starting = pin!(Engine::start(settings));
        let mut engine = tokio::select! {
            started = &mut starting => started?,
            () = signals.next() => tokio::select! {
                // Half an engine cannot be stopped, a whole one can.
                started = &mut starting => {
                    started?.give_up(settings).await;
                    bail!("interrupted before the node was Ready");
                }
                () = signals.next() => std::process::exit(INTERRUPTED),
            },
        };
        let kubeconfig = settings.paths.kubeconfig.display();
        let mut stdout = std::io::stdout();
        // Whoever started us may have gone; the engine serves all the same.
        let _ = writeln!(stdout, "{READY_LINE}{kubeconfig}").and_then(|()| stdout.flush());
        eprintln!(
            "serving at https://{}; export KUBECONFIG={kubeconfig}",
            engine.address()
        );
        signals.next().await;
        tokio::select! {
            () = engine.stop() => Ok(()),
            // What it left is what a crash leaves: the next engine finds its way.
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

/// Starts the engine in a session of its own and returns once its node is Ready.
pub(crate) fn detached(settings: &Settings, args: &UpArgs) -> anyhow::Result<()> {
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
    command
        .arg("up")
        .args(args.listen.map(|listen| format!("--listen={listen}")));
    if let Some(dir) = &args.cni_conf_dir {
        // It starts elsewhere.
        command.arg("--cni-conf-dir").arg(std::path::absolute(dir)?);
    }
    if args.cni_bin_dir.is_some() {
        let dirs = &settings.clone().with(args)?.cni_bin_dirs;
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
    let Some(kubeconfig) = said.trim_end().strip_prefix(READY_LINE) else {
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
    };
    eprintln!("the engine is Ready; export KUBECONFIG={kubeconfig}");
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
