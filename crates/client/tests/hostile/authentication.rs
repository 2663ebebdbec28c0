//! Brokers that want SASL, from clients with right and with wrong credentials.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Instant;

use kavka::config::{Login, Sasl, Security};
use kavka::{Client, ClientConfig, ConsumerConfig, ErrorCode, ErrorKind, ProducerConfig, Record, StartPosition};
use kavka_core::secret::Secret;
use kavka_core::wire::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kavka_core::wire::{ApiKey, Message};
use kavka_test_support::until;

use crate::server::{LIMIT, Reply, Request, Server, TOPIC};

/// A broker that accepts one password by PLAIN, and remembers how far each connection is. A connection is known by the
/// thread that serves it.
struct Guard {
    password: &'static str,
    session_lifetime_ms: i64,
    /// Connections that have named their mechanism, and those that are authenticated.
    naming: Mutex<HashSet<ThreadId>>,
    authenticated: Mutex<HashSet<ThreadId>>,
    /// Requests that came when none may.
    misplaced: AtomicUsize,
    /// How often a connection authenticated itself a second time.
    again: AtomicUsize,
    /// How many connections to close when they send their credentials.
    closes: AtomicUsize,
}

impl Guard {
    fn new(password: &'static str, session_lifetime_ms: i64, closes: usize) -> Arc<Self> {
        Arc::new(Self {
            password,
            session_lifetime_ms,
            naming: Mutex::default(),
            authenticated: Mutex::default(),
            misplaced: AtomicUsize::new(0),
            again: AtomicUsize::new(0),
            closes: AtomicUsize::new(closes),
        })
    }

    fn server(self: &Arc<Self>) -> Server {
        let guard = Arc::clone(self);
        Server::scripted(move |request| guard.answer(request))
    }

    fn answer(&self, request: &Request) -> Reply {
        let connection = thread::current().id();
        let version = request.header.version;
        match request.header.key {
            ApiKey::ApiVersions => Reply::Behave,
            ApiKey::SaslHandshake => {
                let asked = SaslHandshakeRequest::decode_exact(version, request.body.clone()).unwrap();
                assert_eq!(asked.mechanism, "PLAIN");
                self.naming.lock().unwrap().insert(connection);
                let mechanisms = vec!["PLAIN".into()];
                Reply::message(request, &SaslHandshakeResponse { error_code: ErrorCode::NONE, mechanisms })
            }
            ApiKey::SaslAuthenticate => {
                let was_named = self.naming.lock().unwrap().remove(&connection);
                self.misplaced.fetch_add(usize::from(!was_named), Ordering::SeqCst);
                let left = |left: usize| left.checked_sub(1);
                if self.closes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() {
                    return Reply::Close;
                }
                let asked = SaslAuthenticateRequest::decode_exact(version, request.body.clone()).unwrap();
                if asked.auth_bytes != format!("\0alice\0{}", self.password) {
                    return Reply::message(
                        request,
                        &SaslAuthenticateResponse {
                            error_code: ErrorCode::SASL_AUTHENTICATION_FAILED,
                            error_message: Some("wrong\x1b password".into()),
                            ..SaslAuthenticateResponse::default()
                        },
                    );
                }
                let is_first = self.authenticated.lock().unwrap().insert(connection);
                self.again.fetch_add(usize::from(!is_first), Ordering::SeqCst);
                let session_lifetime_ms = self.session_lifetime_ms;
                Reply::message(request, &SaslAuthenticateResponse { session_lifetime_ms, ..Default::default() })
            }
            _ => {
                let is_naming = self.naming.lock().unwrap().contains(&connection);
                if is_naming || !self.authenticated.lock().unwrap().contains(&connection) {
                    self.misplaced.fetch_add(1, Ordering::SeqCst);
                }
                Reply::Behave
            }
        }
    }
}

fn config(login: Login) -> ClientConfig {
    ClientConfig::default().with_security(Security::default().sasl(Sasl::Plain(login)))
}

fn fixed(password: &str) -> ClientConfig {
    config(Login::new("alice", Secret::new(password)))
}

/// How many attempts there may be in this time.
fn most_attempts(since: Instant) -> usize {
    3 * (1 + since.elapsed().as_secs() as usize / 10)
}

fn ready(client: &Client) -> kavka::Result<()> {
    let owned = client.clone();
    client.start(async move { owned.ready().await.map(drop) }).wait(Some(LIMIT)).expect("connecting has a limit")
}

