//! Running a plugin's program: found among directories, given its request on standard input, and ended when it takes too long.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::result::refusal;

/// Most bytes of an answer.
const MOST: u64 = 1 << 20;
/// Most characters of what a plugin says that are told.
const TOLD: usize = 1024;

/// Why a plugin gave no answer.
#[derive(Debug, Error)]
pub(super) enum ExecError {
    #[error("invalid plugin name: {0}")]
    Name(String),
    #[error("failed to find plugin {name:?} in path [{path}]")]
    Missing { name: String, path: String },
    #[error("start {}", program.display())]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("talk to {}", program.display())]
    Talk {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("it did not answer within {} seconds", .0.as_secs_f32())]
    Slow(Duration),
    #[error("its answer is longer than {MOST} bytes")]
    Long,
    /// An error result.
    #[error("{0}")]
    Refused(String),
    #[error("netplugin failed ({status}): {said:?}")]
    Failed { status: String, said: String },
}

/// The program of a plugin: the first of that name in the directories.
///
/// # Errors
/// There is none, or the name leads elsewhere.
pub(super) fn find(name: &str, directories: &[PathBuf]) -> Result<PathBuf, ExecError> {
    if name.contains('/') || name.contains('\0') || name == "." || name == ".." {
        return Err(ExecError::Name(name.to_owned()));
    }
    let mut programs = directories.iter().map(|directory| directory.join(name));
    let found = programs.find(|program| program.is_file());
    found.ok_or_else(|| ExecError::Missing {
        name: name.to_owned(),
        path: path(directories),
    })
}

/// Directories as `CNI_PATH` has them.
pub(super) fn path(directories: &[PathBuf]) -> String {
    let texts: Vec<_> = directories.iter().map(|d| d.to_string_lossy()).collect();
    texts.join(":")
}

/// Runs a program and returns what it wrote to standard output. It and what it has started are killed when it takes longer than
/// `patience`, or when the future is dropped.
///
/// # Errors
/// It did not succeed, or said too much.
pub(super) async fn run(
    program: &Path,
    environment: Vec<(&'static str, String)>,
    stdin: Vec<u8>,
    patience: Duration,
) -> Result<Vec<u8>, ExecError> {
    let child = Command::new(program)
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut group = Group(child.map_err(|source| ExecError::Start {
        program: program.to_owned(),
        source,
    })?);
    let told = tokio::time::timeout(patience, talk(&mut group.0, &stdin)).await;
    let (stdout, stderr, status) =
        told.map_err(|_| ExecError::Slow(patience))?
            .map_err(|source| ExecError::Talk {
                program: program.to_owned(),
                source,
            })?;
    if stdout.len() as u64 > MOST {
        return Err(ExecError::Long);
    }
    match status {
        Some(status) if status.success() => Ok(stdout),
        Some(status) => Err(match refusal(&stdout) {
            Some(text) => ExecError::Refused(shortened(text.as_bytes())),
            None => ExecError::Failed {
                status: status.to_string(),
                said: shortened(if stderr.is_empty() { &stdout } else { &stderr }),
            },
        }),
        None => Err(ExecError::Long),
    }
}

type Told = (Vec<u8>, Vec<u8>, Option<std::process::ExitStatus>);

/// Gives it its request, takes what it says, and waits for its end; unless it says too much.
async fn talk(child: &mut Child, request: &[u8]) -> io::Result<Told> {
    let (mut stdin, stdout, stderr) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let ask = async {
        if let Some(mut stdin) = stdin.take() {
            // Whoever ends without reading its request says why.
            let _ = stdin.write_all(request).await;
        }
        io::Result::Ok(())
    };
    // Of its complaints there may be any number: the first are told.
    let ((), stdout, stderr) = tokio::try_join!(ask, read(stdout, false), read(stderr, true))?;
    let status = match stdout.len() as u64 > MOST {
        true => None,
        false => Some(child.wait().await?),
    };
    Ok((stdout, stderr, status))
}

/// Reads up to one byte more than may be; what is beyond is read on and dropped, if it is to be `drained`.
async fn read(from: Option<impl AsyncRead + Unpin>, drained: bool) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        (&mut from).take(MOST + 1).read_to_end(&mut bytes).await?;
        if drained {
            tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
        }
    }
    Ok(bytes)
}

