//! Writes for ever and acknowledges each commit on standard output; the store's part of the power-cut test.
//!
//! `powercut FILE ACKNOWLEDGED` first checks that the store in FILE holds at least that many commits of the runs before, each with
//! the revision it was given, and says how many there are. It fails on anything else.

use std::path::Path;

use bytes::Bytes;
use ports::store::{Change, Durability, Expect, Revision, RevisionedStore, StoreError};
use store::Store;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(acknowledged)) = (arguments.next(), arguments.next()) else {
        return Err("usage: powercut FILE ACKNOWLEDGED".into());
    };
    let store = Store::open(Path::new(&file))?;
    let found = check(&store)?;
    let acknowledged: u64 = acknowledged.parse()?;
    if found < acknowledged {
        return Err(format!("{acknowledged} commits were acknowledged, {found} are there").into());
    }
    println!("vm: intact {found}");
    for n in found.. {
        commit(&store, n).await?;
        println!("vm: acknowledged {}", n + 1);
    }
    Ok(())
}

fn key(n: u64) -> String {
    format!("/n/{n:08}")
}

/// About as large as a Pod, and different for each.
fn value(n: u64, revision: Revision) -> Bytes {
    Bytes::from(format!("{n}@{revision};").repeat(300))
}

/// How many commits there are, when they are the first ones without a gap and as they were written.
fn check(store: &Store) -> Result<u64, String> {
    let (newest, entries) = store.range("/n/", None, 0);
    let mut found = 0;
    for entry in entries {
        let revision = entry.mod_revision;
        if entry.key != key(found) || entry.value != value(found, revision) || revision > newest {
            return Err(format!("{} at revision {revision} is damaged", entry.key));
        }
        found += 1;
    }
    Ok(found)
}

async fn commit(store: &Store, n: u64) -> Result<(), StoreError> {
    let change = Change::Put(Box::new(move |revision| value(n, revision)));
    store
        .commit(&key(n), Expect::Absent, change, Durability::Synced)
        .await
        .map(drop)
}
