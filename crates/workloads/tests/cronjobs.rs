//! A CronJob and its Jobs, whatever happens to them, however clocks are set and wherever the controller is cut off between two writes: no
//! time of its schedule gets two Jobs, with `Forbid` two never run, Jobs of others are neither touched nor counted, and once it is left
//! alone everything is as its schedule says.

use std::collections::{BTreeMap, BTreeSet};

use api::cron::{Schedule, time_zone};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use proptest::prelude::*;
use serde_json::json;
use workloads::cronjob::{self, Step};
use workloads::owner;

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// What happens next.
#[derive(Debug, Clone)]
enum Happens {
    /// The controller looks, and is cut off after so many writes.
    Controller(usize),
    /// A Job ends, with success or not.
    Ends(usize, bool),
    /// Somebody deletes a Job.
    Deleted(usize),
    /// A Job that is not the CronJob's comes: one of nobody, or of a CronJob that had its name before. It runs, or has ended.
    Foreign {
        has_owner: bool,
        end: Option<bool>,
    },
    Suspend(bool),
    /// The clock goes on, or is set back.
    Seconds(i64),
    /// The controller is woken when it wanted to be.
    Wake,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        10 => (1..6usize).prop_map(Happens::Controller),
        5 => (any::<usize>(), any::<bool>()).prop_map(|(i, ok)| Happens::Ends(i, ok)),
        1 => any::<usize>().prop_map(Happens::Deleted),
        1 => any::<(bool, Option<bool>)>().prop_map(|(has_owner, end)| Happens::Foreign { has_owner, end }),
        1 => any::<bool>().prop_map(Happens::Suspend),
        5 => (1..5000i64).prop_map(Happens::Seconds),
        1 => (-5000..900_000i64).prop_map(Happens::Seconds),
        4 => Just(Happens::Wake),
    ]
}

struct Cluster {
    now: Timestamp,
    cron: CronJob,
    jobs: BTreeMap<String, Job>,
    /// Jobs that are none of its business.
    foreign: Vec<Job>,
    /// The times for which Jobs were made.
    times: BTreeSet<Timestamp>,
    made: u32,
    wake: Option<Timestamp>,
}

impl Cluster {
    fn new(schedule: &str, zone: &str, policy: &str, deadline: Option<i64>, begin: i64) -> Self {
        let now = Timestamp::from_second(begin).unwrap();
        let cron = json!({
            "metadata": {"name": "tick", "namespace": "ns", "uid": "cron", "creationTimestamp": now.to_string()},
            "spec": {
                "schedule": schedule, "timeZone": zone, "concurrencyPolicy": policy, "startingDeadlineSeconds": deadline,
                "successfulJobsHistoryLimit": 2, "failedJobsHistoryLimit": 1,
                "jobTemplate": {"spec": {"template": {}}},
            },
        });
        Cluster {
            now,
            cron: serde_json::from_value(cron).unwrap(),
            jobs: BTreeMap::new(),
            foreign: Vec::new(),
            times: BTreeSet::new(),
            made: 0,
            wake: None,
        }
    }

    fn last(&self) -> Option<Timestamp> {
        let status = self.cron.status.as_ref()?;
        Some(status.last_schedule_time.as_ref()?.0)
    }

    fn happen(&mut self, what: Happens) {
        match what {
            Happens::Controller(writes) => {
                self.look(writes);
            }
            Happens::Ends(index, is_success) => {
                let index = index.checked_rem(self.jobs.len());
                let name = index.and_then(|index| self.jobs.keys().nth(index).cloned());
                if let Some(name) = name {
                    self.end(&name, is_success);
                }
            }
            Happens::Deleted(index) => {
                // Of one the status knows of: of another nobody can know that it was there.
                let last = self.last();
                let known = self
                    .jobs
                    .iter()
                    .filter(|(_, job)| Some(time_of(job)) <= last);
                let known: Vec<String> = known.map(|(name, _)| name.clone()).collect();
                if let Some(index) = index.checked_rem(known.len()) {
                    self.jobs.remove(&known[index]);
                }
            }
            Happens::Foreign { has_owner, end } => self.meet(has_owner, end),
            Happens::Suspend(suspend) => self.cron.spec.suspend = Some(suspend),
            Happens::Seconds(seconds) => self.now += SignedDuration::from_secs(seconds),
            Happens::Wake => self.now = self.wake.map_or(self.now, |wake| wake.max(self.now)),
        }
    }

    /// A Job that began first of all.
    fn meet(&mut self, has_owner: bool, end: Option<bool>) {
        let name = format!("tick-foreign-{}", self.foreign.len());
        let start = Timestamp::UNIX_EPOCH.to_string();
        let meta = json!({"name": name, "namespace": "ns", "uid": name, "annotations": {SCHEDULED: start}});
        let job = json!({"metadata": meta, "status": {"startTime": start, "active": 1}});
        let mut job: Job = serde_json::from_value(job).unwrap();
        let before = ObjectMeta {
            uid: Some("before".into()),
            ..self.cron.metadata.clone()
        };
        let owner = owner::reference("batch/v1", "CronJob", &before);
        job.metadata.owner_references = has_owner.then(|| vec![owner]);
        if let Some(is_success) = end {
            finish(&mut job, is_success, self.now);
        }
        self.foreign.push(job);
    }

    fn end(&mut self, name: &str, is_success: bool) {
        finish(self.jobs.get_mut(name).unwrap(), is_success, self.now);
    }

