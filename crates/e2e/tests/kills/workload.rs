//! Twenty Pods at any time, each with two init containers, a sidecar and an app that ends with a code of its own, and the proof
//! that each has lived exactly one life. They have volumes of every kind the node makes, and what is in one of them is edited all the time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use e2e::client::Api;
use serde_json::{Value, json};

/// What all containers run.
pub(crate) const IMAGE: &str = "busybox:1.36";
/// Where the Pods are.
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
const AT_A_TIME: usize = 20;
const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";

/// Of an app that does not find in a volume what was put there.
const LOST: i32 = 101;
/// Of an app that sees two versions of a ConfigMap at once.
const TORN: i32 = 102;

/// Whether Pods that have come to their end are followed by others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    More,
    NoMore,
}

/// What a step saw.
pub(crate) struct Seen {
    pub(crate) revision: String,
    /// Pods there are, or are to be.
    pub(crate) pods: usize,
}

/// What is known of a Pod on this side of the API.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// To be made; the engine may have been killed over the request.
    Wanted,
    /// The engine has said that it is made.
    Accepted,
    /// It was seen to have lived well and is to be deleted; the engine may have been killed over the request.
    Ended,
}

struct Life {
    stage: Stage,
    lines: u32,
    code: i32,
}

pub(crate) struct Workload {
    records: PathBuf,
    chance: fastrand::Rng,
    lives: BTreeMap<String, Life>,
    begun: usize,
    ended: usize,
    edits: usize,
}

impl Workload {
    /// Containers leave their marks in directories below `records`.
    pub(crate) fn new(records: &Path, seed: u64) -> Workload {
        Workload {
            records: records.to_owned(),
            chance: fastrand::Rng::with_seed(seed),
            lives: BTreeMap::new(),
            begun: 0,
            ended: 0,
            edits: 0,
        }
    }

    /// How many Pods have come to their end.
    pub(crate) fn ended(&self) -> usize {
        self.ended
    }

    /// Looks at all Pods, proves the ends of those that have ended, deletes them and begins others.
    pub(crate) async fn step(&mut self, api: &Api, begin: Begin) -> anyhow::Result<Seen> {
        self.edit(api).await?;
        if begin == Begin::More {
            self.want_more()?;
        }
        let list = api.get(PODS).await?;
        let found: BTreeMap<&str, &Value> = list["items"]
            .as_array()
            .context("a list of Pods")?
            .iter()
            .filter_map(|pod| Some((pod["metadata"]["name"].as_str()?, pod)))
            .collect();
        let names: Vec<String> = self.lives.keys().cloned().collect();
        for name in names {
            self.follow(api, &name, found.get(name.as_str()).copied())
                .await
                .with_context(|| format!("Pod {name}"))?;
        }
        Ok(Seen {
            revision: list["metadata"]["resourceVersion"]
                .as_str()
                .context("a revision")?
                .to_owned(),
            pods: self.lives.len(),
        })
    }

    /// Edits what all Pods mount; it has two values, which are always the same.
    async fn edit(&mut self, api: &Api) -> anyhow::Result<()> {
        self.edits += 1;
        let value = self.edits.to_string();
        let config = json!({"metadata": {"name": "config"}, "data": {"a": value, "b": value}});
        match api.patch(&format!("{CONFIGS}/config"), &config).await {
            Err(error) if is_gone(&error) => api.create(CONFIGS, &config).await.map(drop),
            done => done.map(drop),
        }
    }

    fn want_more(&mut self) -> anyhow::Result<()> {
        while self.lives.len() < AT_A_TIME {
            let name = format!("p-{}", self.begun);
            fs::create_dir_all(self.records.join(&name))?;
            let life = Life {
                stage: Stage::Wanted,
                lines: self.chance.u32(5..60),
                code: self.chance.i32(1..100),
            };
            self.lives.insert(name, life);
            self.begun += 1;
        }
        Ok(())
    }

