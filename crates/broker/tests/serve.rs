//! The cluster behind its listeners.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kavka_broker::ClusterConfig;
use kavka_broker::serve::{Broker, Certificates, Options, Tls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// `ApiVersions` v0, with its size.
const REQUEST: &[u8] = b"\0\0\0\x0a\0\x12\0\0\0\0\0\x07\xff\xff";

fn answers(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    stream.write_all(REQUEST).unwrap();
    let mut head = [0; 8];
    stream.read_exact(&mut head).is_ok() && head[4..] == [0, 0, 0, 7]
}

/// Waits for a condition: the listener notices a change when it runs next.
fn soon(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_stopped_broker_refuses_connections_until_it_is_started_on_the_same_port() {
    let cluster = ClusterConfig { brokers: 2, ..ClusterConfig::default() };
    let broker = Broker::start(Options { cluster, ..Options::default() }).unwrap();
    let servers = broker.bootstrap_servers();
    let (first, second) = servers.split_once(',').unwrap();
    let mut open = TcpStream::connect(first).unwrap();
    assert!(answers(first));
    broker.set_broker_down(1);
    assert_eq!(open.read(&mut [0]).unwrap_or(0), 0, "connections are closed");
    soon("the port still accepts", || {
        TcpStream::connect(first).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert!(answers(second));
    #[cfg(target_os = "linux")]
    {
        let stolen = tokio::net::TcpSocket::new_v4().unwrap();
        let error = stolen.bind(first.parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "nobody gets the port of a stopped broker");
    }
    broker.set_broker_up(1);
    soon("the port does not come back", || answers(first));
}

#[test]
fn a_broker_that_is_dropped_frees_its_ports() {
    let broker = Broker::start(Options::default()).unwrap();
    let address = broker.bootstrap_servers();
    assert!(answers(&address));
    drop(broker);
    assert!(!answers(&address));
}

#[test]
fn a_client_that_goes_away_is_forgotten() {
    let broker = Broker::start(Options::default()).unwrap();
    assert!(answers(&broker.bootstrap_servers()));
    soon("the connection is kept", || broker.with(|cluster, _| cluster.connections()) == 0);
}

/// Whether a broker answers a client that expects `host`, trusts this authority, and, if it `is_known`, shows its
/// certificate.
fn answers_with_tls(broker: &Broker, host: &'static str, trusted: &Certificates, is_known: bool) -> bool {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.authority.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = if is_known {
        let chain = vec![CertificateDer::from_pem_slice(trusted.client.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(trusted.client_key.as_bytes()).unwrap();
        builder.with_client_auth_cert(chain, key).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    let connection = ClientConnection::new(Arc::new(config), host.try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(broker.bootstrap_servers()).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    let mut head = [0; 8];
    stream.write_all(REQUEST).is_ok() && stream.read_exact(&mut head).is_ok() && head[4..] == [0, 0, 0, 7]
}

fn start_with_tls(client_certificates: bool) -> Broker {
    Broker::start(Options { tls: Some(Tls { client_certificates }), ..Options::default() }).unwrap()
}

#[test]
fn a_broker_with_tls_has_a_certificate_of_its_own_authority() {
    let (broker, other) = (start_with_tls(false), start_with_tls(false));
    let trusted = broker.certificates().unwrap();
    for host in ["127.0.0.1", "localhost", "::1"] {
        assert!(answers_with_tls(&broker, host, trusted, false), "{host}");
    }
    assert!(!answers_with_tls(&broker, "kafka.example", trusted, false));
    assert!(!answers_with_tls(&other, "localhost", trusted, false), "each has an authority of its own");
    assert!(!answers(&broker.bootstrap_servers()), "nothing is answered without TLS");
}

#[test]
fn a_broker_that_wants_client_certificates_takes_only_its_own() {
    let (broker, other) = (start_with_tls(true), start_with_tls(true));
    let trusted = broker.certificates().unwrap();
    assert!(answers_with_tls(&broker, "localhost", trusted, true));
    assert!(!answers_with_tls(&broker, "localhost", trusted, false));
    let foreign = other.certificates().unwrap().clone();
    let mixed = Certificates { authority: trusted.authority.clone(), ..foreign };
    assert!(!answers_with_tls(&broker, "localhost", &mixed, true));
}

#[test]
fn a_broker_shows_no_keys() {
    let broker = start_with_tls(true);
    assert!(!format!("{:?}", broker.certificates()).contains("PRIVATE KEY"));
    assert!(!format!("{broker:?}").contains("PRIVATE KEY"));
}
