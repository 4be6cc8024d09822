use serde_json::{Value, json};

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A CronJob made at midnight of the first day of 2026, in UTC.
fn cron(spec: Value, status: Value) -> CronJob {
    let mut value = json!({
        "metadata": {"name": "tick", "namespace": "ns", "uid": "cron", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "schedule": "0 * * * *", "concurrencyPolicy": "Allow", "suspend": false,
            "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1,
            "jobTemplate": {
                "metadata": {"labels": {"l": "1"}, "annotations": {"a": "2"}},
                "spec": {"template": {"spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}},
            },
        },
        "status": status,
    });
    for (key, field) in spec.as_object().unwrap() {
        value["spec"][key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn owner() -> OwnerReference {
    owner::reference("batch/v1", "CronJob", &cron(json!({}), json!({})).metadata)
}

/// A Job of the CronJob, of its name as UID; `end` is how it ended, one minute after it began at this time.
fn job(name: &str, began: &str, end: &str) -> Job {
    let done = at(began) + jiff::SignedDuration::from_mins(1);
    let conditions: Value = match end {
        "" => json!([]),
        end => json!([{"type": end, "status": "True"}]),
    };
    let mut value = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "ownerReferences": [owner()]},
        "status": {"startTime": began, "conditions": conditions},
    });
    if end == "Complete" {
        value["status"]["completionTime"] = json!(done.to_string());
    }
    serde_json::from_value(value).unwrap()
}

fn scheduled(mut job: Job, time: &str) -> Job {
    let annotations = job.metadata.annotations.get_or_insert_default();
    let key = "batch.kubernetes.io/cronjob-scheduled-timestamp";
    annotations.insert(key.to_owned(), time.to_owned());
    job
}

fn active(names: &[&str]) -> Value {
    let all = names.iter().map(|n| json!({"name": n, "uid": n}));
    all.collect()
}

fn planned(cron: &CronJob, jobs: &[Job], now: &str) -> Plan {
    let jobs: Vec<&Job> = jobs.iter().collect();
    plan(cron, &owner(), &jobs, at(now))
}

fn made(plan: &Plan) -> Option<&Job> {
    plan.steps.iter().find_map(|step| match step {
        Step::Create(job) => Some(&**job),
        _ => None,
    })
}

fn deleted(plan: &Plan) -> Vec<&str> {
    let jobs = plan.steps.iter().filter_map(|step| match step {
        Step::Delete { job, uid } if job == uid => Some(&**job),
        _ => None,
    });
    jobs.collect()
}

fn reasons(plan: &Plan) -> Vec<&str> {
    plan.news.iter().map(|news| &*news.reason).collect()
}

fn seconds(time: &str) -> i64 {
    at(time).as_second()
}

#[test]
fn a_job_is_made_when_its_time_has_come() {
    let cron = cron(json!({}), json!({}));
    let early = planned(&cron, &[], "2026-01-01T00:59:59.999Z");
    let expected = Plan {
        wake: Some(at("2026-01-01T01:00:00Z")),
        ..Plan::default()
    };
    assert_eq!(early, expected);
    let due = planned(&cron, &[], "2026-01-01T01:00:00Z");
    assert_eq!(due.wake, Some(at("2026-01-01T02:00:00Z")));
    assert_eq!((due.status.as_ref(), reasons(&due)), (None, vec![]));
    let expected = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": format!("tick-{}", seconds("2026-01-01T01:00:00Z") / 60), "namespace": "ns", "labels": {"l": "1"},
            "annotations": {"a": "2", "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T01:00:00Z"},
            "ownerReferences": [{
                "apiVersion": "batch/v1", "kind": "CronJob", "name": "tick", "uid": "cron", "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {"template": {"spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}},
    });
    let made = made(&due).expect("it is made");
    assert_eq!(serde_json::to_value(made).unwrap(), expected);

    let name = made.metadata.name.clone().unwrap();
    let there = scheduled(
        job(&name, "2026-01-01T01:00:00Z", ""),
        "2026-01-01T01:00:00Z",
    );
    let known = planned(&cron, &[there], "2026-01-01T01:00:01Z");
    let status = known.status.expect("it is noted");
    assert_eq!(known.steps, []);
    let last = status.last_schedule_time.map(|last| last.0);
    assert_eq!(last, Some(at("2026-01-01T01:00:00Z")));
    let active = status.active.unwrap();
    assert_eq!(active[0].name, Some(name));
    assert_eq!(active[0].kind.as_deref(), Some("Job"));
}

