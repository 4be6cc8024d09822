//! Pods as the API server stores them: defaults filled in, bound to a node.

use k8s_openapi::api::core::v1::{
    Container, ContainerRestartRule, ContainerRestartRuleOnExitCodes, EphemeralContainer,
    ExecAction, ImageVolumeSource, LifecycleHandler, Pod, PodSpec, PodStatus, Probe,
    TCPSocketAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Image of every container that names no other.
const IMAGE: &str = "docker.io/library/busybox:1.36";

/// A Pod `p` in namespace `ns` with UID `uid`, without containers.
pub fn pod() -> PodBuilder {
    let metadata = ObjectMeta {
        name: Some("p".to_owned()),
        namespace: Some("ns".to_owned()),
        uid: Some("uid".to_owned()),
        generation: Some(1),
        ..ObjectMeta::default()
    };
    let spec = PodSpec {
        node_name: Some("node".to_owned()),
        restart_policy: Some("Always".to_owned()),
        termination_grace_period_seconds: Some(30),
        ..PodSpec::default()
    };
    let status = PodStatus {
        phase: Some("Pending".to_owned()),
        qos_class: Some("BestEffort".to_owned()),
        ..PodStatus::default()
    };
    PodBuilder {
        pod: Pod {
            metadata,
            spec: Some(spec),
            status: Some(status),
        },
        last: Last::None,
    }
}

/// A probe of TCP port 80 every `period` seconds that fails for good at the `failures`th failure in a row.
pub fn probe(period: i32, failures: i32) -> Probe {
    let tcp_socket = TCPSocketAction {
        host: None,
        port: IntOrString::Int(80),
    };
    Probe {
        tcp_socket: Some(tcp_socket),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        success_threshold: Some(1),
        timeout_seconds: Some(1),
        ..Probe::default()
    }
}

/// Makes a [`Pod`] piece by piece. Container settings apply to the container added last.
#[derive(Debug, Clone)]
pub struct PodBuilder {
    pod: Pod,
    last: Last,
}

#[derive(Debug, Clone, Copy)]
enum Last {
    None,
    Init,
    App,
}

impl PodBuilder {
    /// Adds a regular init container.
    pub fn init(mut self, name: &str) -> Self {
        self.spec()
            .init_containers
            .get_or_insert_default()
            .push(container(name));
        self.last = Last::Init;
        self
    }

    /// Adds a sidecar.
    pub fn sidecar(self, name: &str) -> Self {
        self.init(name).own_policy("Always")
    }

    /// Adds an app container.
    pub fn app(mut self, name: &str) -> Self {
        self.spec().containers.push(container(name));
        self.last = Last::App;
        self
    }

    /// Sets the last container's image.
    pub fn image(mut self, image: &str) -> Self {
        self.container().image = Some(image.to_owned());
        self
    }

    /// Sets the last container's pull policy.
    pub fn pull(mut self, policy: &str) -> Self {
        self.container().image_pull_policy = Some(policy.to_owned());
        self
    }

    /// Adds a volume of kind `image` and mounts it into the last container at its name.
    pub fn image_volume(mut self, name: &str, reference: &str) -> Self {
        self.spec().volumes.get_or_insert_default().push(Volume {
            name: name.to_owned(),
            image: Some(ImageVolumeSource {
                reference: Some(reference.to_owned()),
                pull_policy: None,
            }),
            ..Volume::default()
        });
        self.container()
            .volume_mounts
            .get_or_insert_default()
            .push(VolumeMount {
                name: name.to_owned(),
                mount_path: format!("/{name}"),
                ..VolumeMount::default()
            });
        self
    }

    /// Sets the last container's own restart policy.
    pub fn own_policy(mut self, policy: &str) -> Self {
        self.container().restart_policy = Some(policy.to_owned());
        self
    }

    /// Adds a restart rule to the last container: restart when its exit code is in (or, with `NotIn`, is none of) `values`.
    pub fn rule(mut self, operator: &str, values: &[i32]) -> Self {
        let exit_codes = ContainerRestartRuleOnExitCodes {
            operator: operator.to_owned(),
            values: Some(values.to_vec()),
        };
        let rule = ContainerRestartRule {
            action: "Restart".to_owned(),
            exit_codes: Some(exit_codes),
        };
        self.container()
            .restart_policy_rules
            .get_or_insert_default()
            .push(rule);
        self
    }

    /// Adds a restart rule to the last container: one of these exit codes restarts the whole Pod in place.
    pub fn rule_for_all(self, values: &[i32]) -> Self {
        let mut with_rule = self.rule("In", values);
        let rules = with_rule.container().restart_policy_rules.as_mut();
        if let Some(rule) = rules.and_then(|rules| rules.last_mut()) {
            rule.action = "RestartAllContainers".to_owned();
        }
        with_rule
    }

    /// Gives the last container a startup probe.
    pub fn startup(mut self, probe: Probe) -> Self {
        self.container().startup_probe = Some(probe);
        self
    }

    /// Gives the last container a liveness probe.
    pub fn liveness(mut self, probe: Probe) -> Self {
        self.container().liveness_probe = Some(probe);
        self
    }

    /// Gives the last container a readiness probe.
    pub fn readiness(mut self, probe: Probe) -> Self {
        self.container().readiness_probe = Some(probe);
        self
    }

    /// Adds an ephemeral container. Container settings do not apply to it.
    pub fn ephemeral(mut self, name: &str) -> Self {
        let list = self.spec().ephemeral_containers.get_or_insert_default();
        list.push(EphemeralContainer {
            name: name.to_owned(),
            image: Some(IMAGE.to_owned()),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            ..EphemeralContainer::default()
        });
        self
    }

    /// Sets an annotation of the Pod.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        let annotations = self.pod.metadata.annotations.get_or_insert_default();
        annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Gives the last container a `postStart` hook.
    pub fn post_start(mut self) -> Self {
        let lifecycle = self.container().lifecycle.get_or_insert_default();
        lifecycle.post_start = Some(a_hook());
        self
    }

    /// Gives the last container a `preStop` hook.
    pub fn pre_stop(mut self) -> Self {
        let lifecycle = self.container().lifecycle.get_or_insert_default();
        lifecycle.pre_stop = Some(a_hook());
        self
    }

    /// Sets the Pod's restart policy.
    pub fn policy(mut self, policy: &str) -> Self {
        self.spec().restart_policy = Some(policy.to_owned());
        self
    }

    /// Sets `terminationGracePeriodSeconds`.
    pub fn grace(mut self, seconds: i64) -> Self {
        self.spec().termination_grace_period_seconds = Some(seconds);
        self
    }

    /// Sets `activeDeadlineSeconds`.
    pub fn deadline(mut self, seconds: i64) -> Self {
        self.spec().active_deadline_seconds = Some(seconds);
        self
    }

    /// Sets the stored phase.
    pub fn phase(mut self, phase: &str) -> Self {
        self.pod.status.get_or_insert_default().phase = Some(phase.to_owned());
        self
    }

    /// Sets `status.startTime`, in seconds of [`crate::at`].
    pub fn started(mut self, second: i64) -> Self {
        self.pod.status.get_or_insert_default().start_time = Some(Time(crate::at(second)));
        self
    }

    /// Marks the Pod as deleted at `second` with `grace` seconds (§2.1).
    pub fn deleted(mut self, second: i64, grace: i64) -> Self {
        self.pod.metadata.deletion_timestamp = Some(Time(crate::at(
            second.saturating_add(grace).clamp(0, 1 << 32),
        )));
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
        self
    }

    /// The Pod.
    pub fn build(self) -> Pod {
        self.pod
    }

    fn spec(&mut self) -> &mut PodSpec {
        self.pod.spec.get_or_insert_default()
    }

    fn container(&mut self) -> &mut Container {
        let last = self.last;
        let spec = self.spec();
        let list = match last {
            Last::Init => spec.init_containers.get_or_insert_default(),
            Last::App => &mut spec.containers,
            Last::None => panic!("a container has to be added before it is set up"),
        };
        list.last_mut()
            .expect("the list holds the container added last")
    }
}

/// A hook that runs a program.
fn a_hook() -> LifecycleHandler {
    LifecycleHandler {
        exec: Some(ExecAction::default()),
        ..LifecycleHandler::default()
    }
}

fn container(name: &str) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(IMAGE.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        ..Container::default()
    }
}
