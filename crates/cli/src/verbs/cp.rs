//! `cp` (§14.10): tar over exec, so the container must have `tar`.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::mpsc;

use super::exec::{one_pod, path_of};
use crate::args::CpArgs;
use crate::connect::Server;
use crate::failure::Exit;
use crate::pods;
use crate::session::{self, End, Input, Output, Streams};
use crate::terminal;

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Local(PathBuf),
    /// A namespace if one is named, a Pod, a path.
    Remote(Option<String>, String, String),
}

/// `carob cp`
pub(crate) async fn cp(mut server: Server, args: &CpArgs) -> anyhow::Result<ExitCode> {
    let (from, to) = (place(&args.source)?, place(&args.destination)?);
    let ((Place::Remote(namespace, pod, _), _) | (_, Place::Remote(namespace, pod, _))) =
        (&from, &to)
    else {
        bail!("one of src or dest must be a remote file specification");
    };
    if let Some(namespace) = namespace {
        server.namespace.clone_from(namespace);
    }
    let pod = one_pod(&server, pod, Duration::from_secs(60)).await?;
    let choice = pods::choose(&pod, args.container.as_deref())?;
    if let Some(note) = choice.note {
        eprintln!("{note}");
    }
    let remote = Remote {
        path: path_of(&server, &pod),
        container: choice.container,
        server: &server,
    };
    match (from, to) {
        (Place::Local(from), Place::Remote(_, _, to)) => {
            remote.upload(&from, &to, args.no_preserve).await?;
        }
        (Place::Remote(_, _, from), Place::Local(to)) => remote.download(&from, to).await?,
        _ => bail!("one of src or dest must be a local file specification"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads `[[NAMESPACE/]POD:]PATH`. What begins with a dot or a slash is a file here, whatever colons follow.
fn place(text: &str) -> anyhow::Result<Place> {
    match text.split_once(':') {
        Some((pod, path)) if !text.starts_with(['.', '/']) => {
            if pod.is_empty() || path.is_empty() {
                bail!("filepath must not be empty");
            }
            let (namespace, pod) = match pod.split_once('/') {
                Some((namespace, pod)) => (Some(namespace.to_owned()), pod),
                None => (None, pod),
            };
            Ok(Place::Remote(namespace, pod.to_owned(), path.to_owned()))
        }
        _ if text.is_empty() => bail!("filepath must not be empty"),
        _ => Ok(Place::Local(text.into())),
    }
}

struct Remote<'a> {
    server: &'a Server,
    path: String,
    container: String,
}

impl Remote<'_> {
    async fn run(
        &self,
        command: &[&str],
        input: Option<mpsc::Receiver<Input>>,
        output: impl FnMut(Output, &[u8]) -> io::Result<()>,
    ) -> anyhow::Result<u8> {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let streams = Streams {
            stdin: input.is_some(),
            tty: false,
        };
        let path = session::path(&self.path, &self.container, Some(&command), streams);
        let connection = session::connect(self.server, &path).await?;
        // Without input there is a way that nothing comes through, open as long as the session.
        let (_open, nothing) = mpsc::channel(1);
        match session::run(connection, input.unwrap_or(nothing), output).await? {
            End::Exit(code) => Ok(code),
            End::Failure(message) => bail!("{message}"),
        }
    }

    async fn upload(&self, from: &Path, to: &str, no_preserve: bool) -> anyhow::Result<()> {
        if !from.exists() {
            bail!("{} doesn't exist in local filesystem", from.display());
        }
        let name = |path: &Path| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        let is_dir = self.run(&["test", "-d", to], None, |_, _| Ok(())).await? == 0;
        let to = match name(&from.canonicalize()?) {
            Some(name) if is_dir => Path::new(to).join(name),
            _ => PathBuf::from(to),
        };
        let inside = name(&to).context("the destination has no name")?;
        let dir = match to.parent().map(|dir| dir.to_string_lossy().into_owned()) {
            Some(dir) if !dir.is_empty() => dir,
            _ => ".".to_owned(),
        };
        let (sender, input) = mpsc::channel(4);
        let from = from.to_owned();
        let packing = tokio::task::spawn_blocking(move || {
            let mut to = Sending(sender);
            let packed = pack(&from, &inside, &mut to);
            // The other side must see an end even of half an archive.
            let ended = to.flush();
            packed.and(ended)
        });
        let mut command = vec!["tar", "-xmf", "-", "-C", &dir];
        if no_preserve {
            command.extend(["--no-same-permissions", "--no-same-owner"]);
        }
        let code = self.run(&command, Some(input), terminal::show).await?;
        match packing.await? {
            // The other side went away first and has said why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            packed => packed.context("read local files")?,
        }
        ended(code)
    }

    async fn download(&self, from: &str, to: PathBuf) -> anyhow::Result<()> {
        let inside = from
            .trim_start_matches('/')
            .trim_end_matches('/')
            .to_owned();
        let to = match Path::new(&inside).file_name() {
            Some(name) if to.is_dir() => to.join(name),
            _ => to,
        };
        let (sender, chunks) = std::sync::mpsc::sync_channel(16);
        let unpacking =
            tokio::task::spawn_blocking(move || unpack(Receiving::new(chunks), &inside, &to));
        let code = self
            .run(
                &["tar", "cf", "-", from],
                None,
                move |output, bytes| match output {
                    // When unpacking has failed it says why itself.
                    Output::Out => {
                        let _ = sender.send(bytes.to_vec());
                        Ok(())
                    }
                    Output::Err => terminal::show(output, bytes),
                },
            )
            .await?;
        ended(code)?;
        unpacking.await?.context("write local files")
    }
}

fn ended(code: u8) -> anyhow::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(Exit {
            message: format!("command terminated with exit code {code}"),
            code,
        }
        .into()),
    }
}

