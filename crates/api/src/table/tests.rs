//! Each row is named by the behaviour of spec kubectl-and-api §12 it shows.

use super::*;

fn now() -> Timestamp {
    "2026-01-02T03:10:00Z".parse().expect("a time")
}

/// Printed cells joined by `|`, strings without quotes.
pub(super) fn printed(resource: &str, object: &Value) -> String {
    let cells = cells(resource, object, now());
    assert_eq!(
        cells.len(),
        columns(resource).len(),
        "one cell per column of {resource}"
    );
    cells
        .iter()
        .map(|cell| {
            cell.as_str()
                .map_or_else(|| cell.to_string(), str::to_owned)
        })
        .collect::<Vec<_>>()
        .join("|")
}

/// Ready, Status and Restarts of a Pod.
fn pod(spec: Value, status: Value) -> String {
    let object = json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
    printed("pods", &object)
        .split('|')
        .skip(1)
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn pod_rows() {
    let one = json!({"containers": [{"name": "a"}]});
    let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let init =
        json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]});
    let sidecar = json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}]});
    let running = json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}});
    let done = |name: &str, code: i32, reason: &str| json!({"name": name, "restartCount": 0, "state": {"terminated": {"exitCode": code, "reason": reason}}});
    let waits = |name: &str, reason: &str| json!({"name": name, "restartCount": 0, "state": {"waiting": {"reason": reason}}});
    for (behaviour, spec, status, expected) in [
        (
            "phase without statuses",
            &one,
            json!({"phase": "Pending"}),
            "0/1 Pending 0",
        ),
        (
            "status reason over phase",
            &one,
            json!({"phase": "Failed", "reason": "Evicted"}),
            "0/1 Evicted 0",
        ),
        (
            "scheduling gates",
            &one,
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            "0/1 SchedulingGated 0",
        ),
        (
            "running and ready",
            &one,
            json!({"phase": "Running", "containerStatuses": [running]}),
            "1/1 Running 0",
        ),
        (
            "waiting reason",
            &one,
            json!({"phase": "Pending", "containerStatuses": [waits("a", "ImagePullBackOff")]}),
            "0/1 ImagePullBackOff 0",
        ),
        (
            "the alphabetically first wins",
            &two,
            json!({"phase": "Pending", "containerStatuses": [waits("a", "ErrImagePull"), waits("b", "ContainerCreating")]}),
            "0/2 ErrImagePull 0",
        ),
        (
            "exit code without reason",
            &one,
            json!({"phase": "Failed", "containerStatuses": [done("a", 3, "")]}),
            "0/1 ExitCode:3 0",
        ),
        (
            "signal without reason",
            &one,
            json!({"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
            "0/1 Signal:9 0",
        ),
        (
            "completed with one running and ready",
            &two,
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [done("a", 0, "Completed"), {"name": "b", "ready": true, "restartCount": 0, "state": {"running": {}}}]}),
            "1/2 Running 0",
        ),
        (
            "completed with one running, not ready",
            &two,
            json!({"phase": "Running", "containerStatuses": [done("a", 0, "Completed"), {"name": "b", "ready": true, "restartCount": 0, "state": {"running": {}}}]}),
            "1/2 NotReady 0",
        ),
        (
            "completed beside a failure",
            &two,
            json!({"phase": "Failed", "containerStatuses": [done("a", 0, "Completed"), done("b", 1, "Error")]}),
            "0/2 Error 0",
        ),
        (
            "init progress",
            &init,
            json!({"phase": "Pending", "initContainerStatuses": [done("i", 0, "Completed"), waits("j", "PodInitializing")], "containerStatuses": [waits("a", "PodInitializing")]}),
            "0/1 Init:1/2 0",
        ),
        (
            "init failure",
            &init,
            json!({"phase": "Pending", "initContainerStatuses": [done("i", 1, "Error")]}),
            "0/1 Init:Error 0",
        ),
        (
            "init exit code",
            &init,
            json!({"phase": "Pending", "initContainerStatuses": [done("i", 3, "")]}),
            "0/1 Init:ExitCode:3 0",
        ),
        (
            "init signal",
            &init,
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
            "0/1 Init:Signal:9 0",
        ),
        (
            "init back-off",
            &init,
            json!({"phase": "Pending", "initContainerStatuses": [waits("i", "CrashLoopBackOff")]}),
            "0/1 Init:CrashLoopBackOff 0",
        ),
        (
            "a started sidecar counts as ready",
            &sidecar,
            json!({"phase": "Running", "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 0, "state": {"running": {}}}], "containerStatuses": [running]}),
            "2/2 Running 0",
        ),
        (
            "a sidecar that has not started holds init",
            &sidecar,
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "s", "started": false, "restartCount": 0, "state": {"running": {}}}]}),
            "0/2 Init:0/1 0",
        ),
    ] {
        assert_eq!(pod(spec.clone(), status), expected, "{behaviour}");
    }
}

