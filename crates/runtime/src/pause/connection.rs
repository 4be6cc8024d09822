//! The engine's connection as pause sees it: calls in, replies and events out, never blocking.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use serde::de::DeserializeOwned;

use crate::wire::{Call, Incoming, Message, Outgoing};

/// An engine that lets this many messages lie is taken for gone; its successor is told everything again.
const MAX_QUEUED: usize = 4096;

pub(super) struct Connection {
    pub(super) socket: UnixStream,
    incoming: Incoming,
    outgoing: VecDeque<Outgoing>,
}

/// What came of reading.
pub(super) enum Heard {
    /// These calls, in order, and what rode with each.
    Calls(Vec<(Call, Vec<OwnedFd>)>),
    /// The engine is gone, or does not keep to the format.
    End,
}

impl Connection {
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            incoming: Incoming::default(),
            outgoing: VecDeque::new(),
        })
    }

    /// Takes the first message of a connection that was inherited: it was sent before this process was born.
    pub(super) fn inherited<T: DeserializeOwned>(&mut self) -> io::Result<(T, Vec<OwnedFd>)> {
        loop {
            if let Some(first) = self.incoming.pop().map_err(io::Error::other)? {
                return Ok(first);
            }
            if self.incoming.receive(self.socket.as_fd())? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads once and takes the calls that are complete.
    pub(super) fn hear(&mut self) -> Heard {
        match self.incoming.receive(self.socket.as_fd()) {
            Ok(0) => return Heard::End,
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => return Heard::End,
        }
        let mut calls = Vec::new();
        loop {
            match self.incoming.pop::<Call>() {
                Ok(Some(call)) => calls.push(call),
                Ok(None) => return Heard::Calls(calls),
                Err(_) => return Heard::End,
            }
        }
    }

    /// Sends, or queues what the socket does not take now. `Err` when the connection is of no more use.
    pub(super) fn tell(&mut self, message: &Message, fds: Vec<OwnedFd>) -> Result<(), ()> {
        if self.outgoing.len() >= MAX_QUEUED {
            return Err(());
        }
        self.outgoing
            .push_back(Outgoing::new(message, fds).map_err(drop)?);
        self.flush()
    }

    /// Sends what is queued, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> Result<(), ()> {
        while let Some(message) = self.outgoing.front_mut() {
            match message.send(self.socket.as_fd()) {
                Ok(_) => drop(self.outgoing.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(()),
            }
        }
        Ok(())
    }

    /// Whether something waits for the socket to take it.
    pub(super) fn is_congested(&self) -> bool {
        !self.outgoing.is_empty()
    }
}
