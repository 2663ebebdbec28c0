//! `SaslHandshake` and `SaslAuthenticate`: what a broker accepts, and when, before and after a client is authenticated.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use kavka_core::wire::messages::{
    ApiVersionsRequest, ListGroupsRequest, MetadataRequest, SaslAuthenticateRequest, SaslAuthenticateResponse,
    SaslHandshakeRequest, SaslHandshakeResponse,
};
use kavka_core::wire::{ApiKey, ErrorCode};
use kavka_test_support::brokers::USER;
use sha2::{Digest, Sha256};

use crate::cluster::{Cluster, until};
use crate::connection::Connection;

on_every_broker!(
    another_request_than_the_handshake_closes_the_connection,
    the_versions_may_be_asked_for_once,
    an_unknown_mechanism_is_refused_and_the_known_ones_are_told,
    plain_needs_the_right_password,
    scram_needs_the_right_proof,
    another_request_during_the_exchange_is_refused,
    an_authenticated_connection_takes_no_further_token,
    a_listener_without_sasl_refuses_the_handshake,
    the_oldest_handshake_is_followed_by_bare_tokens,
    a_bare_token_that_is_wrong_closes_the_connection,
    an_invalid_bearer_token_is_refused_after_it_was_explained,
    a_bearer_token_limits_the_session,
    the_end_of_the_session_closes_the_connection_at_the_next_request,
    a_client_may_authenticate_again_before_its_session_ends,
    a_session_without_an_end_is_not_renewed,
    a_client_cannot_become_another_user,
    a_client_cannot_change_its_mechanism,
);

fn handshake(connection: &mut Connection, mechanism: &str) -> SaslHandshakeResponse {
    connection.call(&SaslHandshakeRequest { mechanism: mechanism.into() })
}

fn authenticate(connection: &mut Connection, token: impl AsRef<[u8]>) -> SaslAuthenticateResponse {
    connection.call(&SaslAuthenticateRequest { auth_bytes: Bytes::copy_from_slice(token.as_ref()) })
}

/// A connection on which this mechanism was agreed on.
fn begun(cluster: &Cluster, mechanism: &str) -> Connection {
    let mut connection = Connection::open(cluster.sasl_address());
    let told = handshake(&mut connection, mechanism);
    assert_eq!(told.error_code, ErrorCode::NONE, "{told:?}");
    connection
}

fn plain(user: &str, password: &str) -> String {
    format!("\0{user}\0{password}")
}

/// A connection of [`USER`].
fn authenticated(cluster: &Cluster) -> Connection {
    let mut connection = begun(cluster, "PLAIN");
    let told = authenticate(&mut connection, plain(USER.0, USER.1));
    assert_eq!((told.error_code, told.session_lifetime_ms), (ErrorCode::NONE, 0), "{told:?}");
    connection
}

fn works(connection: &mut Connection) -> bool {
    connection.call(&MetadataRequest { topics: Some(vec![]), ..MetadataRequest::default() }).brokers.len() == 1
        || connection.call(&ListGroupsRequest::default()).error_code == ErrorCode::NONE
}

fn assert_refused(connection: &mut Connection, told: &SaslAuthenticateResponse, reason: &str) {
    let error_code = ErrorCode::SASL_AUTHENTICATION_FAILED;
    assert_eq!((told.error_code, told.error_message.as_deref()), (error_code, Some(reason)));
    assert!(connection.is_closed_by_the_broker());
}

fn another_request_than_the_handshake_closes_the_connection(cluster: &Cluster) {
    for key in [ApiKey::Metadata, ApiKey::SaslAuthenticate] {
        let mut connection = Connection::open(cluster.sasl_address());
        if key == ApiKey::Metadata {
            connection.send(12, &MetadataRequest::default());
        } else {
            connection.send(1, &SaslAuthenticateRequest { auth_bytes: plain(USER.0, USER.1).into() });
        }
        assert!(connection.is_closed_by_the_broker(), "{key:?}");
    }
}

fn the_versions_may_be_asked_for_once(cluster: &Cluster) {
    let mut connection = Connection::open(cluster.sasl_address());
    connection.send(0, &ApiVersionsRequest::default());
    assert!(connection.is_closed_by_the_broker());
}

