//! Every record gets one report, and the report is true.

use std::time::Duration;

use kavka::{ErrorCode, ErrorKind, ProducerConfig, Record, Written};
use kavka_core::wire::records::request_bytes;
use kavka_test_support::on_every_listener;
use kavka_test_support::{LIMIT, unique};

use crate::cluster::{Cluster, Writer, numbered, read_all, values};

on_every_listener!(
    every_report_names_the_place_of_its_record,
    reports_of_a_partition_come_in_order,
    a_flush_leaves_nothing_unreported,
    closing_sends_what_is_buffered_and_reports_it,
    a_closed_producer_refuses_records,
    a_dropped_producer_still_sends,
    a_record_too_large_for_the_broker_fails_alone,
    a_record_too_large_for_the_request_is_refused_at_once,
    a_record_of_exactly_the_largest_size_is_stored_and_one_byte_more_is_refused,
    a_timestamp_out_of_range_is_refused_with_its_record_alone,
    with_log_append_time_the_report_has_the_brokers_time,
);

fn every_report_names_the_place_of_its_record(cluster: &Cluster) {
    let topic = cluster.topic(3);
    let writer = Writer::new(cluster, &topic);
    let sent = numbered(0..10_000);
    let enqueue = |value: &String| {
        writer.send_record(&Record { key: Some(value.as_bytes()), value: Some(value.as_bytes()), ..Record::default() })
    };
    let deliveries: Vec<_> = sent.iter().map(enqueue).collect();
    let reports: Vec<_> = deliveries.into_iter().map(|delivery| delivery.wait().unwrap()).collect();
    let read = read_all(cluster, &topic, 3, sent.len());
    for (value, report) in sent.iter().zip(reports) {
        let record = &read[&report.partition][report.offset.unwrap() as usize];
        assert_eq!(record.value.as_deref(), Some(value.as_bytes()));
    }
}

fn reports_of_a_partition_come_in_order(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let config = ProducerConfig::default().batch_size(500);
    let writer = Writer::with(cluster, &topic, config);
    let deliveries: Vec<_> = numbered(0..2000).iter().map(|value| writer.send(value)).collect();
    let last = deliveries.last().unwrap().clone();
    while last.outcome().is_none() {
        // Checks from the last to the first, so that a report that arrives meanwhile cannot look like a gap.
        let reported: Vec<_> = deliveries.iter().rev().map(|delivery| delivery.outcome().is_some()).collect();
        assert!(reported.is_sorted(), "a report came before its predecessor's");
    }
    writer.flush();
    assert!(deliveries.iter().zip(0..).all(|(delivery, offset)| delivery.offset() == Some(offset)));
}

fn a_flush_leaves_nothing_unreported(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let linger = Duration::from_secs(50);
    let writer = Writer::with(cluster, &topic, ProducerConfig::default().linger(linger));
    let deliveries: Vec<_> = numbered(0..1000).iter().map(|value| writer.send(value)).collect();
    writer.flush();
    assert!(deliveries.iter().zip(0..).all(|(delivery, offset)| delivery.offset() == Some(offset)));
    assert_eq!(writer.producer.queued_records(), 0);
}

fn closing_sends_what_is_buffered_and_reports_it(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let linger = Duration::from_secs(50);
    let writer = Writer::with(cluster, &topic, ProducerConfig::default().linger(linger));
    let deliveries: Vec<_> = numbered(0..1000).iter().map(|value| writer.send(value)).collect();
    writer.producer.close(LIMIT).unwrap();
    assert!(deliveries.iter().zip(0..).all(|(delivery, offset)| delivery.offset() == Some(offset)));
    assert_eq!(values(&read_all(cluster, &topic, 1, 1000)[&0]), numbered(0..1000));
}

