//! Situations, and what becomes of them.

use serde_json::{Value, json};

use super::{Model, key};
use crate::{PROVISIONER, object, standard_class};

/// A model with the class every cluster has.
fn standard() -> Model {
    let mut model = Model::default();
    let class = standard_class();
    let name = object::name(&class.metadata).to_owned();
    model.classes.insert(name, class);
    model
}

#[test]
fn the_smallest_volume_that_suits_is_taken() {
    let size = |size: &str| json!({"capacity": {"storage": size}});
    for (behaviour, claim, volumes, expected) in [
        ("large enough", json!({}), vec![size("1Gi")], "Bound v0"),
        ("too small", json!({}), vec![size("1023Mi")], "Pending "),
        (
            "the smallest",
            json!({}),
            vec![size("3Gi"), size("1Gi"), size("2Gi")],
            "Bound v1",
        ),
        (
            "the first of those alike",
            json!({}),
            vec![size("2Gi"), size("2Gi")],
            "Bound v0",
        ),
        (
            "fewer modes before less room",
            json!({}),
            vec![
                json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}),
                size("5Gi"),
            ],
            "Bound v1",
        ),
        (
            "all modes are needed",
            json!({"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}),
            vec![
                json!({}),
                json!({"accessModes": ["ReadWriteMany", "ReadWriteOnce"]}),
            ],
            "Bound v1",
        ),
        (
            "of no class",
            json!({}),
            vec![json!({"storageClassName": "a"})],
            "Pending ",
        ),
        (
            "of its class, which need not be there",
            json!({"storageClassName": "a"}),
            vec![json!({}), json!({"storageClassName": "a"})],
            "Bound v1",
        ),
        (
            "of its mode",
            json!({"volumeMode": "Block"}),
            vec![json!({}), json!({"volumeMode": "Block"})],
            "Bound v1",
        ),
        (
            "of its attributes",
            json!({"volumeAttributesClassName": "g"}),
            vec![json!({}), json!({"volumeAttributesClassName": "g"})],
            "Bound v1",
        ),
        (
            "put aside for it",
            json!({}),
            vec![
                json!({}),
                json!({"claimRef": {"namespace": "d", "name": "c"}, "capacity": {"storage": "9Gi"}}),
            ],
            "Bound v1",
        ),
        (
            "put aside for another",
            json!({}),
            vec![json!({"claimRef": {"namespace": "d", "name": "other"}})],
            "Pending ",
        ),
        (
            "named",
            json!({"volumeName": "v1"}),
            vec![json!({}), size("9Gi")],
            "Bound v1",
        ),
        (
            "named, and not there",
            json!({"volumeName": "x"}),
            vec![json!({})],
            "Pending x",
        ),
        (
            "named, and too small",
            json!({"volumeName": "v0"}),
            vec![size("1Mi")],
            "Pending v0",
        ),
    ] {
        let mut model = Model::default();
        model.claim("c", claim);
        for (at, volume) in volumes.into_iter().enumerate() {
            model.volume(&format!("v{at}"), volume);
        }
        model.settle();
        assert_eq!(model.shown("c"), expected, "{behaviour}");
    }
}

#[test]
fn volumes_are_selected_by_label() {
    let mut model = Model::default();
    model.claim("c", json!({"selector": {"matchLabels": {"a": "b"}}}));
    model.volume("v", json!({}));
    model.volume("w", json!({}));
    let labels = Some([("a".to_owned(), "b".to_owned())].into());
    model
        .volumes
        .get_mut("w")
        .expect("a volume")
        .metadata
        .labels = labels;
    model.settle();
    assert_eq!(model.shown("c"), "Bound w");
}

#[test]
fn both_say_that_they_belong_together() {
    let mut model = Model::default();
    model.claim("c", json!({}));
    model.volume(
        "v",
        json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": {"storage": "2Gi"}}),
    );
    model.settle();
    let claim = serde_json::to_value(&model.claims[&key("c")]).expect("JSON");
    assert_eq!(
        claim["metadata"]["annotations"],
        json!({"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes"})
    );
    let got = json!({"phase": "Bound", "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": {"storage": "2Gi"}});
    assert_eq!(claim["status"], got);
    let volume = serde_json::to_value(&model.volumes["v"]).expect("JSON");
    assert_eq!(
        volume["metadata"]["annotations"],
        json!({"pv.kubernetes.io/bound-by-controller": "yes"})
    );
    assert_eq!(volume["spec"]["claimRef"]["uid"], "u1");
    assert_eq!(volume["status"]["phase"], "Bound");
}