    async fn follow(&mut self, api: &Api, name: &str, pod: Option<&Value>) -> anyhow::Result<()> {
        let Some(life) = self.lives.get_mut(name) else {
            return Ok(());
        };
        match (life.stage, pod) {
            (Stage::Wanted, None) => {
                let pod = manifest(name, life, &self.records.join(name));
                api.create(PODS, &pod).await?;
                life.stage = Stage::Accepted;
            }
            (Stage::Accepted, None) => anyhow::bail!("was accepted and is lost"),
            (Stage::Ended, None) => {
                fs::remove_dir_all(self.records.join(name))?;
                self.lives.remove(name);
                self.ended += 1;
            }
            (stage, Some(pod)) => {
                life.stage = stage.max_accepted();
                let is_over = matches!(
                    pod["status"]["phase"].as_str(),
                    Some("Failed" | "Succeeded")
                );
                if is_over && life.stage == Stage::Accepted {
                    prove(api, name, pod, life, &self.records.join(name)).await?;
                    life.stage = Stage::Ended;
                }
                if life.stage == Stage::Ended && pod["metadata"]["deletionTimestamp"].is_null() {
                    match api.delete(&format!("{PODS}/{name}")).await {
                        Err(error) if !is_gone(&error) => return Err(error),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }
}

impl Stage {
    /// What was seen was accepted, whether or not the answer came.
    fn max_accepted(self) -> Stage {
        match self {
            Stage::Wanted => Stage::Accepted,
            later => later,
        }
    }
}

/// There is no such object: it was not made yet, or was deleted by a request whose answer was lost.
fn is_gone(error: &anyhow::Error) -> bool {
    let kube = error.downcast_ref::<kube::Error>();
    matches!(kube, Some(kube::Error::Api(status)) if status.code == 404)
}

fn manifest(name: &str, life: &Life, record: &Path) -> Value {
    let container = |name: &str, script: String| {
        json!({"name": name, "image": IMAGE, "imagePullPolicy": "Never",
        "command": ["sh", "-c", format!("echo {name} >> /record/starts; {script}")],
        "volumeMounts": [
            {"name": "record", "mountPath": "/record"},
            {"name": "memory", "mountPath": "/memory"},
            {"name": "disk", "mountPath": "/sub", "subPath": "a/b"},
            {"name": "config", "mountPath": "/config"},
        ]})
    };
    let count = |until: String, each: String| {
        format!("i=0; while {until}; do i=$((i+1)); echo line $i; {each} sleep 0.05; done")
    };
    let found = format!("[ \"$(cat /memory/one /sub/two)\" = 12 ] || exit {LOST}; ");
    // A version may be removed while it is read.
    let whole = format!(
        "cd -P /config/..data && a=$(cat a 2>/dev/null) && b=$(cat b 2>/dev/null) && [ $a != $b ] && exit {TORN};"
    );
    let mut sidecar = container(
        "side",
        format!(
            "trap 'exit 0' TERM; {}",
            count("true".into(), String::new())
        ),
    );
    sidecar["restartPolicy"] = json!("Always");
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 2,
            "automountServiceAccountToken": false, "enableServiceLinks": false,
            "volumes": [
                {"name": "record", "hostPath": {"path": record}},
                {"name": "memory", "emptyDir": {"medium": "Memory"}},
                {"name": "disk", "emptyDir": {}},
                {"name": "config", "configMap": {"name": "config"}},
            ],
            "initContainers": [
                container("one", "printf 1 > /memory/one; sleep 0.1".into()),
                sidecar,
                container("two", "printf 2 > /sub/two".into()),
            ],
            "containers": [container(
                "app",
                format!(
                    "{found}{}; exit {}",
                    count(format!("[ $i -lt {} ]", life.lines), whole),
                    life.code
                ),
            )],
        },
    })
}

/// That a Pod has lived one life: each container started once, its code known, its log whole.
async fn prove(
    api: &Api,
    name: &str,
    pod: &Value,
    life: &Life,
    record: &Path,
) -> anyhow::Result<()> {
    let starts = fs::read_to_string(record.join("starts")).unwrap_or_default();
    // A sidecar has started before its program has said so.
    let without_sidecar = starts.replacen("side\n", "", 1);
    ensure!(
        starts.contains("side\n") && without_sidecar == "one\ntwo\napp\n",
        "containers started: {}\n{:#}",
        starts.replace('\n', " "),
        pod["status"]
    );
    let status = &pod["status"];
    let all = ["initContainerStatuses", "containerStatuses"]
        .iter()
        .flat_map(|list| status[list].as_array().into_iter().flatten());
    for container in all {
        let expected = match container["name"].as_str() {
            Some("app") => Some(life.code),
            Some("one" | "two") => Some(0),
            // Its end is the node's doing, by the signal or by the end of its grace.
            _ => None,
        };
        let code = container["state"]["terminated"]["exitCode"].as_i64();
        ensure!(
            container["restartCount"] == 0
                && code.is_some()
                && expected.is_none_or(|expected| code == Some(expected.into())),
            "expected exit code {expected:?} and no restart: {container:#}"
        );
    }
    for (container, lines) in [("app", Some(life.lines)), ("side", None)] {
        let log = api
            .text(&format!("{PODS}/{name}/log?container={container}"))
            .await?;
        let count = u32::try_from(log.lines().count())?;
        let whole: String = (1..=lines.unwrap_or(count))
            .map(|line| format!("line {line}\n"))
            .collect();
        ensure!(
            log == whole && count > 0,
            "the log of {container} has {count} lines, expected {lines:?}:\n{log}"
        );
    }
    Ok(())
}
