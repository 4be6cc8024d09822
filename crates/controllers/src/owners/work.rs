//! Works of the garbage collector. Each begins with what the API says now, and what it writes holds for that only.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{
    DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy,
};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use serde_json::Value;
use workloads::garbage::{
    self, FOREGROUND, Kind, ORPHAN, Object, Outcome, Policy, Stage, Uid, Verdict, Work,
};

/// An object of any kind, without what is not its metadata.
pub(super) type Known = PartialObjectMeta<DynamicObject>;

/// How often a work begins anew at once because an object has changed meanwhile.
const TRIES: u32 = 10;
/// Objects that are listed at once.
const PAGE: u32 = 500;

/// What came of a work.
pub(super) type Result = std::result::Result<Done, kube::Error>;

/// What came of a work that has not failed.
pub(super) struct Done {
    pub(super) outcome: Outcome,
    /// The object that was looked for is in another namespace than that of those who name it.
    pub(super) is_elsewhere: bool,
}

impl From<Outcome> for Done {
    fn from(outcome: Outcome) -> Self {
        Done {
            outcome,
            is_elsewhere: false,
        }
    }
}

/// The objects of a kind in one namespace, or in all.
pub(super) fn api(client: &Client, kind: Kind, namespace: &str) -> Api<Known> {
    let known = crate::words(kind.resource());
    if namespace.is_empty() {
        Api::all_with(client.clone(), &known)
    } else {
        Api::namespaced_with(client.clone(), namespace, &known)
    }
}

fn api_of(client: &Client, object: &Object) -> Api<Known> {
    api(client, object.kind, &object.namespace)
}

/// The object of that name, whichever that is.
async fn find(
    client: &Client,
    object: &Object,
) -> std::result::Result<Option<ObjectMeta>, kube::Error> {
    let found = api_of(client, object).get_opt(&object.name).await?;
    Ok(found.map(|found| found.metadata))
}

/// Does what has to be done; anew while others change the object.
pub(super) async fn carry_out(client: Client, work: Work) -> Result {
    let mut tries = 0;
    loop {
        tries += 1;
        match attempt(&client, &work).await {
            Err(kube::Error::Api(e)) if e.code == 409 && tries < TRIES => {}
            // It went while something was done to it: the next look tells.
            Err(kube::Error::Api(e)) if e.code == 404 && tries < TRIES => {}
            other => return other,
        }
    }
}

async fn attempt(client: &Client, work: &Work) -> Result {
    let object = match work {
        Work::Look(object) => return look(client, object).await,
        Work::Judge { object, .. }
        | Work::Release(object)
        | Work::Loosen { object, .. }
        | Work::Orphan(object) => object,
    };
    let meta = match find(client, object).await? {
        Some(meta) if meta.uid.as_deref() == Some(&object.uid) => meta,
        _ => return Ok(Outcome::Absent.into()),
    };
    let outcome = match (work, Stage::of(&meta)) {
        (
            Work::Judge {
                has_dependents,
                absent,
                ..
            },
            Stage::Living,
        ) => judge(client, object, &meta, *has_dependents, absent).await?,
        (Work::Release(_), Stage::Foreground) => release(client, object, &meta).await?,
        (Work::Orphan(_), Stage::Orphaning) => orphan(client, object, &meta).await?,
        (Work::Loosen { owners, .. }, Stage::Foreground) => {
            let patch = garbage::loosened(&meta, owners);
            change(client, object, &Patch::Strategic(patch)).await?;
            Outcome::Done
        }
        // It has gone on: events tell.
        _ => Outcome::Done,
    };
    Ok(outcome.into())
}

/// Looks whether an owner is there.
async fn look(client: &Client, object: &Object) -> Result {
    if !object.is_nowhere()
        && let Some(meta) = find(client, object).await?
        && meta.uid.as_deref() == Some(&object.uid)
    {
        return Ok(Outcome::Found(Box::new(meta)).into());
    }
    let is_elsewhere = object.kind.resource().namespaced && elsewhere(client, object).await?;
    let outcome = if object.is_nowhere() {
        Outcome::Done
    } else {
        Outcome::Absent
    };
    Ok(Done {
        outcome,
        is_elsewhere,
    })
}

/// Whether the object is in another namespace.
async fn elsewhere(client: &Client, object: &Object) -> std::result::Result<bool, kube::Error> {
    let named = ListParams::default().fields(&format!("metadata.name={}", object.name));
    let all = api(client, object.kind, "").list(&named).await?;
    let mut all = all.items.iter();
    Ok(all.any(|found| found.metadata.uid.as_deref() == Some(&object.uid)))
}

