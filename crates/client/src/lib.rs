//! A Kafka client in Rust.
//!
//! What Kafka means is in `kavka-core`; this crate adds what a computer does: sockets, timers, tasks
//! and a thread. [`Client`] is where a program begins.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod admin;
pub mod blocking;
mod client;
mod consumer;
mod driver;
mod memory;
mod offsets;
mod producer;
mod role;

pub use admin::NewTopic;
pub use client::{Client, check_topic_name};
pub use consumer::{Batch, Consumer, ConsumerRecord, RecordHeader, Reset};
pub use driver::{BoxFuture, Network, Stream, Tcp, WireEvent, WireTap};
pub use kavka_core::cluster::{Broker, Call, Metadata, Owner, Partition, Target, Topic};
pub use kavka_core::config::{
    self, Acks, AutoOffsetReset, ClientConfig, ConsumerConfig, IsolationLevel, ProducerConfig, parse_bootstrap_servers,
};
pub use kavka_core::consumer::{CommittedOffset, RecordCursor, StartPosition, TopicPartition};
pub use kavka_core::error::{Error, ErrorKind, Phase, Place, Result, Written};
pub use kavka_core::producer::{Completion, RecordMetadata};
pub use kavka_core::wire;
pub use kavka_core::wire::ErrorCode;
pub use kavka_core::wire::records::{Compression, CompressionType, Header, Headers, RecordView, Span};
pub use offsets::FoundOffset;
pub use producer::{Delivery, Producer, ProducerTopic, Record};

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
