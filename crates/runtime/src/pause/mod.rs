//! Pause: one small process per Pod that holds its namespaces and is the parent of its containers.
//!
//! It starts containers, reaps them, keeps their exit codes, writes their logs and owns their terminals, so none of this depends on
//! the engine, which may come and go. It knows nothing of Kubernetes and decides nothing: restarts, grace periods and probes are
//! the engine's. One thread, one epoll loop, no asynchronous runtime.
//!
//! Files in its run directory: [`crate::wire::SPEC_NAME`] (read once), [`crate::wire::SOCKET_NAME`] (the engine's way in) and one
//! exit file for every container that has ended.
//!
//! Invariants: an exit is in its file before anybody is told; every line a container wrote before it ended is in the log before
//! its exit is told; a slow engine or attached client never blocks a container's output.

mod connection;
mod container;
pub mod log;
mod output;
mod server;
mod setup;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use crate::wire::Ready;

/// Runs a pause; `args` are what follows its name on the command line: the sandbox's run directory.
///
/// To be called before anything else is initialised, from the process's only thread. Says on standard output when it is ready
/// ([`Ready`]) and exits with 0 once it was told to shut down, with 1 if it could not come up.
pub fn main<I: IntoIterator<Item = OsString>>(args: I) -> ! {
    let outcome = match args.into_iter().next() {
        Some(run_dir) => run(&PathBuf::from(run_dir)),
        None => Err(setup::SetupError::Usage),
    };
    let code = match outcome {
        Ok(()) => 0,
        Err(error) => {
            announce(&Ready::Failed {
                reason: chain(&error),
            });
            1
        }
    };
    std::process::exit(code)
}

fn run(run_dir: &std::path::Path) -> Result<(), setup::SetupError> {
    let sandbox = setup::enter(run_dir)?;
    let mut server =
        server::Server::new(sandbox).map_err(setup::SetupError::step("make the event loop"))?;
    announce(&Ready::Listening {
        pid: rustix::process::getpid().as_raw_nonzero().get(),
    });
    setup::detach_stdout();
    server.run();
    Ok(())
}

/// Tells the engine; if it is gone already, its successor will find the socket.
fn announce(ready: &Ready) {
    if let Ok(mut line) = serde_json::to_vec(ready) {
        line.push(b'\n');
        let _ = std::io::stdout().write_all(&line);
        let _ = std::io::stdout().flush();
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
