//! Tokens: a client gets them from an identity provider over TLS, and shows them to a broker.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kavka::{BoxFuture, Client, ClientConfig, ErrorKind, Network, ProducerConfig, Record, StartPosition, Stream, Tcp};
use kavka_broker::serve::{Broker, Options, Tls as BrokerTls};
use kavka_broker::{ClusterConfig, Sasl as BrokerSasl};
use kavka_test_support::rig::{self, Rig, TOPIC, servers};
use kavka_test_support::{LIMIT, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use crate::certificates::{Authority, Issued};
use crate::files::file;
use crate::server::{Served, raw, refusal};
use crate::{listen_to_log, logged};

const ID: &str = "billing";
const SECRET: &str = "hunter2-canary";

/// An unsecured token for alice, which the embedded broker believes.
pub(crate) fn token(lasts: Duration) -> String {
    let expires_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + lasts;
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"sub":"alice","exp":{}}}"#, expires_at.as_secs_f64());
    format!("{}.{}.", part(r#"{"alg":"none"}"#.into()), part(claims))
}

/// A status and a body in JSON that hands out a token.
pub(crate) fn granted(lasts: Duration) -> (u16, String) {
    let seconds = lasts.as_secs();
    (200, format!(r#"{{"access_token":"{}","token_type":"Bearer","expires_in":{seconds}}}"#, token(lasts)))
}

/// The token endpoint of an identity provider, on localhost.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Endpoint {
    /// Shows this certificate. `answer` makes the status and the body from the number of the request, from 1.
    pub(crate) fn start(issued: &Issued, answer: impl Fn(usize) -> (u16, String) + Send + 'static) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(Served::new(issued).config()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("https://localhost:{}/oauth/token", listener.local_addr().unwrap().port());
        listener.set_nonblocking(true).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    // A client that does not trust the certificate hangs up.
                    let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                    let request = read_request(&mut stream).await;
                    let number = {
                        let mut noted = noted.lock().unwrap();
                        noted.push(request);
                        noted.len()
                    };
                    let (status, body) = answer(number);
                    // What it means to those that are not told to go there, nobody may ask.
                    let head = format!(
                        "HTTP/1.1 {status} Told\r\nLocation: https://elsewhere.test/token\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    stream.write_all((head + &body).as_bytes()).await.unwrap();
                    drop(stream.shutdown().await);
                }
            });
        });
        Self { url, asked }
    }

    /// The requests so far, as they came.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A request with a body of the length that it announces.
async fn read_request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8(request.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() == length.unwrap_or(0) {
                return text;
            }
        }
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request is whole: {text}");
    }
}

/// An embedded broker that wants TLS and a token.
fn broker() -> Broker {
    let cluster = ClusterConfig { sasl: Some(BrokerSasl::default()), ..ClusterConfig::default() };
    let broker = Broker::start(Options { cluster, tls: Some(BrokerTls::default()), ..Options::default() }).unwrap();
    broker.with(|cluster, _| cluster.create_topic(TOPIC, 1, 1)).unwrap();
    broker
}

/// A client that gets its tokens from an endpoint, by the settings of a properties file, and trusts this authority for
/// the endpoint.
fn rig(endpoint: &Endpoint, authority: &Authority) -> Rig {
    let broker = broker();
    let client = client(&broker, &endpoint.url, authority, Arc::new(Tcp::default())).unwrap();
    Rig { broker, client }
}

fn client(broker: &Broker, url: &str, authority: &Authority, network: Arc<dyn Network>) -> kavka::Result<Client> {
    let trusted = broker.certificates().unwrap().authority.clone();
    let protocol = [("security.protocol", "SASL_SSL"), ("ssl.truststore.certificates", trusted.as_str())];
    let config = config(&protocol, url, authority)?;
    Client::with_network(config.bootstrap_servers(servers(broker)), network, None)
}

