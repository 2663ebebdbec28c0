//! No secret, and nothing of a record, is in a log, an error or a `Debug` output, and no credentials are in a wire tap,
//! whatever the client does. Credentials go to nobody who has not proved who it is, unless the settings have no TLS.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use kavka::config::{Identity, Login, Sasl, ScramHash, Security, Tls, Token, TokenSource, Trust};
use kavka::{
    BoxFuture, Client, ClientConfig, ErrorKind, Header, Network, ProducerConfig, Record, StartPosition, Stream, Tcp,
    WireTap,
};
use kavka_broker::serve::{Broker, Options, Tls as BrokerTls};
use kavka_broker::{ClusterConfig, Sasl as BrokerSasl};
use kavka_core::secret::Secret;
use kavka_test_support::rig::{self, Rig, TOPIC, servers};
use kavka_test_support::{LIMIT, until};

use crate::certificates::Authority;
use crate::files::file;
use crate::server::{Served, Server, raw, refusal};
use crate::tokens::{Endpoint, granted, token};
use crate::{listen_to_log, logged, warned};

const PASSWORD: &str = "canary-of-a-password";
const WRONG: &str = "canary-of-a-wrong-password";
const KEY_PASSWORD: &str = "canary-of-a-key-password";
const CLIENT_SECRET: &str = "canary-of-a-client-secret";
const PAYLOAD: &str = "canary-of-a-payload";

/// So long that a token is replaced in time, which is when a fifth of it is left, even on a busy machine.
const TOKEN_LIFE: Duration = Duration::from_secs(8);

/// A broker that wants a client certificate and SASL, anew every two seconds.
fn broker() -> Broker {
    let passwords = [("alice".to_owned(), PASSWORD.to_owned())].into();
    let sasl = BrokerSasl { passwords, max_session: Some(Duration::from_secs(2)), ..BrokerSasl::default() };
    let cluster = ClusterConfig { sasl: Some(sasl), ..ClusterConfig::default() };
    let tls = Some(BrokerTls { client_certificates: true });
    let broker = Broker::start(Options { cluster, tls, ..Options::default() }).unwrap();
    broker.with(|cluster, _| cluster.create_topic(TOPIC, 1, 1)).unwrap();
    broker
}

/// What a client has shown to its program.
#[derive(Default)]
struct Shown {
    /// Debug outputs and errors.
    text: Mutex<String>,
    /// The frames that a wire tap was given.
    frames: Mutex<Vec<u8>>,
}

impl Shown {
    fn add(&self, text: &str) {
        self.text.lock().unwrap().push_str(text);
    }

    fn tap(self: &Arc<Self>) -> WireTap {
        let shown = Arc::clone(self);
        Arc::new(move |event| match event {
            kavka::WireEvent::Sent { frame, .. } => {
                shown.frames.lock().unwrap().extend(frame.iter().flatten());
            }
            kavka::WireEvent::Received { body, .. } => shown.frames.lock().unwrap().extend(body),
            _ => {}
        })
    }

    /// Checks that none of `secrets` is in anything, nor a payload in what is printed.
    fn lacks(&self, secrets: &[&str]) {
        let printed = format!("{}\n{}", self.text.lock().unwrap(), logged());
        assert!(!printed.contains(PAYLOAD), "a payload is printed");
        let frames = self.frames.lock().unwrap();
        assert!(!frames.is_empty(), "the tap was given frames");
        for secret in secrets {
            assert!(!printed.contains(secret), "{secret} is printed");
            assert!(!frames.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret} is in the tap");
        }
    }
}

/// A client of `broker` with a private key that has a password, and these credentials.
fn client(broker: &Broker, sasl: Sasl, shown: &Arc<Shown>) -> Client {
    let certificates = broker.certificates().unwrap();
    let identity = Identity::pem(&certificates.client, Secret::new(certificates.client_key.as_str()))
        .key_password(Secret::new(KEY_PASSWORD));
    let security = Security::tls(Tls::with_ca_pem(&certificates.authority).identity(identity)).sasl(sasl);
    let config = ClientConfig::default().with_security(security).bootstrap_servers(servers(broker));
    shown.add(&format!("{config:?} {:?}", config.security()));
    let client = Client::with_network(config, Arc::new(Tcp::default()), Some(shown.tap())).unwrap();
    shown.add(&format!("{client:?}"));
    client
}

/// Writes records whose every part is a canary, until `is_enough`, and reads one.
fn write_and_read(rig: &Rig, is_enough: impl Fn() -> bool) {
    let (producer, topic) = rig.producer(ProducerConfig::default());
    let headers = [Header { key: PAYLOAD.as_bytes(), value: Some(PAYLOAD.as_bytes()) }];
    let record = Record::new(PAYLOAD).key(PAYLOAD).headers(&headers).partition(0);
    until("enough records", || {
        producer.send_within(topic, &record, LIMIT).unwrap().wait().unwrap();
        is_enough().then_some(())
    });
    let read = rig.consumer(1, StartPosition::Earliest).next_record(LIMIT).unwrap().expect("a record");
    assert_eq!(read.value.as_deref(), Some(PAYLOAD.as_bytes()));
}

