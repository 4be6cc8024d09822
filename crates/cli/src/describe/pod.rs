//! A Pod (§15.1).

use api::quantity::Quantity;
use jiff::Timestamp;
use serde_json::Value;

use super::tabs::Tabs;
use super::volumes::volumes;
use super::{
    annotation_lines, capital, is_set, labels_and_annotations, list, name_and_namespace, pairs,
    shown, text, time,
};

/// Where containers and volumes stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Indent {
    /// In a Pod.
    Pod,
    /// In the template of a workload: one level deeper, but their fields are not.
    Template,
}

impl Indent {
    /// The level of their title.
    pub(super) fn level(self) -> usize {
        match self {
            Indent::Pod => 0,
            Indent::Template => 1,
        }
    }

    /// What stands before their names, behind the indentation.
    pub(super) fn of_name(self) -> &'static str {
        match self {
            Indent::Pod => "",
            Indent::Template => " ",
        }
    }
}

/// Adds everything but the events.
pub(super) fn describe(out: &mut Tabs, pod: &Value, now: Timestamp) {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    identity(out, pod);
    labels_and_annotations(out, pod);
    state(out, pod, now);
    seccomp(out, 0, &spec["securityContext"]["seccompProfile"]);
    addresses(out, status);
    let owner = list(&pod["metadata"]["ownerReferences"])
        .iter()
        .find(|owner| owner["controller"] == true);
    if let Some(owner) = owner {
        let owner = format!("{}/{}", text(&owner["kind"]), text(&owner["name"]));
        out.field(0, "Controlled By", owner);
    }
    if is_set(&status["nominatedNodeName"]) {
        out.field(0, "NominatedNodeName", text(&status["nominatedNodeName"]));
    }
    if spec["resources"].is_object() {
        out.line(0, "Resources:");
        resources(out, 1, &spec["resources"]);
    }
    containers(out, pod, Indent::Pod);
    conditions(out, spec, status);
    volumes(out, list(&spec["volumes"]), Indent::Pod);
    out.field(0, "QoS Class", text(&status["qosClass"]));
    out.column("Node-Selectors", &pairs(&spec["nodeSelector"]));
    out.column("Tolerations", &tolerations(list(&spec["tolerations"])));
    spread(out, list(&spec["topologySpreadConstraints"]), "");
}

/// The template of a workload's Pods.
pub(super) fn template(out: &mut Tabs, template: &Value) {
    let (metadata, spec) = (&template["metadata"], &template["spec"]);
    out.line(0, "Pod Template:");
    out.column("  Labels", &pairs(&metadata["labels"]));
    if let Some(annotations) = metadata["annotations"]
        .as_object()
        .filter(|annotations| !annotations.is_empty())
    {
        out.column("  Annotations", &annotation_lines(annotations));
    }
    if is_set(&spec["serviceAccountName"]) {
        out.field(1, "Service Account", text(&spec["serviceAccountName"]));
    }
    containers(out, template, Indent::Template);
    volumes(out, list(&spec["volumes"]), Indent::Template);
    spread(out, list(&spec["topologySpreadConstraints"]), "  ");
    if is_set(&spec["priorityClassName"]) {
        out.field(1, "Priority Class Name", text(&spec["priorityClassName"]));
    }
    out.column("  Node-Selectors", &pairs(&spec["nodeSelector"]));
    out.column("  Tolerations", &tolerations(list(&spec["tolerations"])));
}

/// All containers of a Pod or a template, with what became of them.
fn containers(out: &mut Tabs, pod: &Value, indent: Indent) {
    for (title, field, statuses) in [
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
        (
            "Ephemeral Containers",
            "ephemeralContainers",
            "ephemeralContainerStatuses",
        ),
    ] {
        let containers = list(&pod["spec"][field]);
        if containers.is_empty() {
            if field == "containers" {
                out.line(indent.level(), "Containers: <none>");
            }
            continue;
        }
        out.line(indent.level(), format!("{title}:"));
        for one in containers {
            let status = list(&pod["status"][statuses])
                .iter()
                .find(|status| status["name"] == one["name"]);
            out.line(1, format!("{}{}:", indent.of_name(), text(&one["name"])));
            container(out, pod, one, status);
        }
    }
}

