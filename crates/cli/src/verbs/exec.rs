//! `exec` and `attach` (§14.8, §14.9).

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::Value;
use tokio::sync::mpsc;

use super::logs::waiting_time;
use crate::args::{AttachArgs, ExecArgs};
use crate::connect::Server;
use crate::failure::Exit;
use crate::pods;
use crate::session::{self, End, Streams};
use crate::terminal::{self, RawTerminal};

/// `carob exec`
pub(crate) async fn exec(server: &Server, args: &ExecArgs) -> anyhow::Result<ExitCode> {
    let word = match args.words.as_slice() {
        [] => bail!("pod, type/name or --filename must be specified"),
        [word] => word,
        _ => bail!(
            "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead\nSee 'carob exec -h' for help and examples"
        ),
    };
    if args.command.is_empty() {
        bail!("you must specify at least one command for the container");
    }
    let timeout = waiting_time(args.pod_running_timeout.as_deref(), Duration::from_secs(60))?;
    let pod = one_pod(server, word, timeout).await?;
    refuse_completed(&pod, "exec into")?;
    let choice = pods::choose(&pod, args.container.as_deref())?;
    if let Some(note) = choice.note.filter(|_| !args.quiet) {
        eprintln!("{note}");
    }
    let streams = streams(args.stdin, args.tty, args.quiet);
    let path = session::path(
        &path_of(server, &pod),
        &choice.container,
        Some(&args.command),
        streams,
    );
    match talk(server, &path, streams, false).await? {
        End::Exit(0) => Ok(ExitCode::SUCCESS),
        End::Exit(code) => Err(Exit {
            message: format!("command terminated with exit code {code}"),
            code,
        }
        .into()),
        End::Failure(message) => bail!("{message}"),
    }
}

/// `carob attach`
pub(crate) async fn attach(server: &Server, args: &AttachArgs) -> anyhow::Result<ExitCode> {
    let word = args
        .pod
        .as_deref()
        .ok_or_else(|| anyhow!("at least 1 argument is required for attach"))?;
    let pod = one_pod(server, word, Duration::from_secs(60)).await?;
    refuse_completed(&pod, "attach")?;
    let choice =
        pods::choose(&pod, args.container.as_deref()).context("cannot attach to the container")?;
    if let Some(note) = choice.note.filter(|_| !args.quiet) {
        eprintln!("{note}");
    }
    let asked = Streams {
        stdin: args.stdin,
        tty: args.tty,
    };
    attach_to(server, &pod, &choice.container, asked, args.quiet).await
}

/// Attaches to a container that runs, as far as what was asked for is possible.
pub(crate) async fn attach_to(
    server: &Server,
    pod: &Value,
    name: &str,
    asked: Streams,
    quiet: bool,
) -> anyhow::Result<ExitCode> {
    let (container, is_ephemeral) = container(pod, name);
    let has_terminal = container["tty"] == true;
    if asked.tty && !has_terminal && !quiet {
        eprintln!("error: Unable to use a TTY - container {name} did not allocate one");
    }
    // The container's terminal is used whether it was asked for or not.
    let streams = streams(asked.stdin, asked.stdin && has_terminal, quiet);
    if !quiet {
        eprintln!(
            "All commands and output from this session will be recorded in container logs, including credentials and sensitive information passed through the command prompt."
        );
        eprintln!("If you don't see a command prompt, try pressing enter.");
    }
    let path = session::path(&path_of(server, pod), name, None, streams);
    let end = talk(server, &path, streams, true).await?;
    if streams.stdin && streams.tty && !quiet {
        eprintln!("{}", resume(server, pod, name, is_ephemeral));
    }
    match end {
        End::Exit(_) => Ok(ExitCode::SUCCESS),
        End::Failure(message) => bail!("{message}"),
    }
}

fn resume(server: &Server, pod: &Value, container: &str, is_ephemeral: bool) -> String {
    let again = format!(
        "carob attach {} -c {container} -n {} -i -t",
        pod["metadata"]["name"].as_str().unwrap_or_default(),
        server.namespace
    );
    if is_ephemeral {
        format!(
            "Session ended, the ephemeral container will not be restarted but may be reattached using '{again}' if it is still running"
        )
    } else {
        format!("Session ended, resume using '{again}' command")
    }
}

/// A container of the spec by its name, and whether it is ephemeral.
fn container<'p>(pod: &'p Value, name: &str) -> (&'p Value, bool) {
    let found = ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .find_map(|list| {
            let containers = pod["spec"][list].as_array()?;
            let container = containers
                .iter()
                .find(|container| container["name"] == name)?;
            Some((container, list == "ephemeralContainers"))
        });
    found.unwrap_or((&Value::Null, false))
}

/// The Pod a word means, the first of a workload's.
pub(crate) async fn one_pod(
    server: &Server,
    word: &str,
    timeout: Duration,
) -> anyhow::Result<Value> {
    let pods = pods::of_word(server, word, pods::Purpose::Session, timeout).await?;
    pods.into_iter()
        .next()
        .ok_or_else(|| anyhow!("no pods found for {word}"))
}

pub(crate) fn path_of(server: &Server, pod: &Value) -> String {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    pods::path(&server.namespace, name)
}

pub(crate) fn refuse_completed(pod: &Value, verb: &str) -> anyhow::Result<()> {
    match pod["status"]["phase"].as_str() {
        Some(phase @ ("Succeeded" | "Failed")) => {
            bail!("cannot {verb} a container in a completed pod; current phase is {phase}")
        }
        _ => Ok(()),
    }
}

/// What is possible of what was asked for.
fn streams(stdin: bool, tty: bool, quiet: bool) -> Streams {
    let usable = stdin && RawTerminal::is_there();
    if tty && !usable && !quiet {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    Streams {
        stdin,
        tty: tty && usable,
    }
}

/// A session between a container and this process's own streams.
async fn talk(
    server: &Server,
    path: &str,
    streams: Streams,
    runs_already: bool,
) -> anyhow::Result<End> {
    let connection = session::connect(server, path).await?;
    let (to, input) = mpsc::channel(4);
    let _raw = streams.tty.then(RawTerminal::enter).transpose()?;
    if streams.tty {
        terminal::follow_size(to.clone(), runs_already)?;
    }
    if streams.stdin {
        terminal::read_stdin(to.clone());
    }
    // Keeps the way open for sizes after the end of input.
    let _open = to;
    session::run(connection, input, terminal::show).await
}
