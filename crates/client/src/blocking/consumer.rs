//! The consumer for threads.

use std::ops::Deref;
use std::time::Duration;

use kavka_core::error::Result;

use crate::{Batch, ConsumerRecord};

/// Reads the partitions it is given, for threads, which may share it by reference.
///
/// Dropping it stops fetching; what was fetched and not handed out was never read, as far as positions go.
#[derive(Debug)]
pub struct Consumer(crate::Consumer);

impl From<crate::Consumer> for Consumer {
    fn from(consumer: crate::Consumer) -> Self {
        Self(consumer)
    }
}

impl Deref for Consumer {
    type Target = crate::Consumer;

    fn deref(&self) -> &crate::Consumer {
        &self.0
    }
}

impl Consumer {
    /// Waits up to `limit` for a batch; `None` if none came.
    ///
    /// # Errors
    ///
    /// As [`crate::Consumer::try_batch`].
    pub fn next_batch(&self, limit: Duration) -> Result<Option<Batch>> {
        self.0.wait_batch(limit)
    }

    /// Waits up to `limit` for one record; `None` if none came.
    ///
    /// # Errors
    ///
    /// As [`crate::Consumer::try_batch`].
    pub fn next_record(&self, limit: Duration) -> Result<Option<ConsumerRecord>> {
        self.0.wait_record(limit)
    }

    /// Waits up to `limit` for records and returns up to `max` of those that are there.
    ///
    /// # Errors
    ///
    /// As [`crate::Consumer::try_batch`]; one that is found behind some records is kept for the next call.
    pub fn next_records(&self, max: usize, limit: Duration) -> Result<Vec<ConsumerRecord>> {
        self.0.wait_records(max, limit)
    }

    /// The records one after the other, as long as none lets itself be waited for longer than `limit`.
    pub fn records(&self, limit: Duration) -> Records<'_> {
        Records { consumer: self, limit }
    }
}

/// An iterator over records; it ends when none came in time. See [`Consumer::records`].
#[derive(Debug)]
pub struct Records<'a> {
    consumer: &'a Consumer,
    limit: Duration,
}

impl Iterator for Records<'_> {
    type Item = Result<ConsumerRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        self.consumer.next_record(self.limit).transpose()
    }
}
