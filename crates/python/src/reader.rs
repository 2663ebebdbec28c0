//! The engine's consumer behind a Python consumer: of given partitions, or of those that its group assigns.

use std::pin::Pin;
use std::time::Duration;

use kavka::blocking::{Consumer, GroupConsumer};
use kavka::{Batch, Commit, Offsets, Reset, Result, StartPosition, TopicPartition};

/// The engine's consumer of either kind.
#[derive(Debug)]
pub(crate) enum Reader {
    /// Reads partitions that Python adds and removes.
    Given(Consumer),
    /// Reads partitions that its group assigns.
    Group(GroupConsumer),
}

/// A wait for the next batch.
pub(crate) type Arrival = Pin<Box<dyn Future<Output = Result<Batch>> + Send>>;

impl Reader {
    pub(crate) fn try_batch(&self) -> Result<Option<Batch>> {
        match self {
            Self::Given(consumer) => consumer.try_batch(),
            Self::Group(member) => member.try_batch(),
        }
    }

    pub(crate) fn wait_batch(&self, limit: Duration) -> Result<Option<Batch>> {
        match self {
            Self::Given(consumer) => consumer.next_batch(limit),
            Self::Group(member) => member.next_batch(limit),
        }
    }

    /// A future for callers with their own event loop.
    pub(crate) fn arrival(&self) -> Arrival {
        match self {
            Self::Given(consumer) => Box::pin((**consumer).next_batch()),
            Self::Group(member) => Box::pin((**member).next_batch()),
        }
    }

    pub(crate) fn position(&self, key: &TopicPartition) -> Option<i64> {
        match self {
            Self::Given(consumer) => consumer.position(key),
            Self::Group(member) => member.position(key),
        }
    }

    pub(crate) fn positions(&self) -> Offsets {
        match self {
            Self::Given(consumer) => consumer.positions(),
            Self::Group(member) => member.positions(),
        }
    }

    pub(crate) fn seek(&self, key: &TopicPartition, start: StartPosition) -> Result<()> {
        match self {
            Self::Given(consumer) => consumer.seek(key, start),
            Self::Group(member) => member.seek(key, start),
        }
    }

    pub(crate) fn commit(&self, offsets: Offsets, limit: Duration) -> Result<Commit> {
        match self {
            Self::Given(consumer) => consumer.commit(offsets, limit),
            Self::Group(member) => member.commit(offsets, limit),
        }
    }

    pub(crate) fn take_resets(&self) -> Vec<Reset> {
        match self {
            Self::Given(consumer) => consumer.take_resets(),
            Self::Group(member) => member.take_resets(),
        }
    }

    /// Adds a partition, of which nothing is handed out before [`Reader::resume`]. A group consumer adds its own.
    pub(crate) fn add(&self, key: &TopicPartition, position: i64) -> Result<()> {
        match self {
            Self::Given(consumer) => consumer.add_paused(key, StartPosition::Offset(position)),
            Self::Group(_) => Ok(()),
        }
    }

    /// Removes a partition. A group consumer removes its own.
    pub(crate) fn remove(&self, key: &TopicPartition) -> Result<()> {
        match self {
            Self::Given(consumer) => consumer.remove(key).map(drop),
            Self::Group(_) => Ok(()),
        }
    }

    pub(crate) fn pause(&self, key: &TopicPartition) -> Result<()> {
        match self {
            Self::Given(consumer) => consumer.pause(key),
            Self::Group(member) => member.pause(key),
        }
    }

    pub(crate) fn resume(&self, key: &TopicPartition) -> Result<()> {
        match self {
            Self::Given(consumer) => consumer.resume(key),
            Self::Group(member) => member.resume(key),
        }
    }

    pub(crate) fn partitions(&self) -> Vec<TopicPartition> {
        match self {
            Self::Given(consumer) => consumer.partitions(),
            Self::Group(member) => member.assignment(),
        }
    }
}