fn identity(out: &mut Tabs, pod: &Value) {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    name_and_namespace(out, pod);
    for (name, value) in [
        ("Priority", &spec["priority"]),
        ("Priority Class Name", &spec["priorityClassName"]),
        ("Runtime Class Name", &spec["runtimeClassName"]),
        ("Service Account", &spec["serviceAccountName"]),
    ] {
        if is_set(value) {
            out.field(0, name, shown(value));
        }
    }
    match text(&spec["nodeName"]) {
        "" => out.field(0, "Node", "<none>"),
        node => out.field(0, "Node", format!("{node}/{}", text(&status["hostIP"]))),
    }
    if is_set(&status["startTime"]) {
        out.field(0, "Start Time", time(&status["startTime"]));
    }
}

fn state(out: &mut Tabs, pod: &Value, now: Timestamp) {
    let status = &pod["status"];
    let phase = text(&status["phase"]);
    let deletion = &pod["metadata"]["deletionTimestamp"];
    if is_set(deletion) && !matches!(phase, "Failed" | "Succeeded") {
        let lasts = api::duration::age(api::time::parse(text(deletion)), now);
        out.field(0, "Status", format!("Terminating (lasts {lasts})"));
        let grace = pod["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or(0);
        out.field(0, "Termination Grace Period", format!("{grace}s"));
    } else {
        out.field(0, "Status", phase);
    }
    for (name, value) in [
        ("Reason", &status["reason"]),
        ("Message", &status["message"]),
    ] {
        if is_set(value) {
            out.field(0, name, text(value));
        }
    }
}

fn seccomp(out: &mut Tabs, level: usize, profile: &Value) {
    if profile.is_object() {
        out.field(level, "SeccompProfile", text(&profile["type"]));
        if profile["type"] == "Localhost" {
            // Inside a container it stands one level deeper.
            let level = if level == 0 { 0 } else { level + 1 };
            out.field(
                level,
                "LocalhostProfile",
                text(&profile["localhostProfile"]),
            );
        }
    }
}

fn addresses(out: &mut Tabs, status: &Value) {
    out.field(0, "IP", text(&status["podIP"]));
    let addresses = list(&status["podIPs"]);
    if addresses.is_empty() {
        out.line(0, "IPs:\t<none>");
        return;
    }
    out.line(0, "IPs:");
    for address in addresses {
        out.field(1, "IP", text(&address["ip"]));
    }
}

fn container(out: &mut Tabs, pod: &Value, container: &Value, status: Option<&Value>) {
    if let Some(status) = status {
        out.field(2, "Container ID", text(&status["containerID"]));
    }
    out.field(2, "Image", text(&container["image"]));
    if let Some(status) = status {
        out.field(2, "Image ID", text(&status["imageID"]));
    }
    ports(out, list(&container["ports"]));
    seccomp(out, 2, &container["securityContext"]["seccompProfile"]);
    for (title, words) in [
        ("Command", &container["command"]),
        ("Args", &container["args"]),
    ] {
        if is_set(words) {
            out.line(2, format!("{title}:"));
            for line in list(words).iter().flat_map(|word| text(word).split('\n')) {
                out.line(3, line);
            }
        }
    }
    if let Some(status) = status {
        container_state(out, "State", &status["state"]);
        if status["lastState"]["terminated"].is_object() {
            container_state(out, "Last State", &status["lastState"]);
        }
        out.field(2, "Ready", capital(&status["ready"]));
        out.field(2, "Restart Count", shown(&status["restartCount"]));
    }
    resources(out, 2, &container["resources"]);
    for (title, field) in [
        ("Liveness", "livenessProbe"),
        ("Readiness", "readinessProbe"),
        ("Startup", "startupProbe"),
    ] {
        if container[field].is_object() {
            out.field(2, title, probe(&container[field]));
        }
    }
    environment(out, pod, container);
    mounts(out, container);
}

fn ports(out: &mut Tabs, ports: &[Value]) {
    let shown = |field: &str| -> String {
        let port = |port: &Value| {
            let number = port[field].as_i64().unwrap_or(0);
            let name = match text(&port["name"]) {
                "" => String::new(),
                name => format!(" ({name})"),
            };
            format!("{number}/{}{name}", text(&port["protocol"]))
        };
        ports.iter().map(port).collect::<Vec<_>>().join(", ")
    };
    for (title, field) in [("Port", "containerPort"), ("Host Port", "hostPort")] {
        match shown(field) {
            none if none.is_empty() => out.field(2, title, "<none>"),
            several if several.contains(',') => out.field(2, &format!("{title}s"), several),
            one => out.field(2, title, one),
        }
    }
}

fn container_state(out: &mut Tabs, title: &str, state: &Value) {
    if state["running"].is_object() {
        out.field(2, title, "Running");
        out.field(3, "Started", time(&state["running"]["startedAt"]));
    } else if state["terminated"].is_object() {
        let ended = &state["terminated"];
        out.field(2, title, "Terminated");
        for (name, value) in [("Reason", &ended["reason"]), ("Message", &ended["message"])] {
            if is_set(value) {
                out.field(3, name, text(value));
            }
        }
        out.field(
            3,
            "Exit Code",
            ended["exitCode"].as_i64().unwrap_or(0).to_string(),
        );
        if let Some(signal) = ended["signal"].as_i64().filter(|signal| *signal > 0) {
            out.field(3, "Signal", signal.to_string());
        }
        out.field(3, "Started", time(&ended["startedAt"]));
        out.field(3, "Finished", time(&ended["finishedAt"]));
    } else {
        out.field(2, title, "Waiting");
        if is_set(&state["waiting"]["reason"]) {
            out.field(3, "Reason", text(&state["waiting"]["reason"]));
        }
    }
}

fn resources(out: &mut Tabs, level: usize, resources: &Value) {
    for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
        let Some(map) = resources[field].as_object().filter(|map| !map.is_empty()) else {
            continue;
        };
        out.line(level, format!("{title}:"));
        for (name, quantity) in map {
            out.field(level + 1, name, shown(quantity));
        }
    }
}