#[test]
fn clocks_and_zones() {
    let last = |time: &str| json!({"lastScheduleTime": time});
    let cases = [
        // 02:30 does not come on the 29th of March in Berlin.
        (
            "30 2 * * *",
            "2026-03-28T01:30:00Z",
            "2026-03-29T12:00:00Z",
            None,
            "2026-03-30T00:30:00Z",
        ),
        (
            "30 2 * * *",
            "2026-03-28T01:30:00Z",
            "2026-03-30T00:30:00Z",
            Some("2026-03-30T02:30:00+02:00"),
            "2026-03-31T00:30:00Z",
        ),
        // It comes twice on the 25th of October.
        (
            "30 2 * * *",
            "2026-10-24T00:30:00Z",
            "2026-10-25T00:30:00Z",
            Some("2026-10-25T02:30:00+02:00"),
            "2026-10-25T01:30:00Z",
        ),
        (
            "30 2 * * *",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:30:00Z",
            Some("2026-10-25T02:30:00+01:00"),
            "2026-10-26T01:30:00Z",
        ),
    ];
    for (schedule, before, now, expected, wake) in cases {
        let spec = json!({"schedule": schedule, "timeZone": "Europe/Berlin"});
        let plan = planned(&cron(spec, last(before)), &[], now);
        let written = made(&plan).map(|job| {
            let annotations = job.metadata.annotations.as_ref().unwrap();
            &*annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"]
        });
        assert_eq!((written, plan.wake), (expected, Some(at(wake))), "{now}");
    }
}

#[test]
fn missed_times() {
    let hours = |hours: i64| {
        (at("2026-01-01T00:00:00Z") + jiff::SignedDuration::from_hours(hours)).to_string()
    };
    let none: [&str; 0] = [];
    for (spec, now, expected, told) in [
        // The last of them counts.
        (json!({}), hours(3), Some(hours(3)), &none[..]),
        (json!({}), hours(100), Some(hours(100)), &none),
        (
            json!({}),
            hours(101),
            Some(hours(101)),
            &["TooManyMissedTimes"],
        ),
        // Those before the deadline are not counted.
        (
            json!({"startingDeadlineSeconds": 7200}),
            hours(200),
            Some(hours(200)),
            &none,
        ),
        // Too late by a second, or just in time: the 2nd of January begins at hour 24.
        (
            json!({"schedule": "@daily", "startingDeadlineSeconds": 3599}),
            hours(25),
            None,
            &["MissSchedule"],
        ),
        (
            json!({"schedule": "@daily", "startingDeadlineSeconds": 3600}),
            hours(25),
            Some(hours(24)),
            &none,
        ),
        // Friday's is found on a Sunday (the 1st of January is a Thursday).
        (
            json!({"schedule": "0 9 * * 1-5"}),
            hours(80),
            Some(hours(33)),
            &none,
        ),
        (
            json!({"schedule": "@every 5h"}),
            hours(24),
            Some(hours(20)),
            &none,
        ),
        (
            json!({"schedule": "@every 5h", "startingDeadlineSeconds": 60}),
            hours(25),
            Some(hours(25)),
            &none,
        ),
        (
            json!({"schedule": "@every 5h"}),
            hours(500),
            Some(hours(500)),
            &none,
        ),
        (
            json!({"schedule": "@every 5h"}),
            hours(505),
            Some(hours(505)),
            &["TooManyMissedTimes"],
        ),
        (json!({"suspend": true}), hours(3), None, &none),
    ] {
        let plan = planned(&cron(spec.clone(), json!({})), &[], &now);
        let minutes = |time: String| format!("tick-{}", seconds(&time) / 60);
        let name = made(&plan).and_then(|job| job.metadata.name.clone());
        assert_eq!(name, expected.map(minutes), "{spec} at {now}");
        assert_eq!(reasons(&plan), told, "{spec} at {now}");
        assert_eq!(plan.wake.is_none(), spec["suspend"] == true);
        assert!(plan.wake.is_none_or(|wake| wake > at(&now)));
    }
    let late = json!({"schedule": "@daily", "startingDeadlineSeconds": 60});
    let told = planned(&cron(late, json!({})), &[], &hours(25)).news;
    let message = "Missed scheduled time to start a job: Fri, 02 Jan 2026 00:00:00 +0000";
    assert_eq!(told[0].message, message);
}

