//! Starting one container (spec `§1.9`): image, configuration, create, start, with the events on the way.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use lifecycle::kinds::{self, Member};
use lifecycle::resources::{self, Amounts};
use lifecycle::{Start, StartError, huge_pages, image};
use ports::runtime::{
    ContainerConfig, ContainerStatus, Id, NamespaceMode, Resources, RuntimeError,
};

use crate::agent::Agent;
use crate::env::{self, Env};
use crate::expand::expand;
use crate::fields::Source;
use crate::hooks::Hook;
use crate::objects::{self, ObjectRef};
use crate::pull::{self, BackOffs, Failure, Found, OfVolumes};
use crate::{links, mounts, sandbox, security};

/// Record annotations of the agent, so that a container can be stopped and read correctly without its Pod (spec `§1.9`).
pub(crate) mod annotation {
    pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    pub(crate) const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    pub(crate) const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    pub(crate) const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
    pub(crate) const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
    pub(crate) const PORTS: &str = "io.kubernetes.container.ports";
}

/// What a start needs to know.
pub(crate) struct Job {
    pub(crate) agent: Arc<Agent>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) start: Start,
    pub(crate) sandbox: String,
    /// The Pod's addresses; the node's with hostNetwork.
    pub(crate) pod_ips: Vec<IpAddr>,
    pub(crate) volumes: Arc<BTreeMap<String, PathBuf>>,
    /// Whose processes an ephemeral container is to see: the container's name, and its newest run.
    pub(crate) target: Option<(String, Option<Id>)>,
    /// Pull back-off of the container's images.
    pub(crate) held: BackOffs,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) start: Start,
    /// The images it needed, as the spec writes them.
    pub(crate) images: Vec<String>,
    pub(crate) result: Result<Run, Failure>,
    /// Objects the environment was made from, with the versions that were read.
    pub(crate) read: Vec<(ObjectRef, Option<String>)>,
}

/// A run that was begun.
pub(crate) struct Run {
    pub(crate) status: ContainerStatus,
    /// Its `postStart` hook failed, so it is to be stopped (spec `§1.9` step 9).
    pub(crate) hook_error: Option<StartError>,
}

/// Starts a container.
pub(crate) async fn start(job: Job) -> Outcome {
    let mut read = Vec::new();
    let pod = job.pod.clone();
    let Some(found) = kinds::find(&pod, &job.start.container) else {
        let message = format!("container {:?} is not in the pod", job.start.container);
        let error = StartError {
            reason: "CreateContainerConfigError".into(),
            message,
            at: job.agent.now(),
        };
        return Outcome {
            start: job.start,
            images: Vec::new(),
            result: Err(Failure {
                error,
                back_offs: BackOffs::new(),
            }),
            read,
        };
    };
    let member = &found.member();
    let result = attempt(&job, member, &mut read).await;
    let images = image::all(&pod, member);
    Outcome {
        start: job.start,
        images: images
            .iter()
            .map(|wanted| wanted.image.to_owned())
            .collect(),
        result,
        read,
    }
}

/// What a container is made from.
struct Images {
    own: Found,
    of_volumes: OfVolumes,
}

async fn attempt(
    job: &Job,
    member: &Member<'_>,
    read: &mut Vec<(ObjectRef, Option<String>)>,
) -> Result<Run, Failure> {
    let (agent, pod) = (&job.agent, &job.pod);
    let images = Images {
        of_volumes: pull::of_volumes(agent, pod, member, &job.held).await?,
        own: pull::ensure(agent, pod, &image::own(member), &job.held).await?,
    };
    let config = configure(job, member.spec, &images, read).await;
    let config =
        config.map_err(|message| fail(job, member, "CreateContainerConfigError", message))?;
    let runtime = &job.agent.runtime;
    let id = runtime
        .create_container(&job.sandbox, config)
        .await
        .map_err(|error| {
            let reason = if matches!(error, RuntimeError::Config(_)) {
                "CreateContainerConfigError"
            } else {
                "CreateContainerError"
            };
            fail(job, member, reason, pull::chain(&error))
        })?;
    job.agent
        .recorder
        .record(&job.pod, lifecycle::events::created(member));
    let status = runtime.start_container(&id).await.map_err(|error| {
        let message = pull::chain(&error).replace(&id, member.name());
        fail(job, member, "RunContainerError", message)
    })?;
    links::make(&job.agent, &status).await;
    job.agent
        .recorder
        .record(&job.pod, lifecycle::events::started(member));
    let hook_error = post_start(job, member, &id).await.err();
    Ok(Run { status, hook_error })
}

/// Runs the `postStart` hook, if there is one.
///
/// # Errors
/// It failed; that is told.
async fn post_start(job: &Job, member: &Member<'_>, id: &str) -> Result<(), StartError> {
    let hooks = member.spec.lifecycle.as_ref();
    let Some(handler) = hooks.and_then(|hooks| hooks.post_start.as_ref()) else {
        return Ok(());
    };
    let hook = Hook {
        agent: &job.agent,
        pod: &job.pod,
        member,
        id,
        pod_ips: &job.pod_ips,
    };
    hook.run(handler).await.map_err(|message| {
        let event = lifecycle::events::hook_failed(member, "PostStart");
        job.agent.recorder.record(&job.pod, event);
        StartError {
            reason: "PostStartHookError".to_owned(),
            message,
            at: job.agent.now(),
        }
    })
}

