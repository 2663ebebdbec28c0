//! Metadata that is wrong, while a producer is at work: the last good view stays, and so do sequence numbers.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use kavka::blocking::Producer;
use kavka::{
    BoxFuture, Client, ClientConfig, ErrorCode, Network, ProducerConfig, Record, RecordMetadata, Stream, Tcp, Written,
};
use kavka_core::wire::messages::metadata::{MetadataResponse, MetadataResponseBroker};
use kavka_core::wire::messages::{ProduceRequest, ProduceResponse};
use kavka_core::wire::{ApiKey, Message, Uuid};
use kavka_test_support::until;

use crate::server::{LIMIT, Reply, Request, Server, TOPIC, appended, metadata};

/// So many answers are wrong, after a first one that is right.
const WRONG_ANSWERS: usize = 4;

/// Where a batch stands in its producer's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
}

fn place(request: &Request) -> Place {
    let asked = ProduceRequest::decode_exact(request.header.version, request.body.clone()).unwrap();
    let records = asked.topic_data[0].partition_data[0].records.clone().unwrap().into_bytes();
    Place {
        producer_id: i64::from_be_bytes(records[43..51].try_into().unwrap()),
        producer_epoch: i16::from_be_bytes(records[51..53].try_into().unwrap()),
        base_sequence: i32::from_be_bytes(records[53..57].try_into().unwrap()),
    }
}

/// The system's network, which keeps the ports that it is asked for.
#[derive(Default)]
struct Ports {
    network: Tcp,
    dialled: Mutex<BTreeSet<u16>>,
}

impl Network for Ports {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.dialled.lock().unwrap().insert(port);
        self.network.resolve(host, port)
    }

    fn dial<'a>(&'a self, host: &'a str, address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        self.dialled.lock().unwrap().insert(address.port());
        self.network.dial(host, address)
    }
}

/// What became of two records. The broker answered metadata requests wrongly after the first one, and refused the
/// second one meanwhile as if it did not lead the partition, so that metadata was asked for.
struct Outcome {
    second: kavka::Result<RecordMetadata>,
    sent: Vec<Place>,
    ports: BTreeSet<u16>,
    own_port: u16,
}

fn survives(what: &str, spoil: impl Fn(&mut MetadataResponse) + Send + Sync + 'static) -> Outcome {
    let is_wrong = Arc::new(AtomicBool::new(false));
    let (answers, batches) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (wrong, counted, places) = (Arc::clone(&is_wrong), Arc::clone(&answers), Arc::clone(&batches));
    let own = Arc::new(Mutex::new(None));
    let address = Arc::clone(&own);
    let server = Server::scripted(move |request| match request.header.key {
        ApiKey::Metadata if wrong.load(Ordering::SeqCst) => {
            let mut told = metadata(address.lock().unwrap().expect("the address is known by now"));
            spoil(&mut told);
            if counted.fetch_add(1, Ordering::SeqCst) + 1 == WRONG_ANSWERS {
                wrong.store(false, Ordering::SeqCst);
            }
            Reply::message(request, &told)
        }
        ApiKey::Produce => {
            places.lock().unwrap().push(place(request));
            let mut response: ProduceResponse = appended(request);
            if wrong.load(Ordering::SeqCst) {
                response.responses[0].partition_responses[0].error_code = ErrorCode::NOT_LEADER_OR_FOLLOWER;
            }
            Reply::message(request, &response)
        }
        _ => Reply::Behave,
    });
    *own.lock().unwrap() = Some(server.address);
    let network = Arc::new(Ports::default());
    let config = ClientConfig::default();
    let bootstrap_servers = vec![(server.address.ip().to_string(), server.address.port())];
    let shared: Arc<dyn Network> = Arc::<Ports>::clone(&network);
    let client = Client::with_network(config.bootstrap_servers(bootstrap_servers), shared, None).unwrap();
    let producer = Producer::from(client.producer(ProducerConfig::default()).unwrap());
    let topic = producer.topic(TOPIC, false).unwrap();
    let record = Record { value: Some(b"value"), partition: Some(1), ..Record::default() };
    let send = || producer.send_within(topic, &record, LIMIT).unwrap();
    send().wait_for(LIMIT).expect("a report").unwrap_or_else(|error| panic!("{what}: {error}"));
    is_wrong.store(true, Ordering::SeqCst);
    let second = send();
    until(what, || {
        // The client asks by itself as long as it knows that its view is outdated; this is for a view it believes in.
        drop(client.start(client.refresh_metadata()));
        thread::yield_now();
        (!is_wrong.load(Ordering::SeqCst)).then_some(())
    });
    let second = second.wait_for(LIMIT).expect("a report");
    assert!(server.connections() < 20, "{what}: {} connections", server.connections());
    assert!(server.requests(ApiKey::Produce) < 30, "{what}: {} attempts", server.requests(ApiKey::Produce));
    let ports = network.dialled.lock().unwrap().clone();
    Outcome { second, sent: batches.lock().unwrap().clone(), ports, own_port: server.address.port() }
}

