//! A Pod with every kind of container, as it was described by upstream for the same manifest.

use serde_json::json;

use super::*;

const NOW: &str = "2026-11-20T16:30:00Z";

fn pod() -> Value {
    let state = |started: &str| json!({"running": {"startedAt": started}});
    let ended = |reason: &str, code: i64| json!({"terminated": {"reason": reason, "exitCode": code, "startedAt": "2026-11-20T16:20:01Z", "finishedAt": "2026-11-20T16:20:02Z"}});
    let status = |name: &str, state: Value, last: Value, ready: bool, restarts: i64| {
        json!({"name": name, "containerID": format!("carob://{name}1"), "imageID": "docker.io/library/busybox@sha256:aa",
        "state": state, "lastState": last, "ready": ready, "restartCount": restarts})
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web", "tier": "fe"}, "annotations": {"note": "hello", HIDDEN: "{}"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "controller": true}]},
        "spec": {
            "priority": 0, "serviceAccountName": "default", "nodeName": "n1", "nodeSelector": {"disk": "ssd"},
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c"}}],
            "tolerations": [
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "initContainers": [{"name": "i", "image": "busybox:1.36", "command": ["sh", "-c", "true\nfalse"]}],
            "containers": [{
                "name": "a", "image": "nginx:1.27", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "web"}, {"containerPort": 443, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "500m", "memory": "128Mi"}, "requests": {"cpu": "250m"}},
                "livenessProbe": {"httpGet": {"port": 80, "path": "/healthz", "scheme": "HTTP"}, "initialDelaySeconds": 5, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "readinessProbe": {"exec": {"command": ["cat", "/ready"]}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "envFrom": [{"configMapRef": {"name": "cfg"}}],
                "env": [
                    {"name": "A", "value": "1\n2"},
                    {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
                    {"name": "NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}},
                    {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}},
                    {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": true}}}],
                "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}, {"name": "c", "mountPath": "/c", "subPath": "x"}]
            }]
        },
        "status": {
            "phase": "Running", "hostIP": "192.168.1.5", "podIP": "10.1.0.7", "podIPs": [{"ip": "10.1.0.7"}], "startTime": "2026-11-20T16:20:00Z", "qosClass": "Burstable",
            "conditions": [{"type": "PodReadyToStartContainers", "status": "True"}, {"type": "Ready", "status": "False"}],
            "initContainerStatuses": [status("i", ended("Completed", 0), json!({}), true, 0)],
            "containerStatuses": [status("a", state("2026-11-20T16:24:55Z"), ended("OOMKilled", 137), true, 2)]
        }
    })
}

fn events() -> Vec<Value> {
    let event = |reason: &str,
                 message: &str,
                 path: Option<&str>,
                 count: i64,
                 first: &str,
                 last: &str| {
        json!({"type": "Normal", "reason": reason, "message": message, "count": count,
        "firstTimestamp": first, "lastTimestamp": last, "source": {"component": "kubelet"}, "involvedObject": {"fieldPath": path}})
    };
    vec![
        event(
            "Pulled",
            "Container image \"nginx:1.27\" already present on machine",
            Some("spec.containers{a}"),
            3,
            "2026-11-20T16:20:00Z",
            "2026-11-20T16:23:52Z",
        ),
        event(
            "Scheduled",
            "Successfully assigned default/web to n1\n",
            None,
            1,
            "2026-11-20T16:19:00Z",
            "2026-11-20T16:19:00Z",
        ),
    ]
}

const DESCRIBED: &str = "\
Name:             web
Namespace:        default
Priority:         0
Service Account:  default
Node:             n1/192.168.1.5
Start Time:       Fri, 20 Nov 2026 16:20:00 +0000
Labels:           app=web
                  tier=fe
Annotations:      note: hello
Status:           Running
IP:               10.1.0.7
IPs:
  IP:           10.1.0.7
Controlled By:  ReplicaSet/web
Init Containers:
  i:
    Container ID:  carob://i1
    Image:         busybox:1.36
    Image ID:      docker.io/library/busybox@sha256:aa
    Port:          <none>
    Host Port:     <none>
    Command:
      sh
      -c
      true
      false
    State:          Terminated
      Reason:       Completed
      Exit Code:    0
      Started:      Fri, 20 Nov 2026 16:20:01 +0000
      Finished:     Fri, 20 Nov 2026 16:20:02 +0000
    Ready:          True
    Restart Count:  0
    Environment:    <none>
    Mounts:         <none>
Containers:
  a:
    Container ID:   carob://a1
    Image:          nginx:1.27
    Image ID:       docker.io/library/busybox@sha256:aa
    Ports:          80/TCP (web), 443/TCP
    Host Ports:     0/TCP (web), 0/TCP
    State:          Running
      Started:      Fri, 20 Nov 2026 16:24:55 +0000
    Last State:     Terminated
      Reason:       OOMKilled
      Exit Code:    137
      Started:      Fri, 20 Nov 2026 16:20:01 +0000
      Finished:     Fri, 20 Nov 2026 16:20:02 +0000
    Ready:          True
    Restart Count:  2
    Limits:
      cpu:     500m
      memory:  128Mi
    Requests:
      cpu:      250m
    Liveness:   http-get http://:80/healthz delay=5s timeout=1s period=10s #success=1 #failure=3
    Readiness:  exec [cat /ready] delay=0s timeout=1s period=10s #success=1 #failure=3
    Environment Variables from:
      cfg  ConfigMap  Optional: false
    Environment:
      A:       1
               2
      POD_IP:   (v1:status.podIP)
      NAME:    web (v1:metadata.name)
      CPU:     1 (limits.cpu)
      PW:      <set to the key 'pw' in secret 'sec'>   Optional: false
      K:       <set to the key 'k' of config map 'c'>  Optional: true
    Mounts:
      /c from c (rw,path=\"x\")
      /v from v (ro)
Conditions:
  Type                        Status
  PodReadyToStartContainers   True 
  Ready                       False 
Volumes:
  v:
    Type:       EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:     
    SizeLimit:  <unset>
  c:
    Type:        ConfigMap (a volume populated by a ConfigMap)
    Name:        c
    Optional:    false
QoS Class:       Burstable
Node-Selectors:  disk=ssd
Tolerations:     node.kubernetes.io/not-ready:NoExecute op=Exists for 300s
                 node.kubernetes.io/unreachable:NoExecute op=Exists for 300s
Events:
  Type    Reason     Age                 From     Message
  ----    ------     ----                ----     -------
  Normal  Scheduled  11m                 kubelet  Successfully assigned default/web to n1
  Normal  Pulled     6m8s (x3 over 10m)  kubelet  spec.containers{a}: Container image \"nginx:1.27\" already present on machine
";

#[test]
fn a_pod_is_described() {
    let now = NOW.parse().expect("a time");
    let beside = Beside {
        events: Some(events()),
        ..Beside::default()
    };
    assert_eq!(describe(&pod(), &beside, now), DESCRIBED);
}