fn an_unknown_mechanism_is_refused_and_the_known_ones_are_told(cluster: &Cluster) {
    for mechanism in ["GSSAPI", "", "plain"] {
        let mut connection = Connection::open(cluster.sasl_address());
        let mut told = handshake(&mut connection, mechanism);
        told.mechanisms.sort();
        assert_eq!(told.error_code, ErrorCode::UNSUPPORTED_SASL_MECHANISM);
        assert_eq!(told.mechanisms, ["OAUTHBEARER", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
        assert!(connection.is_closed_by_the_broker());
    }
}

fn plain_needs_the_right_password(cluster: &Cluster) {
    assert!(works(&mut authenticated(cluster)));
    let (user, password) = USER;
    for (token, reason) in [
        (plain(user, "wrong"), "Invalid username or password"),
        (plain("nobody", password), "Invalid username or password"),
        (plain("", password), "username not specified"),
        (plain(user, ""), "password not specified"),
        (format!("bob\0{user}\0{password}"), "Client requested an authorization id that is different from username"),
    ] {
        let mut connection = begun(cluster, "PLAIN");
        let told = authenticate(&mut connection, token);
        assert_refused(&mut connection, &told, &format!("Authentication failed: {reason}"));
    }
    let mut connection = begun(cluster, "PLAIN");
    let told = authenticate(&mut connection, "not a token");
    assert_refused(&mut connection, &told, "Invalid SASL/PLAIN response: expected 3 tokens, got 1");
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(message).finalize().into_bytes().to_vec()
}

/// The client's last message, and the signature that the server owes for it.
fn prove(password: &str, first: &str, challenge: &str, nonce: &str) -> (String, String) {
    let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
    let (salt, iterations) = (STANDARD.decode(part("s=")).unwrap(), part("i=").parse().unwrap());
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, iterations, &mut salted);
    let without_proof = format!("c=biws,r={nonce}");
    let exchanged = format!("{first},{challenge},{without_proof}");
    let client_key = hmac(&salted, b"Client Key");
    let signature = hmac(&Sha256::digest(&client_key), exchanged.as_bytes());
    let proof: Vec<_> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
    let owed = hmac(&hmac(&salted, b"Server Key"), exchanged.as_bytes());
    (format!("{without_proof},p={}", STANDARD.encode(proof)), format!("v={}", STANDARD.encode(owed)))
}

fn scram_needs_the_right_proof(cluster: &Cluster) {
    let (user, password) = USER;
    let reason =
        "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256";
    let first = format!("n={user},r=nonce");
    let challenge = |connection: &mut Connection| {
        let told = authenticate(connection, format!("n,,{first}"));
        assert_eq!((told.error_code, told.session_lifetime_ms), (ErrorCode::NONE, 0));
        String::from_utf8(told.auth_bytes.to_vec()).unwrap()
    };
    for (password, own_nonce, is_right) in
        [(password, None, true), ("wrong", None, false), (password, Some("x"), false)]
    {
        let mut connection = begun(cluster, "SCRAM-SHA-256");
        let challenge = challenge(&mut connection);
        let nonce = challenge.strip_prefix("r=").unwrap().split(',').next().unwrap();
        assert!(nonce.starts_with("nonce") && nonce.len() > 20, "{nonce}");
        let (last, owed) = prove(password, &first, &challenge, own_nonce.unwrap_or(nonce));
        let told = authenticate(&mut connection, last);
        if is_right {
            assert_eq!((told.error_code, told.auth_bytes), (ErrorCode::NONE, owed.into()));
            assert!(works(&mut connection));
        } else {
            assert_refused(&mut connection, &told, reason);
        }
    }
    let mut connection = begun(cluster, "SCRAM-SHA-256");
    let told = authenticate(&mut connection, "n,,n=nobody,r=nonce");
    assert_refused(&mut connection, &told, reason);
}

fn another_request_during_the_exchange_is_refused(cluster: &Cluster) {
    let mut connection = begun(cluster, "PLAIN");
    let told = connection.call(&ListGroupsRequest::default());
    assert_eq!(told.error_code, ErrorCode::ILLEGAL_SASL_STATE);
    assert!(connection.is_closed_by_the_broker());
}

fn an_authenticated_connection_takes_no_further_token(cluster: &Cluster) {
    let mut connection = authenticated(cluster);
    let told = authenticate(&mut connection, plain(USER.0, USER.1));
    assert_eq!(told.error_code, ErrorCode::ILLEGAL_SASL_STATE);
    assert_eq!(
        told.error_message.as_deref(),
        Some("SaslAuthenticate request received after successful authentication")
    );
    assert!(works(&mut connection), "the connection stays open");
}

fn a_listener_without_sasl_refuses_the_handshake(cluster: &Cluster) {
    let mut connection = cluster.connect(1);
    let told = handshake(&mut connection, "PLAIN");
    assert_eq!((told.error_code, told.mechanisms.len()), (ErrorCode::ILLEGAL_SASL_STATE, 0));
    let told = authenticate(&mut connection, plain(USER.0, USER.1));
    assert_eq!(told.error_code, ErrorCode::ILLEGAL_SASL_STATE);
    assert!(works(&mut connection), "the connection stays open");
}

fn begun_with_bare_tokens(cluster: &Cluster, token: &str) -> Connection {
    let mut connection = Connection::open(cluster.sasl_address());
    let told = connection.call_version(0, &SaslHandshakeRequest { mechanism: "PLAIN".into() });
    assert_eq!(told.error_code, ErrorCode::NONE);
    connection.write(&[&(token.len() as i32).to_be_bytes(), token.as_bytes()].concat());
    connection
}

fn the_oldest_handshake_is_followed_by_bare_tokens(cluster: &Cluster) {
    let mut connection = begun_with_bare_tokens(cluster, &plain(USER.0, USER.1));
    assert_eq!(connection.read_frame(), "", "an answer that says nothing");
    assert!(works(&mut connection));
}

fn a_bare_token_that_is_wrong_closes_the_connection(cluster: &Cluster) {
    assert!(begun_with_bare_tokens(cluster, &plain(USER.0, "wrong")).is_closed_by_the_broker());
}

/// A token for `user` that expires in `seconds`.
fn bearer(user: &str, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let claims = format!(r#"{{"sub":"{user}","iat":{},"exp":{}}}"#, now - 60, now + seconds);
    let [header, claims] = [r#"{"alg":"none"}"#, &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("n,,\u{1}auth=Bearer {header}.{claims}.\u{1}\u{1}")
}

fn an_invalid_bearer_token_is_refused_after_it_was_explained(cluster: &Cluster) {
    let mut connection = begun(cluster, "OAUTHBEARER");
    let told = authenticate(&mut connection, bearer("alice", -30));
    assert_eq!((told.error_code, &told.auth_bytes[..]), (ErrorCode::NONE, &br#"{"status":"invalid_token"}"#[..]));
    let told = authenticate(&mut connection, "\u{1}");
    assert_refused(&mut connection, &told, r#"{"status":"invalid_token"}"#);
}

fn a_bearer_token_limits_the_session(cluster: &Cluster) {
    let mut connection = begun(cluster, "OAUTHBEARER");
    let told = authenticate(&mut connection, bearer("alice", 3_600));
    assert_eq!(told.error_code, ErrorCode::NONE, "{told:?}");
    assert!((1..=3_600_000).contains(&told.session_lifetime_ms), "{told:?}");
    assert!(works(&mut connection));
}

fn the_end_of_the_session_closes_the_connection_at_the_next_request(cluster: &Cluster) {
    let (mut connection, lifetime_ms) = until("a session that has begun", || {
        let mut connection = begun(cluster, "OAUTHBEARER");
        let told = authenticate(&mut connection, bearer("alice", 3));
        (told.session_lifetime_ms > 0).then_some((connection, told.session_lifetime_ms))
    });
    // The broker has counted from before its answer.
    std::thread::sleep(Duration::from_millis(lifetime_ms as u64 + 1));
    connection.send(0, &ListGroupsRequest::default());
    assert!(connection.is_closed_by_the_broker());
}

/// A connection of alice for an hour.
fn authenticated_for_an_hour(cluster: &Cluster) -> Connection {
    let mut connection = begun(cluster, "OAUTHBEARER");
    assert_eq!(authenticate(&mut connection, bearer("alice", 3_600)).error_code, ErrorCode::NONE);
    connection
}

fn a_client_may_authenticate_again_before_its_session_ends(cluster: &Cluster) {
    let mut connection = authenticated_for_an_hour(cluster);
    assert_eq!(handshake(&mut connection, "OAUTHBEARER").error_code, ErrorCode::NONE);
    let told = authenticate(&mut connection, bearer("alice", 7_200));
    assert_eq!(told.error_code, ErrorCode::NONE);
    assert!((3_600_000..=7_200_000).contains(&told.session_lifetime_ms), "{told:?}");
    assert!(works(&mut connection));
}

fn a_session_without_an_end_is_not_renewed(cluster: &Cluster) {
    let mut connection = authenticated(cluster);
    assert_eq!(handshake(&mut connection, "PLAIN").error_code, ErrorCode::ILLEGAL_SASL_STATE);
    assert!(works(&mut connection), "the connection stays open");
}

fn a_client_cannot_become_another_user(cluster: &Cluster) {
    let mut connection = authenticated_for_an_hour(cluster);
    assert_eq!(handshake(&mut connection, "OAUTHBEARER").error_code, ErrorCode::NONE);
    let told = authenticate(&mut connection, bearer("bob", 3_600));
    let reason = "Cannot change principals during re-authentication from User.alice: User.bob";
    assert_refused(&mut connection, &told, reason);
}

fn a_client_cannot_change_its_mechanism(cluster: &Cluster) {
    let mut connection = authenticated_for_an_hour(cluster);
    assert_eq!(handshake(&mut connection, "PLAIN").error_code, ErrorCode::NONE);
    connection.send(1, &SaslAuthenticateRequest { auth_bytes: plain(USER.0, USER.1).into() });
    assert!(connection.is_closed_by_the_broker());
}
