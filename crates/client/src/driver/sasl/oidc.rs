//! Gets a token from an identity provider, by the client credentials flow (RFC 6749 section 4.4, KIP-768).
//!
//! One HTTP request over the client's own TLS. The URL must be `https`. A redirect is not followed, because the request
//! carries the client's secret, and an answer longer than [`MAX_ANSWER_BYTES`] is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kavka_core::config::SecretSource;
use kavka_core::config::{Tls as TlsSettings, Token};
use kavka_core::error::{Error, ErrorKind, Place, Result, printable_reason};
use kavka_core::secret::Secret;
use kavka_core::time::Instant;
use serde_core::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::super::clock::timestamp_ms;
use super::super::network::{dial, in_turn};
use super::super::tls::Peer;
use super::super::{Network, Stream, Tls};
use super::on_a_thread;

/// The longest answer, with its headers.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The longest line ahead of a chunk.
const MAX_CHUNK_HEAD_BYTES: usize = 1 << 10;

/// A token endpoint, and how this client asks it.
pub(super) struct Endpoint {
    network: Arc<dyn Network>,
    tls: Arc<Tls>,
    started: std::time::Instant,
    limit: Duration,
    host: String,
    port: u16,
    client_id: String,
    client_secret: SecretSource,
    /// The request up to the client's login, and what follows that.
    request: [String; 2],
}

impl Endpoint {
    pub(super) fn new(
        network: Arc<dyn Network>,
        tls: TlsSettings,
        limit: Duration,
        url: &str,
        (client_id, client_secret): (&str, &SecretSource),
        scope: Option<&str>,
    ) -> Result<Self> {
        let (host, port, path) = parsed(url).ok_or_else(|| {
            // The URL may have a password in it.
            Error::new(ErrorKind::Config, "sasl.oauthbearer.token.endpoint.url is not an https URL")
                .with_hint("give it as https://host[:port]/path, without a user name")
        })?;
        let scope = scope.map(|scope| format!("&scope={}", encoded(scope))).unwrap_or_default();
        let form = format!("grant_type=client_credentials{scope}");
        let length = form.len();
        let authority = url.trim_start_matches("https://").split(['/', '?', '#']).next().unwrap_or_default();
        let request = [
            format!("POST {path} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Basic "),
            format!(
                "\r\nAccept: application/json\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{form}"
            ),
        ];
        let (client_id, client_secret) = (client_id.to_owned(), client_secret.clone());
        let tls = Arc::new(Tls::new(tls, Peer::TokenEndpoint)?);
        let started = std::time::Instant::now();
        Ok(Self { network, tls, started, limit, host, port, client_id, client_secret, request })
    }

    /// Asks for the client's secret, and then for a token.
    ///
    /// # Errors
    ///
    /// `Authentication` if the provider refuses; `Disconnected` if it cannot be reached or is out of order; that of
    /// the callback for the secret.
    pub(super) async fn token(&self) -> Result<Token> {
        let secret = self.secret().await?;
        let login = Zeroizing::new([self.client_id.as_bytes(), b":", secret.reveal()].concat());
        let login = Secret::new(BASE64.encode(&login));
        let [before, after] = &self.request;
        let request = Secret::new([before.as_bytes(), login.reveal(), after.as_bytes()].concat());
        let place = Place { address: Some(format!("{}:{}", self.host, self.port).into()), ..Place::default() };
        let asked = timeout(self.limit, self.ask(&place, &request)).await;
        let asked = asked.unwrap_or_else(|_| Err(silent()));
        asked.and_then(|(status, body)| token_of(status, &body, &[login, secret])).map_err(|error| error.at(place))
    }

    /// The client's secret now.
    async fn secret(&self) -> Result<Secret> {
        if let Some(secret) = self.client_secret.fixed() {
            return Ok(secret.clone());
        }
        let source = self.client_secret.clone();
        let secret = on_a_thread(move || source.ask()).await??;
        if secret.reveal().is_empty() {
            return Err(refused("the client secret for the token endpoint is empty"));
        }
        Ok(secret)
    }

