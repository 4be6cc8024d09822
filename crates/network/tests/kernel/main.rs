//! The Pod network on the real kernel. Every test works in a network namespace of its own, so it needs root and leaves nothing.

mod firewalls;
mod node;
mod outside;
mod peers;
mod plugins;
mod pods;
mod policies;
mod services;
