//! What a program can rely on, held against the embedded broker and against real Kafka.
//!
//! With the feature `real-kafka` every test runs on two versions of Kafka too. All tests share a cluster of two brokers
//! of each kind: make your own topics and groups, and leave the brokers running.

mod cluster;

mod calls;
mod changes;
mod consume;
mod offsets;
mod positions;
mod produce;
mod reports;
