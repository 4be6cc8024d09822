//! Reading log files in CRI's format (spec `§13`), and following them: inotify(7) tells of new lines, the worker's view of the
//! container tells when there will be no more.
//!
//! One task reads a log and hands bytes to the stream; it ends when the stream is dropped.

mod follow;
mod record;
mod rotate;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ports::node::LogOptions;
use ports::runtime::ContainerState;
use ports::streams::LogStream;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::agent::View;

use follow::Follower;
use record::Printer;

pub(crate) use rotate::rotate;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// Chunks that wait for a slow reader.
const QUEUE: usize = 4;

type Sink = mpsc::Sender<std::io::Result<Bytes>>;

/// A stream of these words alone.
pub(crate) fn text(words: String) -> LogStream {
    Box::pin(futures::stream::once(async move { Ok(Bytes::from(words)) }))
}

/// Streams the log of a run.
pub(crate) fn stream(
    path: PathBuf,
    options: LogOptions,
    view: watch::Receiver<Arc<View>>,
    id: String,
) -> LogStream {
    let (sink, chunks) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        if let Err(error) = read(&path, &options, view, &id, &sink).await {
            // Nobody may be listening any more.
            let _ = sink.send(Err(error)).await;
        }
    });
    Box::pin(ReceiverStream::new(chunks))
}

async fn read(
    path: &Path,
    options: &LogOptions,
    view: watch::Receiver<Arc<View>>,
    id: &str,
    sink: &Sink,
) -> std::io::Result<()> {
    let mut follower = if options.follow {
        Some(Follower::new(path, view, id)?)
    } else {
        None
    };
    let mut file = tokio::fs::File::open(path).await?;
    let end = file.metadata().await?.len();
    let start = match options.tail_lines {
        Some(lines) => tail(&mut file, end, lines).await?,
        None => 0,
    };
    file.seek(SeekFrom::Start(start)).await?;
    let mut printer = Printer::new(options);
    // Without follow, what is written from now on is not read.
    let mut left = if options.follow {
        u64::MAX
    } else {
        end - start
    };
    let mut chunk = vec![0; CHUNK];
    loop {
        let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let n = file.read(&mut chunk[..most]).await?;
        left -= n as u64;
        if n > 0 {
            let out = printer.print(&chunk[..n]);
            if !out.is_empty() && sink.send(Ok(out.into())).await.is_err() || printer.is_done() {
                return Ok(());
            }
            continue;
        }
        let Some(follower) = &mut follower else {
            return Ok(());
        };
        tokio::select! {
            () = sink.closed() => return Ok(()),
            next = follower.wait(path, &file) => match next? {
                follow::Next::More => {}
                follow::Next::Reopened(new) => file = new,
                follow::Next::End => return Ok(()),
            },
        }
    }
}

/// Where the last `lines` records begin.
async fn tail(file: &mut tokio::fs::File, end: u64, lines: u64) -> std::io::Result<u64> {
    if lines == 0 {
        return Ok(end);
    }
    let (mut at, mut found) = (end, 0);
    let mut chunk = vec![0; CHUNK];
    while at > 0 {
        let n = usize::try_from(at).unwrap_or(CHUNK).min(CHUNK);
        at -= n as u64;
        file.seek(SeekFrom::Start(at)).await?;
        file.read_exact(&mut chunk[..n]).await?;
        for (offset, _) in chunk[..n]
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, b)| **b == b'\n')
        {
            let after = at + offset as u64 + 1;
            // The newline at the very end ends the last record and begins none.
            if after < end {
                found += 1;
                if found == lines {
                    return Ok(after);
                }
            }
        }
    }
    Ok(0)
}

