//! The binary: parse, wire, run, drain. The only place where services and effects meet.
//!
//! The same file is a Pod's `pause`, entered before anything else is initialised, so that it stays small.

mod agent;
mod down;
mod effects;
mod engine;
mod foreground;
mod images;
mod instance;
mod join;
mod node;
mod play;
mod settings;
mod up;

use std::pin::Pin;
use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

use crate::settings::Settings;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Most time that threads have after a command has ended.
const LINGER: std::time::Duration = std::time::Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|verb| verb == engine::PAUSE) {
        runtime::pause::main(arguments.into_iter().skip(2));
    }
    match run(Cli::parse_from(arguments)) {
        Ok(code) => code,
        Err(error) => cli::report(&error),
    }
}

fn run(typed: Cli) -> anyhow::Result<ExitCode> {
    let settings = Settings::resolve(&typed.global)?;
    match typed.command {
        Command::Up(args) if args.detach => up::detached(&settings, &args),
        Command::Up(args) => up::foreground(&settings.with(&args)?),
        Command::Node(args) if args.detach => join::detached(&settings, &typed.global, &args),
        Command::Node(args) => join::foreground(&settings.with_node(&args)?, &typed.global),
        Command::Down(args) => down::down(&settings, &args),
        Command::Image(command) => return block_on(Box::pin(images::run(command, &settings))),
        Command::Verb(cli::Verb::Play(args)) => {
            return play::play(args, &typed.global, settings);
        }
        Command::Verb(verb) => return block_on(Box::pin(cli::run(verb, &typed.global))),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a verb: it needs one thread and no settings of the engine. Behind a pointer, because the async runtime would have a copy of
/// the whole verb for each of its kinds.
fn block_on<T>(
    command: Pin<Box<dyn Future<Output = anyhow::Result<T>> + '_>>,
) -> anyhow::Result<T> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(command);
    // What blocks for a moment comes to its end; input that nobody wants any more is not waited for.
    runtime.shutdown_timeout(LINGER);
    ended
}

/// Everything that touches the machine does so as root.
fn require_root() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        anyhow::bail!("carob needs root: namespaces, mounts and cgroups are made by it alone");
    }
    Ok(())
}
