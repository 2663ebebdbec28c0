//! A stream with TLS.
//!
//! rustls decides and encrypts; this file has the buffers. A connection of rustls with buffers of its own reads 4 KiB
//! at a time, and needs more than twice the CPU time per byte that is read.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use kavka_core::error::Place;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zeroize::Zeroize as _;

use super::super::network::Stream;
use super::{asks_meanwhile, explain};

/// How much is read at once, at least.
const READ_BYTES: usize = 48 << 10;

/// With this much still to be written, nothing more is encrypted.
const MAX_OUTGOING_BYTES: usize = 64 << 10;

/// The most plaintext in a record.
const RECORD_BYTES: usize = 16 << 10;

/// More than a record adds to its plaintext.
const RECORD_OVERHEAD: usize = 64;

/// A segment at least this long gets records of its own; shorter ones are copied together into one.
const LONG_SEGMENT: usize = 4 << 10;

/// A peer that sends more than this without any plaintext is up to something: alerts, tickets, changes of keys and
/// empty records are tens of bytes each, and a handshake is tens of kilobytes.
const MAX_FRUITLESS_BYTES: usize = 1 << 20;

/// Bytes that wait for something.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn waiting(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.end - self.start
    }

    fn consume(&mut self, bytes: usize) {
        self.start = self.end.min(self.start + bytes);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room behind what waits, for at least `bytes` bytes.
    fn space(&mut self, bytes: usize) -> &mut [u8] {
        if self.bytes.len() - self.end < bytes {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
            let needed = self.bytes.len().max(self.end + bytes);
            self.bytes.resize(needed, 0);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Notes that so many bytes were put into [`space`](Self::space).
    fn fill(&mut self, bytes: usize) {
        self.end = self.bytes.len().min(self.end + bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(space) = self.space(bytes.len()).get_mut(..bytes.len()) {
            space.copy_from_slice(bytes);
        }
        self.fill(bytes.len());
    }
}

/// A stream with TLS.
///
/// What the broker says about our certificate may come only after the handshake (TLS 1.3). Such a read or write fails
/// with an [`io::Error`] around the [`Error`](kavka_core::error::Error) that explains it. After any failed write, what
/// the broker said before can still be read.
pub(super) struct Secured {
    stream: Box<dyn Stream>,
    session: UnbufferedClientConnection,
    /// Read, and not decrypted yet.
    incoming: Buffer,
    /// Decrypted, and not taken yet.
    decrypted: Buffer,
    /// Encrypted, and not written yet.
    outgoing: Buffer,
    /// Short segments, on the way to one record.
    staged: Vec<u8>,
    /// What ends the stream once everything that came before it was taken.
    failure: Option<io::Error>,
    /// How much was read since there was plaintext.
    fruitless_bytes: usize,
    is_closed: bool,
    has_read: bool,
    place: Place,
    pub(super) known: explain::Known,
}

impl Secured {
    pub(super) fn new(
        session: UnbufferedClientConnection,
        stream: Box<dyn Stream>,
        place: Place,
        known: explain::Known,
    ) -> Self {
        Self {
            stream,
            session,
            incoming: Buffer::default(),
            decrypted: Buffer::default(),
            outgoing: Buffer::default(),
            staged: Vec::with_capacity(RECORD_BYTES),
            failure: None,
            fruitless_bytes: 0,
            is_closed: false,
            has_read: false,
            place,
            known,
        }
    }

    /// What the peer said last that could not be used.
    pub(super) fn heard(&mut self) -> &[u8] {
        self.incoming.waiting()
    }

    /// Performs the handshake.
    pub(super) async fn shake_hands(&mut self) -> io::Result<()> {
        poll_fn(|context| {
            loop {
                if let Err(error) = self.advance(&mut ReadBuf::new(&mut []), &[]) {
                    // Tell the peer why, if it can be told at once.
                    let _ = self.poll_send(context);
                    return Poll::Ready(Err(error));
                }
                ready!(self.poll_send(context))?;
                ready!(Pin::new(&mut self.stream).poll_flush(context))?;
                if !self.session.is_handshaking() {
                    return Poll::Ready(Ok(()));
                }
                ready!(self.poll_fill(context))?;
                if self.is_closed {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        })
        .await
    }

    /// Works on what was read until there is plaintext or more must be read. Plaintext goes into `taken`; what has no
    /// room there is kept. If there are `segments`, encrypts as much of them as is good, and returns how much that was.
    fn advance(&mut self, taken: &mut ReadBuf<'_>, segments: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            let (status, asks) = asks_meanwhile(|| self.session.process_tls_records(self.incoming.waiting()));
            self.known.was_asked_for |= asks;
            let UnbufferedStatus { mut discard, state } = status;
            let mut done = None;
            let mut failure = None;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        if !record.payload.is_empty() {
                            self.fruitless_bytes = 0;
                        }
                        let room = taken.remaining().min(record.payload.len());
                        let (now, later) = record.payload.split_at(room);
                        taken.put_slice(now);
                        self.decrypted.put(later);
                    }
                    done = (segments.is_empty() && taken.capacity() > 0 && taken.remaining() == 0).then_some(0);
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, &mut self.outgoing)?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    done = Some(seal(&mut traffic, segments, &mut self.staged, &mut self.outgoing)?);
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.is_closed = true;
                    done = Some(0);
                }
                // The handshake needs more from the peer. (The other states are for servers.)
                Ok(_) => done = Some(0),
                Err(error) => failure = Some(error),
            }
            self.incoming.consume(discard);
            if let Some(error) = failure {
                self.prepare_alert()?;
                return Err(invalid(error));
            }
            if let Some(encrypted) = done {
                return Ok(encrypted);
            }
        }
    }

    /// After an error, the next thing that rustls wants to send is the alert that names it.
    fn prepare_alert(&mut self) -> io::Result<()> {
        let status = self.session.process_tls_records(self.incoming.waiting());
        match status.state {
            Ok(ConnectionState::EncodeTlsData(mut alert)) => encode(&mut alert, &mut self.outgoing),
            _ => Ok(()),
        }
    }

    /// Writes everything that is encrypted.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.outgoing.len() > 0 {
            match ready!(Pin::new(&mut self.stream).poll_write(context, self.outgoing.waiting()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.outgoing.consume(bytes),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = ReadBuf::new(self.incoming.space(READ_BYTES));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut space))?;
        let bytes = space.filled().len();
        self.incoming.fill(bytes);
        // Many brokers hang up without a farewell (`close_notify`). Nothing can be cut off unnoticed by that: every
        // frame of Kafka begins with its length.
        self.is_closed |= bytes == 0;
        self.fruitless_bytes += bytes;
        if self.fruitless_bytes > MAX_FRUITLESS_BYTES {
            return Poll::Ready(Err(explain::flood(&self.place)));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_plaintext(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let kept = self.decrypted.len().min(buffer.remaining());
            if kept > 0 {
                buffer.put_slice(self.decrypted.waiting().get(..kept).unwrap_or_default());
                self.decrypted.consume(kept);
                return Poll::Ready(Ok(()));
            }
            if let Some(failure) = self.failure.take() {
                return Poll::Ready(Err(failure));
            }
            let before = buffer.filled().len();
            self.failure = self.advance(buffer, &[]).err();
            // Perhaps rustls has to answer; if that fails, so does the next write.
            let _ = self.poll_send(context);
            if buffer.filled().len() > before || self.is_closed {
                return Poll::Ready(Ok(()));
            }
            if self.decrypted.len() == 0 && self.failure.is_none() {
                ready!(self.poll_fill(context))?;
            }
        }
    }

    fn explain(&self, cause: io::Error) -> io::Error {
        match explain::alert(&cause, self.known) {
            Some(error) if !self.has_read => io::Error::new(cause.kind(), error.at(self.place.clone())),
            _ => explain::broken(cause, self.known.peer),
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Takes what rustls has to send.
fn encode(data: &mut EncodeTlsData<'_, ClientConnectionData>, outgoing: &mut Buffer) -> io::Result<()> {
    let needed = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(EncodeError::AlreadyEncoded) | Ok(_) => return Ok(()),
    };
    let bytes = data.encode(outgoing.space(needed)).map_err(io::Error::other)?;
    outgoing.fill(bytes);
    Ok(())
}

/// Encrypts segments until enough waits to be written; returns how many of their bytes.
fn seal(
    traffic: &mut WriteTraffic<'_, ClientConnectionData>,
    segments: &[IoSlice<'_>],
    staged: &mut Vec<u8>,
    outgoing: &mut Buffer,
) -> io::Result<usize> {
    let mut sealed = 0;
    let mut encrypt = |plaintext: &[u8]| {
        if plaintext.is_empty() {
            return io::Result::Ok(());
        }
        let records = plaintext.len().div_ceil(RECORD_BYTES);
        let space = outgoing.space(plaintext.len() + records * RECORD_OVERHEAD);
        let bytes = traffic.encrypt(plaintext, space).map_err(|error: EncryptError| io::Error::other(error))?;
        outgoing.fill(bytes);
        sealed += plaintext.len();
        Ok(())
    };
    let mut room = MAX_OUTGOING_BYTES;
    for segment in segments {
        let part = segment.get(..segment.len().min(room)).unwrap_or_default();
        if part.len() >= LONG_SEGMENT || staged.len() + part.len() > RECORD_BYTES {
            encrypt(staged)?;
            wipe(staged);
        }
        if part.len() >= LONG_SEGMENT {
            encrypt(part)?;
        } else {
            staged.extend_from_slice(part);
        }
        room -= part.len();
        if room == 0 {
            break;
        }
    }
    encrypt(staged)?;
    wipe(staged);
    Ok(sealed)
}

/// Overwrites what was staged, which may be a password. Zeroizing the `Vec` would also overwrite its spare room, which
/// holds nothing: the buffer never grows beyond its first capacity, so it leaves no copy behind either.
fn wipe(staged: &mut Vec<u8>) {
    staged.as_mut_slice().zeroize();
    staged.clear();
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(self.poll_plaintext(context, buffer)).map_err(|cause| self.explain(cause));
        self.has_read |= !buffer.filled().is_empty();
        Poll::Ready(read)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    /// Takes what it encrypts, even if that cannot be written yet: [`poll_flush`](Self::poll_flush) writes the rest.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        segments: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(context))?;
        let sealed = match self.advance(&mut ReadBuf::new(&mut []), segments) {
            Ok(sealed) => sealed,
            Err(cause) => {
                // rustls says it once, and would then wait for more.
                self.failure = Some(explain::copy(&cause));
                return Poll::Ready(Err(self.explain(cause)));
            }
        };
        match self.poll_send(context) {
            Poll::Ready(Err(cause)) => Poll::Ready(Err(cause)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(sealed)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Peer;
    use kavka_core::config::Tls as Settings;
    use kavka_core::time::Instant;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::crypto::aws_lc_rs;
    use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
    use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{
        ConnectionTrafficSecrets, ContentType, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection,
        SupportedCipherSuite, SupportedProtocolVersion, version,
    };
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::server::TlsStream;

    use super::super::Tls;
    use super::*;

    const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

    /// Makes encrypted records of any kind, also of kinds that no server of rustls sends.
    struct Forge {
        version: ProtocolVersion,
        sequence: u64,
        encrypter: Box<dyn MessageEncrypter>,
    }

    impl Forge {
        /// Takes over the server's side.
        fn new(connection: ServerConnection) -> Self {
            let suite = connection.negotiated_cipher_suite().unwrap();
            let (sent, secrets) = connection.dangerous_extract_secrets().unwrap().tx;
            let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { panic!("not the first suite") };
            let (version, encrypter) = match suite {
                SupportedCipherSuite::Tls13(suite) => (ProtocolVersion::TLSv1_3, suite.aead_alg.encrypter(key, iv)),
                SupportedCipherSuite::Tls12(suite) => {
                    let (fixed, explicit) = iv.as_ref().split_at(4);
                    (ProtocolVersion::TLSv1_2, suite.aead_alg.encrypter(key, fixed, explicit))
                }
            };
            let mut forge = Self { version, sequence: 0, encrypter };
            // AWS-LC insists on numbers without gaps from the first on.
            for _ in 0..sent {
                forge.record(ContentType::ApplicationData, &[]);
            }
            forge
        }

        fn record(&mut self, typ: ContentType, payload: &[u8]) -> Vec<u8> {
            let payload = OutboundChunks::Single(payload);
            let message = OutboundPlainMessage { typ, version: self.version, payload };
            self.sequence += 1;
            self.encrypter.encrypt(message, self.sequence - 1).unwrap().encode()
        }
    }

    /// A handshake message of this kind.
    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        [&(u32::from(kind) << 24 | body.len() as u32).to_be_bytes()[..], body].concat()
    }

    /// A ticket with a lifetime of an hour, an age, a nonce, eight bytes, and no extensions.
    fn ticket() -> Vec<u8> {
        message(4, &[&[0, 0, 14, 16, 1, 2, 3, 4, 1, 9, 0, 8][..], &[7; 8], &[0, 0]].concat())
    }

    /// A client and a server, connected by pipes that hold this many bytes.
    async fn pair(pipe_bytes: usize, version: &'static SupportedProtocolVersion) -> (Secured, TlsStream<DuplexStream>) {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["kafka.test".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into();
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        config.enable_secret_extraction = true;
        let tls = Arc::new(Tls::new(Settings::with_ca_pem(cert.pem()), Peer::Broker).unwrap());
        let config = (Arc::new(config), tls.ready(Instant(0)).await.config);
        let (ours, theirs) = tokio::io::duplex(pipe_bytes);
        let name = ServerName::try_from("kafka.test").unwrap();
        let session = UnbufferedClientConnection::new(config.1, name).unwrap();
        let mut client = Secured::new(session, Box::new(ours), Place::default(), explain::Known::default());
        let (done, server) = tokio::join!(client.shake_hands(), TlsAcceptor::from(config.0).accept(theirs));
        done.unwrap();
        (client, server.unwrap())
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// Segments of many lengths, whose bytes all differ from their neighbours.
    fn segments() -> Vec<Vec<u8>> {
        let lengths = [1, 120, 4_095, 4_096, 0, 16_384, 16_385, 3, 70_000, 5, 1_000, 200_000, 15_000, 15_000, 32_768];
        let mut next = 0_u32;
        let mut byte = || {
            next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (next >> 24) as u8
        };
        lengths.iter().map(|length| (0..*length).map(|_| byte()).collect()).collect()
    }

    async fn write_all(stream: &mut (impl AsyncWrite + Unpin), segments: &[Vec<u8>]) {
        let mut written = 0;
        loop {
            let mut skip = written;
            let mut slices = Vec::new();
            for segment in segments {
                slices.push(IoSlice::new(&segment[skip.min(segment.len())..]));
                skip = skip.saturating_sub(segment.len());
            }
            if slices.iter().all(|slice| slice.is_empty()) {
                return stream.flush().await.unwrap();
            }
            written += poll_fn(|context| Pin::new(&mut *stream).poll_write_vectored(context, &slices)).await.unwrap();
        }
    }

    #[test]
    fn bytes_arrive_in_order_whatever_the_sizes_of_segments_reads_and_pipes_are() {
        for version in VERSIONS {
            for (pipe_bytes, read_bytes) in [(700, 1_000), (1 << 20, 300_000), (20_000, 7), (1 << 20, 1)] {
                block_on(async {
                    let (mut client, server) = pair(pipe_bytes, version).await;
                    let (mut heard, mut said) = tokio::io::split(server);
                    let echo = tokio::spawn(async move {
                        tokio::io::copy(&mut heard, &mut said).await.unwrap();
                        said.flush().await.unwrap();
                    });
                    let sent = segments();
                    let total: usize = sent.iter().map(Vec::len).sum();
                    let mut received = Vec::new();
                    let mut space = vec![0; read_bytes];
                    {
                        let (mut reader, mut writer) = tokio::io::split(&mut client);
                        let reading = async {
                            while received.len() < total {
                                let bytes = reader.read(&mut space).await.unwrap();
                                received.extend_from_slice(&space[..bytes]);
                            }
                        };
                        tokio::join!(write_all(&mut writer, &sent), reading);
                    }
                    assert_eq!(received, sent.concat(), "{version:?}, {pipe_bytes}, {read_bytes}");
                    echo.abort();
                });
            }
        }
    }

    #[test]
    fn that_one_broker_asked_for_a_certificate_is_not_said_of_another() {
        block_on(async {
            let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["kafka.test".to_owned()]).unwrap();
            let provider = Arc::new(aws_lc_rs::default_provider());
            let mut roots = RootCertStore::empty();
            roots.add(cert.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let asking = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
                .with_single_cert(
                    vec![cert.der().clone()],
                    PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into(),
                );
            let tls = Arc::new(Tls::new(Settings::with_ca_pem(cert.pem()), Peer::Broker).unwrap());
            let (ready, place) = (tls.ready(Instant(0)).await, Place::default());
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            let asked = TlsAcceptor::from(Arc::new(asking.unwrap())).accept(theirs);
            let (done, served) = tokio::join!(ready.shake_hands("kafka.test", Box::new(ours), &place), asked);
            assert!(done.is_ok() && served.is_ok(), "it may go without one");
            let (ours, mut theirs) = tokio::io::duplex(64 << 10);
            let fatal = async {
                theirs.read_u8().await.unwrap();
                // A record with the alert handshake_failure.
                theirs.write_all(&[21, 3, 3, 0, 2, 2, 40]).await.unwrap();
            };
            let (done, ()) = tokio::join!(ready.shake_hands("kafka.test", Box::new(ours), &place), fatal);
            let error = done.err().unwrap().to_string();
            assert!(error.contains("the broker refused the TLS handshake (TLS alert HandshakeFailure)"), "{error}");
        });
    }

    #[test]
    fn a_peer_may_change_its_keys() {
        block_on(async {
            let (mut client, mut server) = pair(1 << 20, &version::TLS13).await;
            for round in 0..3_u8 {
                server.get_mut().1.refresh_traffic_keys().unwrap();
                let said = vec![round; 100_000];
                server.write_all(&said).await.unwrap();
                server.flush().await.unwrap();
                let mut heard = vec![0; said.len()];
                client.read_exact(&mut heard).await.unwrap();
                assert_eq!(heard, said);
                write_all(&mut client, &[vec![round; 10]]).await;
                let mut received = [0; 10];
                server.read_exact(&mut received).await.unwrap();
                assert_eq!(received, [round; 10]);
            }
        });
    }

    #[test]
    fn a_peer_that_hangs_up_with_or_without_a_farewell_ends_the_stream() {
        for says_farewell in [true, false] {
            for version in VERSIONS {
                block_on(async {
                    let (mut client, mut server) = pair(1 << 20, version).await;
                    server.write_all(b"last words").await.unwrap();
                    server.flush().await.unwrap();
                    if says_farewell {
                        server.shutdown().await.unwrap();
                    }
                    drop(server);
                    let mut heard = Vec::new();
                    client.read_to_end(&mut heard).await.unwrap();
                    assert_eq!(heard, b"last words");
                });
            }
        }
    }

    #[test]
    fn what_a_peer_said_before_it_ended_the_connection_is_read_after_a_failed_write() {
        for version in VERSIONS {
            block_on(async {
                let (mut client, mut server) = pair(1 << 20, version).await;
                for words in [b"first", b"later"] {
                    server.write_all(words).await.unwrap();
                    server.flush().await.unwrap();
                }
                let (mut raw, connection) = server.into_inner();
                let fatal = Forge::new(connection).record(ContentType::Alert, &[2, 80]);
                raw.write_all(&fatal).await.unwrap();
                let mut heard = [0; 5];
                client.read_exact(&mut heard).await.unwrap();
                assert_eq!(&heard, b"first");
                client.write_all(b"request").await.unwrap_err();
                client.read_exact(&mut heard).await.unwrap();
                assert_eq!(&heard, b"later");
                let end = client.read(&mut heard).await.unwrap_err();
                assert!(end.to_string().contains("InternalError"), "{end}");
            });
        }
    }

    #[test]
    fn a_record_that_was_changed_on_its_way_is_an_error() {
        block_on(async {
            let (mut client, server) = pair(1 << 20, &version::TLS13).await;
            let (mut raw, _) = server.into_inner();
            let forged = [&[0x17, 3, 3, 0, 40][..], &[7; 40]].concat();
            raw.write_all(&forged).await.unwrap();
            assert!(client.read(&mut [0; 10]).await.is_err());
        });
    }
    /// RUSTSEC-2024-0336 and the like: whatever the records are, somebody who sends nothing else must not keep the
    /// client busy, nor make it keep more and more.
    #[test]
    fn a_peer_that_floods_the_connection_with_records_that_mean_nothing_is_given_up() {
        let (alert, handshake, ticket) = (ContentType::Alert, ContentType::Handshake, ticket());
        let asks_for_new_keys = message(24, &[1]);
        let asks_to_negotiate_again = message(0, &[]);
        let (farewell, warning): (&[u8], &[u8]) = (&[1, 0], &[1, 100]);
        for (version, typ, payload) in [
            (VERSIONS[0], alert, farewell),
            (VERSIONS[1], alert, farewell),
            (VERSIONS[0], alert, warning),
            (VERSIONS[1], alert, warning),
            (VERSIONS[0], handshake, &asks_to_negotiate_again),
            (VERSIONS[1], handshake, &asks_for_new_keys),
            (VERSIONS[1], handshake, &ticket),
            (VERSIONS[0], ContentType::ApplicationData, &[]),
            (VERSIONS[1], ContentType::ApplicationData, &[]),
        ] {
            block_on(async {
                let (mut client, mut server) = pair(64 << 10, version).await;
                server.write_all(b"first words").await.unwrap();
                server.flush().await.unwrap();
                let (mut raw, connection) = server.into_inner();
                let mut forge = Forge::new(connection);
                let flood = async {
                    let mut sent = 0;
                    while sent < 8 * MAX_FRUITLESS_BYTES {
                        let record = forge.record(typ, payload);
                        if raw.write_all(&record).await.is_err() {
                            break;
                        }
                        sent += record.len();
                    }
                    sent
                };
                let reading = async {
                    let mut heard = Vec::new();
                    let end = client.read_to_end(&mut heard).await;
                    assert_eq!(heard, b"first words");
                    let kept = client.incoming.bytes.len() + client.decrypted.bytes.len() + client.outgoing.bytes.len();
                    drop(client);
                    (end.map(drop).map_err(|error| error.to_string()), kept)
                };
                let (sent, (end, kept)) = tokio::join!(flood, reading);
                assert!(sent < 2 * MAX_FRUITLESS_BYTES, "{version:?} {typ:?} {payload:x?}: {sent} bytes: {end:?}");
                assert!(kept < 256 << 10, "{version:?} {typ:?} {payload:x?}: {kept} bytes are kept");
                if payload == ticket {
                    assert!(end.unwrap_err().starts_with("the peer floods the connection with TLS records"));
                }
            });
        }
    }

    #[test]
    fn many_tickets_are_no_flood_if_something_comes_in_between() {
        block_on(async {
            let (mut client, mut server) = pair(64 << 10, &version::TLS13).await;
            server.flush().await.unwrap();
            let (mut raw, connection) = server.into_inner();
            let mut forge = Forge::new(connection);
            let says = async {
                let ticket = ticket();
                for _ in 0..3 {
                    for _ in 0..MAX_FRUITLESS_BYTES / 2 / ticket.len() / 2 {
                        raw.write_all(&forge.record(ContentType::Handshake, &ticket)).await.unwrap();
                    }
                    raw.write_all(&forge.record(ContentType::ApplicationData, b"word")).await.unwrap();
                }
                drop(raw);
            };
            let reading = async {
                let mut heard = Vec::new();
                client.read_to_end(&mut heard).await.unwrap();
                assert_eq!(heard, b"word".repeat(3));
            };
            tokio::join!(reading, says);
        });
    }
}
