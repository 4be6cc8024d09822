//! A Pod's specification as upstream holds it in memory, in the order of its fields. A name that begins with `^` is found in the
//! Pod specification itself, one level up from where it is held.

use super::Layout;
use super::Shape::{Bool, Int, IntOrString, Map, Pointer, Quantity, Raw, Slice, Struct, Text};
use super::volumes::{
    LOCAL_OBJECT_REFERENCE, OBJECT_FIELD_SELECTOR, RESOURCE_FIELD_SELECTOR, VOLUME,
};

const CONTAINER_PORT: Layout = &[
    ("Name", "name", Text),
    ("HostPort", "hostPort", Int),
    ("ContainerPort", "containerPort", Int),
    ("Protocol", "protocol", Text),
    ("HostIP", "hostIP", Text),
];

const CONFIG_MAP_ENV_SOURCE: Layout = &[
    ("Name", "name", Text),
    ("Optional", "optional", Pointer(&Bool)),
];

const SECRET_ENV_SOURCE: Layout = &[
    ("Name", "name", Text),
    ("Optional", "optional", Pointer(&Bool)),
];

const ENV_FROM_SOURCE: Layout = &[
    ("Prefix", "prefix", Text),
    (
        "ConfigMapRef",
        "configMapRef",
        Pointer(&Struct(CONFIG_MAP_ENV_SOURCE)),
    ),
    (
        "SecretRef",
        "secretRef",
        Pointer(&Struct(SECRET_ENV_SOURCE)),
    ),
];

const CONFIG_MAP_KEY_SELECTOR: Layout = &[
    ("Name", "name", Text),
    ("Key", "key", Text),
    ("Optional", "optional", Pointer(&Bool)),
];

const SECRET_KEY_SELECTOR: Layout = &[
    ("Name", "name", Text),
    ("Key", "key", Text),
    ("Optional", "optional", Pointer(&Bool)),
];

const FILE_KEY_SELECTOR: Layout = &[
    ("VolumeName", "volumeName", Text),
    ("Path", "path", Text),
    ("Key", "key", Text),
    ("Optional", "optional", Pointer(&Bool)),
];

const ENV_VAR_SOURCE: Layout = &[
    (
        "FieldRef",
        "fieldRef",
        Pointer(&Struct(OBJECT_FIELD_SELECTOR)),
    ),
    (
        "ResourceFieldRef",
        "resourceFieldRef",
        Pointer(&Struct(RESOURCE_FIELD_SELECTOR)),
    ),
    (
        "ConfigMapKeyRef",
        "configMapKeyRef",
        Pointer(&Struct(CONFIG_MAP_KEY_SELECTOR)),
    ),
    (
        "SecretKeyRef",
        "secretKeyRef",
        Pointer(&Struct(SECRET_KEY_SELECTOR)),
    ),
    (
        "FileKeyRef",
        "fileKeyRef",
        Pointer(&Struct(FILE_KEY_SELECTOR)),
    ),
];

const ENV_VAR: Layout = &[
    ("Name", "name", Text),
    ("Value", "value", Text),
    ("ValueFrom", "valueFrom", Pointer(&Struct(ENV_VAR_SOURCE))),
];

const RESOURCE_CLAIM: Layout = &[("Name", "name", Text), ("Request", "request", Text)];

const RESOURCE_REQUIREMENTS: Layout = &[
    ("Limits", "limits", Map(&Quantity)),
    ("Requests", "requests", Map(&Quantity)),
    ("Claims", "claims", Slice(&Struct(RESOURCE_CLAIM))),
];

const CONTAINER_RESIZE_POLICY: Layout = &[
    ("ResourceName", "resourceName", Text),
    ("RestartPolicy", "restartPolicy", Text),
];

const CONTAINER_RESTART_RULE_ON_EXIT_CODES: Layout = &[
    ("Operator", "operator", Text),
    ("Values", "values", Slice(&Int)),
];

const CONTAINER_RESTART_RULE: Layout = &[
    ("Action", "action", Text),
    (
        "ExitCodes",
        "exitCodes",
        Pointer(&Struct(CONTAINER_RESTART_RULE_ON_EXIT_CODES)),
    ),
];

