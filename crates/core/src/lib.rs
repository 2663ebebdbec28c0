//! Kafka's protocol and its rules, without I/O.
//!
//! No sockets, no clock, no randomness, no threads, no async: time and random seeds are arguments, bytes go in and out,
//! and a driver (the `kavka` crate, a test or the simulator) does the rest.
//!
//! Modules import in one direction only: `wire <- link <- cluster <- {producer, consumer}`, and `group` imports
//! `consumer`.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod backoff;
pub mod cluster;
pub mod config;
pub mod consumer;
pub mod error;
pub mod group;
pub mod link;
#[cfg(feature = "planted-bugs")]
pub mod planted;
#[cfg(not(feature = "planted-bugs"))]
mod planted;
pub mod producer;
pub mod random;
pub mod secret;
mod sync;
pub mod time;
pub mod wire;
