//! What is known of policies, Pods and namespaces, and what changed of what is let through since it was last taken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use nat::Family;
use nat::policy::{Bonds, Change, Door, GroupId, Rule, RuleId, Turn, Way};

use super::pod::{Labels, Member};
use super::rule::{Part, Place, Policy};
use super::tracked::{Moved, Tracked};
use crate::Key;

/// A Pod, and which of its addresses.
type End = (Key, Family);

/// What is known.
#[derive(Debug, Default)]
pub struct State {
    policies: BTreeMap<Key, Known>,
    pods: BTreeMap<Key, Member>,
    namespaces: BTreeMap<String, Labels>,
    /// Who was told to have an address, before it is reported, by UID.
    told: BTreeMap<IpAddr, String>,
    /// Who says to have an address. Of several the last that was made has it, unless another was told to.
    claims: BTreeMap<IpAddr, BTreeSet<Key>>,
    /// What policies mean for a Pod that has an address of a family, and that address.
    parts: BTreeMap<End, (IpAddr, BTreeMap<Key, Part>)>,
    dirty_pods: BTreeSet<Key>,
    dirty_policies: BTreeSet<Key>,
    next_rule: u32,
    plan: Plan,
    /// What was taken is in force, and lets not everything through.
    is_up: bool,
    /// Nothing was taken yet, or it came to nothing.
    is_unknown: bool,
}

#[derive(Debug)]
struct Known {
    policy: Policy,
    rules: BTreeMap<Place, RuleId>,
}

/// What is let through.
#[derive(Debug, Default)]
struct Plan {
    rules: Tracked<RuleId, Rule>,
    members: Tracked<(RuleId, IpAddr), ()>,
    doors: Tracked<(RuleId, Door), ()>,
    groups: Tracked<GroupId, BTreeSet<RuleId>>,
    pods: Tracked<IpAddr, Bonds>,
    /// Groups by their rules, and how many are bound to each.
    shared: BTreeMap<BTreeSet<RuleId>, (GroupId, usize)>,
    next_group: u32,
    /// What Pods are bound to.
    bound: BTreeMap<IpAddr, [Option<BTreeSet<RuleId>>; 2]>,
}

impl State {
    /// Nothing is known yet.
    pub fn new() -> Self {
        State {
            is_unknown: true,
            ..State::default()
        }
    }

    /// A policy as it is now; `None`: it is gone.
    pub fn policy(&mut self, key: Key, policy: Option<&NetworkPolicy>) {
        let new = policy.map(Policy::of);
        if self.policies.get(&key).map(|known| &known.policy) == new.as_ref() {
            return;
        }
        self.forget_policy(&key);
        if let Some(policy) = new {
            let mut rules = BTreeMap::new();
            for (place, passage) in policy.passages() {
                let id = RuleId(self.next_rule);
                self.next_rule += 1;
                self.plan.rules.set(id, Some(passage.rule()));
                rules.insert(place, id);
            }
            self.policies.insert(key.clone(), Known { policy, rules });
        }
        self.dirty_policies.insert(key);
    }

