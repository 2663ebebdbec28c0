//! One connection that authenticates itself, against a scripted broker.

use std::time::Duration;

use bytes::Bytes;
use kavka_core::config::ScramHash;
use kavka_core::error::{Error, ErrorKind, Place, Result};
use kavka_core::link::sasl::{Credentials, NONCE_BYTES};
use kavka_core::link::{Answer, Connection, ConnectionConfig, Greeting, ReadPool, RequestId, SendOptions};
use kavka_core::secret::Secret;
use kavka_core::time::Instant;
use kavka_core::wire::api::{RequestHeader, encode_response};
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::api_versions::ApiVersion;
use kavka_core::wire::messages::{
    ApiVersionsResponse, MetadataRequest, MetadataResponse, SaslAuthenticateRequest, SaslAuthenticateResponse,
    SaslHandshakeRequest, SaslHandshakeResponse,
};
use kavka_core::wire::{ApiKey, Decoder, Message};
use proptest::prelude::*;

const OPTIONS: SendOptions = SendOptions {
    min_version: 0,
    max_version: i16::MAX,
    is_answered: true,
    limit: Duration::from_millis(500),
    may_fail_early: false,
};

/// A broker of today, and one from before `SaslAuthenticate`.
const TODAY: &[(ApiKey, i16)] =
    &[(ApiKey::Metadata, 5), (ApiKey::ApiVersions, 3), (ApiKey::SaslHandshake, 1), (ApiKey::SaslAuthenticate, 2)];
const OLD: &[(ApiKey, i16)] = &[(ApiKey::Metadata, 2), (ApiKey::ApiVersions, 0), (ApiKey::SaslHandshake, 0)];

fn plain(password: &str) -> Credentials {
    Credentials::Plain { username: "alice".into(), password: Secret::new(password) }
}

/// A connection, and the other end of it.
struct Scene {
    connection: Connection,
    now: Instant,
}

impl Scene {
    /// A connection whose broker has answered with these versions.
    fn new(credentials: Option<Credentials>, apis: &[(ApiKey, i16)]) -> Self {
        let config = ConnectionConfig {
            greeting: Greeting::Versions,
            client_id: "test".into(),
            max_response_bytes: 100_000_000,
            place: Place { address: Some("kafka:9092".into()), ..Place::default() },
            has_spoken: false,
            keeps_order: false,
            authentication_limit: Duration::from_secs(10),
            session_percent: 90,
        };
        let connection = Connection::new(config, credentials, ReadPool::default()).unwrap();
        let mut scene = Self { connection, now: Instant(0) };
        let api =
            |&(key, max_version): &(ApiKey, i16)| ApiVersion { api_key: key.number(), min_version: 0, max_version };
        let api_keys = apis.iter().map(api).collect();
        let (header, _) = scene.request();
        let versions = ApiVersionsResponse { api_keys, ..ApiVersionsResponse::default() };
        assert!(scene.answer(&header, &versions).unwrap().is_empty());
        scene
    }

    /// A connection that is ready, whose session lasts this long.
    fn ready(session_lifetime_ms: i64) -> Self {
        let mut scene = Self::new(Some(plain("secret")), TODAY);
        scene.authenticate(session_lifetime_ms).unwrap();
        assert!(scene.connection.is_ready());
        scene
    }

    /// Answers `SaslHandshake` and one PLAIN message as a broker that is satisfied.
    fn authenticate(&mut self, session_lifetime_ms: i64) -> Result<()> {
        self.offer(ErrorCode::NONE, &["PLAIN"])?;
        let (header, _) = self.request();
        let response = SaslAuthenticateResponse { session_lifetime_ms, ..SaslAuthenticateResponse::default() };
        self.answer(&header, &response)?;
        self.work()
    }

    fn offer(&mut self, error_code: ErrorCode, mechanisms: &[&str]) -> Result<SaslHandshakeRequest> {
        let (header, body) = self.request();
        assert_eq!(header.key, ApiKey::SaslHandshake);
        let mechanisms = mechanisms.iter().map(|name| (*name).into()).collect();
        self.answer(&header, &SaslHandshakeResponse { error_code, mechanisms })?;
        self.work()?;
        Ok(SaslHandshakeRequest::decode_exact(header.version, body).unwrap())
    }

    fn work(&mut self) -> Result<()> {
        match self.connection.poll_work() {
            Some(work) => self.connection.handle_worked(self.now, work.run()),
            None => Ok(()),
        }
    }

