//! Peers that are not brokers, or break the protocol before the first metadata.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kavka::{ClientConfig, ErrorKind, Phase};
use kavka_core::wire::ApiKey;

use crate::server::{LIMIT, Reply, Server, metadata, versions};

/// A peer that reads a request, and answers it with these bytes.
fn says(bytes: &'static [u8]) -> Server {
    Server::raw(move |mut stream: TcpStream| {
        if stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {
            stream.write_all(bytes).ok();
            // Closing at once could reset the connection before the answer is read.
            stream.read_to_end(&mut Vec::new()).ok();
        }
    })
}

#[test]
fn a_peer_that_closes_is_named_and_not_hammered() {
    let server = Server::raw(drop);
    let error = server.refusal(ClientConfig::default());
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    assert!(error.to_string().contains("closed"), "{error}");
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
}

#[test]
fn a_peer_that_closes_is_dialled_five_times_a_second_at_most() {
    let server = Server::raw(drop);
    let client = server.client();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) || server.connections() < 3 {
        let owned = client.clone();
        client.start(async move { owned.topic("any", false).await }).wait(Some(Duration::from_secs(3)));
    }
    let (dialled, milliseconds) = (server.connections(), begin.elapsed().as_millis() as usize);
    assert!(dialled * 1000 <= 5 * milliseconds, "{dialled} connections in {milliseconds} ms");
}

#[test]
fn a_silent_peer_is_given_up_at_the_limit_of_connecting() {
    let server = Server::raw(|stream| {
        thread::sleep(LIMIT);
        drop(stream);
    });
    let connection_setup_timeout = Duration::from_millis(400);
    let begin = Instant::now();
    let error = server.refusal(ClientConfig::default().connection_setup_timeout(connection_setup_timeout));
    assert_eq!(error.kind(), ErrorKind::TimedOut(Phase::Connect), "{error}");
    assert!(begin.elapsed() >= connection_setup_timeout);
}

