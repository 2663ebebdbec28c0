//! Brokers that want SASL, from clients with right and with wrong credentials.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use kavka::blocking::Producer;
use kavka::config::{Login, Sasl, ScramHash, Security, Token, TokenSource};
use kavka::{Client, ClientConfig, ConsumerConfig, ErrorCode, ErrorKind, ProducerConfig, Record, StartPosition};
use kavka_core::secret::Secret;
use kavka_core::wire::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kavka_core::wire::{ApiKey, Message};
use kavka_test_support::until;

use crate::server::{LIMIT, Reply, Request, Server, TOPIC, versions};

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
    /// How many of the first connections have sessions without end.
    endless: AtomicUsize,
    /// How many times a connection may not begin to authenticate itself again.
    too_soon: AtomicUsize,
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
            endless: AtomicUsize::new(0),
            too_soon: AtomicUsize::new(0),
        })
    }

    fn server(self: &Arc<Self>) -> Server {
        let guard = Arc::clone(self);
        Server::scripted(move |request| guard.answer(request))
    }

    fn answer(&self, request: &Request) -> Reply {
        let connection = thread::current().id();
        let version = request.header.version;
        let left = |left: usize| left.checked_sub(1);
        match request.header.key {
            ApiKey::ApiVersions => Reply::Behave,
            ApiKey::SaslHandshake
                if self.authenticated.lock().unwrap().contains(&connection)
                    && self.too_soon.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() =>
            {
                let error_code = ErrorCode::ILLEGAL_SASL_STATE;
                Reply::message(request, &SaslHandshakeResponse { error_code, ..Default::default() })
            }
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
                let mut authenticated = self.authenticated.lock().unwrap();
                let is_first = authenticated.insert(connection);
                self.again.fetch_add(usize::from(!is_first), Ordering::SeqCst);
                let is_endless = authenticated.len() <= self.endless.load(Ordering::SeqCst);
                let session_lifetime_ms = if is_endless { 0 } else { self.session_lifetime_ms };
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
    assert!(error.to_string().contains("there are no credentials for SASL: the vault is sealed"), "{error}");
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

/// Records can be sent only until the session ends, so a busy machine may need several sessions to see it.
#[test]
fn records_are_delivered_while_the_program_does_not_come_up_with_new_credentials() {
    let guard = Guard::new("right", 4_000, 0);
    // That for the metadata; that for records is the second one.
    guard.endless.store(1, Ordering::SeqCst);
    let server = guard.server();
    let (enter, entered) = channel();
    let (leave, left) = channel();
    let (asked, left) = (AtomicUsize::new(0), Mutex::new(left));
    let login = Login::from_fn(move || {
        if asked.fetch_add(1, Ordering::SeqCst) >= 2 {
            enter.send(()).ok();
            left.lock().unwrap().recv().ok();
        }
        Ok(("alice".into(), Secret::new("right")))
    });
    let client = server.client_with(config(login));
    let producer = Producer::from(client.producer(ProducerConfig::default()).unwrap());
    let topic = producer.topic(TOPIC, false).unwrap();
    let send = || producer.send_within(topic, &Record::new("a"), LIMIT).unwrap();
    send().wait_for(LIMIT).unwrap().unwrap();
    let seen = || (server.connections(), guard.again.load(Ordering::SeqCst));
    let is_delivered_meanwhile = || {
        entered.recv_timeout(LIMIT).expect("new credentials are asked for");
        let (connections, again) = seen();
        let deliveries = [send(), send()];
        let are_delivered = deliveries.iter().all(|delivery| delivery.wait_for(Duration::from_secs(1)).is_some());
        let is_the_same = seen() == (connections, again);
        leave.send(()).unwrap();
        let next = until("the connection to go on, or another one", || {
            let now = seen();
            (now != (connections, again)).then_some(now)
        });
        are_delivered && is_the_same && next == (connections, again + 1)
    };
    assert!((0..10).any(|_| is_delivered_meanwhile()), "no record is delivered while the credentials are fetched");
    drop(leave);
    send().wait_for(LIMIT).unwrap().unwrap();
    assert_eq!(guard.misplaced.load(Ordering::SeqCst), 0);
}

#[test]
fn no_record_is_lost_when_a_connection_may_not_authenticate_itself_again() {
    let guard = Guard::new("right", 1_500, 0);
    guard.too_soon.store(4, Ordering::SeqCst);
    let server = guard.server();
    let client = server.client_with(config(Login::new("alice", Secret::new("right"))));
    let producer = Producer::from(client.producer(ProducerConfig::default()).unwrap());
    let topic = producer.topic(TOPIC, false).unwrap();
    let connections = until("every refusal", || {
        producer.send_within(topic, &Record::new("a"), LIMIT).unwrap().wait_for(LIMIT).unwrap().unwrap();
        (guard.too_soon.load(Ordering::SeqCst) == 0).then(|| server.connections())
    });
    producer.send_within(topic, &Record::new("a"), LIMIT).unwrap().wait_for(LIMIT).unwrap().unwrap();
    assert!(connections > 4, "each refusal ends a connection, of {connections}");
    assert_eq!(guard.misplaced.load(Ordering::SeqCst), 0);
}

#[test]
fn whoever_waits_for_a_callback_is_told_so() {
    let guard = Guard::new("right", 0, 0);
    let server = guard.server();
    let (leave, left) = channel::<()>();
    let left = Mutex::new(left);
    let login = Login::from_fn(move || {
        left.lock().unwrap().recv().ok();
        Ok(("alice".into(), Secret::new("right")))
    });
    let short = Duration::from_secs(2);
    let config = config(login).request_timeout(short).connection_setup_timeout(short);
    let error = server.refusal(config);
    drop(leave);
    assert!(error.to_string().contains("callback"), "{error}");
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

#[test]
fn a_record_whose_connection_is_refused_is_reported_at_once_with_the_reason() {
    let guard = Guard::new("right", 0, 0);
    let server = guard.server();
    let asked = AtomicUsize::new(0);
    // The password changes after the metadata has arrived.
    let login = Login::from_fn(move || {
        let password = if asked.fetch_add(1, Ordering::SeqCst) == 0 { "right" } else { "wrong" };
        Ok(("alice".into(), Secret::new(password)))
    });
    let client = server.client_with(config(login));
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let sending = client.start(async move {
        let topic = producer.topic(TOPIC, false).await?;
        producer.send(topic, &Record::new("a")).await?.await
    });
    let error = sending.wait(Some(LIMIT)).expect("a report comes").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    assert!(error.to_string().contains("wrong\\u{1b} password"), "{error}");
}

/// Credentials whose secret is `hunter2`, and the name of their mechanism.
fn every_mechanism() -> [(&'static str, Sasl); 4] {
    let login = || Login::new("alice", Secret::new("hunter2"));
    [
        ("PLAIN", Sasl::Plain(login())),
        ("SCRAM-SHA-256", Sasl::Scram(ScramHash::Sha256, login())),
        ("SCRAM-SHA-512", Sasl::Scram(ScramHash::Sha512, login())),
        ("OAUTHBEARER", Sasl::OAuthBearer(TokenSource::from_fn(|| Ok(Token::new(Secret::new("hunter2")))))),
    ]
}

#[test]
fn a_broker_that_repeats_what_it_was_sent_does_not_get_the_secret_into_the_error() {
    for (name, sasl) in every_mechanism() {
        let server = Server::scripted(move |request| match request.header.key {
            ApiKey::SaslHandshake => {
                let mechanisms = vec![name.into()];
                Reply::message(request, &SaslHandshakeResponse { error_code: ErrorCode::NONE, mechanisms })
            }
            ApiKey::SaslAuthenticate => {
                let asked =
                    SaslAuthenticateRequest::decode_exact(request.header.version, request.body.clone()).unwrap();
                let sent = String::from_utf8_lossy(&asked.auth_bytes);
                let response = SaslAuthenticateResponse {
                    error_code: ErrorCode::SASL_AUTHENTICATION_FAILED,
                    error_message: Some(format!("not let in: {sent}")),
                    auth_bytes: format!("{{\"status\":\"{sent}\"}}").into(),
                    ..SaslAuthenticateResponse::default()
                };
                Reply::message(request, &response)
            }
            _ => Reply::Behave,
        });
        let error = server.refusal(ClientConfig::default().with_security(Security::default().sasl(sasl)));
        assert_eq!(error.kind(), ErrorKind::Authentication, "{name}: {error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains("not let in: ") && !text.contains("hunter2"), "{name}: {text}");
    }
}

/// How an answer is broken.
#[derive(Debug, Clone, Copy)]
enum Broken {
    Closed,
    TooLong,
    NegativeLength,
    OtherProtocol,
    Alert,
    OtherCorrelationId,
    Nonsense,
    UnknownError,
    Empty,
}

impl Broken {
    const ALL: [Self; 9] = [
        Self::Closed,
        Self::TooLong,
        Self::NegativeLength,
        Self::OtherProtocol,
        Self::Alert,
        Self::OtherCorrelationId,
        Self::Nonsense,
        Self::UnknownError,
        Self::Empty,
    ];

    fn reply(self, request: &Request) -> Reply {
        match self {
            Self::Closed => Reply::Close,
            Self::TooLong => Reply::Raw(i32::MAX.to_be_bytes().to_vec()),
            Self::NegativeLength => Reply::Raw((-5_i32).to_be_bytes().to_vec()),
            Self::OtherProtocol => Reply::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
            Self::Alert => Reply::Raw(vec![0x15, 3, 3, 0, 2, 2, 70]),
            Self::OtherCorrelationId => Reply::Raw([&[0, 0, 0, 60][..], &[0x7f; 60]].concat()),
            // The request itself, which has the password if it is the one that brings it.
            Self::Nonsense => Reply::Body(request.body.to_vec()),
            Self::UnknownError => Reply::Body([&[0x7f, 0xff][..], &request.body].concat()),
            Self::Empty => Reply::Body(Vec::new()),
        }
    }
}

#[test]
fn no_error_about_a_broken_answer_shows_the_password_whenever_it_comes() {
    for at in [
        ApiKey::ApiVersions,
        ApiKey::SaslHandshake,
        ApiKey::SaslAuthenticate,
        ApiKey::Metadata,
        ApiKey::InitProducerId,
        ApiKey::Produce,
    ] {
        let all = Broken::ALL.map(|broken| {
            let guard = Guard::new("hunter2", 0, 0);
            let server = Server::scripted(move |request| match request.header.key {
                key if key == at => broken.reply(request),
                _ => guard.answer(request),
            });
            let client = server.client_with(fixed("hunter2").max_block(Duration::from_secs(5)));
            let config = ProducerConfig::default().delivery_timeout(Duration::from_secs(4));
            let producer = client.producer(config).unwrap();
            let sending = client.start(async move {
                let topic = producer.topic(TOPIC, false).await?;
                producer.send(topic, &Record::new("a")).await?.await
            });
            (broken, server, client, sending)
        });
        for (broken, server, client, sending) in all {
            let error = sending.wait(Some(LIMIT)).expect("an outcome").expect_err("no success without an answer");
            let mut text = format!("{error} {error:?} {client:?}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = format!("{text} {error} {error:?}");
                cause = error.source();
            }
            assert!(!text.contains("hunter2"), "{at:?} {broken:?}: {text}");
            assert!(server.requests(at) > 0, "{at:?} {broken:?}: the broken answer has not come: {text}");
        }
    }
}

/// How a broker gets out of the configured mechanism.
#[derive(Debug, Clone, Copy)]
enum Evasion {
    /// It does not answer `ApiVersions`, as Kafka 0.8.2 does not.
    HangsUp,
    /// It lists no API of SASL, as Kafka 0.9 does not.
    KnowsNoSasl,
    /// It refuses the mechanism, and offers all others.
    OffersOthers,
    /// It says that all is well, and lists all others.
    AcceptsAndListsOthers,
    /// It says that nobody has to authenticate.
    NeedsNone,
}

#[test]
fn no_other_mechanism_than_the_configured_one_is_tried_and_nothing_is_sent_without_it() {
    let gssapi = Sasl::Gssapi { service_name: "kafka".into() };
    for (name, sasl) in every_mechanism().into_iter().chain([("GSSAPI", gssapi)]) {
        for evasion in [
            Evasion::HangsUp,
            Evasion::KnowsNoSasl,
            Evasion::OffersOthers,
            Evasion::AcceptsAndListsOthers,
            Evasion::NeedsNone,
        ] {
            let seen = Arc::new(Mutex::new(HashSet::new()));
            let noted = Arc::clone(&seen);
            let server = Server::scripted(move |request| {
                let key = request.header.key;
                let named = (key == ApiKey::SaslHandshake)
                    .then(|| SaslHandshakeRequest::decode_exact(request.header.version, request.body.clone()).unwrap());
                noted.lock().unwrap().insert((key, named.map(|request| request.mechanism)));
                let others = || {
                    let others = every_mechanism().into_iter().map(|(other, _)| other).filter(|other| *other != name);
                    others.map(Into::into).collect()
                };
                let (error_code, mechanisms) = match (key, evasion) {
                    (ApiKey::ApiVersions, Evasion::HangsUp) => return Reply::Close,
                    (ApiKey::ApiVersions, Evasion::KnowsNoSasl) => {
                        let mut versions = versions();
                        let of_sasl = [ApiKey::SaslHandshake, ApiKey::SaslAuthenticate].map(ApiKey::number);
                        versions.api_keys.retain(|api| !of_sasl.contains(&api.api_key));
                        return Reply::message(request, &versions);
                    }
                    (ApiKey::SaslHandshake, Evasion::AcceptsAndListsOthers) => (ErrorCode::NONE, others()),
                    (ApiKey::SaslHandshake, Evasion::NeedsNone) => (ErrorCode::ILLEGAL_SASL_STATE, Vec::new()),
                    (ApiKey::SaslHandshake, _) => (ErrorCode::UNSUPPORTED_SASL_MECHANISM, others()),
                    _ => return Reply::Behave,
                };
                Reply::message(request, &SaslHandshakeResponse { error_code, mechanisms })
            });
            let security = Security::default().sasl(sasl.clone());
            let client = server.client_with(ClientConfig::default().with_security(security));
            for _ in 0..3 {
                let error = ready(&client).unwrap_err();
                let is_right = match evasion {
                    Evasion::HangsUp => error.kind() == ErrorKind::Disconnected,
                    _ => error.kind() == ErrorKind::Authentication,
                };
                assert!(is_right, "{name} {evasion:?}: {error}");
            }
            for (key, named) in seen.lock().unwrap().iter() {
                let is_right = *key == ApiKey::ApiVersions || named.as_deref() == Some(name);
                assert!(is_right, "{name} {evasion:?}: {} {named:?}", key.name());
            }
        }
    }
}

/// The error of a client with SCRAM whose broker answers its first message, with this nonce, and its proof in this way;
/// and how many messages of SCRAM the broker got.
fn scram_with(first: impl Fn(&str) -> String + Send + Sync + 'static, last: &'static str) -> (kavka::Error, usize) {
    let server = Server::scripted(move |request| match request.header.key {
        ApiKey::ApiVersions => Reply::Behave,
        ApiKey::SaslHandshake => {
            let mechanisms = vec!["SCRAM-SHA-256".into()];
            Reply::message(request, &SaslHandshakeResponse { error_code: ErrorCode::NONE, mechanisms })
        }
        ApiKey::SaslAuthenticate => {
            let asked = SaslAuthenticateRequest::decode_exact(request.header.version, request.body.clone()).unwrap();
            let said = std::str::from_utf8(&asked.auth_bytes).unwrap();
            let auth_bytes = match said.strip_prefix("n,,n=alice,r=") {
                Some(nonce) => first(nonce),
                None => last.to_owned(),
            };
            Reply::message(request, &SaslAuthenticateResponse { auth_bytes: auth_bytes.into(), ..Default::default() })
        }
        other => panic!("{} was sent to a broker that has proved nothing", other.name()),
    });
    let sasl = Sasl::Scram(ScramHash::Sha256, Login::new("alice", Secret::new("hunter2")));
    let error = server.refusal(ClientConfig::default().with_security(Security::default().sasl(sasl)));
    (error, server.requests(ApiKey::SaslAuthenticate))
}

/// Makes a broker's first SCRAM message from the client's nonce.
type FirstMessage = fn(&str) -> String;

#[test]
fn a_scram_broker_that_weakens_the_exchange_gets_no_proof_and_one_that_proves_nothing_gets_no_request() {
    let first: [(FirstMessage, &str); 9] = [
        (|_| "r=fyko+d2lbbFgONRv9qkxdawL,s=c2FsdA==,i=4096".into(), "does not continue the client's"),
        (|nonce| format!("r={nonce},s=c2FsdA==,i=4096"), "does not continue the client's"),
        (|nonce| format!("r={nonce}x,s=c2FsdA==,i=1"), "wants 1 iterations"),
        (|nonce| format!("r={nonce}x,s=c2FsdA==,i=4095"), "wants 4095 iterations"),
        (|nonce| format!("r={nonce}x,s=c2FsdA==,i=1000001"), "wants 1000001 iterations"),
        (|nonce| format!("r={nonce}x,s=c2FsdA==,i=2147483647"), "wants 2147483647 iterations"),
        (|nonce| format!("m=x,r={nonce}x,s=c2FsdA==,i=4096"), "extension"),
        (|_| "e=unknown-user\n".into(), "unknown-user\\n"),
        (|_| String::new(), "first SCRAM message is not one"),
    ];
    for (first, words) in first {
        let (error, messages) = scram_with(first, "");
        assert_eq!((error.kind(), messages), (ErrorKind::Authentication, 1), "{words}: {error}");
        assert!(error.to_string().contains(words) && !error.to_string().contains("hunter2"), "{words}: {error}");
    }
    for (last, words) in [
        ("", "last SCRAM message is not one"),
        ("v=", "signature is wrong"),
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "signature is wrong"),
        ("m=x,v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "extension"),
        ("e=invalid-proof", "invalid-proof"),
    ] {
        let (error, messages) = scram_with(|nonce| format!("r={nonce}x,s=c2FsdA==,i=4096"), last);
        assert_eq!((error.kind(), messages), (ErrorKind::Authentication, 2), "{words}: {error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

#[test]
fn a_frame_of_more_than_64_kib_is_refused_at_every_step_before_the_broker_is_satisfied() {
    const LIMIT: usize = 64 << 10;
    for at in [ApiKey::ApiVersions, ApiKey::SaslHandshake, ApiKey::SaslAuthenticate] {
        for (bytes, is_too_long) in [(LIMIT, false), (LIMIT + 1, true), (100_000_000, true)] {
            let server = Server::scripted(move |request| match request.header.key {
                // Of what is too long, nothing has to follow: the length alone is enough.
                key if key == at && is_too_long => Reply::Raw((bytes as u32).to_be_bytes().to_vec()),
                key if key == at => Reply::Raw([&(bytes as u32).to_be_bytes()[..], &vec![0xff; bytes]].concat()),
                ApiKey::SaslHandshake => {
                    let mechanisms = vec!["PLAIN".into()];
                    Reply::message(request, &SaslHandshakeResponse { error_code: ErrorCode::NONE, mechanisms })
                }
                _ => Reply::Behave,
            });
            let error = server.refusal(fixed("hunter2"));
            assert_eq!(error.kind(), ErrorKind::Malformed, "{at:?} {bytes}: {error}");
            let says_limit = error.to_string().contains("more than the limit of 65536");
            assert_eq!(says_limit, is_too_long, "{at:?} {bytes}: {error}");
        }
    }
}
