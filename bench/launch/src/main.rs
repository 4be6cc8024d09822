//! How long this runtime takes to start sandboxes and containers, beside crun doing the same and the bare minimum.
//!
//! Without images, network, API or node agent: what `bench-podstart` measures as a whole, this takes apart. The program is also
//! its containers' program and, unless another is named, its Pods' `pause`.

mod crun;
mod figures;
mod own;
mod stamp;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use runtime::PauseCommand;

use crate::figures::Line;

/// Measures sandboxes and containers. Needs root.
#[derive(Debug, Parser)]
struct Args {
    /// Program to execute as `pause`: a carob binary; this program unless given
    #[arg(long, value_name = "PATH")]
    pause: Option<PathBuf>,
    /// Containers of each kind
    #[arg(long, default_value_t = 30)]
    runs: usize,
    /// Milliseconds of rest before each: kernels do some things faster right after they were done
    #[arg(long, default_value_t = 60)]
    rest: u64,
    /// Leave crun out
    #[arg(long)]
    alone: bool,
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<String> = args
        .iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let outcome = match words.first().map(String::as_str) {
        Some("pause") => runtime::pause::main(args.into_iter().skip(1)),
        Some(stamp::NAME) => {
            let wait = words.get(1).and_then(|wait| wait.parse().ok());
            stamp::main(Duration::from_millis(wait.unwrap_or_default()));
            Ok(())
        }
        Some(crun::NAME) => crun::main(&words[1..]),
        _ => run(&Args::parse()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let layer = dir.path().join("layer");
    fs::create_dir(&layer)?;
    fs::copy(std::env::current_exe()?, layer.join("stamp"))?;
    let rest = Duration::from_millis(args.rest);
    let floor = floor(&layer.join("stamp"), args.runs, rest)?;
    let pause = PauseCommand {
        program: args
            .pause
            .as_ref()
            .map_or_else(std::env::current_exe, std::path::absolute)?,
        args: vec!["pause".into()],
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let world = own::World::new(dir.path(), pause)?;
    let measured = measure(args, dir.path(), &runtime, &world);
    let finished = runtime.block_on(world.finish());
    let (plain, filtered, crun, crun_filtered) = measured?;
    finished?;
    let line = |what, own, crun, goal| Line {
        what,
        own,
        crun,
        goal,
    };
    let none = Vec::new;
    let lines = [
        line(
            "vfork + exec, to the program's first line",
            floor,
            none(),
            None,
        ),
        line("sandbox, without network", plain.sandbox, none(), Some(2.0)),
        line("container: create", plain.create, crun.create, None),
        line("container: start", plain.start, crun.start, None),
        line(
            "container: launch to first line",
            plain.launch,
            crun.launch,
            Some(3.0),
        ),
        line(
            "  with a seccomp filter",
            filtered.launch,
            crun_filtered.launch,
            Some(3.0),
        ),
        line(
            "exec in a container to first line",
            plain.exec,
            crun.exec,
            Some(1.0),
        ),
        line(
            "last line to the runtime's event",
            plain.exit,
            none(),
            Some(1.0),
        ),
        line("stop and remove all", plain.remove, none(), None),
    ];
    print!("{}", figures::table(&lines));
    Ok(())
}

type Measured = (own::Samples, own::Samples, crun::Samples, crun::Samples);

fn measure(
    args: &Args,
    dir: &Path,
    runtime: &tokio::runtime::Runtime,
    world: &own::World,
) -> anyhow::Result<Measured> {
    let rest = Duration::from_millis(args.rest);
    let own = |seccomp: bool| -> anyhow::Result<own::Samples> {
        let mut samples = own::Samples::default();
        // The first one warms up.
        runtime.block_on(world.run(seccomp, &mut own::Samples::default()))?;
        for _ in 0..args.runs {
            std::thread::sleep(rest);
            runtime.block_on(world.run(seccomp, &mut samples))?;
        }
        Ok(samples)
    };
    let is_there = !args.alone && crun::is_installed();
    if !is_there {
        println!("crun is left out");
    }
    let crun = |seccomp: bool| {
        if is_there {
            crun::measure(dir, world.cgroup_root(), seccomp, args.runs, rest)
        } else {
            Ok(crun::Samples::default())
        }
    };
    Ok((own(false)?, own(true)?, crun(false)?, crun(true)?))
}

/// The least a new process costs: the program started by the standard library, without any container.
fn floor(program: &Path, runs: usize, rest: Duration) -> anyhow::Result<Vec<Duration>> {
    let mut samples = Vec::new();
    for n in 0..=runs {
        std::thread::sleep(rest);
        let begin = stamp::now();
        let child = Command::new(program)
            .args([stamp::NAME, "0"])
            .stdout(Stdio::piped())
            .spawn()?;
        let output = String::from_utf8(child.wait_with_output()?.stdout)?;
        let first = stamp::read(&output).first().copied();
        let first = first.context("the program wrote no time")?;
        if n > 0 {
            samples.push(first - begin);
        }
    }
    Ok(samples)
}
