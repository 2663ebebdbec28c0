//! A broker that answers a client's credentials with anything (SCRAM, OAUTHBEARER, PLAIN, GSSAPI).
//!
//! Whatever it says, there is an authenticated connection or an error of authentication, which shows neither a secret
//! (also not one that was sent to the broker, and that it repeats) nor anything that a terminal obeys. With SCRAM there
//! is no connection without a signature that only the owner of the password can have made; with OAUTHBEARER none after
//! an error in JSON.
//!
//! What an identity provider (OIDC) answers is for the target `tokens`.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use kavka_core::config::ScramHash;
use kavka_core::error::{ErrorKind, Place, Result};
use kavka_core::link::sasl::{Credentials, GssContext, NONCE_BYTES};
use kavka_core::link::{Connection, ConnectionConfig, Greeting, ReadPool};
use kavka_core::secret::Secret;
use kavka_core::time::Instant;
use kavka_core::wire::api::{RequestHeader, encode_response};
use kavka_core::wire::messages::api_versions::ApiVersion;
use kavka_core::wire::messages::{
    ApiVersionsResponse, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeResponse,
};
use kavka_core::wire::{ApiKey, Decoder, ErrorCode, Message};
use kavka_fuzz::{Unstructured, arbitrary, below, some_bytes};
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;

const MECHANISMS: [&str; 4] = ["SCRAM-SHA-256", "OAUTHBEARER", "PLAIN", "GSSAPI"];
const SCRAM: usize = 0;
const OAUTHBEARER: usize = 1;
const PLAIN: usize = 2;
/// The password, and the token.
const SECRET: &str = "Canary7";
const SALT: &[u8] = b"salt";

/// A Kerberos library that takes every token, and is established after the second one.
#[derive(Debug, Default)]
struct Kerberos(usize);

impl GssContext for Kerberos {
    fn step(&mut self, token: &[u8]) -> Result<Vec<u8>> {
        self.0 += 1;
        Ok([b"ticket", token].concat())
    }

    fn is_established(&self) -> bool {
        self.0 > 1
    }

    fn wrap(&mut self, message: &[u8]) -> Result<Vec<u8>> {
        Ok(message.to_vec())
    }

    fn unwrap(&mut self, message: &[u8]) -> Result<Vec<u8>> {
        Ok(message.to_vec())
    }
}

fn credentials(mechanism: usize) -> Credentials {
    let (username, password) = ("alice".to_owned(), Secret::new(SECRET));
    match mechanism {
        SCRAM => Credentials::Scram { hash: ScramHash::Sha256, username, password, nonce: [7; NONCE_BYTES] },
        OAUTHBEARER => Credentials::OAuthBearer { token: Secret::new(SECRET), extensions: Vec::new() },
        PLAIN => Credentials::Plain { username, password },
        _ => Credentials::Gssapi(Box::<Kerberos>::default()),
    }
}

fn api(key: ApiKey, max_version: i16) -> ApiVersion {
    ApiVersion { api_key: key.number(), min_version: 0, max_version }
}

/// What the connection sends: a request's header, and its body.
fn request(connection: &mut Connection) -> (RequestHeader, Bytes) {
    let bytes = connection.output().flat_map(|segment| segment.to_vec()).collect::<Vec<_>>();
    connection.handle_written(Instant(0), bytes.len());
    let mut decoder = Decoder::from(Bytes::from(bytes));
    decoder.array::<4>().expect("a request has a size");
    (RequestHeader::decode(&mut decoder).expect("a request has a header"), decoder.into_rest())
}

