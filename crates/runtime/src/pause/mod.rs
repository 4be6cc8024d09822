//! Pause: one small process per Pod that holds its namespaces and is the parent of its containers.
//!
//! It starts containers, reaps them, keeps their exit codes, writes their logs and owns their terminals, so none of this depends on
//! the engine, which may come and go. It knows nothing of Kubernetes and decides nothing: restarts, grace periods and probes are
//! the engine's. One thread, one epoll loop, no asynchronous runtime.
//!
//! It is a copy of a process that the engine keeps for that ([`template`]), born connected to the engine, which says over the
//! connection what it is to be ([`crate::wire::PauseSpec`]). Files in its run directory: [`crate::wire::SOCKET_NAME`] (a later engine's way in) and one exit
//! file for every container that has ended.
//!
//! Invariants: an exit is in its file before anybody is told; every line a container wrote before it ended is in the log before
//! its exit is told; a slow engine or attached client never blocks a container's output.

mod connection;
mod container;
pub mod log;
mod output;
mod server;
mod setup;
mod template;
mod users;

use std::ffi::OsString;

use template::Newborn;

/// Runs the template of pauses, or a pause that it bore; `args` are what follows its name on the command line: a word that shows in the
/// place of a pause's run directory, as long as those are.
///
/// To be called before anything else is initialised, from the process's only thread, with the engine's connection as standard input.
/// Exits with 0 once the engine is gone, or the pause was told to shut down; with 1 if it could not come up, after telling the engine why.
pub fn main<I: IntoIterator<Item = OsString>>(args: I) -> ! {
    let Some(argument) = args.into_iter().last() else {
        eprintln!("usage: pause PLACE_OF_RUN_DIRECTORY");
        std::process::exit(1)
    };
    let _ = rustix::thread::set_name(c"pause-template");
    let served = template::serve(&argument).map_err(|error| error.to_string());
    let outcome = served.and_then(|born| born.map_or(Ok(()), live));
    std::process::exit(match outcome {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("pause: {error}");
            1
        }
    })
}

fn live(newborn: Newborn) -> Result<(), String> {
    let Newborn {
        run_dir,
        connection: mut engine,
    } = newborn;
    // Containers that share its PID namespace find it under this name, whatever file it was executed from. It only is a name.
    let _ = rustix::thread::set_name(c"pause");
    let made = setup::enter(&run_dir, &mut engine).and_then(|sandbox| {
        server::Server::new(sandbox).map_err(setup::SetupError::step("make the event loop"))
    });
    match made {
        Ok(mut server) => {
            server.take(engine);
            server.run();
            Ok(())
        }
        Err(error) => {
            let reason = chain(&error);
            template::refuse(&mut engine, reason.clone());
            Err(reason)
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