    async fn ask(&self, place: &Place, request: &Secret) -> Result<(u16, Zeroizing<Vec<u8>>)> {
        let deadline = tokio::time::Instant::now() + self.limit;
        let addresses = self.network.resolve(&self.host, self.port).await.map_err(unreachable)?;
        let mut last = None::<Error>;
        for (address, share) in in_turn(addresses, deadline) {
            match timeout(share, self.connect(address, place)).await.unwrap_or_else(|_| Err(silent())) {
                Ok(stream) => return exchange(stream, request.reveal()).await,
                // That one address was refused says more than that another one cannot be reached.
                Err(error) => last = last.filter(|last| last.kind() == ErrorKind::Authentication).or(Some(error)),
            }
        }
        Err(last.unwrap_or_else(|| away("the token endpoint's name has no address")))
    }

    async fn connect(&self, address: SocketAddr, place: &Place) -> Result<Box<dyn Stream>> {
        let stream = dial(self.network.as_ref(), &self.host, address).await.map_err(unreachable)?;
        let now = Instant(self.started.elapsed().as_millis() as u64);
        self.tls.ready(now).await.shake_hands(&self.host, stream, place).await
    }
}

/// An error that may pass.
fn away(what: &str) -> Error {
    Error::new(ErrorKind::Disconnected, what)
}

fn unreachable(cause: std::io::Error) -> Error {
    away("the token endpoint cannot be reached")
        .with_source(cause)
        .with_hint("is sasl.oauthbearer.token.endpoint.url right?")
}

fn silent() -> Error {
    away("the token endpoint does not answer in time")
}

/// An error that stays until somebody corrects something.
fn refused(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Authentication, what)
}

/// The host, the port and the path of an `https` URL.
fn parsed(url: &str) -> Option<(String, u16, String)> {
    let rest = url.strip_prefix("https://").filter(|rest| rest.bytes().all(|byte| byte.is_ascii_graphic()))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split('#').next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => digits.parse().ok().filter(|port| *port > 0)?,
        None if port.is_empty() => 443,
        None => return None,
    };
    let is_host = !host.is_empty() && !host.contains(['@', '[', ']', '\\']);
    let slash = if path.starts_with('/') { "" } else { "/" };
    is_host.then(|| (host.to_owned(), port, format!("{slash}{path}")))
}

/// As a value of a form.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Sends the request and reads the answer: its status and its body.
async fn exchange(mut stream: Box<dyn Stream>, request: &[u8]) -> Result<(u16, Zeroizing<Vec<u8>>)> {
    let lost = |cause: std::io::Error| match cause.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) {
        Some(error) => error.clone(),
        None => away("the connection to the token endpoint was lost").with_source(cause),
    };
    let written = stream.write_all(request).await;
    // If that failed, the provider may have said why before it hung up.
    let mut failed = written.and(stream.flush().await).map_err(lost).err();
    let mut answer = Answer::default();
    loop {
        let read = stream.read(answer.space()?).await.map_err(lost);
        let read = read.map_err(|error| match failed.take() {
            Some(failed) if error.kind() == ErrorKind::Disconnected => failed,
            _ => error,
        })?;
        let ends = read == 0;
        if let Some(complete) = answer.read(read, ends)? {
            return Ok(complete);
        }
        if ends {
            let hung_up = || away("the token endpoint hung up in the middle of its answer");
            return Err(failed.unwrap_or_else(hung_up));
        }
    }
}

/// An HTTP answer that arrives in pieces. However many they are, no byte is looked at more than a few times.
pub(in crate::driver) struct Answer {
    bytes: Zeroizing<Vec<u8>>,
    filled: usize,
    /// Where the interim answers end.
    interim: usize,
    head: Option<Head>,
    /// The chunks so far, without their sizes.
    chunks: Zeroizing<Vec<u8>>,
}

/// What the headers say.
struct Head {
    status: u16,
    extent: Extent,
    /// Where the body begins; for a chunked one, where the next chunk does.
    next: usize,
}

