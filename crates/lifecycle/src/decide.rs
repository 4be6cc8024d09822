//! The plan: where in its life a Pod is, and which rules apply there (§1.1).

use api::pod::is_final;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::look::Look;
use crate::observed::{Observed, Termination};
use crate::plan::{NodePolicy, Plan};
use crate::status;
use crate::sync::{self, Ends};
use crate::termination;

/// Decides what to do about a Pod now. Same input, same output.
pub fn plan(pod: &Pod, seen: &Observed, now: Timestamp, policy: &NodePolicy) -> Plan {
    let look = Look { pod, seen, now };
    if let Some(end) = termination::decide(&look) {
        return termination::plan(&look, end, policy);
    }
    let (init, apps) = status::containers(&look);
    if is_final(&status::computed_phase(&look, &init, &apps)) {
        return termination::plan(&look, done(&look), policy);
    }
    match sync::plan(&look, policy) {
        Ok(plan) => plan,
        Err(Ends(why)) => {
            let mut plan = termination::plan(&look, done(&look), policy);
            plan.because(None, why);
            plan
        }
    }
}

/// The end of a Pod whose containers are done.
fn done(look: &Look<'_>) -> Termination {
    Termination {
        since: look.now,
        grace_seconds: termination::grace(look.pod, None, false),
        verdict: None,
    }
}
