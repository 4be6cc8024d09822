//! Whatever users and Pods do, and wherever the controller is interrupted, nobody gets what is another's, and nothing waits for
//! what is there.

use proptest::prelude::*;
use serde_json::json;

use super::{Model, key};
use crate::PROVISIONER;
use crate::object::{
    self, capacity, claim_ref, class_of_claim, class_of_volume, phase_of_claim, phase_of_volume,
    requested, volume_name,
};

#[derive(Debug, Clone)]
enum Happens {
    Claim {
        name: u8,
        size: u8,
        class: u8,
        named: Option<u8>,
    },
    Volume {
        name: u8,
        size: u8,
        class: u8,
        kept: Option<u8>,
        deletes: bool,
    },
    NoClaim(u8),
    NoVolume(u8),
    /// A volume vanishes, whoever has it.
    Lost(u8),
    Pod {
        name: u8,
        claim: u8,
        is_placed: bool,
    },
    NoPod(u8),
    /// Somebody empties a volume and gives it back.
    GivenBack(u8),
    /// The controller does the first few things it plans, and starts anew.
    Interrupted(u8),
    Settles,
}

const CLASSES: [&str; 3] = ["", "standard", "later"];

fn happens() -> impl Strategy<Value = Happens> {
    let (name, size, class) = (0..4u8, 1..4u8, 0..3u8);
    let some = prop::option::of(0..4u8);
    prop_oneof![
        3 => (name.clone(), size.clone(), class.clone(), some.clone()).prop_map(|(name, size, class, named)| Happens::Claim { name, size, class, named }),
        3 => (name.clone(), size, class, some, any::<bool>()).prop_map(|(name, size, class, kept, deletes)| Happens::Volume { name, size, class, kept, deletes }),
        2 => name.clone().prop_map(Happens::NoClaim),
        1 => name.clone().prop_map(Happens::NoVolume),
        1 => name.clone().prop_map(Happens::Lost),
        2 => (name.clone(), 0..4u8, any::<bool>()).prop_map(|(name, claim, is_placed)| Happens::Pod { name, claim, is_placed }),
        2 => name.clone().prop_map(Happens::NoPod),
        1 => name.prop_map(Happens::GivenBack),
        3 => (0..4u8).prop_map(Happens::Interrupted),
        2 => Just(Happens::Settles),
    ]
}

fn live(model: &mut Model, event: Happens) {
    match event {
        Happens::Claim {
            name,
            size,
            class,
            named,
        } => {
            let name = format!("c{name}");
            if !model.claims.contains_key(&key(&name)) {
                let named = named.map(|named| format!("v{named}"));
                model.claim(&name, json!({"resources": {"requests": {"storage": format!("{size}Gi")}}, "storageClassName": CLASSES[usize::from(class)], "volumeName": named}));
            }
        }
        Happens::Volume {
            name,
            size,
            class,
            kept,
            deletes,
        } => {
            let name = format!("v{name}");
            // Whoever has lost one takes another of that name for it, as upstream does.
            let mut claims = model.claims.values();
            let is_missed = claims.any(|claim| {
                let is_bound = object::annotation(&claim.metadata, object::COMPLETED).is_some();
                is_bound && volume_name(claim) == name
            });
            if !model.volumes.contains_key(&name) && !is_missed {
                let kept = kept.map(|kept| json!({"namespace": "d", "name": format!("c{kept}")}));
                let policy = if deletes { "Delete" } else { "Retain" };
                model.volume(&name, json!({"capacity": {"storage": format!("{size}Gi")}, "storageClassName": CLASSES[usize::from(class)], "claimRef": kept, "persistentVolumeReclaimPolicy": policy}));
            }
        }
        Happens::NoClaim(name) => model.delete_claim(&format!("c{name}")),
        Happens::NoVolume(name) => model.delete_volume(&format!("v{name}")),
        Happens::Lost(name) => drop(model.volumes.remove(&format!("v{name}"))),
        Happens::Pod {
            name,
            claim,
            is_placed,
        } => model.pod(&format!("p{name}"), &format!("c{claim}"), is_placed),
        Happens::NoPod(name) => drop(model.pods.remove(&key(&format!("p{name}")))),
        Happens::GivenBack(name) => {
            if let Some(volume) = model.volumes.get_mut(&format!("v{name}"))
                && phase_of_volume(volume) == "Released"
            {
                volume.spec.get_or_insert_default().claim_ref = None;
            }
        }
        Happens::Interrupted(most) => {
            for step in model.plan().into_iter().take(most.into()) {
                model.take(step);
            }
        }
        Happens::Settles => model.settle(),
    }
}