fn a_closed_producer_refuses_records(cluster: &Cluster) {
    let writer = Writer::new(cluster, &cluster.topic(1));
    for _ in 0..2 {
        writer.producer.close(LIMIT).unwrap();
        let error = writer.producer.try_send(writer.topic, &Record::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
}

fn a_dropped_producer_still_sends(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let Writer { client, producer, topic: known } = Writer::new(cluster, &topic);
    for value in numbered(0..1000) {
        producer.send_within(known, &Record { value: Some(value.as_bytes()), ..Record::default() }, LIMIT).unwrap();
    }
    drop(producer);
    assert_eq!(values(&read_all(cluster, &topic, 1, 1000)[&0]), numbered(0..1000));
    drop(client);
}

fn a_record_too_large_for_the_broker_fails_alone(cluster: &Cluster) {
    let topic = cluster.create(&unique("small"), 1, 1, &[("max.message.bytes", "20000")]);
    let writer = Writer::with(cluster, &topic, ProducerConfig::default().linger(LIMIT / 2));
    // More than the broker accepts in one batch, with one record that is too large by itself.
    let mut sent: Vec<_> = (0..300).map(|number| format!("{number}-{}", "x".repeat(200))).collect();
    sent[150] = "x".repeat(30_000);
    let deliveries: Vec<_> = sent.iter().map(|value| writer.send(value)).collect();
    writer.flush();
    for (number, delivery) in deliveries.iter().enumerate() {
        match delivery.outcome().unwrap() {
            Err(error) => {
                assert_eq!((number, error.code()), (150, Some(ErrorCode::MESSAGE_TOO_LARGE)), "{error}");
                assert_eq!(error.written(), Written::No);
            }
            Ok(report) => assert_eq!(report.offset, Some(number as i64 - i64::from(number > 150))),
        }
    }
    sent.remove(150);
    assert_eq!(values(&read_all(cluster, &topic, 1, 299)[&0]), sent);
    writer.write(["goes on"]);
}

fn a_record_too_large_for_the_request_is_refused_at_once(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let writer = Writer::new(cluster, &topic);
    let record = Record { value: Some(&vec![0; 1_048_577]), ..Record::default() };
    let error = writer.producer.try_send(writer.topic, &record).unwrap_err();
    assert_eq!((error.code(), error.written()), (Some(ErrorCode::MESSAGE_TOO_LARGE), Written::No));
    assert!(error.to_string().contains("max.request.size"), "{error}");
    writer.write(["goes on"]);
    assert_eq!(values(&read_all(cluster, &topic, 1, 1)[&0]), ["goes on"]);
}

fn a_record_of_exactly_the_largest_size_is_stored_and_one_byte_more_is_refused(cluster: &Cluster) {
    const LIMIT_BYTES: usize = 20_000;
    let value = |length| vec![b'v'; length];
    // What a batch of one record takes besides its value.
    let around = request_bytes(None, Some(&value(LIMIT_BYTES)), &[]) - LIMIT_BYTES;
    let largest = value(LIMIT_BYTES - around);
    assert_eq!(request_bytes(None, Some(&largest), &[]), LIMIT_BYTES);
    let larger = value(largest.len() + 1);
    let record = |value| Record { value: Some(value), ..Record::default() };

    let topic = cluster.topic(1);
    let writer = Writer::with(cluster, &topic, ProducerConfig::default().max_request_size(LIMIT_BYTES));
    let error = writer.producer.try_send(writer.topic, &record(&larger)).unwrap_err();
    assert!(error.to_string().contains("takes 20001 bytes, more than max.request.size (20000)"), "{error}");
    assert_eq!(writer.send_record(&record(&largest)).wait().unwrap().offset, Some(0));

    let topic = cluster.create(&unique("limited"), 1, 1, &[("max.message.bytes", &LIMIT_BYTES.to_string())]);
    let writer = Writer::new(cluster, &topic);
    let refused = writer.send_record(&record(&larger)).wait().unwrap_err();
    assert_eq!((refused.code(), refused.written()), (Some(ErrorCode::MESSAGE_TOO_LARGE), Written::No));
    assert_eq!(writer.send_record(&record(&largest)).wait().unwrap().offset, Some(0));
}

fn a_timestamp_out_of_range_is_refused_with_its_record_alone(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let writer = Writer::with(cluster, &topic, ProducerConfig::default().linger(LIMIT / 2));
    let record = |timestamp_ms| Record { timestamp_ms: Some(timestamp_ms), ..Record::default() };
    for negative in [-1, i64::MIN] {
        let error = writer.producer.try_send(writer.topic, &record(negative)).unwrap_err();
        assert_eq!((error.kind(), error.written()), (ErrorKind::Misuse, Written::No));
        assert!(error.to_string().contains(&format!("since 1970, not {negative}")), "{error}");
    }
    let [first, last, second] = [0, i64::MAX, 1].map(|timestamp_ms| writer.send_record(&record(timestamp_ms)));
    writer.flush();
    let is_stored = match last.wait() {
        Ok(_) => true,
        // Kafka 4; the embedded broker does not check timestamps.
        Err(error) => {
            assert_eq!((error.code(), error.written()), (Some(ErrorCode::INVALID_TIMESTAMP), Written::No), "{error}");
            false
        }
    };
    assert_eq!(
        (first.wait().unwrap().offset, second.wait().unwrap().offset),
        (Some(0), Some(1 + i64::from(is_stored)))
    );
    let read = read_all(cluster, &topic, 1, 2 + usize::from(is_stored));
    let times: Vec<i64> = read[&0].iter().map(|record| record.timestamp_ms).collect();
    assert_eq!(times, if is_stored { vec![0, i64::MAX, 1] } else { vec![0, 1] });
}

fn with_log_append_time_the_report_has_the_brokers_time(cluster: &Cluster) {
    let topic = cluster.create(&unique("times"), 1, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let writer = Writer::new(cluster, &topic);
    let delivery = writer.send_record(&Record { timestamp_ms: Some(1000), ..Record::default() });
    let time = delivery.wait().unwrap().timestamp_ms.unwrap();
    assert!(time > 1000);
    assert_eq!(read_all(cluster, &topic, 1, 1)[&0][0].timestamp_ms, time);
}
