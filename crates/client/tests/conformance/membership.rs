//! Group members: who reads which partition, and where the next owner continues.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kavka::blocking::GroupConsumer;
use kavka::{
    Acknowledgement, Acknowledgements, AutoOffsetReset, Client, ConsumerConfig, GroupConfig, GroupOptions, NewTopic,
    RebalanceListener, Record, StartPosition, TopicPartition,
};
use kavka_test_support::on_every_listener;
use kavka_test_support::rig::wait;
use kavka_test_support::{LIMIT, unique, until};

use crate::cluster::{Cluster, Writer};

on_every_listener!(
    members_share_the_partitions_and_the_last_one_has_them_all_again,
    a_member_goes_on_where_the_group_stopped,
    a_static_member_comes_back_to_its_partitions_without_a_rebalance,
    the_listener_is_told_of_everything_in_order,
    without_a_committed_offset_and_a_reset_the_application_decides_where_to_begin,
    the_batch_at_hand_is_not_committed_when_its_partition_is_given_up,
    only_what_a_member_owns_can_be_committed,
    a_session_timeout_that_the_broker_refuses_is_told_to_who_asks_for_records,
    a_member_that_asks_for_no_records_leaves_and_comes_back_when_it_does,
    partitions_that_a_topic_gains_are_shared_out,
    a_pattern_takes_in_the_topics_that_match_also_later_ones,
    what_is_not_acknowledged_is_read_again_by_the_next_member,
    where_a_member_starts_is_committed_before_it_reads_anything,
    a_member_without_topics_leaves_and_comes_back_when_it_has_some,
    a_group_moves_from_eager_to_cooperative_rebalancing_one_member_at_a_time,
);

pub(crate) fn group(strategy: &str) -> GroupConfig {
    GroupConfig::default()
        .session_timeout(Duration::from_secs(10))
        .heartbeat_interval(Duration::from_millis(300))
        .partition_assignment_strategy(strategy.into())
}

pub(crate) fn member(client: &Client, group_id: &str, config: GroupConfig, topic: &str) -> GroupConsumer {
    joined(client, group_id, config, GroupOptions::default(), topic)
}

pub(crate) fn joined(
    client: &Client,
    group_id: &str,
    config: GroupConfig,
    options: GroupOptions,
    topic: &str,
) -> GroupConsumer {
    let consumer = ConsumerConfig::default().group_id(Some(group_id.into()));
    let member = GroupConsumer::from(client.group_consumer(consumer, config, options).unwrap());
    member.subscribe(&[topic]).unwrap();
    member
}

/// Polls until each of these members has the given number of partitions.
pub(crate) fn settle(members: &[&GroupConsumer], counts: &[usize]) {
    until("the group to settle", || {
        for member in members {
            drop(member.try_batch().unwrap());
        }
        let has = |member: &&GroupConsumer| member.is_stable().then(|| member.assignment().len());
        (members.iter().map(has).collect::<Option<Vec<_>>>()? == counts).then_some(())
    });
}

pub(crate) fn leave(member: &GroupConsumer) {
    member.close(LIMIT).unwrap();
}

pub(crate) fn write(cluster: &Cluster, topic: &str, partitions: i32, count: u32) {
    let writer = Writer::new(cluster, topic);
    for number in 0..count {
        for partition in 0..partitions {
            let value = number.to_string();
            writer.send_record(&Record {
                partition: Some(partition),
                value: Some(value.as_bytes()),
                ..Record::default()
            });
        }
    }
    writer.flush();
}

/// The partition and offset of this many records.
pub(crate) fn read(member: &GroupConsumer, count: usize) -> Vec<(i32, i64)> {
    let mut read = Vec::new();
    while read.len() < count {
        let records = member.next_records(count - read.len(), LIMIT).unwrap();
        assert!(!records.is_empty(), "{} of {count} records came", read.len());
        read.extend(records.iter().map(|record| (record.topic_partition.partition, record.offset)));
    }
    read.sort_unstable();
    read
}

fn members_share_the_partitions_and_the_last_one_has_them_all_again(cluster: &Cluster) {
    for strategy in ["range", "roundrobin"] {
        let (topic, group_id, client) = (cluster.topic(4), unique("group"), cluster.client());
        let first = member(&client, &group_id, group(strategy), &topic);
        settle(&[&first], &[4]);
        let second = member(&client, &group_id, group(strategy), &topic);
        settle(&[&first, &second], &[2, 2]);
        let all: BTreeSet<_> = first.assignment().into_iter().chain(second.assignment()).collect();
        assert_eq!(all.len(), 4);
        leave(&first);
        settle(&[&second], &[4]);
        leave(&second);
    }
}

