//! Logs, exec, attach and port forwarding: the agent's side of the API's streaming verbs (spec `§13.2`).

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ContainerStatus as Reported, Pod};
use lifecycle::RUNTIME_NAME;
use ports::node::{LogOptions, NodeError, NodeServer, Target, Usage};
use ports::runtime::{ContainerState, ContainerStatus, SandboxState};
use ports::streams::{ExecRequest, LogStream, Reader, Session, StreamError, Writer};
use serde_json::Value;

use crate::agent::{Agent, View};
use crate::{logs, usage};

/// Serves what workers publish.
pub(crate) struct Server {
    agent: Arc<Agent>,
}

impl Server {
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        Server { agent }
    }

    async fn running(&self, target: &Target) -> Result<ContainerStatus, NodeError> {
        let view = self
            .agent
            .view(target)
            .await
            .map(|view| view.borrow().clone());
        let is_it = |c: &&ContainerStatus| {
            c.name == target.container && matches!(c.state, ContainerState::Running { .. })
        };
        let found = view
            .as_ref()
            .and_then(|v| v.containers.iter().find(is_it).cloned());
        found.ok_or_else(|| NodeError {
            code: 500,
            message: format!("container not found ({:?})", target.container),
        })
    }
}

#[async_trait]
impl NodeServer for Server {
    async fn logs(&self, target: &Target, options: LogOptions) -> Result<LogStream, NodeError> {
        let view = self
            .agent
            .view(target)
            .await
            .ok_or_else(|| unavailable(target))?;
        let id = {
            let view = view.borrow();
            choose(target, &view, options.previous)?
        };
        let gone = format!("unable to retrieve container logs for {RUNTIME_NAME}://{id}");
        let path = view
            .borrow()
            .containers
            .iter()
            .find(|c| c.id == id)
            .map(|c| c.log_path.clone());
        Ok(match path {
            Some(path) if path.exists() => logs::stream(path, options, view, id),
            _ => logs::text(gone),
        })
    }

    async fn exec(&self, target: &Target, request: ExecRequest) -> Result<Session, NodeError> {
        let container = self.running(target).await?;
        self.agent
            .runtime
            .exec(&container.id, request)
            .await
            .map_err(refused)
    }

    async fn attach(&self, target: &Target, stdin: bool) -> Result<Session, NodeError> {
        let container = self.running(target).await?;
        self.agent
            .runtime
            .attach(&container.id, stdin)
            .await
            .map_err(refused)
    }

    async fn port_forward(
        &self,
        target: &Target,
        port: u16,
    ) -> Result<(Reader, Writer), NodeError> {
        let runtime = &self.agent.runtime;
        let uid = self.agent.resolve(target).await;
        let uid = uid.as_deref().unwrap_or(&target.uid);
        let sandboxes = runtime.list_sandboxes(Some(uid)).await;
        let ready = sandboxes.iter().find(|s| s.state == SandboxState::Ready);
        let sandbox = ready.ok_or_else(|| NodeError {
            code: 404,
            message: "pod does not exist".into(),
        })?;
        let connected = runtime.port_forward(&sandbox.id, port).await;
        connected.map_err(|error| NodeError {
            code: 500,
            message: format!(
                "error forwarding port {port} to pod {}, uid : {}",
                sandbox.id,
                crate::pull::chain(&error)
            ),
        })
    }

    async fn pods(&self) -> Vec<Value> {
        self.agent.every_pod_listed().await;
        let views = self.agent.views.all();
        views.iter().map(|view| shown(view)).collect()
    }

    async fn usage(&self, pods: &BTreeSet<String>) -> Result<Usage, NodeError> {
        usage::measure(&self.agent, pods).await
    }
}

/// A Pod as the API shows it, with the status that is known here.
fn shown(view: &View) -> Value {
    let mut pod = Pod::clone(&view.pod);
    pod.status = Some(view.status.clone());
    // What has been read as JSON can be written as such.
    serde_json::to_value(pod).unwrap_or_default()
}