fn probe(probe: &Value) -> String {
    let number = |field: &str| probe[field].as_i64().unwrap_or(0);
    let attributes = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds"),
        number("timeoutSeconds"),
        number("periodSeconds"),
        number("successThreshold"),
        number("failureThreshold")
    );
    let what = if probe["exec"].is_object() {
        let words: Vec<&str> = list(&probe["exec"]["command"]).iter().map(text).collect();
        format!("exec [{}]", words.join(" "))
    } else if probe["httpGet"].is_object() {
        let get = &probe["httpGet"];
        let host = match text(&get["host"]) {
            address if address.contains(':') => format!("[{address}]"),
            name => name.to_owned(),
        };
        let path = escaped(text(&get["path"]));
        let slash = if path.is_empty() || path.starts_with('/') {
            ""
        } else {
            "/"
        };
        format!(
            "http-get {}://{host}:{}{slash}{path}",
            text(&get["scheme"]).to_lowercase(),
            shown(&get["port"])
        )
    } else if probe["tcpSocket"].is_object() {
        let socket = &probe["tcpSocket"];
        format!(
            "tcp-socket {}:{}",
            text(&socket["host"]),
            shown(&socket["port"])
        )
    } else if probe["grpc"].is_object() {
        let grpc = &probe["grpc"];
        format!(
            "grpc <pod>:{} {}",
            shown(&grpc["port"]),
            text(&grpc["service"])
        )
    } else {
        "unknown".into()
    };
    format!("{what} {attributes}")
}