/// Whether the container of this id still runs.
fn runs(view: &View, id: &str) -> bool {
    let record = view.containers.iter().find(|c| c.id == id);
    record.is_some_and(|c| {
        matches!(
            c.state,
            ContainerState::Running { .. } | ContainerState::Created
        )
    })
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use ports::runtime::{ContainerStatus, Resources};

    use super::*;

    const LOG: &str = "2026-01-31T10:15:02.5Z stdout F one\n2026-01-31T10:15:03Z stdout P tw\n2026-01-31T10:15:03Z stdout F o\n\
                       2026-01-31T10:15:04.123456789Z stderr F three\n";

    fn view(running: bool) -> Arc<View> {
        let at = "2026-01-31T10:15:02Z".parse().unwrap();
        let state = if running {
            ContainerState::Running { started_at: at }
        } else {
            ContainerState::Exited {
                started_at: at,
                finished_at: at,
                exit_code: 0,
                reason: "Completed".into(),
                message: String::new(),
            }
        };
        let container = ContainerStatus {
            id: "id".into(),
            sandbox_id: String::new(),
            pod_uid: String::new(),
            name: String::new(),
            attempt: 0,
            state,
            created_at: at,
            image: String::new(),
            image_ref: String::new(),
            user: None,
            log_path: PathBuf::new(),
            resources: Resources::default(),
            labels: Default::default(),
            annotations: Default::default(),
        };
        Arc::new(View {
            containers: vec![container],
            ..View::default()
        })
    }

    async fn collect(options: LogOptions) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let (_sender, receiver) = watch::channel(view(false));
        let chunks: Vec<_> = stream(path, options, receiver, "id".into()).collect().await;
        chunks
            .into_iter()
            .map(|c| String::from_utf8(c.unwrap().to_vec()).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn options_take_effect_in_upstreams_order() {
        let rows = [
            (LogOptions::default(), "one\ntwo\nthree\n"),
            (
                LogOptions {
                    follow: true,
                    ..LogOptions::default()
                },
                "one\ntwo\nthree\n",
            ),
            (
                LogOptions {
                    tail_lines: Some(0),
                    ..LogOptions::default()
                },
                "",
            ),
            (
                LogOptions {
                    tail_lines: Some(2),
                    ..LogOptions::default()
                },
                "o\nthree\n",
            ),
            (
                LogOptions {
                    tail_lines: Some(9),
                    ..LogOptions::default()
                },
                "one\ntwo\nthree\n",
            ),
            (
                LogOptions {
                    since: "2026-01-31T10:15:04Z".parse().ok(),
                    ..LogOptions::default()
                },
                "three\n",
            ),
            (
                LogOptions {
                    limit_bytes: Some(5),
                    ..LogOptions::default()
                },
                "one\nt",
            ),
            (
                LogOptions {
                    timestamps: true,
                    ..LogOptions::default()
                },
                "2026-01-31T10:15:02.500000000Z one\n2026-01-31T10:15:03.000000000Z two\n2026-01-31T10:15:04.123456789Z three\n",
            ),
        ];
        for (options, want) in rows {
            assert_eq!(collect(options.clone()).await, want, "{options:?}");
        }
    }

    #[tokio::test]
    async fn followers_see_new_lines_rotation_and_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "2026-01-31T10:15:02Z stdout F one\n").unwrap();
        let (sender, receiver) = watch::channel(view(true));
        let mut stream = stream(
            path.clone(),
            LogOptions {
                follow: true,
                ..LogOptions::default()
            },
            receiver,
            "id".into(),
        );
        assert_eq!(stream.next().await.unwrap().unwrap(), "one\n");
        append(&path, "2026-01-31T10:15:02Z stdout F two\n");
        assert_eq!(stream.next().await.unwrap().unwrap(), "two\n");
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        append(&path, "2026-01-31T10:15:02Z stdout F three\n");
        assert_eq!(stream.next().await.unwrap().unwrap(), "three\n");
        append(&path, "2026-01-31T10:15:02Z stdout F last\n");
        sender.send_replace(view(false));
        assert_eq!(stream.next().await.unwrap().unwrap(), "last\n");
        assert!(stream.next().await.is_none());
    }

    fn append(path: &Path, text: &str) {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}
