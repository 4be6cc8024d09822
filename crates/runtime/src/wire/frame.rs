//! Frames on the stream socket between the engine and a pause: a length, a count of descriptors, JSON.
//!
//! ```text
//! ┌────────────┬────────────┬──────────────┐
//! │ u32 LE len │ u32 LE fds │ len bytes    │   descriptors ride on the first byte (SCM_RIGHTS)
//! └────────────┴────────────┴──────────────┘
//! ```
//!
//! A stream socket, because a start request carries an environment that may exceed what one datagram takes. The kernel never hands
//! out a descriptor later than the byte it was sent with, so a frame whose bytes are complete has its descriptors too.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Most bytes of JSON in a frame. An environment of the largest ConfigMaps a Pod may name fits many times.
pub const MAX_FRAME_BYTES: usize = 16 << 20;
/// Most descriptors with a frame: a mount namespace, a listener and three more namespaces.
pub const MAX_FRAME_FDS: usize = 5;
const HEADER_BYTES: usize = 8;
const READ_BYTES: usize = 8 << 10;

/// Why a peer's bytes could not be taken as frames. The connection is of no more use.
#[derive(Debug, Error)]
pub enum FrameError {
    /// A header asks for more than the bounds above.
    #[error("frame of {bytes} bytes and {fds} descriptors exceeds the bounds")]
    TooLarge {
        /// Bytes announced.
        bytes: usize,
        /// Descriptors announced.
        fds: usize,
    },
    /// A frame announced more descriptors than came.
    #[error("frame lacks {missing} descriptors")]
    MissingDescriptors {
        /// How many are missing.
        missing: usize,
    },
    /// The JSON is not a message of this version.
    #[error("malformed message")]
    Malformed(#[from] serde_json::Error),
}

/// A message as it goes out: bytes sent so far are counted here, so that a full socket can be taken up again later.
#[derive(Debug)]
pub struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

impl Outgoing {
    /// Encodes `message`, to go with `fds`.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] past the bounds, [`FrameError::Malformed`] if the message has no JSON form.
    pub fn new<T: Serialize>(message: &T, fds: Vec<OwnedFd>) -> Result<Self, FrameError> {
        let mut bytes = vec![0u8; HEADER_BYTES];
        serde_json::to_writer(&mut bytes, message)?;
        let length = bytes.len() - HEADER_BYTES;
        let (Ok(length32), Ok(count32)) = (u32::try_from(length), u32::try_from(fds.len())) else {
            return Err(FrameError::TooLarge {
                bytes: length,
                fds: fds.len(),
            });
        };
        if length > MAX_FRAME_BYTES || fds.len() > MAX_FRAME_FDS {
            return Err(FrameError::TooLarge {
                bytes: length,
                fds: fds.len(),
            });
        }
        bytes[..4].copy_from_slice(&length32.to_le_bytes());
        bytes[4..HEADER_BYTES].copy_from_slice(&count32.to_le_bytes());
        Ok(Self {
            bytes,
            sent: 0,
            fds,
        })
    }

    /// Sends as much as the socket takes; `true` when all of it is gone.
    ///
    /// # Errors
    /// What `sendmsg(2)` says; `WouldBlock` on a full non-blocking socket.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        while self.sent < self.bytes.len() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FRAME_FDS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let borrowed: Vec<BorrowedFd<'_>> = self.fds.iter().map(AsFd::as_fd).collect();
            if !borrowed.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&borrowed));
            }
            let rest = [IoSlice::new(&self.bytes[self.sent..])];
            let sent = sendmsg(
                socket,
                &rest,
                &mut control,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            )?;
            self.sent += sent;
            // They went with the first byte; keeping them open here would keep pipes from ending.
            self.fds.clear();
        }
        Ok(true)
    }
}