#[test]
fn pod_restarts_deletion_and_wide_cells() {
    let last = json!({"terminated": {"exitCode": 1, "finishedAt": "2026-01-02T03:05:00Z"}});
    let restarted = json!({"phase": "Running", "containerStatuses": [{"name": "a", "ready": true, "restartCount": 3, "state": {"running": {}}, "lastState": last}]});
    assert_eq!(
        pod(json!({"containers": [{"name": "a"}]}), restarted),
        "1/1 Running 3 (5m ago)",
        "restarts say when the last was"
    );

    let init = json!({"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}]});
    let status = |initialized: &str| {
        json!({"phase": "Running", "conditions": [{"type": "Initialized", "status": initialized}], "initContainerStatuses": [
            {"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 0}}},
            {"name": "s", "restartCount": 1, "started": true, "ready": false, "state": {"running": {}}}], "containerStatuses": []})
    };
    assert_eq!(
        pod(init, status("True")),
        "0/2 Running 1",
        "init restarts vanish once initialized, sidecars' stay"
    );

    let mut deleted = json!({"metadata": {"name": "p", "deletionTimestamp": "2026-01-02T03:05:00Z"}, "status": {"phase": "Running"}});
    assert!(
        printed("pods", &deleted)
            .starts_with("p|0/0|Terminating|0|<unknown>|<none>|<none>|<none>|<none>")
    );
    deleted["status"]["phase"] = "Succeeded".into();
    assert!(
        printed("pods", &deleted).contains("|Succeeded|"),
        "an ended Pod is not terminating"
    );
    deleted["status"] = json!({"phase": "Running", "reason": "NodeLost"});
    assert!(
        printed("pods", &deleted).contains("|Unknown|"),
        "the node of a deleted Pod is lost"
    );

    let wide = json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-02T03:03:47Z"},
        "spec": {"nodeName": "n", "readinessGates": [{"conditionType": "x"}, {"conditionType": "y"}]},
        "status": {"phase": "Running", "nominatedNodeName": "m", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "x", "status": "True"}]}});
    assert_eq!(
        printed("pods", &wide),
        "p|0/0|Running|0|6m13s|10.0.0.1|n|m|1/2"
    );
}

