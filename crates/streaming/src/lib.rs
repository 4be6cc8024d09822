//! How the streams of a process, the connections to a Pod's ports and a log go over a connection that was HTTP before: over SPDY, over the
//! channels of a WebSocket, or over SPDY inside a WebSocket (spec kubectl-and-api §13).
//!
//! Who serves prepares first (is there a protocol in common?), asks its node, and then accepts, which gives the head of the answer and starts
//! the task that talks. Whose process it is and whether the client may talk to it is settled before.

mod channels;
mod forward;
mod options;
mod process;
mod spdy;
mod upgrade;

pub use channels::Wanted;
pub use forward::{Destination, Ports};
pub use options::log_options;
pub use process::Process;
pub use spdy::{NONE_KNOWN, name_known};
pub use upgrade::{connection, is_wanted as wants_websocket, logs};
