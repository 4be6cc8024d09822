//! The part of the settings that the node agent is told, by upstream's names (`KubeletConfiguration`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};
use api::duration;
use jiff::SignedDuration;
use lifecycle::image::access::Verification;
use lifecycle::{NodePolicy, UnsafeSysctls, pressure};
use serde::Deserialize;

use super::File;

/// Most Pods of a node unless told otherwise. Upstream's 110 is a default for machines that are one of many.
const MAX_PODS: u32 = 1000;

/// What the machine must have left unless told otherwise. Upstream's shares of the disk would evict on many a developer's machine.
const EVICTION_HARD: [(&str, &str); 2] =
    [("memory.available", "100Mi"), ("nodefs.available", "100Mi")];

/// What the node agent is told.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) static_pod_path: Option<PathBuf>,
    pub(crate) max_pods: u32,
    pub(crate) policy: NodePolicy,
    pub(crate) evictions: pressure::Policy,
    pub(crate) verification: Verification,
    pub(crate) pod_pids_limit: Option<u32>,
    pub(crate) single_process_oom_kill: bool,
    pub(crate) unsafe_sysctls: UnsafeSysctls,
}

/// `crashLoopBackOff`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct CrashLoopBackOff {
    max_container_restart_period: Option<String>,
}

impl Settings {
    /// What the file says, under defaults; the errors name the field.
    pub(super) fn check(file: &File) -> anyhow::Result<Settings> {
        let evictions = pressure::Settings {
            hard: file.eviction_hard.clone().unwrap_or_else(eviction_hard),
            soft: file.eviction_soft.clone(),
            soft_grace_period: file.eviction_soft_grace_period.clone(),
            minimum_reclaim: file.eviction_minimum_reclaim.clone(),
            max_pod_grace_period: file.eviction_max_pod_grace_period,
            transition_period: file.eviction_pressure_transition_period.clone(),
        };
        let verification = Verification::read(
            file.image_pull_credentials_verification_policy.as_deref(),
            file.preloaded_images_verification_allowlist.clone(),
        );
        let max_pods = file.max_pods.unwrap_or(MAX_PODS);
        if max_pods == 0 {
            bail!("maxPods: 0 would leave no room for any Pod");
        }
        let given = |path: &PathBuf| !path.as_os_str().is_empty();
        let static_pod_path = file.static_pod_path.clone().filter(given);
        if let Some(path) = static_pod_path.as_ref().filter(|path| path.is_relative()) {
            bail!("staticPodPath: {} is not an absolute path", path.display());
        }
        Ok(Settings {
            static_pod_path,
            max_pods,
            policy: policy(&file.crash_loop_back_off).context("crashLoopBackOff")?,
            evictions: pressure::Policy::read(&evictions)?,
            verification: verification.map_err(anyhow::Error::msg)?,
            pod_pids_limit: pids_limit(file.pod_pids_limit)?,
            single_process_oom_kill: file.single_process_oom_kill,
            unsafe_sysctls: UnsafeSysctls::read(&file.allowed_unsafe_sysctls)?,
        })
    }
}

/// What is given takes the place of all of these, as upstream has it.
fn eviction_hard() -> BTreeMap<String, String> {
    let pair = |(signal, least): (&str, &str)| (signal.to_owned(), least.to_owned());
    EVICTION_HARD.into_iter().map(pair).collect()
}

/// -1 is no limit.
fn pids_limit(limit: Option<i64>) -> anyhow::Result<Option<u32>> {
    match limit {
        None | Some(-1) => Ok(None),
        Some(limit) => match u32::try_from(limit) {
            Ok(limit @ 1..) => Ok(Some(limit)),
            _ => bail!("podPidsLimit: {limit} is neither a number of processes nor -1"),
        },
    }
}

fn policy(back_off: &CrashLoopBackOff) -> anyhow::Result<NodePolicy> {
    let mut policy = NodePolicy::default();
    let Some(text) = &back_off.max_container_restart_period else {
        return Ok(policy);
    };
    let most = duration::parse_go(text).context("maxContainerRestartPeriod")?;
    let most = SignedDuration::from_nanos(most);
    let within = SignedDuration::from_secs(1)..=policy.crash_back_off_max;
    if !within.contains(&most) {
        bail!("maxContainerRestartPeriod: {text} is not between 1s and 300s");
    }
    policy.crash_back_off_max = most;
    Ok(policy)
}
