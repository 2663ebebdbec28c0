//! The blocking consumers: of given partitions, and of those that a group assigns.

use std::ops::Deref;
use std::time::Duration;

use kavka_core::consumer::Offsets;
use kavka_core::error::Result;

use super::{wait, wait_for};
use crate::{Batch, ConsumerRecord};

/// Reads given partitions. Threads may share it by reference.
///
/// Dropping it stops fetching. Records that were fetched but not handed out do not count as read.
#[derive(Debug)]
pub struct Consumer(crate::Consumer);

/// Reads the partitions that its group assigns to it. Threads may share it by reference.
///
/// It commits automatically as [`crate::GroupConsumer`] does. Close it to leave the group at once; when dropped, it
/// leaves in the background.
#[derive(Debug)]
pub struct GroupConsumer(crate::GroupConsumer);

/// The calls for records, which both consumers have.
macro_rules! reads {
    ($consumer:ident) => {
        impl From<crate::$consumer> for $consumer {
            fn from(consumer: crate::$consumer) -> Self {
                Self(consumer)
            }
        }

        impl Deref for $consumer {
            type Target = crate::$consumer;

            fn deref(&self) -> &crate::$consumer {
                &self.0
            }
        }

        impl $consumer {
            /// Waits up to `limit` for a batch; `None` if none arrived.
            ///
            /// # Errors
            ///
            #[doc = concat!("As [`crate::", stringify!($consumer), "::try_batch`].")]
            pub fn next_batch(&self, limit: Duration) -> Result<Option<Batch>> {
                // Usually a batch is ready, and no waker is needed.
                if let Some(batch) = self.0.try_batch()? {
                    return Ok(Some(batch));
                }
                wait_for(self.0.next_batch(), limit).transpose()
            }

            /// Waits up to `limit` for one record; `None` if none arrived.
            ///
            /// # Errors
            ///
            #[doc = concat!("As [`crate::", stringify!($consumer), "::try_batch`].")]
            pub fn next_record(&self, limit: Duration) -> Result<Option<ConsumerRecord>> {
                Ok(self.next_records(1, limit)?.pop())
            }

            /// Waits up to `limit` for records; returns those that are there, at most `max`.
            ///
            /// # Errors
            ///
            #[doc = concat!("As [`crate::", stringify!($consumer), "::try_records`].")]
            pub fn next_records(&self, max: usize, limit: Duration) -> Result<Vec<ConsumerRecord>> {
                let records = self.0.try_records(max)?;
                if !records.is_empty() {
                    return Ok(records);
                }
                wait_for(self.0.next_records(max), limit).unwrap_or(Ok(records))
            }

            /// An iterator over the records. It ends when no record arrives for `limit`.
            pub fn records(&self, limit: Duration) -> impl Iterator<Item = Result<ConsumerRecord>> {
                std::iter::from_fn(move || self.next_record(limit).transpose())
            }

            /// Commits offsets for the group, and waits up to `limit` for the outcome.
            ///
            #[doc = concat!("[`commit`](crate::", stringify!($consumer), "::commit) does not wait.")]
            ///
            /// # Errors
            ///
            #[doc = concat!("As [`crate::", stringify!($consumer), "::commit`], and those that its `Commit` ends with.")]
            pub fn commit_sync(&self, offsets: Offsets, limit: Duration) -> Result<()> {
                wait(self.0.commit(offsets, limit)?)
            }
        }
    };
}

reads!(Consumer);
reads!(GroupConsumer);

impl GroupConsumer {
    /// Gives up all partitions in order, commits what was read (`enable.auto.commit`) and leaves the group, all within
    /// `limit`.
    ///
    /// # Errors
    ///
    /// As [`crate::GroupConsumer::close`].
    pub fn close(&self, limit: Duration) -> Result<()> {
        wait(self.0.close(limit))
    }
}
