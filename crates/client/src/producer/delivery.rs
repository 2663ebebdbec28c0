//! What a caller holds of a record it sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use kavka_core::error::Result;
use kavka_core::producer::{Completion, RecordMetadata};

/// A record on its way: its batch, and its index there.
///
/// Cheap to clone and to drop; dropping it does not call the record back. As a future it is ready with the record's
/// one outcome.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub(super) completion: Arc<Completion>,
    pub(super) index: u32,
}

impl Delivery {
    /// The outcome cell of the record's batch.
    pub fn completion(&self) -> &Arc<Completion> {
        &self.completion
    }

    /// The record's index in its batch.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The record's offset, once it is stored and the broker told.
    pub fn offset(&self) -> Option<i64> {
        self.completion.offset(self.index)
    }

    /// What became of the record, or none if that is still open.
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
