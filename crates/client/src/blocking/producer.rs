//! The blocking producer, and the delivery report of a record.

use std::ops::Deref;
use std::time::Duration;

use kavka_core::error::{ErrorKind, Phase, Result};
use kavka_core::producer::RecordMetadata;

use super::{wait, wait_for};
use crate::{ProducerTopic, Record};

/// Sends records to topics of one cluster. Cheap to clone; all clones are the same producer.
#[derive(Debug, Clone)]
pub struct Producer(crate::Producer);

impl From<crate::Producer> for Producer {
    fn from(producer: crate::Producer) -> Self {
        Self(producer)
    }
}

impl Deref for Producer {
    type Target = crate::Producer;

    fn deref(&self) -> &crate::Producer {
        &self.0
    }
}

impl Producer {
    /// As [`crate::Producer::topic`].
    pub fn topic(&self, name: &str, create: bool) -> Result<ProducerTopic> {
        wait(self.0.topic(name, create))
    }

    /// Accepts a record, or fails at once.
    ///
    /// # Errors
    ///
    /// As [`crate::Producer::try_send`].
    #[inline]
    pub fn try_send(&self, topic: ProducerTopic, record: &Record<'_>) -> Result<Delivery> {
        self.0.try_send(topic, record).map(Delivery)
    }

    /// Accepts a record; blocks up to `max.block.ms` while the buffer is full.
    ///
    /// # Errors
    ///
    /// As [`crate::Producer::send`].
    #[inline]
    pub fn send(&self, topic: ProducerTopic, record: &Record<'_>) -> Result<Delivery> {
        self.send_within(topic, record, self.0.max_block())
    }

    /// Accepts a record; blocks up to `limit` while the buffer is full.
    ///
    /// # Errors
    ///
    /// As [`crate::Producer::send`].
    #[inline]
    pub fn send_within(&self, topic: ProducerTopic, record: &Record<'_>, limit: Duration) -> Result<Delivery> {
        match self.try_send(topic, record) {
            Err(error) if matches!(error.kind(), ErrorKind::BufferFull | ErrorKind::TimedOut(Phase::Metadata)) => {
                self.0.block_and_append(topic, record, limit).map(Delivery)
            }
            outcome => outcome,
        }
    }

    /// Sends everything accepted so far, and waits until each record is stored or has failed.
    pub fn flush(&self) {
        wait(self.0.flush());
    }

    /// Refuses further records, sends what is buffered, and waits up to `limit` until each record is stored or has
    /// failed.
    ///
    /// # Errors
    ///
    /// As [`crate::Producer::close`].
    pub fn close(&self, limit: Duration) -> Result<()> {
        wait(self.0.close(limit))
    }
}

/// The pending report of a record.
#[derive(Debug, Clone)]
pub struct Delivery(crate::Delivery);

impl From<Delivery> for crate::Delivery {
    fn from(delivery: Delivery) -> Self {
        delivery.0
    }
}

impl Deref for Delivery {
    type Target = crate::Delivery;

    fn deref(&self) -> &crate::Delivery {
        &self.0
    }
}

impl Delivery {
    /// Waits for the record's outcome: at most `delivery.timeout.ms`.
    pub fn wait(self) -> Result<RecordMetadata> {
        wait(self.0)
    }

    /// Waits up to `limit` for the record's outcome; `None` if it is still open.
    pub fn wait_for(&self, limit: Duration) -> Option<Result<RecordMetadata>> {
        wait_for(self.0.clone(), limit)
    }
}
