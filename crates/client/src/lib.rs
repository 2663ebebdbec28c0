//! A Kafka client: producers, consumers and a few words about topics, for async programs and for threads.
//!
//! A program begins with a [`Client`], which finds the rest of the cluster from one of its brokers. Calls that wait are
//! futures of any runtime: the client brings a thread of its own for sockets and timers. In [`blocking`] is the same API for
//! threads. `examples/` has a short program for each of the following.
//!
//! # Writing
//!
//! [`Producer::send`] accepts a record and gives a [`Delivery`], a future of what becomes of it. Records that are sent
//! before the first one is awaited travel together.
//!
//! ```no_run
//! use kavka::{Client, ProducerConfig, Record};
//!
//! # async fn example() -> kavka::Result<()> {
//! let client = Client::connect("kafka-1:9092,kafka-2:9092").await?;
//! let producer = client.producer(ProducerConfig::default())?;
//! let topic = producer.topic("letters", true).await?;
//! let delivery = producer.send(topic, &Record::new("hello").key("greeting")).await?;
//! println!("stored at offset {:?}", delivery.await?.offset);
//! # Ok(())
//! # }
//! ```
//!
//! With the default settings a record that was reported as stored is on every in-sync replica, once, and in the order of
//! the `send` calls within its partition. A report that is an error says with [`Error::written`] whether the record may be
//! in the log all the same.
//!
//! # Reading
//!
//! A [`Consumer`] reads the partitions it is given. [`Consumer::records`] is a stream of records; [`Consumer::next_batch`]
//! gives whole batches, whose records can be read without being copied.
//!
//! ```no_run
//! use kavka::{Client, ConsumerConfig, StartPosition};
//!
//! # async fn example() -> kavka::Result<()> {
//! let client = Client::connect("kafka-1:9092").await?;
//! let consumer = client.consumer(ConsumerConfig::default())?;
//! for partition in client.partitions("letters").await? {
//!     consumer.add(&partition, StartPosition::Earliest)?;
//! }
//! let mut records = consumer.records();
//! while let Some(record) = records.next().await {
//!     println!("{:?}", record?.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Consumer::positions`] are what [`Client::commit_offsets`] commits for a group, and what
//! [`Client::committed_offsets`] gives back at the next start.
//!
//! # Topics
//!
//! [`Client::admin`] makes, removes, lists and describes topics.
//!
//! # Settings
//!
//! Each setting is a field of [`ClientConfig`], [`ProducerConfig`] or [`ConsumerConfig`] with a builder method of its name.
//! `from_properties` reads them by Kafka's names.
//!
//! ```
//! use std::time::Duration;
//!
//! # fn main() -> kavka::Result<()> {
//! let built = kavka::ProducerConfig::default().linger(Duration::from_millis(20)).retries(3);
//! let read = kavka::ProducerConfig::from_properties([("linger.ms", "20"), ("retries", "3")])?;
//! assert_eq!(built, read);
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! There is one [`Error`]. It says what failed, where, why and what can be done; [`Error::is_retriable`] and
//! [`Error::kind`] are for programs. An error of the consumer concerns one partition, and the others go on.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod admin;
pub mod blocking;
mod call;
mod client;
mod consumer;
mod driver;
mod memory;
mod offsets;
mod producer;
mod record;
mod role;

// The way in.
pub use admin::{Admin, NewTopic, TopicOutcomes};
pub use client::Client;
pub use kavka_core::cluster::{Broker, Metadata, Partition, Topic};

// Writing.
pub use kavka_core::producer::RecordMetadata;
pub use kavka_core::wire::records::Header;
pub use producer::{Delivery, Producer, ProducerTopic, Record};

// Reading.
pub use consumer::{Batch, Commit, Consumer, ConsumerRecord, RecordHeader, Records, Reset};
pub use kavka_core::consumer::{CommittedOffset, Offsets, RecordCursor, StartPosition, TopicPartition};
pub use kavka_core::wire::records::{Headers, RecordView, Span};
pub use offsets::FoundOffset;

// Settings.
pub use kavka_core::config::{
    self, Acks, AutoOffsetReset, ClientConfig, ConsumerConfig, IsolationLevel, ProducerConfig, parse_bootstrap_servers,
};
pub use kavka_core::wire::records::{Compression, CompressionType};

// Errors.
pub use kavka_core::error::{Error, ErrorKind, Phase, Place, Result, Written};
pub use kavka_core::wire::ErrorCode;

// Sockets of one's own, and a look at the bytes.
pub use driver::{BoxFuture, Network, Stream, Tcp, WireEvent, WireTap};

// For PyKafka, the command and our tests. These follow Kafka's protocol and our own needs: any release may change them.
#[doc(hidden)]
pub use client::check_topic_name;
#[doc(hidden)]
pub use kavka_core::cluster::{Call, Owner, Target};
#[doc(hidden)]
pub use kavka_core::producer::Completion;
#[doc(hidden)]
pub use kavka_core::wire;

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