fn a_member_goes_on_where_the_group_stopped(cluster: &Cluster) {
    let (topic, group_id, client) = (cluster.topic(2), unique("group"), cluster.client());
    write(cluster, &topic, 2, 10);
    let first = member(&client, &group_id, group("range"), &topic);
    let mut seen = read(&first, 12);
    leave(&first);
    let second = member(&client, &group_id, group("range"), &topic);
    seen.extend(read(&second, 8));
    seen.sort_unstable();
    let all: Vec<_> = (0..2).flat_map(|partition| (0..10).map(move |offset| (partition, offset))).collect();
    assert_eq!(seen, all);
    leave(&second);
}

fn a_static_member_comes_back_to_its_partitions_without_a_rebalance(cluster: &Cluster) {
    let (topic, group_id, client) = (cluster.topic(4), unique("group"), cluster.client());
    let named = |name: &str| group("range").group_instance_id(Some(name.into()));
    let stays = member(&client, &group_id, named("stays"), &topic);
    let goes = member(&client, &group_id, named("goes"), &topic);
    settle(&[&stays, &goes], &[2, 2]);
    let (had, generation) = (goes.assignment(), stays.generation_id());
    leave(&goes);
    let back = member(&client, &group_id, named("goes"), &topic);
    settle(&[&stays, &back], &[2, 2]);
    assert_eq!((back.assignment(), stays.generation_id()), (had, generation));
    leave(&back);
    leave(&stays);
}

#[derive(Clone, Default)]
pub(crate) struct Diary(pub(crate) Arc<Mutex<Vec<String>>>);

impl Diary {
    fn write(&self, what: &str, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(format!("{what} {}", partitions.len()));
    }
}

impl RebalanceListener for Diary {
    fn on_assigned(&self, consumer: &kavka::GroupConsumer, partitions: &[TopicPartition]) {
        assert!(consumer.try_batch().unwrap().is_none(), "nothing is handed out before this has returned");
        self.write("assigned", partitions);
    }

    fn on_revoked(&self, consumer: &kavka::GroupConsumer, partitions: &[TopicPartition]) {
        assert!(consumer.try_batch().unwrap().is_none(), "nothing is handed out any more");
        self.write("revoked", partitions);
    }

    fn on_lost(&self, _consumer: &kavka::GroupConsumer, partitions: &[TopicPartition]) {
        self.write("lost", partitions);
    }
}

fn the_listener_is_told_of_everything_in_order(cluster: &Cluster) {
    let (topic, group_id, client) = (cluster.topic(4), unique("group"), cluster.client());
    write(cluster, &topic, 4, 5);
    let diary = Diary::default();
    let first = joined(&client, &group_id, group("range"), GroupOptions::default().listener(diary.clone()), &topic);
    assert_eq!(read(&first, 20).len(), 20);
    let second = member(&client, &group_id, group("range"), &topic);
    settle(&[&first, &second], &[2, 2]);
    leave(&first);
    assert_eq!(*diary.0.lock().unwrap(), ["assigned 4", "revoked 4", "assigned 2", "revoked 2"]);
    leave(&second);
}

fn the_batch_at_hand_is_not_committed_when_its_partition_is_given_up(cluster: &Cluster) {
    let (topic, group_id, client) = (cluster.topic(1), unique("group"), cluster.client());
    write(cluster, &topic, 1, 3);
    let first = member(&client, &group_id, group("range"), &topic);
    let mut batch = first.next_batch(LIMIT).unwrap().unwrap();
    assert_eq!(batch.next_record().unwrap().offset, 0);
    let second = member(&client, &group_id, group("range"), &topic);
    until("the second to join", || second.generation_id());
    leave(&first);
    drop(batch);
    assert_eq!(read(&second, 1), [(0, 0)], "the work on it was not done");
    leave(&second);
}

fn only_what_a_member_owns_can_be_committed(cluster: &Cluster) {
    let (topic, group_id, client) = (cluster.topic(1), unique("group"), cluster.client());
    let member = member(&client, &group_id, group("range"), &topic);
    settle(&[&member], &[1]);
    let foreign = TopicPartition::new(topic.as_str(), 7);
    let refused = member.commit([(foreign, kavka::CommittedOffset::new(1))].into(), LIMIT).unwrap_err();
    assert_eq!(refused.kind(), kavka::ErrorKind::Fenced);
    assert!(refused.to_string().contains(&group_id), "{refused}");
    leave(&member);
}