#[test]
fn what_cannot_be_scheduled_is_told() {
    for (spec, reason, message) in [
        (
            json!({"schedule": "0 0 31 2 *"}),
            "InvalidSchedule",
            "invalid schedule: 0 0 31 2 * : time difference between two schedules is less than 1 second",
        ),
        (
            json!({"schedule": "0 0 31"}),
            "UnparseableSchedule",
            "unparseable schedule: \"0 0 31\" : expected exactly 5 fields, found 3: [0 0 31]",
        ),
        (
            json!({"timeZone": "Mars/Olympus"}),
            "UnknownTimeZone",
            "invalid timeZone: \"Mars/Olympus\": unknown time zone Mars/Olympus",
        ),
    ] {
        let plan = planned(&cron(spec, json!({})), &[], "2026-06-01T00:00:00Z");
        assert_eq!(
            (reasons(&plan), &*plan.news[0].message),
            (vec![reason], message)
        );
        assert_eq!((plan.steps, plan.wake), (vec![], None));
    }
}

#[test]
fn policies() {
    let (before, now) = ("2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z");
    let status = json!({"lastScheduleTime": before, "active": active(&["old"])});
    let jobs = [job("old", before, "")];
    let with = |policy: &str| {
        let cron = cron(json!({"concurrencyPolicy": policy}), status.clone());
        planned(&cron, &jobs, now)
    };
    let (allow, forbid, replace) = (with("Allow"), with("Forbid"), with("Replace"));
    assert!(made(&allow).is_some() && reasons(&allow).is_empty());
    assert_eq!(
        (forbid.steps.len(), reasons(&forbid)),
        (0, vec!["JobAlreadyActive"])
    );
    assert_eq!(forbid.wake, Some(at("2026-01-01T03:00:00Z")));
    assert_eq!((deleted(&replace), made(&replace)), (vec!["old"], None));
    let status = replace.status.expect("it runs no more");
    assert_eq!(status.active, None);
    // Then there is room, also while it goes.
    let mut cron = cron(json!({"concurrencyPolicy": "Replace"}), json!({}));
    cron.status = Some(*status);
    let mut leaving = jobs[0].clone();
    leaving.metadata.deletion_timestamp = Some(Time(at(now)));
    let plan = planned(&cron, &[leaving], now);
    assert!(
        made(&plan).is_some() && reasons(&plan).is_empty(),
        "{plan:?}"
    );
}

#[test]
fn a_name_that_is_taken_is_left_alone() {
    let cron = cron(json!({}), json!({}));
    let now = "2026-01-01T01:00:00Z";
    let name = jobs::name_for(&cron, at(now));
    let mut other = job(&name, now, "");
    other.metadata.owner_references = None;
    let plan = planned(&cron, &[other], now);
    assert_eq!((plan.steps, plan.status, plan.news), (vec![], None, vec![]));
    assert_eq!(plan.wake, Some(at("2026-01-01T02:00:00Z")));
}

