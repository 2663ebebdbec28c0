//! A stream with TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use kavka_core::error::Place;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::super::network::Stream;
use super::explain;

/// A stream after its handshake.
///
/// What the broker says about our certificate may come only now (TLS 1.3). Such a read or write fails with an
/// [`io::Error`] around the [`Error`](kavka_core::error::Error) that explains it.
pub(super) struct Secured {
    inner: TlsStream<BufReader<Box<dyn Stream>>>,
    place: Place,
    certificate: explain::Certificate,
    has_read: bool,
}

impl Secured {
    pub(super) fn new(
        inner: TlsStream<BufReader<Box<dyn Stream>>>,
        place: Place,
        certificate: explain::Certificate,
    ) -> Self {
        Self { inner, place, certificate, has_read: false }
    }

    fn explain(&self, cause: io::Error) -> io::Error {
        match explain::alert(&cause, self.certificate) {
            Some(error) if !self.has_read => io::Error::new(cause.kind(), error.at(self.place.clone())),
            _ => cause,
        }
    }

    /// A broker that refuses the client's certificate says so and hangs up. If that was noticed first by writing, its
    /// last words are still to be read.
    fn write_failed(&mut self, context: &mut Context<'_>, cause: io::Error) -> io::Error {
        let mut space = [0; 1];
        if self.has_read {
            return cause;
        }
        match Pin::new(&mut self.inner).poll_read(context, &mut ReadBuf::new(&mut space)) {
            Poll::Ready(Err(last_words)) if explain::alert(&last_words, self.certificate).is_some() => {
                self.explain(last_words)
            }
            _ => cause,
        }
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.inner).poll_read(context, buffer)) {
            Ok(()) => {
                self.has_read |= !buffer.filled().is_empty();
                Poll::Ready(Ok(()))
            }
            // Many brokers hang up without a farewell (`close_notify`). Nothing can be cut off unnoticed by that: every
            // frame begins with its length.
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            Err(cause) => Poll::Ready(Err(self.explain(cause))),
        }
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes));
        Poll::Ready(written.map_err(|cause| self.write_failed(context, cause)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, slices));
        Poll::Ready(written.map_err(|cause| self.write_failed(context, cause)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.inner).poll_flush(context));
        Poll::Ready(flushed.map_err(|cause| self.write_failed(context, cause)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
