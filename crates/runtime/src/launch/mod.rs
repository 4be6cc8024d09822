//! The launcher: makes a container's mount namespace and starts its first process, and runs further processes in it.
//!
//! Called by pause, synchronously, in its only thread (but for [`plain`], by which pauses come to be, and the scratch namespace, which
//! the engine makes for all of them). A launch goes like this:
//!
//! 1. In the node's mount namespace every mount is prepared as a detached one: the overlay, images beside it, `/dev`, `/sys`,
//!    copies of what is bound; names of users are looked up in the overlay; cgroups and streams are opened ([`rootfs`], [`process`]).
//! 2. The caller steps into a copy of a nearly empty mount namespace ([`scratch`]), attaches them, each path resolved inside
//!    the root ([`inroot`]), and pivots.
//! 3. A child is born that shares the caller's memory (`CLONE_VM|CLONE_VFORK`), so its cost does not grow with the caller. It
//!    mounts what belongs to its own PID and cgroup namespaces, gives up its rights and executes ([`child`]).
//! 4. The caller steps back. It alone is left holding a pidfd.
//!
//! An exec is step 3 alone, the child entering the container's namespaces first.
//!
//! Left to others: making cgroups ([`crate::cgroup`]), compiling filters ([`crate::seccomp`]), reaping, logs, and everything
//! that is decided rather than done. Kernels before 5.12 have no `mount_setattr`: there mounts are remounted by path.

mod binds;
mod birth;
pub mod capabilities;
mod child;
mod dev;
mod error;
mod images;
mod inroot;
mod kit;
mod launcher;
mod overlay;
mod plain;
mod process;
pub mod protect;
mod rootfs;
mod scratch;
mod spec;
mod sys;
mod terminal;
mod userns;
mod users;

pub use dev::{default_masked_paths, default_readonly_paths};
pub use error::{Errno, LaunchError};
pub(crate) use images::check as check_image;
pub use launcher::Launcher;
pub(crate) use overlay::mount_root;
pub(crate) use plain::{Side, fork_in, spawn_in};
pub use scratch::Scratch;
pub use spec::*;
pub use userns::UserNamespace;
