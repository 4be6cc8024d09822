//! The binary: parse, wire, run, drain. The only place where services and effects meet.
//!
//! The same file is a Pod's `pause`, entered before anything else is initialised, so that it stays small.

mod down;
mod engine;
mod instance;
mod node;
mod settings;
mod up;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

use crate::settings::Settings;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
        Command::Up(args) => up::foreground(settings.with(&args)),
        Command::Down(args) => down::down(&settings, &args),
        Command::Verb(verb) => return run_verb(verb, &typed.global),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// A verb needs one thread and no settings of the engine.
fn run_verb(verb: cli::Verb, global: &cli::Global) -> anyhow::Result<ExitCode> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(cli::run(verb, global))
}
