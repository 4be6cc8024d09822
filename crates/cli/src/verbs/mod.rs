//! The verbs, one file each. A verb reads its arguments, asks the server, and prints.

mod get;

use std::process::ExitCode;

use crate::args::{Global, Verb};
use crate::connect::Server;

/// Runs a verb against the server the flags and files name.
pub async fn run(verb: Verb, global: &Global) -> anyhow::Result<ExitCode> {
    let server = Server::connect(global).await?;
    match verb {
        Verb::Get(args) => get::get(&server, &args).await,
    }
}
