//! This side of a session: standard input, the terminal in raw mode, its size.

use std::io::{self, IsTerminal, Read, Write};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::session::{Input, Output};

/// Most bytes in one message of standard input, as much as servers accept.
const CHUNK: usize = 32 * 1024;

/// The terminal in raw mode; as it was when dropped.
#[derive(Debug)]
pub(crate) struct RawTerminal(Termios);

impl RawTerminal {
    /// Whether standard input is a terminal at all.
    pub(crate) fn is_there() -> bool {
        io::stdin().is_terminal()
    }

    /// Every key goes to the container, Ctrl-C too.
    pub(crate) fn enter() -> io::Result<RawTerminal> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(RawTerminal(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Nothing is left to do about a terminal that is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Reads standard input on a thread of its own: a read of it cannot be given up.
pub(crate) fn read_stdin(to: mpsc::Sender<Input>) {
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut chunk = vec![0; CHUNK];
        loop {
            let message = match input.read(&mut chunk) {
                Ok(0) | Err(_) => Input::End,
                Ok(length) => Input::Bytes(chunk[..length].to_vec()),
            };
            let ends = matches!(message, Input::End);
            if to.blocking_send(message).is_err() || ends {
                return;
            }
        }
    });
}

/// Sends the terminal's size now and whenever it changes. A program that runs already redraws its screen when the size is another
/// one before.
pub(crate) fn follow_size(to: mpsc::Sender<Input>, redraw: bool) -> io::Result<()> {
    let mut changes = signal(SignalKind::window_change())?;
    tokio::spawn(async move {
        if redraw && let Ok(size) = tcgetwinsize(io::stdin()) {
            let larger = |side: u16| side.saturating_add(1);
            // The size itself tells whether anybody listens.
            let other = Input::Size(larger(size.ws_col), larger(size.ws_row));
            let _ = to.send(other).await;
        }
        loop {
            if let Ok(size) = tcgetwinsize(io::stdin())
                && to
                    .send(Input::Size(size.ws_col, size.ws_row))
                    .await
                    .is_err()
            {
                return;
            }
            if changes.recv().await.is_none() {
                return;
            }
        }
    });
    Ok(())
}

/// Writes what comes from the container.
pub(crate) fn show(output: Output, bytes: &[u8]) -> io::Result<()> {
    match output {
        Output::Out => {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()
        }
        Output::Err => io::stderr().lock().write_all(bytes),
    }
}