/// How long a body is.
#[derive(Clone, Copy)]
enum Extent {
    Bytes(usize),
    Chunked,
    UntilTheEnd,
}

fn too_long() -> Error {
    refused(format!("the token endpoint's answer is longer than {MAX_ANSWER_BYTES} bytes"))
}

impl Default for Answer {
    fn default() -> Self {
        let bytes = Zeroizing::new(vec![0; MAX_ANSWER_BYTES]);
        // If it grew, a copy of the token would stay in memory.
        let chunks = Zeroizing::new(Vec::with_capacity(MAX_ANSWER_BYTES));
        Self { bytes, filled: 0, interim: 0, head: None, chunks }
    }
}

impl Answer {
    /// Where the next bytes go; an error if the answer is too long.
    pub(in crate::driver) fn space(&mut self) -> Result<&mut [u8]> {
        self.bytes.get_mut(self.filled..).filter(|space| !space.is_empty()).ok_or_else(too_long)
    }

    /// Notes that so many bytes were put into [`space`](Self::space), and whether they `end` the answer. Returns the
    /// status and the body, if the answer is complete.
    pub(in crate::driver) fn read(&mut self, bytes: usize, ends: bool) -> Result<Option<(u16, Zeroizing<Vec<u8>>)>> {
        let seen = self.filled;
        self.filled = self.bytes.len().min(seen + bytes);
        let arrived = self.bytes.get(..self.filled).unwrap_or_default();
        while self.head.is_none() {
            let begun = arrived.get(self.interim..).unwrap_or_default();
            let Some(mut head) = head(begun, seen.saturating_sub(self.interim))? else { break };
            head.next += self.interim;
            // An interim answer, such as 100 (Continue), is headers alone; the answer comes behind it.
            match head.status {
                100..200 => self.interim = head.next,
                _ => self.head = Some(head),
            }
        }
        let Some(head) = &mut self.head else { return Ok(None) };
        let rest = arrived.get(head.next..).unwrap_or_default();
        let body = match head.extent {
            Extent::Bytes(length) => rest.get(..length).map(|body| Zeroizing::new(body.to_vec())),
            Extent::UntilTheEnd => ends.then(|| Zeroizing::new(rest.to_vec())),
            Extent::Chunked => {
                let (taken, is_last) = take_chunks(rest, &mut self.chunks)?;
                head.next += taken;
                is_last.then(|| std::mem::take(&mut self.chunks))
            }
        };
        Ok(body.map(|body| (head.status, body)))
    }
}

