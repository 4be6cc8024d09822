//! Ids of Pods' own user namespaces (`hostUsers: false`, spec `§11.6`): which range is whose.
//!
//! A range is remembered by the records of the Pod's sandboxes and free when the last of them is removed, so it outlives the agent
//! without a record of its own. Held here are only the ranges of sandboxes that are being made.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use ports::runtime::{ContainerRuntime, IdMapping, SandboxStatus};

/// How many ids a Pod gets.
const PER_POD: u32 = 1 << 16;
/// The account whose subordinate ids Pods get.
const ACCOUNT: &str = "kubelet";

/// The node's ids for Pods: those subordinate to the account `kubelet` by `/etc/subuid` and `/etc/subgid` (`subuid(5)`), else those
/// after the node's own.
///
/// # Errors
/// Why these files give no ids to Pods, in upstream's words where it has some.
pub fn user_ids(subuid: &str, subgid: &str, max_pods: u32) -> Result<IdMapping, String> {
    let (uids, gids) = (subordinate(subuid)?, subordinate(subgid)?);
    let ids = match (uids, gids) {
        (None, None) => IdMapping {
            host_id: PER_POD,
            length: PER_POD.saturating_mul(max_pods),
        },
        (Some(uids), Some(gids)) if uids == gids => uids,
        _ => {
            return Err(format!(
                "kubelet mappings: mismatched subuids and subgids for user {ACCOUNT:?}"
            ));
        }
    };
    let IdMapping { host_id, length } = ids;
    if host_id % PER_POD != 0 {
        return Err(format!(
            "kubelet user assigned ID {host_id} is not a multiple of {PER_POD}"
        ));
    }
    if host_id < PER_POD {
        return Err(format!(
            "kubelet user assigned ID {host_id} must be greater or equal to {PER_POD}"
        ));
    }
    if length % PER_POD != 0 {
        return Err(format!(
            "kubelet user assigned IDs length {length} is not a multiple of {PER_POD}"
        ));
    }
    if length / PER_POD < max_pods {
        return Err(format!(
            "kubelet user assigned IDs are not enough to support {max_pods} pods"
        ));
    }
    Ok(ids)
}

/// The one range of the account in a file of `name:first:count` lines.
fn subordinate(file: &str) -> Result<Option<IdMapping>, String> {
    let lines = file.lines().map(|line| line.split(':').map(str::trim));
    let mut found = None;
    for mut fields in lines {
        if fields.next() != Some(ACCOUNT) {
            continue;
        }
        let mut number = || fields.next().and_then(|field| field.parse::<u32>().ok());
        let ids = number().zip(number());
        let ids = ids.map(|(host_id, length)| IdMapping { host_id, length });
        let ids = ids.filter(|ids| ids.host_id.checked_add(ids.length).is_some());
        if found.replace(ids).is_some() {
            return Err(format!(
                "kubelet mappings: more than one range of subordinate ids for user {ACCOUNT:?}"
            ));
        }
    }
    match found {
        None => Ok(None),
        Some(Some(ids)) => Ok(Some(ids)),
        Some(None) => Err(format!(
            "kubelet mappings: malformed range of subordinate ids for user {ACCOUNT:?}"
        )),
    }
}

/// Hands ranges out.
pub(crate) struct Users {
    /// What there is, or why there is nothing.
    range: Result<IdMapping, String>,
    /// First ids of ranges whose sandbox is not listed yet.
    leased: Mutex<BTreeSet<u32>>,
    /// Held by who chooses.
    turn: tokio::sync::Mutex<()>,
}

/// A range nobody else gets until this is dropped. By then a sandbox that was made with it is listed by the runtime.
pub(crate) struct Lease<'a> {
    users: &'a Users,
    ids: IdMapping,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.users.lock().remove(&self.ids.host_id);
    }
}

impl Lease<'_> {
    pub(crate) fn ids(&self) -> IdMapping {
        self.ids
    }
}