    /// All that the connection has to send.
    fn sent(&mut self) -> Vec<u8> {
        let bytes = self.connection.output().flat_map(|segment| segment.to_vec()).collect::<Vec<_>>();
        self.connection.handle_written(self.now, bytes.len());
        bytes
    }

    /// The one request that the connection has to send.
    fn request(&mut self) -> (RequestHeader, Bytes) {
        let mut decoder = Decoder::from(Bytes::from(self.sent()));
        let size = i32::from_be_bytes(decoder.array().unwrap());
        assert_eq!(size as usize, decoder.remaining(), "there is one request");
        let header = RequestHeader::decode(&mut decoder).unwrap();
        (header, decoder.into_rest())
    }

    /// The message that the connection has to send in `SaslAuthenticate`.
    fn message(&mut self) -> (RequestHeader, Bytes) {
        let (header, body) = self.request();
        let request = SaslAuthenticateRequest::decode_exact(header.version, body).unwrap();
        (header, request.auth_bytes)
    }

    /// Sends bytes to the connection.
    fn read(&mut self, bytes: &[u8]) -> Result<Vec<Answer>> {
        let mut answers = Vec::new();
        for chunk in bytes.chunks(7) {
            self.connection.space()[..chunk.len()].copy_from_slice(chunk);
            self.connection.handle_read(self.now, chunk.len(), &mut answers)?;
        }
        Ok(answers)
    }

    fn answer<M: Message>(&mut self, header: &RequestHeader, response: &M) -> Result<Vec<Answer>> {
        self.read(&encode_response(header.key, header.version, header.correlation_id, response).unwrap().concat())
    }

    fn ask_for_metadata(&mut self, id: u64) -> Result<i16> {
        self.connection.send(self.now, RequestId(id), &MetadataRequest::default(), OPTIONS)
    }
}

#[test]
fn a_connection_names_its_mechanism_and_then_sends_its_credentials() {
    let mut scene = Scene::new(Some(plain("secret")), TODAY);
    assert!(scene.ask_for_metadata(1).is_err(), "nothing goes out before the broker is satisfied");
    assert_eq!(scene.offer(ErrorCode::NONE, &["GSSAPI", "PLAIN"]).unwrap().mechanism, "PLAIN");
    let (header, message) = scene.message();
    assert_eq!((header.version, &message[..]), (2, &b"\0alice\0secret"[..]));
    assert!(!scene.connection.is_ready());
    scene.answer(&header, &SaslAuthenticateResponse::default()).unwrap();
    scene.work().unwrap();
    assert!(scene.connection.is_ready());
    scene.ask_for_metadata(1).unwrap();
}

#[test]
fn no_credentials_are_sent_to_a_broker_that_does_not_list_the_mechanism() {
    let bad = ErrorCode::UNSUPPORTED_SASL_MECHANISM;
    let cases = [
        (bad, &["GSSAPI", "SCRAM-SHA-512"][..], "only: GSSAPI, SCRAM-SHA-512"),
        (ErrorCode::NONE, &["OTHER\n"], "only: OTHER\\n"),
        (bad, &[], "only: none"),
    ];
    for (code, offered, words) in cases {
        let mut scene = Scene::new(Some(plain("secret")), TODAY);
        let error = scene.offer(code, offered).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication);
        let text = error.to_string();
        assert!(text.contains("mechanism PLAIN") && text.contains(words) && text.contains("kafka:9092"), "{text}");
        assert!(scene.connection.poll_work().is_none() && !scene.connection.has_output());
    }
}

#[test]
fn a_port_without_sasl_is_told_from_wrong_credentials() {
    let mut scene = Scene::new(Some(plain("secret")), TODAY);
    let error = scene.offer(ErrorCode::ILLEGAL_SASL_STATE, &[]).unwrap_err();
    assert!(error.to_string().contains("does not use SASL on this port"), "{error}");
}

#[test]
fn a_port_with_sasl_is_suspected_when_it_hangs_up_on_the_first_request() {
    let mut scene = Scene::new(None, TODAY);
    scene.ask_for_metadata(1).unwrap();
    let error = scene.connection.handle_closed(None);
    assert!(error.to_string().contains("the port may require SASL"), "{error}");
    let (header, _) = scene.request();
    scene.answer(&header, &MetadataResponse::default()).unwrap();
    assert!(!scene.connection.handle_closed(None).to_string().contains("SASL"));
}

