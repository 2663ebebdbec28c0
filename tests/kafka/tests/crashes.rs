//! Brokers that crash or freeze: how long their partitions stand still, what members of groups keep, and what they are
//! told of records that are lost.
//!
//! Every test starts a Kafka of its own, because it kills brokers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kavka::blocking::{Consumer, GroupConsumer, Producer};
use kavka::{
    Client, ClientConfig, ConsumerConfig, GroupConfig, GroupOptions, GroupProtocol, ProducerConfig, RebalanceListener,
    Record, StartPosition, TopicPartition, parse_bootstrap_servers,
};
use kavka_test_kafka::{Kafka, Options};
use kavka_test_support::rig::{find_topic, wait};
use kavka_test_support::{LIMIT, until};

const TOPIC: &str = "orders";

/// Kafka's default. A member of a consumer group counts a session by it, which must outlast the start of a broker.
const HEARTBEATS: &[(&str, &str)] = &[("group.consumer.heartbeat.interval.ms", "5000")];

fn client(kafka: &Kafka) -> Client {
    let bootstrap_servers = parse_bootstrap_servers(kafka.bootstrap()).unwrap();
    Client::new(ClientConfig::default().bootstrap_servers(bootstrap_servers)).unwrap()
}

/// Writes `from`, ..., `to - 1` to each of the first partitions.
fn write(client: &Client, partitions: i32, numbers: std::ops::Range<u32>) {
    let producer = Producer::from(client.producer(ProducerConfig::default()).unwrap());
    let topic = find_topic(client, &producer, TOPIC, false).unwrap();
    let mut deliveries = Vec::new();
    for number in numbers {
        let value = number.to_string();
        for partition in 0..partitions {
            let record = Record { partition: Some(partition), value: Some(value.as_bytes()), ..Record::default() };
            deliveries.push(producer.send_within(topic, &record, LIMIT).unwrap());
        }
    }
    producer.flush();
    for delivery in deliveries {
        delivery.wait_for(LIMIT).expect("a report in time").unwrap();
    }
}

/// What members were told of their partitions.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl RebalanceListener for Diary {
    fn on_assigned(&self, _consumer: &kavka::GroupConsumer, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(format!("assigned {partitions:?}"));
    }

    fn on_revoked(&self, _consumer: &kavka::GroupConsumer, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(format!("revoked {partitions:?}"));
    }

    fn on_lost(&self, _consumer: &kavka::GroupConsumer, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(format!("lost {partitions:?}"));
    }
}

fn member(client: &Client, group_id: &str, config: GroupConfig, diary: &Diary) -> GroupConsumer {
    let consumer = ConsumerConfig::default().group_id(Some(group_id.into()));
    let options = GroupOptions::default().listener(diary.clone());
    let member = GroupConsumer::from(client.group_consumer(consumer, config, options).unwrap());
    member.subscribe(&[TOPIC]).unwrap();
    member
}

/// Two members that share four partitions.
struct Group {
    id: &'static str,
    members: [GroupConsumer; 2],
    diary: Diary,
}

/// Where a member stands: its generation, and what it has.
type Standing = (Option<i32>, Vec<TopicPartition>);

impl Group {
    fn start(client: &Client, group_id: &'static str, config: impl Fn(&str) -> GroupConfig) -> Self {
        let diary = Diary::default();
        let members = ["first", "second"].map(|name| member(client, group_id, config(name), &diary));
        let group = Self { id: group_id, members, diary };
        until("the partitions to be shared out", || {
            let is_settled = |member: &GroupConsumer| {
                drop(member.try_batch().unwrap());
                member.is_stable() && member.assignment().len() == 2
            };
            group.members.iter().all(is_settled).then_some(())
        });
        group
    }

    fn standing(&self) -> Vec<Standing> {
        self.members.iter().map(|member| (member.generation_id(), member.assignment())).collect()
    }