#[test]
fn claims_that_wait_are_told_why() {
    let unset =
        "FailedBinding: no persistent volumes available for this claim and no storage class is set";
    let first = "WaitForFirstConsumer: waiting for first consumer to be created before binding";
    for (behaviour, claim, volume, expected) in [
        ("no class", json!({}), Value::Null, unset),
        (
            "no such class",
            json!({"storageClassName": "x"}),
            Value::Null,
            "ProvisioningFailed: storageclass.storage.k8s.io \"x\" not found",
        ),
        (
            "no Pod yet",
            json!({"storageClassName": "later"}),
            json!({"storageClassName": "later"}),
            first,
        ),
        (
            "nobody makes volumes of the class",
            json!({"storageClassName": "none"}),
            Value::Null,
            "ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner",
        ),
        (
            "somebody else makes them",
            json!({"storageClassName": "driver"}),
            Value::Null,
            "ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'a.b/c' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.",
        ),
        (
            "no directory does",
            json!({"storageClassName": "standard", "volumeMode": "Block"}),
            Value::Null,
            "ProvisioningFailed: Failed to provision volume with StorageClass \"standard\": carob.dev/directory does not support block volume provisioning",
        ),
        (
            "the volume is too small",
            json!({"volumeName": "v"}),
            json!({"capacity": {"storage": "1Mi"}}),
            "VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small",
        ),
        (
            "the volume is somebody else's",
            json!({"volumeName": "v"}),
            json!({"claimRef": {"namespace": "d", "name": "other"}}),
            "FailedBinding: volume \"v\" already bound to a different claim.",
        ),
    ] {
        let mut model = standard();
        model.class("later", "a.b/c", "WaitForFirstConsumer");
        model.class("none", "kubernetes.io/no-provisioner", "Immediate");
        model.class("driver", "a.b/c", "Immediate");
        model.claim("c", claim);
        if !volume.is_null() {
            model.volume("v", volume);
        }
        model.settle();
        assert_eq!(model.told_of("c"), [expected], "{behaviour}");
        assert!(model.shown("c").starts_with("Pending"), "{behaviour}");
    }
}

#[test]
fn claims_that_wait_for_a_pod_are_bound_once_there_is_one() {
    let mut model = Model::default();
    model.class("later", PROVISIONER, "WaitForFirstConsumer");
    model.claim("c", json!({"storageClassName": "later"}));
    model.volume("v", json!({"storageClassName": "later"}));
    model.claim("d", json!({"storageClassName": "later"}));
    model.settle();
    assert_eq!(
        (model.shown("c"), model.shown("d")),
        ("Pending ".into(), "Pending ".into())
    );
    model.pod("p", "c", false);
    model.pod("q", "d", false);
    model.settle();
    assert_eq!(model.shown("c"), "Bound v");
    assert_eq!(model.shown("d"), "Bound pvc-u2");
    let node = object::annotation(&model.claims[&key("d")].metadata, object::SELECTED_NODE);
    assert_eq!(node, Some("n"));
}

#[test]
fn directories_grow_with_their_claims() {
    let mut model = standard();
    model.claim("c", json!({"storageClassName": "standard"}));
    model.volume(
        "other",
        json!({"claimRef": {"namespace": "d", "name": "o"}}),
    );
    model.claim("o", json!({}));
    model.settle();
    for name in ["c", "o"] {
        let claim = model.claims.get_mut(&key(name)).expect("a claim");
        let spec = claim.spec.as_mut().expect("a spec");
        let wanted = json!({"requests": {"storage": "2Gi"}});
        spec.resources = serde_json::from_value(wanted).expect("resources");
    }
    model.settle();
    let sizes = |name: &str, volume: &str| {
        let claim = json!(model.claims[&key(name)]);
        let got = claim["status"]["capacity"]["storage"].clone();
        let volume = json!(model.volumes[volume]);
        [got, volume["spec"]["capacity"]["storage"].clone()]
    };
    assert_eq!(sizes("c", "pvc-u1"), ["2Gi", "2Gi"]);
    assert_eq!(
        model.told_of("c"),
        ["VolumeResizeSuccessful: ExpandVolume succeeded for volume d/c"]
    );
    assert_eq!(
        sizes("o", "other"),
        ["1Gi", "1Gi"],
        "that is for others to do"
    );
    assert_eq!(model.told_of("o"), [""; 0]);
}

#[test]
fn claims_without_a_class_get_the_one_that_comes_later() {
    let mut model = Model::default();
    model.claim("c", json!({"storageClassName": null}));
    model.settle();
    assert_eq!(model.shown("c"), "Pending ");
    model.classes = standard().classes;
    model.settle();
    assert_eq!(model.shown("c"), "Bound pvc-u1");
    model.claim("none", json!({}));
    model.settle();
    assert_eq!(model.shown("none"), "Pending ", "it wants none");
}