    /// A namespace as it is now; `None`: it is gone.
    pub fn namespace(&mut self, name: &str, namespace: Option<&Namespace>) {
        let new = namespace.map(|namespace| namespace.metadata.labels.clone().unwrap_or_default());
        if self.namespaces.get(name) == new.as_ref() {
            return;
        }
        match new {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels),
            None => self.namespaces.remove(name),
        };
        let first = (name.to_owned(), String::new());
        let there = self.pods.range(first..).map(|(key, _)| key);
        let there = there.take_while(|key| key.0 == name).cloned();
        self.dirty_pods.extend(there.collect::<Vec<_>>());
    }

    /// A Pod as it is now; `None`: it is gone.
    pub fn pod(&mut self, key: Key, pod: Option<&Pod>) {
        let new = pod.map(Member::of);
        let old = self.pods.get(&key);
        if old == new.as_ref() {
            return;
        }
        let gone = old.filter(|old| new.as_ref().is_none_or(|new| new.uid != old.uid));
        let gone = gone.map(|old| old.uid.clone());
        self.claim(&key, false);
        self.told.retain(|_, uid| Some(&*uid) != gone.as_ref());
        match new {
            Some(new) => self.pods.insert(key.clone(), new),
            None => self.pods.remove(&key),
        };
        self.claim(&key, true);
        self.dirty_pods.insert(key);
    }

    /// Whether this Pod is known.
    pub fn knows(&self, key: &Key, uid: &str) -> bool {
        self.pods.get(key).is_some_and(|pod| pod.uid == uid)
    }

    /// A Pod has these addresses from now on, whatever it reports. Nobody else has them.
    pub fn tell(&mut self, key: &Key, uid: &str, addresses: &[IpAddr]) {
        let before = addresses.iter().filter_map(|ip| self.told.get(ip));
        let before = before.filter(|before| *before != uid);
        let holders = before.filter_map(|before| {
            let mut pods = self.pods.iter();
            let holder = pods.find(|(_, pod)| pod.uid == *before);
            holder.map(|(key, _)| key.clone())
        });
        let touched: BTreeSet<Key> = holders.chain([key.clone()]).collect();
        touched.iter().for_each(|key| self.claim(key, false));
        self.told.retain(|_, holder| holder != uid);
        let new = addresses.iter().map(|ip| (*ip, uid.to_owned()));
        self.told.extend(new);
        touched.iter().for_each(|key| self.claim(key, true));
        self.dirty_pods.extend(touched);
    }

    /// What has changed since this was last asked: at first everything there is.
    pub fn take(&mut self) -> Change {
        let pods: BTreeSet<Key> = std::mem::take(&mut self.dirty_pods);
        let policies = std::mem::take(&mut self.dirty_policies);
        // First all that goes: an address may be another's by now.
        let ends = pods.iter().flat_map(ends_of);
        let ends: Vec<End> = ends.collect();
        let left = ends.iter().filter_map(|end| self.leave(end));
        let mut left: BTreeSet<IpAddr> = left.collect();
        for end in &ends {
            if let Some(address) = self.enter(end) {
                left.remove(&address);
            }
        }
        for address in left {
            self.plan.bind(address, [None, None]);
        }
        if !policies.is_empty() {
            let others = self.pods.keys().filter(|key| !pods.contains(*key));
            for end in others.flat_map(ends_of).collect::<Vec<_>>() {
                self.look_again(&end, &policies);
            }
        }
        self.plan_change()
    }

    /// Forgets what was taken, because it could not be carried out: next time everything is.
    pub fn again(&mut self) {
        self.is_unknown = true;
    }

    fn plan_change(&mut self) -> Change {
        let is_wanted = !self.plan.pods.is_empty();
        let anew = self.is_unknown || is_wanted != self.is_up;
        self.is_up = is_wanted;
        self.is_unknown = false;
        if !is_wanted {
            // Told all together when there is somebody to tell it for.
            self.plan.take(false);
            return Change {
                anew,
                ..Change::default()
            };
        }
        self.plan.take(anew)
    }

    fn forget_policy(&mut self, key: &Key) {
        let Some(known) = self.policies.remove(key) else {
            return;
        };
        // Rules go with all that belongs to them; nobody may look them up afterwards.
        for ((pod, _), (address, parts)) in &mut self.parts {
            if let Some(part) = parts.remove(key) {
                self.plan.put(&known.rules, &part, *address, false);
                self.dirty_pods.insert(pod.clone());
            }
        }
        for id in known.rules.into_values() {
            self.plan.rules.set(id, None);
        }
    }

    /// Notes the addresses that a Pod says to have, or that it does not any more.
    fn claim(&mut self, key: &Key, is_there: bool) {
        let Some(pod) = self.pods.get(key) else {
            return;
        };
        let wanted = Family::ALL.map(|family| self.wanted(pod, family));
        for address in wanted.into_iter().flatten() {
            self.claim_address(key, address, is_there);
        }
    }

    fn claim_address(&mut self, key: &Key, address: IpAddr, is_there: bool) {
        let claims = self.claims.entry(address).or_default();
        if is_there {
            claims.insert(key.clone());
        } else {
            claims.remove(key);
        }
        self.dirty_pods.extend(claims.iter().cloned());
        if claims.is_empty() {
            self.claims.remove(&address);
        }
    }

    /// The address of a family a Pod has if nobody else has it.
    fn wanted(&self, pod: &Member, family: Family) -> Option<IpAddr> {
        if !pod.is_on_network {
            return None;
        }
        let mut told = self.told.iter();
        let told = told.find(|(ip, uid)| Family::of(**ip) == family && **uid == pod.uid);
        told.map(|(ip, _)| *ip).or_else(|| pod.address(family))
    }

    /// The address of a family a Pod has.
    fn address(&self, (key, family): &End) -> Option<IpAddr> {
        let pod = self.pods.get(key)?;
        let address = self.wanted(pod, *family)?;
        let claims = self.claims.get(&address).into_iter().flatten();
        let is_told = |pod: &Member| self.told.get(&address) == Some(&pod.uid);
        let last = claims.max_by_key(|key| {
            let pod = self.pods.get(*key);
            pod.map(|pod| (is_told(pod), &pod.since, &pod.uid))
        });
        (last == Some(key)).then_some(address)
    }

    /// The address it had.
    fn leave(&mut self, end: &End) -> Option<IpAddr> {
        let (address, parts) = self.parts.remove(end)?;
        for (policy, part) in parts {
            if let Some(known) = self.policies.get(&policy) {
                self.plan.put(&known.rules, &part, address, false);
            }
        }
        Some(address)
    }

    /// The address it has.
    fn enter(&mut self, end: &End) -> Option<IpAddr> {
        let (address, pod) = (self.address(end)?, self.pods.get(&end.0)?);
        let none = Labels::new();
        let labels = self.namespaces.get(&end.0.0).unwrap_or(&none);
        let mut parts = BTreeMap::new();
        for (policy, known) in &self.policies {
            let part = known.policy.part(pod, address, labels);
            if part != Part::default() {
                self.plan.put(&known.rules, &part, address, true);
                parts.insert(policy.clone(), part);
            }
        }
        self.parts.insert(end.clone(), (address, parts));
        self.bind(end);
        Some(address)
    }

    /// What these policies mean for a Pod that is as it was.
    fn look_again(&mut self, end: &End, policies: &BTreeSet<Key>) {
        let (Some(pod), Some((address, parts))) = (self.pods.get(&end.0), self.parts.get_mut(end))
        else {
            return;
        };
        let none = Labels::new();
        let labels = self.namespaces.get(&end.0.0).unwrap_or(&none);
        for policy in policies {
            let Some(known) = self.policies.get(policy) else {
                continue;
            };
            let part = known.policy.part(pod, *address, labels);
            if part != Part::default() {
                self.plan.put(&known.rules, &part, *address, true);
                parts.insert(policy.clone(), part);
            }
        }
        self.bind(end);
    }

    /// Binds a Pod to the rules of every policy that isolates it.
    fn bind(&mut self, end: &End) {
        let Some((address, parts)) = self.parts.get(end) else {
            return;
        };
        let rules = |way: Way| {
            let isolating = parts.iter().filter(|(_, part)| match way {
                Way::In => part.is_isolated_in,
                Way::Out => part.is_isolated_out,
            });
            let isolating: Vec<&Key> = isolating.map(|(policy, _)| policy).collect();
            let known = isolating
                .iter()
                .filter_map(|policy| self.policies.get(*policy));
            let rules = known.flat_map(|known| &known.rules);
            let rules = rules.filter(|((of, _), _)| *of == way).map(|(_, id)| *id);
            (!isolating.is_empty()).then(|| rules.collect())
        };
        self.plan.bind(*address, [rules(Way::In), rules(Way::Out)]);
    }
}

