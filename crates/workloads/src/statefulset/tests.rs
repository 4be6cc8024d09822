use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

use super::*;
use crate::history::{self, HASH_LABEL, REVISION_LABEL};

fn at(seconds: i64) -> Timestamp {
    Timestamp::new(1000 + seconds, 0).unwrap()
}

fn set(replicas: i32, spec: Value) -> StatefulSet {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "set", "generation": 3},
        "spec": {
            "replicas": replicas, "serviceName": "svc", "revisionHistoryLimit": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template("1"),
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        },
    });
    for (key, field) in spec.as_object().unwrap() {
        value["spec"][key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn template(image: &str) -> Value {
    let volumes = json!([{"name": "tmp", "emptyDir": {}}, {"name": "data", "emptyDir": {}}]);
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": image}], "volumes": volumes},
    })
}

fn reference() -> OwnerReference {
    owner::reference("apps/v1", "StatefulSet", &set(0, json!({})).metadata)
}

/// The revision of a template of this image.
fn revision(image: &str, number: i64) -> ControllerRevision {
    let of = set(0, json!({"template": template(image)}));
    let recipe = history::Recipe {
        controller: &of.metadata,
        reference: &reference(),
        template: &of.spec.as_ref().unwrap().template,
        label: HASH_LABEL,
        collisions: Some(0),
        number,
    };
    let mut made = recipe.revision();
    made.metadata.uid = Some(format!("r{image}"));
    made
}

fn revision_name(image: &str) -> String {
    revision(image, 0).metadata.name.unwrap()
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Pending,
    Ready,
    Leaving,
    Failed,
}
use State::{Failed, Leaving, Pending, Ready};

fn pod(ordinal: i32, image: &str, state: State) -> Pod {
    let of = set(0, json!({"template": template(image)}));
    let spec = of.spec.as_ref().unwrap();
    let mut pod = pods::new(
        spec,
        &reference(),
        ordinal,
        &spec.template,
        &revision_name(image),
    );
    pod.metadata.namespace = Some("ns".into());
    pod.metadata.uid = Some(format!("p{ordinal}"));
    let phase = match state {
        Pending => "Pending",
        Ready | Leaving => "Running",
        Failed => "Failed",
    };
    let ready = if matches!(state, Ready | Leaving) {
        "True"
    } else {
        "False"
    };
    let condition =
        json!({"type": "Ready", "status": ready, "lastTransitionTime": at(0).to_string()});
    let status = json!({"phase": phase, "conditions": [condition]});
    pod.status = serde_json::from_value(status).unwrap();
    if state == Leaving {
        pod.metadata.deletion_timestamp = Some(Time(at(0)));
    }
    pod
}

#[derive(Default)]
struct World {
    pods: Vec<Pod>,
    revisions: Vec<ControllerRevision>,
    claims: Vec<PersistentVolumeClaim>,
    failure: Option<Failure>,
}

impl World {
    /// With the revision of image 1, and Pods of it.
    fn of(states: &[State]) -> Self {
        let pods = (0..).zip(states).map(|(n, state)| pod(n, "1", *state));
        World {
            pods: pods.collect(),
            revisions: vec![revision("1", 1)],
            ..World::default()
        }
    }

    fn plan(&self, set: &StatefulSet) -> Plan {
        self.plan_at(set, at(100))
    }

    fn plan_at(&self, set: &StatefulSet, now: Timestamp) -> Plan {
        let (pods, revisions, claims): (Vec<_>, Vec<_>, Vec<_>) = (
            self.pods.iter().collect(),
            self.revisions.iter().collect(),
            self.claims.iter().collect(),
        );
        let seen = Seen {
            pods: &pods,
            revisions: &revisions,
            claims: &claims,
            failure: self.failure,
        };
        plan(set, &reference(), seen, now)
    }

    fn steps(&self, set: &StatefulSet) -> Vec<String> {
        self.plan(set).steps.iter().map(told).collect()
    }
}