const VOLUME_MOUNT: Layout = &[
    ("Name", "name", Text),
    ("ReadOnly", "readOnly", Bool),
    ("RecursiveReadOnly", "recursiveReadOnly", Pointer(&Text)),
    ("MountPath", "mountPath", Text),
    ("SubPath", "subPath", Text),
    ("MountPropagation", "mountPropagation", Pointer(&Text)),
    ("SubPathExpr", "subPathExpr", Text),
];

const VOLUME_DEVICE: Layout = &[("Name", "name", Text), ("DevicePath", "devicePath", Text)];

const EXEC_ACTION: Layout = &[("Command", "command", Slice(&Text))];

const HTTP_HEADER: Layout = &[("Name", "name", Text), ("Value", "value", Text)];

const HTTP_GET_ACTION: Layout = &[
    ("Path", "path", Text),
    ("Port", "port", IntOrString),
    ("Host", "host", Text),
    ("Scheme", "scheme", Text),
    ("HTTPHeaders", "httpHeaders", Slice(&Struct(HTTP_HEADER))),
];

const TCP_SOCKET_ACTION: Layout = &[("Port", "port", IntOrString), ("Host", "host", Text)];

const GRPC_ACTION: Layout = &[
    ("Port", "port", Int),
    ("Service", "service", Pointer(&Text)),
];

const PROBE: Layout = &[
    ("Exec", "exec", Pointer(&Struct(EXEC_ACTION))),
    ("HTTPGet", "httpGet", Pointer(&Struct(HTTP_GET_ACTION))),
    (
        "TCPSocket",
        "tcpSocket",
        Pointer(&Struct(TCP_SOCKET_ACTION)),
    ),
    ("GRPC", "grpc", Pointer(&Struct(GRPC_ACTION))),
    ("InitialDelaySeconds", "initialDelaySeconds", Int),
    ("TimeoutSeconds", "timeoutSeconds", Int),
    ("PeriodSeconds", "periodSeconds", Int),
    ("SuccessThreshold", "successThreshold", Int),
    ("FailureThreshold", "failureThreshold", Int),
    (
        "TerminationGracePeriodSeconds",
        "terminationGracePeriodSeconds",
        Pointer(&Int),
    ),
];

const SLEEP_ACTION: Layout = &[("Seconds", "seconds", Int)];

const LIFECYCLE_HANDLER: Layout = &[
    ("Exec", "exec", Pointer(&Struct(EXEC_ACTION))),
    ("HTTPGet", "httpGet", Pointer(&Struct(HTTP_GET_ACTION))),
    (
        "TCPSocket",
        "tcpSocket",
        Pointer(&Struct(TCP_SOCKET_ACTION)),
    ),
    ("Sleep", "sleep", Pointer(&Struct(SLEEP_ACTION))),
];

const LIFECYCLE: Layout = &[
    (
        "PostStart",
        "postStart",
        Pointer(&Struct(LIFECYCLE_HANDLER)),
    ),
    ("PreStop", "preStop", Pointer(&Struct(LIFECYCLE_HANDLER))),
    ("StopSignal", "stopSignal", Pointer(&Text)),
];

const CAPABILITIES: Layout = &[("Add", "add", Slice(&Text)), ("Drop", "drop", Slice(&Text))];

const SE_LINUX_OPTIONS: Layout = &[
    ("User", "user", Text),
    ("Role", "role", Text),
    ("Type", "type", Text),
    ("Level", "level", Text),
];

const WINDOWS_SECURITY_CONTEXT_OPTIONS: Layout = &[
    (
        "GMSACredentialSpecName",
        "gmsaCredentialSpecName",
        Pointer(&Text),
    ),
    ("GMSACredentialSpec", "gmsaCredentialSpec", Pointer(&Text)),
    ("RunAsUserName", "runAsUserName", Pointer(&Text)),
    ("HostProcess", "hostProcess", Pointer(&Bool)),
];

pub(super) const SECCOMP_PROFILE: Layout = &[
    ("Type", "type", Text),
    ("LocalhostProfile", "localhostProfile", Pointer(&Text)),
];

const APP_ARMOR_PROFILE: Layout = &[
    ("Type", "type", Text),
    ("LocalhostProfile", "localhostProfile", Pointer(&Text)),
];

