//! Moves bytes between a stream and a [`link::Connection`](Connection), as far as that goes at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use kavka_core::error::{Error, ErrorKind, Result};
use kavka_core::link::{Answer, Connection};
use kavka_core::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::network::Stream;

/// The most segments per write.
const SEGMENTS_PER_WRITE: usize = 64;

/// The most reads after a write has failed: more than the receive buffer of a socket holds.
const LAST_READS: usize = 1_000;

/// What [`write_output`] has done.
pub(super) struct Wrote {
    /// Whether the stream took any bytes.
    pub(super) anything: bool,
    /// Whether the socket has all that the stream ever took.
    pub(super) is_flushed: bool,
}

/// Writes as much as the socket takes.
pub(super) fn write_output(
    now: Instant,
    connection: &mut Connection,
    stream: &mut Box<dyn Stream>,
    context: &mut Context<'_>,
) -> Result<Wrote> {
    let mut anything = false;
    while connection.has_output() {
        let slices: Vec<IoSlice<'_>> =
            connection.output().take(SEGMENTS_PER_WRITE).map(|segment| IoSlice::new(segment)).collect();
        match Pin::new(&mut *stream).poll_write_vectored(context, &slices) {
            Poll::Ready(Ok(0)) => return Err(connection.handle_closed(None)),
            Poll::Ready(Ok(bytes)) => connection.handle_written(now, bytes),
            Poll::Ready(Err(cause)) => return Err(connection.handle_closed(Some(cause))),
            Poll::Pending => break,
        }
        anything = true;
    }
    // TLS takes what it cannot write at once, and asks to be reminded.
    match Pin::new(&mut *stream).poll_flush(context) {
        Poll::Ready(Err(cause)) => Err(connection.handle_closed(Some(cause))),
        flushed => Ok(Wrote { anything, is_flushed: flushed.is_ready() }),
    }
}

pub(super) fn read_once(
    now: Instant,
    connection: &mut Connection,
    stream: &mut Box<dyn Stream>,
    answers: &mut Vec<Answer>,
    context: &mut Context<'_>,
) -> Poll<Result<()>> {
    let mut buffer = ReadBuf::new(connection.space());
    let read = ready!(Pin::new(stream).poll_read(context, &mut buffer));
    let bytes = buffer.filled().len();
    Poll::Ready(match read {
        Ok(()) if bytes == 0 => Err(connection.handle_closed(None)),
        Ok(()) => connection.handle_read(now, bytes, answers),
        Err(cause) if cause.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(cause) => Err(connection.handle_closed(Some(cause))),
    })
}

/// Reads what the broker said before writing `failed`: perhaps it has answered, and then hung up. Returns why the
/// connection has ended: a reason that the broker gave says more than that nothing can be written.
pub(super) fn last_words(
    now: Instant,
    connection: &mut Connection,
    stream: &mut Box<dyn Stream>,
    answers: &mut Vec<Answer>,
    context: &mut Context<'_>,
    failed: Error,
) -> Error {
    for _ in 0..LAST_READS {
        match read_once(now, connection, stream, answers, context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(reason)) if reason.kind() != ErrorKind::Disconnected => return reason,
            Poll::Ready(Err(_)) | Poll::Pending => break,
        }
    }
    failed
}
