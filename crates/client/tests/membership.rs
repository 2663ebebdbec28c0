//! What a group's member does when its own process or its coordinator does not keep up.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream as _;
use kavka::blocking::GroupConsumer;
use kavka::{
    Acknowledgements, AutoOffsetReset, ClientConfig, CommittedOffset, ConsumerConfig, ErrorCode, GroupConfig,
    GroupOptions, GroupProtocol, Offsets, RebalanceListener, Records, TopicPartition, WireTap,
};
use kavka_broker::Fault;
use kavka_core::wire::ApiKey;
use kavka_test_support::rig::{Rig, TOPIC, cluster, key, wait};
use kavka_test_support::{LIMIT, until};

fn group() -> GroupConfig {
    GroupConfig::default().session_timeout(Duration::from_secs(6)).heartbeat_interval(Duration::from_millis(200))
}

/// A member of the group `workers` that reads [`TOPIC`].
fn member(rig: &Rig, config: GroupConfig) -> GroupConsumer {
    let consumer = ConsumerConfig::default().group_id(Some("workers".into()));
    let member = rig.client.group_consumer(consumer, config, GroupOptions::default()).unwrap();
    member.subscribe(&[TOPIC]).unwrap();
    GroupConsumer::from(member)
}

/// A topic with ten records, and a client whose engine thread stops as long as the test holds the gate.
fn gated() -> (Arc<Mutex<()>>, Rig) {
    let gate = Arc::new(Mutex::new(()));
    let at_gate = Arc::clone(&gate);
    let tap: WireTap = Arc::new(move |_| drop(at_gate.lock().unwrap()));
    let rig = Rig::of(cluster(1, 1), ClientConfig::default(), Some(tap));
    rig.write(1, 0, 10);
    (gate, rig)
}

fn committed(rig: &Rig) -> Option<i64> {
    committed_of(rig, 0)
}

fn committed_of(rig: &Rig, partition: i32) -> Option<i64> {
    let offsets = rig.wait(rig.client.admin().group_offsets("workers")).unwrap();
    offsets.get(&key(partition)).map(|committed| committed.offset)
}

/// The offset of the next record, if it is there.
fn next_offset(records: &mut Records) -> Option<i64> {
    match Pin::new(records).poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(record))) => Some(record.offset),
        Poll::Ready(Some(Err(_))) | Poll::Pending => None,
        Poll::Ready(None) => panic!("the consumer is closed"),
    }
}

#[test]
fn a_member_whose_engine_was_frozen_beyond_its_session_hands_out_nothing_that_it_had_fetched() {
    let (gate, rig) = gated();
    let member = member(&rig, group().enable_auto_commit(false));
    let mut records = (*member).records();
    assert_eq!(until("the first record", || next_offset(&mut records)), 0);

    let frozen = gate.lock().unwrap();
    until("the session to end", || member.session_left().is_zero().then_some(()));
    assert_eq!(member.assignment().len(), 1, "the engine has not noticed");
    assert_eq!(next_offset(&mut records), None, "the rest of the batch at hand");
    assert!(member.try_batch().unwrap().is_none());
    drop(frozen);

    assert_eq!(until("the member to be back", || next_offset(&mut records)), 0, "nothing was committed");
    member.close(LIMIT).unwrap();
}

#[test]
fn a_batch_at_hand_gives_nothing_once_the_session_is_over_although_the_engine_has_not_noticed() {
    let (gate, rig) = gated();
    let member = member(&rig, group().enable_auto_commit(false));
    let mut batch = until("a batch", || member.try_batch().ok().flatten());
    assert_eq!(batch.next_record().unwrap().offset, 0);

    let frozen = gate.lock().unwrap();
    until("the session to end", || member.session_left().is_zero().then_some(()));
    assert_eq!(member.assignment().len(), 1, "the engine has not noticed");
    assert!(batch.next_record().is_none());
    assert!(batch.next_records(5).0.is_empty());
    drop(frozen);

    drop(batch);
    let mut records = (*member).records();
    assert_eq!(until("the member to be back", || next_offset(&mut records)), 0, "nothing was committed");
    member.close(LIMIT).unwrap();
}