/// The headers, if they are complete. The first `seen` bytes were looked at before.
fn head(bytes: &[u8], seen: usize) -> Result<Option<Head>> {
    if !bytes.iter().zip(b"HTTP/1.").all(|(byte, expected)| byte == expected) {
        return Err(refused("the token endpoint does not speak HTTP"));
    }
    // The empty line may have begun in what was seen.
    let fresh = bytes.get(seen.saturating_sub(3)..).unwrap_or_default();
    if !fresh.windows(2).any(|two| two == b"\n\n") && !fresh.windows(3).any(|three| three == b"\n\r\n") {
        return Ok(None);
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let parsed =
        response.parse(bytes).map_err(|cause| refused("the token endpoint does not speak HTTP").with_source(cause))?;
    let (httparse::Status::Complete(next), Some(status)) = (parsed, response.code) else {
        return Err(refused("the token endpoint does not speak HTTP"));
    };
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let extent = if let Some(coding) = header("transfer-encoding") {
        if !coding.eq_ignore_ascii_case("chunked") {
            return Err(refused("the token endpoint uses an unknown transfer encoding"));
        }
        Extent::Chunked
    } else if let Some(length) = header("content-length") {
        let length = length.parse().map_err(|_| refused("the token endpoint's content length is no number"))?;
        if length > MAX_ANSWER_BYTES {
            return Err(too_long());
        }
        Extent::Bytes(length)
    } else {
        Extent::UntilTheEnd
    };
    Ok(Some(Head { status, extent, next }))
}

/// Moves the complete chunks of `bytes` to `body`. Returns how many bytes they are, and whether the last one, which is
/// empty, was among them.
fn take_chunks(bytes: &[u8], body: &mut Vec<u8>) -> Result<(usize, bool)> {
    let cut_wrongly = || refused("the token endpoint's answer is cut wrongly");
    let mut taken = 0;
    loop {
        let rest = bytes.get(taken..).unwrap_or_default();
        let httparse::Status::Complete((head, size)) = httparse::parse_chunk_size(rest).map_err(|_| cut_wrongly())?
        else {
            return if rest.len() > MAX_CHUNK_HEAD_BYTES { Err(cut_wrongly()) } else { Ok((taken, false)) };
        };
        if size == 0 {
            return Ok((taken, true));
        }
        let size = usize::try_from(size).ok().filter(|size| *size <= MAX_ANSWER_BYTES).ok_or_else(too_long)?;
        let Some(after) = rest.get(head..).and_then(|rest| rest.get(..size + 2)) else { return Ok((taken, false)) };
        let chunk = after.strip_suffix(b"\r\n").ok_or_else(cut_wrongly)?;
        body.extend_from_slice(chunk);
        taken += head + size + 2;
    }
}

/// What a token endpoint says about a token. What it says besides may be secret, too, and is passed over.
#[derive(Default)]
struct Said {
    access_token: Zeroizing<String>,
    others: BTreeMap<String, serde_json::Value>,
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Said;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> std::result::Result<Said, A::Error> {
                let mut said = Said::default();
                while let Some(name) = members.next_key::<String>()? {
                    match name.as_str() {
                        "access_token" => said.access_token = members.next_value::<String>()?.into(),
                        "token_type" | "expires_in" | "error" | "error_description" => {
                            said.others.insert(name, members.next_value()?);
                        }
                        _ => {
                            members.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(said)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// The token in an answer; or why there is none, without `secrets`, which an endpoint may repeat.
pub(in crate::driver) fn token_of(status: u16, body: &[u8], secrets: &[Secret]) -> Result<Token> {
    let Said { mut access_token, others } = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| others.get(name).and_then(serde_json::Value::as_str);
    match status {
        200 | 201 => {}
        300..=399 => {
            return Err(refused(format!(
                "the token endpoint answered with a redirect ({status}), which is not followed"
            ))
            .with_hint("set sasl.oauthbearer.token.endpoint.url to where the provider has moved"));
        }
        408 | 429 | 500.. => return Err(away(&format!("the token endpoint is out of order: it answered {status}"))),
        _ => {
            let reason =
                [text("error"), text("error_description")].into_iter().flatten().collect::<Vec<_>>().join(": ");
            let reason = secrets.iter().fold(reason, |reason, secret| secret.hide_in(&reason));
            let reason = if reason.is_empty() { "without a reason".into() } else { printable_reason(&reason) };
            return Err(refused(format!("the token endpoint refused the client ({status}): {reason}")));
        }
    }
    if access_token.is_empty() {
        return Err(refused("the token endpoint's answer has no access_token"));
    }
    if text("token_type").is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(refused("the token endpoint's answer is not a bearer token"));
    }
    let life = others.get("expires_in").and_then(|life| life.as_i64().or_else(|| life.as_str()?.parse().ok()));
    let mut token = Token::new(Secret::new(std::mem::take(&mut *access_token)));
    token.expires_at_ms = life.map(|seconds| timestamp_ms().saturating_add(seconds.saturating_mul(1_000)));
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};

    use kavka_core::config::{Identity, Sasl as Settings, Trust};
    use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::server::{WantsServerCert, WebPkiClientVerifier};
    use rustls::{ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion, WantsVerifier, version};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use tokio_rustls::TlsAcceptor;

    use super::super::super::BoxFuture;
    use super::super::super::network::Tcp;
    use super::super::Sasl;
    use super::super::common::{provider, run};
    use super::*;

    #[test]
    fn an_https_url_is_taken_apart_and_nothing_else_is_accepted() {
        let cases = [
            ("https://id.example/token", ("id.example", 443, "/token")),
            ("https://id.example", ("id.example", 443, "/")),
            ("https://id.example:8443/a/b?c=d#e", ("id.example", 8443, "/a/b?c=d")),
            ("https://id.example?c=d", ("id.example", 443, "/?c=d")),
            ("https://[::1]:8443/token", ("::1", 8443, "/token")),
        ];
        for (url, (host, port, path)) in cases {
            assert_eq!(parsed(url), Some((host.into(), port, path.into())), "{url}");
        }
        let others = [
            "http://id.example/token",
            "file:///etc/passwd",
            "https://",
            "https://:443/",
            "https://h:0/",
            "https://h:x/",
            "https://h:70000/",
            "https://a@h/",
            "https://h/\r\nX: y",
            "https://h/ x",
            "https://[::1/",
            "https://[::1]x/",
            "HTTPS://h/",
            "",
        ];
        for url in others {
            assert_eq!(parsed(url), None, "{url}");
        }
    }

    /// The answer that arrives in pieces of this size.
    fn in_pieces(bytes: &[u8], piece: usize, ends: bool) -> Result<Option<(u16, String)>> {
        let mut answer = Answer::default();
        let mut done = None;
        for piece in bytes.chunks(piece) {
            answer.space()?[..piece.len()].copy_from_slice(piece);
            done = answer.read(piece.len(), false)?;
            if done.is_some() {
                break;
            }
        }
        if ends && done.is_none() {
            done = answer.read(0, true)?;
        }
        Ok(done.map(|(status, body)| (status, String::from_utf8(body.to_vec()).unwrap())))
    }

    fn body(bytes: &[u8], ends: bool) -> Result<Option<(u16, String)>> {
        in_pieces(bytes, bytes.len(), ends)
    }

    #[test]
    fn an_answer_is_complete_by_its_length_its_chunks_or_its_end() {
        let answers: [&[u8]; 3] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\nhello",
        ];
        for answer in answers {
            for piece in [1, 2, 3, 7, answer.len()] {
                assert_eq!(in_pieces(answer, piece, true).unwrap(), Some((200, "hello".into())), "{piece}");
            }
            for end in 1..answer.len() - 4 {
                assert_eq!(body(&answer[..end], false).unwrap(), None);
            }
        }
    }

    #[test]
    fn interim_answers_are_passed_over_however_many_they_are() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for interim in [&b"HTTP/1.1 100 Continue\r\n\r\n"[..], b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"] {
            for bytes in [[interim, answer].concat(), [&interim.repeat(1_000), &answer[..]].concat()] {
                for piece in [1, 3, bytes.len()] {
                    assert_eq!(in_pieces(&bytes, piece, false).unwrap(), Some((200, "hello".into())), "{piece}");
                }
            }
            assert_eq!(body(interim, true).unwrap(), None);
            assert!(body(&interim.repeat(5_000)[..MAX_ANSWER_BYTES], false).unwrap().is_none());
        }
    }

    #[test]
    fn a_token_that_was_created_is_as_good_as_one_that_was_found() {
        for status in [200, 201] {
            let token = token_of(status, br#"{"access_token":"abc"}"#, &[]).unwrap();
            assert_eq!(token.value, Secret::new("abc"));
        }
        assert!(token_of(202, br#"{"access_token":"abc"}"#, &[]).is_err());
    }

    #[test]
    fn a_broken_answer_is_refused() {
        let answers: [&[u8]; 9] = [
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"\r\n\r\n",
            b"HTTP/1.1 two hundred\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        ];
        for answer in answers {
            assert_eq!(body(answer, false).unwrap_err().kind(), ErrorKind::Authentication);
        }
        let drip = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;{}", "x".repeat(2_000));
        assert!(in_pieces(drip.as_bytes(), 1, false).unwrap_err().to_string().contains("cut wrongly"));
    }

    #[test]
    fn a_token_comes_with_the_end_of_its_life() {
        let begin = timestamp_ms();
        let token = token_of(200, br#"{"access_token":"abc","token_type":"Bearer","expires_in":3600}"#, &[]).unwrap();
        assert_eq!(token.value, Secret::new("abc"));
        assert!(token.expires_at_ms.unwrap() >= begin + 3_600_000);
        assert_eq!(token_of(200, br#"{"access_token":"abc"}"#, &[]).unwrap().expires_at_ms, None);
        let with_others = br#"{"refresh_token":"r","id_token":{"a":["b"]},"expires_in":"60","access_token":"a\/c"}"#;
        let token = token_of(200, with_others, &[]).unwrap();
        assert_eq!((token.value, token.expires_at_ms.is_some()), (Secret::new("a/c"), true));
    }

    #[test]
    fn what_is_no_token_is_told_apart_by_who_must_act() {
        let cases: [(u16, &[u8], ErrorKind, &str); 10] = [
            (
                401,
                br#"{"error":"invalid_client","error_description":"no\nsuch"}"#,
                ErrorKind::Authentication,
                "(401): invalid_client: no\\nsuch",
            ),
            (401, br#"{"error":"me:hunter2 is unknown"}"#, ErrorKind::Authentication, "(401): me:*** is unknown"),
            (403, b"<html>", ErrorKind::Authentication, "(403): without a reason"),
            (302, b"", ErrorKind::Authentication, "a redirect (302), which is not followed"),
            (503, b"", ErrorKind::Disconnected, "out of order"),
            (429, b"", ErrorKind::Disconnected, "out of order"),
            (200, b"{}", ErrorKind::Authentication, "no access_token"),
            (200, br#"["access_token"]"#, ErrorKind::Authentication, "no access_token"),
            (200, br#"{"access_token":5}"#, ErrorKind::Authentication, "no access_token"),
            (200, br#"{"access_token":"a","token_type":"mac"}"#, ErrorKind::Authentication, "not a bearer token"),
        ];
        for (status, body, kind, words) in cases {
            let error = token_of(status, body, &[Secret::new("hunter2")]).unwrap_err();
            assert!(error.kind() == kind && error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn the_request_is_sent_once_and_an_answer_without_end_is_not_read_to_the_end() {
        run(async {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            let server = tokio::spawn(async move {
                let mut request = [0; 7];
                theirs.read_exact(&mut request).await.unwrap();
                theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                while theirs.write_all(&[b'x'; 1024]).await.is_ok() {}
                request
            });
            let error = exchange(Box::new(ours), b"request").await.unwrap_err();
            assert!(error.to_string().contains("longer than 65536 bytes"), "{error}");
            assert_eq!(&server.await.unwrap(), b"request");
        });
        assert_eq!(encoded("a b&c=é"), "a%20b%26c%3D%C3%A9");
    }

    /// A network whose peers accept connections and say nothing.
    #[derive(Default)]
    struct Silent(Mutex<Vec<tokio::io::DuplexStream>>);

    impl Network for Silent {
        fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) })
        }

        fn dial<'a>(&'a self, _host: &'a str, _address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            self.0.lock().unwrap().push(theirs);
            Box::pin(async { Ok(Box::new(ours) as Box<dyn Stream>) })
        }
    }

    #[test]
    fn a_token_endpoint_that_says_nothing_is_given_up_at_the_limit() {
        let (network, tls) =
            (Arc::new(Silent::default()), TlsSettings::with_ca_pem(certified("id.example").cert.pem()));
        let (limit, client) = (Duration::from_millis(50), ("id", &Secret::new("secret").into()));
        let endpoint = Endpoint::new(network, tls, limit, "https://id.example/token", client, None).unwrap();
        let error = run(endpoint.token()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        assert!(error.to_string().contains("does not answer in time: at id.example:443"), "{error}");
    }

    /// Two addresses, of which the first one swallows packets.
    struct HalfSilent(Provider);

    impl Network for HalfSilent {
        fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into(), ([127, 0, 0, 2], port).into()]) })
        }

        fn dial<'a>(&'a self, host: &'a str, address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
            let first = SocketAddr::from(([127, 0, 0, 1], address.port()));
            if address == first { Box::pin(std::future::pending()) } else { self.0.dial(host, address) }
        }
    }

    #[test]
    fn an_address_that_swallows_packets_leaves_time_for_the_next_one() {
        let certified = certified("id.example");
        let network = Arc::new(HalfSilent(Provider::new(&certified)));
        let tls = TlsSettings::with_ca_pem(certified.cert.pem());
        // The first address gets half of it.
        let (limit, client) = (Duration::from_secs(4), ("id", &Secret::new("secret").into()));
        let endpoint = Endpoint::new(network, tls, limit, "https://id.example/token", client, None).unwrap();
        assert_eq!(run(endpoint.token()).unwrap().value, Secret::new("abc"));
    }

    #[test]
    fn an_answer_that_came_before_writing_failed_counts() {
        /// Takes no request, and answers all the same.
        struct Hasty(&'static [u8]);

        impl AsyncRead for Hasty {
            fn poll_read(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut self.0).poll_read(context, buffer)
            }
        }

        impl AsyncWrite for Hasty {
            fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }

        run(async {
            let refusal = Hasty(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(exchange(Box::new(refusal), b"request").await.unwrap().0, 401);
            let error = exchange(Box::new(Hasty(b"HTTP/1.1 401")), b"request").await.unwrap_err();
            assert!(error.kind() == ErrorKind::Disconnected && error.to_string().contains("broken pipe"), "{error}");
        });
    }

    fn certified(name: &str) -> CertifiedKey<KeyPair> {
        generate_simple_self_signed([name.to_owned()]).unwrap()
    }

    /// An identity provider with this configuration of TLS, which hands out a token and notes the requests.
    struct Provider(Arc<ServerConfig>, Arc<Mutex<Vec<String>>>);

    impl Provider {
        fn new(certified: &CertifiedKey<KeyPair>) -> Self {
            Self::with(certified, &version::TLS13, ConfigBuilder::<ServerConfig, _>::with_no_client_auth)
        }

        /// One that wants a certificate of the client, signed by itself.
        fn strict(certified: &CertifiedKey<KeyPair>, version: &'static SupportedProtocolVersion) -> Self {
            let mut roots = RootCertStore::empty();
            roots.add(certified.cert.der().clone()).unwrap();
            let provider = Arc::new(aws_lc_rs::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            Self::with(certified, version, |builder| builder.with_client_cert_verifier(verifier))
        }

        fn with(
            certified: &CertifiedKey<KeyPair>,
            version: &'static SupportedProtocolVersion,
            clients: impl FnOnce(ConfigBuilder<ServerConfig, WantsVerifier>) -> ConfigBuilder<ServerConfig, WantsServerCert>,
        ) -> Self {
            let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()).into();
            let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
            let builder = builder.with_protocol_versions(&[version]).unwrap();
            let config = clients(builder).with_single_cert(vec![certified.cert.der().clone()], key).unwrap();
            Self(Arc::new(config), Arc::default())
        }
    }

    impl Network for Provider {
        fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) })
        }

        fn dial<'a>(&'a self, _host: &'a str, _address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let acceptor = TlsAcceptor::from(Arc::clone(&self.0));
            let asked = Arc::clone(&self.1);
            tokio::spawn(async move {
                // A client that does not trust the certificate hangs up.
                if let Ok(mut stream) = acceptor.accept(theirs).await {
                    let mut request = Vec::new();
                    while !request.ends_with(b"grant_type=client_credentials") {
                        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request is whole");
                    }
                    asked.lock().unwrap().push(String::from_utf8(request).unwrap());
                    let answer = r#"{"access_token":"abc"}"#;
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
                    stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
                    stream.read_to_end(&mut Vec::new()).await.unwrap();
                }
            });
            Box::pin(async { Ok(Box::new(ours) as Box<dyn Stream>) })
        }
    }

    /// Gets a token as a client does that has `tls` for its brokers.
    fn token_from(network: &Arc<dyn Network>, host: &str, trust: Trust, tls: &TlsSettings) -> Result<()> {
        let settings = Settings::OAuthBearer(provider(host, trust));
        let sasl = Sasl::new(settings, Some(tls), network, Duration::from_secs(60))?;
        run(sasl.identity(false)).map(drop)
    }

    #[test]
    fn the_identity_provider_is_verified_even_if_brokers_are_not() {
        let known = certified("id.example");
        let network: Arc<dyn Network> = Arc::new(Provider::new(&known));
        let tls = TlsSettings { verify_certificate: false, verify_host_name: false, ..TlsSettings::default() };
        let ask = |host: &str, trusted: String| token_from(&network, host, Trust::Pem(trusted), &tls);
        ask("id.example", known.cert.pem()).unwrap();
        for (host, trusted) in [("other.example", known.cert.pem()), ("id.example", certified("id.example").cert.pem())]
        {
            let error = ask(host, trusted).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Authentication, "{host}");
            let text = error.to_string();
            assert!(text.contains("the token endpoint's certificate") && !text.contains("broker"), "{text}");
            assert!(text.contains("https.ca.location") || text.contains("endpoint.url") && host == "other.example");
        }
    }

    #[test]
    fn the_authorities_for_brokers_do_not_count_for_an_identity_provider() {
        let known = certified("id.example");
        let network: Arc<dyn Network> = Arc::new(Provider::new(&known));
        let (tls, others) = (TlsSettings::with_ca_pem(known.cert.pem()), certified("id.example").cert.pem());
        let error = token_from(&network, "id.example", Trust::Pem(others), &tls).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    }

    #[test]
    fn an_identity_provider_that_wants_a_certificate_does_not_get_the_one_for_brokers() {
        let known = certified("id.example");
        let identity = Identity::pem(known.cert.pem(), Secret::new(known.signing_key.serialize_pem()));
        let tls = TlsSettings::default().identity(identity);
        for version in [&version::TLS12, &version::TLS13] {
            let provider = Provider::strict(&known, version);
            let asked = Arc::clone(&provider.1);
            let network: Arc<dyn Network> = Arc::new(provider);
            let error = token_from(&network, "id.example", Trust::Pem(known.cert.pem()), &tls).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
            let text = error.to_string();
            assert!(text.contains("the token endpoint wants a client certificate, and none is shown to it"), "{text}");
            assert!(asked.lock().unwrap().is_empty(), "the secret was not sent");
        }
    }

    #[test]
    fn the_secret_of_a_client_is_asked_for_with_every_token() {
        let known = certified("id.example");
        let provider = Provider::new(&known);
        let asked = Arc::clone(&provider.1);
        let number = AtomicUsize::new(0);
        let secret = SecretSource::from_fn(move || match number.fetch_add(1, Ordering::SeqCst) {
            2 => Ok(Secret::new("")),
            number => Ok(Secret::new(format!("secret-{number}"))),
        });
        let (tls, limit) = (TlsSettings::with_ca_pem(known.cert.pem()), Duration::from_secs(60));
        let (url, client) = ("https://id.example/token", ("id", &secret));
        let endpoint = Endpoint::new(Arc::new(provider), tls, limit, url, client, None).unwrap();
        run(async {
            for _ in 0..2 {
                endpoint.token().await.unwrap();
            }
            let error = endpoint.token().await.unwrap_err();
            assert!(error.to_string().contains("the client secret for the token endpoint is empty"), "{error}");
        });
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 2);
        for (number, request) in asked.iter().enumerate() {
            let login = BASE64.encode(format!("id:secret-{number}"));
            assert!(request.contains(&format!("\r\nAuthorization: Basic {login}\r\n")), "{request}");
        }
    }

    #[test]
    fn an_error_does_not_show_the_password_in_a_url() {
        let url = "https://alice:hunter2@id.example/token";
        let client = ("id", &Secret::new("secret").into());
        let endpoint =
            Endpoint::new(Arc::new(Tcp::default()), TlsSettings::default(), Duration::from_secs(60), url, client, None);
        let error = endpoint.err().unwrap();
        assert!(error.kind() == ErrorKind::Config && !error.to_string().contains("hunter2"), "{error}");
    }
}
