//! The settings: what they are called, what they may be and what they are when nothing is said.
//!
//! Kafka's dotted name is the name; the doc comment of a field gives it. A setting that is out of
//! range or in conflict with another one is refused by `validate`, before anything is sent.

mod client;
mod consumer;
mod producer;

pub use client::ClientConfig;
pub use consumer::{AutoOffsetReset, ConsumerConfig, IsolationLevel};
pub use producer::{Acks, ProducerConfig};

use crate::error::{Error, ErrorKind};

fn refuse(setting: &str, value: impl std::fmt::Debug, allowed: &str) -> Error {
    Error::new(ErrorKind::Config, format!("{setting} must be {allowed}, not {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        ClientConfig::default().validate().unwrap();
        ProducerConfig::default().validate().unwrap();
        ConsumerConfig::default().validate().unwrap();
    }

    #[test]
    fn idempotence_asked_for_by_name_refuses_weaker_acks() {
        let config = ProducerConfig { acks: Acks::Leader, idempotence: Some(true), ..ProducerConfig::default() };
        assert_eq!(config.validate().unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn weaker_acks_turn_idempotence_off_by_themselves() {
        let config = ProducerConfig { acks: Acks::None, ..ProducerConfig::default() };
        config.validate().unwrap();
        assert!(!config.is_idempotent());
    }

    #[test]
    fn buffers_that_can_hold_nothing_are_refused() {
        for config in [
            ConsumerConfig { fetch_buffer: 0, ..ConsumerConfig::default() },
            ConsumerConfig { max_decompressed_batch: 0, ..ConsumerConfig::default() },
        ] {
            assert_eq!(config.validate().unwrap_err().kind(), ErrorKind::Config);
        }
    }
}