#[test]
fn what_was_made_for_a_claim_goes_with_it() {
    let mut model = standard();
    model.claim("c", json!({"storageClassName": "standard"}));
    model.settle();
    assert_eq!(model.shown("c"), "Bound pvc-u1");
    let volume = serde_json::to_value(&model.volumes["pvc-u1"]).expect("JSON");
    let made = &volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"];
    assert_eq!(made, PROVISIONER);
    assert_eq!(volume["spec"]["persistentVolumeReclaimPolicy"], "Delete");
    assert_eq!(volume["spec"]["storageClassName"], "standard");
    model.pod("p", "c", true);
    model.delete_claim("c");
    model.settle();
    assert_eq!(model.shown("c"), "Bound pvc-u1", "a Pod uses it");
    model.pods.clear();
    model.settle();
    assert_eq!(
        (model.shown("c"), model.phase("pvc-u1")),
        ("gone".into(), "gone")
    );
    assert!(model.directories.is_empty());
}

#[test]
fn released_volumes_are_treated_as_their_policy_says() {
    let nothing =
        "error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched";
    for (policy, phase, told) in [
        ("Retain", "Released", vec![]),
        (
            "Delete",
            "Failed",
            vec![format!("VolumeFailedDelete: {nothing}")],
        ),
        (
            "Recycle",
            "Failed",
            vec!["VolumeFailedRecycle: No recycler plugin found for the volume!".to_owned()],
        ),
    ] {
        let mut model = Model::default();
        model.volume("v", json!({"persistentVolumeReclaimPolicy": policy}));
        model.claim("c", json!({}));
        model.settle();
        model.delete_claim("c");
        model.settle();
        assert_eq!(
            (model.phase("v"), model.told_of("v")),
            (phase, told),
            "{policy}"
        );
        // Another claim of the same name does not get what the first has left.
        model.claim("c", json!({}));
        model.settle();
        assert_eq!(
            (model.shown("c"), model.phase("v")),
            ("Pending ".into(), phase)
        );
        // Whoever empties it gives it back.
        model
            .volumes
            .get_mut("v")
            .expect("a volume")
            .spec
            .as_mut()
            .expect("a spec")
            .claim_ref = None;
        model.settle();
        assert_eq!(model.shown("c"), "Bound v", "{policy}");
    }
}

#[test]
fn volumes_that_are_held_stay() {
    let mut model = Model::default();
    model.volume("v", json!({}));
    model.volume("free", json!({"capacity": {"storage": "9Gi"}}));
    model.claim("c", json!({}));
    model.settle();
    model.delete_volume("v");
    model.delete_volume("free");
    model.settle();
    assert_eq!((model.phase("v"), model.phase("free")), ("Bound", "gone"));
    model.delete_claim("c");
    model.settle();
    assert_eq!(model.phase("v"), "gone");
}

#[test]
fn claims_lose_volumes() {
    type Loss = fn(&mut Model);
    let lose: [(&str, Loss, &str); 3] = [
        (
            "the volume is gone",
            |model| model.volumes.clear(),
            "ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        ),
        (
            "the claim names none any more",
            |model| {
                let claim = model.claims.get_mut(&key("c")).expect("a claim");
                claim.spec.as_mut().expect("a spec").volume_name = None;
            },
            "ClaimLost: Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        ),
        (
            "the volume is somebody else's",
            |model| {
                let volume = model.volumes.get_mut("v").expect("a volume");
                let spec = volume.spec.as_mut().expect("a spec");
                spec.claim_ref.as_mut().expect("a claim").uid = Some("other".into());
            },
            "ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly",
        ),
    ];
    for (behaviour, lose, expected) in lose {
        let mut model = Model::default();
        model.volume("v", json!({}));
        model.claim("c", json!({}));
        model.settle();
        lose(&mut model);
        model.settle();
        assert!(model.shown("c").starts_with("Lost"), "{behaviour}");
        assert_eq!(model.told_of("c"), [expected], "{behaviour}");
    }
}

#[test]
fn a_volume_that_its_claim_did_not_take_is_free_again() {
    for (by_user, expected) in [(false, Value::Null), (true, json!("c"))] {
        let mut model = Model::default();
        model.volume("v", json!({}));
        model.claim("c", json!({}));
        model.settle();
        let mut other = model.volumes["v"].clone();
        other.metadata.name = Some("w".into());
        if by_user {
            other.metadata.annotations = None;
        }
        model.write_volume(other);
        model.settle();
        assert_eq!(
            (model.shown("c"), model.phase("w")),
            ("Bound v".into(), "Available")
        );
        let volume = serde_json::to_value(&model.volumes["w"]).expect("JSON");
        assert_eq!(volume["spec"]["claimRef"]["name"], expected);
        assert_eq!(volume["spec"]["claimRef"]["uid"], Value::Null);
    }
}
