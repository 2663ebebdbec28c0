//! What a program can rely on, held against the embedded broker and against real Kafka.
//!
//! With the feature `real-kafka` every test runs on Kafka 4.4.0 and 3.9.2 too. All tests share a cluster of two brokers
//! of each kind: make your own topics and groups, and leave the brokers running.

mod cluster;

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

mod changes;
mod consume;
mod offsets;
mod positions;
mod produce;
mod reports;
