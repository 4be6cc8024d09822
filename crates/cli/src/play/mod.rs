//! `play`: runs what files describe in the foreground, and takes it away at the end.
//!
//! One loop owns the state and hears of everything over one channel: Pods and events from watches, lines from log streams, one
//! task each; a log waits for those of the init containers that ended before it began. Progress goes to standard error, logs to standard output. Ctrl-C (or SIGTERM) deletes what was made, last first, and
//! waits; a second one does not wait for containers to end by themselves.

mod progress;
mod screen;

use std::collections::BTreeMap;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use futures::{AsyncBufReadExt, StreamExt};
use http::Method;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch as gate};
use tokio::task::JoinSet;

use self::progress::{Begun, PodName, Progress, Stream};
use self::screen::Screen;
use crate::args::PlayArgs;
use crate::connect::{JSON, Server};
use crate::discovery::Resources;
use crate::failure::{self, is_not_found};
use crate::output::percent;
use crate::pods;
use crate::select::{Item, Selection};
use crate::signals::Signals;
use crate::verbs::apply::Applier;
use crate::verbs::delete::until_gone;

/// Messages that may wait for the loop; a fast log waits rather than fill the memory.
const QUEUE: usize = 256;

/// What the loop hears.
#[derive(Debug)]
enum Message {
    /// A Pod as it is now, or as it was when it went.
    Pod { pod: Value, gone: bool },
    /// An event about anything.
    Event(Value),
    /// A line of a log.
    Line(Stream, Vec<u8>),
    /// A log has ended.
    LogEnded,
    /// A watch cannot go on.
    Broken(anyhow::Error),
}

/// Runs what the files describe, in the client's default namespace unless they say otherwise, until every Pod has ended or Ctrl-C.
/// The exit code is that of the first app container that failed, or 0.
///
/// # Errors
/// When a file cannot be read, nothing in them is a Pod, or the server refuses.
pub async fn play(
    client: kube::Client,
    args: &PlayArgs,
    signals: Signals,
) -> anyhow::Result<ExitCode> {
    let namespace = client.default_namespace().to_owned();
    run(Server::new(client, namespace), args, signals).await
}

/// As [`play`], with a connection.
pub(crate) async fn run(
    server: Server,
    args: &PlayArgs,
    mut signals: Signals,
) -> anyhow::Result<ExitCode> {
    if args.files.filenames.is_empty() {
        bail!("must specify -f");
    }
    let server = Arc::new(server);
    let resources = Resources::discover(&server).await?;
    let selection = Selection {
        files: args.files.clone(),
        ..Selection::default()
    };
    let (items, failures) = selection.items(&server, &resources).await?;
    if let Some(failure) = failures.into_iter().next() {
        return Err(failure);
    }
    let names: Vec<PodName> = items.iter().filter_map(pod_name).collect();
    if names.is_empty() {
        bail!("the files describe no Pod");
    }
    let (messages, inbox) = mpsc::channel(QUEUE);
    let mut player = Player {
        server: server.clone(),
        args,
        screen: Screen::new(args.quiet),
        progress: Progress::new(names),
        made: Vec::new(),
        open_logs: 0,
        logs: BTreeMap::new(),
        messages,
        tasks: JoinSet::new(),
    };
    let started = player.apply(&items).await;
    let ended = match started {
        Ok(()) => player.follow(inbox, &mut signals).await,
        Err(error) => Err(error),
    };
    if !args.keep {
        player.clean_up(&mut signals).await?;
    }
    ended?;
    Ok(ExitCode::from(player.progress.exit_code()))
}

fn pod_name(item: &Item) -> Option<PodName> {
    (item.resource.kind == "Pod" && item.resource.group.is_empty()).then(|| PodName {
        namespace: item.namespace.clone().unwrap_or_default(),
        name: item.name.clone(),
    })
}

struct Player<'a> {
    server: Arc<Server>,
    args: &'a PlayArgs,
    screen: Screen,
    progress: Progress,
    /// What was not there before, in the order it was made.
    made: Vec<Item>,
    open_logs: usize,
    /// Logs that were begun; their gates open when they have been handed on to the end.
    logs: BTreeMap<Stream, gate::Receiver<()>>,
    messages: mpsc::Sender<Message>,
    tasks: JoinSet<()>,
}