#[test]
fn the_status_follows_jobs() {
    let before = "2026-01-01T01:00:00Z";
    let now = "2026-01-01T01:30:00Z";
    let status =
        json!({"lastScheduleTime": before, "active": active(&["done", "failed", "runs", "lost"])});
    let cron = cron(json!({}), status);
    let mut theirs = job("theirs", before, "");
    theirs.metadata.owner_references.as_mut().unwrap()[0].uid = "other".into();
    let jobs = [
        job("done", "2026-01-01T01:00:00Z", "Complete"),
        job("earlier", "2026-01-01T00:00:00Z", "Complete"),
        job("failed", before, "Failed"),
        job("runs", before, ""),
        theirs,
    ];
    let plan = planned(&cron, &jobs, now);
    let status = plan.status.as_ref().expect("it changes");
    let left: Vec<_> = status
        .active
        .iter()
        .flatten()
        .filter_map(|a| a.name.as_deref())
        .collect();
    assert_eq!(left, ["runs"]);
    let done = status.last_successful_time.as_ref().map(|done| done.0);
    assert_eq!(done, Some(at("2026-01-01T01:01:00Z")));
    let miss = Step::Miss {
        job: "lost".into(),
        uid: "lost".into(),
    };
    assert_eq!(plan.steps, [miss]);
    let told: Vec<_> = plan
        .news
        .iter()
        .map(|news| (&*news.reason, &*news.message))
        .collect();
    let expected = [
        (
            "SawCompletedJob",
            "Saw completed job: done, condition: Complete",
        ),
        (
            "SawCompletedJob",
            "Saw completed job: failed, condition: Failed",
        ),
        ("MissingJob", "Active job went missing: lost"),
    ];
    assert_eq!(told, expected);

    let mut after = cron.clone();
    after.status = plan.status.map(|status| *status);
    let quiet = planned(&after, &jobs, now);
    assert_eq!(
        (quiet.status, quiet.steps, quiet.news),
        (None, vec![], vec![])
    );
    let more = [&jobs[..], &[job("manual", now, "")]].concat();
    let plan = planned(&after, &more, now);
    assert_eq!(reasons(&plan), ["UnexpectedJob"]);
    // Of one that is being deleted only the status is kept.
    let mut leaving = cron.clone();
    leaving.metadata.deletion_timestamp = Some(Time(at(now)));
    assert!(
        planned(&leaving, &jobs, "2026-01-01T05:00:00Z")
            .status
            .is_some()
    );
    leaving.status = after.status;
    assert_eq!(
        planned(&leaving, &jobs, "2026-01-01T05:00:00Z"),
        Plan::default()
    );
}

#[test]
fn a_job_the_status_forgot_is_known_by_its_time() {
    let status = json!({"lastScheduleTime": "2026-01-01T01:00:00Z"});
    let cron = cron(json!({"concurrencyPolicy": "Forbid"}), status);
    let due = "2026-01-01T02:00:00Z";
    let name = jobs::name_for(&cron, at(due));
    for (end, is_active) in [("", true), ("Failed", false)] {
        let job = scheduled(job(&name, due, end), due);
        // The controller comes back when the next time has come.
        let plan = planned(&cron, &[job], "2026-01-01T03:00:05Z");
        let status = plan.status.expect("it is noted");
        assert_eq!(status.last_schedule_time.unwrap().0, at(due));
        assert_eq!((status.active.is_some(), plan.steps), (is_active, vec![]));
    }
    for time in ["2026-01-01T02:00:01Z", "2026-01-01T04:00:00Z", "soon"] {
        let of = if time == "2026-01-01T02:00:01Z" {
            "other"
        } else {
            &*name
        };
        let job = scheduled(job(of, due, ""), time);
        let plan = planned(&cron, &[job], "2026-01-01T02:30:00Z");
        assert_eq!((plan.status, plan.news.len()), (None, 1), "{time}");
    }
}

#[test]
fn history_is_kept_short() {
    let status = json!({"lastScheduleTime": "2026-01-01T09:00:00Z", "lastSuccessfulTime": "2026-01-01T09:00:00Z"});
    let hour = |n: u8| format!("2026-01-01T0{n}:00:00Z");
    let mut jobs: Vec<Job> = (1..6)
        .map(|n| job(&format!("s{n}"), &hour(6 - n), "Complete"))
        .collect();
    jobs.extend((1..4).map(|n| job(&format!("f{n}"), &hour(n), "Failed")));
    jobs[7].status.as_mut().unwrap().start_time = None;
    let now = "2026-01-01T09:30:00Z";
    for (spec, expected) in [
        (json!({}), &["s5", "s4", "f1", "f2"][..]),
        (
            json!({"successfulJobsHistoryLimit": null, "failedJobsHistoryLimit": 0}),
            &["f1", "f2", "f3"],
        ),
        (
            json!({"successfulJobsHistoryLimit": 9, "failedJobsHistoryLimit": 9}),
            &[],
        ),
        (
            json!({"suspend": true, "failedJobsHistoryLimit": 3}),
            &["s5", "s4"],
        ),
    ] {
        let plan = planned(&cron(spec.clone(), status.clone()), &jobs, now);
        assert_eq!(deleted(&plan), expected, "{spec}");
    }
    // What goes already is not deleted again.
    jobs[4].metadata.deletion_timestamp = Some(Time(at(now)));
    let plan = planned(&cron(json!({}), status), &jobs, now);
    assert_eq!(deleted(&plan), ["s4", "f1", "f2"]);
}