/// Turns received bytes back into messages.
#[derive(Debug, Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Incoming {
    /// Reads what is there, once; `Ok(0)` is the peer's end.
    ///
    /// # Errors
    /// What `recvmsg(2)` says; `WouldBlock` when nothing is there.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FRAME_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = [0u8; READ_BYTES];
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let got = recvmsg(
            socket,
            &mut parts,
            &mut control,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        )?
        .bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        self.bytes.extend_from_slice(&buffer[..got]);
        Ok(got)
    }

    /// The next whole message, with its descriptors.
    ///
    /// # Errors
    /// A peer that does not keep to the format.
    pub fn pop<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<OwnedFd>)>, FrameError> {
        let Some(header) = self.bytes.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [a, b, c, d, e, f, g, h] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let count = u32::from_le_bytes([e, f, g, h]) as usize;
        if length > MAX_FRAME_BYTES || count > MAX_FRAME_FDS {
            return Err(FrameError::TooLarge {
                bytes: length,
                fds: count,
            });
        }
        let Some(body) = self.bytes.get(HEADER_BYTES..HEADER_BYTES + length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body)?;
        self.bytes.drain(..HEADER_BYTES + length);
        if self.bytes.is_empty() {
            // A start request may have been large; idle connections hold nothing.
            self.bytes = Vec::new();
        }
        if self.fds.len() < count {
            return Err(FrameError::MissingDescriptors {
                missing: count - self.fds.len(),
            });
        }
        Ok(Some((message, self.fds.drain(..count).collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("socketpair")
    }

    fn send_all(messages: Vec<Outgoing>) -> Result<Vec<(String, usize)>, FrameError> {
        let (here, there) = pair();
        let mut incoming = Incoming::default();
        let mut seen = Vec::new();
        for mut message in messages {
            loop {
                match message.send(here.as_fd()) {
                    Ok(_) => break,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        // A full buffer may be empty again by now, so either end can be the one.
                        let mut ends = [
                            PollFd::new(&here, PollFlags::OUT),
                            PollFd::new(&there, PollFlags::IN),
                        ];
                        poll(&mut ends, None).expect("poll");
                        if ends[1].revents().contains(PollFlags::IN) {
                            incoming.receive(there.as_fd()).expect("receive");
                        }
                    }
                    Err(error) => panic!("send: {error}"),
                }
            }
        }
        // Not by dropping it: a child that another test forked may hold a copy until it executes.
        shutdown(&here, Shutdown::Write).expect("shutdown");
        while incoming.receive(there.as_fd()).expect("receive") > 0 {}
        while let Some((text, fds)) = incoming.pop::<String>()? {
            seen.push((text, fds.len()));
        }
        Ok(seen)
    }

    #[test]
    fn messages_arrive_whole_and_in_order_with_their_descriptors() {
        let large = "x".repeat(1 << 20);
        let fd = || OwnedFd::from(std::fs::File::open("/dev/null").expect("/dev/null"));
        let messages = vec![
            Outgoing::new(&"first", vec![]).expect("encode"),
            Outgoing::new(&"second", vec![fd(), fd()]).expect("encode"),
            Outgoing::new(&large, vec![fd()]).expect("encode"),
            Outgoing::new(&"last", vec![]).expect("encode"),
        ];
        let seen = send_all(messages).expect("frames");
        let expected = [
            ("first", 0),
            ("second", 2),
            (large.as_str(), 1),
            ("last", 0),
        ];
        assert_eq!(
            seen.iter()
                .map(|(text, fds)| (text.as_str(), *fds))
                .collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn hostile_headers_are_refused() {
        let refused = |header: [u32; 2]| {
            let bytes = header
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .chain(*b"\"\"")
                .collect();
            let mut incoming = Incoming {
                bytes,
                fds: VecDeque::new(),
            };
            incoming.pop::<String>().expect_err("refused").to_string()
        };
        assert_eq!(
            refused([u32::MAX, 0]),
            format!(
                "frame of {} bytes and 0 descriptors exceeds the bounds",
                u32::MAX
            )
        );
        assert_eq!(
            refused([2, 9]),
            "frame of 2 bytes and 9 descriptors exceeds the bounds"
        );
        assert_eq!(refused([2, 1]), "frame lacks 1 descriptors");
        assert_eq!(refused([1, 0]), "malformed message");
    }
}