/// A step in short.
fn told(step: &Step) -> String {
    let named = |verb: &str, meta: &ObjectMeta| format!("{verb} {}", name(meta));
    match step {
        Step::HandOverPod(h) if h.is_adoption => format!("adopt {}", h.object),
        Step::HandOverPod(h) => format!("release {}", h.object),
        Step::AdoptRevision(h) => format!("adopt {}", h.object),
        Step::CreateRevision(r) => format!("write {}", r.revision),
        Step::UpdateRevision(r) => format!("{} is {}", name(&r.metadata), r.revision),
        Step::DeleteRevision { uid, .. } => format!("forget {uid}"),
        Step::CreateClaim { claim, .. } => named("claim", &claim.metadata),
        Step::UpdateClaim { claim, .. } => named("give", &claim.metadata),
        Step::CreatePod(pod) => named("make", &pod.metadata),
        Step::UpdatePod(pod) => named("mend", &pod.metadata),
        Step::DeletePod { pod, .. } => format!("delete {pod}"),
    }
}

#[test]
fn pods_come_and_go_one_after_the_other() {
    type Row<'a> = (i32, &'a [State], &'a [&'a str]);
    let rows: [Row<'_>; 15] = [
        (3, &[], &["make web-0"]),
        (3, &[Pending], &[]),
        (3, &[Ready], &["make web-1"]),
        (3, &[Ready, Leaving], &[]),
        (3, &[Ready, Failed, Ready], &["delete web-1"]),
        (3, &[Ready, Ready, Ready], &[]),
        (1, &[Ready, Ready, Ready], &["delete web-2"]),
        (1, &[Ready, Ready, Leaving], &[]),
        (1, &[Pending, Ready, Ready], &[]),
        (1, &[Ready, Pending, Ready], &["delete web-2"]),
        (1, &[Ready, Pending, Pending], &[]),
        (1, &[Ready, Ready, Pending], &["delete web-2"]),
        (1, &[Ready, Failed, Failed], &["delete web-2"]),
        (1, &[Ready, Leaving, Pending], &[]),
        (0, &[Ready], &["delete web-0"]),
    ];
    for (replicas, states, expected) in rows {
        let mut set = set(replicas, json!({}));
        let steps = World::of(states).steps(&set);
        assert_eq!(steps, expected, "{replicas} of {}", states.len());
        set.metadata.deletion_timestamp = Some(Time(at(0)));
        assert!(World::of(states).steps(&set).is_empty(), "the set goes");
    }
}

#[test]
fn in_parallel_all_is_done_at_once() {
    type Row<'a> = (i32, &'a [State], &'a [&'a str]);
    let rows: [Row<'_>; 5] = [
        (3, &[], &["make web-0", "make web-1", "make web-2"]),
        (3, &[Pending], &["make web-1", "make web-2"]),
        (3, &[Failed, Leaving], &["delete web-0", "make web-2"]),
        (
            1,
            &[Pending, Pending, Ready],
            &["delete web-2", "delete web-1"],
        ),
        (1, &[Ready, Ready, Leaving], &["delete web-1"]),
    ];
    for (replicas, states, expected) in rows {
        let set = set(replicas, json!({"podManagementPolicy": "Parallel"}));
        assert_eq!(World::of(states).steps(&set), expected);
    }
    let many = set(i32::MAX, json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(World::of(&[]).steps(&many).len(), BURST);
}

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
        assert_eq!(pods::ordinal("web", name), expected, "{name}");
    }
}

