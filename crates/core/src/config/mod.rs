//! The settings: their names, ranges and defaults.
//!
//! Every setting is one row in `client.rs`, `producer.rs`, `consumer.rs` or `group.rs`. Properties and errors use
//! Kafka's dotted name; the row also has its names in Rust and PyKafka. A value that is out of range or conflicts with
//! another one is refused by `validate`, before anything is sent.

mod client;
mod consumer;
mod group;
mod names;
mod producer;
mod properties;
mod security;
mod servers;
mod setting;
mod value;

pub use client::ClientConfig;
pub use consumer::{AutoOffsetReset, ConsumerConfig, IsolationLevel};
pub use group::{GroupConfig, GroupProtocol};
pub use names::{all_settings, beside_mentions, mentions, without_effect};
pub use producer::{Acks, ProducerConfig};
pub use properties::select_properties;
pub(crate) use security::{EXTENSION_FORM, is_extension};
pub use security::{
    EndpointIdentification, EndpointUrl, FilePath, Identity, Login, Sasl, SaslMechanism, ScramHash, SecretSource,
    Security, SecurityProtocol, StoreFormat, Tls, TlsVersion, Token, TokenCallback, TokenSource, Trust,
};
pub use servers::{parse_bootstrap_servers, show_server};
pub use setting::Setting;

use crate::error::Result;

/// Reads the settings of a producer and its client from one list, as Kafka's own clients do.
///
/// A name that both have (`request.timeout.ms`) sets both.
///
/// # Errors
///
/// Those of [`ProducerConfig::from_properties`].
pub fn producer_properties<N: AsRef<str>, V: AsRef<str>>(
    properties: impl IntoIterator<Item = (N, V)>,
) -> Result<(ClientConfig, ProducerConfig)> {
    let (mut client, mut producer) = (ClientConfig::default(), ProducerConfig::default());
    for (name, value) in properties {
        let (name, value) = (name.as_ref(), value.as_ref());
        let (of_client, of_producer) = (client.set(name, value)?, producer.set(name, value)?);
        if !of_client && !of_producer {
            return Err(names::unknown(name, value, &[ClientConfig::SETTINGS, ProducerConfig::SETTINGS]));
        }
    }
    client.validate()?;
    producer.validate()?;
    Ok((client, producer))
}

/// Reads the settings of a consumer and its client from one list, as Kafka's own clients do.
///
/// # Errors
///
/// Those of [`ConsumerConfig::from_properties`].
pub fn consumer_properties<N: AsRef<str>, V: AsRef<str>>(
    properties: impl IntoIterator<Item = (N, V)>,
) -> Result<(ClientConfig, ConsumerConfig)> {
    let (mut client, mut consumer) = (ClientConfig::default(), ConsumerConfig::default());
    for (name, value) in properties {
        let (name, value) = (name.as_ref(), value.as_ref());
        let (of_client, of_consumer) = (client.set(name, value)?, consumer.set(name, value)?);
        if !of_client && !of_consumer {
            return Err(names::unknown(name, value, &[ClientConfig::SETTINGS, ConsumerConfig::SETTINGS]));
        }
    }
    client.validate()?;
    consumer.validate()?;
    Ok((client, consumer))
}