fn environment(out: &mut Tabs, pod: &Value, container: &Value) {
    let sources = list(&container["envFrom"]);
    if !sources.is_empty() {
        out.line(2, "Environment Variables from:");
    }
    for source in sources {
        let (kind, reference) = if source["configMapRef"].is_object() {
            ("ConfigMap", &source["configMapRef"])
        } else {
            ("Secret", &source["secretRef"])
        };
        let prefix = match text(&source["prefix"]) {
            "" => String::new(),
            prefix => format!(" with prefix '{prefix}'"),
        };
        let (name, optional) = (text(&reference["name"]), reference["optional"] == true);
        out.line(3, format!("{name}\t{kind}{prefix}\tOptional: {optional}"));
    }
    let variables = list(&container["env"]);
    if variables.is_empty() {
        out.line(2, "Environment:\t<none>");
        return;
    }
    out.line(2, "Environment:");
    for variable in variables {
        let name = text(&variable["name"]);
        let from = &variable["valueFrom"];
        if !from.is_object() {
            for (place, line) in text(&variable["value"]).split('\n').enumerate() {
                let head = if place == 0 {
                    format!("{name}:")
                } else {
                    String::new()
                };
                out.line(3, format!("{head}\t{line}"));
            }
            continue;
        }
        if let Some(value) = variable_source(pod, container, from) {
            out.line(3, format!("{name}:\t{value}"));
        }
    }
}

fn variable_source(pod: &Value, container: &Value, from: &Value) -> Option<String> {
    let optional = |reference: &Value| reference["optional"] == true;
    if from["fieldRef"].is_object() {
        let field = &from["fieldRef"];
        let path = text(&field["fieldPath"]);
        let value = field_value(pod, path).unwrap_or_default();
        return Some(format!("{value} ({}:{path})", text(&field["apiVersion"])));
    }
    if from["resourceFieldRef"].is_object() {
        let resource = text(&from["resourceFieldRef"]["resource"]);
        let value = resource_value(container, &from["resourceFieldRef"]).unwrap_or_default();
        let of_node = value == "0" && matches!(resource, "limits.cpu" | "limits.memory");
        let value = if of_node {
            "node allocatable".into()
        } else {
            value
        };
        return Some(format!("{value} ({resource})"));
    }
    for (field, words) in [
        ("secretKeyRef", "in secret"),
        ("configMapKeyRef", "of config map"),
    ] {
        let reference = &from[field];
        if reference.is_object() {
            return Some(format!(
                "<set to the key '{}' {words} '{}'>\tOptional: {}",
                text(&reference["key"]),
                text(&reference["name"]),
                optional(reference)
            ));
        }
    }
    None
}

/// The value of the fields that are known here; others are known to the node only.
fn field_value(pod: &Value, path: &str) -> Option<String> {
    match path {
        "metadata.name" | "metadata.namespace" => {
            let field = path.strip_prefix("metadata.")?;
            pod["metadata"][field].as_str().map(str::to_owned)
        }
        _ => None,
    }
}

