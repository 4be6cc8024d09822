//! `logs` (§14.7): one stream or many, one after another or all at once.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use futures::AsyncBufReadExt;
use futures::future::try_join_all;
use serde_json::Value;

use super::write::print;
use crate::args::LogsArgs;
use crate::connect::Server;
use crate::failure;
use crate::output::percent;
use crate::pods;

/// Lines per container when Pods are chosen by labels.
const TAIL_OF_SELECTED: i64 = 10;

/// What to read, and what to put before its lines.
#[derive(Debug)]
struct Source {
    path: String,
    prefix: String,
}

/// `carob logs`
pub(crate) async fn logs(server: &Server, args: &LogsArgs) -> anyhow::Result<ExitCode> {
    let (word, container) = words(args)?;
    let query = query(args)?;
    let pods = match (&args.selector, word) {
        (Some(selector), None) => pods::with_labels(server, selector).await?,
        (None, Some(word)) => of_word(server, args, word).await?,
        (Some(_), Some(_)) => bail!("only a selector (-l) or a POD name is allowed"),
        (None, None) => bail!(
            "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command"
        ),
    };
    if pods.is_empty() {
        eprintln!("No resources found in {} namespace.", server.namespace);
        return Ok(ExitCode::SUCCESS);
    }
    let mut sources = Vec::new();
    for pod in &pods {
        sources.extend(sources_of(server, args, pod, container, &query)?);
    }
    if args.follow && sources.len() > args.max_log_requests {
        bail!(
            "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, use --max-log-requests to increase the limit",
            sources.len(),
            args.max_log_requests
        );
    }
    if args.follow && sources.len() > 1 {
        let streams = sources.iter().map(|source| one(server, args, source));
        try_join_all(streams).await?;
    } else {
        for source in &sources {
            one(server, args, source).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The Pod's word and the container's, which may stand behind it.
fn words(args: &LogsArgs) -> anyhow::Result<(Option<&str>, Option<&str>)> {
    let inline = args.words.get(1).map(String::as_str);
    if args.words.len() > 2 {
        bail!("expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.");
    }
    if inline.is_some() && args.container.is_some() {
        bail!("only one of -c or an inline [CONTAINER] arg is allowed");
    }
    let container = args.container.as_deref().or(inline);
    if let Some(name) = container.filter(|_| args.all_containers) {
        bail!("--all-containers=true should not be specified with container name {name}");
    }
    Ok((args.words.first().map(String::as_str), container))
}

async fn of_word(server: &Server, args: &LogsArgs, word: &str) -> anyhow::Result<Vec<Value>> {
    let timeout = waiting_time(args.pod_running_timeout.as_deref(), Duration::from_secs(20))?;
    let mut pods = pods::of_word(server, word, pods::Purpose::Logs, timeout)
        .await
        .map_err(|error| pods::missing_for_logs(error, &server.namespace))?;
    if pods.len() > 1 && !args.all_pods {
        let name = pods[0]["metadata"]["name"].as_str().unwrap_or_default();
        eprintln!("Found {} pods, using pod/{name}", pods.len());
        pods.truncate(1);
    }
    Ok(pods)
}

/// A Go duration that must be more than nothing.
pub(crate) fn waiting_time(text: Option<&str>, otherwise: Duration) -> anyhow::Result<Duration> {
    let Some(text) = text else {
        return Ok(otherwise);
    };
    match api::duration::parse_go(text).map(u64::try_from) {
        Ok(Ok(nanoseconds)) if nanoseconds > 0 => Ok(Duration::from_nanos(nanoseconds)),
        Ok(_) => bail!("--pod-running-timeout must be higher than zero"),
        Err(error) => {
            bail!("invalid argument {text:?} for \"--pod-running-timeout\" flag: {error}")
        }
    }
}

/// The query of every stream, without the container.
fn query(args: &LogsArgs) -> anyhow::Result<String> {
    let mut query = String::new();
    let mut add = |name: &str, value: &str| query.push_str(&format!("&{name}={}", percent(value)));
    for (name, on) in [
        ("follow", args.follow),
        ("previous", args.previous),
        ("timestamps", args.timestamps),
        (
            "insecureSkipTLSVerifyBackend",
            args.insecure_skip_tls_verify_backend,
        ),
    ] {
        if on {
            add(name, "true");
        }
    }
    if args.since.is_some() && args.since_time.is_some() {
        bail!("at most one of `sinceTime` or `sinceSeconds` may be specified");
    }
    if let Some(since) = &args.since {
        let nanoseconds = api::duration::parse_go(since)
            .map_err(|error| anyhow!("invalid argument {since:?} for \"--since\" flag: {error}"))?;
        if nanoseconds <= 0 {
            bail!("--since must be greater than 0");
        }
        // Started seconds count, so that nothing wanted is missed.
        let seconds = Duration::from_nanos(nanoseconds.unsigned_abs())
            .as_nanos()
            .div_ceil(1_000_000_000);
        add("sinceSeconds", &seconds.to_string());
    }
    if let Some(time) = &args.since_time {
        api::time::read(time).map_err(anyhow::Error::msg)?;
        add("sinceTime", time);
    }
    match args.tail {
        Some(lines) if lines < -1 => bail!("--tail must be greater than or equal to -1"),
        Some(-1) => {}
        Some(lines) => add("tailLines", &lines.to_string()),
        None if args.selector.is_some() => add("tailLines", &TAIL_OF_SELECTED.to_string()),
        None => {}
    }
    match args.limit_bytes {
        Some(bytes) if bytes < 1 => bail!("--limit-bytes must be greater than 0"),
        Some(bytes) => add("limitBytes", &bytes.to_string()),
        None => {}
    }
    Ok(query)
}

fn sources_of(
    server: &Server,
    args: &LogsArgs,
    pod: &Value,
    container: Option<&str>,
    query: &str,
) -> anyhow::Result<Vec<Source>> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let containers: Vec<String> = if args.all_containers {
        ["initContainers", "containers", "ephemeralContainers"]
            .iter()
            .flat_map(|list| pods::names(pod, list))
            .map(str::to_owned)
            .collect()
    } else {
        let choice = pods::choose(pod, container)?;
        if let Some(note) = choice.note.filter(|_| !args.all_pods) {
            eprintln!("{note}");
        }
        vec![choice.container]
    };
    let source = |container: String| Source {
        path: format!(
            "{}/log?container={}{query}",
            pods::path(&server.namespace, name),
            percent(&container)
        ),
        prefix: if args.prefix || args.all_pods {
            format!("[pod/{name}/{container}] ")
        } else {
            String::new()
        },
    };
    Ok(containers.into_iter().map(source).collect())
}

/// Prints one stream to its end. With `--ignore-errors` a failure is told and no more.
async fn one(server: &Server, args: &LogsArgs, source: &Source) -> anyhow::Result<()> {
    match copy(server, source).await {
        Err(error) if args.ignore_errors && !failure::is_broken_pipe(&error) => {
            print(&format!("{}error: {error}\n", source.prefix))
        }
        other => other,
    }
}

async fn copy(server: &Server, source: &Source) -> anyhow::Result<()> {
    let mut body = std::pin::pin!(server.text(&source.path).await?);
    if source.prefix.is_empty() {
        loop {
            let bytes = body.fill_buf().await?;
            let length = bytes.len();
            if length == 0 {
                return Ok(());
            }
            let mut out = std::io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()?;
            drop(out);
            body.consume_unpin(length);
        }
    }
    let mut line = Vec::new();
    while body.read_until(b'\n', &mut line).await? > 0 {
        let mut out = std::io::stdout().lock();
        out.write_all(source.prefix.as_bytes())?;
        out.write_all(&line)?;
        out.flush()?;
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn asked(flags: &[&str]) -> Result<String, String> {
        #[derive(Parser)]
        struct Only {
            #[command(flatten)]
            args: LogsArgs,
        }
        query(&Only::parse_from([&["logs"], flags].concat()).args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn flags_become_a_query() {
        for (flags, expected) in [
            (&["web"][..], Ok("")),
            (
                &["web", "-f", "-p", "--timestamps"],
                Ok("&follow=true&previous=true&timestamps=true"),
            ),
            (&["web", "--since=1500ms"], Ok("&sinceSeconds=2")),
            (
                &["web", "--since-time=2026-01-02T03:04:05Z"],
                Ok("&sinceTime=2026-01-02T03%3A04%3A05Z"),
            ),
            (&["web", "--tail=-1"], Ok("")),
            (&["web", "--tail", "0"], Ok("&tailLines=0")),
            (&["-l", "a=b"], Ok("&tailLines=10")),
            (&["-l", "a=b", "--tail=-1"], Ok("")),
            (&["web", "--limit-bytes=5"], Ok("&limitBytes=5")),
            (
                &["web", "--limit-bytes=0"],
                Err("--limit-bytes must be greater than 0"),
            ),
            (
                &["web", "--tail=-2"],
                Err("--tail must be greater than or equal to -1"),
            ),
            (&["web", "--since=0"], Err("--since must be greater than 0")),
            (
                &["web", "--since=1s", "--since-time=2026-01-02T03:04:05Z"],
                Err("at most one of `sinceTime` or `sinceSeconds` may be specified"),
            ),
        ] {
            assert_eq!(
                asked(flags),
                expected.map(str::to_owned).map_err(str::to_owned),
                "{flags:?}"
            );
        }
    }
}
