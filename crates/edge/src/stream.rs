//! The bytes of a connection, plain or encrypted.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;

use crate::meters;

/// An accepted connection. Writing fails when the client takes nothing for too long.
#[derive(Debug)]
pub struct Stream {
    io: Io,
    write_timeout: Duration,
    /// Runs while bytes wait to be taken.
    stalled: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    // The state of TLS is large: connections without it shall not pay for it.
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! with_io {
    ($stream:expr, $io:ident => $call:expr) => {
        match &mut $stream.io {
            Io::Plain($io) => {
                let $io = Pin::new($io);
                $call
            }
            Io::Tls($io) => {
                let $io = Pin::new($io.as_mut());
                $call
            }
        }
    };
}

impl Stream {
    pub(crate) fn plain(stream: TcpStream, write_timeout: Duration) -> Self {
        Self { io: Io::Plain(stream), write_timeout, stalled: None }
    }

    pub(crate) fn encrypted(stream: TlsStream<TcpStream>, write_timeout: Duration) -> Self {
        Self { io: Io::Tls(Box::new(stream)), write_timeout, stalled: None }
    }

    /// Fails a write that has been pending for too long.
    fn in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        meters::cut_off("write_timeout");
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the client took no bytes for {timeout:?}"),
        )))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        with_io!(self, io => io.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = with_io!(self, io => io.poll_write(cx, bytes));
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = with_io!(self, io => io.poll_write_vectored(cx, parts));
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = with_io!(self, io => io.poll_flush(cx));
        self.in_time(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = with_io!(self, io => io.poll_shutdown(cx));
        self.in_time(cx, closed)
    }
}