#[test]
fn a_member_that_is_closing_hands_out_nothing_although_its_engine_has_not_noticed() {
    let (gate, rig) = gated();
    let member = member(&rig, group());
    let mut records = (*member).records();
    assert_eq!(until("the first record", || next_offset(&mut records)), 0);

    let frozen = gate.lock().unwrap();
    let closing = (*member).close(LIMIT);
    assert_eq!(next_offset(&mut records), None, "the rest of the batch at hand");
    assert!(member.try_batch().unwrap().is_none());
    drop(frozen);

    wait(&rig.client, closing).unwrap();
}

#[test]
fn commits_for_partitions_that_stay_do_not_hold_up_those_that_go() {
    let rig = Rig::new(1, 2);
    rig.write(2, 0, 10);
    let cooperative = || group().partition_assignment_strategy("cooperative-sticky".into()).enable_auto_commit(false);
    let first = member(&rig, cooperative());
    until("all partitions", || (first.assignment().len() == 2).then_some(()));
    rig.broker.inject(Fault::delay(Duration::from_millis(200)).api(ApiKey::OffsetCommit).always());
    let second = member(&rig, cooperative());
    let mut offset = 0;
    until("the second member's share", || {
        offset += 1;
        // A partition that stays: there is always a commit under way. The last one is refused.
        let kept = first.assignment().into_iter().next()?;
        let offsets = Offsets::from([(kept, CommittedOffset::new(offset))]);
        drop(first.commit(offsets, LIMIT));
        drop((first.try_batch(), second.try_batch()));
        (!second.assignment().is_empty()).then_some(())
    });
    rig.broker.with(|cluster, _| cluster.faults().clear());
    first.close(LIMIT).unwrap();
    second.close(LIMIT).unwrap();
}

#[test]
fn a_coordinator_that_is_slower_than_the_automatic_commits_is_no_error() {
    let rig = Rig::new(1, 1);
    rig.write(1, 0, 10);
    rig.broker.inject(Fault::delay(Duration::from_millis(500)).api(ApiKey::OffsetCommit).always());
    let member = member(&rig, group().auto_commit_interval(Duration::from_millis(50)));
    for behind in [10, 20, 30] {
        until("the offset behind the last record to be committed", || {
            member.next_records(10, Duration::from_millis(50)).unwrap();
            (committed(&rig) == Some(behind)).then_some(())
        });
        rig.write(1, 0, 10);
    }
    rig.broker.with(|cluster, _| cluster.faults().clear());
    member.close(LIMIT).unwrap();
}

