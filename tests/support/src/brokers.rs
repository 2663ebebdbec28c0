//! Clusters for a whole test suite: the embedded one, and two versions of real Kafka, which need Java and Maven.
//!
//! Each has two brokers, 1 and 2. It starts when it is first used, and lasts as long as the process. All tests share
//! it, so create your own topics, producers and groups, and leave the brokers running.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use kavka_broker::serve::{Broker, Options, Tls};
use kavka_broker::{ClusterConfig, KafkaVersion, Sasl};
use kavka_test_kafka::Kafka;

/// The user that listeners with SASL know, and its password.
pub const USER: (&str, &str) = ("alice", "alice-secret");

enum Kind {
    Embedded(Broker),
    Kafka(&'static Kafka),
}

/// Two brokers, 1 and 2.
pub struct Brokers {
    addresses: BTreeMap<i32, String>,
    /// Where broker 1 of the cluster, or of a similar one, wants SASL without TLS.
    sasl_address: String,
    /// The authority, in PEM, that has signed the brokers' certificates, if the addresses want TLS and SASL.
    authority: Option<String>,
    kind: Kind,
    _with_sasl: Option<Broker>,
}

/// The embedded cluster.
pub fn embedded() -> &'static Brokers {
    static BROKERS: OnceLock<Brokers> = OnceLock::new();
    BROKERS.get_or_init(|| {
        let broker = start(2);
        let addresses = numbered(&broker.bootstrap_servers());
        let cluster = ClusterConfig { sasl: Some(sasl()), ..ClusterConfig::default() };
        let with_sasl = Broker::start(Options { cluster, ..Options::default() }).unwrap();
        let sasl_address = with_sasl.bootstrap_servers();
        Brokers { addresses, sasl_address, authority: None, kind: Kind::Embedded(broker), _with_sasl: Some(with_sasl) }
    })
}

/// An embedded cluster that is the last Kafka 3.
pub fn embedded_3() -> &'static Brokers {
    static BROKERS: OnceLock<Brokers> = OnceLock::new();
    BROKERS.get_or_init(|| {
        let cluster = ClusterConfig { brokers: 2, kafka_version: KafkaVersion::V3_9, ..ClusterConfig::default() };
        let broker = Broker::start(Options { cluster, ..Options::default() }).unwrap();
        let addresses = numbered(&broker.bootstrap_servers());
        Brokers {
            addresses,
            sasl_address: String::new(),
            authority: None,
            kind: Kind::Embedded(broker),
            _with_sasl: None,
        }
    })
}

/// An embedded cluster that wants TLS, and SASL from [`USER`].
pub fn embedded_secure() -> &'static Brokers {
    static BROKERS: OnceLock<Brokers> = OnceLock::new();
    BROKERS.get_or_init(|| {
        let cluster = ClusterConfig { brokers: 2, sasl: Some(sasl()), ..ClusterConfig::default() };
        let broker = Broker::start(Options { cluster, tls: Some(Tls::default()), ..Options::default() }).unwrap();
        let addresses = numbered(&broker.bootstrap_servers());
        let authority = broker.certificates().map(|certificates| certificates.authority.clone());
        Brokers { addresses, sasl_address: String::new(), authority, kind: Kind::Embedded(broker), _with_sasl: None }
    })
}

fn sasl() -> Sasl {
    let (user, password) = USER;
    Sasl { passwords: BTreeMap::from([(user.to_owned(), password.to_owned())]), ..Sasl::default() }
}

/// The addresses of brokers 1, 2 and so on.
fn numbered(addresses: &str) -> BTreeMap<i32, String> {
    (1..).zip(addresses.split(',').map(Into::into)).collect()
}

/// An embedded cluster for a single test, on free ports.
pub fn start(brokers: u16) -> Broker {
    let cluster = ClusterConfig { brokers, ..ClusterConfig::default() };
    Broker::start(Options { cluster, ..Options::default() }).unwrap()
}

/// The newest Kafka.
pub fn kafka_latest() -> &'static Brokers {
    static BROKERS: OnceLock<Brokers> = OnceLock::new();
    BROKERS.get_or_init(|| plaintext(latest()))
}

/// The same cluster, where it wants TLS, and SASL from [`USER`].
pub fn kafka_latest_secure() -> &'static Brokers {
    static BROKERS: OnceLock<Brokers> = OnceLock::new();
    BROKERS.get_or_init(|| {
        let authority = std::fs::read_to_string(latest().security("ca")).unwrap();
        let addresses = numbered(latest().secure_listener("SASL_SSL"));
        Brokers { addresses, authority: Some(authority), ..plaintext(latest()) }
    })
}

