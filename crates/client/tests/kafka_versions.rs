//! The client on the embedded broker as each version of Kafka that it can be: what the version has works, and what it
//! lacks is said in an error.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use kavka::blocking::GroupConsumer;
use kavka::{
    ClientConfig, CommittedOffset, Compression, CompressionType, ConsumerConfig, ErrorKind, GroupConfig, GroupOptions,
    Header, ProducerConfig, Record, StartPosition,
};
use kavka_broker::serve::{Broker, Options};
use kavka_broker::{ClusterConfig, KafkaVersion};
use kavka_core::wire::ApiKey;
use kavka_test_support::LIMIT;
use kavka_test_support::rig::{Rig, TOPIC, key};
use kavka_test_support::until;

/// Calls `test` with a cluster of each version, which has a topic of this many partitions.
fn on_every_version(partitions: i32, test: fn(KafkaVersion, &Rig)) {
    thread::scope(|scope| {
        for version in KafkaVersion::ALL {
            let run = move || {
                let cluster = ClusterConfig { kafka_version: *version, ..ClusterConfig::default() };
                let broker = Broker::start(Options { cluster, ..Options::default() }).unwrap();
                broker.with(|cluster, _| cluster.create_topic(TOPIC, partitions, 1)).unwrap();
                test(*version, &Rig::of(broker, ClientConfig::default(), None));
            };
            // A thread that panics says its name, and fails the test.
            thread::Builder::new().name(format!("Kafka {version}")).spawn_scoped(scope, run).unwrap();
        }
    });
}

fn codecs(version: KafkaVersion) -> Vec<CompressionType> {
    let mut codecs = vec![CompressionType::None, CompressionType::Gzip, CompressionType::Snappy, CompressionType::Lz4];
    if version >= KafkaVersion::V2_1 {
        codecs.push(CompressionType::Zstd);
    }
    codecs
}

const FIRST_MS: i64 = 1_600_000_000_000;

#[test]
fn records_come_back_with_key_value_and_time_in_every_codec() {
    on_every_version(5, |version, rig| {
        let long = b"compressible ".repeat(200);
        let long = Some(long.as_slice());
        let empty = Some(b"".as_slice());
        let sent = [(None, long), (empty, empty), (Some(b"key".as_slice()), None), (None, None), (long, long)];
        let has_times = version >= KafkaVersion::V0_10_0;
        for (partition, codec) in (0..).zip(codecs(version)) {
            let compression = Compression::new(codec, None).unwrap();
            let (producer, topic) = rig.producer(ProducerConfig::default().compression(compression));
            let deliveries = sent.iter().zip(FIRST_MS..).map(|((key, value), time)| {
                let (key, value) = (*key, *value);
                let timestamp_ms = has_times.then_some(time);
                let record = Record { key, value, partition: Some(partition), timestamp_ms, headers: &[] };
                producer.send_within(topic, &record, LIMIT).unwrap()
            });
            let deliveries: Vec<_> = deliveries.collect();
            for (delivery, offset) in deliveries.into_iter().zip(0..) {
                assert_eq!(delivery.wait().unwrap().offset, Some(offset), "{version} {codec}");
            }
            let consumer = rig.consumer(0, StartPosition::Earliest);
            consumer.add(&key(partition), StartPosition::Earliest).unwrap();
            let mut read = Vec::new();
            while read.len() < sent.len() {
                let records = consumer.next_records(sent.len() - read.len(), LIMIT).unwrap();
                assert!(!records.is_empty(), "{version} {codec}: {} records came", read.len());
                read.extend(records);
            }
            for ((record, (key, value)), number) in read.iter().zip(&sent).zip(0..) {
                assert_eq!((record.key.as_deref(), record.value.as_deref()), (*key, *value), "{version} {codec}");
                let time = if has_times { FIRST_MS + number } else { -1 };
                assert_eq!((record.offset, record.timestamp_ms), (number, time), "{version} {codec}");
            }
        }
    });
}

