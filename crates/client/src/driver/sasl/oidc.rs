//! Gets a token from an identity provider, by the client credentials flow (RFC 6749 section 4.4, KIP-768).
//!
//! One HTTP request over the client's own TLS. The URL must be `https`. A redirect is not followed, because the request
//! carries the client's secret, and an answer longer than [`MAX_ANSWER_BYTES`] is refused.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kavka_core::config::{Tls as TlsSettings, Token};
use kavka_core::error::{Error, ErrorKind, Place, Result, printable};
use kavka_core::secret::Secret;
use kavka_core::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::super::clock::timestamp_ms;
use super::super::{Network, Stream, Tls};

/// The longest answer, with its headers.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// How much of the provider's words an error repeats.
const MAX_REASON_CHARS: usize = 300;

/// A token endpoint, and how this client asks it.
pub(super) struct Endpoint {
    network: Arc<dyn Network>,
    tls: Arc<Tls>,
    started: std::time::Instant,
    limit: Duration,
    host: String,
    port: u16,
    request: Secret,
}

impl Endpoint {
    pub(super) fn new(
        network: Arc<dyn Network>,
        tls: TlsSettings,
        limit: Duration,
        url: &str,
        (client_id, client_secret): (&str, &Secret),
        scope: Option<&str>,
    ) -> Result<Self> {
        let (host, port, path) = parsed(url).ok_or_else(|| {
            // The URL may have a password in it.
            Error::new(ErrorKind::Config, "sasl.oauthbearer.token.endpoint.url is not an https URL")
                .with_hint("give it as https://host[:port]/path, without a user name")
        })?;
        let login = Zeroizing::new([client_id.as_bytes(), b":", client_secret.reveal()].concat());
        let login = Zeroizing::new(BASE64.encode(&login));
        let scope = scope.map(|scope| format!("&scope={}", encoded(scope))).unwrap_or_default();
        let form = format!("grant_type=client_credentials{scope}");
        let length = form.len();
        let authority = url.trim_start_matches("https://").split(['/', '?', '#']).next().unwrap_or_default();
        let request = Secret::new(format!(
            "POST {path} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Basic {}\r\nAccept: application/json\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n\
             {form}",
            login.as_str()
        ));
        let tls = Arc::new(Tls::new(tls)?);
        Ok(Self { network, tls, started: std::time::Instant::now(), limit, host, port, request })
    }

    /// Asks for a token.
    ///
    /// # Errors
    ///
    /// `Authentication` if the provider refuses; `Disconnected` if it cannot be reached or is out of order.
    pub(super) async fn token(&self) -> Result<Token> {
        let place = Place { address: Some(format!("{}:{}", self.host, self.port).into()), ..Place::default() };
        let asked = timeout(self.limit, self.ask(&place)).await;
        let asked = asked.unwrap_or_else(|_| Err(away("the token endpoint does not answer in time")));
        asked.and_then(|(status, body)| token_of(status, &body)).map_err(|error| error.at(place))
    }

    async fn ask(&self, place: &Place) -> Result<(u16, Zeroizing<Vec<u8>>)> {
        let unreachable = |cause| away("the token endpoint cannot be reached").with_source(cause);
        let mut last = away("the token endpoint's name has no address");
        for address in self.network.resolve(&self.host, self.port).await.map_err(unreachable)? {
            match self.network.dial(&self.host, address).await {
                Ok(stream) => {
                    let now = Instant(self.started.elapsed().as_millis() as u64);
                    let stream = self.tls.ready(now).await.shake_hands(&self.host, stream, place).await?;
                    return exchange(stream, self.request.reveal()).await;
                }
                Err(cause) => last = unreachable(cause),
            }
        }
        Err(last)
    }
}

/// An error that may pass.
fn away(what: &str) -> Error {
    Error::new(ErrorKind::Disconnected, what)
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
    stream.write_all(request).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    let mut answer = Zeroizing::new(vec![0; MAX_ANSWER_BYTES]);
    let mut filled = 0;
    loop {
        let space = answer.get_mut(filled..).unwrap_or_default();
        if space.is_empty() {
            return Err(refused(format!("the token endpoint's answer is longer than {MAX_ANSWER_BYTES} bytes")));
        }
        let read = stream.read(space).await.map_err(lost)?;
        filled += read;
        let ends = read == 0;
        if let Some(complete) = answered(answer.get(..filled).unwrap_or_default(), ends)? {
            return Ok(complete);
        }
        if ends {
            return Err(away("the token endpoint hung up in the middle of its answer"));
        }
    }
}

