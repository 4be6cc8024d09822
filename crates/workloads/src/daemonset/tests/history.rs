//! The revisions of a DaemonSet.

use super::*;

fn with(revisions: Vec<ControllerRevision>, pods: Vec<Pod>) -> World {
    World {
        revisions,
        ..world(set(json!({})), &["a"], pods)
    }
}

#[test]
fn a_new_template_gets_a_revision_before_its_pods_are_made() {
    let world = with(vec![revision("old", "old", 4)], vec![]);
    let plan = world.plan();
    let [Step::CreateRevision(made)] = &plan.steps[..] else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!(made.revision, 5);
    assert_eq!(made.metadata.owner_references, Some(vec![reference()]));
    let hash = revision::hash(made).unwrap().to_owned();
    assert_eq!(made.metadata.name, Some(format!("log-{hash}")));
    assert_eq!(plan.status, None);

    let revisions = vec![revision("old", "old", 4), (**made).clone()];
    let plan = with(revisions, vec![]).plan();
    let [Step::Create(pods)] = &plan.steps[..] else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!(revision::label(&pods[0].metadata), Some(&*hash));
}

#[test]
fn a_collision_gives_another_name() {
    let mut world = with(vec![], vec![]);
    let named = |world: &World| match &world.plan().steps[..] {
        [Step::CreateRevision(made)] => made.metadata.name.clone().unwrap(),
        other => panic!("{other:?}"),
    };
    let first = named(&world);
    world.failure = Some(Failure::Collision(0));
    let plan = world.plan();
    assert_eq!(plan.steps, []);
    assert_eq!(plan.status.as_ref().unwrap().collision_count, Some(1));
    world.set.status = plan.status.map(|status| *status);
    assert_eq!(world.plan().status, None, "it is noted once");
    world.failure = None;
    assert_ne!(named(&world), first);
}

#[test]
fn a_template_that_comes_back_gets_the_newest_number() {
    let plan = with(
        vec![revision("new", "new", 1), revision("old", "old", 3)],
        vec![],
    )
    .plan();
    let [Step::UpdateRevision(changed)] = &plan.steps[..] else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!(**changed, revision("new", "new", 4));
}

#[test]
fn a_revision_without_a_word_for_pods_gets_one() {
    let mut plain = revision("old", "old", 1);
    plain.metadata.labels = Some([("app".into(), "log".into())].into());
    let plan = with(vec![plain.clone(), revision("new", "new", 2)], vec![]).plan();
    let [Step::UpdateRevision(changed)] = &plan.steps[..] else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!(revision::hash(changed), Some("log-old"));
    assert_eq!(changed.data, plain.data);
}

#[test]
fn of_two_revisions_of_a_template_the_newer_stays() {
    let pods = vec![
        pod("x", "a", "twin", "ready", 5),
        pod("y", "b", "old", "ready", 5),
        pod("z", "c", "new", "ready", 5),
    ];
    let revisions = vec![
        revision("new", "new", 3),
        revision("twin", "new", 2),
        revision("old", "old", 1),
    ];
    let plan = with(revisions, pods).plan();
    let [
        Step::Relabel { pod, patch },
        Step::DeleteRevision { revision, uid },
    ] = &plan.steps[..]
    else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!((&**pod, &**revision, &**uid), ("x", "log-twin", "twin"));
    let expected = json!({"metadata": {"uid": "uid-x", "labels": {REVISION_LABEL: "new"}}});
    assert_eq!(*patch, expected);
}

#[test]
fn the_past_is_forgotten_from_its_beginning() {
    let past = ["r1", "r2", "r3", "r4"];
    let mut revisions: Vec<_> = past
        .into_iter()
        .zip(1..)
        .map(|(name, n)| revision(name, name, n))
        .collect();
    revisions.push(revision("new", "new", 5));
    let mut old = leaving(pod("x", "b", "r2", "ready", 5));
    old.metadata.finalizers = Some(vec!["x/y".into()]);
    let mut world = with(revisions, vec![pod("y", "a", "new", "ready", 5), old]);
    world.set = set(json!({"revisionHistoryLimit": 2}));
    let gone: Vec<String> = world
        .plan()
        .steps
        .into_iter()
        .map(|step| match step {
            Step::DeleteRevision { revision, .. } => revision,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(gone, ["log-r1", "log-r3"]);
    world.set = set(json!({}));
    assert_eq!(world.plan().steps, []);
}