pub(super) const SECURITY_CONTEXT: Layout = &[
    (
        "Capabilities",
        "capabilities",
        Pointer(&Struct(CAPABILITIES)),
    ),
    ("Privileged", "privileged", Pointer(&Bool)),
    (
        "SELinuxOptions",
        "seLinuxOptions",
        Pointer(&Struct(SE_LINUX_OPTIONS)),
    ),
    (
        "WindowsOptions",
        "windowsOptions",
        Pointer(&Struct(WINDOWS_SECURITY_CONTEXT_OPTIONS)),
    ),
    ("RunAsUser", "runAsUser", Pointer(&Int)),
    ("RunAsGroup", "runAsGroup", Pointer(&Int)),
    ("RunAsNonRoot", "runAsNonRoot", Pointer(&Bool)),
    (
        "ReadOnlyRootFilesystem",
        "readOnlyRootFilesystem",
        Pointer(&Bool),
    ),
    (
        "AllowPrivilegeEscalation",
        "allowPrivilegeEscalation",
        Pointer(&Bool),
    ),
    ("ProcMount", "procMount", Pointer(&Text)),
    (
        "SeccompProfile",
        "seccompProfile",
        Pointer(&Struct(SECCOMP_PROFILE)),
    ),
    (
        "AppArmorProfile",
        "appArmorProfile",
        Pointer(&Struct(APP_ARMOR_PROFILE)),
    ),
];

const CONTAINER: Layout = &[
    ("Name", "name", Text),
    ("Image", "image", Text),
    ("Command", "command", Slice(&Text)),
    ("Args", "args", Slice(&Text)),
    ("WorkingDir", "workingDir", Text),
    ("Ports", "ports", Slice(&Struct(CONTAINER_PORT))),
    ("EnvFrom", "envFrom", Slice(&Struct(ENV_FROM_SOURCE))),
    ("Env", "env", Slice(&Struct(ENV_VAR))),
    ("Resources", "resources", Struct(RESOURCE_REQUIREMENTS)),
    (
        "ResizePolicy",
        "resizePolicy",
        Slice(&Struct(CONTAINER_RESIZE_POLICY)),
    ),
    ("RestartPolicy", "restartPolicy", Pointer(&Text)),
    (
        "RestartPolicyRules",
        "restartPolicyRules",
        Slice(&Struct(CONTAINER_RESTART_RULE)),
    ),
    ("VolumeMounts", "volumeMounts", Slice(&Struct(VOLUME_MOUNT))),
    (
        "VolumeDevices",
        "volumeDevices",
        Slice(&Struct(VOLUME_DEVICE)),
    ),
    ("LivenessProbe", "livenessProbe", Pointer(&Struct(PROBE))),
    ("ReadinessProbe", "readinessProbe", Pointer(&Struct(PROBE))),
    ("StartupProbe", "startupProbe", Pointer(&Struct(PROBE))),
    ("Lifecycle", "lifecycle", Pointer(&Struct(LIFECYCLE))),
    ("TerminationMessagePath", "terminationMessagePath", Text),
    ("TerminationMessagePolicy", "terminationMessagePolicy", Text),
    ("ImagePullPolicy", "imagePullPolicy", Text),
    (
        "SecurityContext",
        "securityContext",
        Pointer(&Struct(SECURITY_CONTEXT)),
    ),
    ("Stdin", "stdin", Bool),
    ("StdinOnce", "stdinOnce", Bool),
    ("TTY", "tty", Bool),
];

pub(super) const EPHEMERAL_CONTAINER: Layout = &[
    ("Name", "name", Text),
    ("Image", "image", Text),
    ("Command", "command", Slice(&Text)),
    ("Args", "args", Slice(&Text)),
    ("WorkingDir", "workingDir", Text),
    ("Ports", "ports", Slice(&Struct(CONTAINER_PORT))),
    ("EnvFrom", "envFrom", Slice(&Struct(ENV_FROM_SOURCE))),
    ("Env", "env", Slice(&Struct(ENV_VAR))),
    ("Resources", "resources", Struct(RESOURCE_REQUIREMENTS)),
    (
        "ResizePolicy",
        "resizePolicy",
        Slice(&Struct(CONTAINER_RESIZE_POLICY)),
    ),
    ("RestartPolicy", "restartPolicy", Pointer(&Text)),
    (
        "RestartPolicyRules",
        "restartPolicyRules",
        Slice(&Struct(CONTAINER_RESTART_RULE)),
    ),
    ("VolumeMounts", "volumeMounts", Slice(&Struct(VOLUME_MOUNT))),
    (
        "VolumeDevices",
        "volumeDevices",
        Slice(&Struct(VOLUME_DEVICE)),
    ),
    ("LivenessProbe", "livenessProbe", Pointer(&Struct(PROBE))),
    ("ReadinessProbe", "readinessProbe", Pointer(&Struct(PROBE))),
    ("StartupProbe", "startupProbe", Pointer(&Struct(PROBE))),
    ("Lifecycle", "lifecycle", Pointer(&Struct(LIFECYCLE))),
    ("TerminationMessagePath", "terminationMessagePath", Text),
    ("TerminationMessagePolicy", "terminationMessagePolicy", Text),
    ("ImagePullPolicy", "imagePullPolicy", Text),
    (
        "SecurityContext",
        "securityContext",
        Pointer(&Struct(SECURITY_CONTEXT)),
    ),
    ("Stdin", "stdin", Bool),
    ("StdinOnce", "stdinOnce", Bool),
    ("TTY", "tty", Bool),
    ("TargetContainerName", "targetContainerName", Text),
];

