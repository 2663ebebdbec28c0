//! The client under stress: brokers that hang up, partitions without a leader, and time limits that must hold anyway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kavka::blocking::Pending;
use kavka::{
    BoxFuture, Call, Client, ClientConfig, ErrorCode, ErrorKind, Network, NewTopic, Phase, Producer, ProducerConfig,
    Record, Stream, Target, Tcp, WireEvent, WireTap, Written,
};
use kavka_broker::serve::{Broker, Options};
use kavka_broker::{ClusterConfig, Fault};
use kavka_core::wire::ApiKey;
use kavka_core::wire::messages::{MetadataRequest, MetadataResponse};
use kavka_test_support::rig::{TOPIC, cluster, find_topic, servers};
use kavka_test_support::{LIMIT, until};

const WAIT: Option<Duration> = Some(LIMIT);

/// A port that nobody listens on: it is reserved.
const NOBODY: u16 = 1;

/// TCP that counts dials.
#[derive(Default)]
struct CountingTcp {
    tcp: Tcp,
    dials: AtomicUsize,
}

impl Network for CountingTcp {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, std::io::Result<Vec<SocketAddr>>> {
        self.tcp.resolve(host, port)
    }

    fn dial<'a>(&'a self, host: &'a str, address: SocketAddr) -> BoxFuture<'a, std::io::Result<Box<dyn Stream>>> {
        self.dials.fetch_add(1, Ordering::SeqCst);
        self.tcp.dial(host, address)
    }
}

fn config(broker: &Broker) -> ClientConfig {
    ClientConfig::default().bootstrap_servers(servers(broker))
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
    let topic = find_topic(&client, &producer, TOPIC, false).unwrap();
    broker.inject(Fault::close().api(ApiKey::Produce).always());
    for partition in 0..50 {
        producer.try_send(topic, &to_partition(partition)).unwrap();
    }
    let begun = Instant::now();
    until("six connections", || (network.dials.load(Ordering::SeqCst) >= 6).then_some(()));
    assert!(begun.elapsed() > Duration::from_millis(800), "six connections in {:?}", begun.elapsed());
    broker.with(|cluster, _| cluster.faults().clear());
    client.start(producer.flush()).wait(WAIT).expect("it goes on once the broker listens again");
}

#[test]
fn one_partition_without_a_leader_does_not_keep_records_from_the_others() {
    let broker = cluster(2, 2);
    let led_by = |id: i32| (0..2).find(|p| broker.with(|c, _| c.leader(TOPIC, *p)).is_some_and(|(l, _)| l == id));
    let led = led_by(1).unwrap();
    broker.set_broker_down(2);
    let mut config = config(&broker);
    config.max_block = Duration::from_secs(10);
    let client = Client::new(config).unwrap();
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let topic = find_topic(&client, &producer, TOPIC, false).unwrap();
    assert_eq!(producer.partition_count(topic), 2);
    let record = Record { value: Some(b"v"), ..Record::default() };
    let delivery = producer.try_send(topic, &record).unwrap();
    let stored = client.start(delivery).wait(WAIT).unwrap().unwrap();
    assert_eq!(stored.partition, led);
}

#[test]
fn a_partition_without_a_leader_asks_for_its_own_topic_and_not_for_all_others() {
    let broker = cluster(2, 2);
    let others: Vec<_> = (0..300).map(|number| format!("other-{number}")).collect();
    for name in &others {
        broker.with(|cluster, _| cluster.create_topic(name, 1, 1)).unwrap();
    }
    broker.set_broker_down(2);
    let (asked, asks) = std::sync::mpsc::channel();
    let tap: WireTap = Arc::new(move |event| {
        if let WireEvent::Sent { key: ApiKey::Metadata, frame, .. } = event {
            asked.send(frame.iter().map(bytes::Bytes::len).sum::<usize>()).unwrap();
        }
    });
    let client = Client::with_network(config(&broker), Arc::new(Tcp::default()), Some(tap)).unwrap();
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let topic = find_topic(&client, &producer, TOPIC, false).unwrap();
    for name in &others {
        find_topic(&client, &producer, name, false).unwrap();
    }
    asks.try_iter().for_each(drop);
    for partition in 0..2 {
        producer.try_send(topic, &to_partition(partition)).unwrap();
    }
    let frames: Vec<_> = (0..5).map(|_| asks.recv_timeout(LIMIT).unwrap()).collect();
    assert!(frames.iter().all(|bytes| *bytes < 200), "bytes of each request: {frames:?}");
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
    let topic = find_topic(&client, &producer, TOPIC, false).unwrap();
    let delivery = producer.try_send(topic, &to_partition(0)).unwrap();
    let error = client.start(delivery).wait(WAIT).expect("it is reported").unwrap_err();
    assert_eq!(error.written(), Written::Maybe, "{error}");
    assert_eq!(broker.with(|cluster, _| cluster.offsets(TOPIC, 0)), Some((0, 1)), "it was");
}

