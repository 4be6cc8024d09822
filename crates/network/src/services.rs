//! Traffic to services: their range, routed to the bridge so that the node itself reaches them, and the table that sends it on.
//!
//! The table of an earlier engine stays in force until the first change, which takes its place at once; the kernel remembers where the
//! connections that exist lead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use nat::{Address, Change, Family, Front, IpRange, Outside, Protocol, Ranges, Redirect, Table};
use ports::network::{NetworkError, Redirects};
use rustix::io::Errno;

use crate::conntrack;
use crate::guests::Guests;
use crate::link;
use crate::netlink::{Part, Socket};
use crate::nft::services::Batch;
use crate::peers;
use crate::{Network, blocking, kernel, lock, setup};

/// Most bytes of one change: room for tens of thousands of fronts.
const ROOM: usize = 256 << 20;

/// The services of one engine.
#[derive(Debug)]
pub struct Services {
    ranges: Ranges,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    socket: Socket,
    route: Socket,
    table: String,
    bridge: u32,
    ranges: Ranges,
    pods: Ranges,
    guests: Arc<Guests>,
    peers: Arc<peers::Known>,
    /// What was carried out; `None` if that is not known.
    known: Option<Known>,
}

/// What the kernel has.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Fronts, but for those of which there is nothing to say.
    table: Table,
    /// How many backends have this address.
    backends: BTreeMap<IpAddr, usize>,
}

impl Network {
    /// Routes a range for services, of each family Pods have: the one that is `wanted`, or the first that is not routed anywhere. Blocks
    /// for less than a millisecond.
    pub fn services(&self, wanted: Option<Ranges>) -> Result<Services, NetworkError> {
        let inner = &self.inner;
        let _alone = setup::choose_alone()?;
        let mut route = lock(&inner.making);
        if let Some(wanted) = wanted.filter(|wanted| wanted.overlaps(inner.ranges)) {
            let what = format!("serve services at {wanted}, where the Pods are");
            return Err(kernel(&what, Errno::ADDRINUSE.into()));
        }
        let mut ranges = Vec::new();
        for family in self.families() {
            let mut all = wanted.into_iter().flat_map(Ranges::iter);
            ranges.push(match all.find(|range| range.family() == family) {
                Some(range) => range,
                None => setup::free_range(family, default_ranges, &mut route)?,
            });
        }
        for (range, gateway) in ranges.iter().zip(self.gateways()) {
            match route.transact(&[link::add_route(*range, inner.bridge_index, gateway)]) {
                // An earlier engine's, or of somebody who has asked for the same: it does as well.
                Err(refused) if !refused.is(Errno::EXIST) => return Err(refused.into()),
                _ => {}
            }
        }
        let second = ranges.get(1).copied();
        let ranges = ranges.first().and_then(|first| Ranges::new(*first, second));
        let ranges = ranges.unwrap_or(inner.ranges);
        let socket = Socket::open(Part::Netfilter)
            .and_then(|socket| socket.make_room(ROOM).map(|()| socket))
            .map_err(|error| kernel("open a netfilter socket", error))?;
        let route =
            Socket::open(Part::Route).map_err(|error| kernel("open a netlink socket", error))?;
        Ok(Services {
            ranges,
            inner: Arc::new(Mutex::new(Inner {
                socket,
                route,
                table: setup::services_table(&inner.bridge),
                bridge: inner.bridge_index,
                ranges,
                pods: inner.ranges,
                guests: inner.guests.clone(),
                peers: inner.peers.clone(),
                known: None,
            })),
        })
    }
}

/// 10.96.0.0/16 as everyone's default, then its neighbours as far as the Pods'; of IPv6 those with the same numbers.
fn default_ranges(family: Family) -> impl Iterator<Item = IpRange> {
    (96..244u8).filter_map(move |n| setup::default_range(family, n, 112))
}

impl Services {
    /// The ranges services have their addresses from.
    pub fn ranges(&self) -> Ranges {
        self.ranges
    }
}

#[async_trait]
impl Redirects for Services {
    async fn change(&self, change: Change) -> Result<(), NetworkError> {
        let inner = self.inner.clone();
        blocking(move || lock(&inner).change(change)).await
    }
}

