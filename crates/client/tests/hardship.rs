//! The client in hard times: brokers that hang up, partitions without a leader, limits that must hold all the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kavka::{
    BoxFuture, Client, ClientConfig, ErrorCode, Network, NewTopic, Producer, ProducerConfig, ProducerTopic, Record,
    Stream, Tcp, WireEvent, WireTap, Written,
};
use kavka_broker::serve::{Broker, Options};
use kavka_broker::{ClusterConfig, Fault};
use kavka_core::wire::ApiKey;

const TOPIC: &str = "orders";
const WAIT: Option<Duration> = Some(Duration::from_secs(20));

/// TCP that counts how often it is asked to dial.
#[derive(Default)]
struct CountingTcp {
    tcp: Tcp,
    dials: AtomicUsize,
}

impl Network for CountingTcp {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, std::io::Result<Vec<SocketAddr>>> {
        self.tcp.resolve(host, port)
    }

    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, std::io::Result<Box<dyn Stream>>> {
        self.dials.fetch_add(1, Ordering::SeqCst);
        self.tcp.dial(address)
    }
}

fn cluster(brokers: i32, partitions: i32) -> Broker {
    let cluster = ClusterConfig { brokers: brokers.try_into().unwrap(), ..ClusterConfig::default() };
    let broker = Broker::start(Options { cluster, ports: Vec::new() }).unwrap();
    broker.with(|cluster, _| cluster.create_topic(TOPIC, partitions, 1)).unwrap();
    broker
}

fn config(broker: &Broker) -> ClientConfig {
    let bootstrap_servers = kavka::parse_bootstrap_servers(&broker.bootstrap_servers()).unwrap();
    ClientConfig { bootstrap_servers, ..ClientConfig::default() }
}

fn topic(client: &Client, producer: &Producer) -> kavka::Result<ProducerTopic> {
    let producer = producer.clone();
    client.start(async move { producer.topic(TOPIC, false).await }).wait(WAIT).expect("it ends in time")
}

fn to_partition(partition: i32) -> Record<'static> {
    Record { value: Some(b"v"), partition: Some(partition), ..Record::default() }
}

#[test]
fn a_broker_that_hangs_up_on_every_request_is_left_alone_for_longer_each_time() {
    let broker = cluster(1, 50);
    let network = Arc::new(CountingTcp::default());
    let client = Client::with_network(config(&broker), Arc::clone(&network) as Arc<dyn Network>, None).unwrap();
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let topic = topic(&client, &producer).unwrap();
    broker.inject(Fault::close().api(ApiKey::Produce).always());
    for partition in 0..50 {
        producer.try_enqueue(topic, &to_partition(partition)).unwrap();
    }
    std::thread::sleep(Duration::from_secs(2));
    let dials = network.dials.load(Ordering::SeqCst);
    assert!((2..=12).contains(&dials), "{dials} connections in two seconds");
    broker.with(|cluster, _| cluster.faults().clear());
    client.start(producer.flush()).wait(WAIT).expect("it goes on once the broker listens again");
}

#[test]
fn a_record_whose_answer_was_lost_by_a_panic_may_have_been_written() {
    let broker = cluster(1, 1);
    let panicked = AtomicBool::new(false);
    let tap: WireTap = Arc::new(move |event| {
        let answered = matches!(event, WireEvent::Received { key: ApiKey::Produce, .. });
        assert!(!answered || panicked.swap(true, Ordering::SeqCst), "the tap panics once, on purpose");
    });
    let client = Client::with_network(config(&broker), Arc::new(Tcp::default()), Some(tap)).unwrap();
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let topic = topic(&client, &producer).unwrap();
    let delivery = producer.try_enqueue(topic, &to_partition(0)).unwrap();
    let error = client.start(delivery).wait(WAIT).expect("it is reported").unwrap_err();
    assert_eq!(error.written(), Written::Maybe, "{error}");
    assert_eq!(broker.with(|cluster, _| cluster.offsets(TOPIC, 0)), Some((0, 1)), "it was");
}
