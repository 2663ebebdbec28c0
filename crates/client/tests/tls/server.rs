//! A TLS server in front of an embedded broker, and clients of it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use kavka::config::{Security, Tls};
use kavka::{BoxFuture, Client, ClientConfig, Error, Network, StartPosition, Stream};
use kavka_test_support::rig::{self, Rig};
use kavka_test_support::{LIMIT, until};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    DigitallySignedStruct, DistinguishedName, HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::LazyConfigAcceptor;

use crate::certificates::Issued;

pub(crate) const ALL_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];
pub(crate) const ONLY_TLS_1_2: &[&SupportedProtocolVersion] = &[&TLS12];

/// Whose client certificates a server accepts.
enum ClientAuthority {
    Pem(String),
    Any,
}

/// Accepts every client certificate; rustls reads fewer than brokers do.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What a TLS server shows and demands.
pub(crate) struct Served {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_authority: Option<ClientAuthority>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl Served {
    pub(crate) fn new(issued: &Issued) -> Self {
        Self { chain: issued.chain.clone(), key: issued.key_der(), client_authority: None, versions: ALL_VERSIONS }
    }

    /// Demands a client certificate of this authority.
    pub(crate) fn demands(self, authority: &str) -> Self {
        Self { client_authority: Some(ClientAuthority::Pem(authority.to_owned())), ..self }
    }

    /// Demands a client certificate, and accepts all that there are.
    pub(crate) fn demands_any(self) -> Self {
        Self { client_authority: Some(ClientAuthority::Any), ..self }
    }

    pub(crate) fn only(self, versions: &'static [&'static SupportedProtocolVersion]) -> Self {
        Self { versions, ..self }
    }

    pub(crate) fn config(self) -> ServerConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(self.versions).unwrap();
        let builder = match self.client_authority {
            None => builder.with_no_client_auth(),
            Some(ClientAuthority::Pem(authority)) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
                let roots = Arc::new(roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
            Some(ClientAuthority::Any) => builder.with_client_cert_verifier(Arc::new(AnyClient)),
        };
        // Unlike `with_single_cert`, this does not look at the certificate.
        let key = provider.key_provider.load_private_key(self.key).unwrap();
        builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(self.chain, key))))
    }
}

/// What a server has seen of one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The name that the client asked for (SNI).
    pub(crate) name: Option<String>,
    /// Whether the client named protocols to choose from (ALPN).
    pub(crate) names_protocols: bool,
    pub(crate) version: Option<ProtocolVersion>,
    pub(crate) handshake: Option<HandshakeKind>,
    /// The certificate that the client showed.
    pub(crate) client: Option<CertificateDer<'static>>,
    /// Why the handshake failed.
    pub(crate) failure: Option<String>,
    /// How much of Kafka's protocol the client has sent.
    pub(crate) application_bytes: usize,
}

/// A TLS server whose connections lead to an embedded broker.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// In front of `broker`.
    pub(crate) fn start(served: Served, broker: SocketAddr) -> Self {
        let config = Arc::new(served.config());
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let index = {
                        let mut seen = noted.lock().unwrap();
                        seen.push(Seen::default());
                        seen.len() - 1
                    };
                    let (config, noted) = (Arc::clone(&config), Arc::clone(&noted));
                    tokio::spawn(async move {
                        let note = |change: &dyn Fn(&mut Seen)| change(&mut noted.lock().unwrap()[index]);
                        if let Err(error) = serve(config, stream, broker, note).await {
                            note(&|seen| seen.failure = Some(error.to_string()));
                        }
                    });
                }
            });
        });
        Self { address, seen }
    }

    /// All connections so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// What the server says about the first handshake that failed, once it knows.
    pub(crate) fn failure(&self) -> String {
        until("the server's view of the handshake", || self.seen().into_iter().find_map(|seen| seen.failure))
    }

    /// How much of Kafka's protocol clients have sent.
    pub(crate) fn application_bytes(&self) -> usize {
        self.seen().iter().map(|seen| seen.application_bytes).sum()
    }
}

/// Performs the handshake, and connects the client with the broker.
async fn serve(
    config: Arc<ServerConfig>,
    stream: tokio::net::TcpStream,
    broker: SocketAddr,
    note: impl Fn(&dyn Fn(&mut Seen)),
) -> io::Result<()> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    note(&|seen| seen.names_protocols = hello.client_hello().alpn().is_some());
    let client = hello.into_stream(config).await?;
    let (_, session) = client.get_ref();
    note(&|seen| {
        seen.name = session.server_name().map(str::to_owned);
        seen.version = session.protocol_version();
        seen.handshake = session.handshake_kind();
        seen.client =
            session.peer_certificates().and_then(|chain| chain.first()).cloned().map(CertificateDer::into_owned);
    });
    let (mut client, mut answers) = tokio::io::split(client);
    let (mut from_broker, mut to_broker) = tokio::net::TcpStream::connect(broker).await?.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_broker, &mut answers).await });
    let mut buffer = vec![0; 64 << 10];
    loop {
        // How the client hangs up is not what these tests are about.
        let bytes = client.read(&mut buffer).await.unwrap_or(0);
        if bytes == 0 {
            back.abort();
            return Ok(());
        }
        note(&|seen| seen.application_bytes += bytes);
        to_broker.write_all(&buffer[..bytes]).await?;
    }
}