#[test]
fn automatic_commits_that_fail_again_and_again_are_told() {
    let rig = Rig::new(1, 1);
    rig.write(1, 0, 10);
    rig.broker.inject(Fault::fail(ErrorCode::GROUP_AUTHORIZATION_FAILED).api(ApiKey::OffsetCommit).times(2));
    let member = member(&rig, group().auto_commit_interval(Duration::from_millis(50)));
    let error = until("the failure to be told", || member.next_records(10, Duration::from_millis(50)).err());
    assert_eq!(error.code(), Some(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    assert!(rig.broker.with(|cluster, _| cluster.faults().is_empty()), "one failure is not told");
    member.close(LIMIT).unwrap();
}

/// Panics whenever it is called.
struct Panicking;

impl RebalanceListener for Panicking {
    fn on_assigned(&self, _: &kavka::GroupConsumer, _: &[TopicPartition]) {
        panic!("planted");
    }

    fn on_revoked(&self, _: &kavka::GroupConsumer, _: &[TopicPartition]) {
        panic!("planted");
    }

    fn on_lost(&self, _: &kavka::GroupConsumer, _: &[TopicPartition]) {
        panic!("planted");
    }
}

#[test]
fn a_listener_that_panics_is_told_of_and_the_member_goes_on() {
    let rig = Rig::new(1, 2);
    rig.write(2, 0, 10);
    let with_listener = || {
        let consumer = ConsumerConfig::default().group_id(Some("workers".into()));
        let options = GroupOptions::default().listener(Panicking);
        let member = rig.client.group_consumer(consumer, group().group_protocol(GroupProtocol::Classic), options);
        let member = member.unwrap();
        member.subscribe(&[TOPIC]).unwrap();
        GroupConsumer::from(member)
    };
    let is_told = |member: &GroupConsumer, what: &str| {
        let error = until(what, || member.next_records(1, Duration::from_millis(50)).err());
        assert!(error.to_string().contains("the rebalance listener panicked"), "{what}: {error}");
    };
    let first = with_listener();
    is_told(&first, "on_assigned");
    let mut read = 0;
    until("all records", || {
        read += first.next_records(100, Duration::from_millis(50)).unwrap().len();
        (read == 20).then_some(())
    });

    let second = with_listener();
    is_told(&first, "on_revoked");
    is_told(&second, "on_assigned of the second member");
    let shares = || [&first, &second].map(|member| member.assignment().len());
    until("both to have a partition", || {
        // It is told that `on_assigned` panicked for the new generation, too.
        drop((first.next_records(100, Duration::from_millis(10)), second.next_records(100, Duration::from_millis(10))));
        (shares() == [1, 1]).then_some(())
    });

    rig.broker.inject(Fault::fail(ErrorCode::UNKNOWN_MEMBER_ID).api(ApiKey::Heartbeat).times(1));
    until("on_lost", || {
        let told = [&first, &second].map(|member| member.next_records(1, Duration::from_millis(10)).err());
        let lost = told.iter().flatten().any(|error| error.to_string().contains("moved on without this member"));
        lost.then_some(())
    });
    first.close(LIMIT).unwrap();
    second.close(LIMIT).unwrap();
    assert_eq!([0, 1].map(|partition| committed_of(&rig, partition)), [Some(10); 2], "all that was read is committed");
}

#[test]
fn an_offset_that_was_set_back_while_the_partition_was_away_is_committed_again() {
    let rig = Rig::new(1, 1);
    rig.write(1, 0, 10);
    let member = member(&rig, group().auto_commit_interval(Duration::from_millis(200)));
    let read_all = || {
        until("the offset behind the last record to be committed", || {
            drop(member.next_records(10, Duration::from_millis(50)).unwrap());
            (committed(&rig) == Some(10)).then_some(())
        });
    };
    read_all();
    member.subscribe::<&str>(&[]).unwrap();
    until("the member to leave", || member.assignment().is_empty().then_some(()));
    let back = Offsets::from([(TopicPartition::new(TOPIC, 0), CommittedOffset::new(5))]);
    until("the offset to be set back", || {
        // Refused as long as the group has a member.
        rig.wait(rig.client.admin().alter_group_offsets("workers", &back)).ok()
    });
    member.subscribe(&[TOPIC]).unwrap();
    read_all();
    member.close(LIMIT).unwrap();
}

#[test]
fn where_a_member_began_is_committed_before_the_partition_goes_if_it_could_not_be_committed_earlier() {
    let rig = Rig::new(1, 1);
    rig.write(1, 0, 10);
    rig.broker.inject(Fault::fail(ErrorCode::UNKNOWN_SERVER_ERROR).api(ApiKey::OffsetCommit));
    let consumer =
        ConsumerConfig::default().group_id(Some("workers".into())).auto_offset_reset(AutoOffsetReset::Latest);
    let options = GroupOptions::default().acknowledgements(&Acknowledgements::new());
    let rare = group().auto_commit_interval(Duration::from_secs(3_600));
    let member = GroupConsumer::from(rig.client.group_consumer(consumer, rare, options).unwrap());
    member.subscribe(&[TOPIC]).unwrap();
    until("the commit to fail", || {
        assert!(member.next_records(1, Duration::from_millis(50)).unwrap().is_empty());
        rig.broker.with(|cluster, _| cluster.faults().is_empty()).then_some(())
    });
    assert_eq!(committed(&rig), None);
    rig.write(1, 10, 20);
    until("a record", || member.next_record(Duration::from_millis(50)).unwrap());
    member.close(LIMIT).unwrap();
    assert_eq!(committed(&rig), Some(10), "nothing is acknowledged");
}