impl Inner {
    fn change(&mut self, mut change: Change) -> Result<(), NetworkError> {
        self.leave_out_others(&mut change);
        let guests = self.guests.clone();
        let guests = guests.lock();
        let peers = self.peers.clone();
        let peers = peers.lock();
        // Taken: a change that fails leaves behind something else than what this would say.
        let (set, gone, known, mut batch) = match (change, self.known.take()) {
            (Change::All(all), _) => {
                let peers = peers.keys().copied().collect();
                let elsewhere = (&*guests, &peers);
                let batch =
                    Batch::anew(&self.table, self.bridge, self.ranges, self.pods, elsewhere);
                (all, BTreeSet::new(), Known::default(), batch)
            }
            (Change::Some { set, gone }, Some(known)) => {
                (set, gone, known, Batch::change(&self.table))
            }
            (Change::Some { .. }, None) => {
                let what = "change services of which nothing is known";
                return Err(kernel(what, Errno::INVAL.into()));
            }
        };
        let losing = known.losing(&set, &gone);
        let known = known.after(set, gone, &mut batch);
        let messages = batch.finish();
        if !messages.is_empty() {
            self.socket.transact(&messages)?;
        }
        let datagrams = known.of_datagrams(&losing);
        if !datagrams.is_empty() {
            let datagrams = self.on_addresses(datagrams)?;
            conntrack::forget(&mut self.socket, &datagrams)?;
        }
        self.known = Some(known);
        Ok(())
    }
}

impl Inner {
    /// Fronts of a family without a range have no table.
    fn leave_out_others(&self, change: &mut Change) {
        let is_ours = |front: &Front| {
            let family = front.address.family();
            self.ranges.families().any(|ours| ours == family)
        };
        match change {
            Change::All(set) => set.retain(|front, _| is_ours(front)),
            Change::Some { set, gone } => {
                set.retain(|front, _| is_ours(front));
                gone.retain(is_ours);
            }
        }
    }

    /// The same by addresses and ports: [`Address::Node`] is each of the node's addresses.
    fn on_addresses(
        &mut self,
        fronts: BTreeMap<Front, BTreeSet<SocketAddr>>,
    ) -> Result<BTreeMap<SocketAddr, BTreeSet<SocketAddr>>, NetworkError> {
        let mut node = Vec::new();
        for family in Family::ALL {
            let all = Address::Node(family);
            if fronts.keys().any(|front| front.address == all) {
                node.extend(link::addresses(family, &mut self.route)?);
            }
        }
        let mut on_addresses = BTreeMap::new();
        // As in the table, those with an address of their own come first.
        for (front, backends) in fronts {
            let ips = match front.address {
                Address::Ip(ip) => vec![ip],
                Address::Node(family) => {
                    let ips = node.iter().map(|address| address.ip);
                    ips.filter(|ip| Family::of(*ip) == family).collect()
                }
            };
            for ip in ips {
                let to = SocketAddr::new(ip, front.port);
                on_addresses.entry(to).or_insert_with(|| backends.clone());
            }
        }
        Ok(on_addresses)
    }
}

impl Known {
    /// What is known after a change, which is put into the batch.
    fn after(mut self, set: Table, gone: BTreeSet<Front>, batch: &mut Batch<'_>) -> Known {
        let mut was_there = BTreeMap::new();
        let nothing = Redirect::default();
        let gone = gone.into_iter().map(|front| (front, nothing.clone()));
        for (front, new) in gone.chain(set) {
            let old = self.table.remove(&front).unwrap_or_default();
            if old != new {
                batch.replace(&front, &old, &new);
            }
            self.count(&new, true, &mut was_there);
            self.count(&old, false, &mut was_there);
            if new != nothing {
                self.table.insert(front, new);
            }
        }
        let (mut added, mut removed) = (BTreeSet::new(), BTreeSet::new());
        for (address, was_there) in was_there {
            match (was_there, self.backends.contains_key(&address)) {
                (false, true) => added.insert(address),
                (true, false) => removed.insert(address),
                _ => continue,
            };
        }
        batch.backends(&added, &removed);
        self
    }

