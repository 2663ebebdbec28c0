//! The rules of a broker, one per test, checked on the embedded broker and on real Kafka.
//!
//! The tests send frames over a plain socket, with the messages of `kavka_core::wire` and no client logic, so they see
//! exactly what the broker sent. If the embedded broker leaves something out on purpose, the header of the API's file
//! says so, and there is no test for it here.
//!
//! `make kafka-test` runs every test on two versions of Kafka, too. All tests share a cluster of two brokers of each
//! kind, so use your own topics, producers and groups, and leave the brokers running.

// Test code indexes and unwraps: a panic is how a test fails.
#![allow(clippy::missing_panics_doc)]

#[macro_use]
extern crate kavka_test_support;

mod cluster;
mod connection;
mod group_kit;

mod configs;
mod consumer_groups;
mod delete_records;
mod fetch;
mod frames;
mod groups;
mod list_offsets;
mod members;
mod metadata;
mod migration;
mod produce;
mod sasl;
mod scripts;
mod sequences;
mod sessions;
mod static_members;
mod topics;
mod versions;