    fn running(&self) -> usize {
        let runs = |job: &&Job| job.status.as_ref().is_none_or(|s| s.conditions.is_none());
        self.jobs.values().filter(runs).count()
    }

    /// One look of the controller; whether it had anything to do.
    fn look(&mut self, mut writes: usize) -> bool {
        let reference = owner::reference("batch/v1", "CronJob", &self.cron.metadata);
        let jobs: Vec<&Job> = self.jobs.values().chain(&self.foreign).collect();
        let plan = cronjob::plan(&self.cron, &reference, &jobs, self.now);
        assert!(plan.wake.is_none_or(|wake| wake > self.now), "{plan:?}");
        self.wake = plan.wake;
        let did_something = !plan.steps.is_empty() || plan.status.is_some();
        let mut may = || {
            writes = writes.saturating_sub(1);
            writes > 0
        };
        for step in plan.steps {
            if !may() {
                return did_something;
            }
            match step {
                Step::Miss { job, uid } => {
                    let there = self.jobs.get(&job);
                    assert!(there.is_none_or(|job| job.metadata.uid != Some(uid)));
                }
                Step::Delete { job, uid } => {
                    let gone = self.jobs.remove(&job).expect("its own");
                    assert_eq!(gone.metadata.uid, Some(uid));
                }
                Step::Create(job) => self.create(*job),
            }
        }
        if let Some(status) = plan.status.filter(|_| may()) {
            let new = status.last_schedule_time.as_ref().map(|last| last.0);
            assert!(new >= self.last(), "time goes on");
            self.cron.status = Some(*status);
        }
        did_something
    }

    fn create(&mut self, mut job: Job) {
        let time = time_of(&job);
        assert!(time <= self.now, "not before its time");
        assert!(self.times.insert(time), "twice for {time}");
        let spec = &self.cron.spec;
        assert_ne!(spec.suspend, Some(true));
        if let Some(deadline) = spec.starting_deadline_seconds {
            assert!(time + SignedDuration::from_secs(deadline) >= self.now);
        }
        if spec.concurrency_policy.as_deref() != Some("Allow") {
            assert_eq!(self.running(), 0, "alone");
        }
        self.made += 1;
        job.metadata.uid = Some(format!("uid-{}", self.made));
        let name = job.metadata.name.clone().unwrap();
        assert!(self.jobs.insert(name, job).is_none(), "a name that is free");
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            if !self.look(usize::MAX) {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn check_settled(&mut self) {
        self.cron.spec.suspend = Some(false);
        self.settle();
        for name in self.jobs.keys().cloned().collect::<Vec<_>>() {
            self.end(&name, true);
        }
        self.settle();
        let active = self.cron.status.as_ref().and_then(|s| s.active.as_ref());
        let count = |end: &str| {
            let ends = self.jobs.values().filter_map(|job| {
                let conditions = job.status.as_ref()?.conditions.as_ref()?;
                Some(conditions[0].type_ == end)
            });
            ends.filter(|is_it| *is_it).count()
        };
        assert!(count("Complete") <= 2 && count("Failed") <= 1);
        assert_eq!(active.map_or(0, Vec::len), self.running());
        // Its next time is the schedule's, and gets a Job, unless its minute has one.
        let spec = &self.cron.spec;
        let schedule = Schedule::parse(&spec.schedule).unwrap();
        let zone = time_zone(spec.time_zone.as_deref().unwrap()).unwrap();
        let last = self.wake.expect("there is a next time");
        if let Schedule::At(_) = schedule {
            let begin = self
                .last()
                .unwrap_or(self.cron.metadata.creation_timestamp.as_ref().unwrap().0);
            assert_eq!(Some(last), schedule.next(begin.max(self.now), &zone));
        }
        self.now = last;
        for name in self.jobs.keys().cloned().collect::<Vec<_>>() {
            self.end(&name, true);
        }
        self.settle();
        if let Schedule::At(_) = schedule {
            assert_eq!(self.last(), Some(last));
        }
    }
}

fn finish(job: &mut Job, is_success: bool, now: Timestamp) {
    let status = job.status.get_or_insert_default();
    if status.conditions.is_some() {
        return;
    }
    let end = if is_success { "Complete" } else { "Failed" };
    let condition = json!([{"type": end, "status": "True"}]);
    status.conditions = serde_json::from_value(condition).unwrap();
    status.completion_time = is_success.then_some(Time(now));
}

fn time_of(job: &Job) -> Timestamp {
    job.metadata.annotations.as_ref().unwrap()[SCHEDULED]
        .parse()
        .unwrap()
}

proptest! {
    #![proptest_config(testkit::cases(500, 12))]

    #[test]
    fn every_time_gets_one_job_at_most(
        schedule in prop::sample::select(vec![
            "* * * * *", "*/15 * * * *", "30 2 * * *", "0 9-17/4 * * 1-5", "0 0 1 * *", "@hourly", "@every 10s", "@every 47m",
        ]),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
        policy in prop::sample::select(vec!["Allow", "Forbid", "Replace"]),
        deadline in prop::option::of(prop::sample::select(vec![10, 600, 100_000])),
        // 2025 and 2026.
        begin in 1_735_689_600..1_798_761_600i64,
        all in prop::collection::vec(happens(), 0..80),
    ) {
        let mut cluster = Cluster::new(schedule, zone, policy, deadline, begin);
        for what in all {
            cluster.happen(what);
        }
        cluster.check_settled();
    }
}