fn a_session_timeout_that_the_broker_refuses_is_told_to_who_asks_for_records(cluster: &Cluster) {
    let (topic, group_id, client) = (cluster.topic(1), unique("group"), cluster.client());
    let short = group("range").session_timeout(Duration::from_millis(400));
    let member = member(&client, &group_id, short, &topic);
    let refused = member.next_batch(LIMIT).unwrap_err();
    assert_eq!(refused.code(), Some(kavka::ErrorCode::INVALID_SESSION_TIMEOUT), "{refused}");
    let words = refused.to_string();
    assert!(words.contains(&group_id) && words.contains("group.min.session.timeout.ms"), "{words}");
    leave(&member);
}

fn a_member_that_asks_for_no_records_leaves_and_comes_back_when_it_does(cluster: &Cluster) {
    leaves_while_it_asks_for_nothing(cluster, group("range"));
}

pub(crate) fn leaves_while_it_asks_for_nothing(cluster: &Cluster, config: GroupConfig) {
    let (topic, group_id, client) = (cluster.topic(1), unique("group"), cluster.client());
    let idle = member(&client, &group_id, config.max_poll_interval(Duration::from_secs(1)), &topic);
    settle(&[&idle], &[1]);
    until("it to leave by itself", || idle.assignment().is_empty().then_some(()));
    let told = until("it to say so", || idle.try_batch().err());
    assert!(told.to_string().contains("max.poll.interval.ms") && told.to_string().contains(&group_id), "{told}");
    until("it to be back", || {
        drop(idle.try_batch());
        (idle.assignment().len() == 1).then_some(())
    });
    leave(&idle);
}

fn partitions_that_a_topic_gains_are_shared_out(cluster: &Cluster) {
    gets_the_partitions_that_its_topic_gains(cluster, group("range"));
}

pub(crate) fn gets_the_partitions_that_its_topic_gains(cluster: &Cluster, config: GroupConfig) {
    let (topic, group_id, client) = (cluster.topic(1), unique("group"), cluster.client());
    let member = member(&client, &group_id, config, &topic);
    settle(&[&member], &[1]);
    cluster.add_partitions(&topic, 3);
    wait(&client, client.refresh_metadata()).unwrap();
    settle(&[&member], &[3]);
    leave(&member);
}

fn without_a_committed_offset_and_a_reset_the_application_decides_where_to_begin(cluster: &Cluster) {
    let (topic, group_id, client) = (cluster.topic(1), unique("group"), cluster.client());
    write(cluster, &topic, 1, 3);
    let consumer = ConsumerConfig::default().group_id(Some(group_id)).auto_offset_reset(AutoOffsetReset::None);
    let member = GroupConsumer::from(client.group_consumer(consumer, group("range"), GroupOptions::default()).unwrap());
    member.subscribe(&[&topic]).unwrap();
    let error = member.next_records(1, LIMIT).unwrap_err();
    assert!(error.to_string().contains("auto.offset.reset is none"), "{error}");
    let key = TopicPartition::new(topic.as_str(), 0);
    member.seek(&key, StartPosition::Offset(1)).unwrap();
    member.resume(&key).unwrap();
    assert_eq!(read(&member, 2), [(0, 1), (0, 2)]);
    leave(&member);
}

fn a_pattern_takes_in_the_topics_that_match_also_later_ones(cluster: &Cluster) {
    takes_in_the_topics_that_match(cluster, group("range"));
}

/// A member with this configuration reads the topics that match its pattern, also one that is created later.
pub(crate) fn takes_in_the_topics_that_match(cluster: &Cluster, config: GroupConfig) {
    let (group_id, prefix, client) = (unique("group"), unique("pattern"), cluster.client());
    let consumer = ConsumerConfig::default().group_id(Some(group_id));
    let member = GroupConsumer::from(client.group_consumer(consumer, config, GroupOptions::default()).unwrap());
    let create = |name: String, partitions: i32| {
        let topic = NewTopic { name, partitions: Some(partitions), replication_factor: Some(1), ..NewTopic::default() };
        let admin = client.admin();
        wait(&client, async move { admin.create_topic(&topic).await }).unwrap();
    };
    create(format!("{prefix}-1"), 2);
    create(format!("other-{prefix}-1"), 1);
    member.subscribe_pattern(&format!("{prefix}-.*")).unwrap();
    settle(&[&member], &[2]);
    create(format!("{prefix}-2"), 3);
    until("the new topic to be seen", || {
        wait(&client, client.refresh_metadata()).unwrap();
        drop(member.try_batch().unwrap());
        (member.is_stable() && member.assignment().len() == 5).then_some(())
    });
    member.subscribe(&[format!("other-{prefix}-1")]).unwrap();
    settle(&[&member], &[1]);
    leave(&member);
}

