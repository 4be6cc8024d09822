//! A terminal with a test at its keyboard.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::Context;
use e2e::user::Running;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Longest wait for a terminal to show something.
const PATIENCE: Duration = Duration::from_secs(30);

/// The screen's and keyboard's end of a terminal.
pub(crate) struct Terminal {
    keyboard: File,
    name: PathBuf,
    screen: Receiver<Vec<u8>>,
    /// What was shown and not yet forgotten.
    pub(crate) seen: String,
}

impl Terminal {
    pub(crate) fn new(rows: u16, columns: u16) -> anyhow::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?.into_string()?.into();
        let keyboard = File::from(master);
        let mut output = keyboard.try_clone()?;
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading fails once nobody has the terminal open any more.
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        let terminal = Terminal {
            keyboard,
            name,
            screen,
            seen: String::new(),
        };
        terminal.resize(rows, columns)?;
        Ok(terminal)
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) -> anyhow::Result<()> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(tcsetwinsize(&self.keyboard, size)?)
    }

    /// Starts a command whose controlling terminal this is.
    pub(crate) fn run(&self, command: Command) -> anyhow::Result<Running> {
        let end = || File::options().read(true).write(true).open(&self.name);
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))))
            .stdin(end()?)
            .stdout(end()?)
            .stderr(end()?)
            .spawn()?;
        Ok(child.into())
    }

    pub(crate) fn type_in(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.keyboard.write_all(text.as_bytes())?)
    }

    /// Waits until the screen has shown `text`.
    pub(crate) fn shows(&mut self, text: &str) -> anyhow::Result<()> {
        while !self.seen.contains(text) {
            let more = self.screen.recv_timeout(PATIENCE);
            let more = more.with_context(|| format!("waited for {text:?}, saw {:?}", self.seen))?;
            self.seen.push_str(&String::from_utf8_lossy(&more));
        }
        Ok(())
    }
}