/// Deletes the object if all its owners are gone, or lets it have no owners that are.
async fn judge(
    client: &Client,
    object: &Object,
    meta: &ObjectMeta,
    has_dependents: bool,
    absent: &[Arc<Object>],
) -> std::result::Result<Outcome, kube::Error> {
    let mut owners: Vec<(Uid, garbage::Owner)> = Vec::new();
    for reference in garbage::references(meta) {
        // Nobody can tell of what is not served, or cannot be named from here, whether it is there: the object is left alone.
        let Some(named) = reference.object.filter(|named| !named.is_nowhere()) else {
            return Ok(Outcome::Done);
        };
        let owner = if absent.contains(&named) {
            garbage::Owner::Absent
        } else {
            garbage::owner(&named.uid, find(client, &named).await?.as_ref())
        };
        owners.push((reference.uid, owner));
    }
    match garbage::judge(meta, &owners, has_dependents) {
        Verdict::Keep => {}
        Verdict::Leave(owners) => {
            let patch = garbage::without_owners(meta, &owners);
            change(client, object, &Patch::Strategic(patch)).await?;
        }
        Verdict::Delete(policy) => delete(client, object, meta, policy).await?,
    }
    Ok(Outcome::Done)
}

/// Deletes this version of the object.
async fn delete(
    client: &Client,
    object: &Object,
    meta: &ObjectMeta,
    policy: Policy,
) -> std::result::Result<(), kube::Error> {
    let params = DeleteParams {
        propagation_policy: Some(match policy {
            Policy::Background => PropagationPolicy::Background,
            Policy::Foreground => PropagationPolicy::Foreground,
            Policy::Orphan => PropagationPolicy::Orphan,
        }),
        ..DeleteParams::default()
    };
    let this = params.preconditions(Preconditions {
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
    });
    let api = api_of(client, object);
    api.delete(&object.name, &this).await.map(drop)
}

/// Lets an object go that has waited for its dependents, unless some are there that block it.
async fn release(
    client: &Client,
    object: &Object,
    meta: &ObjectMeta,
) -> std::result::Result<Outcome, kube::Error> {
    let mut blocking = dependents(client, object).await?;
    blocking.retain(|(_, meta)| garbage::blocks(meta, &object.uid) == Some(true));
    if !blocking.is_empty() {
        return Ok(Outcome::Others(blocking));
    }
    let_go(client, object, meta, FOREGROUND).await
}

/// Lets all dependents of an object go, then the object.
async fn orphan(
    client: &Client,
    object: &Object,
    meta: &ObjectMeta,
) -> std::result::Result<Outcome, kube::Error> {
    let owner = [object.uid.clone()];
    let dependents = dependents(client, object).await?;
    for (kind, meta) in &dependents {
        let Some(dependent) = Object::of(*kind, meta) else {
            continue;
        };
        let patch = garbage::without_owners(meta, &owner);
        change(client, &dependent, &Patch::Strategic(patch)).await?;
    }
    if dependents.is_empty() {
        return let_go(client, object, meta, ORPHAN).await;
    }
    // Others may have come meanwhile.
    Ok(Outcome::Others(Vec::new()))
}

async fn let_go(
    client: &Client,
    object: &Object,
    meta: &ObjectMeta,
    finalizer: &str,
) -> std::result::Result<Outcome, kube::Error> {
    if let Some(patch) = garbage::without_finalizer(meta, finalizer) {
        change(client, object, &Patch::Merge(patch)).await?;
    }
    Ok(Outcome::Done)
}

async fn change(
    client: &Client,
    object: &Object,
    patch: &Patch<Value>,
) -> std::result::Result<(), kube::Error> {
    let api = api_of(client, object);
    let params = PatchParams::default();
    api.patch(&object.name, &params, patch).await.map(drop)
}

/// Who names the object as an owner right now, among those that may.
async fn dependents(
    client: &Client,
    owner: &Object,
) -> std::result::Result<Vec<(Kind, ObjectMeta)>, kube::Error> {
    let mut dependents = Vec::new();
    let is_everywhere = owner.namespace.is_empty();
    for kind in Kind::followed().filter(|kind| is_everywhere || kind.resource().namespaced) {
        let api = api(client, kind, &owner.namespace);
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = api.list(&params).await?;
            let found = page.items.into_iter().map(|found| found.metadata);
            let named = found.filter(|meta| garbage::blocks(meta, &owner.uid).is_some());
            dependents.extend(named.map(|meta| (kind, meta)));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(dependents)
}
