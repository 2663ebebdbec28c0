//! Records are stored as they were sent.

use std::time::Duration;

use kavka::blocking::Delivery;
use kavka::{Acks, Compression, CompressionType, ConsumerRecord, ErrorCode, ErrorKind, Header, ProducerConfig, Record};
use kavka_test_support::on_every_listener;
use kavka_test_support::rig::find_topic;
use kavka_test_support::unique;

use crate::cluster::{Cluster, Writer, end_offsets, numbered, read_all, reader, take, values};

on_every_listener!(
    every_part_of_a_record_comes_back_with_every_codec,
    a_record_goes_to_the_partition_it_names,
    a_key_always_goes_to_the_same_partition,
    records_without_a_key_reach_every_partition,
    every_choice_of_acks_writes,
    order_is_kept_with_many_small_batches_on_their_way,
    a_megabyte_comes_back,
    a_hundred_thousand_records_come_back_in_order,
    an_unknown_topic_is_refused_by_name,
    an_unknown_topic_is_created_when_that_is_wanted,
    a_name_that_no_topic_can_have_is_refused,
);

type Sent<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, &'a [Header<'a>]);

fn is_same(record: &ConsumerRecord, (key, value, headers): &Sent<'_>) -> bool {
    record.key.as_deref() == *key
        && record.value.as_deref() == *value
        && record.headers.len() == headers.len()
        && (record.headers.iter().zip(*headers))
            .all(|(read, sent)| read.key == sent.key && read.value.as_deref() == sent.value)
}

fn every_part_of_a_record_comes_back_with_every_codec(cluster: &Cluster) {
    let long = b"compressible ".repeat(200);
    let header = |key, value| Header { key, value };
    let twice: &[_] = &[
        header(b"name".as_slice(), Some(b"one".as_slice())),
        header(b"name", None),
        header(b"", Some(b"")),
        header(b"name", Some(b"one")),
    ];
    let sent: [Sent<'_>; 6] = [
        (None, Some(&long), &[]),
        (Some(b""), Some(b""), &[]),
        (Some(b"key"), None, &[]),
        (None, None, &[]),
        (Some(b"\0\xff"), Some(b"\xff\0"), twice),
        (Some(&long), Some(&long), twice),
    ];
    let codecs = [
        CompressionType::None,
        CompressionType::Gzip,
        CompressionType::Snappy,
        CompressionType::Lz4,
        CompressionType::Zstd,
    ];
    let topic = cluster.topic(5);
    for (partition, codec) in (0..).zip(codecs) {
        let compression = Compression::new(codec, None).unwrap();
        let writer = Writer::with(cluster, &topic, ProducerConfig::default().compression(compression));
        for ((key, value, headers), time) in sent.iter().zip(1_600_000_000_000..) {
            let (key, value, partition, timestamp_ms) = (*key, *value, Some(partition), Some(time));
            writer.send_record(&Record { key, value, headers, partition, timestamp_ms });
        }
        writer.flush();
        let read = take(&reader(&writer.client, &topic, [partition]), sent.len());
        for ((record, sent), number) in read.iter().zip(&sent).zip(0..) {
            assert!(is_same(record, sent), "{}: {record:?}", codec.name());
            assert_eq!((record.offset, record.timestamp_ms), (number, 1_600_000_000_000 + number));
        }
    }
}

fn a_record_goes_to_the_partition_it_names(cluster: &Cluster) {
    let topic = cluster.topic(3);
    let writer = Writer::new(cluster, &topic);
    assert_eq!(writer.producer.partition_count(writer.topic), 3);
    for partition in [2, 0, 2] {
        let record = Record { key: Some(b"same"), partition: Some(partition), ..Record::default() };
        assert_eq!(writer.send_record(&record).wait().unwrap().partition, partition);
    }
    let read = read_all(cluster, &topic, 3, 3);
    assert_eq!(
        read.iter().map(|(partition, records)| (*partition, records.len())).collect::<Vec<_>>(),
        [(0, 1), (2, 2)]
    );
    let nowhere = Record { partition: Some(3), ..Record::default() };
    assert_eq!(writer.producer.try_send(writer.topic, &nowhere).unwrap_err().kind(), ErrorKind::Misuse);
}

fn a_key_always_goes_to_the_same_partition(cluster: &Cluster) {
    let topic = cluster.topic(3);
    let mut places = Vec::new();
    for _ in 0..2 {
        let writer = Writer::new(cluster, &topic);
        let keys = (0..20).map(|number| format!("key-{number}"));
        let record = |key: String| writer.send_record(&Record { key: Some(key.as_bytes()), ..Record::default() });
        let deliveries: Vec<_> = keys.map(record).collect();
        let place = |delivery: Delivery| delivery.wait().unwrap().partition;
        places.push(deliveries.into_iter().map(place).collect::<Vec<_>>());
    }
    assert_eq!(places[0], places[1]);
    assert!((0..3).all(|partition| places[0].contains(&partition)));
}