#[test]
fn rows_of_other_kinds() {
    let service = |kind: &str, rest: Value| {
        let mut object = json!({"metadata": {"name": "s"}, "spec": {"type": kind, "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80, "protocol": "TCP"}]}});
        for (key, value) in rest.as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        object
    };
    let mut balanced = service("LoadBalancer", json!({"externalIPs": ["9.9.9.9"]}));
    balanced["status"] = json!({"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "a.b"}, {"ip": "2.2.2.2"}]}});
    let slice = |ports: Value| json!({"metadata": {"name": "e"}, "addressType": "IPv4", "ports": ports, "endpoints": [{"addresses": ["1.1.1.1", "1.1.1.2"]}, {"addresses": ["1.1.1.3", "1.1.1.4"]}]});
    for (behaviour, resource, object, expected) in [
        (
            "cluster ip",
            "services",
            service("ClusterIP", json!({"selector": {"b": "2", "a": "1"}})),
            "s|ClusterIP|10.0.0.1|<none>|80/TCP|<unknown>|a=1,b=2",
        ),
        (
            "headless",
            "services",
            service("ClusterIP", json!({"clusterIPs": ["None"], "ports": []})),
            "s|ClusterIP|None|<none>|<none>|<unknown>|<none>",
        ),
        (
            "a bare clusterIP is not looked at",
            "services",
            json!({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP", "clusterIP": "1.1.1.1"}}),
            "s|ClusterIP|<none>|<none>|<none>|<unknown>|<none>",
        ),
        (
            "node port",
            "services",
            service(
                "NodePort",
                json!({"ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}),
            ),
            "s|NodePort|10.0.0.1|<none>|80:30000/TCP,53/UDP|<unknown>|<none>",
        ),
        (
            "load balancer without address",
            "services",
            service("LoadBalancer", json!({})),
            "s|LoadBalancer|10.0.0.1|<pending>|80/TCP|<unknown>|<none>",
        ),
        (
            "load balancer addresses once each, then external ones",
            "services",
            balanced,
            "s|LoadBalancer|10.0.0.1|2.2.2.2,a.b,9.9.9.9|80/TCP|<unknown>|<none>",
        ),
        (
            "external name",
            "services",
            service(
                "ExternalName",
                json!({"clusterIPs": [], "externalName": "x.y", "ports": []}),
            ),
            "s|ExternalName|<none>|x.y|<none>|<unknown>|<none>",
        ),
        (
            "endpoints capped at three",
            "endpoints",
            json!({"metadata": {"name": "e"}, "subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}], "ports": [{"port": 1}, {"port": 2}]}]}),
            "e|1.1.1.1:1,1.1.1.2:1,1.1.1.1:2 + 1 more...|<unknown>",
        ),
        (
            "endpoints without ports are bare",
            "endpoints",
            json!({"metadata": {"name": "e"}, "subsets": [{"addresses": [{"ip": "1.1.1.1"}]}]}),
            "e|1.1.1.1|<unknown>",
        ),
        (
            "no endpoints",
            "endpoints",
            json!({"metadata": {"name": "e"}}),
            "e|<none>|<unknown>",
        ),
        (
            "slice ports by number, name, or any",
            "endpointslices.discovery.k8s.io",
            slice(json!([{"port": 80}, {"name": "x"}, {}])),
            "e|IPv4|80,x,*|1.1.1.1,1.1.1.2,1.1.1.3 + 1 more...|<unknown>",
        ),
        (
            "slice without ports",
            "endpointslices.discovery.k8s.io",
            slice(json!([])),
            "e|IPv4|<unset>|1.1.1.1,1.1.1.2,1.1.1.3 + 1 more...|<unknown>",
        ),
        (
            "ready node",
            "nodes",
            json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "1.1.1.1"}], "nodeInfo": {"kubeletVersion": "v1.36.3", "osImage": "Debian", "kernelVersion": "6.1", "architecture": "amd64", "containerRuntimeVersion": "x://1"}}}),
            "n|Ready,SchedulingDisabled|control-plane,worker|<unknown>|v1.36.3|1.1.1.1|<none>|Debian|6.1 (amd64)|x://1",
        ),
        (
            "node that never reported",
            "nodes",
            json!({"metadata": {"name": "n"}}),
            "n|Unknown|<none>|<unknown>||<none>|<none>|<unknown>|<unknown>|<unknown>",
        ),
        (
            "node that is not ready",
            "nodes",
            json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}),
            "n|NotReady|<none>|<unknown>||<none>|<none>|<unknown>|<unknown>|<unknown>",
        ),
        (
            "namespace",
            "namespaces",
            json!({"metadata": {"name": "d", "creationTimestamp": "2026-01-02T03:09:00Z"}, "status": {"phase": "Active"}}),
            "d|Active|60s",
        ),
        (
            "config map counts both bags",
            "configmaps",
            json!({"metadata": {"name": "c"}, "data": {"a": "", "b": ""}, "binaryData": {"c": ""}}),
            "c|3|<unknown>",
        ),
        (
            "secret",
            "secrets",
            json!({"metadata": {"name": "c"}, "type": "Opaque", "data": {"a": ""}}),
            "c|Opaque|1|<unknown>",
        ),
        (
            "service account",
            "serviceaccounts",
            json!({"metadata": {"name": "default"}}),
            "default|<unknown>",
        ),
        (
            "lease",
            "leases.coordination.k8s.io",
            json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "h"}}),
            "l|h|<unknown>",
        ),
        (
            "a budget that keeps some",
            "poddisruptionbudgets.policy",
            json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 2}, "status": {"disruptionsAllowed": 1}}),
            "b|2|N/A|1|<unknown>",
        ),
        (
            "a budget that spares some",
            "poddisruptionbudgets.policy",
            json!({"metadata": {"name": "b"}, "spec": {"maxUnavailable": "50%"}}),
            "b|N/A|50%|0|<unknown>",
        ),
        (
            "a class",
            "priorityclasses.scheduling.k8s.io",
            json!({"metadata": {"name": "c"}, "value": -3, "preemptionPolicy": "Never"}),
            "c|-3|false|<unknown>|Never",
        ),
        (
            "the class of Pods that name none",
            "priorityclasses.scheduling.k8s.io",
            json!({"metadata": {"name": "c"}, "globalDefault": true, "preemptionPolicy": "PreemptLowerPriority"}),
            "c|0|true|<unknown>|PreemptLowerPriority",
        ),
        (
            "kinds without printer",
            "roles.rbac.authorization.k8s.io",
            json!({"metadata": {"name": "r", "creationTimestamp": "2026-01-02T03:04:05Z"}}),
            "r|2026-01-02T03:04:05Z",
        ),
        (
            "event",
            "events",
            json!({"metadata": {"name": "e.1"}, "type": "Normal", "reason": "Pulled", "message": " done \n", "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"}, "source": {"component": "kubelet", "host": "n"}, "firstTimestamp": "2026-01-02T03:00:00Z", "lastTimestamp": "2026-01-02T03:09:50Z", "count": 4}),
            "10s|Normal|Pulled|pod/p|spec.containers{a}|kubelet, n|done|10m|4|e.1",
        ),
        (
            "event in a series",
            "events",
            json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "R", "involvedObject": {"kind": "Node"}, "eventTime": "2026-01-02T03:08:00.000000Z", "reportingComponent": "c", "reportingInstance": "i", "series": {"count": 7, "lastObservedTime": "2026-01-02T03:09:59.000000Z"}}),
            "1s|Normal|R|node||c, i||2m|7|e",
        ),
        (
            "event of the newer group",
            "events.events.k8s.io",
            json!({"metadata": {"name": "e"}, "type": "Warning", "reason": "R", "regarding": {"kind": "Pod", "name": "p"}, "note": "n", "eventTime": "2026-01-02T03:08:00Z", "reportingController": "c", "reportingInstance": "i"}),
            "2m|Warning|R|pod/p||c, i|n|2m|1|e",
        ),
    ] {
        assert_eq!(printed(resource, &object), expected, "{behaviour}");
    }
}