#[test]
fn refused_credentials_are_fatal_and_in_the_brokers_words() {
    let mut scene = Scene::new(Some(plain("hunter2")), TODAY);
    scene.offer(ErrorCode::NONE, &["PLAIN"]).unwrap();
    let (header, _) = scene.message();
    let response = SaslAuthenticateResponse {
        error_code: ErrorCode::SASL_AUTHENTICATION_FAILED,
        error_message: Some("Invalid username or password\x1b[2J\n\0alice\0hunter2".into()),
        ..SaslAuthenticateResponse::default()
    };
    let error = scene.answer(&header, &response).unwrap_err();
    assert!(error.kind() == ErrorKind::Authentication && error.is_fatal() && !error.is_retriable());
    let text = "the broker refused the credentials for SASL PLAIN: Invalid username or password\\u{1b}[2J\\n\\u{0}\
                alice\\u{0}***: at kafka:9092; because the broker answered SASL_AUTHENTICATION_FAILED (58)";
    assert_eq!(error.to_string(), text);
}

#[test]
fn no_debug_output_of_a_connection_shows_its_credentials() {
    let mut scene = Scene::new(Some(plain("hunter2")), TODAY);
    let shows = |scene: &Scene| {
        let text = format!("{:?}", scene.connection);
        text.contains("hunter2") || text.contains("104, 117, 110")
    };
    assert!(!shows(&scene));
    scene.offer(ErrorCode::NONE, &["PLAIN"]).unwrap();
    assert!(scene.connection.has_output() && !shows(&scene));
    let request = SaslAuthenticateRequest { auth_bytes: Bytes::from_static(b"hunter2") };
    assert_eq!(format!("{request:?}"), "SaslAuthenticateRequest { .. }");
}

#[test]
fn an_old_broker_gets_bare_messages() {
    let mut scene = Scene::new(Some(plain("secret")), OLD);
    scene.offer(ErrorCode::NONE, &["PLAIN"]).unwrap();
    assert_eq!(scene.sent(), b"\0\0\0\x0d\0alice\0secret");
    let closed = scene.connection.handle_closed(None);
    assert_eq!(closed.kind(), ErrorKind::Disconnected, "it may be down as well");
    assert!(closed.to_string().contains("brokers before 1.0"), "{closed}");
    scene.read(&[0, 0, 0, 0]).unwrap();
    scene.work().unwrap();
    assert!(scene.connection.is_ready());
    scene.ask_for_metadata(1).unwrap();
    let (header, _) = scene.request();
    assert_eq!(scene.answer(&header, &MetadataResponse::default()).unwrap().len(), 1);
}

#[test]
fn a_broker_without_sasl_is_named() {
    let error = refused_at_once(&[(ApiKey::Metadata, 5), (ApiKey::ApiVersions, 3)]);
    assert_eq!(error.kind(), ErrorKind::Authentication);
    let text = error.to_string();
    assert!(text.contains("the broker does not know SASL"), "{text}");
    assert!(text.contains("SASL needs a broker of Kafka 0.10 or newer"), "{text}");
    assert!(!text.contains("GSSAPI"), "another mechanism is named in SaslHandshake, too: {text}");
}

/// The error for these versions, when the client has credentials.
fn refused_at_once(apis: &[(ApiKey, i16)]) -> Error {
    let mut scene = Scene::new(Some(plain("secret")), TODAY);
    let config = ConnectionConfig {
        greeting: Greeting::Versions,
        client_id: "test".into(),
        max_response_bytes: 1_000,
        place: Place::default(),
        has_spoken: false,
        keeps_order: false,
        authentication_limit: Duration::from_secs(10),
        session_percent: 90,
    };
    scene.connection = Connection::new(config, Some(plain("secret")), ReadPool::default()).unwrap();
    let api = |&(key, max_version): &(ApiKey, i16)| ApiVersion { api_key: key.number(), min_version: 0, max_version };
    let versions = ApiVersionsResponse { api_keys: apis.iter().map(api).collect(), ..ApiVersionsResponse::default() };
    let (header, _) = scene.request();
    scene.answer(&header, &versions).unwrap_err()
}

