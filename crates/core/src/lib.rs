//! What Kafka means, without I/O.
//!
//! No sockets, no clock, no randomness, no threads, no async: time and random seeds come in as
//! arguments, bytes go in and out, and a driver (the `kavka` crate, a test or a simulator) does the
//! rest. Modules import one way only: `wire <- link <- cluster <- {producer, consumer}`.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod backoff;
pub mod cluster;
pub mod config;
pub mod consumer;
pub mod error;
pub mod link;
pub mod producer;
pub mod random;
pub mod time;
pub mod wire;