/// What is true at any time.
fn always(model: &Model) {
    let completed = model
        .claims
        .values()
        .filter(|claim| phase_of_claim(claim) == "Bound");
    let mut holders = std::collections::BTreeMap::new();
    for claim in completed {
        let name = object::name(&claim.metadata);
        if let Some(other) = holders.insert(volume_name(claim), name) {
            panic!("{name} and {other} have the same volume");
        }
        // It may have vanished, which the next plan sees.
        let Some(volume) = model.volumes.get(volume_name(claim)) else {
            continue;
        };
        let uid = claim_ref(volume).and_then(|held| held.uid.as_deref());
        assert_eq!(
            claim.metadata.uid.as_deref(),
            uid,
            "{name} has what is not its own"
        );
        // What users have put together themselves stays together.
        let of_users = [&claim.metadata, &volume.metadata]
            .map(|meta| object::annotation(meta, object::BY_CONTROLLER).is_none());
        let is_enough = capacity(volume) >= requested(claim);
        assert!(of_users == [true; 2] || is_enough, "{name} has too little");
    }
}

/// What is true once nothing is left to do.
fn settled(model: &Model) {
    always(model);
    for (key, claim) in &model.claims {
        let phase = phase_of_claim(claim);
        let is_there = model.volumes.contains_key(volume_name(claim));
        assert!(phase != "Bound" || is_there, "{key:?} is bound to nothing");
        let wants_any = volume_name(claim).is_empty() && phase == "Pending";
        let is_delayed = class_of_claim(claim) == "later"
            && !model.pods.values().any(|pod| pod.claims.contains(&key.1));
        let suits = model.volumes.values().find(|volume| {
            phase_of_volume(volume) == "Available"
                && claim_ref(volume).is_none()
                && volume.metadata.deletion_timestamp.is_none()
                && class_of_volume(volume) == class_of_claim(claim)
                && capacity(volume) >= requested(claim)
        });
        if wants_any && !is_delayed {
            assert!(suits.is_none(), "{key:?} waits for {suits:?}");
            assert_eq!(class_of_claim(claim), "", "{key:?} was made none");
        }
        let is_leaving = claim.metadata.deletion_timestamp.is_some();
        let is_held = model
            .pods
            .values()
            .any(|pod| !pod.node.is_empty() && pod.claims.contains(&key.1));
        assert_eq!(
            is_leaving,
            is_leaving && is_held,
            "{key:?} stays without need"
        );
    }
    for (name, volume) in &model.volumes {
        let held = claim_ref(volume).and_then(|held| held.uid.as_deref());
        let holder = model
            .claims
            .values()
            .find(|claim| claim.metadata.uid.as_deref() == held && held.is_some());
        match phase_of_volume(volume) {
            "Bound" => assert!(holder.is_some(), "{name} is bound to nothing"),
            "Available" => assert_eq!(held, None, "{name} is free and held"),
            "Released" | "Failed" => assert!(
                holder.is_none_or(|claim| volume_name(claim) != name),
                "{name} is taken from its claim"
            ),
            other => panic!("{name} is {other}"),
        }
    }
    let made: Vec<&String> = model
        .volumes
        .keys()
        .filter(|name| name.starts_with("pvc-"))
        .collect();
    assert!(
        model.directories.iter().eq(made),
        "a directory for each volume that was made"
    );
}

proptest! {
    #![proptest_config(testkit::cases(1000, 21))]
    #[test]
    fn nobody_gets_what_is_anothers(events in prop::collection::vec(happens(), 1..25)) {
        let mut model = Model::default();
        model.class("standard", PROVISIONER, "Immediate");
        model.class("later", PROVISIONER, "WaitForFirstConsumer");
        for event in events {
            live(&mut model, event);
            always(&model);
        }
        model.settle();
        settled(&model);
    }
}
