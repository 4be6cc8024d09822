//! The commands. What they found or made goes to standard output, what they say about it to standard error.

use std::fs::{self, File};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use cli::{
    ImageCommand, ImageImportArgs, ImageLoadArgs, ImagePruneArgs, ImagePullArgs, ImageRmArgs,
    ImageSaveArgs, ImageTagArgs,
};
use ports::images::Image;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde::de::DeserializeOwned;

use super::body;
use super::client::Client;
use super::progress::Progress;
use super::{Call, Credentials, Pruned, Removed, Told, change, show};
use crate::settings::Settings;

/// Carries a command out.
///
/// # Errors
/// What made it fail as a whole; of several images those that failed are told at once, and the exit code says so.
pub(crate) async fn run(command: ImageCommand, settings: &Settings) -> anyhow::Result<ExitCode> {
    crate::require_root()?;
    match command {
        ImageCommand::Pull(args) => return pull(settings, args).await,
        ImageCommand::Rm(args) => return remove(settings, args).await,
        ImageCommand::Ls(args) => {
            let images: Vec<Image> = Client::connect(settings).await?.call(&Call::List).await?;
            print(&show::list(&images, &args)?)
        }
        ImageCommand::Load(args) => load(settings, &args).await,
        ImageCommand::Save(args) => save(settings, args).await,
        ImageCommand::Import(args) => import(settings, args).await,
        ImageCommand::Tag(args) => tag(settings, args).await,
        ImageCommand::Prune(args) => prune(settings, &args).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

async fn pull(settings: &Settings, args: ImagePullArgs) -> anyhow::Result<ExitCode> {
    check_platform(args.platform.as_deref())?;
    let creds = args.creds.as_deref().map(credentials).transpose()?;
    let mut client = Client::connect(settings).await?;
    let mut code = ExitCode::SUCCESS;
    for reference in args.images {
        let credentials = creds.as_ref().map(|(username, password)| Credentials {
            username: username.clone(),
            password: password.clone(),
        });
        if let Err(error) = pull_one(&mut client, reference, credentials, args.quiet).await {
            code = cli::report(&error);
        }
    }
    Ok(code)
}

async fn pull_one(
    client: &mut Client,
    reference: String,
    credentials: Option<Credentials>,
    quiet: bool,
) -> anyhow::Result<()> {
    let mut progress = Progress::new(quiet);
    let mut image = None;
    let call = Call::Pull {
        reference,
        credentials,
    };
    let each = |told| {
        match told {
            Told::Progress(step) => progress.note(&step),
            Told::Image(pulled) => image = Some(pulled),
            Told::Failed(failure) => return Err(failure.into()),
        }
        Ok(())
    };
    client.pull(&call, each).await?;
    let image = image.context("the pull was broken off")?;
    print(&format!("{}\n", image.id))
}

/// The store keeps images that this machine can run.
fn check_platform(platform: Option<&str>) -> anyhow::Result<()> {
    let own = format!("linux/{}", crate::node::architecture());
    match platform {
        Some(platform) if platform != own && !platform.starts_with(&format!("{own}/")) => {
            bail!("this machine runs images for {own} only, not for {platform}")
        }
        _ => Ok(()),
    }
}

/// `USER:PASSWORD`; a password that is left out is asked for.
fn credentials(text: &str) -> anyhow::Result<(String, String)> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, password.to_owned()),
        None => (text, ask_password()?),
    };
    if user.is_empty() {
        bail!("--creds has no user name");
    }
    Ok((user.to_owned(), password))
}

fn ask_password() -> anyhow::Result<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        bail!("--creds has no password, and there is no terminal to ask for it");
    }
    eprint!("Password: ");
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Now, &silent)?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Now, &before)?;
    eprintln!();
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

async fn remove(settings: &Settings, args: ImageRmArgs) -> anyhow::Result<ExitCode> {
    let mut client = Client::connect(settings).await?;
    // All of them means each with all of its names.
    let (references, force) = if args.all {
        let images: Vec<Image> = client.call(&Call::List).await?;
        (images.into_iter().map(|image| image.id).collect(), true)
    } else {
        (args.images, args.force)
    };
    let mut code = ExitCode::SUCCESS;
    for reference in references {
        match client.call(&Call::Remove { reference, force }).await {
            Ok(removed) => print(&told(&removed))?,
            Err(error) => code = cli::report(&error),
        }
    }
    Ok(code)
}

fn told(Removed { untagged, deleted }: &Removed) -> String {
    let untagged = untagged.iter().map(|name| format!("Untagged: {name}\n"));
    let deleted = deleted.iter().map(|id| format!("Deleted: {id}\n"));
    untagged.chain(deleted).collect()
}

async fn load(settings: &Settings, args: &ImageLoadArgs) -> anyhow::Result<()> {
    let mut client = Client::connect(settings).await?;
    let images: Vec<Image> = match args.input.as_deref() {
        Some(path) if path.is_dir() => {
            let path = path.to_owned();
            let write = move |out: &mut body::BodyWriter| archive_directory(&path, out);
            send(&mut client, &Call::Load, write).await?
        }
        path => send_file(&mut client, &Call::Load, path).await?,
    };
    if args.quiet {
        return Ok(());
    }
    let line = |image: &Image| match image.repo_tags.as_slice() {
        [] => format!("Loaded image ID: {}\n", image.id),
        tags => tags
            .iter()
            .map(|tag| format!("Loaded image: {tag}\n"))
            .collect(),
    };
    print(&images.iter().map(line).collect::<String>())
}