/// The status and the body, if the answer is complete. `ends` says that nothing follows.
pub(in crate::driver) fn answered(bytes: &[u8], ends: bool) -> Result<Option<(u16, Zeroizing<Vec<u8>>)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let parsed =
        response.parse(bytes).map_err(|cause| refused("the token endpoint does not speak HTTP").with_source(cause))?;
    let httparse::Status::Complete(head) = parsed else { return Ok(None) };
    let rest = bytes.get(head..).unwrap_or_default();
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let body = if let Some(coding) = header("transfer-encoding") {
        if !coding.eq_ignore_ascii_case("chunked") {
            return Err(refused("the token endpoint uses an unknown transfer encoding"));
        }
        unchunked(rest)?
    } else if let Some(length) = header("content-length") {
        let length: usize = length.parse().map_err(|_| refused("the token endpoint's content length is no number"))?;
        if length > MAX_ANSWER_BYTES {
            return Err(refused(format!("the token endpoint's answer is longer than {MAX_ANSWER_BYTES} bytes")));
        }
        rest.get(..length).map(|body| Zeroizing::new(body.to_vec()))
    } else {
        ends.then(|| Zeroizing::new(rest.to_vec()))
    };
    Ok(response.code.zip(body))
}

/// The body of a chunked answer, if it is complete.
fn unchunked(mut rest: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let mut body = Zeroizing::new(Vec::with_capacity(rest.len()));
    loop {
        let chunk =
            httparse::parse_chunk_size(rest).map_err(|_| refused("the token endpoint's answer is cut wrongly"))?;
        let httparse::Status::Complete((head, size)) = chunk else { return Ok(None) };
        if size == 0 {
            return Ok(Some(body));
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let Some(chunk) = rest.get(head..).and_then(|rest| rest.get(..size)) else { return Ok(None) };
        body.extend_from_slice(chunk);
        // After a chunk comes the end of its line.
        let next = head.saturating_add(size).saturating_add(2);
        let Some(after) = rest.get(next..) else { return Ok(None) };
        rest = after;
    }
}

pub(in crate::driver) fn token_of(status: u16, body: &[u8]) -> Result<Token> {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| json.get(name).and_then(serde_json::Value::as_str);
    match status {
        200 => {}
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
            let reason = if reason.is_empty() { "without a reason".into() } else { printable(&reason) };
            let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
            return Err(refused(format!("the token endpoint refused the client ({status}): {reason}")));
        }
    }
    let token = text("access_token").filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| refused("the token endpoint's answer has no access_token"))?;
    if text("token_type").is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(refused("the token endpoint's answer is not a bearer token"));
    }
    let life = json.get("expires_in").and_then(|life| life.as_i64().or_else(|| life.as_str()?.parse().ok()));
    let mut token = Token::new(Secret::new(token));
    token.expires_at_ms = life.map(|seconds| timestamp_ms().saturating_add(seconds.saturating_mul(1_000)));
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;

    use kavka_core::config::{Sasl as Settings, TokenSource};
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::ServerConfig;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use tokio_rustls::TlsAcceptor;

    use super::super::super::BoxFuture;
    use super::super::super::network::Tcp;
    use super::super::Sasl;
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

    fn body(bytes: &[u8], ends: bool) -> Result<Option<(u16, String)>> {
        answered(bytes, ends)
            .map(|answer| answer.map(|(status, body)| (status, String::from_utf8(body.to_vec()).unwrap())))
    }

    #[test]
    fn an_answer_is_complete_by_its_length_its_chunks_or_its_end() {
        let answers: [&[u8]; 3] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\nhello",
        ];
        for answer in answers {
            assert_eq!(body(answer, true).unwrap(), Some((200, "hello".into())));
            for end in 0..answer.len() - 4 {
                assert_eq!(body(&answer[..end], false).unwrap(), None);
            }
        }
    }

    #[test]
    fn a_broken_answer_is_refused() {
        let answers: [&[u8]; 5] = [
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ];
        for answer in answers {
            assert_eq!(body(answer, true).unwrap_err().kind(), ErrorKind::Authentication);
        }
        let endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
        assert_eq!(body(endless, false).unwrap(), None);
    }

    #[test]
    fn a_token_comes_with_the_end_of_its_life() {
        let begin = timestamp_ms();
        let token = token_of(200, br#"{"access_token":"abc","token_type":"Bearer","expires_in":3600}"#).unwrap();
        assert_eq!(token.value, Secret::new("abc"));
        assert!(token.expires_at_ms.unwrap() >= begin + 3_600_000);
        assert_eq!(token_of(200, br#"{"access_token":"abc"}"#).unwrap().expires_at_ms, None);
    }

    #[test]
    fn what_is_no_token_is_told_apart_by_who_must_act() {
        let cases: [(u16, &[u8], ErrorKind, &str); 7] = [
            (
                401,
                br#"{"error":"invalid_client","error_description":"no\nsuch"}"#,
                ErrorKind::Authentication,
                "(401): invalid_client: no\\nsuch",
            ),
            (403, b"<html>", ErrorKind::Authentication, "(403): without a reason"),
            (302, b"", ErrorKind::Authentication, "a redirect (302), which is not followed"),
            (503, b"", ErrorKind::Disconnected, "out of order"),
            (429, b"", ErrorKind::Disconnected, "out of order"),
            (200, b"{}", ErrorKind::Authentication, "no access_token"),
            (200, br#"{"access_token":"a","token_type":"mac"}"#, ErrorKind::Authentication, "not a bearer token"),
        ];
        for (status, body, kind, words) in cases {
            let error = token_of(status, body).unwrap_err();
            assert!(error.kind() == kind && error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn the_request_is_sent_once_and_an_answer_without_end_is_not_read_to_the_end() {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
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

    /// An identity provider with this configuration of TLS, which hands out a token.
    struct Provider(Arc<ServerConfig>);

    impl Network for Provider {
        fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) })
        }

        fn dial<'a>(&'a self, _host: &'a str, _address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let acceptor = TlsAcceptor::from(Arc::clone(&self.0));
            tokio::spawn(async move {
                // A client that does not trust the certificate hangs up.
                if let Ok(mut stream) = acceptor.accept(theirs).await {
                    let answer = r#"{"access_token":"abc"}"#;
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
                    stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
                    stream.read_to_end(&mut Vec::new()).await.unwrap();
                }
            });
            Box::pin(async { Ok(Box::new(ours) as Box<dyn Stream>) })
        }
    }

    #[test]
    fn the_identity_provider_is_verified_even_if_brokers_are_not() {
        let certified = |name: &str| generate_simple_self_signed([name.to_owned()]).unwrap();
        let CertifiedKey { cert, signing_key } = certified("id.example");
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let network: Arc<dyn Network> = Arc::new(Provider(Arc::new(config)));
        let ask = |host: &str, trusted: String| {
            let source = TokenSource::ClientCredentials {
                endpoint_url: format!("https://{host}/token"),
                client_id: "id".into(),
                client_secret: Secret::new("secret"),
                scope: None,
            };
            let tls =
                TlsSettings { verify_certificate: false, verify_host_name: false, ..TlsSettings::with_ca_pem(trusted) };
            let settings = Settings::OAuthBearer(source);
            let sasl = Sasl::new(settings, Some(&tls), &network, Duration::from_secs(60)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(sasl.identity(false)).map(drop)
        };
        ask("id.example", cert.pem()).unwrap();
        for (host, trusted) in [("other.example", cert.pem()), ("id.example", certified("id.example").cert.pem())] {
            assert_eq!(ask(host, trusted).unwrap_err().kind(), ErrorKind::Authentication, "{host}");
        }
    }

    #[test]
    fn an_error_does_not_show_the_password_in_a_url() {
        let url = "https://alice:hunter2@id.example/token";
        let client = ("id", &Secret::new("secret"));
        let endpoint =
            Endpoint::new(Arc::new(Tcp::default()), TlsSettings::default(), Duration::from_secs(60), url, client, None);
        let error = endpoint.err().unwrap();
        assert!(error.kind() == ErrorKind::Config && !error.to_string().contains("hunter2"), "{error}");
    }
}