const SYSCTL: Layout = &[("Name", "name", Text), ("Value", "value", Text)];

const POD_SECURITY_CONTEXT: Layout = &[
    ("HostNetwork", "^hostNetwork", Bool),
    ("HostPID", "^hostPID", Bool),
    ("HostIPC", "^hostIPC", Bool),
    (
        "ShareProcessNamespace",
        "^shareProcessNamespace",
        Pointer(&Bool),
    ),
    ("HostUsers", "^hostUsers", Pointer(&Bool)),
    (
        "SELinuxOptions",
        "seLinuxOptions",
        Pointer(&Struct(SE_LINUX_OPTIONS)),
    ),
    (
        "WindowsOptions",
        "windowsOptions",
        Pointer(&Struct(WINDOWS_SECURITY_CONTEXT_OPTIONS)),
    ),
    ("RunAsUser", "runAsUser", Pointer(&Int)),
    ("RunAsGroup", "runAsGroup", Pointer(&Int)),
    ("RunAsNonRoot", "runAsNonRoot", Pointer(&Bool)),
    ("SupplementalGroups", "supplementalGroups", Slice(&Int)),
    (
        "SupplementalGroupsPolicy",
        "supplementalGroupsPolicy",
        Pointer(&Text),
    ),
    ("FSGroup", "fsGroup", Pointer(&Int)),
    ("FSGroupChangePolicy", "fsGroupChangePolicy", Pointer(&Text)),
    ("Sysctls", "sysctls", Slice(&Struct(SYSCTL))),
    (
        "SeccompProfile",
        "seccompProfile",
        Pointer(&Struct(SECCOMP_PROFILE)),
    ),
    (
        "AppArmorProfile",
        "appArmorProfile",
        Pointer(&Struct(APP_ARMOR_PROFILE)),
    ),
    ("SELinuxChangePolicy", "seLinuxChangePolicy", Pointer(&Text)),
];

const NODE_SELECTOR_REQUIREMENT: Layout = &[
    ("Key", "key", Text),
    ("Operator", "operator", Text),
    ("Values", "values", Slice(&Text)),
];

pub(super) const NODE_SELECTOR_TERM: Layout = &[
    (
        "MatchExpressions",
        "matchExpressions",
        Slice(&Struct(NODE_SELECTOR_REQUIREMENT)),
    ),
    (
        "MatchFields",
        "matchFields",
        Slice(&Struct(NODE_SELECTOR_REQUIREMENT)),
    ),
];

pub(super) const DISRUPTION_BUDGET_SPEC: Layout = &[
    ("MinAvailable", "minAvailable", Pointer(&IntOrString)),
    ("Selector", "selector", Pointer(&Raw)),
    ("MaxUnavailable", "maxUnavailable", Pointer(&IntOrString)),
    (
        "UnhealthyPodEvictionPolicy",
        "unhealthyPodEvictionPolicy",
        Pointer(&Text),
    ),
];

pub(super) const PARENT_REFERENCE: Layout = &[
    ("Group", "group", Text),
    ("Resource", "resource", Text),
    ("Namespace", "namespace", Text),
    ("Name", "name", Text),
];

pub(super) const SERVICE_CIDR_SPEC: Layout = &[("CIDRs", "cidrs", Slice(&Text))];

