//! What becomes of claims, and how steps are told.

use super::*;
use crate::statefulset::claim as rules;

fn stored(policy: (&str, &str)) -> Value {
    json!({
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
        "persistentVolumeClaimRetentionPolicy": {"whenScaled": policy.0, "whenDeleted": policy.1},
    })
}

fn claim(ordinal: i32, owners: &[OwnerReference]) -> PersistentVolumeClaim {
    let meta = ObjectMeta {
        name: Some(format!("data-web-{ordinal}")),
        namespace: Some("ns".into()),
        owner_references: Some(owners.to_vec()).filter(|o| !o.is_empty()),
        ..ObjectMeta::default()
    };
    PersistentVolumeClaim {
        metadata: meta,
        ..PersistentVolumeClaim::default()
    }
}

fn pod_reference(ordinal: i32, uid: &str) -> OwnerReference {
    let mut meta = pod(ordinal, "1", Ready).metadata;
    meta.uid = Some(uid.into());
    owner::reference("v1", "Pod", &meta)
}

fn mounted(ordinal: i32) -> Pod {
    let mut pod = pod(ordinal, "1", Ready);
    let volume = json!([{"name": "data", "persistentVolumeClaim": {"claimName": format!("data-web-{ordinal}")}}]);
    pod.spec.as_mut().unwrap().volumes = serde_json::from_value(volume).unwrap();
    pod
}

#[test]
fn a_claim_tells_by_its_name_whose_it_is() {
    let set = set(1, stored(("Retain", "Retain")));
    let own = ["data-web-0", "data-web-12"];
    assert!(own.iter().all(|claim| rules::is_of(&set, claim)));
    let others = [
        "data-web",
        "data-web-",
        "data-web-x",
        "data-web-1-2",
        "data-webs-0",
        "date-web-0",
        "web-0",
        "a-data-web-0",
        "dataweb-0",
        "",
    ];
    for claim in others {
        assert!(!rules::is_of(&set, claim), "{claim:?}");
    }
}

#[test]
fn claims_go_with_whom_the_policy_says() {
    let (own, of_pod) = (vec![reference()], vec![pod_reference(1, "p1")]);
    type Row<'a> = (
        (&'a str, &'a str),
        i32,
        &'a [OwnerReference],
        Option<Vec<OwnerReference>>,
    );
    let rows: [Row<'_>; 10] = [
        (("Retain", "Retain"), 2, &[], None),
        (("Retain", "Retain"), 2, &own, Some(vec![])),
        (("Retain", "Delete"), 2, &[], Some(own.clone())),
        (("Retain", "Delete"), 1, &[], Some(own.clone())),
        (("Delete", "Retain"), 2, &[], None),
        (("Delete", "Retain"), 1, &[], Some(of_pod.clone())),
        (("Delete", "Delete"), 2, &of_pod, Some(own.clone())),
        (("Delete", "Delete"), 1, &own, Some(of_pod.clone())),
        (("Delete", "Delete"), 1, &of_pod, None),
        (
            ("Delete", "Delete"),
            1,
            &[pod_reference(1, "earlier")],
            None,
        ),
    ];
    for (n, (policy, replicas, owners, expected)) in rows.into_iter().enumerate() {
        let set = set(replicas, stored(policy));
        let (spec, pod) = (set.spec.as_ref().unwrap(), mounted(1));
        let claim = claim(1, owners);
        let mended = rules::mended(spec, &reference(), &pod, replicas == 1, &claim);
        let owners = mended.map(|m| m.claim.metadata.owner_references.unwrap_or_default());
        assert_eq!(owners, expected, "case {n}");
    }
}

