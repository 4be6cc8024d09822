//! The list of resources. A new kind is one line here.

use super::{Form, Gvk, Resource, Subresource};

const fn core(kind: &'static str, plural: &'static str, singular: &'static str) -> Resource {
    Resource::new("", "v1", kind, plural, singular)
}

const fn autoscaler(version: &'static str) -> Resource {
    Resource::new(
        AUTOSCALER.group,
        version,
        AUTOSCALER.kind,
        "horizontalpodautoscalers",
        "horizontalpodautoscaler",
    )
    .short(&["hpa"])
    .in_all()
}

const fn sub(name: &'static str, gvk: Gvk, verbs: &'static [&'static str]) -> Subresource {
    Subresource { name, gvk, verbs }
}

const fn v1(kind: &'static str) -> Gvk {
    Gvk {
        group: "",
        version: "v1",
        kind,
    }
}

const fn batch(kind: &'static str) -> Gvk {
    Gvk {
        group: "batch",
        version: "v1",
        kind,
    }
}

const fn apps(kind: &'static str) -> Gvk {
    Gvk {
        group: "apps",
        version: "v1",
        kind,
    }
}

const SCALE: Subresource = sub(
    "scale",
    Gvk {
        group: "autoscaling",
        version: "v1",
        kind: "Scale",
    },
    WRITE,
);
const EVICTION: Gvk = Gvk {
    group: "policy",
    version: "v1",
    kind: "Eviction",
};
const BUDGET: Gvk = Gvk {
    group: "policy",
    version: "v1",
    kind: "PodDisruptionBudget",
};
const AUTOSCALER: Gvk = Gvk {
    group: "autoscaling",
    version: "v2",
    kind: "HorizontalPodAutoscaler",
};
const AUTOSCALER_V1: Gvk = Gvk {
    version: "v1",
    ..AUTOSCALER
};
const CERTIFICATE_REQUEST: Gvk = Gvk {
    group: "certificates.k8s.io",
    version: "v1",
    kind: "CertificateSigningRequest",
};
const ATTACHMENT: Gvk = Gvk {
    group: "storage.k8s.io",
    version: "v1",
    kind: "VolumeAttachment",
};
const INGRESS: Gvk = Gvk {
    group: "networking.k8s.io",
    version: "v1",
    kind: "Ingress",
};
const SERVICE_CIDR: Gvk = Gvk {
    group: "networking.k8s.io",
    version: "v1",
    kind: "ServiceCIDR",
};
const TOKEN_REQUEST: Gvk = Gvk {
    group: "authentication.k8s.io",
    version: "v1",
    kind: "TokenRequest",
};

const CREATE: &[&str] = &["create"];
const CONNECT: &[&str] = &["create", "get"];
const ANY: &[&str] = &["create", "delete", "get", "patch", "update"];
const WRITE: &[&str] = &["get", "patch", "update"];

const POD_SUBRESOURCES: &[Subresource] = &[
    sub("attach", v1("PodAttachOptions"), CONNECT),
    sub("binding", v1("Binding"), CREATE),
    sub("ephemeralcontainers", v1("Pod"), WRITE),
    sub("eviction", EVICTION, CREATE),
    sub("exec", v1("PodExecOptions"), CONNECT),
    sub("log", v1("Pod"), &["get"]),
    sub("portforward", v1("PodPortForwardOptions"), CONNECT),
    sub("proxy", v1("PodProxyOptions"), ANY),
    sub("resize", v1("Pod"), WRITE),
    sub("status", v1("Pod"), WRITE),
];

const POD_FIELDS: &[&str] = &[
    "spec.nodeName",
    "spec.host",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];

const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

const EVENTS_FIELDS: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];