    /// Fronts with backends that will be theirs no more; where nothing is known, all. On an address of this machine datagrams may have
    /// gone to itself before.
    fn losing(&self, set: &Table, gone: &BTreeSet<Front>) -> Vec<Front> {
        let loses = |(front, new): &(&Front, &Redirect)| match self.table.get(front) {
            Some(old) => !old.all_backends().is_subset(&new.all_backends()),
            None => self.table.is_empty() || new.outside != Outside::Untouched,
        };
        let set = set.iter().filter(loses).map(|(front, _)| front);
        set.chain(gone).copied().collect()
    }

    /// Those of the fronts that are for UDP, with the backends they have now.
    fn of_datagrams(&self, fronts: &[Front]) -> BTreeMap<Front, BTreeSet<SocketAddr>> {
        let fronts = fronts.iter().filter(|f| f.protocol == Protocol::Udp);
        let backends = |front| self.table.get(front).map(Redirect::all_backends);
        fronts
            .map(|front| (*front, backends(front).unwrap_or_default()))
            .collect()
    }

    /// Counts a redirect's backends in or out; whose address was there before is noted at the first touch.
    fn count(&mut self, redirect: &Redirect, is_in: bool, was: &mut BTreeMap<IpAddr, bool>) {
        for backend in redirect.all_backends() {
            let address = backend.ip();
            let count = self.backends.get(&address).copied().unwrap_or(0);
            was.entry(address).or_insert(count > 0);
            let count = if is_in {
                count + 1
            } else {
                count.saturating_sub(1)
            };
            if count > 0 {
                self.backends.insert(address, count);
            } else {
                self.backends.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(family: Family, n: u32) -> Front {
        Front {
            address: family.address((0x0a60_0000 + n).into()).into(),
            protocol: Protocol::Tcp,
            port: 80,
        }
    }

    /// Five backends of its own for each front.
    fn redirect(family: Family, n: u32, affinity: Option<u32>) -> Redirect {
        let address = |k: u32| family.address((0x0af4_0000 + 5 * n + k).into());
        let backend = |k: u32| SocketAddr::new(address(k), 8080);
        Redirect {
            backends: (0..5).map(backend).collect(),
            affinity,
            ..Redirect::default()
        }
    }

    /// What a change of one front costs among so many: for each way to change it, the number of messages and their bytes.
    fn costs(family: Family, fronts: u32) -> Vec<(usize, usize)> {
        let front = |n| front(family, n);
        let redirect = |n, affinity| redirect(family, n, affinity);
        let table: Table = (0..fronts).map(|n| (front(n), redirect(n, None))).collect();
        let mut batch = Batch::change("t");
        let mut known = Known::default().after(table, BTreeSet::new(), &mut batch);
        let mut fewer = redirect(3, None);
        fewer.backends.pop_first();
        let set = |to: Redirect| (Table::from([(front(3), to)]), BTreeSet::new());
        let changes = [
            set(fewer),
            set(redirect(3, Some(9))),
            set(redirect(3, Some(9))),
            set(Redirect::default()),
            set(redirect(3, None)),
            (Table::new(), BTreeSet::from([front(3)])),
        ];
        let costs = changes.map(|(set, gone)| {
            let mut batch = Batch::change("t");
            known = std::mem::take(&mut known).after(set, gone, &mut batch);
            let messages = batch.finish();
            let bytes = messages.iter().map(|message| message.encode(0).len());
            (messages.len(), bytes.sum())
        });
        assert_eq!(known.table.len() + 1, fronts as usize);
        assert_eq!(known.backends.len() + 5, 5 * fronts as usize);
        costs.to_vec()
    }

    #[test]
    fn a_change_costs_the_same_among_ten_fronts_and_a_thousand() {
        for family in Family::ALL {
            let few = costs(family, 10);
            assert_eq!(few, costs(family, 1000));
            assert_eq!(few[2], (0, 0), "nothing for what is so already");
            assert!(few.iter().all(|(_, bytes)| *bytes < 4096), "{few:?}");
        }
    }
}
