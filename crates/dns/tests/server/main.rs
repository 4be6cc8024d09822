//! The name server as resolvers meet it: real sockets, an API and upstreams that tests play.

mod cluster;
mod forwarding;
mod support;