#[test]
fn what_is_selected_and_named_so_is_taken_over() {
    let mut world = World::of(&[Ready, Ready]);
    world.revisions.push(revision("0", 0));
    world.pods[0].metadata.owner_references = None;
    world.revisions[1].metadata.owner_references = None;
    world.pods[1].metadata.labels = None;
    let mut odd = pod(7, "1", Ready);
    odd.metadata.name = Some("other-7".into());
    let mut orphan = odd.clone();
    orphan.metadata.owner_references = None;
    world.pods.extend([odd, orphan]);
    let of_revision = format!("adopt {}", revision_name("0"));
    let expected = [
        &*of_revision,
        "adopt web-0",
        "release web-1",
        "release other-7",
    ];
    let mut set = set(2, json!({}));
    assert_eq!(world.steps(&set), expected);
    set.metadata.deletion_timestamp = Some(Time(at(0)));
    assert!(world.steps(&set).is_empty());
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
fn a_template_is_written_down_before_anything_else() {
    let set = |image: &str| set(1, json!({"template": template(image)}));
    let mut world = World::of(&[Ready]);
    assert_eq!(world.steps(&set("2")), ["write 2"]);
    assert_eq!(world.plan(&set("2")).status, None);
    world.revisions.push(revision("2", 2));
    assert_eq!(world.steps(&set("2")), ["delete web-0"]);
    let back = format!("{} is 3", revision_name("1"));
    assert_eq!(
        world.steps(&set("1")),
        [back],
        "the oldest is the newest again"
    );
    world.failure = Some(Failure::Step);
    assert_eq!(world.plan(&set("1")), Plan::default());
}

#[test]
fn collisions_are_counted_and_lead_to_another_name() {
    let mut set = set(1, json!({"template": template("2")}));
    let mut world = World::of(&[]);
    let written = |world: &World, set: &StatefulSet| match &world.plan(set).steps[..] {
        [Step::CreateRevision(revision)] => revision.metadata.name.clone().unwrap(),
        other => panic!("{other:?}"),
    };
    let first = written(&world, &set);
    assert_eq!(first, revision_name("2"));
    world.failure = Some(Failure::Collision(0));
    set.status = world.plan(&set).status.map(|status| *status);
    assert_eq!(set.status.as_ref().unwrap().collision_count, Some(1));
    assert_eq!(world.plan(&set), Plan::default());
    world.failure = None;
    assert_ne!(written(&world, &set), first);
}

#[test]
fn updates_go_from_the_last_to_the_partition() {
    let strategy = |partition: i32| {
        json!({
            "template": template("2"),
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}},
        })
    };
    let updated = |images: [&str; 3], states: [State; 3]| {
        let pods = (0..).zip(images.into_iter().zip(states));
        World {
            pods: pods
                .map(|(n, (image, state))| pod(n, image, state))
                .collect(),
            revisions: vec![revision("1", 1), revision("2", 2)],
            ..World::default()
        }
    };
    type Row<'a> = (i32, [&'a str; 3], [State; 3], &'a [&'a str]);
    let rows: [Row<'_>; 8] = [
        (0, ["1", "1", "1"], [Ready; 3], &["delete web-2"]),
        (0, ["1", "1", "2"], [Ready; 3], &["delete web-1"]),
        (0, ["1", "1", "1"], [Ready, Ready, Leaving], &[]),
        (0, ["1", "1", "2"], [Ready, Ready, Pending], &[]),
        (0, ["2", "2", "2"], [Ready; 3], &[]),
        (2, ["1", "1", "1"], [Ready; 3], &["delete web-2"]),
        (2, ["1", "1", "2"], [Ready; 3], &[]),
        (9, ["1", "1", "1"], [Ready; 3], &[]),
    ];
    for (partition, images, states, expected) in rows {
        let world = updated(images, states);
        let steps = world.steps(&set(3, strategy(partition)));
        assert_eq!(steps, expected, "{partition} {images:?}");
    }
    let by_hand = json!({"template": template("2"), "updateStrategy": {"type": "OnDelete"}});
    let world = updated(["1", "1", "1"], [Ready; 3]);
    assert!(world.steps(&set(3, by_hand)).is_empty());
    let mut parallel = strategy(0);
    parallel["podManagementPolicy"] = json!("Parallel");
    let world = updated(["1", "1", "1"], [Pending, Ready, Failed]);
    assert_eq!(world.steps(&set(3, parallel)), ["delete web-2"], "once");
}

