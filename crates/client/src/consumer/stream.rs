//! Records as an async stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use kavka_core::error::{ErrorKind, Result};

use super::{Batch, Consumer, ConsumerRecord, SharedMachine};
use crate::driver::BoxFuture;

/// The records of a [`Consumer`], one after the other; from [`Consumer::records`].
///
/// It is a [`Stream`], and also has a plain [`next`](Self::next). It borrows nothing, so it can move to another task
/// while the consumer is used to seek, pause and commit. An error stops one partition; the stream goes on with the
/// others. It ends when the consumer is closed or dropped.
///
/// A stream that was polled and has nothing counts as a caller that waits for records (`max.poll.interval.ms`), until a
/// record comes or it is dropped. A call of `next` that is given up does not.
pub struct Records {
    shared: Arc<SharedMachine>,
    /// The batch being read. If the stream is dropped, the rest of the batch comes again.
    current: Option<Batch>,
    /// The wait for the next batch.
    waiting: Option<BoxFuture<'static, Result<Batch>>>,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("current", &self.current).finish_non_exhaustive()
    }
}

impl Consumer {
    /// The records, as a [`Stream`] that borrows nothing.
    pub fn records(&self) -> Records {
        Records { shared: Arc::clone(&self.shared), current: None, waiting: None }
    }
}

impl Records {
    /// The next record; `None` when the consumer is closed.
    pub async fn next(&mut self) -> Option<Result<ConsumerRecord>> {
        let next = Next(self);
        std::future::poll_fn(|context| Pin::new(&mut *next.0).poll_next(context)).await
    }
}

/// A call of [`Records::next`]. When it is given up, nobody asks for records any more (`max.poll.interval.ms`).
struct Next<'a>(&'a mut Records);

impl Drop for Next<'_> {
    fn drop(&mut self) {
        self.0.waiting = None;
    }
}

impl Stream for Records {
    type Item = Result<ConsumerRecord>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.shared.fence.is_reached() {
            this.current = None;
        }
        loop {
            if let Some(batch) = &mut this.current {
                // By asking for more, the caller says that it is done with the earlier records.
                batch.settle();
                if let Some(view) = batch.next_record() {
                    return Poll::Ready(Some(Ok(ConsumerRecord::new(batch, &view))));
                }
                // While the finished batch is held, no other batch of its partition is handed out.
                this.current = None;
            }
            let waiting = this.waiting.get_or_insert_with(|| {
                let shared = Arc::clone(&this.shared);
                Box::pin(async move { shared.wait_until(|| shared.try_batch()).await })
            });
            let Poll::Ready(next) = waiting.as_mut().poll(context) else { return Poll::Pending };
            this.waiting = None;
            match next {
                Ok(batch) => this.current = Some(batch),
                Err(error) if error.kind() == ErrorKind::Closed => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}