impl Users {
    pub(crate) fn new(range: Result<IdMapping, String>) -> Self {
        Self {
            range,
            leased: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.leased.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Pod's range if it wants its own users: the one its sandboxes have, or the first that is free.
    ///
    /// # Errors
    /// The text of a `FailedCreatePodSandBox` event.
    pub(crate) async fn lease(
        &self,
        pod: &Pod,
        runtime: &dyn ContainerRuntime,
    ) -> Result<Option<Lease<'_>>, String> {
        if pod.spec.as_ref().and_then(|spec| spec.host_users) != Some(false) {
            return Ok(None);
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let _turn = self.turn.lock().await;
        // Before the list: a sandbox whose range is given back meanwhile is in it.
        let leased = self.lock().clone();
        let sandboxes = runtime.list_sandboxes(None).await;
        let host_id = self.choose(uid, &sandboxes, &leased)?;
        self.lock().insert(host_id);
        let length = PER_POD;
        let ids = IdMapping { host_id, length };
        Ok(Some(Lease { users: self, ids }))
    }

    fn choose(
        &self,
        uid: &str,
        sandboxes: &[SandboxStatus],
        leased: &BTreeSet<u32>,
    ) -> Result<u32, String> {
        let ranges = || {
            sandboxes
                .iter()
                .filter_map(|s| Some((s.metadata.uid.as_str(), s.namespaces.users?.host_id)))
        };
        if let Some((_, own)) = ranges().find(|(of, _)| *of == uid) {
            return Ok(own);
        }
        let IdMapping { host_id, length } = self.range.clone()?;
        let taken: BTreeSet<u32> = ranges().map(|(_, first)| first).collect();
        let slots = (0..length / PER_POD).map(|slot| host_id + slot * PER_POD);
        let mut free = slots.filter(|first| !taken.contains(first) && !leased.contains(first));
        free.next().ok_or_else(|| {
            "create user namespace: could not find an empty slot to allocate a user namespace"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use ports::runtime::{
        NamespaceMode, NamespaceOptions, Resources, SandboxMetadata, SandboxState,
    };

    use super::*;

    #[test]
    fn ranges_come_from_the_nodes_files() {
        let ok = |host_id, length| Ok(IdMapping { host_id, length });
        let text = |text: &str| Err(text.to_owned());
        let other = "ubuntu:100000:65536\n# kubelet:1:2\n";
        let table = [
            ("", "", ok(65536, 3 << 16)),
            (other, other, ok(65536, 3 << 16)),
            (
                "kubelet:655360:196608",
                "kubelet:655360:196608\n",
                ok(655_360, 3 << 16),
            ),
            (
                "kubelet:655360:196608",
                "",
                text("kubelet mappings: mismatched subuids and subgids for user \"kubelet\""),
            ),
            (
                "kubelet:65536:196608",
                "kubelet:131072:196608",
                text("kubelet mappings: mismatched subuids and subgids for user \"kubelet\""),
            ),
            (
                "kubelet:100000:196608",
                "kubelet:100000:196608",
                text("kubelet user assigned ID 100000 is not a multiple of 65536"),
            ),
            (
                "kubelet:0:196608",
                "kubelet:0:196608",
                text("kubelet user assigned ID 0 must be greater or equal to 65536"),
            ),
            (
                "kubelet:65536:196609",
                "kubelet:65536:196609",
                text("kubelet user assigned IDs length 196609 is not a multiple of 65536"),
            ),
            (
                "kubelet:65536:131072",
                "kubelet:65536:131072",
                text("kubelet user assigned IDs are not enough to support 3 pods"),
            ),
            (
                "kubelet:65536:x",
                "",
                text("kubelet mappings: malformed range of subordinate ids for user \"kubelet\""),
            ),
            (
                "kubelet:4294901760:65537",
                "",
                text("kubelet mappings: malformed range of subordinate ids for user \"kubelet\""),
            ),
            (
                "kubelet:1:2\nkubelet:3:4",
                "",
                text(
                    "kubelet mappings: more than one range of subordinate ids for user \"kubelet\"",
                ),
            ),
        ];
        for (subuid, subgid, want) in table {
            assert_eq!(user_ids(subuid, subgid, 3), want, "{subuid:?} {subgid:?}");
        }
    }

    fn sandbox(uid: &str, host_id: u32) -> SandboxStatus {
        let users = IdMapping {
            host_id,
            length: PER_POD,
        };
        SandboxStatus {
            id: uid.to_owned(),
            metadata: SandboxMetadata {
                name: uid.to_owned(),
                uid: uid.to_owned(),
                namespace: "n".to_owned(),
                attempt: 0,
            },
            state: SandboxState::NotReady,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            ips: Vec::new(),
            namespaces: NamespaceOptions {
                network: NamespaceMode::Pod,
                pid: NamespaceMode::Container,
                ipc: NamespaceMode::Pod,
                users: Some(users),
            },
            resources: Resources::default(),
            labels: Default::default(),
            annotations: Default::default(),
        }
    }

    #[test]
    fn a_range_is_its_pods_as_long_as_a_sandbox_has_it() {
        let users = Users::new(Ok(IdMapping {
            host_id: PER_POD,
            length: 3 * PER_POD,
        }));
        let choose = |uid: &str, sandboxes: &[SandboxStatus], leased: &[u32]| {
            users.choose(uid, sandboxes, &leased.iter().copied().collect())
        };
        let slot = |n: u32| n * PER_POD;
        assert_eq!(choose("a", &[], &[]), Ok(slot(1)));
        let two = [sandbox("a", slot(1)), sandbox("c", slot(3))];
        assert_eq!(
            choose("b", &two, &[]),
            Ok(slot(2)),
            "the first that is free"
        );
        assert_eq!(choose("c", &two, &[]), Ok(slot(3)), "the same as before");
        let none = choose("b", &two, &[slot(2)]).expect_err("all are taken");
        assert_eq!(
            none,
            "create user namespace: could not find an empty slot to allocate a user namespace"
        );
        assert_eq!(
            choose("b", &two[1..], &[]),
            Ok(slot(1)),
            "freed with its Pod"
        );
        let broken = Users::new(Err("why".into()));
        assert_eq!(broken.choose("a", &[], &BTreeSet::new()), Err("why".into()));
    }
}
