//! The producer, and what became of a record, for threads.

use std::ops::Deref;
use std::time::Duration;

use kavka_core::error::{ErrorKind, Result};
use kavka_core::producer::RecordMetadata;

use super::{wait, wait_for};
use crate::{ProducerTopic, Record};

/// Sends records to topics of one cluster, for threads. Cheap to clone; every clone is the same producer.
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

    /// Accepts a record, blocking up to `max.block.ms` while there is no room for it.
    ///
    /// # Errors
    ///
    /// As [`crate::Producer::send`].
    #[inline]
    pub fn send(&self, topic: ProducerTopic, record: &Record<'_>) -> Result<Delivery> {
        let accepted = match self.0.try_enqueue(topic, record) {
            Err(error) if error.kind() == ErrorKind::BufferFull => wait(self.0.send(topic, record)),
            accepted => accepted,
        };
        accepted.map(Delivery)
    }

    /// Sends everything accepted so far and waits until all of it is reported: stored or failed.
    pub fn flush(&self) {
        wait(self.0.flush());
    }

    /// Refuses further records, sends what is buffered and waits up to `limit` until all of it is reported.
    ///
    /// # Errors
    ///
    /// As [`crate::Producer::close`].
    pub fn close(&self, limit: Duration) -> Result<()> {
        wait(self.0.close(limit))
    }
}

/// A record on its way, for threads.
#[derive(Debug, Clone)]
pub struct Delivery(crate::Delivery);

impl Deref for Delivery {
    type Target = crate::Delivery;

    fn deref(&self) -> &crate::Delivery {
        &self.0
    }
}

impl Delivery {
    /// Waits for what becomes of the record, which takes `delivery.timeout.ms` at most.
    pub fn wait(self) -> Result<RecordMetadata> {
        wait(self.0)
    }

    /// Waits up to `limit` for what becomes of the record; `None` if that is still open.
    pub fn wait_for(&self, limit: Duration) -> Option<Result<RecordMetadata>> {
        wait_for(self.0.clone(), limit)
    }
}