/// A path as a URL has it.
fn escaped(path: &str) -> String {
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte);
    path.bytes()
        .map(|byte| {
            if stays(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// A limit or request in units of its divisor, rounded up; 0 if there is none.
fn resource_value(container: &Value, reference: &Value) -> Option<String> {
    let (list, name) = text(&reference["resource"]).split_once('.')?;
    let quantity = |value: &Value| Quantity::from_json(value).ok();
    let amount = match &container["resources"][list][name] {
        Value::Null => return Some("0".into()),
        value => quantity(value)?,
    };
    let divisor = match &reference["divisor"] {
        Value::Null => quantity(&"1".into())?,
        value if value == "0" => quantity(&"1".into())?,
        value => quantity(value)?,
    };
    // CPUs are counted in thousandths, everything else in whole units.
    let (amount, divisor) = if name == "cpu" {
        (amount.milli_value(), divisor.milli_value())
    } else {
        (amount.value(), divisor.value())
    };
    (divisor > 0).then(|| (amount + divisor - 1).div_euclid(divisor).to_string())
}

fn mounts(out: &mut Tabs, container: &Value) {
    let mut mounts: Vec<&Value> = list(&container["volumeMounts"]).iter().collect();
    mounts.sort_by_key(|mount| text(&mount["mountPath"]));
    if mounts.is_empty() {
        out.line(2, "Mounts:\t<none>");
    } else {
        out.line(2, "Mounts:");
    }
    for mount in mounts {
        let access = if mount["readOnly"] == true {
            "ro"
        } else {
            "rw"
        };
        let path = match text(&mount["subPath"]) {
            "" => String::new(),
            path => format!(",path={}", api::gotext::quote(path)),
        };
        let (to, from) = (text(&mount["mountPath"]), text(&mount["name"]));
        out.line(3, format!("{to} from {from} ({access}{path})"));
    }
    let mut devices: Vec<&Value> = list(&container["volumeDevices"]).iter().collect();
    devices.sort_by_key(|device| text(&device["devicePath"]));
    if !devices.is_empty() {
        out.line(2, "Devices:");
    }
    for device in devices {
        let (to, from) = (text(&device["devicePath"]), text(&device["name"]));
        out.line(3, format!("{to} from {from}"));
    }
}

fn conditions(out: &mut Tabs, spec: &Value, status: &Value) {
    let conditions = list(&status["conditions"]);
    let gates = list(&spec["readinessGates"]);
    if !gates.is_empty() {
        out.line(0, "Readiness Gates:");
        out.line(1, "Type\tStatus");
    }
    for gate in gates {
        let condition = conditions
            .iter()
            .find(|condition| condition["type"] == gate["conditionType"]);
        let state = condition.map_or("<none>", |condition| text(&condition["status"]));
        out.line(1, format!("{} \t{state} ", text(&gate["conditionType"])));
    }
    if !conditions.is_empty() {
        out.line(0, "Conditions:");
        out.line(1, "Type\tStatus");
    }
    for condition in conditions {
        let (kind, state) = (text(&condition["type"]), text(&condition["status"]));
        out.line(1, format!("{kind} \t{state} "));
    }
}

fn tolerations(tolerations: &[Value]) -> Vec<String> {
    let mut sorted: Vec<&Value> = tolerations.iter().collect();
    sorted.sort_by_key(|toleration| text(&toleration["key"]));
    let line = |toleration: &&Value| {
        let field = |name: &str| text(&toleration[name]);
        let mut line = field("key").to_owned();
        if !field("value").is_empty() {
            line.push_str(&format!("={}", field("value")));
        }
        if !field("effect").is_empty() {
            line.push_str(&format!(":{}", field("effect")));
        }
        if field("operator") == "Exists" && field("value").is_empty() {
            line.push_str(if line.is_empty() {
                "op=Exists"
            } else {
                " op=Exists"
            });
        }
        if let Some(seconds) = toleration["tolerationSeconds"].as_i64() {
            line.push_str(&format!(" for {seconds}s"));
        }
        line
    };
    sorted.iter().map(line).collect()
}

fn spread(out: &mut Tabs, constraints: &[Value], indent: &str) {
    if constraints.is_empty() {
        return;
    }
    let mut sorted: Vec<&Value> = constraints.iter().collect();
    sorted.sort_by_key(|constraint| text(&constraint["topologyKey"]));
    let line = |constraint: &&Value| {
        let mut line = format!(
            "{}:{} when max skew {} is exceeded",
            text(&constraint["topologyKey"]),
            text(&constraint["whenUnsatisfiable"]),
            shown(&constraint["maxSkew"])
        );
        let labels = pairs(&constraint["labelSelector"]["matchLabels"]);
        if !labels.is_empty() {
            line.push_str(&format!(" for selector {}", labels.join(",")));
        }
        line
    };
    let lines: Vec<String> = sorted.iter().map(line).collect();
    out.column(&format!("{indent}Topology Spread Constraints"), &lines);
}
