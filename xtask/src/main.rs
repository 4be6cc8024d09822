//! `cargo xtask`: the front door for developers. Everything CI does is one of these commands.

mod conformance;
mod demo;
mod deny;
mod engine;
mod images;
mod run;
mod schema;
mod setup;
mod test;
mod tidy;
mod tools;
mod vm;

use anyhow::{Context, bail};

const USAGE: &str = "usage: cargo xtask COMMAND

  demo             build, start an engine, run a multi-container Pod, show it, and leave nothing
  test [PART...]   install what is missing and run what CI runs; PART: tidy, deny, schema, crates, e2e,
                   golden, conformance
  properties [CASES]
                   try what holds of every Pod (invariants of the lifecycle specification) with so many cases, or
                   100,000
  setup            install what is missing: Debian packages, cargo-deny, kubectl, test images' programs
  build [PACKAGE...]
                   build the release binary, and packages beside it, and say where it is
  images           serve stand-in images from a registry on loopback, or fill --registry HOST:PORT
  conformance [--nodes 2] [LABEL-FILTER | --fast]
                   run upstream's end-to-end suite against an engine, or one and a second node; --fast: what is known
                   to pass, and quickly
  schema           generate the schema table from upstream's published modules
  tidy             check the house rules
  vm [PART...]     boot virtual machines for tests that need a kernel of their own; PART: runtime, volumes,
                   powercut, powercut-volumes, nfs
";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = dispatch(&arguments) {
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}

fn dispatch(arguments: &[String]) -> anyhow::Result<()> {
    std::env::set_current_dir(run::root()).context("go to the workspace's root")?;
    match arguments
        .split_first()
        .map(|(command, rest)| (command.as_str(), rest))
    {
        Some(("setup", [])) => setup::install()
            .and_then(|()| deny::install())
            .and_then(|_| tools::build_all())
            .map(drop),
        Some(("build", packages)) => {
            run::build_release(packages).map(|binary| println!("{}", binary.display()))
        }
        Some(("demo", [])) => demo::demo(),
        Some(("test", parts)) => test::test(parts),
        Some(("properties", cases)) => test::properties(cases),
        Some(("images", rest)) => setup::install().and_then(|()| images::command(rest)),
        Some(("conformance", rest)) => conformance::command(rest),
        Some(("schema", [])) => schema::generate(),
        Some(("tidy", [])) => tidy::check(),
        Some(("vm", parts)) => vm::run(parts),
        None | Some(("help" | "-h" | "--help", _)) => {
            print!("{USAGE}");
            Ok(())
        }
        Some((command, _)) => bail!("unknown command or arguments: {command}\n\n{USAGE}"),
    }
}
