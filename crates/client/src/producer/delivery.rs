//! The handle of a record that was sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use kavka_core::error::Result;
use kavka_core::producer::{Completion, RecordMetadata};

/// The pending report of a record. As a future, it is ready when the record has its outcome.
///
/// Cheap to clone. Dropping it does not cancel the record.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub(super) completion: Arc<Completion>,
    pub(super) index: u32,
    pub(super) timestamp_ms: i64,
}

impl Delivery {
    /// The outcome of the record's batch.
    pub fn completion(&self) -> &Arc<Completion> {
        &self.completion
    }

    /// The record's index in its batch.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The timestamp that it was sent with, in milliseconds since 1970.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// The record's offset, once it is stored and if the broker named it.
    pub fn offset(&self) -> Option<i64> {
        self.completion.offset(self.index)
    }

    /// The record's outcome; `None` while it is open.
    pub fn outcome(&self) -> Option<Result<RecordMetadata>> {
        self.completion.outcome(self.index)
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.completion.subscribe(self.index, context.waker()) {
            return Poll::Pending;
        }
        self.outcome().map_or(Poll::Pending, Poll::Ready)
    }
}
