//! From what metrics ask for to what a target is told: recommendations are stabilized over a while, and changes are limited in size.
//! Without a `behavior` upstream's first rules are in force: growth by at most twice, or to four; down to what was wanted most in five
//! minutes.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscaler};

use super::bounds;
use super::status::{ABLE, Draft, LIMITED};

/// How long it takes to go down where nothing is said, in seconds.
const DOWN_WINDOW: i32 = 300;
/// The longest window there can be, in seconds.
const LONGEST_WINDOW: i32 = 3600;
/// Where it may always grow to.
const ALWAYS: i32 = 4;

/// Something of a moment.
type At<T> = (Timestamp, T);
/// A number of Pods, and what is said of how it came about.
type Told = (i32, &'static str, &'static str);

/// What is remembered of an autoscaler between two plans.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    /// How many Pods the metrics asked for.
    recommendations: Vec<At<i32>>,
    /// How many Pods came with a change.
    ups: Vec<At<i32>>,
    /// How many Pods went.
    downs: Vec<At<i32>>,
}

impl Memory {
    /// What there is at first counts as wanted.
    pub(super) fn begin(&mut self, replicas: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, replicas));
        }
    }

    /// Notes that a target has another size now.
    pub(super) fn rescaled(
        &mut self,
        autoscaler: &HorizontalPodAutoscaler,
        from: i32,
        to: i32,
        now: Timestamp,
    ) {
        let Some(behavior) = &autoscaler.spec.behavior else {
            return;
        };
        let (rules, changes) = match to > from {
            true => (&behavior.scale_up, &mut self.ups),
            false => (&behavior.scale_down, &mut self.downs),
        };
        let policies = rules
            .iter()
            .flat_map(|rules| rules.policies.iter().flatten());
        let longest = policies.map(|policy| policy.period_seconds).max();
        let begin = ago(now, longest.unwrap_or(0));
        changes.retain(|(at, _)| *at >= begin);
        changes.push((now, (to - from).abs()));
    }

    fn recommend(&mut self, replicas: i32, now: Timestamp) {
        let begin = ago(now, LONGEST_WINDOW);
        self.recommendations.retain(|(at, _)| *at >= begin);
        self.recommendations.push((now, replicas));
    }
}

/// How many Pods there should be, where the metrics want `wanted`; says why in conditions.
pub(super) fn normalize(
    autoscaler: &HorizontalPodAutoscaler,
    current: i32,
    wanted: i32,
    memory: &mut Memory,
    draft: &mut Draft,
    now: Timestamp,
) -> i32 {
    let up_and_down = autoscaler.spec.behavior.as_ref().map(|behavior| {
        let rules = |rules: &Option<HPAScalingRules>| rules.clone().unwrap_or_default();
        (rules(&behavior.scale_up), rules(&behavior.scale_down))
    });
    let (least, most) = bounds(autoscaler);
    let (stable, reason, message) = match &up_and_down {
        None => stabilized_down(wanted, memory, now),
        Some((up, down)) => stabilized(current, wanted, up, down, memory, now),
    };
    memory.recommend(wanted, now);
    if stable == wanted {
        let message = "recommended size matches current size";
        draft.set(ABLE, "True", "ReadyForNewScale", message.to_owned());
    } else {
        draft.set(ABLE, "True", reason, message.to_owned());
    }
    let (replicas, reason, message) = match &up_and_down {
        None => within(current, stable, least, most),
        Some((up, _)) if stable > current => upwards(current, stable, most, up, memory, now),
        Some((_, down)) if stable < current => downwards(current, stable, least, down, memory, now),
        Some(_) => as_wanted(stable),
    };
    let is_limited = if replicas == stable { "False" } else { "True" };
    draft.set(LIMITED, is_limited, reason, message.to_owned());
    replicas
}

const HIGHEST: &str = "recent recommendations were higher than current one, applying the highest recent recommendation";
const LOWEST: &str =
    "recent recommendations were lower than current one, applying the lowest recent recommendation";

fn stabilized_down(wanted: i32, memory: &Memory, now: Timestamp) -> Told {
    let begin = ago(now, DOWN_WINDOW);
    let recent = memory.recommendations.iter().filter(|(at, _)| *at >= begin);
    let most = recent.map(|(_, wanted)| *wanted).max();
    let stable = most.unwrap_or(wanted).max(wanted);
    (stable, "ScaleDownStabilized", HIGHEST)
}

