//! Rules of a broker, one a test, each held against the embedded broker and against real Kafka.
//!
//! The tests speak in frames over a plain socket, with the messages of `kavka_core::wire` and no client logic, so
//! what they see is what the broker said. Where the embedded broker leaves something out on purpose, the header of
//! the API's file says so and there is no test here.
//!
//! With the feature `real-kafka` every test runs against Kafka 4.4.0 and 3.9.2 too. All tests share a cluster of two
//! brokers of each kind: make your own topics, producers and groups, and leave the brokers running.

// Test code indexes and unwraps: a panic is how a test fails.
#![allow(clippy::missing_panics_doc)]

mod cluster;
mod connection;

/// Makes each of these functions a test on the embedded broker and, with `real-kafka`, on each version of Kafka.
macro_rules! on_every_broker {
    ($($test:ident),+ $(,)?) => {
        mod embedded {
            $(#[test] fn $test() { super::$test($crate::cluster::embedded()); })+
        }
        #[cfg(feature = "real-kafka")]
        mod kafka_4_4_0 {
            $(#[test] fn $test() { super::$test($crate::cluster::kafka_4_4_0()); })+
        }
        #[cfg(feature = "real-kafka")]
        mod kafka_3_9_2 {
            $(#[test] fn $test() { super::$test($crate::cluster::kafka_3_9_2()); })+
        }
    };
}

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