#[test]
fn what_another_controls_is_let_go() {
    let other = OwnerReference {
        name: "other".into(),
        uid: "other".into(),
        ..reference()
    };
    let policy = set(2, stored(("Retain", "Delete")));
    let spec = policy.spec.as_ref().unwrap();
    let mended = |owners: &[OwnerReference]| {
        rules::mended(spec, &reference(), &mounted(1), false, &claim(1, owners))
    };
    assert!(mended(std::slice::from_ref(&other)).is_none());
    let ours = OwnerReference {
        controller: None,
        ..reference()
    };
    let let_go = mended(&[other.clone(), ours]).unwrap();
    assert!(let_go.is_contested);
    assert_eq!(let_go.claim.metadata.owner_references, Some(vec![other]));
}

#[test]
fn a_pod_waits_for_a_claim_that_goes() {
    let make = ["claim data-web-0", "make web-0"];
    let rows: [(_, Option<&str>, &[&str]); 4] = [
        (("Retain", "Retain"), None, &make),
        (("Retain", "Retain"), Some("earlier"), &[]),
        (("Delete", "Retain"), Some("earlier"), &[]),
        (("Retain", "Retain"), Some(""), &["make web-0"]),
    ];
    for (policy, earlier, expected) in rows {
        let mut world = World::of(&[]);
        let owner = earlier.map(|uid| pod_reference(0, uid));
        let owners: Vec<_> = owner.into_iter().filter(|o| !o.uid.is_empty()).collect();
        world.claims.extend(earlier.map(|_| claim(0, &owners)));
        assert_eq!(world.steps(&set(1, stored(policy))), expected, "{policy:?}");
        for claim in &mut world.claims {
            claim.metadata.deletion_timestamp = Some(Time(at(0)));
            assert!(world_steps(&set(1, stored(policy)), claim).is_empty());
        }
    }
}

fn world_steps(set: &StatefulSet, claim: &PersistentVolumeClaim) -> Vec<String> {
    let mut world = World::of(&[]);
    world.claims.push(claim.clone());
    world.steps(set)
}

#[test]
fn claims_are_given_away_before_their_pods_go() {
    let mut world = World::of(&[]);
    world.pods = vec![mounted(0), mounted(1), mounted(2)];
    world.claims = (0..3).map(|n| claim(n, &[])).collect();
    let steps = world.steps(&set(1, stored(("Delete", "Retain"))));
    assert_eq!(
        steps,
        ["give data-web-2", "give data-web-1", "delete web-2"]
    );
    world.pods[0].spec.as_mut().unwrap().volumes = None;
    world.claims.clear();
    let steps = world.steps(&set(3, stored(("Retain", "Retain"))));
    assert_eq!(steps, ["claim data-web-0", "mend web-0"]);
}

#[test]
fn steps_are_told_in_upstreams_words() {
    let world = World::of(&[]);
    let plan = world.plan(&set(1, stored(("Retain", "Retain"))));
    let [claim, make] = &plan.steps[..] else {
        panic!("{:?}", plan.steps);
    };
    let said = |step: &Step| {
        let news = step.news("web").unwrap();
        (news.type_, news.reason, news.message)
    };
    let expected = |reason: &str, message: &str| ("Normal", reason.to_owned(), message.to_owned());
    let message = "Create Claim data-web-0 Pod web-0 in StatefulSet web success";
    assert_eq!(said(claim), expected("SuccessfulCreate", message));
    let message = "Create Pod web-0 in StatefulSet web successful";
    assert_eq!(said(make), expected("SuccessfulCreate", message));
    let bad: Vec<String> = claim
        .bad_news("web", "no")
        .into_iter()
        .map(|n| n.message)
        .collect();
    let expected = [
        "Create Claim data-web-0 for Pod web-0 in StatefulSet web failed error: no",
        "Create Pod web-0 in StatefulSet web failed error: failed to create PVC data-web-0: no",
    ];
    assert_eq!(bad, expected);
    let bad = &make.bad_news("web", "no")[0];
    assert_eq!((bad.type_, &*bad.reason), ("Warning", "FailedCreate"));
    assert_eq!(
        bad.message,
        "Create Pod web-0 in StatefulSet web failed error: no"
    );
}
