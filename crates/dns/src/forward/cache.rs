//! What others have said, for as long as it may be believed; and who asks what is being asked waits for the same answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::{RData, Record};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::Asked;
use crate::answer::Said;

/// Nothing is kept longer, in seconds, as kubeadm has CoreDNS do it.
const LONGEST: u32 = 30;
/// How long it is believed that nobody answers, in seconds (RFC 9520 section 3.2 asks for one at least).
const FAILURE: u32 = 5;
/// Answers that are kept at most.
const MOST: usize = 10_000;

/// Answers by question.
#[derive(Default)]
pub(super) struct Cache {
    entries: Mutex<HashMap<Asked, Arc<OnceCell<Kept>>>>,
}

struct Kept {
    said: Said,
    since: Instant,
    seconds: u32,
}

impl Cache {
    /// What is kept, or else what `fetch` brings; of several who want the same at once one fetches.
    pub(super) async fn get(&self, asked: &Asked, fetch: impl Future<Output = Said>) -> Said {
        let entry = self.entry(asked, Instant::now());
        let fetched = async {
            let said = fetch.await;
            Kept {
                seconds: lifetime(&said),
                since: Instant::now(),
                said,
            }
        };
        entry.get_or_init(|| fetched).await.at(Instant::now())
    }

    fn entry(&self, asked: &Asked, now: Instant) -> Arc<OnceCell<Kept>> {
        let mut entries = self.lock();
        if let Some(entry) = entries.get(asked).filter(|entry| is_good(entry, now)) {
            return entry.clone();
        }
        if entries.len() >= MOST {
            entries.retain(|_, entry| is_good(entry, now));
        }
        if entries.len() >= MOST {
            entries.clear();
        }
        let entry = Arc::<OnceCell<Kept>>::default();
        entries.insert(asked.clone(), entry.clone());
        entry
    }

    /// Each use leaves the entries whole, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, HashMap<Asked, Arc<OnceCell<Kept>>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Not there yet, or not yet too old.
fn is_good(entry: &OnceCell<Kept>, now: Instant) -> bool {
    entry.get().is_none_or(|kept| kept.age(now) < kept.seconds)
}

impl Kept {
    /// In whole seconds, as records count.
    fn age(&self, now: Instant) -> u32 {
        let age: Duration = now.saturating_duration_since(self.since);
        age.as_secs().try_into().unwrap_or(u32::MAX)
    }

    /// The answer as it is to be passed on by now.
    fn at(&self, now: Instant) -> Said {
        let mut said = self.said.clone();
        let (age, left) = (self.age(now), self.seconds.saturating_sub(self.age(now)));
        for records in [&mut said.answers, &mut said.authorities, &mut said.more] {
            for record in records {
                record.ttl = record.ttl.saturating_sub(age).min(left);
            }
        }
        said
    }
}

/// For how many seconds an answer holds (RFC 2181 section 5.2; RFC 2308 section 5 where there is nothing).
fn lifetime(said: &Said) -> u32 {
    let seconds = match said.code {
        ResponseCode::NoError if !said.answers.is_empty() => {
            said.answers.iter().map(|record| record.ttl).min()
        }
        ResponseCode::NoError | ResponseCode::NXDomain => said.authorities.iter().find_map(absence),
        _ => Some(FAILURE),
    };
    seconds.unwrap_or_default().min(LONGEST)
}

fn absence(record: &Record) -> Option<u32> {
    match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicU32, Ordering};

    use hickory_server::proto::rr::rdata::A;
    use hickory_server::proto::rr::{LowerName, Name, RecordType};
    use tokio::time::advance;

    use super::*;

    fn asked(name: &str) -> Asked {
        Asked {
            name: LowerName::from(Name::from_ascii(name).expect("a name")),
            kind: RecordType::A,
            dnssec_ok: false,
            checking_disabled: false,
        }
    }

    fn found(seconds: u32) -> Said {
        let address = RData::A(A(Ipv4Addr::LOCALHOST));
        Said {
            answers: vec![Record::from_rdata(Name::root(), seconds, address)],
            ..Said::only(ResponseCode::NoError)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_grow_old_and_are_fetched_anew() {
        let cache = Cache::default();
        let fetches = AtomicU32::new(0);
        let get = async |said: Said| {
            let fetch = async {
                fetches.fetch_add(1, Ordering::Relaxed);
                said
            };
            let said = cache.get(&asked("a.example."), fetch).await;
            let ttl = said.answers.first().map(|record| record.ttl);
            (ttl, fetches.load(Ordering::Relaxed))
        };
        assert_eq!(get(found(20)).await, (Some(20), 1));
        advance(Duration::from_millis(7500)).await;
        assert_eq!(get(found(20)).await, (Some(13), 1));
        advance(Duration::from_secs(13)).await;
        assert_eq!(get(Said::only(ResponseCode::ServFail)).await, (None, 2));
        advance(Duration::from_secs(4)).await;
        assert_eq!(get(found(300)).await, (None, 2));
        advance(Duration::from_secs(1)).await;
        assert_eq!(get(found(300)).await, (Some(30), 3));
    }

    #[tokio::test]
    async fn those_who_ask_at_once_ask_once() {
        let cache = Cache::default();
        let fetches = AtomicU32::new(0);
        let asked = asked("a.example.");
        let get = || {
            cache.get(&asked, async {
                fetches.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                found(0)
            })
        };
        tokio::join!(get(), get(), get());
        assert_eq!(fetches.load(Ordering::Relaxed), 1);
        get().await;
        assert_eq!(fetches.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn there_is_an_end_to_what_is_kept() {
        let cache = Cache::default();
        for n in 0..=MOST {
            cache
                .get(&asked(&format!("{n}.example.")), async { found(30) })
                .await;
        }
        assert!(cache.lock().len() <= MOST);
    }
}