#[test]
fn wrong_credentials_fail_every_call_at_once_and_are_tried_three_times_in_ten_seconds() {
    let guard = Guard::new("right", 0, 0);
    // A broker that refused is left alone for a while, so it takes many to see that there is one limit for all.
    let servers: Vec<_> = (0..8).map(|_| guard.server()).collect();
    let addresses = servers.iter().map(|server| (server.address.ip().to_string(), server.address.port()));
    let begin = Instant::now();
    let client = Client::new(fixed("hunter2").bootstrap_servers(addresses.collect())).unwrap();
    for _ in 0..10 {
        let error = ready(&client).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
        let text = error.to_string();
        assert!(text.contains("SASL PLAIN: wrong\\u{1b} password") && !text.contains("hunter2"), "{text}");
    }
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let opening = client.start(async move { producer.topic(TOPIC, false).await.map(drop) });
    assert_eq!(opening.wait(Some(LIMIT)).unwrap().unwrap_err().kind(), ErrorKind::Authentication);
    let attempts: usize = servers.iter().map(|server| server.requests(ApiKey::SaslAuthenticate)).sum();
    assert!((1..=most_attempts(begin)).contains(&attempts), "{attempts} attempts in {:?}", begin.elapsed());
    assert_eq!(guard.misplaced.load(Ordering::SeqCst), 0, "nothing was sent before the broker was satisfied");
}

#[test]
fn a_client_recovers_when_the_program_has_the_right_password() {
    let guard = Guard::new("right", 0, 0);
    let server = guard.server();
    let password = Arc::new(Mutex::new("wrong"));
    let asked = Arc::clone(&password);
    let login = Login::from_fn(move || Ok(("alice".into(), Secret::new(*asked.lock().unwrap()))));
    let client = server.client_with(config(login));
    assert_eq!(ready(&client).unwrap_err().kind(), ErrorKind::Authentication);
    *password.lock().unwrap() = "right";
    until("the client is let in", || ready(&client).ok());
}

#[test]
fn a_broker_that_hangs_up_is_not_taken_for_one_that_refuses() {
    let guard = Guard::new("right", 0, 5);
    let server = guard.server();
    let client = server.client_with(fixed("right"));
    until("the client is let in", || match ready(&client) {
        Ok(()) => Some(()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
            None
        }
    });
    assert_eq!(server.requests(ApiKey::SaslAuthenticate), 6);
}

#[test]
fn a_callback_that_fails_is_named() {
    let server = Guard::new("right", 0, 0).server();
    let login = Login::from_fn(|| Err(kavka::Error::new(ErrorKind::Misuse, "the vault is sealed")));
    let error = server.refusal(config(login));
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.to_string().contains("because the vault is sealed"), "{error}");
    assert_eq!(server.requests(ApiKey::SaslAuthenticate), 0);
}

#[test]
fn no_record_is_lost_or_mixed_up_while_connections_authenticate_again() {
    let guard = Guard::new("right", 1_000, 0);
    let server = guard.server();
    let client = server.client_with(fixed("right"));
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let counted = Arc::clone(&guard);
    let sending = client.start(async move {
        let topic = producer.topic(TOPIC, false).await?;
        let begin = Instant::now();
        let mut sent = 0;
        while counted.again.load(Ordering::SeqCst) < 6 && begin.elapsed() < LIMIT {
            let deliveries =
                [producer.send(topic, &Record::new("a")).await?, producer.send(topic, &Record::new("b")).await?];
            for delivery in deliveries {
                delivery.await?;
                sent += 1;
            }
        }
        kavka::Result::Ok(sent)
    });
    assert!(sending.wait(Some(LIMIT * 2)).unwrap().unwrap() > 0);
    assert!(guard.again.load(Ordering::SeqCst) >= 6, "control and produce connections authenticate each second");
    assert_eq!(guard.misplaced.load(Ordering::SeqCst), 0);
}

#[test]
fn a_connection_that_nobody_uses_authenticates_again() {
    let guard = Guard::new("right", 1_000, 0);
    let server = guard.server();
    let client = server.client_with(fixed("right"));
    ready(&client).unwrap();
    until("three sessions", || (guard.again.load(Ordering::SeqCst) >= 3).then_some(()));
    assert_eq!(guard.misplaced.load(Ordering::SeqCst), 0);
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_waiting_consumer_is_told_that_its_credentials_are_refused() {
    let guard = Guard::new("right", 0, 0);
    let server = guard.server();
    let passwords = Arc::new(AtomicUsize::new(0));
    // The metadata arrives; then the password changes, and the consumer's own connection is refused.
    let asked = Arc::clone(&passwords);
    let login = Login::from_fn(move || {
        let password = if asked.fetch_add(1, Ordering::SeqCst) == 0 { "right" } else { "wrong" };
        Ok(("alice".into(), Secret::new(password)))
    });
    let client = server.client_with(config(login));
    ready(&client).unwrap();
    let consumer = client.consumer(ConsumerConfig::default()).unwrap();
    let partition = kavka::TopicPartition { topic: TOPIC.into(), partition: 0 };
    consumer.add(&partition, StartPosition::Offset(0)).unwrap();
    let error = client.start(consumer.next_batch()).wait(Some(LIMIT)).expect("an error comes").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
}
