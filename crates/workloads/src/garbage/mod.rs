//! Objects whose owners are gone (upstream's garbage collector).
//!
//! An object names its owners by UID in `metadata.ownerReferences`. Once none of them is left it is deleted, in the background. A
//! deletion in the foreground goes the other way round: the owner has the finalizer `foregroundDeletion` and stays until the
//! dependents that block it (`blockOwnerDeletion`) are gone. One with the finalizer `orphan` stays until no dependent names it.
//!
//! [`Graph`] hears of all objects, keeps who owns whom, and tells which objects have to be looked at. What it knows may be old: it
//! never says that something is to be deleted. That is [judged](judge()) by what the API says at that moment of the object and of each
//! of its owners, and holds for that version of the object only. An owner's absence, once seen, stays true, as no UID comes again.

mod absent;
mod graph;
mod judge;
mod object;
#[cfg(test)]
mod tests;

pub use graph::{Graph, Key, Outcome, Work};
pub use judge::{
    Owner, Policy, Verdict, blocks, judge, loosened, owner, without_finalizer, without_owners,
};
pub use object::{FOREGROUND, Kind, ORPHAN, Object, Reference, Stage, Uid, references};