/// Leads every name to these addresses.
pub(crate) struct LeadsTo(pub(crate) Vec<SocketAddr>);

impl Network for LeadsTo {
    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Ok(self.0.clone()) })
    }

    fn dial<'a>(&'a self, _: &'a str, address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move { Ok(Box::new(tokio::net::TcpStream::connect(address).await?) as Box<dyn Stream>) })
    }
}

/// A cluster with TLS.
pub(crate) struct Cluster {
    pub(crate) rig: Rig,
    pub(crate) server: Server,
}

/// Settings with TLS.
pub(crate) fn with_tls(tls: Tls) -> ClientConfig {
    ClientConfig::default().with_security(Security::tls(tls))
}

/// The same with limits and pauses of an hour: who waits for any of them, or tries twice, has no answer within
/// [`LIMIT`].
pub(crate) fn patient(config: ClientConfig) -> ClientConfig {
    let hour = Duration::from_secs(3600);
    let config = config.connection_setup_timeout(hour).request_timeout(hour).max_block(hour);
    let config = config.retry_backoff(hour).retry_backoff_max(hour);
    config.reconnect_backoff(hour).reconnect_backoff_max(hour)
}

/// A client of `kafka.test`, which is at `address`.
pub(crate) fn client(address: SocketAddr, tls: Tls) -> Client {
    client_of("kafka.test", address, with_tls(tls))
}

/// The same with [`patient`] settings.
pub(crate) fn patient_client(address: SocketAddr, tls: Tls) -> Client {
    client_of("kafka.test", address, patient(with_tls(tls)))
}

/// A client of `host`, which is at `address`.
pub(crate) fn client_of(host: &str, address: SocketAddr, config: ClientConfig) -> Client {
    let config = config.bootstrap_servers(vec![(host.to_owned(), 9093)]);
    Client::with_network(config, Arc::new(LeadsTo(vec![address])), None).unwrap()
}

/// Why a client cannot connect.
pub(crate) fn refusal(client: &Client) -> Error {
    rig::wait(client, client.ready()).expect_err("this must be refused")
}

impl Cluster {
    /// A client of it is connected.
    pub(crate) fn new(served: Served, tls: Tls) -> Self {
        Self::with(served, |address| client(address, tls))
    }

    /// A client with [`patient`] settings, for which an answer that does not come at once does not come at all.
    pub(crate) fn patient(served: Served, tls: Tls) -> Self {
        Self::with(served, |address| patient_client(address, tls))
    }

    pub(crate) fn with(shown: Served, client: impl FnOnce(SocketAddr) -> Client) -> Self {
        let broker = rig::cluster(1, 1);
        let server = Server::start(shown, broker.bootstrap_servers().parse().unwrap());
        let client = client(server.address);
        Self { rig: Rig { broker, client }, server }
    }

    /// Writes a record and reads it back.
    pub(crate) fn works(&self) {
        self.rig.write(1, 0, 1);
        let consumer = self.rig.consumer(1, StartPosition::Earliest);
        let record = consumer.next_record(LIMIT).unwrap().expect("a record");
        assert_eq!(record.value.as_deref(), Some(&b"0"[..]));
    }

    /// Why the client and the server do not come together. The client has sent nothing of Kafka's protocol.
    pub(crate) fn refusal(&self) -> Error {
        let error = refusal(&self.rig.client);
        assert_eq!(self.server.application_bytes(), 0, "{error}");
        error
    }
}

/// What clients sent on each connection to a server that is not one for TLS, or a broken one.
pub(crate) struct Heard(Receiver<Vec<u8>>);

impl Heard {
    /// Checks that the next connection, once the client has hung up, had only messages of a handshake and alerts of
    /// TLS, beginning with a message.
    pub(crate) fn only_a_handshake(&self) {
        const HANDSHAKE: u8 = 22;
        const ALERT: u8 = 21;
        let heard = self.0.recv_timeout(LIMIT).expect("the client hangs up");
        assert_eq!(heard.first(), Some(&HANDSHAKE), "{heard:02x?}");
        let mut rest = &heard[..];
        while let [kind, 3, _, high, low, records @ ..] = rest {
            assert!([HANDSHAKE, ALERT].contains(kind), "a record of type {kind} in {heard:02x?}");
            rest = &records[usize::from(u16::from_be_bytes([*high, *low]))..];
        }
        assert!(rest.is_empty(), "something that is not TLS in {heard:02x?}");
    }
}

/// A server that answers the first bytes of each connection with these, and waits for the client to hang up.
pub(crate) fn answers(bytes: &'static [u8]) -> (SocketAddr, Heard) {
    let (tell, heard) = channel();
    let address = raw(move |mut stream: TcpStream| {
        let mut all = vec![0; 4096];
        let first = stream.read(&mut all).unwrap_or(0);
        all.truncate(first);
        stream.write_all(bytes).ok();
        stream.read_to_end(&mut all).ok();
        tell.send(all).ok();
    });
    (address, Heard(heard))
}

/// A server of single connections that is not one for TLS, or a broken one.
pub(crate) fn raw(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    address
}
