//! Which Pods count when their use is averaged.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition};

use super::usage::Sample;
use crate::object::name;
use crate::pod::phase;

/// How long after its start a Pod's use of CPU may be that of its start.
const INITIALIZATION: SignedDuration = SignedDuration::from_mins(5);
/// A Pod that became unready so soon after its start has never been ready.
const READINESS_DELAY: SignedDuration = SignedDuration::from_secs(30);

/// Pods by what is known of them.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Groups<'a> {
    /// How many count.
    pub(super) ready: usize,
    /// They will use something, but what they use now says nothing.
    pub(super) unready: BTreeSet<&'a str>,
    /// They were not measured.
    pub(super) missing: BTreeSet<&'a str>,
    /// They are on their way out.
    pub(super) ignored: BTreeSet<&'a str>,
}

/// Groups Pods by what was measured of them.
pub(super) fn group<'a>(
    pods: &'a [Pod],
    samples: &BTreeMap<&'a str, Sample>,
    resource: &str,
    now: Timestamp,
) -> Groups<'a> {
    let mut groups = Groups::default();
    for pod in pods {
        let its_name = name(&pod.metadata);
        let is_leaving = pod.metadata.deletion_timestamp.is_some();
        let sample = samples.get(its_name);
        match (phase(pod), sample) {
            _ if is_leaving => groups.ignored.insert(its_name),
            ("Failed", _) => groups.ignored.insert(its_name),
            ("Pending", _) => groups.unready.insert(its_name),
            (_, None) => groups.missing.insert(its_name),
            (_, Some(sample)) if resource == "cpu" && is_unready(pod, sample, now) => {
                groups.unready.insert(its_name)
            }
            _ => {
                groups.ready += 1;
                true
            }
        };
    }
    groups
}

/// Whether what it used of a processor says nothing of what it will use.
fn is_unready(pod: &Pod, sample: &Sample, now: Timestamp) -> bool {
    let status = pod.status.as_ref();
    let started = status.and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    let conditions = status.and_then(|s| s.conditions.as_deref());
    let mut conditions = conditions.unwrap_or_default().iter();
    let ready = conditions.find(|c| c.type_ == "Ready");
    let (Some(started), Some(ready)) = (started, ready) else {
        return true;
    };
    let is_false = ready.status == "False";
    let changed = changed(ready);
    if started + INITIALIZATION > now {
        is_false || sample.at < changed + sample.window
    } else {
        is_false && started + READINESS_DELAY > changed
    }
}

fn changed(condition: &PodCondition) -> Timestamp {
    let since = condition.last_transition_time.as_ref();
    since.map_or(Timestamp::UNIX_EPOCH, |since| since.0)
}
