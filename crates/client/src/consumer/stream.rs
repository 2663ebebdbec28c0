//! Records as a stream of futures.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use kavka_core::error::{ErrorKind, Result};

use super::{Batch, Consumer, ConsumerRecord, SharedMachine};
use crate::driver::BoxFuture;

/// The records of a [`Consumer`], one after the other; from [`Consumer::records`].
///
/// It is a [`Stream`], and has [`next`](Self::next) for those who need no more than that. It borrows nothing, so it can move
/// to a task of its own while the consumer is used to seek, pause and commit. An error stops one partition; the stream
/// goes on with the others. It ends when the consumer is closed or dropped.
pub struct Records {
    shared: Arc<SharedMachine>,
    /// The batch whose records come now; what is left of it when the stream is dropped comes again.
    current: Option<Batch>,
    /// The wait for the next batch, when there is none.
    waiting: Option<BoxFuture<'static, Result<Batch>>>,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("current", &self.current).finish_non_exhaustive()
    }
}

impl Consumer {
    /// The records one after the other, as a [`Stream`] that borrows nothing.
    pub fn records(&self) -> Records {
        Records { shared: Arc::clone(&self.shared), current: None, waiting: None }
    }
}

impl Records {
    /// The next record, or none when the consumer is closed.
    pub async fn next(&mut self) -> Option<Result<ConsumerRecord>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Records {
    type Item = Result<ConsumerRecord>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(batch) = &mut this.current {
                if let Some(view) = batch.next_record() {
                    return Poll::Ready(Some(Ok(ConsumerRecord::new(batch, &view))));
                }
                // Its partition cannot be taken from while the finished batch is held.
                this.current = None;
            }
            let waiting = this.waiting.get_or_insert_with(|| {
                let shared = Arc::clone(&this.shared);
                Box::pin(async move { shared.next_batch().await })
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