#[test]
fn a_missing_pod_is_of_the_revision_its_ordinal_has() {
    let made = |set: &StatefulSet, world: &World| match &world.plan(set).steps[..] {
        [Step::CreatePod(pod)] => {
            let image = pod.spec.as_ref().unwrap().containers[0].image.clone();
            (image.unwrap(), pods::revision(pod).to_owned())
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

#[test]
fn a_set_reports_what_there_is() {
    let mut world = World::of(&[Ready, Leaving, Pending]);
    let mut old = set(
        3,
        json!({"template": template("2"), "minReadySeconds": 200}),
    );
    world.revisions.push(revision("2", 2));
    world.pods[2] = pod(2, "2", Pending);
    old.status = Some(StatefulSetStatus {
        current_revision: Some(revision_name("1")),
        ..StatefulSetStatus::default()
    });
    let plan = world.plan(&old);
    let status = StatefulSetStatus {
        observed_generation: Some(3),
        replicas: 3,
        ready_replicas: Some(2),
        available_replicas: Some(0),
        current_replicas: Some(1),
        updated_replicas: Some(1),
        current_revision: Some(revision_name("1")),
        update_revision: Some(revision_name("2")),
        collision_count: Some(0),
        conditions: None,
    };
    assert_eq!(plan.status.as_deref(), Some(&status));
    assert_eq!(plan.wake, Some(at(200)));
    let later = world.plan_at(&old, at(200));
    assert_eq!(later.status.unwrap().available_replicas, Some(2));
    old.status = Some(status);
    assert_eq!(world.plan(&old).status, None);
}

#[test]
fn a_pod_deleted_for_its_update_is_not_current_any_more() {
    let mut world = World::of(&[Ready, Ready]);
    world.revisions.push(revision("2", 2));
    let mut set = set(2, json!({"template": template("2")}));
    set.status = Some(StatefulSetStatus {
        current_revision: Some(revision_name("1")),
        ..StatefulSetStatus::default()
    });
    let plan = world.plan(&set);
    assert_eq!(told(&plan.steps[0]), "delete web-1");
    assert_eq!(plan.status.unwrap().current_replicas, Some(1));
}

#[test]
fn an_update_ends_when_all_are_new_and_ready() {
    let mut world = World::of(&[Ready, Ready]);
    world.revisions = vec![revision("0", 1), revision("1", 2)];
    let mut set = set(2, json!({"revisionHistoryLimit": 0}));
    set.status = Some(StatefulSetStatus {
        current_revision: Some(revision_name("0")),
        ..StatefulSetStatus::default()
    });
    let plan = world.plan(&set);
    assert_eq!(plan.steps, [], "the current one is in use until then");
    let status = plan.status.unwrap();
    assert_eq!(status.current_revision, status.update_revision);
    assert_eq!(status.current_replicas, Some(2));
    set.status = Some(*status);
    assert_eq!(world.steps(&set), ["forget r0"]);
    world.revisions[0].metadata.deletion_timestamp = Some(Time(at(0)));
    assert!(world.steps(&set).is_empty(), "once");
}

#[test]
fn revisions_pods_are_of_are_not_counted() {
    let mut world = World::of(&[Ready]);
    let images = ["0", "1", "2", "3", "4"];
    let all = (1..).zip(images).map(|(n, image)| revision(image, n));
    world.revisions = all.collect();
    let set = set(
        1,
        json!({"template": template("4"), "updateStrategy": {"type": "OnDelete"}}),
    );
    assert_eq!(world.steps(&set), ["forget r0", "forget r2"]);
}

#[test]
fn nothing_is_done_while_a_failure_is_held() {
    let mut world = World::of(&[Ready]);
    world.failure = Some(Failure::Step);
    let plan = world.plan(&set(3, json!({})));
    assert_eq!(plan.steps, []);
    assert_eq!(plan.status.unwrap().replicas, 1);
}

mod claims;
