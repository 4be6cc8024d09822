//! The cases, each told by what is seen from inside.

mod escapes;
mod execs;
mod files;
mod identity;
mod starts;

use runtime::launch::Launcher;

/// A case; it panics when something is not as it should be.
pub(crate) type Case = fn(&Launcher);

/// Every case by name.
pub(crate) fn all() -> Vec<(&'static str, Case)> {
    [
        starts::ALL,
        files::ALL,
        identity::ALL,
        escapes::ALL,
        execs::ALL,
    ]
    .concat()
}