impl Plan {
    /// Puts what a policy means for a Pod with this address in or out.
    fn put(&mut self, rules: &BTreeMap<Place, RuleId>, part: &Part, address: IpAddr, is_in: bool) {
        let value = is_in.then_some(());
        for id in part.member_of.iter().filter_map(|place| rules.get(place)) {
            self.members.set((*id, address), value);
        }
        for (place, doors) in &part.doors {
            if let Some(id) = rules.get(place) {
                doors
                    .iter()
                    .for_each(|door| self.doors.set((*id, *door), value));
            }
        }
    }

    /// Binds an address to rules each way.
    fn bind(&mut self, address: IpAddr, rules: [Option<BTreeSet<RuleId>>; 2]) {
        let before = self.bound.remove(&address).unwrap_or_default();
        // New ones first, so that a group that goes on is never without anybody.
        let [ingress, egress] = [0, 1].map(|n| rules[n].as_ref().map(|rules| self.join(rules)));
        for rules in before.iter().flatten() {
            self.part_from(rules);
        }
        let bonds = Bonds { ingress, egress };
        let is_free = bonds == Bonds::default();
        self.pods.set(address, (!is_free).then_some(bonds));
        if !is_free {
            self.bound.insert(address, rules);
        }
    }

    fn join(&mut self, rules: &BTreeSet<RuleId>) -> GroupId {
        if let Some((id, count)) = self.shared.get_mut(rules) {
            *count += 1;
            return *id;
        }
        let id = GroupId(self.next_group);
        self.next_group += 1;
        self.groups.set(id, Some(rules.clone()));
        self.shared.insert(rules.clone(), (id, 1));
        id
    }

    fn part_from(&mut self, rules: &BTreeSet<RuleId>) {
        let Some((id, count)) = self.shared.get_mut(rules) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.groups.set(*id, None);
            self.shared.remove(rules);
        }
    }

    fn take(&mut self, anew: bool) -> Change {
        let rules = self.rules.take(anew);
        let is_gone = |id: &RuleId| rules.get(id).is_some_and(|(_, now)| now.is_none());
        let members = self.members.take(anew).into_iter();
        let doors = self.doors.take(anew).into_iter();
        let pods = self.pods.take(anew).into_iter();
        let members = members.filter(|((id, _), _)| !is_gone(id));
        let doors = doors.filter(|((id, _), _)| !is_gone(id));
        Change {
            anew,
            members: members
                .map(|(key, (_, now))| (key, now.is_some()))
                .collect(),
            doors: doors.map(|(key, (_, now))| (key, now.is_some())).collect(),
            rules: turns(rules),
            groups: turns(self.groups.take(anew)),
            pods: pods
                .map(|(address, (was, now))| {
                    let bonds = |bonds: Option<Bonds>| bonds.unwrap_or_default();
                    (address, (bonds(was), bonds(now)))
                })
                .collect(),
        }
    }
}

fn ends_of(key: &Key) -> [End; 2] {
    Family::ALL.map(|family| (key.clone(), family))
}

fn turns<K: Ord, V>(moved: BTreeMap<K, Moved<V>>) -> BTreeMap<K, Turn<V>> {
    let turn = |moved| match moved {
        (_, Some(now)) => Some(Turn::New(now)),
        (Some(was), None) => Some(Turn::Gone(was)),
        (None, None) => None,
    };
    let turns = moved.into_iter();
    turns
        .filter_map(|(key, moved)| Some((key, turn(moved)?)))
        .collect()
}
