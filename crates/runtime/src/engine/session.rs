//! Descriptors from pause as the streams of a [`Session`].

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ports::streams::{Reader, TerminalSize, Writer};
use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

/// Sizes that may wait for a terminal; a client that sends more waits.
const SIZES: usize = 8;

/// The streams of a process, as far as it has them.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) stdin: Option<Writer>,
    pub(super) stdout: Option<Reader>,
    pub(super) stderr: Option<Reader>,
    pub(super) resize: Option<mpsc::Sender<TerminalSize>>,
}

/// A pipe's reading end.
pub(super) fn reader(fd: OwnedFd) -> io::Result<Reader> {
    Ok(Box::pin(pipe::Receiver::from_owned_fd(fd)?))
}

/// A pipe's writing end. It is closed when shut down or dropped, and then `ended` is called.
pub(super) fn writer(fd: OwnedFd, ended: Option<Ended>) -> io::Result<Writer> {
    Ok(Box::pin(Input {
        pipe: Some(pipe::Sender::from_owned_fd(fd)?),
        ended,
    }))
}

/// Called once when an input has ended.
pub(super) type Ended = Box<dyn FnOnce() + Send>;

struct Input {
    pipe: Option<pipe::Sender>,
    ended: Option<Ended>,
}

impl Input {
    fn end(&mut self) {
        self.pipe = None;
        if let Some(ended) = self.ended.take() {
            ended();
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.end();
    }
}

impl AsyncWrite for Input {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.pipe {
            Some(pipe) => Pin::new(pipe).poll_write(cx, data),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

/// A terminal's controlling side. The last clone's end hangs it up.
#[derive(Clone)]
pub(super) struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        // SAFETY: an OwnedFd names the same open file until it is dropped, which `AsyncFd` does after deregistering.
        let registered = unsafe { AsyncFd::register(fd) };
        Ok(Self(Arc::new(registered?)))
    }

    /// Takes sizes until the sender is dropped.
    pub(super) fn resizer(&self) -> mpsc::Sender<TerminalSize> {
        let (sender, mut sizes) = mpsc::channel::<TerminalSize>(SIZES);
        let terminal = self.clone();
        tokio::spawn(async move {
            while let Some(size) = sizes.recv().await {
                let size = Winsize {
                    ws_col: size.width,
                    ws_row: size.height,
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                };
                // A terminal that was hung up has no size to set.
                let _ = rustix::termios::tcsetwinsize(terminal.0.get_ref(), size);
            }
        });
        sender
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let read = guard.try_io(|fd| {
                Ok(rustix::io::read(
                    fd.get_ref(),
                    buffer.initialize_unfilled(),
                )?)
            });
            match read {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // How a terminal says that its last user is gone.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), data)?)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