/// Writes a file or a directory as a tar archive under another name; links stay links.
fn pack(from: &Path, name: &str, to: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    if from.is_dir() {
        archive.append_dir_all(name, from)?;
    } else {
        let mut file = std::fs::File::open(from)?;
        archive.append_file(name, &mut file)?;
    }
    archive.into_inner().map(drop)
}

/// Unpacks the part of an archive below `inside` to a place of another name. Nothing is written outside of it, and links are left
/// out: the container made the archive, and is not to be trusted with the files here.
fn unpack(from: impl Read, inside: &str, to: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(from);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Ok(rest) = path.strip_prefix(inside) else {
            eprintln!("warning: file {path:?} is outside target destination, skipping");
            continue;
        };
        let is_plain = rest
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        let kind = entry.header().entry_type();
        if !is_plain {
            eprintln!("warning: file {path:?} is outside target destination, skipping");
        } else if kind.is_dir() {
            std::fs::create_dir_all(to.join(rest))?;
        } else if kind.is_file() {
            let target = if rest.as_os_str().is_empty() {
                to.to_owned()
            } else {
                to.join(rest)
            };
            if let Some(dir) = target.parent() {
                std::fs::create_dir_all(dir)?;
            }
            let mut file = std::fs::File::create(&target)?;
            io::copy(&mut entry, &mut file)?;
        } else {
            eprintln!("warning: skipping {path:?}, which is neither file nor directory");
        }
    }
    Ok(())
}

/// Writes into a session's input, from a thread of its own.
struct Sending(mpsc::Sender<Input>);

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(Input::Bytes(bytes.to_vec()))?;
        Ok(bytes.len())
    }

    /// Ends the input.
    fn flush(&mut self) -> io::Result<()> {
        self.send(Input::End)
    }
}

impl Sending {
    fn send(&self, input: Input) -> io::Result<()> {
        self.0
            .blocking_send(input)
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// Reads a session's output, on a thread of its own.
struct Receiving {
    chunks: std::sync::mpsc::Receiver<Vec<u8>>,
    rest: io::Cursor<Vec<u8>>,
}

impl Receiving {
    fn new(chunks: std::sync::mpsc::Receiver<Vec<u8>>) -> Self {
        Receiving {
            chunks,
            rest: io::Cursor::default(),
        }
    }
}

impl Read for Receiving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.rest.read(into)?;
            if length > 0 {
                return Ok(length);
            }
            match self.chunks.recv() {
                Ok(chunk) => self.rest = io::Cursor::new(chunk),
                Err(_) => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let remote = |namespace: Option<&str>, pod: &str, path: &str| {
            Place::Remote(namespace.map(str::to_owned), pod.into(), path.into())
        };
        for (text, expected) in [
            ("web:/etc/x", remote(None, "web", "/etc/x")),
            ("ns/web:x", remote(Some("ns"), "web", "x")),
            ("./a:b", Place::Local("./a:b".into())),
            ("/a", Place::Local("/a".into())),
        ] {
            assert_eq!(place(text).expect(text), expected);
        }
        for bad in ["", "web:", ":x"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn archives_go_there_and_back_and_stay_inside() {
        let dir = tempfile::tempdir().expect("a directory");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("deep")).expect("made");
        std::fs::write(from.join("deep/file"), "content").expect("written");
        std::os::unix::fs::symlink("/etc/passwd", from.join("link")).expect("linked");
        let mut archive = Vec::new();
        pack(&from, "name", &mut archive).expect("packs");
        unpack(archive.as_slice(), "name", &to).expect("unpacks");
        assert_eq!(
            std::fs::read_to_string(to.join("deep/file")).expect("there"),
            "content"
        );
        assert!(!to.join("link").exists(), "links are left out");
        unpack(archive.as_slice(), "other", &dir.path().join("none")).expect("skips");
        assert!(
            !dir.path().join("none").exists(),
            "what was not asked for is left out"
        );
    }
}
