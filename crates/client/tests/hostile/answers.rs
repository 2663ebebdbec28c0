//! Produce responses that violate the protocol.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use kavka::blocking::Producer;
use kavka::{ClientConfig, Error, ErrorCode, ErrorKind, ProducerConfig, Record, RecordMetadata, Written};
use kavka_core::wire::messages::{ProduceRequest, ProduceResponse};
use kavka_core::wire::{ApiKey, Message, Uuid};

use crate::server::{LIMIT, Reply, Request, Server, TOPIC, appended};

/// Enough for several attempts.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3);

/// The outcome of one record when produce requests are answered like this.
fn produced(
    delivery_timeout: Duration,
    answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (Server, kavka::Result<RecordMetadata>) {
    let server = Server::scripted(move |request| match request.header.key {
        ApiKey::Produce => answer(request),
        _ => Reply::Behave,
    });
    let client = server.client_with(ClientConfig::default().request_timeout(Duration::from_millis(400)));
    let config = ProducerConfig::default().delivery_timeout(delivery_timeout);
    let producer = Producer::from(client.producer(config).unwrap());
    let topic = producer.topic(TOPIC, false).unwrap();
    let record = Record { value: Some(b"value"), partition: Some(1), ..Record::default() };
    let delivery = producer.send_within(topic, &record, LIMIT).unwrap();
    let outcome = delivery.wait_for(LIMIT).expect("a report within the limit");
    (server, outcome)
}

/// The record must fail as maybe written, and the broker must not be flooded meanwhile.
fn fails(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Error {
    let (server, outcome) = produced(DELIVERY_TIMEOUT, answer);
    let error = outcome.expect_err("no proper answer, no success");
    assert_eq!(error.written(), Written::Maybe, "{error}");
    assert!(server.connections() < 20 && server.requests(ApiKey::Produce) < 20, "back-off");
    error
}

/// The delivery of one record with this request timeout.
fn delivered(server: &Server, request_timeout: Duration) -> kavka::Result<RecordMetadata> {
    let client = server.client_with(ClientConfig::default().request_timeout(request_timeout));
    let producer = Producer::from(client.producer(ProducerConfig::default()).unwrap());
    let topic = producer.topic(TOPIC, false).unwrap();
    let delivery = producer.send_within(topic, &Record::new("value"), LIMIT).unwrap();
    delivery.wait_for(LIMIT).expect("a report within the limit")
}

#[test]
fn a_broker_that_freezes_with_a_request_is_given_up_long_before_the_time_of_the_request_is_up() {
    let (is_frozen, greetings) = (AtomicBool::new(false), AtomicUsize::new(0));
    let server = Server::scripted(move |request| match request.header.key {
        ApiKey::Produce if greetings.load(Ordering::SeqCst) == 0 => {
            is_frozen.store(true, Ordering::SeqCst);
            Reply::Silence
        }
        // The first new connection is that of the check. When the client has given up and comes again, all is well.
        ApiKey::ApiVersions if is_frozen.load(Ordering::SeqCst) => {
            is_frozen.store(greetings.fetch_add(1, Ordering::SeqCst) == 0, Ordering::SeqCst);
            if is_frozen.load(Ordering::SeqCst) { Reply::Silence } else { Reply::Behave }
        }
        _ if is_frozen.load(Ordering::SeqCst) => Reply::Silence,
        _ => Reply::Behave,
    });
    let delivered = delivered(&server, Duration::from_secs(600));
    assert_eq!(delivered.unwrap().offset, Some(0));
    assert_eq!(server.requests(ApiKey::Produce), 2);
}

#[test]
fn a_leader_that_waits_for_its_replicas_but_answers_a_check_is_not_taken_for_dead() {
    let (checks, checked) = (Mutex::new(0), Condvar::new());
    let server = Server::scripted(move |request| {
        if request.header.key == ApiKey::ListOffsets {
            *checks.lock().unwrap() += 1;
            checked.notify_all();
        }
        if request.header.key == ApiKey::Produce {
            // The second check shows what came of the first one.
            drop(checked.wait_while(checks.lock().unwrap(), |checks| *checks < 2).unwrap());
        }
        Reply::Behave
    });
    let delivered = delivered(&server, Duration::from_secs(9));
    assert_eq!(delivered.unwrap().offset, Some(0));
    assert_eq!(server.requests(ApiKey::Produce), 1);
}

#[test]
fn a_proper_answer_is_a_success() {
    let (_, outcome) = produced(LIMIT, |_| Reply::Behave);
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
fn a_leader_whose_replicas_are_slow_is_not_hung_up_on() {
    let seconds = Duration::from_secs;
    is_not_hung_up_on(ClientConfig::default().request_timeout(seconds(10)), ProducerConfig::default());
    is_not_hung_up_on(ClientConfig::default(), ProducerConfig::default().delivery_timeout(seconds(10)));
}

/// A leader that waits for its replicas as long as it may, and then says that they were too slow.
fn is_not_hung_up_on(client: ClientConfig, producer: ProducerConfig) {
    let attempts = AtomicUsize::new(0);
    let server = Server::scripted(move |request| match request.header.key {
        ApiKey::Produce if attempts.fetch_add(1, Ordering::Relaxed) == 0 => {
            let asked = ProduceRequest::decode_exact(request.header.version, request.body.clone()).unwrap();
            thread::sleep(Duration::from_millis(u64::try_from(asked.timeout_ms).unwrap()));
            let mut response = appended(request);
            response.responses[0].partition_responses[0].error_code = ErrorCode::REQUEST_TIMED_OUT;
            Reply::message(request, &response)
        }
        _ => Reply::Behave,
    });
    let client = server.client_with(client);
    let producer = Producer::from(client.producer(producer).unwrap());
    let topic = producer.topic(TOPIC, false).unwrap();
    producer.send_within(topic, &Record::new("value"), LIMIT).unwrap().wait_for(LIMIT).unwrap().unwrap();
    let why = "one for metadata, one for records, and one to see whether the leader works meanwhile";
    assert_eq!((server.connections(), server.requests(ApiKey::Produce)), (3, 2), "{why}");
}

/// The record must fail after one attempt, as maybe written.
fn fails_at_once(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Error {
    let (server, outcome) = produced(LIMIT, answer);
    let error = outcome.expect_err("an error is no success");
    assert_eq!(error.written(), Written::Maybe, "{error}");
    assert_eq!(server.requests(ApiKey::Produce), 1, "nobody knows what another attempt would do");
    error
}

#[test]
fn an_error_that_nobody_knows_is_told_with_its_number() {
    for code in [999, i16::MAX, i16::MIN] {
        let error = fails_at_once(move |request| {
            let mut response = appended(request);
            response.responses[0].partition_responses[0].error_code = ErrorCode(code);
            Reply::message(request, &response)
        });
        assert_eq!(error.code(), Some(ErrorCode(code)), "{error}");
        assert!(error.to_string().contains(&code.to_string()), "{error}");
    }
}

#[test]
fn nonsense_names_the_api() {
    // Counts of topics, in the compact form: -3 as a 32-bit number, and 2^31 - 1.
    let counts = [vec![0xfd, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0], vec![0x80, 0x80, 0x80, 0x80, 0x08, 0, 0, 0]];
    for body in [vec![], vec![0xff; 40], vec![0x7f; 40]].into_iter().chain(counts) {
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
