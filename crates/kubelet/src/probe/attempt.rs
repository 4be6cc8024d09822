//! One attempt at a probe, by whichever of the four handlers it has (spec `§5.3`).

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, TCPSocketAction,
};
use lifecycle::kinds;
use lifecycle::probe::Answer;
use tokio::time::{Instant, timeout, timeout_at};

use super::Job;
use crate::expand::expand;
use crate::handlers::{self, exec, grpc, http, tcp};
use crate::pull;

/// How often an attempt is made when it cannot be made.
const TRIES: usize = 3;
/// What servers are told of the client.
const AGENT: &str = "kube-probe/1.36";

/// Makes the attempt; one that could not be made is made again at once.
pub(super) async fn make(job: &Job) -> Answer {
    let mut answer = once(job).await;
    for _ in 1..TRIES {
        if !matches!(answer, Answer::Error(_)) {
            break;
        }
        answer = once(job).await;
    }
    answer
}

async fn once(job: &Job) -> Answer {
    let members = kinds::members(&job.pod);
    let Some(member) = members.iter().find(|m| m.name() == job.wanted.container) else {
        return Answer::Error(format!("container {} not found", job.wanted.container));
    };
    let seconds = job.probe.timeout_seconds.unwrap_or(0).max(1);
    let within = Duration::from_secs(u64::from(seconds.unsigned_abs()));
    let probe = &job.probe;
    if let Some(action) = &probe.exec {
        by_exec(job, member.spec, action, within).await
    } else if let Some(action) = &probe.http_get {
        by_http(job, member.spec, action, within).await
    } else if let Some(action) = &probe.tcp_socket {
        by_tcp(job, member.spec, action, within).await
    } else if let Some(action) = &probe.grpc {
        by_grpc(job, action, within).await
    } else {
        Answer::Error(format!("missing probe handler for {}", member.name()))
    }
}

async fn by_exec(
    job: &Job,
    container: &Container,
    action: &ExecAction,
    within: Duration,
) -> Answer {
    // What is taken from elsewhere is empty here, as upstream has it.
    let literal = |name: &str| {
        let env = container.env.iter().flatten();
        let mut env = env.filter(|var| var.name == name);
        env.next_back()
            .map(|var| var.value.clone().unwrap_or_default())
    };
    let words = action.command.iter().flatten();
    let command: Vec<String> = words.map(|word| expand(word, literal)).collect();
    let shown = command.join(" ");
    let running = exec::run(&*job.agent.runtime, &job.wanted.id, command);
    match timeout(within, running).await {
        Ok(Ok(ended)) if ended.code == 0 => Answer::Success,
        Ok(Ok(ended)) => Answer::Failure(ended.output()),
        Ok(Err(error)) => Answer::Error(pull::chain(&error)),
        Err(_) => Answer::Failure(format!(
            "command timed out: {shown:?} timed out after {}s",
            within.as_secs()
        )),
    }
}

async fn by_http(
    job: &Job,
    container: &Container,
    action: &HTTPGetAction,
    within: Duration,
) -> Answer {
    let port = match handlers::port(&action.port, container) {
        Ok(port) => port,
        Err(error) => return Answer::Error(error),
    };
    let host = handlers::host(action.host.as_deref(), &job.pod_ips);
    let get = http::Get::new(action, &host, port, AGENT);
    let answer = match timeout(within, get.send()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Answer::Failure(get.error(&error)),
        Err(_) => {
            let text = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
            return Answer::Failure(get.error(text));
        }
    };
    match answer.status {
        200..=299 => Answer::Success,
        300..=399 => Answer::Warning(format!(
            "Probe terminated redirects, Response body: {}",
            answer.body
        )),
        other => Answer::Failure(format!("HTTP probe failed with statuscode: {other}")),
    }
}

async fn by_tcp(
    job: &Job,
    container: &Container,
    action: &TCPSocketAction,
    within: Duration,
) -> Answer {
    let port = match handlers::port(&action.port, container) {
        Ok(port) => port,
        Err(error) => return Answer::Error(error),
    };
    let host = handlers::host(action.host.as_deref(), &job.pod_ips);
    match timeout(within, tcp::dial(&host, port)).await {
        Ok(Ok(_)) => Answer::Success,
        Ok(Err(error)) => Answer::Failure(error),
        Err(_) => Answer::Failure(format!(
            "dial tcp {}: i/o timeout",
            handlers::join(&host, port)
        )),
    }
}

async fn by_grpc(job: &Job, action: &GRPCAction, within: Duration) -> Answer {
    let Ok(port) = u16::try_from(action.port) else {
        return Answer::Error(format!("invalid port number: {}", action.port));
    };
    let host = handlers::host(None, &job.pod_ips);
    let authority = handlers::join(&host, port);
    let seconds = within.as_secs();
    let until = Instant::now() + within;
    let Ok(Ok(stream)) = timeout_at(until, tcp::dial(&host, port)).await else {
        // Upstream's client tries until the time is over, and says so in these words.
        return Answer::Failure(format!(
            "timeout: failed to connect service {authority:?} within {seconds}s: context deadline exceeded"
        ));
    };
    let service = action.service.as_deref().unwrap_or_default();
    match timeout_at(until, grpc::check(stream, &authority, service, AGENT)).await {
        Ok(Ok(())) => Answer::Success,
        Ok(Err(error)) => Answer::Failure(error),
        Err(_) => Answer::Failure(format!(
            "timeout: health rpc did not complete within {seconds}s"
        )),
    }
}