#[test]
fn asking_in_vain_for_a_topic_that_is_in_use_does_not_end_its_use() {
    let broker = cluster(2, 1);
    let client = Client::new(config(&broker)).unwrap();
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let topic = find_topic(&client, &producer, TOPIC, false).unwrap();
    broker.inject(Fault::fail(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).api(ApiKey::Metadata).always());
    // By refreshing the topics it uses, the client learns that this one is gone; until then it would not ask.
    let refreshing = client.clone();
    client.start(async move { refreshing.refresh_metadata().await }).wait(WAIT).unwrap().unwrap();
    let asking = client.clone();
    let asked = client.start(async move { asking.topic(TOPIC, false).await }).wait(WAIT).unwrap();
    assert_eq!(asked.unwrap_err().code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    broker.with(|cluster, now| {
        cluster.faults().clear();
        let (leader, _) = cluster.leader(TOPIC, 0).unwrap();
        cluster.move_leader(now, TOPIC, 0, 3 - leader).unwrap();
    });
    let delivery = producer.try_send(topic, &to_partition(0)).unwrap();
    let stored = client.start(delivery).wait(WAIT).expect("the new leader is found").unwrap();
    assert_eq!(stored.offset, Some(0));
}

#[test]
fn a_topic_that_the_brokers_do_not_create_is_given_up_after_a_few_requests() {
    let cluster = ClusterConfig { auto_create_topics: false, ..ClusterConfig::default() };
    let broker = Broker::start(Options { cluster, ..Options::default() }).unwrap();
    let (client, requests) = counted(&broker, Arc::default(), ApiKey::Metadata);
    let asking = client.clone();
    let found = client.start(async move { asking.topic("missing", true).await }).wait(WAIT).unwrap();
    let error = found.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
    assert!(error.to_string().contains("auto.create.topics.enable"), "{error}");
    let requests = requests.load(Ordering::SeqCst);
    assert!(requests < 20, "{requests} requests for metadata");
}

#[test]
fn making_a_topic_takes_no_longer_than_max_block_and_says_why_it_failed() {
    // A refusal has to arrive within the limit.
    let silence = (Fault::silence(), Duration::from_secs(1), "max.block.ms");
    let refusal = (Fault::fail(ErrorCode::NOT_CONTROLLER), Duration::from_secs(3), "NOT_CONTROLLER");
    for (fault, max_block, why) in [silence, refusal] {
        let broker = cluster(1, 1);
        broker.inject(fault.api(ApiKey::CreateTopics).always());
        let client = Client::new(config(&broker).max_block(max_block)).unwrap();
        let topic = NewTopic { name: "new".into(), ..NewTopic::default() };
        let made = client.start(client.admin().create_topic(&topic)).wait(WAIT);
        let error = made.expect("it ends in time").unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn a_wait_for_a_topic_that_runs_out_says_what_stood_in_the_way() {
    let bootstrap_servers = vec![("127.0.0.1".to_owned(), NOBODY)];
    let config = ClientConfig::default().bootstrap_servers(bootstrap_servers).max_block(Duration::from_secs(2));
    let client = Client::new(config).unwrap();
    let asking = client.clone();
    let error = client.start(async move { asking.topic(TOPIC, false).await }).wait(WAIT).unwrap().unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn a_broker_that_keeps_silent_about_a_producer_id_is_passed_over() {
    let broker = cluster(3, 1);
    let client = Client::new(config(&broker)).unwrap();
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let topic = find_topic(&client, &producer, TOPIC, false).unwrap();
    broker.inject(Fault::silence().api(ApiKey::InitProducerId));
    let delivery = producer.try_send(topic, &to_partition(0)).unwrap();
    let stored = client.start(delivery).wait(WAIT).expect("another broker gives one sooner").unwrap();
    assert_eq!(stored.offset, Some(0));
}

#[test]
fn what_waits_for_a_time_works_on_any_executor() {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut future = std::pin::pin!(future);
        loop {
            match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
                std::task::Poll::Ready(result) => return result,
                std::task::Poll::Pending => std::thread::park(),
            }
        }
    }
    let broker = cluster(1, 1);
    let client = Client::new(config(&broker)).unwrap();
    let new = NewTopic { name: "new".into(), partitions: Some(2), ..NewTopic::default() };
    block_on(client.ready()).unwrap();
    block_on(client.admin().create_topic(&new)).unwrap();
    assert_eq!(block_on(client.topic("new", false)).unwrap().partitions.len(), 2);
    block_on(client.admin().delete_topic("new")).unwrap();
}

#[test]
fn an_answer_that_comes_too_late_for_its_records_does_not_hold_up_the_next_ones() {
    let broker = cluster(1, 1);
    let client = Client::new(config(&broker)).unwrap();
    let delivery_timeout = Duration::from_secs(1);
    let producer = client.producer(ProducerConfig::default().delivery_timeout(delivery_timeout)).unwrap();
    let topic = find_topic(&client, &producer, TOPIC, false).unwrap();
    broker.inject(Fault::silence().api(ApiKey::Produce));
    let stored = (0..10).position(|_| {
        let delivery = producer.try_send(topic, &to_partition(0)).unwrap();
        client.start(delivery).wait(WAIT).expect("it is reported").is_ok()
    });
    assert!((1..10).contains(&stored.expect("one is stored")), "the first was lost");
}

#[test]
fn a_request_that_waits_behind_others_on_its_connection_does_not_use_up_its_limit() {
    let broker = cluster(1, 1);
    let client = Client::new(config(&broker)).unwrap();
    let connecting = client.clone();
    client.start(async move { connecting.ready().await }).wait(WAIT).unwrap().unwrap();
    let ask = |limit| {
        let call = Call { timeout: Some(limit), ..Call::new(Target::Broker(1), MetadataRequest::default()) };
        let asking = client.clone();
        client.start(async move { asking.call(call).await })
    };
    // The broker answers one after the other, so the last response takes longer than the limit of each.
    broker.inject(Fault::delay(Duration::from_secs(1)).api(ApiKey::Metadata).times(5));
    let asked: Vec<_> = (0..5).map(|_| ask(Duration::from_secs(4))).collect();
    for answer in asked {
        answer.wait(WAIT).expect("it ends in time").unwrap();
    }
    broker.inject(Fault::silence().api(ApiKey::Metadata));
    let error = ask(Duration::from_millis(300)).wait(WAIT).expect("it ends in time").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut(Phase::Request), "one slow request still ends at its limit");
}

#[test]
fn an_overdue_response_names_the_setting_only_where_that_was_its_limit() {
    let broker = cluster(1, 1);
    let client = Client::new(config(&broker).request_timeout(Duration::from_secs(4))).unwrap();
    let connecting = client.clone();
    client.start(async move { connecting.ready().await }).wait(WAIT).unwrap().unwrap();
    broker.inject(Fault::silence().api(ApiKey::Metadata).always());
    for (timeout, says) in [(None, "raise request.timeout.ms"), (Some(Duration::from_secs(2)), "for 2s")] {
        let call = Call { timeout, ..Call::new(Target::Broker(1), MetadataRequest::default()) };
        let asking = client.clone();
        let error = client.start(async move { asking.call(call).await }).wait(WAIT).unwrap().unwrap_err().to_string();
        assert!(error.starts_with("no response for ") && error.contains(says), "{error}");
        assert_eq!(error.contains("request.timeout.ms"), timeout.is_none(), "{error}");
    }
}

/// A client, and the number of requests of one kind that it has sent.
fn counted(broker: &Broker, network: Arc<CountingTcp>, counted: ApiKey) -> (Client, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let tap: WireTap = Arc::new(move |event| {
        if matches!(event, WireEvent::Sent { key, .. } if *key == counted) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (Client::with_network(config(broker), network, Some(tap)).unwrap(), sent)
}

#[test]
fn a_producer_with_little_time_does_not_make_the_requests_of_others_go_again() {
    let broker = cluster(1, 2);
    let network = Arc::new(CountingTcp::default());
    let (client, sent) = counted(&broker, Arc::clone(&network), ApiKey::Produce);
    let hasty = client.producer(ProducerConfig::default().delivery_timeout(Duration::from_secs(1))).unwrap();
    let patient = client.producer(ProducerConfig::default()).unwrap();
    let produce = |producer: &Producer, partition| {
        let topic = find_topic(&client, producer, TOPIC, false).unwrap();
        client.start(producer.try_send(topic, &to_partition(partition)).unwrap())
    };
    for (producer, partition) in [(&hasty, 0), (&patient, 1)] {
        produce(producer, partition).wait(WAIT).unwrap().unwrap();
    }
    // Longer than any request of the hasty one waits for its answer.
    broker.inject(Fault::delay(Duration::from_secs(6)).api(ApiKey::Produce).always());
    let before = (sent.load(Ordering::SeqCst), network.dials.load(Ordering::SeqCst));
    let late = produce(&hasty, 0);
    until("its request to be sent", || (sent.load(Ordering::SeqCst) > before.0).then_some(()));
    let stored = produce(&patient, 1);
    assert!(late.wait(WAIT).expect("it is reported").is_err());
    assert_eq!(stored.wait(WAIT).expect("it is reported").unwrap().offset, Some(1));
    let after = (sent.load(Ordering::SeqCst), network.dials.load(Ordering::SeqCst));
    assert_eq!(after.0, before.0 + 2, "each was sent once");
    assert!(after.1 <= before.1 + 1, "the connection is still the same; one more showed that the broker works");
}

#[test]
fn a_record_does_not_wait_behind_the_requests_of_a_producer_with_other_settings() {
    let broker = cluster(1, 2);
    let (client, sent) = counted(&broker, Arc::default(), ApiKey::Produce);
    let client = &client;
    let open = |linger| {
        let producer = client.producer(ProducerConfig::default().linger(Duration::from_millis(linger))).unwrap();
        let topic = find_topic(client, &producer, TOPIC, false).unwrap();
        move |partition| client.start(producer.try_send(topic, &to_partition(partition)).unwrap())
    };
    let (busy, other) = (open(0), open(1));
    broker.inject(Fault::delay(3 * LIMIT).api(ApiKey::Produce).times(1));
    busy(0);
    until("its request to be sent", || (sent.load(Ordering::SeqCst) > 0).then_some(()));
    other(1).wait(WAIT).expect("it is reported").unwrap();
    assert_eq!(sent.load(Ordering::SeqCst), 2, "it was not sent again when the first request's time was up");
}

#[test]
fn a_call_whose_time_is_up_fails_alone_and_the_next_one_does_not_wait_behind_it() {
    let broker = cluster(1, 1);
    let (client, sent) = counted(&broker, Arc::default(), ApiKey::Metadata);
    let connecting = client.clone();
    client.start(async move { connecting.ready().await }).wait(WAIT).unwrap().unwrap();
    let ask = |limit| {
        let before = sent.load(Ordering::SeqCst);
        let call = Call { timeout: Some(limit), ..Call::new(Target::Broker(1), MetadataRequest::default()) };
        let asking = client.clone();
        let asked = client.start(async move { asking.call(call).await });
        until("the request to be sent", || (sent.load(Ordering::SeqCst) > before).then_some(()));
        asked
    };
    let is_overdue = |asked: Pending<kavka::Result<MetadataResponse>>| {
        let error = asked.wait(WAIT).expect("it ends in time").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut(Phase::Request));
    };
    let short = Duration::from_millis(200);
    broker.inject(Fault::delay(Duration::from_secs(1)).api(ApiKey::Metadata).times(2));
    let (hasty, patient) = (ask(short), ask(LIMIT));
    is_overdue(hasty);
    patient.wait(WAIT).expect("it ends in time").expect("it had more time");

    broker.inject(Fault::silence().api(ApiKey::Metadata));
    let unheard = ask(LIMIT);
    is_overdue(ask(short));
    ask(LIMIT).wait(WAIT).expect("it goes over a new connection").unwrap();
    drop(unheard);
}

#[test]
fn metadata_comes_from_another_broker_while_one_is_down() {
    let broker = cluster(3, 1);
    let client = Client::new(config(&broker)).unwrap();
    let refresh = || {
        let refreshing = client.clone();
        client.start(async move { refreshing.refresh_metadata().await }).wait(WAIT).expect("it ends")
    };
    refresh().unwrap();
    for round in 0..12 {
        let down = round % 3 + 1;
        broker.set_broker_down(down);
        refresh().unwrap_or_else(|error| panic!("broker {down} is down, and the others were not asked: {error}"));
        broker.set_broker_up(down);
        refresh().unwrap();
    }
    (1..=3).for_each(|down| broker.set_broker_down(down));
    assert_eq!(refresh().unwrap_err().kind(), ErrorKind::Disconnected, "nobody is left to ask");
}

#[test]
fn looking_a_topic_up_ends_at_once_when_the_client_is_closed() {
    let broker = cluster(1, 1);
    let (client, sent) = counted(&broker, Arc::default(), ApiKey::Metadata);
    let connecting = client.clone();
    client.start(async move { connecting.ready().await }).wait(WAIT).unwrap().unwrap();
    broker.inject(Fault::silence().api(ApiKey::Metadata).always());
    let look_up = || {
        let looking = client.clone();
        client.start(async move { looking.topic("missing", true).await })
    };
    let before = sent.load(Ordering::SeqCst);
    let waiting = look_up();
    until("the brokers to be asked", || (sent.load(Ordering::SeqCst) > before).then_some(()));
    client.close();
    for looking in [waiting, look_up()] {
        assert_eq!(looking.wait(WAIT).expect("it ends").unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[test]
fn a_request_that_may_be_repeated_survives_a_connection_that_dies() {
    let broker = cluster(1, 1);
    let client = Client::new(config(&broker)).unwrap();
    let ask = || {
        let asking = client.clone();
        client.start(async move { asking.call(Call::new(Target::Any, MetadataRequest::default())).await }).wait(WAIT)
    };
    ask().unwrap().unwrap();
    broker.inject(Fault::close().api(ApiKey::Metadata));
    ask().unwrap().expect("the second attempt is answered");
    broker.inject(Fault::close().api(ApiKey::Metadata).times(2));
    assert_eq!(ask().unwrap().unwrap_err().kind(), ErrorKind::Disconnected, "there is no third");
}

#[test]
fn an_idle_connection_is_closed_by_the_client_and_made_anew_when_it_is_needed() {
    let broker = cluster(1, 1);
    let network = Arc::new(CountingTcp::default());
    let config = config(&broker).connections_max_idle(Duration::from_millis(100));
    let client = Client::with_network(config, Arc::clone(&network) as Arc<dyn Network>, None).unwrap();
    for dials in 1..=3 {
        let asking = client.clone();
        let asked = client.start(async move { asking.call(Call::new(Target::Any, MetadataRequest::default())).await });
        asked.wait(WAIT).unwrap().unwrap();
        assert_eq!(network.dials.load(Ordering::SeqCst), dials);
        until("the connection to be closed", || broker.with(|cluster, _| cluster.connections() == 0).then_some(()));
    }
}