#[test]
fn rows_of_the_network() {
    const INGRESSES: &str = "ingresses.networking.k8s.io";
    const CLASSES: &str = "ingressclasses.networking.k8s.io";
    const ADDRESSES: &str = "ipaddresses.networking.k8s.io";
    const POLICIES: &str = "networkpolicies.networking.k8s.io";
    let hosts = |hosts: &[&str]| {
        let rules: Vec<Value> = hosts.iter().map(|host| json!({"host": host})).collect();
        json!({"metadata": {"name": "i"}, "spec": {"rules": rules}})
    };
    for (behaviour, resource, object, expected) in [
        (
            "an ingress of which everything is known",
            INGRESSES,
            json!({"metadata": {"name": "i", "creationTimestamp": "2026-01-02T03:00:00Z"}, "spec": {"ingressClassName": "nginx", "tls": [{}], "rules": [{"host": "a.b"}]},
                   "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}, {"hostname": "lb.example.com"}, {"ip": "192.0.2.1", "hostname": "x"}]}}}),
            "i|nginx|a.b|192.0.2.1,192.0.2.2,lb.example.com|80, 443|10m",
        ),
        (
            "an ingress for every host",
            INGRESSES,
            hosts(&["", ""]),
            "i|<none>|*||80|<unknown>",
        ),
        (
            "three hosts are shown",
            INGRESSES,
            hosts(&["a", "", "b", "c"]),
            "i|<none>|a,b,c||80|<unknown>",
        ),
        (
            "rules beyond the third host are counted",
            INGRESSES,
            hosts(&["a", "", "b", "c", ""]),
            "i|<none>|a,b,c + 2 more...||80|<unknown>",
        ),
        (
            "a class",
            CLASSES,
            json!({"metadata": {"name": "c"}, "spec": {"controller": "a.b/c"}}),
            "c|a.b/c|<none>|<unknown>",
        ),
        (
            "the default class",
            CLASSES,
            json!({"metadata": {"name": "c", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
                   "spec": {"controller": "a.b/c", "parameters": {"apiGroup": "d.e", "kind": "K", "name": "n"}}}),
            "c (default)|a.b/c|K.d.e/n|<unknown>",
        ),
        (
            "a policy for some Pods",
            POLICIES,
            json!({"metadata": {"name": "p"}, "spec": {"podSelector": {"matchLabels": {"b": "c"}, "matchExpressions": [{"key": "a", "operator": "Exists"}]}}}),
            "p|a,b=c|<unknown>",
        ),
        (
            "a range of two families",
            "servicecidrs.networking.k8s.io",
            json!({"metadata": {"name": "r"}, "spec": {"cidrs": ["10.0.0.0/24", "fd00::/112"]}}),
            "r|10.0.0.0/24,fd00::/112|<unknown>",
        ),
        (
            "an address of a Service",
            ADDRESSES,
            json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"resource": "services", "namespace": "d", "name": "s"}}}),
            "10.0.0.1|services/d/s",
        ),
        (
            "an address of something without a namespace",
            ADDRESSES,
            json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"group": "A.b", "resource": "things", "name": "s"}}}),
            "10.0.0.1|things.a.b/s",
        ),
    ] {
        assert_eq!(printed(resource, &object), expected, "{behaviour}");
    }
}

