//! The verbs, one file each. A verb reads its arguments, asks the server, and prints.

mod about;
pub(crate) mod apply;
mod cp;
mod create;
mod debug;
pub(crate) mod delete;
mod describe;
mod events;
mod exec;
mod expose;
mod get;
mod logs;
mod metadata;
mod patch;
mod plan;
mod port_forward;
mod retry;
mod rollout;
mod scale;
mod set;
mod top;
mod wait;
mod write;

use std::process::ExitCode;

use self::metadata::Which;
use crate::args::{Global, Verb};
use crate::connect::Server;
use crate::signals::Signals;

/// Runs a verb against the server the flags and files name.
pub async fn run(verb: Verb, global: &Global) -> anyhow::Result<ExitCode> {
    let server = || Server::connect(global);
    match verb {
        Verb::Version(args) => about::version(&args, global).await,
        Verb::Config(command) => about::config(&command, global),
        Verb::Kubeconfig(args) => about::kubeconfig(&args, global),
        Verb::Wait(args) => wait::wait(&server().await?, &args).await,
        Verb::Events(args) => events::events(&server().await?, &args).await,
        Verb::Top(what) => top::top(&server().await?, &what).await,
        Verb::ApiResources(args) => about::api_resources(&server().await?, &args).await,
        Verb::Get(args) => get::get(&server().await?, &args).await,
        Verb::Plan(args) => plan::plan(&args, global).await,
        Verb::Play(args) => crate::play::run(server().await?, &args, Signals::new()?).await,
        Verb::Describe(args) => describe::describe(&server().await?, &args).await,
        Verb::Apply(args) => apply::apply(&server().await?, &args).await,
        Verb::Delete(args) => delete::delete(&server().await?, &args).await,
        Verb::Create(args) => create::create(&server().await?, &args).await,
        Verb::Label(args) => metadata::change(&server().await?, &args, Which::Labels).await,
        Verb::Annotate(args) => metadata::change(&server().await?, &args, Which::Annotations).await,
        Verb::Logs(args) => logs::logs(&server().await?, &args).await,
        Verb::Exec(args) => exec::exec(&server().await?, &args).await,
        Verb::Cp(args) => cp::cp(server().await?, &args).await,
        Verb::Debug(args) => debug::debug(&server().await?, &args).await,
        Verb::Retry(args) => retry::retry(&server().await?, &args).await,
        Verb::Attach(args) => exec::attach(&server().await?, &args).await,
        Verb::PortForward(args) => port_forward::port_forward(server().await?, &args).await,
        Verb::Rollout(command) => rollout::rollout(&server().await?, &command).await,
        Verb::Set(command) => set::set(&server().await?, &command).await,
        Verb::Expose(args) => expose::expose(&server().await?, &args).await,
        Verb::Scale(args) => scale::scale(&server().await?, &args).await,
        Verb::Patch(args) => patch::patch(&server().await?, &args).await,
    }
}