fn refused(error: StreamError) -> NodeError {
    NodeError {
        code: 500,
        message: crate::pull::chain(&error),
    }
}

fn bad(message: String) -> NodeError {
    NodeError { code: 400, message }
}

fn unavailable(target: &Target) -> NodeError {
    bad(format!(
        "container {:?} in pod {:?} is not available",
        target.container, target.pod
    ))
}

/// The id of the run whose log is asked for.
fn choose(target: &Target, view: &View, previous: bool) -> Result<String, NodeError> {
    let status = reported(view, &target.container).ok_or_else(|| unavailable(target))?;
    let place = format!("container {:?} in pod {:?}", target.container, target.pod);
    let state = status.state.clone().unwrap_or_default();
    let last = status
        .last_state
        .as_ref()
        .and_then(|s| s.terminated.as_ref())
        .and_then(|t| bare(t.container_id.as_deref()));
    if previous {
        return last.ok_or_else(|| bad(format!("previous terminated {place} not found")));
    }
    if state.running.is_some() {
        return bare(status.container_id.as_deref()).ok_or_else(|| unavailable(target));
    }
    if let Some(terminated) = state.terminated {
        return bare(terminated.container_id.as_deref())
            .or(last)
            .ok_or_else(|| bad(format!("{place} is terminated")));
    }
    let reason = state.waiting.and_then(|w| w.reason).unwrap_or_default();
    last.ok_or_else(|| {
        let why = match reason.as_str() {
            "ErrImagePull" => "image can't be pulled",
            "ImagePullBackOff" => "trying and failing to pull image",
            other => other,
        };
        bad(format!("{place} is waiting to start: {why}"))
    })
}

fn reported<'a>(view: &'a View, name: &str) -> Option<&'a Reported> {
    let status = &view.status;
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    lists
        .into_iter()
        .flatten()
        .flatten()
        .find(|s| s.name == name)
}

/// The id without the runtime's name.
fn bare(id: Option<&str>) -> Option<String> {
    let (_, id) = id?.split_once("://")?;
    (!id.is_empty()).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chosen(state: Value, last: Value, previous: bool) -> Result<String, String> {
        let status = serde_json::from_value(
            json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "containerID": "x://now", "state": state, "lastState": last}]}),
        )
        .unwrap();
        let target = Target {
            namespace: "n".into(),
            pod: "p".into(),
            uid: "u".into(),
            container: "c".into(),
        };
        choose(
            &target,
            &View {
                status,
                ..View::default()
            },
            previous,
        )
        .map_err(|e| e.message)
    }

    #[test]
    fn the_run_is_chosen_by_state() {
        let ended = json!({"terminated": {"exitCode": 1, "containerID": "x://old"}});
        let wait = |reason: &str| json!({"waiting": {"reason": reason}});
        let rows = [
            (json!({"running": {}}), json!({}), false, Ok("now")),
            (ended.clone(), json!({}), false, Ok("old")),
            (wait("CrashLoopBackOff"), ended.clone(), false, Ok("old")),
            (json!({"running": {}}), ended, true, Ok("old")),
            (
                json!({"running": {}}),
                json!({}),
                true,
                Err("previous terminated container \"c\" in pod \"p\" not found"),
            ),
            (
                wait("ContainerCreating"),
                json!({}),
                false,
                Err("container \"c\" in pod \"p\" is waiting to start: ContainerCreating"),
            ),
            (
                wait("ErrImagePull"),
                json!({}),
                false,
                Err("container \"c\" in pod \"p\" is waiting to start: image can't be pulled"),
            ),
            (
                wait("ImagePullBackOff"),
                json!({}),
                false,
                Err(
                    "container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image",
                ),
            ),
        ];
        for (state, last, previous, want) in rows {
            let got = chosen(state.clone(), last, previous);
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{state}");
        }
    }
}