#[test]
fn a_scram_broker_that_cannot_prove_itself_gets_no_request() {
    let nonce = [7; NONCE_BYTES];
    let password = Secret::new("pencil");
    let credentials = Credentials::Scram { hash: ScramHash::Sha256, username: "alice".into(), password, nonce };
    let mut scene = Scene::new(Some(credentials), TODAY);
    scene.offer(ErrorCode::NONE, &["SCRAM-SHA-256"]).unwrap();
    let (header, first) = scene.message();
    let nonce = std::str::from_utf8(&first).unwrap().strip_prefix("n,,n=alice,r=").unwrap().to_owned();
    let message = |text: String| SaslAuthenticateResponse { auth_bytes: text.into(), ..Default::default() };
    scene.answer(&header, &message(format!("r={nonce}more,s=c2FsdA==,i=4096"))).unwrap();
    scene.work().unwrap();
    let (header, _) = scene.message();
    scene.answer(&header, &message("v=c2FsdA==".into())).unwrap();
    let error = scene.work().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.to_string().contains("its signature is wrong: at kafka:9092"), "{error}");
    assert!(!scene.connection.is_ready());
}

#[test]
fn a_frame_of_more_than_64_kib_is_refused_until_the_broker_is_satisfied() {
    let mut scene = Scene::new(Some(plain("secret")), TODAY);
    let size = (64_i32 << 10) + 1;
    assert!(scene.read(&size.to_be_bytes()).is_err());
    let mut scene = Scene::ready(0);
    scene.read(&size.to_be_bytes()).unwrap();
}

#[test]
fn a_session_without_end_needs_no_other_authentication() {
    for lifetime in [0, -1, i64::MIN] {
        let mut scene = Scene::ready(lifetime);
        assert_eq!(scene.connection.poll_timeout(), None);
        assert!(!scene.connection.poll_reauthentication(Instant(u64::MAX)));
    }
    assert!(Scene::ready(i64::MAX).connection.handle_timeout(Instant(1 << 40)).is_none());
}

#[test]
fn new_credentials_are_asked_for_before_the_session_ends() {
    let mut scene = Scene::ready(100_000);
    assert_eq!(scene.connection.poll_timeout(), Some(Instant(90_000)));
    assert!(!scene.connection.poll_reauthentication(Instant(89_999)));
    assert!(scene.connection.poll_reauthentication(Instant(90_000)));
    assert!(!scene.connection.poll_reauthentication(Instant(90_000)), "they are being fetched");
    assert_eq!(scene.connection.poll_timeout(), Some(Instant(95_000)), "they are asked for again");
    assert!(scene.connection.poll_reauthentication(Instant(95_000)));
    assert!(scene.connection.handle_timeout(Instant(99_999)).is_none());
    let error = scene.connection.handle_timeout(Instant(100_000)).unwrap();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
}

#[test]
fn answers_to_earlier_requests_arrive_during_a_new_authentication_and_none_is_sent() {
    let mut scene = Scene::ready(10_000);
    scene.now = Instant(9_000);
    scene.ask_for_metadata(1).unwrap();
    let (first, _) = scene.request();
    scene.connection.reauthenticate(scene.now, plain("newer")).unwrap();
    assert!(scene.ask_for_metadata(2).is_err());
    let (handshake, _) = scene.request();
    assert_eq!(scene.answer(&first, &MetadataResponse::default()).unwrap()[0].id, RequestId(1));
    let offer = SaslHandshakeResponse { error_code: ErrorCode::NONE, mechanisms: vec!["PLAIN".into()] };
    scene.answer(&handshake, &offer).unwrap();
    scene.work().unwrap();
    let (header, message) = scene.message();
    assert_eq!(&message[..], b"\0alice\0newer");
    scene.answer(&header, &SaslAuthenticateResponse { session_lifetime_ms: 10_000, ..Default::default() }).unwrap();
    assert!(scene.ask_for_metadata(2).is_err());
    scene.work().unwrap();
    scene.ask_for_metadata(2).unwrap();
    let (second, _) = scene.request();
    assert_eq!(scene.answer(&second, &MetadataResponse::default()).unwrap()[0].id, RequestId(2));
    assert_eq!(scene.connection.poll_timeout(), Some(Instant(18_000)), "the next session has begun");
}

#[test]
fn an_idle_connection_stays_idle_through_new_authentications() {
    let mut scene = Scene::ready(10_000);
    let idle_since = scene.connection.idle_since();
    assert!(idle_since.is_some());
    scene.now = Instant(9_000);
    scene.connection.reauthenticate(scene.now, plain("newer")).unwrap();
    assert_eq!(scene.connection.idle_since(), None);
    scene.authenticate(10_000).unwrap();
    assert_eq!(scene.connection.idle_since(), idle_since);
}