/// Every resource. Core comes first; the order of groups decides which group an ambiguous name means.
pub static RESOURCES: &[Resource] = &[
    core("Binding", "bindings", "binding").verbs(CREATE),
    core("ConfigMap", "configmaps", "configmap").short(&["cm"]),
    core("Endpoints", "endpoints", "endpoints")
        .short(&["ep"])
        .put_creates(),
    core("Event", "events", "event")
        .short(&["ev"])
        .fields(EVENT_FIELDS)
        .put_creates(),
    core("LimitRange", "limitranges", "limitrange")
        .short(&["limits"])
        .put_creates(),
    core("Namespace", "namespaces", "namespace")
        .short(&["ns"])
        .cluster()
        .verbs(&[
            "create", "delete", "get", "list", "patch", "update", "watch",
        ])
        .sub(&[
            sub("finalize", v1("Namespace"), &["update"]),
            sub("status", v1("Namespace"), WRITE),
        ])
        .fields(&["status.phase"]),
    core("Node", "nodes", "node")
        .short(&["no"])
        .cluster()
        .sub(&[
            sub("proxy", v1("NodeProxyOptions"), ANY),
            sub("status", v1("Node"), WRITE),
        ])
        .fields(&["spec.unschedulable"]),
    core(
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        "persistentvolumeclaim",
    )
    .short(&["pvc"])
    .sub(&[sub("status", v1("PersistentVolumeClaim"), WRITE)]),
    core("PersistentVolume", "persistentvolumes", "persistentvolume")
        .short(&["pv"])
        .cluster()
        .sub(&[sub("status", v1("PersistentVolume"), WRITE)]),
    core("Pod", "pods", "pod")
        .short(&["po"])
        .in_all()
        .sub(POD_SUBRESOURCES)
        .fields(POD_FIELDS),
    core("PodTemplate", "podtemplates", "podtemplate"),
    core(
        "ReplicationController",
        "replicationcontrollers",
        "replicationcontroller",
    )
    .short(&["rc"])
    .in_all()
    .sub(&[SCALE, sub("status", v1("ReplicationController"), WRITE)])
    .fields(&["status.replicas"]),
    core("ResourceQuota", "resourcequotas", "resourcequota")
        .short(&["quota"])
        .sub(&[sub("status", v1("ResourceQuota"), WRITE)]),
    core("Secret", "secrets", "secret").fields(&["type"]),
    core("ServiceAccount", "serviceaccounts", "serviceaccount")
        .short(&["sa"])
        .sub(&[sub("token", TOKEN_REQUEST, CREATE)]),
    core("Service", "services", "service")
        .short(&["svc"])
        .in_all()
        .sub(&[
            sub("proxy", v1("ServiceProxyOptions"), ANY),
            sub("status", v1("Service"), WRITE),
        ])
        .fields(&["spec.clusterIP", "spec.type"])
        .put_creates(),
    Resource::new(
        "apps",
        "v1",
        "ControllerRevision",
        "controllerrevisions",
        "controllerrevision",
    ),
    Resource::new("apps", "v1", "DaemonSet", "daemonsets", "daemonset")
        .short(&["ds"])
        .in_all()
        .sub(&[sub("status", apps("DaemonSet"), WRITE)]),
    Resource::new("apps", "v1", "Deployment", "deployments", "deployment")
        .short(&["deploy"])
        .in_all()
        .sub(&[SCALE, sub("status", apps("Deployment"), WRITE)]),
    Resource::new("apps", "v1", "ReplicaSet", "replicasets", "replicaset")
        .short(&["rs"])
        .in_all()
        .sub(&[SCALE, sub("status", apps("ReplicaSet"), WRITE)])
        .fields(&["status.replicas"]),
    Resource::new("apps", "v1", "StatefulSet", "statefulsets", "statefulset")
        .short(&["sts"])
        .in_all()
        .sub(&[SCALE, sub("status", apps("StatefulSet"), WRITE)]),
    Resource::new("events.k8s.io", "v1", "Event", "events", "event")
        .short(&["ev"])
        .fields(EVENTS_FIELDS)
        .put_creates()
        .stored(Form::CoreEvent),
    Resource::new(
        "authentication.k8s.io",
        "v1",
        "SelfSubjectReview",
        "selfsubjectreviews",
        "selfsubjectreview",
    )
    .cluster()
    .verbs(CREATE),
    Resource::new(
        "authentication.k8s.io",
        "v1",
        "TokenReview",
        "tokenreviews",
        "tokenreview",
    )
    .cluster()
    .verbs(CREATE),
    Resource::new(
        "authorization.k8s.io",
        "v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
    )
    .cluster()
    .verbs(CREATE),
    Resource::new(
        "authorization.k8s.io",
        "v1",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
    )
    .cluster()
    .verbs(CREATE),
    Resource::new(
        "authorization.k8s.io",
        "v1",
        "SubjectAccessReview",
        "subjectaccessreviews",
        "subjectaccessreview",
    )
    .cluster()
    .verbs(CREATE),
    autoscaler("v2").sub(&[sub("status", AUTOSCALER, WRITE)]),
    autoscaler("v1")
        .sub(&[sub("status", AUTOSCALER_V1, WRITE)])
        .stored(Form::AutoscalerV2),
    Resource::new("batch", "v1", "CronJob", "cronjobs", "cronjob")
        .short(&["cj"])
        .in_all()
        .sub(&[sub("status", batch("CronJob"), WRITE)]),
    Resource::new("batch", "v1", "Job", "jobs", "job")
        .in_all()
        .sub(&[sub("status", batch("Job"), WRITE)])
        .fields(&["status.successful"]),
    Resource::new(
        "certificates.k8s.io",
        "v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
        "certificatesigningrequest",
    )
    .short(&["csr"])
    .cluster()
    .sub(&[
        sub("approval", CERTIFICATE_REQUEST, WRITE),
        sub("status", CERTIFICATE_REQUEST, WRITE),
    ])
    .fields(&["spec.signerName"]),
    Resource::new("networking.k8s.io", "v1", "Ingress", "ingresses", "ingress")
        .short(&["ing"])
        .sub(&[sub("status", INGRESS, WRITE)]),
    Resource::new(
        "networking.k8s.io",
        "v1",
        "IngressClass",
        "ingressclasses",
        "ingressclass",
    )
    .cluster(),
    Resource::new(
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        "networkpolicies",
        "networkpolicy",
    )
    .short(&["netpol"]),
    Resource::new(
        "networking.k8s.io",
        "v1",
        "IPAddress",
        "ipaddresses",
        "ipaddress",
    )
    .short(&["ip"])
    .cluster(),
    Resource::new(
        "networking.k8s.io",
        "v1",
        "ServiceCIDR",
        "servicecidrs",
        "servicecidr",
    )
    .cluster()
    .sub(&[sub("status", SERVICE_CIDR, WRITE)]),
    Resource::new(
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        "poddisruptionbudget",
    )
    .short(&["pdb"])
    .sub(&[sub("status", BUDGET, WRITE)])
    .conditional(),
    Resource::new(
        "storage.k8s.io",
        "v1",
        "CSIDriver",
        "csidrivers",
        "csidriver",
    )
    .cluster()
    .conditional(),
    Resource::new("storage.k8s.io", "v1", "CSINode", "csinodes", "csinode")
        .cluster()
        .conditional(),
    Resource::new(
        "storage.k8s.io",
        "v1",
        "CSIStorageCapacity",
        "csistoragecapacities",
        "csistoragecapacity",
    )
    .conditional(),
    Resource::new(
        "storage.k8s.io",
        "v1",
        "StorageClass",
        "storageclasses",
        "storageclass",
    )
    .short(&["sc"])
    .cluster(),
    Resource::new(
        "storage.k8s.io",
        "v1",
        "VolumeAttachment",
        "volumeattachments",
        "volumeattachment",
    )
    .cluster()
    .sub(&[sub("status", ATTACHMENT, WRITE)])
    .conditional(),
    Resource::new(
        "storage.k8s.io",
        "v1",
        "VolumeAttributesClass",
        "volumeattributesclasses",
        "volumeattributesclass",
    )
    .short(&["vac"])
    .cluster(),
    Resource::new(
        "scheduling.k8s.io",
        "v1",
        "PriorityClass",
        "priorityclasses",
        "priorityclass",
    )
    .short(&["pc"])
    .cluster(),
    Resource::new("coordination.k8s.io", "v1", "Lease", "leases", "lease")
        .put_creates()
        .conditional(),
    Resource::new(
        "discovery.k8s.io",
        "v1",
        "EndpointSlice",
        "endpointslices",
        "endpointslice",
    ),
    Resource::new(
        "node.k8s.io",
        "v1",
        "RuntimeClass",
        "runtimeclasses",
        "runtimeclass",
    )
    .cluster()
    .put_creates()
    .conditional(),
    Resource::new("metrics.k8s.io", "v1beta1", "NodeMetrics", "nodes", "")
        .cluster()
        .measured(),
    Resource::new("metrics.k8s.io", "v1beta1", "PodMetrics", "pods", "").measured(),
];
