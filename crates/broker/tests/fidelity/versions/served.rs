//! Brokers of one version: the embedded one, and real ones that end with their last test.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kavka_broker::serve::{Broker, Options};
use kavka_broker::{ClusterConfig, KafkaVersion};

use kavka_core::wire::messages::ListOffsetsRequest;
use kavka_core::wire::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use kavka_core::wire::{ApiKey, ErrorCode};
use kavka_test_support::until;

use crate::connection::Connection;

/// The topic of all tests, in which each takes partitions of its own.
pub(crate) const TOPIC: &str = "versions";
const PARTITIONS: i32 = 100;

/// A cluster of one broker.
pub(crate) struct Served {
    pub(crate) version: KafkaVersion,
    address: String,
    taken: AtomicI32,
    _running: Running,
}

enum Running {
    Embedded { _broker: Broker },
    Kafka { _kafka: kavka_test_kafka::Kafka },
}

/// The embedded broker as this version.
pub(crate) fn embedded(version: KafkaVersion) -> Served {
    let cluster = ClusterConfig { kafka_version: version, ..ClusterConfig::default() };
    let broker = Broker::start(Options { cluster, ..Options::default() }).unwrap();
    broker.with(|cluster, _| cluster.create_topic(TOPIC, PARTITIONS, 1)).unwrap();
    let address = broker.bootstrap_servers();
    Served { version, address, taken: AtomicI32::new(0), _running: Running::Embedded { _broker: broker } }
}

/// A real Kafka that is started by the first of its tests and stopped by the last: ten of them at a time would need
/// more memory than a test may take.
pub(crate) struct Shared {
    release: &'static str,
    /// How many tests are left, and the cluster if it runs.
    state: Mutex<(usize, Option<Arc<Served>>)>,
}
impl Shared {
    pub(crate) const fn new(release: &'static str, tests: usize) -> Self {
        Self { release, state: Mutex::new((tests, None)) }
    }

    pub(crate) fn lend(&self, version: KafkaVersion, test: fn(&Served)) {
        let lock = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let served = lock().1.get_or_insert_with(|| Arc::new(kafka(version, self.release))).clone();
        test(&served);
        let mut state = lock();
        state.0 -= 1;
        if state.0 == 0 {
            state.1 = None;
        }
    }
}
fn kafka(version: KafkaVersion, release: &str) -> Served {
    let options = kavka_test_kafka::Options { version: release, ..kavka_test_kafka::Options::default() };
    let kafka = kavka_test_kafka::Kafka::start(&options);
    kafka.create_topic(TOPIC, PARTITIONS.cast_unsigned(), 1, &[]);
    let address = kafka.bootstrap().to_owned();
    Served { version, address, taken: AtomicI32::new(0), _running: Running::Kafka { _kafka: kafka } }
}

impl Served {
    pub(crate) fn connect(&self) -> Connection {
        Connection::unasked(&self.address)
    }

    /// A partition that no other test uses, once its leader serves it.
    pub(crate) fn partition(&self) -> i32 {
        let partition = self.taken.fetch_add(1, Ordering::Relaxed);
        assert!(partition < PARTITIONS, "the topic has too few partitions for all tests");
        let asked =
            ListOffsetsPartition { partition_index: partition, timestamp: -1, ..ListOffsetsPartition::default() };
        let topics = vec![ListOffsetsTopic { name: TOPIC.into(), partitions: vec![asked] }];
        let request = ListOffsetsRequest { topics, ..ListOffsetsRequest::default() };
        let version = self.version.versions(ApiKey::ListOffsets).map_or(0, |(_, last)| last.min(1));
        until("the leader to serve", || {
            let answer = self.connect().call_version(version, &request);
            (answer.topics[0].partitions[0].error_code == ErrorCode::NONE).then_some(())
        });
        partition
    }
}
