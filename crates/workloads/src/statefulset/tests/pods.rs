//! What Pods are made of.

use super::*;
use crate::history::REVISION_LABEL;

#[test]
fn a_pod_has_what_makes_it_the_sets() {
    let spec = json!({
        "ordinals": {"start": 5},
        "volumeClaimTemplates": [{
            "metadata": {"name": "data", "labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]},
            "status": {"phase": "Pending"},
        }],
    });
    let plan = World::of(&[]).plan(&set(2, spec));
    let [Step::CreateClaim { claim, pod: of }, Step::CreatePod(pod)] = &plan.steps[..] else {
        panic!("{:?}", plan.steps);
    };
    let claimed = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data-web-5", "namespace": "ns", "labels": {"a": "b", "app": "web"}},
        "spec": {"accessModes": ["ReadWriteOnce"]},
    });
    assert_eq!((json!(claim), &**of), (claimed, "web-5"));
    let volumes = json!([
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-5"}},
        {"name": "tmp", "emptyDir": {}},
    ]);
    let made = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-5", "generateName": "web-", "ownerReferences": [reference()],
            "labels": {
                "app": "web", REVISION_LABEL: revision_name("1"),
                POD_NAME_LABEL: "web-5", POD_INDEX_LABEL: "5",
            },
        },
        "spec": {
            "containers": [{"name": "c", "image": "1"}], "volumes": volumes,
            "hostname": "web-5", "subdomain": "svc",
        },
    });
    assert_eq!(json!(pod), made);
}

#[test]
fn names_are_exact() {
    let rows = [
        ("web-0", Some(0)),
        ("web-12", Some(12)),
        ("web-01", None),
        ("web-+1", None),
        ("web-", None),
        ("web", None),
        ("web-1-2", None),
        ("webs-1", None),
        ("web-99999999999", None),
    ];
    for (name, expected) in rows {
        assert_eq!(named::ordinal("web", name), expected, "{name}");
    }
}

#[test]
fn a_pod_that_has_lost_its_name_label_gets_it_again() {
    let mut world = World::of(&[Ready, Ready]);
    let labels = world.pods[0].metadata.labels.as_mut().unwrap();
    labels.remove(POD_NAME_LABEL);
    let plan = world.plan(&set(2, json!({})));
    let [Step::UpdatePod(mended)] = &plan.steps[..] else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!(**mended, pod(0, "1", Ready));
}

#[test]
fn a_missing_pod_is_of_the_revision_its_ordinal_has() {
    let made = |set: &StatefulSet, world: &World| match &world.plan(set).steps[..] {
        [Step::CreatePod(pod)] => {
            let image = pod.spec.as_ref().unwrap().containers[0].image.clone();
            (image.unwrap(), named::revision(pod).to_owned())
        }
        other => panic!("{other:?}"),
    };
    let of = |image: &str| (image.to_owned(), revision_name(image));
    let mut world = World::of(&[]);
    world.revisions.push(revision("2", 2));
    let status = |current: i32| StatefulSetStatus {
        current_revision: Some(revision_name("1")),
        current_replicas: Some(current),
        ..StatefulSetStatus::default()
    };
    let rows = [
        (
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}),
            0,
            "1",
        ),
        (
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
            3,
            "2",
        ),
        (json!({"type": "RollingUpdate"}), 1, "1"),
        (json!({"type": "RollingUpdate"}), 0, "2"),
        (json!({"type": "OnDelete"}), 3, "2"),
    ];
    for (strategy, current, image) in rows {
        let mut set = set(
            3,
            json!({"template": template("2"), "updateStrategy": strategy}),
        );
        set.status = Some(status(current));
        assert_eq!(made(&set, &world), of(image), "{strategy}");
    }
}