const NODE_SELECTOR: Layout = &[(
    "NodeSelectorTerms",
    "nodeSelectorTerms",
    Slice(&Struct(NODE_SELECTOR_TERM)),
)];

const PREFERRED_SCHEDULING_TERM: Layout = &[
    ("Weight", "weight", Int),
    ("Preference", "preference", Struct(NODE_SELECTOR_TERM)),
];

const NODE_AFFINITY: Layout = &[
    (
        "RequiredDuringSchedulingIgnoredDuringExecution",
        "requiredDuringSchedulingIgnoredDuringExecution",
        Pointer(&Struct(NODE_SELECTOR)),
    ),
    (
        "PreferredDuringSchedulingIgnoredDuringExecution",
        "preferredDuringSchedulingIgnoredDuringExecution",
        Slice(&Struct(PREFERRED_SCHEDULING_TERM)),
    ),
];

const POD_AFFINITY_TERM: Layout = &[
    ("LabelSelector", "labelSelector", Pointer(&Raw)),
    ("Namespaces", "namespaces", Slice(&Text)),
    ("TopologyKey", "topologyKey", Text),
    ("NamespaceSelector", "namespaceSelector", Pointer(&Raw)),
    ("MatchLabelKeys", "matchLabelKeys", Slice(&Text)),
    ("MismatchLabelKeys", "mismatchLabelKeys", Slice(&Text)),
];

const WEIGHTED_POD_AFFINITY_TERM: Layout = &[
    ("Weight", "weight", Int),
    (
        "PodAffinityTerm",
        "podAffinityTerm",
        Struct(POD_AFFINITY_TERM),
    ),
];

const POD_AFFINITY: Layout = &[
    (
        "RequiredDuringSchedulingIgnoredDuringExecution",
        "requiredDuringSchedulingIgnoredDuringExecution",
        Slice(&Struct(POD_AFFINITY_TERM)),
    ),
    (
        "PreferredDuringSchedulingIgnoredDuringExecution",
        "preferredDuringSchedulingIgnoredDuringExecution",
        Slice(&Struct(WEIGHTED_POD_AFFINITY_TERM)),
    ),
];

const POD_ANTI_AFFINITY: Layout = &[
    (
        "RequiredDuringSchedulingIgnoredDuringExecution",
        "requiredDuringSchedulingIgnoredDuringExecution",
        Slice(&Struct(POD_AFFINITY_TERM)),
    ),
    (
        "PreferredDuringSchedulingIgnoredDuringExecution",
        "preferredDuringSchedulingIgnoredDuringExecution",
        Slice(&Struct(WEIGHTED_POD_AFFINITY_TERM)),
    ),
];

const AFFINITY: Layout = &[
    (
        "NodeAffinity",
        "nodeAffinity",
        Pointer(&Struct(NODE_AFFINITY)),
    ),
    ("PodAffinity", "podAffinity", Pointer(&Struct(POD_AFFINITY))),
    (
        "PodAntiAffinity",
        "podAntiAffinity",
        Pointer(&Struct(POD_ANTI_AFFINITY)),
    ),
];

const TOLERATION: Layout = &[
    ("Key", "key", Text),
    ("Operator", "operator", Text),
    ("Value", "value", Text),
    ("Effect", "effect", Text),
    ("TolerationSeconds", "tolerationSeconds", Pointer(&Int)),
];

const HOST_ALIAS: Layout = &[("IP", "ip", Text), ("Hostnames", "hostnames", Slice(&Text))];

const POD_DNS_CONFIG_OPTION: Layout = &[("Name", "name", Text), ("Value", "value", Pointer(&Text))];

const POD_DNS_CONFIG: Layout = &[
    ("Nameservers", "nameservers", Slice(&Text)),
    ("Searches", "searches", Slice(&Text)),
    ("Options", "options", Slice(&Struct(POD_DNS_CONFIG_OPTION))),
];

const POD_READINESS_GATE: Layout = &[("ConditionType", "conditionType", Text)];

const TOPOLOGY_SPREAD_CONSTRAINT: Layout = &[
    ("MaxSkew", "maxSkew", Int),
    ("TopologyKey", "topologyKey", Text),
    ("WhenUnsatisfiable", "whenUnsatisfiable", Text),
    ("LabelSelector", "labelSelector", Pointer(&Raw)),
    ("MinDomains", "minDomains", Pointer(&Int)),
    ("NodeAffinityPolicy", "nodeAffinityPolicy", Pointer(&Text)),
    ("NodeTaintsPolicy", "nodeTaintsPolicy", Pointer(&Text)),
    ("MatchLabelKeys", "matchLabelKeys", Slice(&Text)),
];

