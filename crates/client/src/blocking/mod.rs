//! The same client for plain threads: every call that waits blocks the calling thread.
//!
//! [`Client`], [`Producer`], [`Consumer`] and [`GroupConsumer`] wrap the types of the crate root and dereference to
//! them. So all that does not wait (`seek`, `pause`, `positions`, `metadata`, ...) is the same. Threads may share them
//! by reference.
//!
//! ```no_run
//! use kavka::blocking::Client;
//! use kavka::{ProducerConfig, Record};
//!
//! fn main() -> kavka::Result<()> {
//!     let client = Client::connect("127.0.0.1:9092")?;
//!     let producer = client.producer(ProducerConfig::default())?;
//!     let topic = producer.topic("letters", true)?;
//!     let delivery = producer.send(topic, &Record::new(b"hello"))?;
//!     println!("{:?}", delivery.wait()?);
//!     Ok(())
//! }
//! ```
//!
//! To block on a call that has no method here, use [`wait`]: `wait(client.admin().list_topics())`. Never block in async
//! code: a blocked thread runs no other task.

mod consumer;
mod pending;
mod producer;
mod wait;

use std::ops::Deref;
use std::sync::Arc;

use kavka_core::cluster::{Metadata, Topic};
use kavka_core::config::{ClientConfig, ConsumerConfig, GroupConfig, ProducerConfig};
use kavka_core::consumer::TopicPartition;
use kavka_core::error::Result;

use crate::GroupOptions;

pub use consumer::{Consumer, GroupConsumer};
pub use pending::Pending;
pub use producer::{Delivery, Producer};
pub use wait::wait;
pub(crate) use wait::wait_for;

/// A client of one Kafka cluster, for threads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client(crate::Client);

impl From<crate::Client> for Client {
    fn from(client: crate::Client) -> Self {
        Self(client)
    }
}

impl Deref for Client {
    type Target = crate::Client;

    fn deref(&self) -> &crate::Client {
        &self.0
    }
}

impl Client {
    /// As [`crate::Client::connect`].
    pub fn connect(bootstrap_servers: &str) -> Result<Self> {
        wait(crate::Client::connect(bootstrap_servers)).map(Self)
    }

    /// As [`crate::Client::new`]; nothing waits for the network.
    pub fn new(config: ClientConfig) -> Result<Self> {
        crate::Client::new(config).map(Self)
    }

    /// As [`crate::Client::producer`].
    pub fn producer(&self, config: ProducerConfig) -> Result<Producer> {
        self.0.producer(config).map(Producer::from)
    }

    /// As [`crate::Client::consumer`].
    pub fn consumer(&self, config: ConsumerConfig) -> Result<Consumer> {
        self.0.consumer(config).map(Consumer::from)
    }

    /// As [`crate::Client::group_consumer`].
    pub fn group_consumer(
        &self,
        consumer: ConsumerConfig,
        group: GroupConfig,
        options: GroupOptions,
    ) -> Result<GroupConsumer> {
        self.0.group_consumer(consumer, group, options).map(GroupConsumer::from)
    }

    /// As [`crate::Client::ready`].
    pub fn ready(&self) -> Result<Arc<Metadata>> {
        wait(self.0.ready())
    }

    /// As [`crate::Client::topic`].
    pub fn topic(&self, name: &str, create: bool) -> Result<Arc<Topic>> {
        wait(self.0.topic(name, create))
    }

    /// As [`crate::Client::partitions`].
    pub fn partitions(&self, topic: &str) -> Result<Vec<TopicPartition>> {
        wait(self.0.partitions(topic))
    }
}
