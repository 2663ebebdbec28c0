//! Brokers that are wrong about the versions they speak, about throttling, or about tagged fields.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kavka::blocking::Producer;
use kavka::{ClientConfig, ErrorCode, ErrorKind, ProducerConfig, Record, RecordMetadata, Written};
use kavka_core::wire::ApiKey;
use kavka_core::wire::messages::ApiVersionsResponse;

use crate::server::{LIMIT, Reply, Request, Server, TOPIC, appended, metadata, versions};

/// The error of a client that gets these versions. It must come in time, and without a flood.
fn refused(alter: impl Fn(&mut ApiVersionsResponse) + Send + Sync + 'static) -> kavka::Error {
    let server = Server::scripted(move |request| match request.header.key {
        ApiKey::ApiVersions => {
            let mut told = versions();
            alter(&mut told);
            Reply::message(request, &told)
        }
        _ => Reply::Behave,
    });
    let error = server.refusal(ClientConfig::default());
    assert!(server.connections() <= 5, "{} connections", server.connections());
    assert!(server.requests(ApiKey::ApiVersions) <= 10, "{}", server.requests(ApiKey::ApiVersions));
    error
}

#[test]
fn a_broker_that_names_no_api_is_unsupported() {
    let error = refused(|told| told.api_keys.clear());
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("supported APIs is empty"), "{error}");
}

#[test]
fn a_newest_version_below_the_oldest_is_no_version() {
    let error = refused(|told| {
        for api in &mut told.api_keys {
            (api.min_version, api.max_version) = (5, 1);
        }
    });
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("supported APIs is empty"), "{error}");
}

#[test]
fn of_an_api_that_is_named_twice_the_last_versions_count() {
    let error = refused(|told| {
        let mut again = told.api_keys.clone();
        for api in &mut again {
            (api.min_version, api.max_version) = (100, 101);
        }
        told.api_keys.extend(again);
    });
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("no common version of Metadata"), "{error}");
}

#[test]
fn a_broker_that_refuses_every_version_of_the_question_is_asked_twice() {
    let error = refused(|told| told.error_code = ErrorCode::UNSUPPORTED_VERSION);
    assert!(error.to_string().contains("ApiVersions"), "{error}");
    let error = refused(|told| {
        *told = ApiVersionsResponse { error_code: ErrorCode::UNSUPPORTED_VERSION, ..ApiVersionsResponse::default() };
    });
    assert!(error.to_string().contains("ApiVersions"), "{error}");
}

/// Sends a record to a broker that closes the connection on it, and then speaks Produce only in these versions.
fn sent_across_a_change(min_version: i16, max_version: i16) -> (Vec<i16>, kavka::Result<RecordMetadata>) {
    let has_changed = AtomicBool::new(false);
    let used = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&used);
    let server = Server::scripted(move |request| match request.header.key {
        ApiKey::ApiVersions if has_changed.load(Ordering::SeqCst) => {
            let mut told = versions();
            for api in told.api_keys.iter_mut().filter(|api| api.api_key == ApiKey::Produce.number()) {
                (api.min_version, api.max_version) = (min_version, max_version);
            }
            Reply::message(request, &told)
        }
        ApiKey::Produce => {
            seen.lock().unwrap().push(request.header.version);
            if has_changed.swap(true, Ordering::SeqCst) { Reply::Behave } else { Reply::Close }
        }
        _ => Reply::Behave,
    });
    let client = server.client();
    let config = ProducerConfig::default().delivery_timeout(Duration::from_secs(3));
    let producer = Producer::from(client.producer(config).unwrap());
    let topic = producer.topic(TOPIC, false).unwrap();
    let outcome = producer.send_within(topic, &Record::new("value"), LIMIT).unwrap().wait_for(LIMIT).unwrap();
    assert!(server.connections() < 20 && server.requests(ApiKey::Produce) < 20, "back-off");
    let used = used.lock().unwrap().clone();
    (used, outcome)
}

#[test]
fn a_broker_that_comes_back_older_is_spoken_to_as_it_is_now() {
    let (used, outcome) = sent_across_a_change(3, 8);
    assert_eq!(outcome.unwrap().offset, Some(0));
    assert_eq!(used, [*ApiKey::Produce.versions().end(), 8]);
}

#[test]
fn a_broker_that_comes_back_without_a_common_version_is_named() {
    let (used, outcome) = sent_across_a_change(100, 101);
    let error = outcome.unwrap_err();
    assert_eq!(used.len(), 1, "nothing goes out in a version that the broker lacks");
    assert_eq!(error.written(), Written::Maybe, "the first attempt may have been appended: {error}");
    assert!(error.to_string().contains("no common version of Produce"), "{error}");
}

/// Sends records one after another to a broker that answers each with this throttle time, for this long at most.
/// Returns how many were delivered, and how many were sent.
fn sent_throttled(throttle_time_ms: i32) -> (usize, usize) {
    let server = Server::scripted(move |request| match request.header.key {
        ApiKey::Produce => {
            let mut response = appended(request);
            response.throttle_time_ms = throttle_time_ms;
            Reply::message(request, &response)
        }
        _ => Reply::Behave,
    });
    let config = ProducerConfig::default().delivery_timeout(Duration::from_secs(1));
    let producer = Producer::from(server.client().producer(config).unwrap());
    let topic = producer.topic(TOPIC, false).unwrap();
    let send = || producer.send_within(topic, &Record::new("value"), LIMIT).unwrap().wait_for(LIMIT).unwrap();
    let delivered = (0..3).take_while(|_| send().is_ok()).count();
    (delivered, server.requests(ApiKey::Produce))
}

#[test]
fn a_throttle_time_is_obeyed_and_a_negative_one_is_none() {
    assert_eq!(sent_throttled(i32::MIN), (3, 3));
    assert_eq!(sent_throttled(i32::MAX), (1, 1));
}

/// The response with so many tagged fields at its end, of which there is none.
fn boasting(reply: Reply, tagged_fields: &[u8]) -> Reply {
    let Reply::Raw(mut frame) = reply else { unreachable!("a message is raw bytes") };
    assert_eq!(frame.pop(), Some(0), "a flexible version without tagged fields");
    frame.extend(tagged_fields);
    let length = u32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Reply::Raw(frame)
}

#[test]
fn two_billion_tagged_fields_are_refused() {
    const COUNT: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x07];
    let own = Arc::new(Mutex::new(None));
    let address = Arc::clone(&own);
    let answers = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&answers);
    let server = Server::scripted(move |request: &Request| match request.header.key {
        ApiKey::Metadata => {
            let told = metadata(address.lock().unwrap().unwrap());
            // Every other answer has one field, which claims two gigabytes.
            let is_even = counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
            let tagged = if is_even { COUNT.to_vec() } else { [&[1, 99][..], &COUNT].concat() };
            boasting(Reply::message(request, &told), &tagged)
        }
        _ => Reply::Behave,
    });
    *own.lock().unwrap() = Some(server.address);
    let error = server.refusal(ClientConfig::default());
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert!(error.to_string().contains("Metadata"), "{error}");
    assert!(server.connections() <= 10, "{} connections", server.connections());
}
