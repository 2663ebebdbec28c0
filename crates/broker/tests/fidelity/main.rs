//! Rules of a broker, one a test, each held against the embedded broker and against real Kafka.
//!
//! The tests speak in frames over a plain socket, with the messages of `kavka_core::wire` and no client logic, so
//! what they see is what the broker said. Where the embedded broker leaves something out on purpose, the header of
//! the API's file says so and there is no test here.
//!
//! With the feature `real-kafka` every test runs against two versions of Kafka too. All tests share a cluster of two
//! brokers of each kind: make your own topics, producers and groups, and leave the brokers running.

// Test code indexes and unwraps: a panic is how a test fails.
#![allow(clippy::missing_panics_doc)]

#[macro_use]
extern crate kavka_test_support;

mod cluster;
mod connection;

mod configs;
mod delete_records;
mod fetch;
mod frames;
mod groups;
mod list_offsets;
mod metadata;
mod produce;
mod sequences;
mod sessions;
mod topics;
