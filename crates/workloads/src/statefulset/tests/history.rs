//! Revisions, and what is reported of them.

use super::*;

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
    let mut late = World::of(&[Ready, Ready]);
    let ready = late.pods[0].status.as_mut().unwrap();
    let since = &mut ready.conditions.as_mut().unwrap()[0].last_transition_time;
    *since = Some(Time(at(50)));
    let patient = set(2, json!({"minReadySeconds": 200}));
    assert_eq!(late.plan(&patient).wake, Some(at(200)), "the first of them");
    assert_eq!(late.plan_at(&patient, at(200)).wake, Some(at(250)));
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