#[test]
fn a_port_that_nobody_listens_on_is_refused_by_name() {
    // Port 1 is reserved.
    let error = Server::at(([127, 0, 0, 1], 1).into()).refusal(ClientConfig::default());
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn a_host_that_has_no_address_is_named() {
    let bootstrap_servers = vec![("no-such-host.invalid".to_owned(), 9092)];
    let client = kavka::Client::new(ClientConfig::default().bootstrap_servers(bootstrap_servers)).unwrap();
    let owned = client.clone();
    let error = client.start(async move { owned.ready().await }).wait(Some(LIMIT)).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
}

#[test]
fn a_length_of_two_gigabytes_is_refused_before_any_of_it_is_read() {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let server = Server::raw(move |mut stream| {
        stream.read_exact(&mut [0; 4]).ok();
        stream.write_all(&[0x7f, 0xff, 0xff, 0xff]).ok();
        let megabyte = vec![0; 1 << 20];
        while counted.load(Ordering::Relaxed) < 300 && stream.write_all(&megabyte).is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let error = server.refusal(ClientConfig::default());
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert!(error.to_string().contains("2147483647"), "{error}");
    // The sockets' own buffers hold that much.
    assert!(taken.load(Ordering::Relaxed) < 60, "{} MiB", taken.load(Ordering::Relaxed));
}

#[test]
fn a_negative_length_is_refused() {
    assert_eq!(says(b"\xff\xff\xff\xf0").refusal(ClientConfig::default()).kind(), ErrorKind::Malformed);
}

#[test]
fn a_web_server_is_recognised() {
    let error = says(b"HTTP/1.1 400 Bad Request\r\n\r\n").refusal(ClientConfig::default());
    assert!(error.to_string().contains("HTTP"), "{error}");
}

#[test]
fn a_tls_port_is_recognised() {
    let error = says(b"\x15\x03\x03\0\x02\x02\x46").refusal(ClientConfig::default());
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[test]
fn an_answer_to_another_request_is_refused() {
    let server = Server::scripted(|request| {
        let mut request = crate::server::Request { header: request.header.clone(), body: request.body.clone() };
        request.header.correlation_id += 1;
        Reply::message(&request, &versions())
    });
    let error = server.refusal(ClientConfig::default());
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert!(error.to_string().contains("answered request 1 when 0 was next"), "{error}");
}

/// Bytes in place of a response's body.
fn nonsense() -> Vec<Vec<u8>> {
    vec![
        vec![],
        vec![0xff; 3],
        (0..200_u8).map(|byte| byte.wrapping_mul(37)).collect(),
        // Fixed-size array lengths of 2^31 - 1, -2 and -99 after an error code or throttle time, and compact ones.
        [&[0, 0][..], &i32::MAX.to_be_bytes(), &[0; 20]].concat(),
        [&[0, 0][..], &(-2_i32).to_be_bytes(), &[0; 20]].concat(),
        [&[0, 0, 0, 0][..], &(-99_i32).to_be_bytes(), &[0; 20]].concat(),
        [&[0, 0][..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0; 20]].concat(),
        [&[0, 0, 0, 0][..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0; 20]].concat(),
    ]
}

#[test]
fn nonsense_instead_of_versions_names_the_api() {
    for body in nonsense() {
        let server = Server::scripted(move |_| Reply::Body(body.clone()));
        let error = server.refusal(ClientConfig::default());
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains("ApiVersions"), "{error}");
    }
}

#[test]
fn nonsense_instead_of_metadata_names_the_api() {
    for body in nonsense() {
        let server = Server::scripted(move |request| match request.header.key {
            ApiKey::Metadata => Reply::Body(body.clone()),
            _ => Reply::Behave,
        });
        let error = server.refusal(ClientConfig::default());
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains("Metadata"), "{error}");
    }
}

#[test]
fn a_broker_without_common_versions_is_unsupported() {
    let server = Server::scripted(|request| {
        let mut told = versions();
        for api in &mut told.api_keys {
            (api.min_version, api.max_version) = (100, 101);
        }
        Reply::message(request, &told)
    });
    let error = server.refusal(ClientConfig::default());
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("Metadata"), "{error}");
}

#[test]
fn metadata_without_a_usable_broker_leads_nowhere() {
    let own = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    for (host, port) in [("127.0.0.1", 0), ("", 9092), ("127.0.0.1", 70_000), ("127.0.0.1", -1)] {
        let server = Server::scripted(move |request| {
            let mut told = metadata(own);
            (told.brokers[0].host, told.brokers[0].port) = (host.into(), port);
            match request.header.key {
                ApiKey::Metadata => Reply::message(request, &told),
                _ => Reply::Behave,
            }
        });
        let config = ClientConfig::default().max_block(Duration::from_secs(1));
        let client = server.client_with(config);
        let producer = client.producer(kavka::ProducerConfig::default().delivery_timeout(Duration::from_millis(800)));
        let producer = kavka::blocking::Producer::from(producer.unwrap());
        if let Ok(topic) = producer.topic(crate::server::TOPIC, false) {
            let delivery = producer.send_within(topic, &kavka::Record::default(), LIMIT).unwrap();
            let error = delivery.wait_for(LIMIT).unwrap().unwrap_err();
            assert!(error.to_string().contains("no longer names the broker"), "{host:?}:{port}: {error}");
        }
        assert!(server.connections() < 20, "{host:?}:{port}: {} connections", server.connections());
    }
}

/// Otherwise it could forge lines of a log, or give orders to a terminal.
#[test]
fn what_a_peer_calls_its_hosts_is_escaped_in_errors() {
    let server = Server::scripted(|request| {
        let mut told = metadata(([127, 0, 0, 1], 9).into());
        told.brokers[0].host = "evil\n\u{1b}[2J\u{202e}.invalid".into();
        match request.header.key {
            ApiKey::Metadata => Reply::message(request, &told),
            _ => Reply::Behave,
        }
    });
    let client = server.client_with(ClientConfig::default().max_block(Duration::from_secs(1)));
    let producer = client.producer(kavka::ProducerConfig::default().delivery_timeout(Duration::from_millis(800)));
    let producer = kavka::blocking::Producer::from(producer.unwrap());
    let topic = producer.topic(crate::server::TOPIC, false).unwrap();
    let delivery = producer.send_within(topic, &kavka::Record::default(), LIMIT).unwrap();
    let error = delivery.wait_for(LIMIT).unwrap().unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("evil\\n\\u{1b}[2J\\u{202e}.invalid"), "{text}");
    assert!(!text.contains(['\n', '\u{1b}', '\u{202e}']), "{text}");
}