#[test]
fn credentials_that_are_refused_later_end_the_connection_but_may_not_be_to_blame() {
    let mut scene = Scene::ready(10_000);
    scene.ask_for_metadata(1).unwrap();
    scene.sent();
    scene.connection.reauthenticate(scene.now, plain("wrong")).unwrap();
    let (handshake, _) = scene.request();
    let frame = encode_response(ApiKey::Metadata, 5, handshake.correlation_id - 1, &MetadataResponse::default());
    assert_eq!(scene.read(&frame.unwrap().concat()).unwrap().len(), 1);
    let offer = SaslHandshakeResponse { error_code: ErrorCode::NONE, mechanisms: vec!["PLAIN".into()] };
    scene.answer(&handshake, &offer).unwrap();
    scene.work().unwrap();
    let (header, _) = scene.message();
    let refusal = SaslAuthenticateResponse { error_code: ErrorCode::SASL_AUTHENTICATION_FAILED, ..Default::default() };
    let error = scene.answer(&header, &refusal).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(error.to_string().contains("because the broker refused the credentials"), "{error}");
}

#[test]
fn a_new_authentication_that_makes_no_progress_ends_the_connection() {
    let mut scene = Scene::ready(60_000);
    scene.now = Instant(54_000);
    scene.connection.reauthenticate(scene.now, plain("newer")).unwrap();
    assert_eq!(scene.connection.poll_timeout(), Some(Instant(64_000)));
    assert!(scene.connection.handle_timeout(Instant(63_999)).is_none());
    assert_eq!(scene.connection.handle_timeout(Instant(64_000)).unwrap().kind(), ErrorKind::Disconnected);
}

#[test]
fn a_refused_token_is_acknowledged_before_the_error_is_told() {
    let credentials = Credentials::OAuthBearer { token: Secret::new("abc"), extensions: Vec::new() };
    let mut scene = Scene::new(Some(credentials), TODAY);
    scene.offer(ErrorCode::NONE, &["OAUTHBEARER"]).unwrap();
    let (header, _) = scene.message();
    let challenge = Bytes::from_static(b"{\"status\":\"invalid_token\"}");
    scene.answer(&header, &SaslAuthenticateResponse { auth_bytes: challenge, ..Default::default() }).unwrap();
    scene.work().unwrap();
    let (header, message) = scene.message();
    assert_eq!(&message[..], b"\x01");
    let refusal = SaslAuthenticateResponse {
        error_code: ErrorCode::SASL_AUTHENTICATION_FAILED,
        error_message: Some("denied".into()),
        ..Default::default()
    };
    let error = scene.answer(&header, &refusal).unwrap_err();
    assert!(error.to_string().contains("OAUTHBEARER: {\"status\":\"invalid_token\"}; denied"), "{error}");
}

/// What a broker may send in place of the right message: attributes of SCRAM, JSON, and bytes that are neither.
fn hostile_message() -> impl Strategy<Value = Vec<u8>> {
    let attribute = "[a-z]=[A-Za-z0-9+/=%]{0,40}";
    let attributes = proptest::collection::vec(attribute, 0..6).prop_map(|list| list.join(",").into_bytes());
    let json = "\\{\"status\":\"[^\"]{0,40}\"\\}".prop_map(String::into_bytes);
    prop_oneof![attributes, json, proptest::collection::vec(any::<u8>(), 0..300)]
}

proptest! {
    /// No message makes a client panic, or believe that a broker knows its password or accepts its token.
    #[test]
    fn hostile_messages_are_refused(messages in proptest::collection::vec(hostile_message(), 1..4), is_scram: bool) {
        let password = Secret::new("pencil");
        let nonce = [7; NONCE_BYTES];
        let (credentials, mechanism) = if is_scram {
            let hash = ScramHash::Sha256;
            (Credentials::Scram { hash, username: "alice".into(), password, nonce }, "SCRAM-SHA-256")
        } else {
            (Credentials::OAuthBearer { token: password, extensions: Vec::new() }, "OAUTHBEARER")
        };
        let mut scene = Scene::new(Some(credentials), TODAY);
        scene.offer(ErrorCode::NONE, &[mechanism]).unwrap();
        for (index, message) in messages.into_iter().enumerate() {
            // An empty first answer is how a broker accepts a token.
            if message.is_empty() && index == 0 {
                return Ok(());
            }
            let (header, _) = scene.message();
            scene.answer(&header, &SaslAuthenticateResponse { auth_bytes: message.into(), ..Default::default() }).unwrap();
            let went_on = scene.work();
            prop_assert!(!scene.connection.is_ready());
            if went_on.is_err() {
                return Ok(());
            }
        }
    }
}