fn a_member_without_topics_leaves_and_comes_back_when_it_has_some(cluster: &Cluster) {
    let (topic, group_id, client) = (cluster.topic(2), unique("group"), cluster.client());
    let stays = member(&client, &group_id, group("range"), &topic);
    let goes = member(&client, &group_id, group("range"), &topic);
    settle(&[&stays, &goes], &[1, 1]);
    goes.subscribe::<&str>(&[]).unwrap();
    settle(&[&stays], &[2]);
    assert!(goes.assignment().is_empty());
    goes.subscribe(&[&topic]).unwrap();
    settle(&[&stays, &goes], &[1, 1]);
    leave(&goes);
    leave(&stays);
}

/// What KIP-429 asks of an operator: a first bounce that offers both assignors, and a second one that drops the eager
/// one.
fn a_group_moves_from_eager_to_cooperative_rebalancing_one_member_at_a_time(cluster: &Cluster) {
    let (topic, group_id, client) = (cluster.topic(4), unique("group"), cluster.client());
    write(cluster, &topic, 4, 10);
    let mut members = [(); 2].map(|()| member(&client, &group_id, group("range"), &topic));
    settle(&[&members[0], &members[1]], &[2, 2]);
    let mut seen = BTreeSet::new();
    for strategy in ["cooperative-sticky,range", "cooperative-sticky"] {
        for index in 0..2 {
            seen.extend(read(&members[index], 2));
            leave(&members[index]);
            members[index] = member(&client, &group_id, group(strategy), &topic);
            settle(&[&members[0], &members[1]], &[2, 2]);
        }
    }
    let all: BTreeSet<_> = members.iter().flat_map(|member| member.assignment()).collect();
    assert_eq!(all.len(), 4, "each partition has one owner");
    while seen.len() < 40 {
        for member in &members {
            let records = member.next_records(40, Duration::from_millis(50)).unwrap();
            seen.extend(records.iter().map(|record| (record.topic_partition.partition, record.offset)));
        }
    }
    let generation = members[0].generation_id();
    let kept = members[0].assignment();
    let third = member(&client, &group_id, group("cooperative-sticky"), &topic);
    until("the third to have its share", || {
        members.iter().chain([&third]).for_each(|member| drop(member.try_batch().unwrap()));
        let still_reads = members[0].assignment().iter().any(|key| kept.contains(key));
        assert!(still_reads, "a cooperative member never gives up everything");
        (third.assignment().len() == 1 && third.is_stable()).then_some(())
    });
    assert!(members[0].generation_id() > generation);
    for member in members.iter().chain([&third]) {
        leave(member);
    }
}

fn what_is_not_acknowledged_is_read_again_by_the_next_member(cluster: &Cluster) {
    let (topic, group_id, client) = (cluster.topic(1), unique("group"), cluster.client());
    write(cluster, &topic, 1, 10);
    let acknowledgements = Acknowledgements::new();
    let options = GroupOptions::default().acknowledgements(&acknowledgements);
    let first = joined(&client, &group_id, group("range"), options, &topic);
    let mut open = Vec::new();
    while open.len() < 8 {
        let records = first.next_records(8 - open.len(), LIMIT).unwrap();
        open.extend(records.iter().map(|record| acknowledgements.track(record)));
    }
    // The one at offset 3 never ends.
    let _held = open.remove(3);
    open.into_iter().rev().for_each(Acknowledgement::acknowledge);
    leave(&first);
    assert!(acknowledgements.offsets().is_empty(), "what was given up is forgotten");
    let second = member(&client, &group_id, group("range"), &topic);
    assert_eq!(read(&second, 7).first(), Some(&(0, 3)));
    leave(&second);
}

fn where_a_member_starts_is_committed_before_it_reads_anything(cluster: &Cluster) {
    for options in [GroupOptions::default(), GroupOptions::default().acknowledgements(&Acknowledgements::new())] {
        let (topic, group_id, client) = (cluster.topic(1), unique("group"), cluster.client());
        write(cluster, &topic, 1, 3);
        let rare = group("range").auto_commit_interval(Duration::from_secs(3_600));
        let consumer =
            ConsumerConfig::default().group_id(Some(group_id.clone())).auto_offset_reset(AutoOffsetReset::Latest);
        let member = GroupConsumer::from(client.group_consumer(consumer, rare, options).unwrap());
        member.subscribe(&[&topic]).unwrap();
        let key = TopicPartition::new(topic.as_str(), 0);
        let committed = until("the position to be committed", || {
            let (asking, group_id, key) = (client.clone(), group_id.clone(), key.clone());
            let asked = async move { asking.committed_offsets(&group_id, &[key], LIMIT).await };
            wait(&client, asked).unwrap().into_values().next()
        });
        assert_eq!(committed.offset, 3);
        leave(&member);
    }
}
