//! What is used, in upstream's words: `/stats/summary` (kubelet's stats/v1alpha1) and `/metrics/resource`.

use std::fmt::Write;

use jiff::Timestamp;
use ports::node::{Usage, Used};
use serde_json::{Value, json};

/// The summary of the node and its Pods; those that were not measured are left out.
pub(crate) fn summary(usage: &Usage, pods: &[Value]) -> Value {
    let shown = |pod: &Value| {
        let meta = &pod["metadata"];
        let measured = usage.pods.get(meta["uid"].as_str()?)?;
        let containers: Vec<Value> = measured
            .iter()
            .map(|(name, used)| {
                let mut container = figures(usage.at, used);
                container["name"] = name.as_str().into();
                container["startTime"] = started(pod, name).cloned().unwrap_or_default();
                container
            })
            .collect();
        let mut shown = figures(usage.at, &total(measured.values()));
        shown["podRef"] =
            json!({"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]});
        shown["startTime"] = pod["status"]["startTime"].clone();
        shown["containers"] = containers.into();
        Some(shown)
    };
    let mut node = figures(usage.at, &usage.node);
    node["nodeName"] = usage.node_name.as_str().into();
    json!({"node": node, "pods": pods.iter().filter_map(shown).collect::<Vec<_>>()})
}

fn figures(at: Timestamp, used: &Used) -> Value {
    let at = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "cpu": {"time": at, "usageNanoCores": used.nano_cpus, "usageCoreNanoSeconds": used.cpu_ns},
        "memory": {"time": at, "workingSetBytes": used.memory_bytes},
    })
}

fn total<'a>(all: impl Iterator<Item = &'a Used>) -> Used {
    all.fold(Used::default(), |sum, used| Used {
        nano_cpus: sum.nano_cpus + used.nano_cpus,
        cpu_ns: sum.cpu_ns + used.cpu_ns,
        memory_bytes: sum.memory_bytes + used.memory_bytes,
    })
}

/// Since when a container runs.
fn started<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let lists = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    let list = |list: &str| pod["status"][list].as_array().into_iter().flatten();
    let mut all = lists.into_iter().flat_map(list);
    let status = all.find(|status| status["name"] == name)?;
    Some(&status["state"]["running"]["startedAt"])
}

/// One line of figures.
struct Line {
    labels: String,
    value: f64,
    at: Option<Timestamp>,
}

/// The same in the format of Prometheus.
pub(crate) fn metrics(usage: &Usage, pods: &[Value]) -> String {
    let seconds = |used: &Used| used.cpu_ns as f64 / 1e9;
    let memory = |used: &Used| used.memory_bytes as f64;
    let line = |labels: &str, value: f64| Line {
        labels: labels.to_owned(),
        value,
        at: Some(usage.at),
    };
    let mut families: [Vec<Line>; 5] = Default::default();
    let [begun, cpu_of, memory_of, pod_cpu, pod_memory] = &mut families;
    for pod in pods {
        let meta = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
        let Some(measured) = usage.pods.get(meta("uid")) else {
            continue;
        };
        let place = format!("namespace={:?},pod={:?}", meta("namespace"), meta("name"));
        for (name, used) in measured {
            let labels = format!("container={name:?},{place}");
            let since = started(pod, name).and_then(|since| since.as_str()?.parse().ok());
            begun.extend(since.map(|since: Timestamp| Line {
                at: None,
                ..line(&labels, since.as_millisecond() as f64 / 1e3)
            }));
            cpu_of.push(line(&labels, seconds(used)));
            memory_of.push(line(&labels, memory(used)));
        }
        let total = total(measured.values());
        pod_cpu.push(line(&place, seconds(&total)));
        pod_memory.push(line(&place, memory(&total)));
    }
    let [begun, cpu_of, memory_of, pod_cpu, pod_memory] = &families;
    let node_cpu = [line("", seconds(&usage.node))];
    let node_memory = [line("", memory(&usage.node))];
    let no_error = [Line {
        at: None,
        ..line("", 0.0)
    }];
    let mut out = String::new();
    for (name, help, kind, lines) in [
        (
            "container_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the container in core-seconds",
            "counter",
            &cpu_of[..],
        ),
        (
            "container_memory_working_set_bytes",
            "Current working set of the container in bytes",
            "gauge",
            memory_of,
        ),
        (
            "container_start_time_seconds",
            "Start time of the container since unix epoch in seconds",
            "gauge",
            begun,
        ),
        (
            "node_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the node in core-seconds",
            "counter",
            &node_cpu,
        ),
        (
            "node_memory_working_set_bytes",
            "Current working set of the node in bytes",
            "gauge",
            &node_memory,
        ),
        (
            "pod_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the pod in core-seconds",
            "counter",
            pod_cpu,
        ),
        (
            "pod_memory_working_set_bytes",
            "Current working set of the pod in bytes",
            "gauge",
            pod_memory,
        ),
        (
            "resource_scrape_error",
            "1 if there was an error while getting container metrics, 0 otherwise",
            "gauge",
            &no_error,
        ),
    ] {
        family(&mut out, [name, help, kind], lines);
    }
    out
}