fn shortened(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim().chars().take(TOLD).collect()
}

/// A plugin, and the programs it has started in turn: none outlives it.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever has been waited for has no id, and the group may be somebody else's.
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::cni::testing::program;

    async fn ask(script: &str, patience: Duration) -> Result<String, String> {
        let dir = tempfile::tempdir().expect("a directory");
        program(dir.path(), "plugin", script);
        let found = find("plugin", &["/nowhere".into(), dir.path().into()]).expect("is there");
        let environment = vec![("CNI_COMMAND", "ADD".to_owned())];
        let ran = run(&found, environment, b"{\"a\": 1}".to_vec(), patience).await;
        ran.map(|out| String::from_utf8_lossy(&out).into_owned())
            .map_err(|error| match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            })
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_plugin_gets_its_request_and_answers() {
        let told = ask("cat; printf ' %s' $CNI_COMMAND", LONG).await;
        assert_eq!(told.as_deref(), Ok("{\"a\": 1} ADD"));
        let deaf = ask("exec <&-; echo done", LONG).await;
        assert_eq!(deaf.as_deref(), Ok("done\n"));
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told() {
        for (script, why) in [
            (
                r#"echo '{"code": 7, "msg": "no", "details": "never"}'; exit 1"#,
                "no; never",
            ),
            (
                "echo oh >&2; exit 3",
                "netplugin failed (exit status: 3): \"oh\"",
            ),
            (
                "echo garbage; exit 1",
                "netplugin failed (exit status: 1): \"garbage\"",
            ),
            ("exit 1", "netplugin failed (exit status: 1): \"\""),
            ("kill -9 $$", "netplugin failed (signal: 9"),
            ("exec yes", "its answer is longer than"),
        ] {
            let error = ask(script, LONG).await.expect_err(why);
            assert!(error.starts_with(why), "{error}, not {why}");
        }
        // Complaints without end hold nobody up.
        let loud = ask("head -c 9000000 /dev/zero >&2; echo fine", LONG).await;
        assert_eq!(loud.as_deref(), Ok("fine\n"));
    }

    #[tokio::test]
    async fn a_plugin_that_hangs_is_killed_with_its_children() {
        let dir = tempfile::tempdir().expect("a directory");
        let note = dir.path().join("pid");
        let began = Instant::now();
        // The child waits for standard input that nobody writes.
        let script = format!(
            "mkfifo {0}.fifo; cat {0}.fifo & echo $! > {0}; wait",
            note.display()
        );
        let error = ask(&script, Duration::from_secs(1))
            .await
            .expect_err("it hangs");
        assert!(error.starts_with("it did not answer within 1 "), "{error}");
        assert!(began.elapsed() < LONG);
        let pid = std::fs::read_to_string(&note).expect("it has a child");
        let pid = pid
            .trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        let has_ended = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            stat.is_ok_and(|stat| stat.contains(") Z "))
                || rustix::process::test_kill_process(pid).is_err()
        };
        while !has_ended() {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn programs_are_found_in_their_directories_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("folder")).expect("makes");
        let path = [dir.path().to_owned(), "/other".into()];
        for (name, why) in [
            ("../sh", "invalid plugin name: ../sh"),
            ("/bin/sh", "invalid plugin name: /bin/sh"),
            ("..", "invalid plugin name: .."),
            ("folder", "failed to find plugin \"folder\" in path ["),
            ("none", "failed to find plugin \"none\" in path ["),
        ] {
            let error = find(name, &path).expect_err(why).to_string();
            assert!(error.starts_with(why), "{error}");
        }
        std::fs::write(dir.path().join("text"), "no program").expect("writes");
        let found = find("text", &path).expect("is there");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let started = runtime.block_on(run(&found, Vec::new(), Vec::new(), LONG));
        assert!(
            matches!(started, Err(ExecError::Start { .. })),
            "it cannot be executed"
        );
    }
}