/// The settings of a client that gets its tokens from `url`, with these others.
fn config(others: &[(&str, &str)], url: &str, authority: &Authority) -> kavka::Result<ClientConfig> {
    let authorities = file("idp.pem", authority.pem());
    let login = [
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.token.endpoint.url", url),
        ("sasl.oauthbearer.client.credentials.client.id", ID),
        ("sasl.oauthbearer.client.credentials.client.secret", SECRET),
        ("sasl.oauthbearer.scope", "kafka read"),
        ("sasl.oauthbearer.extensions", "logicalCluster=lkc-1,identityPoolId=pool-2"),
        ("https.ca.location", authorities.to_str().unwrap()),
    ];
    ClientConfig::from_properties([others, &login].concat())
}

/// Notes every host that is looked up or dialled.
#[derive(Default)]
struct Noting {
    tcp: Tcp,
    hosts: Mutex<BTreeSet<String>>,
}

impl Network for Noting {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.hosts.lock().unwrap().insert(format!("{host}:{port}"));
        self.tcp.resolve(host, port)
    }

    fn dial<'a>(&'a self, host: &'a str, address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        self.hosts.lock().unwrap().insert(format!("{host}:{}", address.port()));
        self.tcp.dial(host, address)
    }
}

fn reads(rig: &Rig, count: usize) {
    let consumer = rig.consumer(1, StartPosition::Earliest);
    for number in 0..count {
        let record = consumer.next_record(LIMIT).unwrap().expect("a record");
        assert_eq!(record.value.as_deref(), Some(number.to_string().as_bytes()));
    }
}

#[test]
fn a_token_of_an_identity_provider_lets_all_connections_in() {
    let authority = Authority::new("Provider CA");
    let endpoint = Endpoint::start(&authority.issue_for(&["localhost"]), |_| granted(Duration::from_secs(3600)));
    let rig = rig(&endpoint, &authority);
    rig.write(1, 0, 10);
    reads(&rig, 10);
    let asked = endpoint.asked();
    assert_eq!(asked.len(), 1, "one token is enough for all connections: {asked:?}");
    let (head, body) = asked[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /oauth/token HTTP/1.1\r\n"), "{head}");
    let basic = format!("authorization: basic {}", STANDARD.encode(format!("{ID}:{SECRET}")).to_lowercase());
    assert!(head.lines().any(|line| line.to_lowercase() == basic), "{head}");
    assert_eq!(body, "grant_type=client_credentials&scope=kafka%20read");
}

/// A way to a broker, on which everything is noted that clients send.
fn overheard(broker: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&heard);
    let address = raw(move |mut client| {
        let mut server = TcpStream::connect(broker).unwrap();
        let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut answers, &mut back));
        let mut buffer = [0; 4096];
        while let Ok(bytes @ 1..) = client.read(&mut buffer) {
            noted.lock().unwrap().extend_from_slice(&buffer[..bytes]);
            server.write_all(&buffer[..bytes]).unwrap();
        }
    });
    (address, heard)
}

#[test]
fn sasl_extensions_reach_the_broker_with_a_token_of_an_identity_provider() {
    let authority = Authority::new("Provider CA");
    let endpoint = Endpoint::start(&authority.issue_for(&["localhost"]), |_| granted(Duration::from_secs(3600)));
    let cluster = ClusterConfig { sasl: Some(BrokerSasl::default()), ..ClusterConfig::default() };
    let broker = Broker::start(Options { cluster, ..Options::default() }).unwrap();
    let (address, heard) = overheard(broker.bootstrap_servers().parse().unwrap());
    let config = config(&[("security.protocol", "SASL_PLAINTEXT")], &endpoint.url, &authority).unwrap();
    let servers = vec![(address.ip().to_string(), address.port())];
    let client = Client::new(config.bootstrap_servers(servers)).unwrap();
    rig::wait(&client, client.ready()).unwrap();
    let heard = String::from_utf8_lossy(&heard.lock().unwrap()).into_owned();
    let extensions = "\u{1}logicalCluster=lkc-1\u{1}identityPoolId=pool-2\u{1}\u{1}";
    assert!(heard.contains("n,,\u{1}auth=Bearer ") && heard.contains(extensions), "{heard:?}");
}

#[test]
fn an_identity_provider_that_is_out_of_order_is_asked_again() {
    let authority = Authority::new("Provider CA");
    let endpoint = Endpoint::start(&authority.issue_for(&["localhost"]), |number| match number {
        1 => (503, String::new()),
        _ => granted(Duration::from_secs(3600)),
    });
    let rig = rig(&endpoint, &authority);
    rig.write(1, 0, 1);
    reads(&rig, 1);
    assert_eq!(endpoint.asked().len(), 2);
}