impl Player<'_> {
    async fn apply(&mut self, items: &[Item]) -> anyhow::Result<()> {
        let server = self.server.clone();
        let applier = Applier::plain(&server)?;
        for item in items {
            let (participle, object) = applier.here(item).await?;
            if let Some(name) = pod_name(item) {
                self.progress.applied(&name, &object);
            }
            self.screen.note(&format!("{} {participle}", item.label()));
            if participle == "created" {
                self.made.push(item.clone());
            }
        }
        Ok(())
    }

    /// Shows what happens until every Pod has ended and every log was read.
    async fn follow(
        &mut self,
        mut inbox: mpsc::Receiver<Message>,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        for namespace in self.progress.namespaces() {
            for kind in ["pods", "events"] {
                let path = format!("/api/v1/namespaces/{namespace}/{kind}");
                let watching = watch(self.server.clone(), path, self.messages.clone());
                self.tasks.spawn(watching);
            }
        }
        let mut interrupts = 0;
        while !(self.progress.is_over() && self.open_logs == 0) {
            tokio::select! {
                message = inbox.recv() => {
                    let Some(message) = message else { break };
                    self.hear(message)?;
                }
                () = signals.next() => {
                    interrupts += 1;
                    self.interrupt(interrupts).await?;
                }
            }
        }
        self.screen.clear();
        Ok(())
    }

    fn hear(&mut self, message: Message) -> anyhow::Result<()> {
        match message {
            Message::Pod { pod, gone } => {
                let change = self.progress.pod(&pod, gone);
                for (container, state) in &change.states {
                    self.screen.state(container, state);
                }
                for begun in change.logs {
                    self.read_log(begun);
                }
            }
            Message::Event(event) => {
                if let Some((container, text)) = self.progress.event(&event) {
                    self.screen.state(&container, &text);
                }
            }
            Message::Line(stream, line) => self.screen.log(&stream.prefix(), &line)?,
            Message::LogEnded => self.open_logs -= 1,
            Message::Broken(error) => return Err(error),
        }
        Ok(())
    }

    fn read_log(&mut self, begun: Begun) {
        if self.args.no_logs {
            return;
        }
        self.open_logs += 1;
        let Begun { stream, after } = begun;
        let (open, opened) = gate::channel(());
        self.logs.insert(stream.clone(), opened);
        let log = Log {
            stream,
            timestamps: self.args.timestamps,
            after: after
                .iter()
                .filter_map(|s| self.logs.get(s).cloned())
                .collect(),
            open,
        };
        let reading = log.read(self.server.clone(), self.messages.clone());
        self.tasks.spawn(reading);
    }

    /// The first asks the Pods to end, the second does not wait for their containers.
    async fn interrupt(&mut self, count: u32) -> anyhow::Result<()> {
        let grace = (count > 1).then_some(0);
        self.screen.note(if count > 1 {
            "ending at once"
        } else {
            "ending; Ctrl-C again does not wait"
        });
        for name in self.progress.running() {
            let path = pods::path(&name.namespace, &name.name);
            delete(&self.server, &path, grace).await?;
        }
        Ok(())
    }

    /// Removes what was made, last first, and waits until it is gone.
    async fn clean_up(&mut self, signals: &mut Signals) -> anyhow::Result<()> {
        for item in self.made.iter().rev() {
            delete(&self.server, &item.path(), None).await?;
        }
        for item in self.made.iter().rev() {
            let mut gone = pin!(until_gone(&self.server, item, None, None));
            tokio::select! {
                gone = &mut gone => gone?,
                () = signals.next() => {
                    self.screen.note("ending at once");
                    delete(&self.server, &item.path(), Some(0)).await?;
                    gone.await?;
                }
            }
            self.screen.note(&format!("{} deleted", item.label()));
        }
        Ok(())
    }
}

/// Deletes an object; it may be gone already.
async fn delete(server: &Server, path: &str, grace: Option<i64>) -> anyhow::Result<()> {
    let mut options =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
    if let Some(seconds) = grace {
        options["gracePeriodSeconds"] = seconds.into();
    }
    match server.write(Method::DELETE, path, &options).await {
        Err(error) if !is_not_found(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Hands everything a watch says to the loop, and begins again when the server ends it.
async fn watch(server: Arc<Server>, path: String, to: mpsc::Sender<Message>) {
    loop {
        let events = match server.watch(&path, "", JSON).await {
            Ok(events) => events,
            Err(error) => {
                // The loop may have ended, too.
                let _ = to.send(Message::Broken(error)).await;
                return;
            }
        };
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            let Ok(mut event) = event else { break };
            let object = event["object"].take();
            let message = match (event["type"].as_str(), path.ends_with("/events")) {
                (Some("ERROR"), _) => break,
                (Some("ADDED" | "MODIFIED"), true) => Message::Event(object),
                (Some("ADDED" | "MODIFIED"), false) => Message::Pod {
                    pod: object,
                    gone: false,
                },
                (Some("DELETED"), false) => Message::Pod {
                    pod: object,
                    gone: true,
                },
                _ => continue,
            };
            if to.send(message).await.is_err() {
                return;
            }
        }
    }
}

/// The log of one container instance.
struct Log {
    stream: Stream,
    timestamps: bool,
    /// Gates of the logs that come first.
    after: Vec<gate::Receiver<()>>,
    /// Its own gate, which opens when this goes.
    open: gate::Sender<()>,
}

impl Log {
    /// Hands its lines to the loop. It is asked for at once, so that it can be read even if the Pod goes meanwhile.
    async fn read(mut self, server: Arc<Server>, to: mpsc::Sender<Message>) {
        let path = format!(
            "{}/log?container={}&follow=true&timestamps={}",
            pods::path(&self.stream.pod.namespace, &self.stream.pod.name),
            percent(&self.stream.container),
            self.timestamps
        );
        let asked = server.text(&path).await;
        for gate in &mut self.after {
            while gate.changed().await.is_ok() {}
        }
        match asked {
            Ok(body) => {
                let mut body = std::pin::pin!(body);
                let mut line = Vec::new();
                while body
                    .read_until(b'\n', &mut line)
                    .await
                    .is_ok_and(|length| length > 0)
                {
                    let line = Message::Line(self.stream.clone(), std::mem::take(&mut line));
                    if to.send(line).await.is_err() {
                        return;
                    }
                }
            }
            // A Pod that is gone has no log any more; anything else is worth a line.
            Err(error) if is_not_found(&error) => {}
            Err(error) => {
                failure::report(&error.into());
            }
        }
        drop(self.open);
        let _ = to.send(Message::LogEnded).await;
    }
}