/// Reads the settings of a group member, its consumer and its client from one list.
///
/// # Errors
///
/// Those of [`GroupConfig::from_properties`].
pub fn group_properties<N: AsRef<str>, V: AsRef<str>>(
    properties: impl IntoIterator<Item = (N, V)>,
) -> Result<(ClientConfig, ConsumerConfig, GroupConfig)> {
    let mut group = GroupConfig::default();
    let mut others = Vec::new();
    for (name, value) in properties {
        if !group.set(name.as_ref(), value.as_ref())? {
            others.push((name, value));
        }
    }
    group.validate()?;
    let (client, consumer) = consumer_properties(others)?;
    Ok((client, consumer, group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::wire::records::{Compression, CompressionType};
    use std::time::Duration;

    fn refusal<T: std::fmt::Debug>(result: Result<T>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn a_source_address_is_an_ip_address_and_nothing_else() {
        for address in ["", "127.0.0.1", "::1"] {
            ClientConfig::from_properties([("source.address", address)]).unwrap();
        }
        for address in ["localhost", "127.0.0.1:9092", "[::1]"] {
            let refused = refusal(ClientConfig::from_properties([("source.address", address)]));
            assert!(refused.contains("source.address") && refused.contains("without a port"), "{refused}");
        }
    }

    #[test]
    fn the_defaults_are_valid_and_read_back_from_what_the_rows_show() {
        fn shown(settings: &[Setting]) -> impl Iterator<Item = (&'static str, String)> {
            settings.iter().map(|setting| (setting.name, (setting.default)()))
        }
        assert_eq!(ClientConfig::from_properties(shown(ClientConfig::SETTINGS)).unwrap(), ClientConfig::default());
        assert_eq!(
            ProducerConfig::from_properties(shown(ProducerConfig::SETTINGS)).unwrap(),
            ProducerConfig::default()
        );
        assert_eq!(
            ConsumerConfig::from_properties(shown(ConsumerConfig::SETTINGS)).unwrap(),
            ConsumerConfig::default()
        );
        assert_eq!(GroupConfig::from_properties(shown(GroupConfig::SETTINGS)).unwrap(), GroupConfig::default());
    }

    #[test]
    fn every_range_is_checked_at_both_ends() {
        fn check(settings: &[Setting], validate: impl Fn(&str, &str) -> Result<()>) {
            for setting in settings {
                let Some((least, most)) = setting.range else { continue };
                let beyond = [u128::from(least).checked_sub(1), Some(u128::from(most) + 1)];
                for number in beyond.into_iter().flatten() {
                    let text = refusal(validate(setting.name, &number.to_string()));
                    assert!(text.contains(setting.name) && text.contains(&setting.allowed()), "{text}");
                }
            }
        }
        check(ClientConfig::SETTINGS, |name, value| ClientConfig::from_properties([(name, value)]).map(drop));
        check(ProducerConfig::SETTINGS, |name, value| ProducerConfig::from_properties([(name, value)]).map(drop));
        check(ConsumerConfig::SETTINGS, |name, value| ConsumerConfig::from_properties([(name, value)]).map(drop));
        check(GroupConfig::SETTINGS, |name, value| GroupConfig::from_properties([(name, value)]).map(drop));
    }

    #[test]
    fn a_value_set_by_the_program_is_checked_like_one_that_was_read() {
        let text = refusal(ClientConfig::default().retry_backoff(Duration::from_micros(500)).validate());
        assert_eq!(text, "retry.backoff.ms must be 1 or more, not 500µs");
        let text = refusal(ConsumerConfig::default().fetch_buffer(0).validate());
        assert_eq!(text, "fetch.buffer must be 1 or more, not 0");
        let text = refusal(ProducerConfig::default().max_queued_records(Some(0)).validate());
        assert_eq!(text, "max.queued.records must be 1 or more, not 0");
        let text = refusal(ProducerConfig::default().batch_size(usize::MAX).validate());
        assert_eq!(text, "batch.size must be 1 to 2,147,483,647, not 18446744073709551615");
    }

    #[test]
    fn properties_are_read_by_kafkas_names() {
        let producer = [("linger.ms", "20"), ("acks", "all"), ("compression.type", "zstd:9"), ("retries", " 3 ")];
        let compression = Compression::new(CompressionType::Zstd, Some(9)).unwrap();
        let expected = ProducerConfig::default().linger(Duration::from_millis(20)).compression(compression).retries(3);
        assert_eq!(ProducerConfig::from_properties(producer).unwrap(), expected);
        let client = ClientConfig::from_properties([("bootstrap.servers", "a:1, [::1]:2\n")]).unwrap();
        assert_eq!(client.bootstrap_servers, [("a".to_owned(), 1), ("::1".to_owned(), 2)]);
        assert_eq!(client, ClientConfig::new("a:1,[::1]:2").unwrap());
    }

    #[test]
    fn one_list_configures_a_client_and_what_is_made_of_it() {
        let (client, producer) = producer_properties([("request.timeout.ms", "7000"), ("linger.ms", "1")]).unwrap();
        assert_eq!(client.request_timeout, Duration::from_secs(7));
        assert_eq!(producer.ack_timeout, Duration::from_secs(7));
        let (client, consumer) = consumer_properties([("client.id", "a"), ("client.rack", "b")]).unwrap();
        assert_eq!((client.client_id.as_str(), consumer.client_rack.as_deref()), ("a", Some("b")));
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_known_one() {
        let text = refusal(ProducerConfig::from_properties([("lingr.ms", "5")]));
        assert_eq!(text, "no setting is called `lingr.ms`; did you mean linger.ms?");
        let text = refusal(producer_properties([("fetch.min.bytes", "5")]));
        assert_eq!(text, "fetch.min.bytes is not a setting of this kind; it is a consumer's setting");
        let text = refusal(consumer_properties([("transactional.id", "a")]));
        assert_eq!(text, "no setting is called `transactional.id`");
    }

    #[test]
    fn a_value_that_cannot_be_read_is_refused_with_what_it_may_be() {
        for (name, value, allowed) in [
            ("linger.ms", "soon", "0 or more"),
            ("linger.ms", "-1", "0 or more"),
            ("batch.size", "1e6", "1 to 2,147,483,647"),
            ("acks", "2", "all, 1 or 0"),
            ("enable.idempotence", "yes", "true or false"),
            ("compression.type", "zip", "none, gzip, snappy, lz4 or zstd, optionally with a level as in zstd:9"),
        ] {
            let text = refusal(ProducerConfig::from_properties([(name, value)]));
            assert_eq!(text, format!("{name} must be {allowed}, not {value}"));
        }
        let text = refusal(ClientConfig::from_properties([("bootstrap.servers", "a:1,b:x")]));
        assert!(text.contains("`b:x`"), "{text}");
    }

    #[test]
    fn idempotence_asked_for_by_name_refuses_weaker_acks() {
        let config = ProducerConfig::default().acks(Acks::Leader).idempotence(Some(true));
        assert_eq!(refusal(config.validate()), "acks must be all when enable.idempotence is true, not 1");
    }

    #[test]
    fn weaker_acks_turn_idempotence_off_by_themselves() {
        let config = ProducerConfig::default().acks(Acks::None);
        config.validate().unwrap();
        assert!(!config.is_idempotent());
    }
}