    /// Reads what was written and commits it. The coordinator accepts commits only in the member's own generation.
    fn read_and_commit(&self, seen: &mut BTreeSet<(TopicPartition, i64)>, until_seen: usize) {
        until("the records to come", || {
            for member in &self.members {
                let records = member.next_records(100, Duration::from_millis(20)).unwrap();
                seen.extend(records.into_iter().map(|record| (record.topic_partition, record.offset)));
            }
            (seen.len() == until_seen).then_some(())
        });
        for member in &self.members {
            member.commit_sync(member.positions(), LIMIT).unwrap();
        }
    }
}

/// Members of each kind of group, that live through what is done to the brokers without a rebalance.
fn nothing_changes(kafka: &Kafka, disturb: impl IntoIterator<Item = Box<dyn Fn(&Kafka)>>) {
    let client = client(kafka);
    // An automatic commit that fails while brokers are away would be told to who asks for records.
    let config = |protocol| GroupConfig::default().group_protocol(protocol).enable_auto_commit(false);
    let classic = || config(GroupProtocol::Classic);
    let groups = [
        Group::start(&client, "consumers", |_| config(GroupProtocol::Consumer)),
        Group::start(&client, "classic", |_| classic()),
        Group::start(&client, "static", |name| classic().group_instance_id(Some(name.into()))),
    ];
    let mut seen = vec![BTreeSet::new(); groups.len()];
    write(&client, 4, 0..5);
    let mut written = 20;
    for (group, seen) in groups.iter().zip(&mut seen) {
        group.read_and_commit(seen, written);
    }
    let before: Vec<_> = groups.iter().map(Group::standing).collect();
    let told: Vec<_> = groups.iter().map(|group| group.diary.0.lock().unwrap().clone()).collect();
    for disturb in disturb {
        disturb(kafka);
        write(&client, 4, 0..5);
        written += 20;
        for (group, seen) in groups.iter().zip(&mut seen) {
            group.read_and_commit(seen, written);
        }
    }
    for ((group, before), told) in groups.iter().zip(before).zip(told) {
        assert_eq!(group.standing(), before, "{}", group.id);
        assert_eq!(*group.diary.0.lock().unwrap(), told, "{}", group.id);
    }
}

#[test]
#[ignore = "`make kafka-test` runs it"]
fn members_go_on_without_a_rebalance_when_their_only_broker_was_killed_and_comes_back() {
    let kafka = Kafka::start(&Options { settings: HEARTBEATS, ..Options::default() });
    kafka.create_topic(TOPIC, 4, 1, &[]);
    nothing_changes(
        &kafka,
        [Box::new(|kafka: &Kafka| {
            kafka.kill(1);
            kafka.restart(1);
        }) as Box<dyn Fn(&Kafka)>],
    );
}

#[test]
#[ignore = "`make kafka-test` runs it"]
fn members_go_on_without_a_rebalance_when_their_coordinators_stop_or_are_killed_one_after_the_other() {
    let kafka = Kafka::start(&Options { brokers: 3, settings: HEARTBEATS, ..Options::default() });
    kafka.create_topic(TOPIC, 4, 3, &[]);
    let disturb = kafka.broker_ids().into_iter().map(|broker_id| {
        Box::new(move |kafka: &Kafka| {
            if broker_id == 1 {
                kafka.kill(broker_id);
            } else {
                kafka.stop(broker_id);
            }
            kafka.restart(broker_id);
            kafka.wait_in_sync();
        }) as Box<dyn Fn(&Kafka)>
    });
    nothing_changes(&kafka, disturb);
}

