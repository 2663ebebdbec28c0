//! Answers to produce requests that are not what the protocol says.

use std::time::{Duration, Instant};

use kavka::{ClientConfig, Error, ErrorKind, ProducerConfig, Record, RecordMetadata, Written};
use kavka_core::wire::messages::ProduceResponse;
use kavka_core::wire::{ApiKey, Uuid};

use crate::server::{LIMIT, Reply, Request, Server, TOPIC, appended};

const DELIVERY_TIMEOUT: Duration = Duration::from_millis(1500);

/// What becomes of one record when produce requests are answered like this.
fn produced(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Server, kavka::Result<RecordMetadata>) {
    let server = Server::scripted(move |request| match request.header.key {
        ApiKey::Produce => answer(request),
        _ => Reply::Behave,
    });
    let client = server.client_with(ClientConfig::default().request_timeout(Duration::from_millis(400)));
    let config = ProducerConfig::default().delivery_timeout(DELIVERY_TIMEOUT);
    let producer = client.producer(config).unwrap();
    let known = producer.clone();
    let topic = client.start(async move { known.topic(TOPIC, false).await }).wait(Some(LIMIT)).unwrap().unwrap();
    let record = Record { value: Some(b"value"), partition: Some(1), ..Record::default() };
    let delivery = producer.enqueue(topic, &record, LIMIT).unwrap();
    let begin = Instant::now();
    let outcome = client.start(delivery).wait(Some(LIMIT)).expect("a report within the limit");
    assert!(begin.elapsed() < DELIVERY_TIMEOUT + Duration::from_secs(5), "{:?}", begin.elapsed());
    (server, outcome)
}

/// The record must fail as one that may be written, and the broker not be hammered meanwhile.
fn fails(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Error {
    let (server, outcome) = produced(answer);
    let error = outcome.expect_err("no proper answer, no success");
    assert_eq!(error.written(), Written::Maybe, "{error}");
    assert!(server.connections() < 20 && server.requests(ApiKey::Produce) < 20, "back-off");
    error
}

#[test]
fn a_proper_answer_is_a_success() {
    let (_, outcome) = produced(|_| Reply::Behave);
    assert_eq!(outcome.unwrap().offset, Some(0));
}

#[test]
fn an_answer_without_our_partition_is_no_success() {
    fails(|request| Reply::message(request, &ProduceResponse::default()));
}

#[test]
fn an_answer_for_another_partition_is_no_success() {
    fails(|request| {
        let mut response = appended(request);
        response.responses[0].partition_responses[0].index = 0;
        Reply::message(request, &response)
    });
}

#[test]
fn an_answer_for_another_topic_is_no_success() {
    fails(|request| {
        let mut response = appended(request);
        (response.responses[0].name, response.responses[0].topic_id) = ("other".into(), Uuid([1; 16]));
        Reply::message(request, &response)
    });
}

#[test]
fn two_answers_for_one_partition_are_no_success() {
    fails(|request| {
        let mut response = appended(request);
        let partitions = &mut response.responses[0].partition_responses;
        partitions.push(partitions[0].clone());
        partitions[1].base_offset = 99;
        Reply::message(request, &response)
    });
}

#[test]
fn nonsense_names_the_api() {
    for body in [vec![], vec![0xff; 40], vec![0x7f; 40]] {
        let error = fails(move |_| Reply::Body(body.clone()));
        assert!(error.to_string().contains("Produce"), "{error}");
    }
}

#[test]
fn a_broker_that_closes_at_every_record_is_named() {
    let error = fails(|_| Reply::Close);
    assert!(error.to_string().contains("closed"), "{error}");
    assert!(error.to_string().contains("delivery.timeout.ms"), "{error}");
}

#[test]
fn a_broker_that_never_answers_a_record_is_named() {
    let error = fails(|_| Reply::Silence);
    assert!(error.to_string().contains("request.timeout.ms"), "{error}");
    assert!(matches!(error.kind(), ErrorKind::TimedOut(_)), "{error}");
}