#[test]
fn headers_come_back_or_are_refused_with_the_version_that_has_them() {
    on_every_version(1, |version, rig| {
        let (producer, topic) = rig.producer(ProducerConfig::default());
        let headers = [Header { key: b"name", value: Some(b"value") }];
        let record = Record { headers: &headers, ..Record::default() };
        let outcome = producer.send_within(topic, &record, LIMIT).and_then(kavka::blocking::Delivery::wait);
        if version < KafkaVersion::V0_11 {
            let error = outcome.unwrap_err();
            assert!(error.to_string().contains("record headers need a broker of Kafka 0.11"), "{version}: {error}");
            return;
        }
        outcome.unwrap();
        let read = rig.consumer(1, StartPosition::Earliest).next_records(1, LIMIT).unwrap();
        assert_eq!(read[0].headers[0].value.as_deref(), Some(b"value".as_slice()), "{version}");
    });
}

#[test]
fn zstd_is_refused_by_a_version_that_lacks_it() {
    on_every_version(1, |version, rig| {
        let zstd = Compression::new(CompressionType::Zstd, None).unwrap();
        let (producer, topic) = rig.producer(ProducerConfig::default().compression(zstd));
        let long = b"compressible ".repeat(200);
        let record = Record { value: Some(&long), ..Record::default() };
        let outcome = producer.send_within(topic, &record, LIMIT).unwrap().wait();
        assert_eq!(outcome.is_ok(), version >= KafkaVersion::V2_1, "{version}: {outcome:?}");
    });
}

#[test]
fn offsets_are_found_by_time_where_records_have_one() {
    on_every_version(1, |version, rig| {
        if version < KafkaVersion::V0_10_2 {
            // It finds only segments.
            return;
        }
        let (producer, topic) = rig.producer(ProducerConfig::default());
        for time in [1_000, 2_000] {
            let record = Record { timestamp_ms: Some(time), ..Record::default() };
            producer.send_within(topic, &record, LIMIT).unwrap().wait().unwrap();
        }
        let client = rig.client.clone();
        let found = rig.wait(async move { client.offsets_for_times(&[(key(0), 1_500)], LIMIT).await });
        let found = found.unwrap()[&key(0)].unwrap();
        assert_eq!((found.offset, found.timestamp_ms), (1, Some(2_000)), "{version}");
    });
}

#[test]
fn committed_offsets_come_back() {
    on_every_version(1, |version, rig| {
        let noted = CommittedOffset { metadata: "note".into(), ..CommittedOffset::new(2) };
        let committed = BTreeMap::from([(key(0), noted)]);
        let (client, sent) = (rig.client.clone(), committed.clone());
        let found = rig.wait(async move {
            client.commit_offsets("group", &sent, LIMIT).await.unwrap();
            client.committed_offsets("group", &[key(0)], LIMIT).await.unwrap()
        });
        assert_eq!(found, committed, "{version}");
    });
}

#[test]
fn members_share_the_partitions_where_there_are_groups() {
    on_every_version(4, |version, rig| {
        rig.write(4, 0, 10);
        let join = || {
            let config = GroupConfig::default()
                .session_timeout(Duration::from_secs(10))
                .heartbeat_interval(Duration::from_millis(300));
            let consumer = ConsumerConfig::default().group_id(Some("group".into()));
            let member = rig.client.group_consumer(consumer, config, GroupOptions::default());
            let member = GroupConsumer::from(member.unwrap());
            member.subscribe(&[TOPIC]).unwrap();
            member
        };
        let first = join();
        if version < KafkaVersion::V0_9 {
            let error = first.next_records(1, LIMIT).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{version}: {error}");
            return;
        }
        let second = join();
        until("two partitions for each member", || {
            let counts = [&first, &second].map(|member| {
                drop(member.try_batch().unwrap());
                member.is_stable().then(|| member.assignment().len())
            });
            (counts == [Some(2), Some(2)]).then_some(())
        });
        first.close(LIMIT).unwrap();
        second.close(LIMIT).unwrap();
    });
}

#[test]
fn a_producer_has_an_id_from_the_version_on_that_gives_one() {
    on_every_version(1, |version, rig| {
        rig.write(1, 0, 10);
        let requests = rig.broker.with(|cluster, _| cluster.requests(ApiKey::InitProducerId));
        assert_eq!(requests > 0, version >= KafkaVersion::V0_11, "{version}");
        assert_eq!(rig.log(0).len(), 10, "{version}");
    });
}