fn family(out: &mut String, [name, help, kind]: [&str; 3], lines: &[Line]) {
    if lines.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
    for Line { labels, value, at } in lines {
        let labels = match labels.as_str() {
            "" => String::new(),
            labels => format!("{{{labels}}}"),
        };
        let at = at.map_or(String::new(), |at| format!(" {}", at.as_millisecond()));
        // Likewise.
        let _ = writeln!(out, "{name}{labels} {value}{at}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    fn used(n: u64) -> Used {
        Used {
            nano_cpus: n,
            cpu_ns: n * 1_000_000_000,
            memory_bytes: n << 10,
        }
    }

    fn example() -> (Usage, Vec<Value>) {
        let containers = BTreeMap::from([("a".into(), used(2)), ("b".into(), used(3))]);
        let usage = Usage {
            at: "2026-01-02T03:04:05Z".parse().unwrap(),
            window: Duration::from_millis(500),
            node_name: "n1".into(),
            node: used(9),
            pods: BTreeMap::from([("u".into(), containers)]),
        };
        let pod = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "status": {"startTime": "2026-01-01T00:00:00Z", "containerStatuses": [
                {"name": "a", "state": {"running": {"startedAt": "2026-01-01T00:00:01Z"}}},
            ]},
        });
        let other = json!({"metadata": {"name": "q", "namespace": "n", "uid": "v"}});
        (usage, vec![pod, other])
    }

    #[test]
    fn pods_that_were_measured_are_in_the_summary() {
        let (usage, pods) = example();
        let shown = summary(&usage, &pods);
        assert_eq!(shown["node"]["nodeName"], "n1");
        assert_eq!(shown["node"]["cpu"]["usageNanoCores"], 9);
        assert_eq!(shown["node"]["cpu"]["time"], "2026-01-02T03:04:05Z");
        assert_eq!(shown["pods"].as_array().unwrap().len(), 1);
        let pod = &shown["pods"][0];
        assert_eq!(
            pod["podRef"],
            json!({"name": "p", "namespace": "n", "uid": "u"})
        );
        assert_eq!(pod["memory"]["workingSetBytes"], 5 << 10);
        assert_eq!(pod["containers"][0]["name"], "a");
        assert_eq!(pod["containers"][0]["startTime"], "2026-01-01T00:00:01Z");
        assert_eq!(
            pod["containers"][1]["cpu"]["usageCoreNanoSeconds"],
            3_000_000_000u64
        );
        assert_eq!(pod["containers"][1]["startTime"], Value::Null);
    }

    #[test]
    fn metrics_are_as_upstreams() {
        let (usage, pods) = example();
        let text = metrics(&usage, &pods);
        for line in [
            "# TYPE container_cpu_usage_seconds_total counter",
            "container_cpu_usage_seconds_total{container=\"a\",namespace=\"n\",pod=\"p\"} 2 1767323045000",
            "container_start_time_seconds{container=\"a\",namespace=\"n\",pod=\"p\"} 1767225601",
            "container_memory_working_set_bytes{container=\"b\",namespace=\"n\",pod=\"p\"} 3072 1767323045000",
            "node_cpu_usage_seconds_total 9 1767323045000",
            "pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 5 1767323045000",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        assert!(!text.contains("pod=\"q\""), "{text}");
    }
}
