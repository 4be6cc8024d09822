//! Plays a case: applies its manifests with stock kubectl, takes its steps, and records what a user sees meanwhile.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;

use super::case::{Case, Run, Step};
use super::mask::Mask;
use super::snapshot::{by_name, snapshot};
use crate::board::{Board, watch_rows};
use crate::client::Api;

/// Images of the cases; pulled once before the first, so that every case finds them present, as upstream's recordings did.
const IMAGES: [&str; 4] = [
    "docker.io/library/busybox:1.36",
    "docker.io/library/busybox:latest",
    "docker.io/library/nginx:latest",
    "registry.k8s.io/e2e-test-images/agnhost:2.63.0",
];
/// How long one command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);

/// Where to play.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Kubeconfig of the engine.
    pub kubeconfig: PathBuf,
    /// A kubectl 1.36: recordings hold its words.
    pub kubectl: PathBuf,
}

/// Makes sure the images of the cases are there.
pub async fn warm(stage: &Stage) -> anyhow::Result<()> {
    let containers: Vec<Value> = IMAGES
        .iter()
        .enumerate()
        .map(|(n, image)| json!({"name": format!("c{n}"), "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "60"]}))
        .collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "golden-warm"}, "spec": {"containers": containers, "terminationGracePeriodSeconds": 0}});
    for (arguments, input) in [
        (vec!["apply", "-f", "-"], Some(pod.to_string())),
        (
            vec![
                "wait",
                "--for=condition=Ready",
                "--timeout=180s",
                "pod/golden-warm",
            ],
            None,
        ),
        (vec!["delete", "pod", "golden-warm", "--now"], None),
    ] {
        let output = run(
            Command::new(&stage.kubectl)
                .arg("--kubeconfig")
                .arg(&stage.kubeconfig)
                .args(&arguments),
            input.as_deref(),
        )
        .await?;
        if !output.status.success() {
            bail!(
                "kubectl {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    Ok(())
}

/// Plays a case in a namespace of its own and returns what was seen.
pub async fn play(stage: &Stage, case: &Case, namespace: &str) -> anyhow::Result<Run> {
    let api = Api::from_kubeconfig(&stage.kubeconfig).await?;
    let node = api.get("/api/v1/nodes").await?["items"][0]["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let file = tempfile::Builder::new()
        .suffix(".yaml")
        .tempfile()
        .context("make a file for the manifests")?;
    std::fs::write(file.path(), case.manifests())?;
    let mask = Mask::new(namespace, &node);
    let player = Player {
        stage,
        namespace,
        mask: &mask,
        file: file.path(),
        board: Board::default(),
    };

    let created = player.kubectl(&["create", "namespace", namespace]).await?;
    if !created.status.success() {
        bail!(
            "create namespace {namespace}: {}",
            String::from_utf8_lossy(&created.stderr)
        );
    }
    wait_for_service_account(&api, namespace).await?;
    let watching = watch_rows(&api, namespace, player.board.clone()).await?;
    let played = player.take_steps(case, &api).await;
    watching.abort();
    player
        .kubectl(&["delete", "namespace", namespace, "--wait=false"])
        .await?;
    played
}

struct Player<'a> {
    stage: &'a Stage,
    namespace: &'a str,
    mask: &'a Mask,
    file: &'a Path,
    board: Board,
}

impl Player<'_> {
    async fn take_steps(&self, case: &Case, api: &Api) -> anyhow::Result<Run> {
        let mut records = Vec::new();
        if case.apply && !case.objects.is_empty() {
            let output = self
                .kubectl(&["apply", "-f", &self.file.to_string_lossy()])
                .await?;
            records.push(self.record("apply", &output));
        }
        for step in &case.steps {
            records.extend(self.take(step, api).await?);
        }
        self.board
            .settle(Duration::from_millis(1500), Some(Duration::from_secs(8)))
            .await;
        let end = snapshot(api, self.namespace, self.mask).await?;
        let rows = self
            .board
            .history()
            .into_iter()
            .map(|(pod, rows)| (pod, json!(rows)))
            .collect();
        Ok(Run {
            case: case.name.clone(),
            steps: records,
            rows: serde_json::from_value(Value::Object(by_name(rows)))?,
            end,
        })
    }

    async fn take(&self, step: &Step, api: &Api) -> anyhow::Result<Option<Map<String, Value>>> {
        match step {
            Step::Kubectl(line) => {
                let line_here = line
                    .replace("{file}", &self.file.to_string_lossy())
                    .replace("{ns}", self.namespace);
                let output = self
                    .kubectl(
                        &split(&line_here)
                            .iter()
                            .map(String::as_str)
                            .collect::<Vec<_>>(),
                    )
                    .await?;
                Ok(Some(self.record(line, &output)))
            }
            Step::Sh(script) => {
                let script_here = script.replace("{file}", &self.file.to_string_lossy());
                let output = run(
                    self.environment(Command::new("sh").arg("-c").arg(script_here)),
                    None,
                )
                .await?;
                Ok(Some(self.record(script, &output)))
            }
            Step::Settle(seconds) => {
                self.board
                    .settle(Duration::from_secs_f64(*seconds), None)
                    .await;
                Ok(None)
            }
            Step::Sleep(seconds) => {
                tokio::time::sleep(Duration::from_secs_f64(*seconds)).await;
                Ok(None)
            }
            Step::Snap(label) => {
                // Events are posted beside the status they go with; give them the time the recordings gave them.
                tokio::time::sleep(Duration::from_millis(600)).await;
                let mut record = snapshot(api, self.namespace, self.mask)
                    .await?
                    .as_object()
                    .cloned()
                    .unwrap_or_default();
                record.insert("step".into(), format!("snap {label}").into());
                Ok(Some(record))
            }
            Step::Wait(wait) => Ok(self.board.wait(wait).await.err().map(|last| {
                let step = format!("TIMED OUT waiting for {}", json!(wait));
                Map::from_iter([("step".into(), step.into()), ("last".into(), json!(last))])
            })),
        }
    }

    async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.stage.kubectl);
        command
            .arg("--kubeconfig")
            .arg(&self.stage.kubeconfig)
            .args(["-n", self.namespace])
            .args(arguments);
        run(self.environment(&mut command), None).await
    }

    /// Scripts call `kubectl` by name, so ours comes first on PATH.
    fn environment<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let own = self
            .stage
            .kubectl
            .parent()
            .unwrap_or(Path::new(""))
            .display();
        let path = format!("{own}:{}", std::env::var("PATH").unwrap_or_default());
        command
            .env("KUBECONFIG", &self.stage.kubeconfig)
            .env("NS", self.namespace)
            .env("PATH", path)
    }

    fn record(&self, step: &str, output: &Output) -> Map<String, Value> {
        let text = |bytes: &[u8]| self.mask.text(&String::from_utf8_lossy(bytes));
        let record = json!({"step": step, "exit": output.status.code(), "out": text(&output.stdout), "err": text(&output.stderr)});
        record.as_object().cloned().unwrap_or_default()
    }
}

