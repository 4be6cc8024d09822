//! Who may reach whom: NetworkPolicies (networking.k8s.io/v1), as the Kubernetes documentation defines them.
//!
//! A Pod that a policy selects is isolated the way the policy is about, and what any of those policies lets pass goes on; others are free.
//! A connection has to be let out at one end and in at the other. [`State`] holds what is known and says what changes.

mod pod;
mod rule;
mod state;
mod tracked;

pub use state::State;