fn fail(job: &Job, member: &Member<'_>, reason: &str, message: String) -> Failure {
    job.agent
        .recorder
        .record(&job.pod, lifecycle::events::failed(member, &message));
    Failure {
        error: StartError {
            reason: reason.to_owned(),
            message,
            at: job.agent.now(),
        },
        back_offs: BackOffs::new(),
    }
}

async fn configure(
    job: &Job,
    container: &Container,
    images: &Images,
    read: &mut Vec<(ObjectRef, Option<String>)>,
) -> Result<ContainerConfig, String> {
    let (agent, pod) = (&job.agent, &job.pod);
    let (image, image_name) = &images.own;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let objects = objects::read(&agent.client, namespace, env::references(container)).await?;
    read.extend(
        objects
            .versions()
            .map(|(reference, version)| (reference.clone(), version)),
    );
    let source = Source {
        pod,
        pod_ips: &job.pod_ips,
        host_ips: &agent.config.host_ips,
        allocatable: &agent.allocatable,
    };
    let env = env::build(container, &source, &objects, &agent.services_for(namespace))?;
    let mounts = mounts::build(job, container, &images.of_volumes, &env).await?;
    let mut security = security::context(pod, container, &image.config, &agent.config.root)?;
    security.pid_target = pid_target(job)?;
    let words = |list: &Option<Vec<String>>| expanded(list, &env);
    let capacity = &agent.config.capacity;
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt: job.start.restart_count,
        image_id: image.id.clone(),
        image: resolved_name(image, image_name),
        command: words(&container.command),
        args: words(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts: mounts.binds,
        image_mounts: mounts.images,
        resources: Resources {
            oom_group: Some(!agent.config.single_process_oom_kill),
            huge_pages: huge_pages::of_container(pod, container, capacity.page_sizes()),
            ..resources::container(pod, container, capacity.memory_bytes)
        },
        security,
        log_path: PathBuf::from(&container.name).join(format!("{}.log", job.start.restart_count)),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        stop_signal: container
            .lifecycle
            .as_ref()
            .and_then(|l| l.stop_signal.clone()),
        labels: labels(pod, container),
        annotations: annotations(pod, container, job.start.restart_count),
        env: env.into_vec(),
    })
}

/// The run whose processes the container sees besides its own (spec `§7`); none where the Pod's containers see each other's.
///
/// # Errors
/// It never ran.
fn pid_target(job: &Job) -> Result<Option<Id>, String> {
    let per_container = sandbox::namespaces(&job.pod).pid == NamespaceMode::Container;
    match &job.target {
        Some((name, None)) if per_container => {
            Err(format!("unable to find target container {name}"))
        }
        Some((_, id)) if per_container => Ok(id.clone()),
        _ => Ok(None),
    }
}

fn expanded(list: &Option<Vec<String>>, env: &Env) -> Vec<String> {
    list.iter()
        .flatten()
        .map(|word| expand(word, |name| env.get(name).map(str::to_owned)))
        .collect()
}

/// The image's name as status shows it: a full one that ends in the name that was asked for, if the store has it.
fn resolved_name(image: &ports::images::Image, asked: &str) -> String {
    let names = image.repo_tags.iter().chain(&image.repo_digests);
    let full = names.into_iter().find(|tag| {
        *tag == asked
            || tag
                .strip_suffix(asked)
                .is_some_and(|rest| rest.ends_with('/'))
    });
    full.map_or(asked, String::as_str).to_owned()
}

fn labels(pod: &Pod, container: &Container) -> BTreeMap<String, String> {
    let mut labels = sandbox::identity(pod);
    labels.insert(
        "io.kubernetes.container.name".into(),
        container.name.clone(),
    );
    labels
}

fn annotations(pod: &Pod, container: &Container, restart_count: u32) -> BTreeMap<String, String> {
    let grace = lifecycle::termination::spec_grace(pod);
    let text =
        |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
    [
        (kinds::HASH_ANNOTATION, kinds::container_hash(container)),
        (annotation::RESTART_COUNT, restart_count.to_string()),
        (
            annotation::MESSAGE_PATH,
            text(&container.termination_message_path, "/dev/termination-log"),
        ),
        (
            annotation::MESSAGE_POLICY,
            text(&container.termination_message_policy, "File"),
        ),
        (annotation::GRACE, grace.to_string()),
    ]
    .into_iter()
    .chain(pre_stop(container))
    .map(|(key, value)| (key.to_owned(), value))
    .chain([Amounts::of(pod, container).note()])
    .collect()
}

/// What a `preStop` hook is, and the ports it may name.
fn pre_stop(container: &Container) -> Vec<(&'static str, String)> {
    let hooks = container.lifecycle.as_ref();
    let Some(handler) = hooks.and_then(|hooks| hooks.pre_stop.as_ref()) else {
        return Vec::new();
    };
    let ports = container.ports.as_deref().unwrap_or_default();
    let notes = [
        (annotation::PRE_STOP, serde_json::to_string(handler)),
        (annotation::PORTS, serde_json::to_string(ports)),
    ];
    let written = notes
        .into_iter()
        .filter_map(|(key, text)| Some((key, text.ok()?)));
    written.collect()
}