async fn run(command: &mut Command, input: Option<&str>) -> anyhow::Result<Output> {
    command
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .with_context(|| format!("start {:?}", command.as_std().get_program()))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).await?;
    }
    timeout(COMMAND_LIMIT, child.wait_with_output())
        .await
        .context("the command takes too long")?
        .context("wait for the command")
}

/// Splits a command line at blanks outside quotes, as a POSIX shell does.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut open) = (Vec::new(), None::<String>, None);
    for character in line.chars() {
        match (open, character) {
            (Some(quote), c) if c == quote => open = None,
            (None, '\'' | '"') => {
                open = Some(character);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

async fn wait_for_service_account(api: &Api, namespace: &str) -> anyhow::Result<()> {
    let list = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
    let version = api.get(&list).await?["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if api.get(&format!("{list}/default")).await.is_ok() {
        return Ok(());
    }
    let (found, mut is_found) = watch::channel(false);
    let path = format!("{list}?watch=1&resourceVersion={version}");
    let watching = api.watch(&path, "application/json", |event| {
        let name = &event["object"]["metadata"]["name"];
        found.send_if_modified(|found| {
            std::mem::replace(found, name == "default") != (name == "default")
        });
    });
    tokio::select! {
        ended = watching => ended,
        waited = timeout(Duration::from_secs(20), is_found.wait_for(|found| *found)) => {
            waited.context("the namespace gets no default service account")?.context("the watch ended")?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn splits_as_a_shell_does() {
        assert_eq!(
            split("get pod p -o jsonpath='{.a b}' \"x y\"z ''"),
            ["get", "pod", "p", "-o", "jsonpath={.a b}", "x yz", ""]
        );
        assert_eq!(split("  "), Vec::<String>::new());
    }
}
