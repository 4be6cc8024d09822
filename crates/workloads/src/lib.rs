//! What controllers of workloads decide: objects in; creations, changes, deletions and status out.
//!
//! Everything here is a pure function: the same objects and time give the same plan. A controller carries a plan out, hears of what
//! it has done like of anything else, and plans again until nothing is left to do. Nothing is remembered between two plans but what
//! the objects themselves say, and what has failed; only [`garbage`] has a memory, who owns whom,
//! [`daemonset`], where Pods fail, and [`autoscaler`], what it wanted lately.

pub mod autoscaler;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod garbage;
mod hash;
pub mod history;
pub mod job;
mod object;
pub mod owner;
pub mod pod;
pub mod replicaset;
pub mod replication;
pub mod statefulset;
