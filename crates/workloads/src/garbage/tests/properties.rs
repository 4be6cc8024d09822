//! Whatever is made, changed and deleted, and in whatever order that is heard: nothing goes that has an owner which stays, and in the
//! end nothing is left that has none.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::api::{Api, Asked, reference};
use crate::garbage::{Graph, Kind, Owner, Policy, Stage, Verdict, judge, references};

/// More works than this are not needed for so few objects.
const MOST_STEPS: usize = 20_000;

/// The owner of a reference: which object there has been, whether it blocks, and whether the reference is right.
type OwnerOf = (usize, bool, bool);

#[derive(Debug, Clone)]
enum Step {
    /// Its kind, whether in the other namespace, its owners, and whether somebody holds it.
    Make(usize, bool, Vec<OwnerOf>, bool),
    Own(usize, Vec<OwnerOf>),
    Delete(usize, Policy),
    Free(usize),
    Tell(usize),
    List(usize),
    Ask,
    Write(usize),
}

fn owners() -> impl Strategy<Value = Vec<OwnerOf>> {
    let owner = (0_usize..12, any::<bool>(), prop::bool::weighted(0.9));
    vec(owner, 0..3)
}

fn step() -> impl Strategy<Value = Step> {
    let policy = select(vec![Policy::Background, Policy::Foreground, Policy::Orphan]);
    let make = (
        0_usize..3,
        prop::bool::weighted(0.2),
        owners(),
        prop::bool::weighted(0.2),
    );
    prop_oneof![
        4 => make.prop_map(|(kind, other, owners, held)| Step::Make(kind, other, owners, held)),
        2 => (0_usize..12, owners()).prop_map(|(n, owners)| Step::Own(n, owners)),
        2 => (0_usize..12, policy).prop_map(|(n, policy)| Step::Delete(n, policy)),
        1 => (0_usize..12).prop_map(Step::Free),
        8 => (0_usize..3).prop_map(Step::Tell),
        1 => (0_usize..3).prop_map(Step::List),
        6 => Just(Step::Ask),
        6 => (0_usize..8).prop_map(Step::Write),
    ]
}

/// ConfigMaps and Secrets of two namespaces, and Nodes of none.
fn kinds() -> [Kind; 3] {
    ["ConfigMap", "Secret", "Node"].map(|kind| Kind::of("v1", kind).unwrap())
}

#[derive(Default)]
struct World {
    api: Api,
    graph: Graph,
    /// All there have ever been: kind, name and UID.
    made: Vec<(Kind, String, String)>,
    asked: Vec<Asked>,
}

impl World {
    fn take(&mut self, step: Step) {
        let kinds = kinds();
        match step {
            Step::Make(kind, is_other, owners, is_held) => {
                let (kind, number) = (kinds[kind], self.made.len());
                let (name, uid) = (format!("n{number}"), format!("u{number}"));
                let namespace = if is_other { "b" } else { "a" };
                let is_namespaced = kind.resource().namespaced;
                self.made.push((kind, name.clone(), uid.clone()));
                let meta = ObjectMeta {
                    name: Some(name),
                    uid: Some(uid),
                    namespace: is_namespaced.then(|| namespace.into()),
                    finalizers: is_held.then(|| vec!["example.com/hold".into()]),
                    ..ObjectMeta::default()
                };
                self.api.put(kind, self.owned(kind, meta, &owners));
            }
            Step::Own(n, owners) => {
                let Some((kind, _, uid)) = self.made.get(n) else {
                    return;
                };
                let meta = self.api.objects.get(uid).map(|(_, meta)| meta.clone());
                let uid = uid.clone();
                let new = meta.map(|meta| self.owned(*kind, meta, &owners));
                self.api.change(&uid, |meta| {
                    meta.owner_references = new.unwrap().owner_references;
                });
            }
            Step::Delete(n, policy) => {
                if let Some((_, _, uid)) = self.made.get(n) {
                    self.api.delete(uid, policy);
                }
            }
            Step::Free(n) => {
                if let Some((_, _, uid)) = self.made.get(n).cloned() {
                    self.free(&uid);
                }
            }
            Step::Tell(kind) => {
                self.api.tell(kinds[kind], &mut self.graph);
            }
            Step::List(kind) => self.api.list(kinds[kind], &mut self.graph),
            Step::Ask => {
                if let Some((key, work)) = self.graph.take() {
                    self.asked.push(self.api.ask(key, work));
                }
            }
            Step::Write(n) if !self.asked.is_empty() => {
                let asked = self.asked.swap_remove(n % self.asked.len());
                self.api.write(asked, &mut self.graph);
            }
            Step::Write(_) => {}
        }
    }

    fn free(&mut self, uid: &str) {
        self.api.change(uid, |meta| {
            let finalizers = meta.finalizers.get_or_insert_default();
            finalizers.retain(|f| f != "example.com/hold");
        });
    }

    /// The object with these owners. What is in no namespace cannot name what is in one.
    fn owned(&self, kind: Kind, mut meta: ObjectMeta, owners: &[OwnerOf]) -> ObjectMeta {
        let known = owners.iter().filter_map(|(n, blocks, is_right)| {
            let (of, name, uid) = self.made.get(*n)?;
            let may = kind.resource().namespaced || !of.resource().namespaced;
            let name = if *is_right { name } else { "wrong" };
            may.then(|| reference(*of, name, uid, *blocks))
        });
        let mut references: Vec<_> = known.collect();
        references.sort_by(|a, b| a.uid.cmp(&b.uid));
        references.dedup_by(|a, b| a.uid == b.uid);
        meta.owner_references = (!references.is_empty()).then_some(references);
        meta
    }

    /// Lets all happen that is on its way.
    fn settle(&mut self) {
        for _ in 0..MOST_STEPS {
            let told = kinds().map(|kind| self.api.tell(kind, &mut self.graph));
            if told.contains(&true) {
                continue;
            }
            if let Some(asked) = self.asked.pop() {
                self.api.write(asked, &mut self.graph);
                continue;
            }
            match self.graph.take() {
                Some((key, work)) => self.asked.push(self.api.ask(key, work)),
                None => return,
            }
        }
        panic!("there is always more to do: {:#?}", self.graph);
    }

    fn check(&self) {
        for (_, meta) in self.api.objects.values() {
            assert_eq!(Stage::of(meta), Stage::Living, "{meta:?}");
            let owners = self.api.owners(meta);
            assert_eq!(judge(meta, &owners, true), Verdict::Keep, "{meta:?}");
            assert!(owners.iter().all(|(_, owner)| *owner == Owner::Solid));
        }
        let all = self.api.objects.values();
        let owned = all.filter(|(_, meta)| !references(meta).is_empty());
        let kept = owned.map(|(_, meta)| 1 + references(meta).len()).sum();
        assert!(self.graph.len() <= kept, "{:#?}", self.graph);
    }
}

proptest! {
    #![proptest_config(testkit::cases(2_000, 17))]

    #[test]
    fn what_has_no_owner_left_goes_and_nothing_else(steps in vec(step(), 0..120)) {
        let mut world = World::default();
        for step in steps {
            world.take(step);
        }
        world.settle();
        // Those who hold objects let them go.
        for (_, _, uid) in world.made.clone() {
            world.free(&uid);
        }
        world.settle();
        world.check();
    }
}