async fn import(settings: &Settings, args: ImageImportArgs) -> anyhow::Result<()> {
    let config = change::config(&args.change)?;
    let mut client = Client::connect(settings).await?;
    let name = args.image;
    let call = Call::Import { name, config };
    let image: Image = send_file(&mut client, &call, Some(&args.path)).await?;
    print(&format!("{}\n", image.id))
}

async fn save(settings: &Settings, args: ImageSaveArgs) -> anyhow::Result<()> {
    let call = Call::Save {
        references: args.images,
    };
    let path = args.output.filter(|path| path != Path::new("-"));
    let Some(path) = path else {
        if io::stdout().is_terminal() {
            bail!("refusing to write an archive to a terminal: use --output or redirect");
        }
        let mut client = Client::connect(settings).await?;
        let mut out = io::stdout().lock();
        client
            .fetch(&call, |bytes| Ok(out.write_all(bytes)?))
            .await?;
        return Ok(out.flush()?);
    };
    let mut client = Client::connect(settings).await?;
    let what = || format!("write {}", path.display());
    // A device or a pipe takes the bytes as they come; a file is whole or not there.
    if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
        let mut out = File::options().write(true).open(&path).with_context(what)?;
        return client
            .fetch(&call, |bytes| out.write_all(bytes).with_context(what))
            .await;
    }
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    let mut file =
        tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new("."))).with_context(what)?;
    client
        .fetch(&call, |bytes| file.write_all(bytes).with_context(what))
        .await?;
    file.persist(&path).with_context(what)?;
    Ok(())
}

async fn tag(settings: &Settings, args: ImageTagArgs) -> anyhow::Result<()> {
    let mut client = Client::connect(settings).await?;
    for target in args.names {
        let source = args.image.clone();
        let _tagged: Image = client.call(&Call::Tag { source, target }).await?;
    }
    Ok(())
}

async fn prune(settings: &Settings, args: &ImagePruneArgs) -> anyhow::Result<()> {
    let what = if args.all {
        "all images that no container uses"
    } else {
        "all images that have no name and that no container uses"
    };
    if !args.force && !agrees(&format!("This will remove {what}. Go on? [y/N] "))? {
        return Ok(());
    }
    let call = Call::Prune { all: args.all };
    let pruned: Pruned = Client::connect(settings).await?.call(&call).await?;
    for image in &pruned.images {
        let names = image.repo_tags.iter().chain(&image.repo_digests);
        print(&told(&Removed {
            untagged: names.cloned().collect(),
            deleted: Some(image.id.clone()),
        }))?;
    }
    eprintln!("Total reclaimed space: {}", show::size(pruned.freed_bytes));
    Ok(())
}

/// Asks; an end of input is a no.
fn agrees(question: &str) -> anyhow::Result<bool> {
    eprint!("{question}");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

/// Sends a file, or standard input for `-` and nothing.
async fn send_file<T: DeserializeOwned>(
    client: &mut Client,
    call: &Call,
    path: Option<&Path>,
) -> anyhow::Result<T> {
    let mut source: Box<dyn Read + Send> = match path.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            Box::new(File::open(path).with_context(|| format!("open {}", path.display()))?)
        }
        None if io::stdin().is_terminal() => {
            bail!("no archive: name a file, or send one to standard input")
        }
        None => Box::new(io::stdin()),
    };
    let write = move |out: &mut body::BodyWriter| io::copy(&mut source, out).map(drop);
    send(client, call, write).await
}

/// Sends what `write` writes on a thread of its own: a read of standard input cannot be given up.
async fn send<T: DeserializeOwned>(
    client: &mut Client,
    call: &Call,
    write: impl FnOnce(&mut body::BodyWriter) -> io::Result<()> + Send + 'static,
) -> anyhow::Result<T> {
    let (mut writer, body) = body::written();
    std::thread::spawn(move || {
        let failing = writer.failing();
        if let Err(error) = write(&mut writer).and_then(|()| writer.flush()) {
            // Refused already, if nobody reads.
            let _ = failing.blocking_send(Err(error));
        }
    });
    client.ask(call, body).await
}

/// A directory as an archive; links are taken as links.
fn archive_directory(path: &Path, out: &mut body::BodyWriter) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    archive.follow_symlinks(false);
    archive.append_dir_all(".", path)?;
    archive.finish()
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_split_at_the_first_colon() {
        let (user, password) = credentials("me:a:b").expect("both");
        assert_eq!((user.as_str(), password.as_str()), ("me", "a:b"));
        assert!(credentials(":x").is_err());
    }

    #[test]
    fn only_this_machines_platform_is_taken() {
        let own = format!("linux/{}", crate::node::architecture());
        assert!(check_platform(None).is_ok());
        assert!(check_platform(Some(&own)).is_ok());
        let error = check_platform(Some("plan9/mips")).expect_err("another");
        assert!(error.to_string().contains(&own), "{error}");
    }
}
