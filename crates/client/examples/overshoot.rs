//! Measures by how much calls overrun their time limits while a broker is silent; prints a table.
//!
//! `cargo run -p kavka --example overshoot`
//!
//! *Frozen* is a broker that the client works with and that then answers nothing, on old and new connections. *Mute* is
//! a port that accepts connections and never says a word, and that the client has known nothing else of.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use kavka::blocking::{Consumer, GroupConsumer};
use kavka::{
    Client, ClientConfig, CommittedOffset, ConsumerConfig, GroupConfig, GroupOptions, NewTopic, Offsets,
    ProducerConfig, Record, StartPosition,
};
use kavka_broker::Fault;
use kavka_test_support::rig::{Rig, TOPIC, key, wait};
use kavka_test_support::until;

/// Of every call.
const LIMIT: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;

fn main() {
    println!("| call, with a limit of {LIMIT:?} | frozen, ms over | mute, ms over |\n|---|--:|--:|");
    let (frozen, mute) = (frozen(), mute());
    let mut worst = Duration::ZERO;
    for (call, over) in &frozen {
        let other = mute.iter().find(|(name, _)| name == call).map(|(_, over)| *over);
        worst = worst.max(*over).max(other.unwrap_or_default());
        let other = other.map_or("-".to_owned(), |over| over.as_millis().to_string());
        println!("| {call} | {} | {other} |", over.as_millis());
    }
    println!("\nThe worst of {ROUNDS} rounds each; of all: {worst:.1?}.");
}

fn config() -> ClientConfig {
    ClientConfig::default().max_block(LIMIT).request_timeout(LIMIT).buffer_memory(65_536)
}

/// By how much the call overran, in the worst of the rounds.
fn over(mut call: impl FnMut()) -> Duration {
    let once = |_| {
        let started = Instant::now();
        call();
        started.elapsed().saturating_sub(LIMIT)
    };
    (0..ROUNDS).map(once).max().unwrap_or_default()
}

fn calls_of_a_client(client: &Client) -> Vec<(&'static str, Duration)> {
    let admin = client.admin();
    let new = NewTopic { name: "new".to_owned(), ..NewTopic::default() };
    vec![
        ("look up a topic", over(|| drop(wait(client, client.topic("elsewhere", false)).unwrap_err()))),
        ("fetch metadata", over(|| drop(wait(client, client.refresh_metadata()).unwrap_err()))),
        ("read a group's offsets", over(|| drop(wait(client, admin.group_offsets("workers")).unwrap_err()))),
        ("list groups", over(|| drop(wait(client, admin.list_groups()).unwrap_err()))),
        ("create a topic", over(|| drop(wait(client, admin.create_topic(&new)).unwrap_err()))),
    ]
}

fn frozen() -> Vec<(&'static str, Duration)> {
    let rig = Rig::with(1, 1, config());
    rig.write(1, 0, 10);
    let (producer, topic) = rig.producer(ProducerConfig::default());
    let (hasty, its_topic) = rig.producer(ProducerConfig::default().delivery_timeout(LIMIT));
    let consumer = Consumer::from(rig.client.consumer(ConsumerConfig::default()).unwrap());
    consumer.add(&key(0), StartPosition::Latest).unwrap();
    let workers = ConsumerConfig::default().group_id(Some("workers".into()));
    let member = rig.client.group_consumer(workers, GroupConfig::default(), GroupOptions::default()).unwrap();
    member.subscribe(&[TOPIC]).unwrap();
    let member = GroupConsumer::from(member);
    until("a share", || {
        drop(member.next_records(10, Duration::from_millis(10)));
        (!member.assignment().is_empty()).then_some(())
    });
    drop(consumer.next_records(10, Duration::from_millis(100)));

    rig.broker.inject(Fault::silence().always());
    let record = Record { value: Some(&[b'v'; 10_000]), ..Record::default() };
    let offsets = || Offsets::from([(key(0), CommittedOffset::new(1))]);
    let flush = || {
        hasty.send(its_topic, &Record::new("v")).unwrap();
        hasty.flush();
    };
    let commit = || rig.client.commit_offsets("others", &offsets(), LIMIT);
    let mut calls = vec![
        ("flush a producer", over(flush)),
        ("consume", over(|| assert!(consumer.next_records(10, LIMIT).is_ok_and(|records| records.is_empty())))),
        ("consume as a member", over(|| drop(member.next_records(10, LIMIT)))),
        ("commit as a member", over(|| drop(member.commit_sync(offsets(), LIMIT).unwrap_err()))),
        ("commit", over(|| drop(wait(&rig.client, commit()).unwrap_err()))),
    ];
    calls.extend(calls_of_a_client(&rig.client));
    while producer.try_send(topic, &record).is_ok() {}
    calls.push(("produce while the buffer is full", over(|| drop(producer.send(topic, &record).unwrap_err()))));
    // The producer and the member are closed by the first round.
    calls.push(("close a producer", over(|| drop(producer.close(LIMIT)))));
    calls.push(("close a member", over(|| drop(member.close(LIMIT)))));
    calls
}

fn mute() -> Vec<(&'static str, Duration)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    let config = config().bootstrap_servers(vec![(address.ip().to_string(), address.port())]);
    calls_of_a_client(&Client::new(config).unwrap())
}