/// Credentials that count how often they are asked for.
type Credentials = fn(Arc<Mutex<usize>>) -> Sasl;

fn password(asked: Arc<Mutex<usize>>) -> Login {
    Login::from_fn(move || {
        *asked.lock().unwrap() += 1;
        Ok(("alice".into(), Secret::new(PASSWORD)))
    })
}

/// Each with how often it is asked when some connections must have authenticated again: more often than there are
/// connections, or than one token lasts. Nobody is asked for a file.
const MECHANISMS: &[(usize, Credentials)] = &[
    (6, |asked| Sasl::Plain(password(asked))),
    (6, |asked| Sasl::Scram(ScramHash::Sha256, password(asked))),
    (6, |asked| Sasl::Scram(ScramHash::Sha512, password(asked))),
    (2, |asked| {
        Sasl::OAuthBearer(TokenSource::from_fn(move || {
            *asked.lock().unwrap() += 1;
            Ok(Token::new(Secret::new(token(TOKEN_LIFE))))
        }))
    }),
    (0, |_| Sasl::OAuthBearer(TokenSource::File(file("token", token(Duration::from_secs(3600))).into()))),
    (2, |asked| {
        let authority = Authority::new("Provider CA");
        let endpoint = Endpoint::start(&authority.issue_for(&["localhost"]), move |_| {
            *asked.lock().unwrap() += 1;
            granted(TOKEN_LIFE)
        });
        Sasl::OAuthBearer(TokenSource::ClientCredentials {
            endpoint_url: endpoint.url.into(),
            client_id: "me".into(),
            client_secret: Secret::new(CLIENT_SECRET).into(),
            scope: None,
            extensions: Vec::new(),
            trust: Trust::Pem(authority.pem().to_owned()),
        })
    }),
];

#[test]
fn neither_log_nor_debug_output_nor_wire_tap_shows_credentials_that_are_used_again_and_again() {
    listen_to_log();
    for (enough, credentials) in MECHANISMS {
        let (shown, asked) = (Arc::new(Shown::default()), Arc::new(Mutex::new(0)));
        let broker = broker();
        let client = client(&broker, credentials(Arc::clone(&asked)), &shown);
        let rig = Rig { broker, client };
        write_and_read(&rig, || *asked.lock().unwrap() >= *enough);
        let key = rig.broker.certificates().unwrap().client_key.lines().nth(1).unwrap().to_owned();
        // All tokens of a test begin in the same way.
        let bearer = token(TOKEN_LIFE)[..40].to_owned();
        let basic = STANDARD_NO_PAD.encode(format!("me:{CLIENT_SECRET}"));
        shown.lacks(&[PASSWORD, KEY_PASSWORD, CLIENT_SECRET, &basic, &key, &bearer]);
    }
}

#[test]
fn errors_about_credentials_do_not_show_them() {
    listen_to_log();
    let wrong = || Login::new("alice", Secret::new(WRONG));
    let provider = TokenSource::ClientCredentials {
        endpoint_url: "https://127.0.0.1:1/token".into(),
        client_id: "me".into(),
        client_secret: Secret::new(CLIENT_SECRET).into(),
        scope: None,
        extensions: Vec::new(),
        trust: Trust::System,
    };
    let mechanisms = [
        Sasl::Plain(wrong()),
        Sasl::Scram(ScramHash::Sha256, wrong()),
        Sasl::Scram(ScramHash::Sha512, wrong()),
        Sasl::OAuthBearer(TokenSource::from_fn(|| Ok(Token::new(Secret::new(WRONG))))),
        Sasl::OAuthBearer(provider),
    ];
    let (shown, broker) = (Arc::new(Shown::default()), broker());
    for mechanism in mechanisms {
        let error = refusal(&client(&broker, mechanism, &shown));
        shown.add(&format!("{error} {error:?}"));
    }
    let rig = Rig { client: client(&broker, Sasl::Plain(Login::new("alice", Secret::new(PASSWORD))), &shown), broker };
    write_and_read(&rig, || true);
    shown.lacks(&[WRONG, CLIENT_SECRET, KEY_PASSWORD]);
}