#[test]
fn a_client_that_the_identity_provider_refuses_is_told_so_without_its_secret() {
    listen_to_log();
    let authority = Authority::new("Provider CA");
    let login = STANDARD.encode(format!("{ID}:{SECRET}"));
    let repeated = format!("no such client: {SECRET}, Basic {login}");
    let answer = format!(r#"{{"error":"invalid_client","error_description":"{repeated}"}}"#);
    let endpoint = Endpoint::start(&authority.issue_for(&["localhost"]), move |_| (401, answer.clone()));
    let error = refusal(&rig(&endpoint, &authority).client);
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    let text = format!("{error} {error:?}");
    assert!(text.contains("invalid_client: no such client: ***, Basic ***"), "{text}");
    assert_eq!(endpoint.asked().len(), 1, "the secret was sent");
    let log = logged();
    for secret in [SECRET, login.trim_end_matches('=')] {
        assert!(!text.contains(secret) && !log.contains(secret), "{secret} is shown");
    }
}

#[test]
fn an_identity_provider_that_is_not_trusted_is_sent_nothing() {
    let authority = Authority::new("Provider CA");
    for issued in [authority.issue_for(&["other.test"]), Authority::new("Other CA").issue_for(&["localhost"])] {
        let endpoint = Endpoint::start(&issued, |_| granted(Duration::from_secs(3600)));
        let error = refusal(&rig(&endpoint, &authority).client);
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
        let text = error.to_string();
        assert!(text.contains("the token endpoint's certificate") && !text.contains("the broker"), "{text}");
        assert_eq!(endpoint.asked(), Vec::<String>::new());
    }
}

#[test]
fn tokens_are_replaced_before_they_expire_and_no_record_is_lost() {
    let authority = Authority::new("Provider CA");
    let endpoint = Endpoint::start(&authority.issue_for(&["localhost"]), |_| granted(Duration::from_secs(8)));
    let rig = rig(&endpoint, &authority);
    let (producer, topic) = rig.producer(ProducerConfig::default());
    let mut sent = 0;
    until("three tokens", || {
        let value = sent.to_string();
        let record = Record { partition: Some(0), value: Some(value.as_bytes()), ..Record::default() };
        producer.send_within(topic, &record, LIMIT).unwrap().wait().unwrap();
        sent += 1;
        (endpoint.asked().len() >= 3).then_some(())
    });
    assert_eq!(rig.log(0).len(), sent);
    reads(&rig, sent);
}

#[test]
fn an_identity_provider_sends_the_client_to_no_other_host() {
    let authority = Authority::new("Provider CA");
    for status in [301, 302, 303, 307, 308] {
        let endpoint = Endpoint::start(&authority.issue_for(&["localhost"]), move |_| (status, String::new()));
        let (broker, network) = (broker(), Arc::new(Noting::default()));
        let client = client(&broker, &endpoint.url, &authority, Arc::clone(&network) as Arc<dyn Network>).unwrap();
        let error = refusal(&client);
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
        assert!(error.to_string().contains("redirect"), "{error}");
        let provider = endpoint.url.strip_prefix("https://").unwrap().strip_suffix("/oauth/token").unwrap().to_owned();
        assert_eq!(*network.hosts.lock().unwrap(), BTreeSet::from([provider]));
    }
}

#[test]
fn a_token_endpoint_that_is_a_file_or_has_no_tls_is_refused_before_anything_is_dialled() {
    let (authority, broker) = (Authority::new("Provider CA"), broker());
    for url in [
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data/",
        "${env:HOME}",
        "${file:/etc/passwd:root}",
        "ldap://elsewhere.test/",
        "jar:file:/a.jar!/b",
        "https://id.test@elsewhere.test/",
        "https://elsewhere.test\\@id.test/",
    ] {
        let network = Arc::new(Noting::default());
        let error = client(&broker, url, &authority, Arc::clone(&network) as Arc<dyn Network>).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}: {error}");
        assert_eq!(*network.hosts.lock().unwrap(), BTreeSet::new(), "{url}");
    }
}
