//! The verbs, one file each. A verb reads its arguments, asks the server, and prints.

mod apply;
mod create;
mod delete;
mod exec;
mod get;
mod logs;
mod metadata;
mod patch;
mod write;

use std::process::ExitCode;

use self::metadata::Which;
use crate::args::{Global, Verb};
use crate::connect::Server;

/// Runs a verb against the server the flags and files name.
pub async fn run(verb: Verb, global: &Global) -> anyhow::Result<ExitCode> {
    let server = Server::connect(global).await?;
    match verb {
        Verb::Get(args) => get::get(&server, &args).await,
        Verb::Apply(args) => apply::apply(&server, &args).await,
        Verb::Delete(args) => delete::delete(&server, &args).await,
        Verb::Create(args) => create::create(&server, &args).await,
        Verb::Label(args) => metadata::change(&server, &args, Which::Labels).await,
        Verb::Annotate(args) => metadata::change(&server, &args, Which::Annotations).await,
        Verb::Logs(args) => logs::logs(&server, &args).await,
        Verb::Exec(args) => exec::exec(&server, &args).await,
        Verb::Attach(args) => exec::attach(&server, &args).await,
        Verb::Patch(args) => patch::patch(&server, &args).await,
    }
}