#[test]
fn credentials_that_everybody_on_the_network_can_read_cause_a_warning_and_no_others_do() {
    listen_to_log();
    let login = || Login::new("alice", Secret::new(PASSWORD));
    let bearer = || Sasl::OAuthBearer(TokenSource::from_fn(|| Ok(Token::new(Secret::new(PASSWORD)))));
    let scram = || Sasl::Scram(ScramHash::Sha512, login());
    let gssapi = Sasl::Gssapi { service_name: "kafka".into() };
    let start = |security: Security| {
        let config = ClientConfig::default().with_security(security);
        Client::new(config.bootstrap_servers(vec![("127.0.0.1".into(), 1)])).unwrap()
    };
    for quiet in [Security::default().sasl(scram()), Security::default().sasl(gssapi)] {
        start(quiet);
    }
    for sasl in [Sasl::Plain(login()), bearer(), scram()] {
        start(Security::tls(Tls::default()).sasl(sasl));
    }
    let words = |mechanism| format!("SASL {mechanism} without TLS: everybody on the network can read the credentials");
    // Nothing else in this program uses SASL without TLS.
    assert!(!logged().contains("everybody on the network can read"), "{}", logged());
    for (sasl, mechanism) in [(Sasl::Plain(login()), "PLAIN"), (bearer(), "OAUTHBEARER")] {
        start(Security::default().sasl(sasl));
        warned(&words(mechanism)).unwrap_or_else(|| panic!("no warning for {mechanism}"));
    }
    assert!(logged().contains("set security.protocol to SASL_SSL"));
}

/// Leads kafka.test to one address, and every other name to another one.
struct Astray {
    home: SocketAddr,
    elsewhere: SocketAddr,
}

impl Network for Astray {
    fn resolve<'a>(&'a self, host: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(vec![if host == "kafka.test" { self.home } else { self.elsewhere }]) })
    }

    fn dial<'a>(&'a self, _: &'a str, address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move { Ok(Box::new(tokio::net::TcpStream::connect(address).await?) as Box<dyn Stream>) })
    }
}

/// The metadata of a broker that is taken over, or lies, may name any host.
#[test]
fn a_host_that_the_metadata_names_gets_no_credentials_before_it_has_proved_who_it_is() {
    let authority = Authority::new("Good CA");
    let cluster = ClusterConfig {
        sasl: Some(BrokerSasl {
            passwords: [("alice".to_owned(), PASSWORD.to_owned())].into(),
            ..BrokerSasl::default()
        }),
        ..ClusterConfig::default()
    };
    let broker = Broker::start(Options { cluster, ..Options::default() }).unwrap();
    let broker = broker.bootstrap_servers().parse().unwrap();
    let home = Server::start(Served::new(&authority.issue_for(&["kafka.test"])), broker);
    // It advertises 127.0.0.1. There, somebody listens without TLS, with a certificate of an unknown authority, or with
    // one for another host.
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keeps = Arc::clone(&heard);
    let plaintext = raw(move |mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
            keeps.lock().unwrap().extend_from_slice(&buffer[..bytes]);
            // What Kafka would answer to ApiVersions.
            drop(stream.write_all(&[0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        }
    });
    let unknown = Server::start(Served::new(&Authority::new("Other CA").issue_for(&["127.0.0.1"])), broker);
    let misnamed = Server::start(Served::new(&authority.issue_for(&["other.test"])), broker);
    for elsewhere in [plaintext, unknown.address, misnamed.address] {
        for sasl in [
            Sasl::Plain(Login::new("alice", Secret::new(PASSWORD))),
            Sasl::Scram(ScramHash::Sha256, Login::new("alice", Secret::new(PASSWORD))),
        ] {
            let security = Security::tls(Tls::with_ca_pem(authority.pem())).sasl(sasl);
            let config = ClientConfig::default().with_security(security);
            let config = config.bootstrap_servers(vec![("kafka.test".to_owned(), 9093)]);
            let network = Arc::new(Astray { home: home.address, elsewhere });
            let client = Client::with_network(config, network, None).unwrap();
            rig::wait(&client, client.ready()).unwrap();
            let admin = client.admin();
            let error = rig::wait(&client, async move { admin.group_offsets("billing").await }).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
            assert!(error.to_string().contains("127.0.0.1"), "{error}");
        }
    }
    assert_eq!(unknown.application_bytes() + misnamed.application_bytes(), 0);
    let heard = heard.lock().unwrap();
    assert!(heard.starts_with(&[0x16, 3]), "the beginning of a TLS handshake");
    for word in ["alice", PASSWORD, "PLAIN", "SCRAM"] {
        assert!(!heard.windows(word.len()).any(|part| part == word.as_bytes()), "{word} went out unencrypted");
    }
}

/// Reads its own memory as a debugger would.
#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_a_secret_is_overwritten_when_its_last_clone_is_dropped() {
    use std::os::unix::fs::FileExt as _;

    const BYTES: [u8; 4096] = [0xa5; 4096];
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let secret = Secret::new(BYTES);
    let address = secret.reveal().as_ptr().addr() as u64;
    let there = || {
        let mut there = BYTES.map(|_| 0);
        memory.read_exact_at(&mut there, address).unwrap();
        there
    };
    let clone = secret.clone();
    drop(secret);
    assert!(there() == BYTES, "the clone has it");
    drop(clone);
    // What is free has numbers of the allocator in it.
    let left = there().windows(8).filter(|part| *part == [0xa5; 8]).count();
    assert_eq!(left, 0);
}