fn latest() -> &'static Kafka {
    static KAFKA: OnceLock<Kafka> = OnceLock::new();
    KAFKA.get_or_init(|| start_kafka(kavka_test_kafka::LATEST))
}

/// The last Kafka 3, which still supports the versions that Kafka 4 has dropped.
pub fn kafka_latest_3() -> &'static Brokers {
    static BROKERS: OnceLock<Brokers> = OnceLock::new();
    static KAFKA: OnceLock<Kafka> = OnceLock::new();
    BROKERS.get_or_init(|| plaintext(KAFKA.get_or_init(|| start_kafka(kavka_test_kafka::LATEST_3))))
}

fn start_kafka(version: &str) -> Kafka {
    Kafka::start(&kavka_test_kafka::Options {
        version,
        brokers: 2,
        secure: true,
        ..kavka_test_kafka::Options::default()
    })
}

fn plaintext(kafka: &'static Kafka) -> Brokers {
    let sasl_address = kafka.secure_listener("SASL_PLAINTEXT").split(',').next().unwrap_or_default().to_owned();
    Brokers { addresses: kafka.brokers(), sasl_address, authority: None, kind: Kind::Kafka(kafka), _with_sasl: None }
}

impl Brokers {
    /// The address of each broker, by its id.
    pub fn addresses(&self) -> &BTreeMap<i32, String> {
        &self.addresses
    }

    /// The address of a broker that wants SASL, without TLS, from [`USER`].
    pub fn sasl_address(&self) -> &str {
        &self.sasl_address
    }

    /// The authority, in PEM, that has signed the brokers' certificates, if they want TLS and SASL.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// The addresses, as `bootstrap.servers` takes them.
    pub fn bootstrap_servers(&self) -> String {
        self.addresses.values().cloned().collect::<Vec<_>>().join(",")
    }

    /// Makes a broker the leader of partition 0 of a topic; it must have a replica.
    pub fn move_leader(&self, topic: &str, broker_id: i32) {
        match &self.kind {
            Kind::Embedded(broker) => {
                broker.with(|cluster, now| cluster.move_leader(now, topic, 0, broker_id)).unwrap();
            }
            Kind::Kafka(kafka) => kafka.move_leader(topic, 0, broker_id),
        }
    }
}

/// Makes each of these functions a test on the embedded cluster and, ignored unless asked for, on each version of
/// Kafka. They take a `&Cluster`, a type in the suite's module `cluster`, made by `Cluster::of` from the [`Brokers`].
#[macro_export]
#[allow(clippy::crate_in_macro_def, reason = "the suite's own module is meant")]
macro_rules! on_every_broker {
    ($($test:ident),+ $(,)?) => {
        mod embedded {
            $(#[test] fn $test() { super::$test(&crate::cluster::Cluster::of($crate::brokers::embedded())); })+
        }
        mod kafka_latest {
            $(
                #[test]
                #[ignore = "`make kafka-test` runs it"]
                fn $test() {
                    super::$test(&crate::cluster::Cluster::of($crate::brokers::kafka_latest()));
                }
            )+
        }
        mod kafka_latest_3 {
            $(
                #[test]
                #[ignore = "`make kafka-test` runs it"]
                fn $test() {
                    super::$test(&crate::cluster::Cluster::of($crate::brokers::kafka_latest_3()));
                }
            )+
        }
    };
}

/// As [`on_every_broker!`](crate::on_every_broker), and also over TLS and SASL: on an embedded cluster and, ignored
/// unless asked for, on the newest Kafka.
#[macro_export]
#[allow(clippy::crate_in_macro_def, reason = "the suite's own module is meant")]
macro_rules! on_every_listener {
    ($($test:ident),+ $(,)?) => {
        $crate::on_every_broker!($($test),+);
        mod embedded_secure {
            $(#[test] fn $test() { super::$test(&crate::cluster::Cluster::of($crate::brokers::embedded_secure())); })+
        }
        mod kafka_latest_secure {
            $(
                #[test]
                #[ignore = "`make kafka-test` runs it"]
                fn $test() {
                    super::$test(&crate::cluster::Cluster::of($crate::brokers::kafka_latest_secure()));
                }
            )+
        }
    };
}