const POD_OS: Layout = &[("Name", "name", Text)];

const POD_SCHEDULING_GATE: Layout = &[("Name", "name", Text)];

pub(super) const POD_RESOURCE_CLAIM: Layout = &[
    ("Name", "name", Text),
    ("ResourceClaimName", "resourceClaimName", Pointer(&Text)),
    (
        "ResourceClaimTemplateName",
        "resourceClaimTemplateName",
        Pointer(&Text),
    ),
];

const POD_SCHEDULING_GROUP: Layout = &[("PodGroupName", "podGroupName", Pointer(&Text))];

pub(super) const POD_SPEC: Layout = &[
    ("Volumes", "volumes", Slice(&Struct(VOLUME))),
    (
        "InitContainers",
        "initContainers",
        Slice(&Struct(CONTAINER)),
    ),
    ("Containers", "containers", Slice(&Struct(CONTAINER))),
    (
        "EphemeralContainers",
        "ephemeralContainers",
        Slice(&Struct(EPHEMERAL_CONTAINER)),
    ),
    ("RestartPolicy", "restartPolicy", Text),
    (
        "TerminationGracePeriodSeconds",
        "terminationGracePeriodSeconds",
        Pointer(&Int),
    ),
    (
        "ActiveDeadlineSeconds",
        "activeDeadlineSeconds",
        Pointer(&Int),
    ),
    ("DNSPolicy", "dnsPolicy", Text),
    ("NodeSelector", "nodeSelector", Map(&Text)),
    ("ServiceAccountName", "serviceAccountName", Text),
    (
        "AutomountServiceAccountToken",
        "automountServiceAccountToken",
        Pointer(&Bool),
    ),
    ("NodeName", "nodeName", Text),
    (
        "SecurityContext",
        "securityContext",
        Pointer(&Struct(POD_SECURITY_CONTEXT)),
    ),
    (
        "ImagePullSecrets",
        "imagePullSecrets",
        Slice(&Struct(LOCAL_OBJECT_REFERENCE)),
    ),
    ("Hostname", "hostname", Text),
    ("Subdomain", "subdomain", Text),
    ("SetHostnameAsFQDN", "setHostnameAsFQDN", Pointer(&Bool)),
    ("Affinity", "affinity", Pointer(&Struct(AFFINITY))),
    ("SchedulerName", "schedulerName", Text),
    ("Tolerations", "tolerations", Slice(&Struct(TOLERATION))),
    ("HostAliases", "hostAliases", Slice(&Struct(HOST_ALIAS))),
    ("PriorityClassName", "priorityClassName", Text),
    ("Priority", "priority", Pointer(&Int)),
    ("PreemptionPolicy", "preemptionPolicy", Pointer(&Text)),
    ("DNSConfig", "dnsConfig", Pointer(&Struct(POD_DNS_CONFIG))),
    (
        "ReadinessGates",
        "readinessGates",
        Slice(&Struct(POD_READINESS_GATE)),
    ),
    ("RuntimeClassName", "runtimeClassName", Pointer(&Text)),
    ("Overhead", "overhead", Map(&Quantity)),
    ("EnableServiceLinks", "enableServiceLinks", Pointer(&Bool)),
    (
        "TopologySpreadConstraints",
        "topologySpreadConstraints",
        Slice(&Struct(TOPOLOGY_SPREAD_CONSTRAINT)),
    ),
    ("OS", "os", Pointer(&Struct(POD_OS))),
    (
        "SchedulingGates",
        "schedulingGates",
        Slice(&Struct(POD_SCHEDULING_GATE)),
    ),
    (
        "ResourceClaims",
        "resourceClaims",
        Slice(&Struct(POD_RESOURCE_CLAIM)),
    ),
    (
        "Resources",
        "resources",
        Pointer(&Struct(RESOURCE_REQUIREMENTS)),
    ),
    ("HostnameOverride", "hostnameOverride", Pointer(&Text)),
    (
        "SchedulingGroup",
        "schedulingGroup",
        Pointer(&Struct(POD_SCHEDULING_GROUP)),
    ),
];
