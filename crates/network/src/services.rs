//! Traffic to services: their range, routed to the bridge so that the node itself reaches them, and the table that sends it on.
//!
//! The table of an earlier engine stays in force until the first change, which takes its place at once; the kernel remembers where the
//! connections that exist lead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use nat::{Address, Change, Front, Outside, Protocol, Redirect, Table};
use ports::network::{NetworkError, Redirects};
use rustix::io::Errno;

use crate::conntrack;
use crate::guests::Guests;
use crate::link::{self, addresses_and_ranges};
use crate::netlink::{Family, Socket};
use crate::nft::services::Batch;
use crate::{Ipv4Range, Network, blocking, kernel, lock, setup};

/// Most bytes of one change: room for tens of thousands of fronts.
const ROOM: usize = 256 << 20;

/// The services of one engine.
#[derive(Debug)]
pub struct Services {
    range: Ipv4Range,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    socket: Socket,
    route: Socket,
    table: String,
    bridge: u32,
    range: Ipv4Range,
    guests: Arc<Guests>,
    /// What was carried out; `None` if that is not known.
    known: Option<Known>,
}

/// What the kernel has.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Fronts, but for those of which there is nothing to say.
    table: Table,
    /// How many backends have this address.
    backends: BTreeMap<Ipv4Addr, usize>,
}

impl Network {
    /// Routes a range for services: the one that is `wanted`, or the first that is not routed anywhere. Blocks for less than a
    /// millisecond.
    pub fn services(&self, wanted: Option<Ipv4Range>) -> Result<Services, NetworkError> {
        let inner = &self.inner;
        let _alone = setup::choose_alone()?;
        let mut route = lock(&inner.making);
        let range = match wanted {
            Some(range) if range.overlaps(inner.range) => {
                let what = format!("serve services at {range}, where the Pods are");
                return Err(kernel(&what, Errno::ADDRINUSE.into()));
            }
            Some(range) => range,
            None => free_range(&mut route)?,
        };
        match route.transact(&[link::add_route(range, inner.bridge_index, inner.gateway)]) {
            // An earlier engine's, or of somebody who has asked for the same: it does as well.
            Err(refused) if !refused.is(Errno::EXIST) => return Err(refused.into()),
            _ => {}
        }
        let socket = Socket::open(Family::Netfilter)
            .and_then(|socket| socket.make_room(ROOM).map(|()| socket))
            .map_err(|error| kernel("open a netfilter socket", error))?;
        let route =
            Socket::open(Family::Route).map_err(|error| kernel("open a netlink socket", error))?;
        Ok(Services {
            range,
            inner: Arc::new(Mutex::new(Inner {
                socket,
                route,
                table: setup::services_table(&inner.bridge),
                bridge: inner.bridge_index,
                range,
                guests: inner.guests.clone(),
                known: None,
            })),
        })
    }
}

/// 10.96.0.0/16 as everyone's default, then its neighbours as far as the Pods'.
fn free_range(route: &mut Socket) -> Result<Ipv4Range, NetworkError> {
    let (_, taken) = addresses_and_ranges(route)?;
    let mut ranges = (96..244u8).filter_map(|n| Ipv4Range::new(Ipv4Addr::new(10, n, 0, 0), 16));
    let free = ranges.find(|range| !taken.iter().any(|taken| taken.overlaps(*range)));
    free.ok_or_else(|| NetworkError::Exhausted {
        range: "10.0.0.0/8".into(),
    })
}

impl Services {
    /// The range services have their addresses from.
    pub fn range(&self) -> Ipv4Range {
        self.range
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
    fn change(&mut self, change: Change) -> Result<(), NetworkError> {
        let guests = self.guests.clone();
        let guests = guests.lock();
        // Taken: a change that fails leaves behind something else than what this would say.
        let (set, gone, known, mut batch) = match (change, self.known.take()) {
            (Change::All(all), _) => {
                let batch = Batch::anew(&self.table, self.bridge, self.range, &guests);
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
    /// The same by addresses and ports: [`Address::Node`] is each of the node's addresses.
    fn on_addresses(
        &mut self,
        fronts: BTreeMap<Front, BTreeSet<SocketAddrV4>>,
    ) -> Result<BTreeMap<SocketAddrV4, BTreeSet<SocketAddrV4>>, NetworkError> {
        let node = match fronts.keys().any(|front| front.address == Address::Node) {
            true => link::addresses(&mut self.route)?,
            false => Vec::new(),
        };
        let mut on_addresses = BTreeMap::new();
        // As in the table, those with an address of their own come first.
        for (front, backends) in fronts {
            let ips = match front.address {
                Address::Ip(ip) => vec![ip],
                Address::Node => node.iter().map(|address| address.ip).collect(),
            };
            for ip in ips {
                let to = SocketAddrV4::new(ip, front.port);
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
    fn of_datagrams(&self, fronts: &[Front]) -> BTreeMap<Front, BTreeSet<SocketAddrV4>> {
        let fronts = fronts.iter().filter(|f| f.protocol == Protocol::Udp);
        let backends = |front| self.table.get(front).map(Redirect::all_backends);
        fronts
            .map(|front| (*front, backends(front).unwrap_or_default()))
            .collect()
    }

    /// Counts a redirect's backends in or out; whose address was there before is noted at the first touch.
    fn count(&mut self, redirect: &Redirect, is_in: bool, was: &mut BTreeMap<Ipv4Addr, bool>) {
        for backend in redirect.all_backends() {
            let address = *backend.ip();
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

    fn front(n: u32) -> Front {
        Front {
            address: Ipv4Addr::from(0x0a60_0000 + n).into(),
            protocol: Protocol::Tcp,
            port: 80,
        }
    }

    /// Five backends of its own for each front.
    fn redirect(n: u32, affinity: Option<u32>) -> Redirect {
        let backend = |k: u32| SocketAddrV4::new(Ipv4Addr::from(0x0af4_0000 + 5 * n + k), 8080);
        Redirect {
            backends: (0..5).map(backend).collect(),
            affinity,
            ..Redirect::default()
        }
    }

    /// What a change of one front costs among so many: for each way to change it, the number of messages and their bytes.
    fn costs(fronts: u32) -> Vec<(usize, usize)> {
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
        let few = costs(10);
        assert_eq!(few, costs(1000));
        assert_eq!(few[2], (0, 0), "nothing for what is so already");
        assert!(few.iter().all(|(_, bytes)| *bytes < 4096), "{few:?}");
    }
}