#[test]
fn tables_carry_what_was_asked_for() {
    let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "namespace": "d", "labels": {"a": "b"}}, "status": {"phase": "Failed"}});
    let table = Table {
        resource: "pods",
        include: IncludeObject::Metadata,
        with_columns: true,
        now: now(),
    }
    .of(json!({"resourceVersion": "7"}), [&object]);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["apiVersion"], "meta.k8s.io/v1");
    assert_eq!(table["metadata"]["resourceVersion"], "7");
    assert_eq!(
        table["columnDefinitions"][0],
        json!({"name": "Name", "type": "string", "format": "name", "description": describe("Name"), "priority": 0})
    );
    assert_eq!(
        table["rows"][0]["object"],
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
    );
    assert_eq!(table["rows"][0]["conditions"][0]["reason"], "Failed");
    assert_eq!(
        row("pods", &object, IncludeObject::Object, now())["object"],
        object
    );
    assert_eq!(
        row("pods", &object, IncludeObject::None, now())["object"],
        Value::Null
    );
    let later = Table {
        resource: "pods",
        include: IncludeObject::None,
        with_columns: false,
        now: now(),
    }
    .of(json!({}), []);
    assert_eq!(
        (&later["columnDefinitions"], &later["rows"]),
        (&Value::Null, &json!([])),
        "later events of a watch leave columns out"
    );
    assert_eq!(
        ["", "Metadata", "None", "Object", "x"].map(IncludeObject::parse),
        [
            Some(IncludeObject::Metadata),
            Some(IncludeObject::Metadata),
            Some(IncludeObject::None),
            Some(IncludeObject::Object),
            None
        ]
    );
}