/// The record of the producer that was on its way is sent in its place until it is accepted.
fn keeps_the_order(what: &str, spoil: impl Fn(&mut MetadataResponse) + Send + Sync + 'static) -> Outcome {
    let outcome = survives(what, spoil);
    assert!(outcome.second.is_ok(), "{what}: {:?}", outcome.second);
    let place = |base_sequence| Place { producer_id: 7, producer_epoch: 0, base_sequence };
    assert_eq!(outcome.sent[0], place(0), "{what}");
    assert!(outcome.sent[1..].iter().all(|sent| *sent == place(1)), "{what}: {:?}", outcome.sent);
    outcome
}

/// As [`keeps_the_order`], and nobody but the broker is dialled.
fn keeps_the_view(what: &str, spoil: impl Fn(&mut MetadataResponse) + Send + Sync + 'static) {
    let outcome = keeps_the_order(what, spoil);
    assert_eq!(outcome.ports, BTreeSet::from([outcome.own_port]), "{what}");
}

#[test]
fn a_topic_that_is_gone_for_a_moment_keeps_its_producer_s_place() {
    keeps_the_view("topic unknown", |told| {
        told.topics[0].error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        told.topics[0].partitions.clear();
    });
    keeps_the_view("topic left out", |told| told.topics.clear());
}

#[test]
fn partitions_that_are_missing_for_a_moment_keep_their_producer_s_place() {
    keeps_the_view("no partitions", |told| told.topics[0].partitions.clear());
    keeps_the_view("fewer partitions", |told| told.topics[0].partitions.truncate(1));
    keeps_the_view("negative partition", |told| told.topics[0].partitions[1].partition_index = -1);
    keeps_the_view("partition twice", |told| told.topics[0].partitions[0].partition_index = 1);
}

#[test]
fn a_partition_without_a_leader_is_waited_for() {
    keeps_the_view("no leader", |told| {
        told.topics[0].partitions[1].leader_id = None;
        told.topics[0].partitions[1].error_code = ErrorCode::LEADER_NOT_AVAILABLE;
    });
    keeps_the_view("no leader and no error", |told| told.topics[0].partitions[1].leader_id = None);
    keeps_the_view("a leader that is no broker", |told| told.topics[0].partitions[1].leader_id = Some(-7));
}

#[test]
fn an_answer_without_brokers_leaves_the_known_ones() {
    keeps_the_view("no brokers", |told| told.brokers.clear());
    keeps_the_view("nothing at all", |told| *told = MetadataResponse::default());
}

#[test]
fn an_address_that_cannot_be_is_never_dialled() {
    for (host, port) in [("", 9092), ("127.0.0.1", 0), ("127.0.0.1", 70_000), ("127.0.0.1", -1)] {
        keeps_the_view(&format!("{host:?}:{port}"), move |told| {
            (told.brokers[0].host, told.brokers[0].port) = (host.into(), port);
        });
    }
}

#[test]
fn brokers_that_all_have_one_address_are_no_loop() {
    keeps_the_view("one address", |told| {
        let own = told.brokers[0].clone();
        told.brokers.extend((2..50).map(|node_id| MetadataResponseBroker { node_id, ..own.clone() }));
        told.topics[0].partitions[1].leader_id = Some(49);
    });
}

#[test]
fn a_record_that_may_be_in_a_deleted_topic_is_not_sent_to_another_one_of_the_name() {
    let outcome = survives("another id", |told| told.topics[0].topic_id = Uuid([9; 16]));
    // The record may be in the old topic: it is not sent to the new one.
    assert!(outcome.second.as_ref().is_err_and(|error| error.written() == Written::Maybe), "{:?}", outcome.second);
    let mut orders = outcome.sent.clone();
    orders.dedup();
    assert_eq!(orders[0].base_sequence, 0);
    assert!(orders[1..].iter().all(|sent| *sent != orders[0]), "{:?}", outcome.sent);
}