#[test]
#[ignore = "`make kafka-test` runs it"]
fn a_committed_offset_whose_records_were_lost_in_an_unclean_election_is_reported_before_anything_is_read() {
    for protocol in [GroupProtocol::Consumer, GroupProtocol::Classic] {
        let kafka = Kafka::start(&Options { brokers: 3, ..Options::default() });
        let settings = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
        kafka.create_topic(TOPIC, 1, 2, &settings);
        let leader = kafka.leader(TOPIC, 0);
        let follower = kafka.describe_topic(TOPIC)[&0].replicas.iter().copied().find(|id| *id != leader).unwrap();
        let client = client(&kafka);
        write(&client, 1, 0..10);
        kafka.wait_in_sync();
        kafka.stop(follower);
        write(&client, 1, 10..20);

        let config = || GroupConfig::default().group_protocol(protocol);
        let reads = member(&client, "readers", config(), &Diary::default());
        let mut count = 0;
        until("the records to come", || {
            count += reads.next_records(20, Duration::from_millis(50)).unwrap().len();
            (count == 20).then_some(())
        });
        reads.close(LIMIT).unwrap();
        let committed = wait(&client, client.admin().group_offsets("readers")).unwrap();
        let committed = &committed[&TopicPartition::new(TOPIC, 0)];
        assert_eq!(committed.offset, 20);
        assert!(committed.leader_epoch.is_some(), "{committed:?}");

        kafka.kill(leader);
        kafka.restart_without_waiting(follower);
        until("the follower to lead", || (kafka.describe_topic(TOPIC)[&0].leader == Some(follower)).then_some(()));
        // The committed offset is in the log again, but these are other records.
        write(&client, 1, 100..120);

        let reads = member(&client, "readers", config(), &Diary::default());
        let error = until("an error or a record", || match reads.next_records(20, Duration::from_millis(50)) {
            Ok(records) if records.is_empty() => None,
            told => Some(told),
        });
        let error = error.expect_err("nothing is read before it is reported");
        assert!(error.to_string().contains("truncated"), "{error}");
        reads.close(LIMIT).unwrap();
    }
}

#[test]
#[ignore = "`make kafka-test` runs it"]
fn a_frozen_leader_with_requests_in_flight_holds_its_partition_for_seconds_only() {
    let kafka = Kafka::start(&Options { brokers: 3, ..Options::default() });
    kafka.create_topic(TOPIC, 1, 3, &[("min.insync.replicas", "2")]);
    let bootstrap_servers = parse_bootstrap_servers(kafka.bootstrap()).unwrap();
    let config = ClientConfig::default().request_timeout(10 * LIMIT).bootstrap_servers(bootstrap_servers);
    let client = Client::new(config).unwrap();
    let producer = Producer::from(client.producer(ProducerConfig::default().delivery_timeout(20 * LIMIT)).unwrap());
    let topic = find_topic(&client, &producer, TOPIC, false).unwrap();
    let consumer = Consumer::from(client.consumer(ConsumerConfig::default()).unwrap());
    consumer.add(&TopicPartition::new(TOPIC, 0), StartPosition::Earliest).unwrap();
    producer.send_within(topic, &Record::new("0"), LIMIT).unwrap().wait().unwrap();
    assert_eq!(consumer.next_records(1, LIMIT).unwrap().len(), 1);

    let leader = kafka.leader(TOPIC, 0);
    kafka.freeze(leader);
    let frozen_at = Instant::now();
    let deliveries: Vec<_> = (1..=10).map(|number| number.to_string()).collect();
    let send = |value: &String| producer.send_within(topic, &Record::new(value.as_str()), LIMIT).unwrap();
    let deliveries: Vec<_> = deliveries.iter().map(send).collect();
    for delivery in deliveries {
        delivery.wait_for(LIMIT).expect("stored by the next leader").unwrap();
    }
    eprintln!("stored {:.1} s after broker {leader} froze", frozen_at.elapsed().as_secs_f64());
    let mut read = Vec::new();
    while read.len() < 10 {
        let records = consumer.next_records(10, LIMIT).unwrap();
        assert!(!records.is_empty(), "only {} records were read", read.len());
        read.extend(records.iter().map(|record| String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap()));
    }
    eprintln!("read {:.1} s after that", frozen_at.elapsed().as_secs_f64());
    assert_eq!(read, (1..=10).map(|number| number.to_string()).collect::<Vec<_>>());

    kafka.thaw(leader);
    kafka.wait_in_sync();
    producer.send_within(topic, &Record::new("11"), LIMIT).unwrap().wait().unwrap();
    let records = consumer.next_records(1, LIMIT).unwrap();
    assert_eq!(records[0].value.as_deref(), Some(b"11".as_slice()), "what the frozen broker had is not stored again");
}
