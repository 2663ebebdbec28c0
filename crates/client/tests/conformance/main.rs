//! What a program can rely on, checked on the embedded broker and on real Kafka.
//!
//! `make kafka-test` runs every test on two versions of Kafka, too. On an embedded cluster and on the newest Kafka each
//! test runs once more over TLS and SASL. All tests share a cluster of two brokers of each kind, so use your own topics
//! and groups, and leave the brokers running.

mod cluster;

mod calls;
mod changes;
mod consume;
mod groups;
mod membership;
mod offsets;
mod positions;
mod produce;
mod protocols;
mod reports;