fn stabilized(
    current: i32,
    wanted: i32,
    up: &HPAScalingRules,
    down: &HPAScalingRules,
    memory: &Memory,
    now: Timestamp,
) -> Told {
    let recent = |seconds: i32| {
        let begin = ago(now, seconds);
        let recent = memory.recommendations.iter();
        recent
            .filter(move |(at, _)| *at > begin)
            .map(|(_, wanted)| *wanted)
    };
    let floor = recent(up.stabilization_window_seconds.unwrap_or(0)).fold(wanted, i32::min);
    let window = down.stabilization_window_seconds.unwrap_or(DOWN_WINDOW);
    let ceiling = recent(window).fold(wanted, i32::max);
    // No more than the one, no less than the other; the one is at most the other.
    let stable = current.max(floor).min(ceiling);
    match wanted >= current {
        true => (stable, "ScaleUpStabilized", LOWEST),
        false => (stable, "ScaleDownStabilized", HIGHEST),
    }
}

const TOO_FAST_UP: &str =
    "the desired replica count is increasing faster than the maximum scale rate";
const TOO_MANY: &str = "the desired replica count is more than the maximum replica count";
const TOO_FEW: &str = "the desired replica count is less than the minimum replica count";

fn as_wanted(replicas: i32) -> Told {
    let message = "the desired count is within the acceptable range";
    (replicas, "DesiredWithinRange", message)
}

/// The rules without a behavior.
fn within(current: i32, wanted: i32, least: i32, most: i32) -> Told {
    let limit = current.saturating_mul(2).max(ALWAYS);
    let (highest, reason, message) = match most > limit {
        true => (limit, "ScaleUpLimit", TOO_FAST_UP),
        false => (most, "TooManyReplicas", TOO_MANY),
    };
    if wanted < least {
        (least, "TooFewReplicas", TOO_FEW)
    } else if wanted > highest {
        (highest, reason, message)
    } else {
        as_wanted(wanted)
    }
}

fn upwards(
    current: i32,
    wanted: i32,
    most: i32,
    rules: &HPAScalingRules,
    memory: &Memory,
    now: Timestamp,
) -> Told {
    let round = |begun: i32, percent: i32| {
        (f64::from(begun) * (1.0 + f64::from(percent) / 100.0)).ceil() as i32
    };
    let after = |begun: i32, kind: &str, value: i32| match kind {
        "Pods" => begun.saturating_add(value),
        _ => round(begun, value),
    };
    let limit = limit(current, rules, memory, now, after, is_least(rules));
    let limit = limit.max(current);
    let (highest, reason, message) = match most > limit {
        true => (limit, "ScaleUpLimit", TOO_FAST_UP),
        false => (most, "TooManyReplicas", TOO_MANY),
    };
    match wanted > highest {
        true => (highest, reason, message),
        false => as_wanted(wanted),
    }
}

fn downwards(
    current: i32,
    wanted: i32,
    least: i32,
    rules: &HPAScalingRules,
    memory: &Memory,
    now: Timestamp,
) -> Told {
    let round =
        |begun: i32, percent: i32| (f64::from(begun) * (1.0 - f64::from(percent) / 100.0)) as i32;
    let after = |begun: i32, kind: &str, value: i32| match kind {
        "Pods" => begun.saturating_sub(value),
        _ => round(begun, value),
    };
    let limit = limit(current, rules, memory, now, after, !is_least(rules));
    let limit = limit.min(current);
    let (lowest, reason, message) = match least < limit {
        true => (
            limit,
            "ScaleDownLimit",
            "the desired replica count is decreasing faster than the maximum scale rate",
        ),
        false => (least, "TooFewReplicas", TOO_FEW),
    };
    match wanted < lowest {
        true => (lowest, reason, message),
        false => as_wanted(wanted),
    }
}

/// Whether the policy that allows the least change counts.
fn is_least(rules: &HPAScalingRules) -> bool {
    rules.select_policy.as_deref() == Some("Min")
}

/// How far the policies let it go from `current`, by what each makes of the number at the beginning of its period.
fn limit(
    current: i32,
    rules: &HPAScalingRules,
    memory: &Memory,
    now: Timestamp,
    after: impl Fn(i32, &str, i32) -> i32,
    takes_smallest: bool,
) -> i32 {
    if rules.select_policy.as_deref() == Some("Disabled") {
        return current;
    }
    let policies = rules.policies.iter().flatten().map(|policy| {
        let begin = ago(now, policy.period_seconds);
        let during = |changes: &[At<i32>]| -> i32 {
            let recent = changes.iter().filter(|(at, _)| *at > begin);
            recent.map(|(_, change)| *change).sum()
        };
        let begun = current - during(&memory.ups) + during(&memory.downs);
        after(begun, &policy.type_, policy.value)
    });
    let chosen = match takes_smallest {
        true => policies.min(),
        false => policies.max(),
    };
    chosen.unwrap_or(current)
}

fn ago(now: Timestamp, seconds: i32) -> Timestamp {
    let before = SignedDuration::from_secs(seconds.into());
    now.checked_sub(before).unwrap_or(Timestamp::MIN)
}