fn answer(connection: &mut Connection, header: &RequestHeader, response: &impl Message) -> Result<()> {
    let frame = encode_response(header.key, header.version, header.correlation_id, response).expect("it is short");
    for chunk in frame.concat().chunks(50_000) {
        connection.space()[..chunk.len()].copy_from_slice(chunk);
        connection.handle_read(Instant(0), chunk.len(), &mut Vec::new())?;
    }
    while let Some(work) = connection.poll_work() {
        connection.handle_worked(Instant(0), work.run())?;
    }
    Ok(())
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

/// The first message of a broker that knows the password, or of one that says something else in its place.
fn scram_first(input: &mut Unstructured<'_>, nonce: &str) -> arbitrary::Result<String> {
    let suffix = ["x", "", "\u{7f}", ",i=1"][if input.ratio(1, 4)? { below(input, 4)? } else { 0 }];
    let iterations =
        ["4096", "4095", "+4096", "9999999999999999999999"][if input.ratio(1, 4)? { below(input, 4)? } else { 0 }];
    Ok(format!("r={nonce}{suffix},s={},i={iterations}", BASE64.encode(SALT)))
}

/// The signature that the broker must send at last.
fn scram_signature(client_first: &str, server_first: &str, client_last: &str) -> Vec<u8> {
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(SECRET.as_bytes(), SALT, 4_096, &mut salted);
    let without_proof = client_last.split(",p=").next().unwrap_or_default();
    let bare = client_first.strip_prefix("n,,").unwrap_or_default();
    hmac(&hmac(&salted, b"Server Key"), format!("{bare},{server_first},{without_proof}").as_bytes())
}

/// Many iterations only take long.
fn is_slow(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(message);
    let numbers = text.split(',').filter_map(|attribute| attribute.strip_prefix("i=")?.parse::<u32>().ok());
    numbers.into_iter().any(|iterations| (4_097..=1_000_000).contains(&iterations))
}

/// What the broker answers to what it was `sent`, after what it has `said`. With SCRAM, `is_proven` becomes whether it
/// has the right signature.
fn some_message(
    input: &mut Unstructured<'_>,
    mechanism: usize,
    sent: &[String],
    said: &[String],
    is_proven: &mut bool,
) -> arbitrary::Result<Vec<u8>> {
    Ok(match (mechanism, sent) {
        (SCRAM, [first]) if !input.ratio(1, 8)? => {
            scram_first(input, first.rsplit("r=").next().unwrap_or_default())?.into_bytes()
        }
        (SCRAM, [first, last]) if !input.ratio(1, 4)? => {
            let mut signature = scram_signature(first, &said[0], last);
            let (at, change) = (below(input, 32)?, input.arbitrary::<u8>()?);
            signature[at] ^= change;
            signature.truncate(32 - if input.ratio(1, 16)? { below(input, 32)? } else { 0 });
            *is_proven = change == 0 && signature.len() == 32;
            format!("v={}", BASE64.encode(signature)).into_bytes()
        }
        _ if input.ratio(1, 8)? => sent.concat().into_bytes(),
        _ => some_bytes(input, 600)?.to_vec(),
    })
}

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let mechanism = below(input, MECHANISMS.len())?;
    let config = ConnectionConfig {
        greeting: Greeting::Versions,
        client_id: "fuzz".into(),
        max_response_bytes: 1 << 20,
        place: Place::default(),
        has_spoken: false,
        keeps_order: false,
        authentication_limit: std::time::Duration::from_secs(10),
        session_percent: 90,
    };
    let mut connection = Connection::new(config, Some(credentials(mechanism)), ReadPool::default()).expect("it begins");
    let (header, _) = request(&mut connection);
    let api_keys = vec![api(ApiKey::ApiVersions, 3), api(ApiKey::SaslHandshake, 1), api(ApiKey::SaslAuthenticate, 2)];
    answer(&mut connection, &header, &ApiVersionsResponse { api_keys, ..Default::default() }).expect("it is right");
    let (header, _) = request(&mut connection);
    let mechanisms = MECHANISMS.map(String::from).to_vec();
    answer(&mut connection, &header, &SaslHandshakeResponse { mechanisms, ..Default::default() }).expect("it is right");
    let (mut sent, mut said) = (Vec::<String>::new(), Vec::<String>::new());
    let (mut is_proven, mut are_all_empty) = (false, true);
    while !connection.is_ready() && sent.len() < 6 {
        let (header, body) = request(&mut connection);
        let body = SaslAuthenticateRequest::decode_exact(header.version, body).expect("it is ours").auth_bytes;
        sent.push(String::from_utf8_lossy(&body).into_owned());
        let message = some_message(input, mechanism, &sent, &said, &mut is_proven)?;
        if is_slow(&message) {
            return Ok(());
        }
        are_all_empty &= message.is_empty();
        said.push(String::from_utf8_lossy(&message).into_owned());
        let error_code = if input.ratio(1, 16)? { ErrorCode::SASL_AUTHENTICATION_FAILED } else { ErrorCode::NONE };
        let error_message = if input.ratio(1, 4)? { Some(format!("refused: {}", sent.concat())) } else { None };
        let auth_bytes = message.into();
        let response = SaslAuthenticateResponse { error_code, error_message, auth_bytes, ..Default::default() };
        if let Err(error) = answer(&mut connection, &header, &response) {
            assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
            assert!(!connection.is_ready() && !error.to_string().chars().any(char::is_control), "{error:?}");
            // Of these two the broker has the secret itself, so it is hidden whoever says it.
            let is_sent = [OAUTHBEARER, PLAIN].contains(&mechanism);
            let is_known = !is_sent && said.iter().any(|message| message.contains(SECRET));
            assert!(is_known || !format!("{error} {error:?}").contains(SECRET), "{error:?}");
            return Ok(());
        }
    }
    if connection.is_ready() {
        assert!(mechanism != SCRAM || is_proven, "authenticated by a broker that said {said:?}");
        assert!(mechanism != OAUTHBEARER || are_all_empty, "a refused token counts as accepted: {said:?}");
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});
