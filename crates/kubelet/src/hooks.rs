//! Lifecycle hooks of containers (spec `§6`): what they do, and the words for what went wrong.
//!
//! They have no time of their own: `postStart` is part of a start and ends with it, `preStop` has the container's grace.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    ExecAction, HTTPGetAction, LifecycleHandler, Pod, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lifecycle::kinds::Member;
use lifecycle::text::pod_format;

use crate::agent::Agent;
use crate::handlers::{self, exec, http};
use crate::pull;

/// What servers are told of the client.
const AGENT: &str = "kube-lifecycle/1.36";

/// A hook to be run.
pub(crate) struct Hook<'a> {
    pub(crate) agent: &'a Arc<Agent>,
    pub(crate) pod: &'a Pod,
    pub(crate) member: &'a Member<'a>,
    /// The run it belongs to.
    pub(crate) id: &'a str,
    pub(crate) pod_ips: &'a [IpAddr],
}

impl Hook<'_> {
    /// Runs it to its end.
    ///
    /// # Errors
    /// What went wrong, as status shows it.
    pub(crate) async fn run(&self, handler: &LifecycleHandler) -> Result<(), String> {
        if let Some(action) = &handler.exec {
            let failed = |error: String| {
                let words = action.command.as_deref().unwrap_or_default().join(" ");
                self.failed(&format!("Exec lifecycle hook ([{words}])"), &error)
            };
            self.exec(action).await.map_err(failed)
        } else if let Some(action) = &handler.http_get {
            let path = action.path.as_deref().unwrap_or_default();
            let what = format!("HTTP lifecycle hook ({path})");
            self.http(action)
                .await
                .map_err(|error| self.failed(&what, &error))
        } else if let Some(action) = &handler.sleep {
            let seconds = u64::try_from(action.seconds).unwrap_or(0);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(())
        } else {
            Err(format!(
                "invalid handler: {}",
                shown(handler.tcp_socket.as_ref())
            ))
        }
    }

    /// Runs the container's `preStop` hook, if it has one, for at most `grace`. What outlives that ends with the container; a
    /// failure is told and changes nothing.
    pub(crate) async fn pre_stop(&self, grace: Duration) {
        let hooks = self.member.spec.lifecycle.as_ref();
        let Some(handler) = hooks.and_then(|hooks| hooks.pre_stop.as_ref()) else {
            return;
        };
        if let Ok(Err(error)) = tokio::time::timeout(grace, self.run(handler)).await {
            tracing::debug!(
                container = self.member.name(),
                error,
                "a preStop hook failed"
            );
            let event = lifecycle::events::hook_failed(self.member, "PreStop");
            self.agent.recorder.record(self.pod, event);
        }
    }

    fn failed(&self, what: &str, error: &str) -> String {
        format!(
            "{what} for Container {:?} in Pod {:?} failed - error: {error}",
            self.member.name(),
            pod_format(self.pod)
        )
    }

    async fn exec(&self, action: &ExecAction) -> Result<(), String> {
        let command = action.command.clone().unwrap_or_default();
        let words = command.join(" ");
        match exec::run(&*self.agent.runtime, self.id, command).await {
            Ok(ended) if ended.code == 0 => Ok(()),
            Ok(ended) => Err(format!(
                "command '{words}' exited with {}: {}, message: {:?}",
                ended.code,
                ended.stderr,
                ended.output()
            )),
            Err(error) => Err(format!("{}, message: \"\"", pull::chain(&error))),
        }
    }

    /// Whatever a server answers will do.
    async fn http(&self, action: &HTTPGetAction) -> Result<(), String> {
        let port = handlers::port(&action.port, self.member.spec)?;
        let host = handlers::host(action.host.as_deref(), self.pod_ips);
        let get = http::Get::new(action, &host, port, AGENT);
        match get.send().await {
            Ok(_) => Ok(()),
            Err(error) if error == http::NOT_TLS => {
                let plain = get.in_plain();
                plain.send().await.map_err(|error| plain.error(&error))?;
                let event = lifecycle::events::http_fallback(&handlers::join(&host, port));
                self.agent.recorder.record(self.pod, event);
                Ok(())
            }
            Err(error) => Err(get.error(&error)),
        }
    }
}

/// A handler that cannot be run, as Go prints it.
fn shown(tcp: Option<&TCPSocketAction>) -> String {
    let tcp = tcp.map_or("nil".to_owned(), |action| {
        let port = match &action.port {
            IntOrString::Int(port) => format!("{{0 {port} }}"),
            IntOrString::String(name) => format!("{{1 0 {name}}}"),
        };
        let host = action.host.as_deref().unwrap_or_default();
        format!("&TCPSocketAction{{Port:{port},Host:{host},}}")
    });
    format!("&LifecycleHandler{{Exec:nil,HTTPGet:nil,TCPSocket:{tcp},Sleep:nil,}}")
}