#[test]
fn rows_of_workloads() {
    let spec = json!({
        "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
        "template": {"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:2"}]}},
    });
    let object = |spec: &Value, status: Value| json!({"metadata": {"name": "w", "creationTimestamp": "2026-01-02T03:00:00Z"}, "spec": spec, "status": status});
    let mut any = spec.clone();
    any["selector"] = json!({});
    let mut plain = spec.clone();
    plain["selector"] = json!({"app": "web"});
    let mut wrong = spec.clone();
    wrong["selector"] = json!({"matchExpressions": [{"key": "a", "operator": "Like"}]});
    for (behaviour, resource, object, expected) in [
        (
            "a deployment",
            "deployments.apps",
            object(
                &spec,
                json!({"readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}),
            ),
            "w|2/3|1|2|10m|a,b|i:1,i:2|app=web",
        ),
        (
            "a deployment that was not looked at",
            "deployments.apps",
            object(&spec, json!({})),
            "w|0/3|0|0|10m|a,b|i:1,i:2|app=web",
        ),
        (
            "a selector of an old deployment",
            "deployments.apps",
            object(&wrong, json!({})),
            "w|0/3|0|0|10m|a,b|i:1,i:2|<invalid>",
        ),
        (
            "a replica set",
            "replicasets.apps",
            object(&spec, json!({"replicas": 2, "readyReplicas": 1})),
            "w|3|2|1|10m|a,b|i:1,i:2|app=web",
        ),
        (
            "a selector that asks for nothing",
            "replicasets.apps",
            object(&any, json!({"replicas": 2})),
            "w|3|2|0|10m|a,b|i:1,i:2|<none>",
        ),
        (
            "a selector of an old replica set",
            "replicasets.apps",
            object(&wrong, json!({"replicas": 2})),
            "w|3|2|0|10m|a,b|i:1,i:2|<error>",
        ),
        (
            "a replication controller",
            "replicationcontrollers",
            object(&plain, json!({"replicas": 2})),
            "w|3|2|0|10m|a,b|i:1,i:2|app=web",
        ),
        (
            "a stateful set",
            "statefulsets.apps",
            object(&spec, json!({"replicas": 3, "readyReplicas": 2})),
            "w|2/3|10m|a,b|i:1,i:2",
        ),
        (
            "a daemon set",
            "daemonsets.apps",
            object(
                &spec,
                json!({"desiredNumberScheduled": 1, "currentNumberScheduled": 2, "numberReady": 3, "updatedNumberScheduled": 4, "numberAvailable": 5}),
            ),
            "w|1|2|3|4|5|<none>|10m|a,b|i:1,i:2|app=web",
        ),
        (
            "a revision",
            "controllerrevisions.apps",
            json!({"metadata": {"name": "r", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": true}]}, "revision": 3}),
            "r|daemonset.apps/d|3|<unknown>",
        ),
        (
            "a revision of nobody",
            "controllerrevisions.apps",
            json!({"metadata": {"name": "r"}, "revision": 0}),
            "r|<none>|0|<unknown>",
        ),
        (
            "a scale",
            "scales.autoscaling",
            object(&json!({"replicas": 3}), json!({"replicas": 2})),
            "w|3|2|10m",
        ),
    ] {
        assert_eq!(printed(resource, &object), expected, "{behaviour}");
    }
}

#[test]
fn rows_of_jobs() {
    let job = |spec: Value, status: Value| json!({"metadata": {"name": "j", "creationTimestamp": "2026-01-02T03:00:00Z"}, "spec": spec, "status": status});
    let is = |kinds: &[&str]| -> Value {
        let all = kinds.iter();
        all.map(|kind| json!({"type": kind, "status": "True"}))
            .collect()
    };
    let one = json!({"completions": 1, "parallelism": 1});
    let begun = "2026-01-02T03:05:00Z";
    for (behaviour, object, expected) in [
        (
            "a job that was not looked at",
            job(one.clone(), json!({})),
            "j|Running|0/1||10m|||<none>",
        ),
        (
            "a job that runs",
            job(one.clone(), json!({"startTime": begun})),
            "j|Running|0/1|5m|10m|||<none>",
        ),
        (
            "a job that is done",
            job(
                one.clone(),
                json!({"startTime": begun, "completionTime": "2026-01-02T03:05:09Z", "succeeded": 1, "conditions": is(&["SuccessCriteriaMet", "Complete"])}),
            ),
            "j|Complete|1/1|9s|10m|||<none>",
        ),
        (
            "a job that is about to fail",
            job(one.clone(), json!({"conditions": is(&["FailureTarget"])})),
            "j|FailureTarget|0/1||10m|||<none>",
        ),
        (
            "a job that sleeps",
            job(one, json!({"conditions": is(&["Suspended"])})),
            "j|Suspended|0/1||10m|||<none>",
        ),
        (
            "a job of one of many",
            job(json!({"parallelism": 3}), json!({"succeeded": 2})),
            "j|Running|2/1 of 3||10m|||<none>",
        ),
        (
            "a job of one",
            job(json!({"parallelism": 1}), json!({})),
            "j|Running|0/1||10m|||<none>",
        ),
    ] {
        assert_eq!(printed("jobs.batch", &object), expected, "{behaviour}");
    }
    let mut leaving = job(json!({"completions": 2}), json!({}));
    leaving["metadata"]["deletionTimestamp"] = begun.into();
    assert_eq!(
        printed("jobs.batch", &leaving),
        "j|Terminating|0/2||10m|||<none>"
    );
    let containers = json!([{"name": "c", "image": "i"}]);
    let template = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    let cron = job(
        json!({"schedule": "@daily", "suspend": false, "jobTemplate": template}),
        json!({"lastScheduleTime": begun, "active": [{}]}),
    );
    let row = "j|@daily|<none>|False|1|5m|10m|c|i|<none>";
    assert_eq!(printed("cronjobs.batch", &cron), row);
}
