//! A Kafka client: producers, consumers and administration, for async programs and for threads.
//!
//! A program starts with a [`Client`], which finds all brokers of the cluster through one of them. Calls that wait are
//! futures, which work with any async runtime: the client has its own thread for sockets and timers. [`blocking`] has
//! the same API for threads. `examples/` has a short program for each of the following.
//!
//! # Writing
//!
//! [`Producer::send`] accepts a record and returns a [`Delivery`], a future with the record's outcome. Send many
//! records before you await the first one: they share batches and requests.
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
//! With the default settings, a record that is reported as stored is on every in-sync replica, exactly once, and in the
//! order of the `send` calls within its partition. If the report is an error, [`Error::written`] says whether the
//! record may still be in the log.
//!
//! # Reading
//!
//! A [`Consumer`] reads given partitions. [`Consumer::records`] is a stream of records, [`Consumer::next_records`]
//! returns many at once, and [`Consumer::next_batch`] whole batches, whose records can be read without copying them.
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
//! [`Client::commit_offsets`] commits the result of [`Consumer::positions`] for a group, and
//! [`Client::committed_offsets`] returns it at the next start.
//!
//! # Groups
//!
//! [`Client::group_consumer`] joins a group, which shares the partitions of its topics among the members. It commits by
//! itself what was read (`enable.auto.commit`): every five seconds, and before a partition goes to another member.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use kavka::{Client, ConsumerConfig, GroupConfig, GroupOptions};
//!
//! # async fn example() -> kavka::Result<()> {
//! let client = Client::connect("kafka-1:9092").await?;
//! let consumer = ConsumerConfig::default().group_id(Some("billing".into()));
//! let member = client.group_consumer(consumer, GroupConfig::default(), GroupOptions::default())?;
//! member.subscribe(&["orders"])?;
//! let mut records = member.records();
//! for _ in 0..100 {
//!     let Some(record) = records.next().await else { break };
//!     println!("{:?}", record?.value);
//! }
//! member.close(Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`GroupConsumer::subscribe_pattern`] subscribes to a regular expression. A [`RebalanceListener`] is told when
//! partitions come and go. [`Acknowledgements`] are for records that are processed in any order, by several threads or
//! tasks: nothing is committed past a record that is not acknowledged. A member that asks for no records for
//! `max.poll.interval.ms` leaves the group, says so in an error, and comes back when it asks.
//!
//! # Topics
//!
//! [`Client::admin`] creates, deletes, lists and describes topics and groups, and computes the lag of a group.
//!
//! # Settings
//!
//! Each setting is a field of [`ClientConfig`], [`ProducerConfig`] or [`ConsumerConfig`], with a builder method of the
//! same name. `from_properties` takes settings by their Kafka names.
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
//! # TLS and SASL
//!
//! [`ClientConfig::with_security`] takes a [`Security`]; the settings `security.protocol`, `ssl.*` and `sasl.*` say the
//! same in a properties file. A [`Secret`] is never shown. [`Login::from_fn`] and [`TokenSource::from_fn`] ask the
//! program for the current password or token.
//!
//! ```no_run
//! use kavka::{Client, ClientConfig, Login, Sasl, ScramHash, Secret, Security, Tls};
//!
//! # async fn example() -> kavka::Result<()> {
//! let password = std::env::var("KAFKA_PASSWORD").unwrap_or_default();
//! let sasl = Sasl::Scram(ScramHash::Sha512, Login::new("billing", Secret::new(password)));
//! let security = Security::tls(Tls::with_ca_file("/etc/kafka/ca.pem")).sasl(sasl);
//! let client = Client::new(ClientConfig::new("kafka-1:9093")?.with_security(security))?;
//! client.ready().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! There is one [`Error`] type. Its text says what failed, where, why and what to do; [`Error::is_retriable`] and
//! [`Error::kind`] are for programs. An error of a consumer concerns one partition; the others go on.
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

// The client.
pub use admin::{Admin, GroupDescription, GroupListing, GroupMember, NewTopic, PartitionLag, TopicOutcomes};
pub use client::Client;
pub use kavka_core::cluster::{Broker, Metadata, Partition, PartitionList, Topic};

// Producers.
pub use kavka_core::producer::RecordMetadata;
pub use kavka_core::wire::records::Header;
pub use producer::{Delivery, Producer, ProducerTopic, Record};

// Consumers.
pub use consumer::{Acknowledgement, Acknowledgements, CustomAssignor, GroupConsumer, GroupOptions, RebalanceListener};
pub use consumer::{Batch, Commit, Consumer, ConsumerRecord, RecordHeader, Records, Reset};
pub use kavka_core::consumer::{
    CommittedOffset, FetchedResponse, Offsets, RecordCursor, StartPosition, TopicPartition,
};
pub use kavka_core::group::assignor;
pub use kavka_core::wire::Uuid;
pub use kavka_core::wire::records::{Headers, RecordView, Span};
pub use offsets::FoundOffset;

// Settings.
pub use kavka_core::config::{
    self, Acks, AutoOffsetReset, ClientConfig, ConsumerConfig, GroupConfig, GroupProtocol, IsolationLevel,
    ProducerConfig, parse_bootstrap_servers,
};
pub use kavka_core::wire::records::{Compression, CompressionType};

// TLS and SASL.
pub use kavka_core::config::SecretSource;
pub use kavka_core::config::{
    EndpointUrl, FilePath, Identity, Login, Sasl, SaslMechanism, ScramHash, Security, SecurityProtocol, Tls,
    TlsVersion, Token, TokenSource, Trust,
};
pub use kavka_core::secret::Secret;

// Errors.
pub use kavka_core::error::{Error, ErrorClass, ErrorKind, Hint, Phase, Place, Result, Written};
pub use kavka_core::wire::ErrorCode;

// Custom sockets, and a tap on the frames.
pub use driver::{BoxFuture, Network, Stream, Tcp, WireEvent, WireTap};

// For PyKafka, the `kavka` command and our tests. Any release may change these.
#[doc(hidden)]
pub use admin::membership::Joining;
#[doc(hidden)]
pub use admin::single::{RawMember, RawOffset, SingleBroker};
#[doc(hidden)]
pub use client::check_topic_name;
#[doc(hidden)]
pub use kavka_core::cluster::{Call, Owner, Target};
#[doc(hidden)]
pub use kavka_core::error::{printable, printable_name};
#[doc(hidden)]
pub use kavka_core::producer::Completion;
#[doc(hidden)]
pub use kavka_core::wire;

// For the fuzz targets.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use driver::fuzzing;

/// Compiles the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
