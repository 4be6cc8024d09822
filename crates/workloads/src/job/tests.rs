use serde_json::json;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::new(second, 0).unwrap()
}

const NOW: i64 = 10_000;

fn job(spec: Value) -> Job {
    let mut value = json!({
        "metadata": {"name": "pi", "namespace": "ns", "uid": "job", "generation": 1},
        "spec": {
            "completions": 3, "parallelism": 2, "backoffLimit": 6,
            "selector": {"matchLabels": {"job": "pi"}},
            "template": {"metadata": {"labels": {"job": "pi"}}, "spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}},
        },
    });
    for (key, field) in spec.as_object().unwrap() {
        value["spec"][key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn indexed(spec: Value) -> Job {
    let mut job = job(spec);
    job.spec.as_mut().unwrap().completion_mode = Some("Indexed".into());
    job
}

fn reference() -> OwnerReference {
    owner::reference("batch/v1", "Job", &job(json!({})).metadata)
}

/// A Pod of the Job that has not been counted.
fn pod(name: &str, phase: &str) -> Pod {
    let value = json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": name, "labels": {"job": "pi"}, "finalizers": [TRACKING],
            "ownerReferences": [reference()], "creationTimestamp": at(NOW - 100).to_string(),
        },
        "spec": {"containers": [{"name": "c"}], "nodeName": "node"},
        "status": {"phase": phase},
    });
    serde_json::from_value(value).unwrap()
}

fn of_index(index: i32, phase: &str) -> Pod {
    let mut pod = pod(&format!("p{index}"), phase);
    let key = index::INDEX.to_owned();
    pod.metadata.annotations = Some([(key, index.to_string())].into());
    pod
}

/// One that has ended with this exit code.
fn ended(name: &str, code: i32) -> Pod {
    let mut pod = pod(name, if code == 0 { "Succeeded" } else { "Failed" });
    let state = json!({"terminated": {"exitCode": code, "finishedAt": at(NOW - 1).to_string()}});
    let container = json!([{"name": "c", "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0}]);
    pod.status.as_mut().unwrap().container_statuses = serde_json::from_value(container).ok();
    pod
}

fn planned(job: &Job, pods: &[Pod]) -> Plan {
    let pods: Vec<&Pod> = pods.iter().collect();
    plan(job, &reference(), &pods, false, at(NOW))
}

/// Types and reasons of its conditions that are true.
fn conditions(plan: &Plan) -> Vec<(&str, &str)> {
    let status = plan.status.as_ref().expect("a status is written");
    let conditions = status.conditions.iter().flatten();
    let told = conditions.filter(|c| c.status == "True");
    told.map(|c| (&*c.type_, c.reason.as_deref().unwrap()))
        .collect()
}

fn made(plan: &Plan) -> usize {
    let made = plan.steps.iter().map(|step| match step {
        Step::Create(pods) => pods.len(),
        _ => 0,
    });
    made.sum()
}

fn deleted(plan: &Plan) -> Vec<(&str, bool)> {
    let deleted = plan.steps.iter().filter_map(|step| match step {
        Step::Delete { pod, is_free, .. } => Some((pod.as_str(), *is_free)),
        _ => None,
    });
    deleted.collect()
}

#[test]
fn as_many_run_as_may_and_are_left() {
    let plan = planned(&job(json!({})), &[]);
    assert_eq!(made(&plan), 2);
    let Step::Create(pods) = &plan.steps[0] else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!(pods[0].metadata.finalizers, Some(vec![TRACKING.into()]));
    let status = plan.status.unwrap();
    assert_eq!(
        (status.active, status.ready, status.terminating),
        (Some(2), Some(0), Some(0))
    );
    assert_eq!(status.start_time, Some(Time(at(NOW))));
    let two = [ended("a", 0), ended("b", 0)];
    assert_eq!(made(&planned(&job(json!({})), &two)), 1, "one is left");
    let running = [
        pod("a", "Running"),
        pod("b", "Running"),
        pod("c", "Pending"),
    ];
    assert_eq!(deleted(&planned(&job(json!({})), &running)), [("c", true)]);
    let any = json!({"completions": null});
    assert_eq!(
        made(&planned(&job(any.clone()), &[ended("a", 0)])),
        0,
        "one success is enough"
    );
    assert_eq!(made(&planned(&job(any), &[pod("a", "Running")])), 1);
}

#[test]
fn a_pod_is_noted_then_freed_then_a_number() {
    let mut job = job(json!({"completions": 1}));
    let mut done = ended("a", 0);
    let first = planned(&job, &[done.clone()]);
    assert_eq!(first.counted, [("a".to_owned(), "a".to_owned())]);
    assert_eq!(
        conditions(&first),
        [("SuccessCriteriaMet", "CompletionsReached")]
    );
    assert_eq!(first.news, []);
    let status = first.status.unwrap();
    let noted = status.uncounted_terminated_pods.as_ref().unwrap();
    assert_eq!(
        (&noted.succeeded, status.succeeded),
        (&Some(vec!["a".into()]), None)
    );
    job.status = Some(*status);
    // The finalizer could not be taken: the same again, without a word.
    let again = planned(&job, &[done.clone()]);
    assert_eq!((again.counted.len(), again.status), (1, None));
    done.metadata.finalizers = None;
    let second = planned(&job, &[done.clone()]);
    assert_eq!(second.counted, []);
    let end = [
        ("SuccessCriteriaMet", "CompletionsReached"),
        ("Complete", "CompletionsReached"),
    ];
    assert_eq!(conditions(&second), end);
    assert_eq!(second.news[0].reason, "Completed");
    let status = second.status.unwrap();
    assert_eq!(
        (status.succeeded, status.completion_time.clone()),
        (Some(1), Some(Time(at(NOW))))
    );
    job.status = Some(*status);
    assert_eq!(planned(&job, &[done]), Plan::default(), "it is over");
}

#[test]
fn failures_are_waited_for_and_limited() {
    let waiting = planned(&job(json!({})), &[ended("a", 1)]);
    assert_eq!(made(&waiting), 0);
    assert_eq!(
        waiting.wake,
        Some(at(NOW + 9)),
        "ten seconds after it ended"
    );
    let status = waiting.status.as_ref().unwrap();
    assert_eq!(
        status.uncounted_terminated_pods.as_ref().unwrap().failed,
        Some(vec!["a".into()])
    );
    let limit = json!({"backoffLimit": 1});
    let pods = [ended("a", 1), ended("b", 1), pod("c", "Running")];
    let over = planned(&job(limit.clone()), &pods);
    assert_eq!(
        conditions(&over),
        [("FailureTarget", "BackoffLimitExceeded")]
    );
    assert_eq!(deleted(&over), [("c", false)], "it counts");
    assert_eq!(over.counted.len(), 3);
    let status = over.status.unwrap();
    assert_eq!((status.active, status.terminating), (None, Some(1)));
    assert_eq!(
        status
            .uncounted_terminated_pods
            .as_ref()
            .unwrap()
            .failed
            .as_ref()
            .unwrap()
            .len(),
        3
    );
    // It has failed when the last of them has ended.
    let mut failing = job(limit);
    failing.status = Some(*status);
    let mut last = pod("c", "Running");
    last.metadata.finalizers = None;
    last.metadata.deletion_timestamp = Some(Time(at(NOW)));
    let leaving = planned(&failing, std::slice::from_ref(&last));
    assert_eq!(
        conditions(&leaving),
        [("FailureTarget", "BackoffLimitExceeded")]
    );
    failing.status = Some(*leaving.status.unwrap());
    let gone = planned(&failing, &[]);
    assert_eq!(conditions(&gone)[1], ("Failed", "BackoffLimitExceeded"));
    assert_eq!(
        gone.news[0].message,
        "Job has reached the specified backoff limit"
    );
    assert_eq!(gone.status.unwrap().failed, Some(3));
}

#[test]
fn restarts_in_place_count_as_well() {
    let mut on_failure = job(json!({"backoffLimit": 2}));
    let template = on_failure
        .spec
        .as_mut()
        .unwrap()
        .template
        .spec
        .as_mut()
        .unwrap();
    template.restart_policy = Some("OnFailure".into());
    let restarted = |count: i32| {
        let mut pod = pod("a", "Running");
        let container = json!([{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": count}]);
        pod.status.as_mut().unwrap().container_statuses = serde_json::from_value(container).ok();
        pod
    };
    assert_eq!(deleted(&planned(&on_failure, &[restarted(1)])), []);
    let over = planned(&on_failure, &[restarted(2)]);
    assert_eq!(
        conditions(&over),
        [("FailureTarget", "BackoffLimitExceeded")]
    );
}

#[test]
fn a_deadline_ends_it() {
    let mut late = job(json!({"activeDeadlineSeconds": 60}));
    let begun = planned(&late, &[]);
    assert_eq!(begun.wake, Some(at(NOW + 60)));
    late.status = Some(*begun.status.unwrap());
    late.status.as_mut().unwrap().start_time = Some(Time(at(NOW - 60)));
    let over = planned(&late, &[pod("a", "Running")]);
    assert_eq!(conditions(&over), [("FailureTarget", "DeadlineExceeded")]);
}

#[test]
fn a_suspended_job_has_no_pods_and_begins_anew() {
    let mut paused = job(json!({"suspend": true}));
    let plan = planned(&paused, &[pod("a", "Running")]);
    assert_eq!(
        deleted(&plan),
        [("a", true)],
        "it does not count as a failure"
    );
    assert_eq!(conditions(&plan), [("Suspended", "JobSuspended")]);
    assert_eq!(plan.news[0].reason, "Suspended");
    let status = plan.status.unwrap();
    assert_eq!((status.start_time.clone(), status.active), (None, None));
    paused.status = Some(*status);
    paused.spec.as_mut().unwrap().suspend = Some(false);
    let plan = planned(&paused, &[]);
    assert_eq!((made(&plan), plan.news[0].reason.as_str()), (2, "Resumed"));
    assert_eq!(plan.status.unwrap().start_time, Some(Time(at(NOW))));
}

#[test]
fn indexes_are_filled_from_the_lowest() {
    let spec = json!({"completions": 6, "parallelism": 3});
    let pods = [
        of_index(0, "Succeeded"),
        of_index(2, "Running"),
        of_index(9, "Running"),
    ];
    let plan = planned(&indexed(spec.clone()), &pods);
    assert_eq!(deleted(&plan), [("p9", true)], "there is no such index");
    assert_eq!(made(&plan), 0, "one after the other");
    let plan = planned(&indexed(spec.clone()), &pods[..2]);
    let Step::Create(made) = &plan.steps[0] else {
        panic!("{:?}", plan.steps);
    };
    let names = made
        .iter()
        .map(|p| p.metadata.generate_name.as_deref().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["pi-1-", "pi-3-"]);
    let spec_of_pod = made[0].spec.as_ref().unwrap();
    assert_eq!(spec_of_pod.hostname.as_deref(), Some("pi-1"));
    let variable = &spec_of_pod.containers[0].env.as_ref().unwrap()[0];
    assert_eq!(variable.name, "JOB_COMPLETION_INDEX");
    assert_eq!(made[0].metadata.labels.as_ref().unwrap()[index::INDEX], "1");
    let status = plan.status.unwrap();
    assert_eq!(
        (status.completed_indexes.as_deref(), status.succeeded),
        (Some("0"), Some(1))
    );
    // Of two of one index the one that has come less far goes.
    let mut twin = of_index(2, "Pending");
    twin.metadata.name = Some("twin".into());
    let plan = planned(&indexed(spec), &[of_index(2, "Running"), twin]);
    assert_eq!(deleted(&plan), [("twin", true)]);
}

#[test]
fn each_index_has_its_own_limit() {
    let spec =
        json!({"completions": 2, "parallelism": 2, "backoffLimitPerIndex": 1, "backoffLimit": 100});
    let job = indexed(spec);
    let failed = |index: i32, before: i32| {
        let mut pod = ended(&format!("p{index}-{before}"), 1);
        let annotations = [
            (index::INDEX.to_owned(), index.to_string()),
            (
                "batch.kubernetes.io/job-index-failure-count".to_owned(),
                before.to_string(),
            ),
        ];
        pod.metadata.annotations = Some(annotations.into());
        pod
    };
    let waiting = planned(&job, &[failed(0, 0), of_index(1, "Running")]);
    assert_eq!((made(&waiting), waiting.wake), (0, Some(at(NOW + 9))));
    assert_eq!(waiting.counted, [], "its successor takes over its number");
    let pods = [failed(0, 0), of_index(1, "Running")];
    let pods: Vec<&Pod> = pods.iter().collect();
    let later = plan(&job, &reference(), &pods, false, at(NOW + 9));
    let Step::Create(next) = &later.steps[0] else {
        panic!("{:?}", later.steps);
    };
    let annotations = next[0].metadata.annotations.as_ref().unwrap();
    assert_eq!(
        annotations["batch.kubernetes.io/job-index-failure-count"],
        "1"
    );
    let over = planned(&job, &[failed(0, 1), of_index(1, "Succeeded")]);
    assert_eq!(conditions(&over), [("FailureTarget", "FailedIndexes")]);
    let status = over.status.unwrap();
    assert_eq!(status.failed_indexes.as_deref(), Some("0"));
    assert_eq!(status.completed_indexes.as_deref(), Some("1"));
}

#[test]
fn policies_judge_failures() {
    let policy = |action: &str| {
        let codes = json!({"operator": "In", "values": [42], "containerName": "c"});
        json!({"podFailurePolicy": {"rules": [{"action": action, "onExitCodes": codes}]}, "backoffLimit": 0})
    };
    let fatal = planned(&job(policy("FailJob")), &[ended("a", 42)]);
    assert_eq!(conditions(&fatal), [("FailureTarget", "PodFailurePolicy")]);
    let conditions_of = fatal.status.unwrap().conditions.unwrap();
    let text = "Container c for pod ns/a failed with exit code 42 matching FailJob rule at index 0";
    assert_eq!(conditions_of[0].message.as_deref(), Some(text));
    let ignored = planned(&job(policy("Ignore")), &[ended("a", 42)]);
    assert!(conditions(&ignored).is_empty());
    assert_eq!(ignored.counted.len(), 1);
    let counted = planned(&job(policy("Ignore")), &[ended("a", 1)]);
    assert_eq!(
        conditions(&counted),
        [("FailureTarget", "BackoffLimitExceeded")]
    );
    let disrupted = json!({"podFailurePolicy": {"rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]}, "backoffLimit": 0});
    let mut evicted = ended("a", 137);
    evicted.status.as_mut().unwrap().conditions =
        serde_json::from_value(json!([{"type": "DisruptionTarget", "status": "True"}])).ok();
    assert!(conditions(&planned(&job(disrupted), &[evicted])).is_empty());
}

#[test]
fn enough_indexes_are_success() {
    let policy = json!({"rules": [{"succeededIndexes": "0-1", "succeededCount": 1}]});
    let spec = json!({"completions": 4, "parallelism": 4, "successPolicy": policy});
    let pods = [of_index(1, "Succeeded"), of_index(2, "Running")];
    let plan = planned(&indexed(spec), &pods);
    assert_eq!(conditions(&plan), [("SuccessCriteriaMet", "SuccessPolicy")]);
    assert_eq!(deleted(&plan), [("p2", false)]);
    let status = plan.status.unwrap();
    assert_eq!(
        status.uncounted_terminated_pods.unwrap().failed,
        None,
        "the others have not failed"
    );
}

#[test]
fn a_job_that_is_over_goes_in_time() {
    let mut done = job(json!({"ttlSecondsAfterFinished": 30}));
    let complete = condition("Complete", "True", "", "", at(NOW - 10));
    done.status = Some(JobStatus {
        conditions: Some(vec![complete]),
        ..JobStatus::default()
    });
    assert_eq!(planned(&done, &[]).wake, Some(at(NOW + 20)));
    assert_eq!(
        plan(&done, &reference(), &[], false, at(NOW + 20)).steps,
        [Step::End]
    );
    assert!(is_left_behind(&pod("a", "Running"), Some(&done)));
    assert!(is_left_behind(&pod("a", "Running"), None));
    assert!(!is_left_behind(&pod("a", "Running"), Some(&job(json!({})))));
}

#[test]
fn others_may_look_after_a_job() {
    let other = job(json!({"managedBy": "example.com/queue"}));
    assert_eq!(planned(&other, &[ended("a", 0)]), Plan::default());
}