fn records_without_a_key_reach_every_partition(cluster: &Cluster) {
    let topic = cluster.topic(3);
    let writer = Writer::with(cluster, &topic, ProducerConfig::default().batch_size(1000));
    for value in numbered(0..3000) {
        writer.send_record(&Record { value: Some(value.as_bytes()), ..Record::default() });
    }
    writer.flush();
    assert_eq!(read_all(cluster, &topic, 3, 3000).len(), 3);
}

fn every_choice_of_acks_writes(cluster: &Cluster) {
    let topic = cluster.create(&unique("acks"), 3, 2, &[]);
    // A broker that does not lead the partition yet drops what is sent without acknowledgements, as Kafka may.
    end_offsets(&cluster.client(), &topic, 3);
    for (partition, acks) in (0..).zip([Acks::None, Acks::Leader, Acks::All]) {
        let writer = Writer::with(cluster, &topic, ProducerConfig::default().acks(acks));
        let send = |value: &String| {
            let record = Record { value: Some(value.as_bytes()), partition: Some(partition), ..Record::default() };
            writer.send_record(&record)
        };
        let deliveries: Vec<_> = numbered(0..100).iter().map(send).collect();
        for (delivery, offset) in deliveries.into_iter().zip(0..) {
            let report = delivery.wait().unwrap();
            assert_eq!(report.offset, (acks != Acks::None).then_some(offset), "{acks:?}");
        }
    }
    for records in read_all(cluster, &topic, 3, 300).values() {
        assert_eq!(values(records), numbered(0..100));
    }
}

fn order_is_kept_with_many_small_batches_on_their_way(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let config = ProducerConfig::default().batch_size(500).linger(Duration::ZERO);
    let writer = Writer::with(cluster, &topic, config);
    for value in numbered(0..5000) {
        writer.send(&value);
    }
    writer.flush();
    assert_eq!(values(&read_all(cluster, &topic, 1, 5000)[&0]), numbered(0..5000));
}

fn a_megabyte_comes_back(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let writer = Writer::new(cluster, &topic);
    let sent: Vec<_> = (0..20_u8).map(|number| vec![number; 1_000_000]).collect();
    let deliveries: Vec<_> =
        sent.iter().map(|value| writer.send_record(&Record { value: Some(value), ..Record::default() })).collect();
    for (delivery, offset) in deliveries.into_iter().zip(0..) {
        assert_eq!(delivery.wait().unwrap().offset, Some(offset));
    }
    let read = &read_all(cluster, &topic, 1, sent.len())[&0];
    assert!(read.iter().zip(&sent).all(|(record, sent)| record.value.as_deref() == Some(sent)));
}

fn a_hundred_thousand_records_come_back_in_order(cluster: &Cluster) {
    let topic = cluster.topic(3);
    let writer = Writer::new(cluster, &topic);
    let sent = numbered(0..100_000);
    for (value, partition) in sent.iter().zip([0, 1, 2].into_iter().cycle()) {
        writer.send_record(&Record { value: Some(value.as_bytes()), partition: Some(partition), ..Record::default() });
    }
    writer.flush();
    for (partition, records) in read_all(cluster, &topic, 3, sent.len()) {
        let expected = sent.iter().skip(partition as usize).step_by(3);
        assert!(values(&records).iter().eq(expected), "partition {partition}");
    }
}

fn an_unknown_topic_is_refused_by_name(cluster: &Cluster) {
    let client = cluster.client();
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let name = unique("nowhere");
    let error = find_topic(&client, &producer, &name, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert!(error.to_string().contains(&name), "{error}");
}

fn an_unknown_topic_is_created_when_that_is_wanted(cluster: &Cluster) {
    let client = cluster.client();
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let name = unique("on-demand");
    let topic = find_topic(&client, &producer, &name, true).unwrap();
    let writer = Writer { client, producer: producer.into(), topic };
    writer.write(["first"]);
    assert_eq!(values(&read_all(cluster, &name, 1, 1)[&0]), ["first"]);
}

fn a_name_that_no_topic_can_have_is_refused(cluster: &Cluster) {
    let client = cluster.client();
    let producer = client.producer(ProducerConfig::default()).unwrap();
    for name in ["", ".", "a b", "a/b", &"x".repeat(250)] {
        let error = find_topic(&client, &producer, name, true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::INVALID_TOPIC_EXCEPTION), "{name:?}: {error}");
    }
}
