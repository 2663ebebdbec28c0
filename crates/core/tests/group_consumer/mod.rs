//! The rules of a member by the consumer protocol (KIP-848), each as a script of what the coordinator and the
//! application do.

mod patterns;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kavka_core::cluster::Metadata;
use kavka_core::config::{GroupConfig, GroupProtocol};
use kavka_core::consumer::Offsets;
use kavka_core::error::{Error, ErrorKind};
use kavka_core::group::assignor::{Assignor, RebalanceProtocol};
use kavka_core::group::{MemberEvent, MemberRequest, MemberResponse, Strategy};
use kavka_core::wire::ErrorCode;
use kavka_core::wire::messages::consumer_group_heartbeat::{Assignment, TopicPartitions};
use kavka_core::wire::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};
use kavka_core::wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, MetadataResponse};
use kavka_core::wire::primitives::Uuid;

use crate::group_kit::{Script, custom, joined, key};

const ORDERS: Uuid = Uuid([1; 16]);
const LETTERS: Uuid = Uuid([2; 16]);

/// The settings of the tests: a session of 6 s (the coordinator asks for a heartbeat every 2 s), 20 s between polls.
fn config(protocol: GroupProtocol) -> GroupConfig {
    let config = GroupConfig::default().group_protocol(protocol).max_poll_interval(Duration::from_secs(20));
    match protocol {
        GroupProtocol::Auto => config,
        _ => config.session_timeout(Duration::from_secs(6)),
    }
}

fn snapshot(topics: &[(&str, Uuid)]) -> Arc<Metadata> {
    let topic = |(name, topic_id): &(&str, Uuid)| MetadataResponseTopic {
        name: Some((*name).to_owned()),
        topic_id: *topic_id,
        partitions: (0..4)
            .map(|partition_index| MetadataResponsePartition { partition_index, ..Default::default() })
            .collect(),
        ..Default::default()
    };
    let response = MetadataResponse { topics: topics.iter().map(topic).collect(), ..Default::default() };
    Arc::new(Metadata::default().merged(response, true))
}

fn script(config: GroupConfig) -> Script {
    let mut script = Script::new(config, Strategy::BuiltIn(Assignor::Range));
    script.member.handle_metadata(&snapshot(&[("orders", ORDERS)]));
    assert_eq!(script.events(), ["topics orders"]);
    script
}

/// A member that reads these partitions in member epoch 1, and has acknowledged them.
fn reading(config: GroupConfig, partitions: &[i32]) -> Script {
    let mut script = script(config);
    script.beat_ok(1, Some(&[(ORDERS, partitions)]));
    script.begin();
    script.beat_ok(1, None);
    script.events();
    script
}

fn consumer() -> GroupConfig {
    config(GroupProtocol::Consumer)
}

/// What the tests of the consumer protocol do to a [`Script`].
trait ConsumerScript {
    fn take_beat(&mut self) -> (u64, ConsumerGroupHeartbeatRequest);
    /// Answers the heartbeat with this member epoch and target; returns the heartbeat.
    fn beat_ok(&mut self, member_epoch: i32, target: Option<&[(Uuid, &[i32])]>) -> ConsumerGroupHeartbeatRequest;
    fn refuse_beat(&mut self, error_code: ErrorCode) -> ConsumerGroupHeartbeatRequest;
}

impl ConsumerScript for Script {
    fn take_beat(&mut self) -> (u64, ConsumerGroupHeartbeatRequest) {
        match self.take("consumer heartbeat") {
            (id, MemberRequest::ConsumerGroupHeartbeat(request)) => (id, request),
            _ => unreachable!(),
        }
    }

    fn beat_ok(&mut self, member_epoch: i32, target: Option<&[(Uuid, &[i32])]>) -> ConsumerGroupHeartbeatRequest {
        let (id, request) = self.take_beat();
        let topic = |(topic_id, partitions): &(Uuid, &[i32])| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.to_vec(),
        };
        let assignment = target.map(|topics| Assignment { topic_partitions: topics.iter().map(topic).collect() });
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(request.member_id.clone()),
            member_epoch,
            heartbeat_interval_ms: 2_000,
            assignment,
            ..Default::default()
        };
        self.answer(id, MemberResponse::ConsumerGroupHeartbeat(response));
        request
    }

    fn refuse_beat(&mut self, error_code: ErrorCode) -> ConsumerGroupHeartbeatRequest {
        let (id, request) = self.take_beat();
        let response = ConsumerGroupHeartbeatResponse { error_code, ..Default::default() };
        self.answer(id, MemberResponse::ConsumerGroupHeartbeat(response));
        request
    }
}

/// The partitions of `orders` that a heartbeat names.
fn owned(request: &ConsumerGroupHeartbeatRequest) -> Option<Vec<i32>> {
    let topics = request.topic_partitions.as_ref()?;
    assert!(topics.iter().all(|topic| topic.topic_id == ORDERS));
    Some(topics.iter().flat_map(|topic| topic.partitions.iter().copied()).collect())
}

#[test]
fn a_new_member_joins_with_an_id_of_its_own_and_acknowledges_what_it_has_started() {
    let mut script = script(consumer().group_remote_assignor(Some("uniform".into())));
    let join = script.beat_ok(1, Some(&[(ORDERS, &[0, 1])]));
    assert_eq!((join.member_id.len(), join.member_epoch), (22, 0));
    assert_eq!(join.subscribed_topic_names.as_deref(), Some(&["orders".to_owned()][..]));
    assert_eq!((join.rebalance_timeout_ms, join.server_assignor.as_deref()), (Some(20_000), Some("uniform")));
    assert_eq!(owned(&join), Some(vec![]));
    assert!(script.member.assignment().is_empty(), "not before the group's offsets are known");
    assert_eq!(script.poll(), ["committed"]);
    script.begin();
    assert_eq!(script.events(), ["assigned 0 1"]);
    let acknowledgement = script.beat_ok(1, None);
    assert_eq!((acknowledgement.member_epoch, owned(&acknowledgement)), (1, Some(vec![0, 1])));
    assert!(acknowledgement.subscribed_topic_names.is_none() && acknowledgement.server_assignor.is_none());
    assert!(script.member.is_stable() && script.poll().is_empty() && script.events().is_empty());
    script.pass(2_000);
    assert_eq!(owned(&script.beat_ok(1, None)), None, "nothing is new");
}

#[test]
fn a_member_commits_and_gives_up_before_it_acknowledges() {
    let mut script = reading(consumer(), &[0, 1]);
    script.pass(2_000);
    script.beat_ok(1, Some(&[(ORDERS, &[0])]));
    assert_eq!(script.events(), ["revoked 1"]);
    script.pass(2_000);
    assert_eq!(owned(&script.beat_ok(1, None)), None, "it lives, but has not given up yet");
    let number = script.commit(1, 5);
    script.member.handle_released();
    assert_eq!(script.poll(), ["commit"]);
    script.answer_commit(ErrorCode::NONE);
    assert_eq!(script.events(), [format!("committed {number}"), "assigned ".to_owned()]);
    let acknowledgement = script.beat_ok(2, None);
    assert_eq!((acknowledgement.member_epoch, owned(&acknowledgement)), (1, Some(vec![0])));
    assert_eq!(script.member.generation_id(), Some(2));
}

#[test]
fn a_member_gives_up_first_acknowledges_and_then_starts_what_is_new() {
    let mut script = reading(consumer(), &[0, 1]);
    script.pass(2_000);
    script.beat_ok(1, Some(&[(ORDERS, &[0, 2])]));
    assert_eq!(script.events(), ["revoked 1"]);
    script.member.handle_released();
    assert_eq!(script.poll(), ["committed", "consumer heartbeat"], "neither waits for the other");
    assert_eq!(owned(&script.beat_ok(2, None)), Some(vec![0, 2]), "it may have started 2 before this is answered");
    script.begin();
    assert_eq!(script.events(), ["assigned 2"]);
    assert_eq!(owned(&script.beat_ok(2, None)), Some(vec![0, 2]));
}

#[test]
fn a_partition_that_is_withdrawn_before_it_was_started_is_not_started() {
    let mut script = reading(consumer(), &[0]);
    script.pass(2_000);
    script.beat_ok(1, Some(&[(ORDERS, &[0, 1])]));
    let (late, _) = script.take("committed");
    script.pass(2_000);
    script.beat_ok(1, Some(&[(ORDERS, &[0])]));
    assert_eq!(script.events(), ["assigned "]);
    assert_eq!(owned(&script.beat_ok(2, None)), Some(vec![0]), "the coordinator waits to hear that it is without");
    script.answer(late, MemberResponse::Committed(Offsets::new()));
    assert!(script.events().is_empty());
    assert_eq!(script.member.assignment(), &BTreeSet::from([key(0)]));
}

#[test]
fn a_heartbeat_names_what_may_be_started_before_it_is_answered() {
    let mut script = reading(consumer(), &[0]);
    script.pass(2_000);
    script.beat_ok(1, Some(&[(ORDERS, &[0, 1])]));
    let (looked_up, _) = script.take("committed");
    script.pass(2_000);
    script.refuse_beat(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    script.pass(1_100);
    let (_, full) = script.take_beat();
    script.answer(looked_up, MemberResponse::Committed(Offsets::new()));
    assert_eq!(script.events(), ["assigned 1"]);
    assert_eq!(owned(&full), Some(vec![0, 1]), "or the coordinator would give 1 to another member");
}

#[test]
fn a_target_with_an_unknown_topic_asks_for_metadata_and_the_known_ones_go_first() {
    let mut script = script(consumer());
    script.beat_ok(1, Some(&[(ORDERS, &[0]), (LETTERS, &[3])]));
    assert_eq!(script.events(), ["metadata wanted"]);
    script.begin();
    assert_eq!(script.events(), ["assigned 0"]);
    assert!(!script.member.is_stable());
    let claims = script.beat_ok(1, None).topic_partitions.unwrap();
    let claims: Vec<_> = claims.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect();
    assert_eq!(claims, [(ORDERS, vec![0]), (LETTERS, vec![3])]);
    script.pass(1_000);
    assert!(script.member.poll_timeout().unwrap() <= script.now);
    assert_eq!(script.events(), ["metadata wanted"], "once a second");
    script.member.subscribe(script.now, BTreeSet::from(["letters".into(), "orders".into()]));
    script.member.handle_metadata(&snapshot(&[("orders", ORDERS), ("letters", LETTERS)]));
    script.begin();
    assert_eq!(script.events(), ["topics letters orders", "assigned 3"]);
}

#[test]
fn a_changed_subscription_goes_to_the_coordinator_at_once() {
    let mut script = reading(consumer(), &[0]);
    script.member.subscribe(script.now, BTreeSet::from(["letters".into()]));
    let request = script.beat_ok(1, None);
    assert_eq!(request.subscribed_topic_names.as_deref(), Some(&["letters".to_owned()][..]));
    assert_eq!(request.member_epoch, 1, "the member does not join again");
}

#[test]
fn what_the_application_still_gives_up_is_named_although_its_topic_is_no_longer_subscribed() {
    let mut script = reading(consumer(), &[0]);
    script.member.subscribe(script.now, BTreeSet::from(["letters".into()]));
    script.member.handle_metadata(&snapshot(&[("letters", LETTERS)]));
    script.beat_ok(2, Some(&[]));
    assert_eq!(script.events(), ["topics letters", "revoked 0"]);
    script.pass(2_000);
    script.fail("consumer heartbeat");
    script.pass(200);
    assert_eq!(owned(&script.beat_ok(2, None)), Some(vec![0]), "or the coordinator would give it to another member");
    script.member.handle_released();
    script.events();
    assert_eq!(owned(&script.beat_ok(2, None)), Some(vec![]));
}

#[test]
fn a_member_that_was_fenced_loses_everything_and_joins_anew_under_its_id() {
    for code in [ErrorCode::FENCED_MEMBER_EPOCH, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::GROUP_ID_NOT_FOUND] {
        let mut script = reading(consumer(), &[0, 1]);
        let number = script.commit(0, 5);
        script.pass(2_000);
        let id = script.refuse_beat(code).member_id;
        assert_eq!(script.events(), [format!("not committed {number}: Fenced"), "lost 0 1".to_owned()]);
        let join = script.beat_ok(7, Some(&[(ORDERS, &[0, 1])]));
        assert_eq!((join.member_id, join.member_epoch, join.topic_partitions), (id, 0, Some(vec![])));
        script.begin();
        assert_eq!(script.events(), ["assigned 0 1"], "{code}");
    }
}

#[test]
fn a_member_that_is_fenced_again_before_a_heartbeat_is_answered_waits_longer_each_time() {
    let mut script = reading(consumer(), &[0]);
    script.pass(2_000);
    let mut fence = |wait: u64| {
        script.refuse_beat(ErrorCode::UNKNOWN_MEMBER_ID);
        let begin = script.now;
        assert_eq!(script.poll().is_empty(), wait > 0);
        script.pass(wait);
        assert_eq!(script.beat_ok(7, Some(&[(ORDERS, &[0])])).member_epoch, 0, "after {:?}", script.now.since(begin));
        script.begin();
    };
    for wait in [0, 120, 240, 480] {
        fence(wait);
    }
    script.beat_ok(7, None);
    script.pass(2_000);
    script.refuse_beat(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(script.beat_ok(9, None).member_epoch, 0, "one that was answered in between counts as a new start");
}

#[test]
fn a_coordinator_that_tells_a_new_target_in_every_answer_gets_its_heartbeats_at_intervals() {
    let mut script = reading(consumer(), &[0]);
    script.pass(2_000);
    let mut waits = Vec::new();
    for round in 0..20 {
        let before = script.now;
        while !script.poll().contains(&"consumer heartbeat") {
            script.pass(10);
        }
        waits.push(script.now.since(before).as_millis());
        let (target, grows): (&[i32], _) = if round % 2 == 0 { (&[0, 1], true) } else { (&[0], false) };
        script.beat_ok(round + 2, Some(&[(ORDERS, target)]));
        if grows {
            script.begin();
        } else {
            assert_eq!(script.events().last().unwrap(), "revoked 1");
            script.member.handle_released();
        }
    }
    assert_eq!(waits[..6], [0; 6], "a group that is being sorted out is not delayed");
    assert!(waits[6..].iter().all(|wait| *wait >= 80), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 1_200), "{waits:?}");
}

#[test]
fn heartbeats_come_no_closer_than_a_tenth_of_a_second_whatever_the_broker_asks_for() {
    let mut script = reading(consumer(), &[0]);
    script.pass(2_000);
    let (id, request) = script.take_beat();
    let answer = ConsumerGroupHeartbeatResponse {
        member_id: Some(request.member_id),
        member_epoch: 1,
        heartbeat_interval_ms: 1,
        ..Default::default()
    };
    script.answer(id, MemberResponse::ConsumerGroupHeartbeat(answer));
    script.pass(99);
    assert!(script.poll().is_empty());
    script.pass(1);
    assert_eq!(script.poll(), ["consumer heartbeat"]);
}

#[test]
fn after_an_error_the_next_heartbeat_says_everything_and_nothing_is_lost() {
    let mut script = reading(consumer(), &[0, 1]);
    script.pass(2_000);
    script.fail("consumer heartbeat");
    assert!(script.poll().is_empty(), "after a pause");
    script.pass(200);
    script.refuse_beat(ErrorCode::NOT_COORDINATOR);
    script.pass(1_000);
    let full = script.beat_ok(1, Some(&[(ORDERS, &[0, 1])]));
    assert_eq!((full.member_epoch, owned(&full)), (1, Some(vec![0, 1])));
    assert!(full.subscribed_topic_names.is_some() && full.rebalance_timeout_ms.is_some());
    assert!(script.events().is_empty() && script.poll().is_empty(), "the same target is no news");
}

#[test]
fn a_member_whose_coordinator_is_silent_loses_its_partitions_at_the_end_of_the_session() {
    let mut script = reading(consumer(), &[0, 1]);
    for _ in 0..5 {
        script.pass(1_190);
        script.poll();
        assert!(script.events().is_empty());
    }
    script.pass(50);
    assert_eq!(script.events(), ["lost 0 1"]);
    assert_eq!(script.take_beat().1.member_epoch, 1, "the one that was not answered");
    assert_eq!(script.take_beat().1.member_epoch, 0);
}

#[test]
fn without_a_session_timeout_of_its_own_the_session_is_nine_heartbeats() {
    let mut script = reading(config(GroupProtocol::Auto), &[0]);
    assert_eq!(script.member.session_left(script.now), Duration::from_secs(18));
    script.pass(17_999);
    script.member.handle_poll(script.now);
    assert!(script.events().is_empty());
    script.pass(1);
    assert_eq!(script.events(), ["lost 0"]);
}

#[test]
fn a_member_whose_heartbeat_is_not_answered_yet_is_not_due_at_once() {
    for protocol in [GroupProtocol::Auto, GroupProtocol::Consumer] {
        let mut script = script(config(protocol));
        for _ in 0..3 {
            assert_eq!(script.poll(), ["consumer heartbeat"], "{protocol:?}");
            let due = script.member.poll_timeout();
            assert!(due.is_none_or(|due| due > script.now), "{protocol:?}: {due:?}");
            script.pass(1_000);
        }
    }
}

#[test]
fn a_session_timeout_shorter_than_the_brokers_heartbeats_leaves_time_for_a_lost_one() {
    let config = config(GroupProtocol::Consumer).session_timeout(Duration::from_secs(1));
    let script = reading(config.heartbeat_interval(Duration::from_millis(100)), &[0]);
    assert_eq!(script.member.session_left(script.now), Duration::from_secs(6));
}

#[test]
fn a_member_whose_application_asks_for_nothing_leaves_and_joins_again_at_the_next_poll() {
    let mut script = reading(consumer(), &[0, 1]);
    for _ in 0..10 {
        script.pass(2_000);
        script.beat_ok(1, None);
    }
    script.pass(1);
    assert_eq!(script.events(), ["lost 0 1"]);
    assert_eq!(script.beat_ok(-1, None).member_epoch, -1);
    script.pass(60_000);
    assert!(script.poll().is_empty(), "nothing before the application asks");
    script.member.handle_poll(script.now);
    assert_eq!(script.take_beat().1.member_epoch, 0);
}

#[test]
fn a_member_that_is_closed_lets_go_leaves_and_ends_and_a_static_one_may_come_back() {
    for (name, member_epoch) in [(None, -1), (Some("till-1".to_owned()), -2)] {
        let mut script = reading(consumer().group_instance_id(name.clone()), &[0, 1]);
        script.member.close();
        assert_eq!(script.events(), ["revoked 0 1"]);
        let number = script.commit(1, 7);
        script.answer_commit(ErrorCode::NONE);
        assert_eq!(script.events(), [format!("committed {number}")]);
        script.member.handle_released();
        let request = script.beat_ok(member_epoch, None);
        assert_eq!((request.member_epoch, request.instance_id), (member_epoch, name));
        assert!(script.member.has_ended() && script.poll().is_empty());
    }
}

#[test]
fn a_member_that_is_closed_while_it_joins_leaves_behind_its_join() {
    let mut script = script(consumer());
    script.poll();
    script.member.close();
    script.poll();
    let (join, _) = script.take_beat();
    let (leave, request) = script.take_beat();
    assert!(join < leave);
    assert_eq!(request.member_epoch, -1);
    let response = ConsumerGroupHeartbeatResponse { error_code: ErrorCode::UNKNOWN_MEMBER_ID, ..Default::default() };
    script.answer(leave, MemberResponse::ConsumerGroupHeartbeat(response));
    assert!(script.member.has_ended());
}

#[test]
fn a_member_whose_name_another_one_took_ends() {
    let mut script = reading(consumer().group_instance_id(Some("till-1".to_owned())), &[0, 1]);
    script.pass(2_000);
    script.refuse_beat(ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(script.events(), ["lost 0 1"]);
    assert!(script.member.has_ended() && script.poll().is_empty());
}

#[test]
fn a_member_that_is_refused_for_long_says_what_to_do_and_tries_again() {
    for (code, hint) in [
        (ErrorCode::UNSUPPORTED_ASSIGNOR, "group.consumer.assignors"),
        (ErrorCode::UNRELEASED_INSTANCE_ID, "group.instance.id"),
        (ErrorCode::GROUP_MAX_SIZE_REACHED, "group.consumer.max.size"),
        (ErrorCode::UNSUPPORTED_VERSION, "group.protocol"),
        (ErrorCode::INVALID_REGULAR_EXPRESSION, "RE2/J"),
    ] {
        let mut script = script(consumer());
        script.refuse_beat(code);
        let MemberEvent::Failed(error) = script.member.poll_event().unwrap() else {
            panic!("{code} is not told");
        };
        assert!(error.to_string().contains(hint), "{error}");
        assert!(script.poll().is_empty());
        script.pass(10_000);
        assert_eq!(script.take_beat().1.member_epoch, 0, "{code}");
    }
}

#[test]
fn what_the_coordinator_says_about_a_refusal_is_told() {
    let refuse = |script: &mut Script, error_code: ErrorCode| {
        let (id, _) = script.take_beat();
        let error_message = Some("the assignor\nis gone".to_owned());
        let response = ConsumerGroupHeartbeatResponse { error_code, error_message, ..Default::default() };
        script.answer(id, MemberResponse::ConsumerGroupHeartbeat(response));
        script.poll();
        script.member.poll_event()
    };
    let mut joining = script(consumer());
    let Some(MemberEvent::Failed(error)) = refuse(&mut joining, ErrorCode::UNSUPPORTED_ASSIGNOR) else { panic!() };
    assert_eq!(error.code(), Some(ErrorCode::UNSUPPORTED_ASSIGNOR));
    assert!(error.to_string().contains("the assignor\\nis gone"), "{error}");
    let mut reading = reading(consumer(), &[0]);
    reading.pass(2_000);
    let Some(MemberEvent::Lost { error, .. }) = refuse(&mut reading, ErrorCode::FENCED_MEMBER_EPOCH) else { panic!() };
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(error.to_string().contains("because the assignor\\nis gone"), "{error}");
}

#[test]
fn with_auto_a_cluster_or_group_with_only_the_classic_protocol_is_joined_by_it() {
    let mut by_answer = script(config(GroupProtocol::Auto));
    by_answer.refuse_beat(ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(by_answer.take_join().1.member_id, "", "the coordinator makes it");
    let mut by_version = script(config(GroupProtocol::Auto));
    let (id, _) = by_version.take_beat();
    by_version.member.handle_response(by_version.now, id, Err(Error::new(ErrorKind::Unsupported, "planted")));
    let (id, _) = by_version.take_join();
    by_version.answer(id, joined(1, "leader", &[]));
    by_version.sync(&[0]);
    by_version.begin();
    assert_eq!(by_version.events(), ["assigned 0"]);
}

#[test]
fn what_only_the_classic_protocol_obeys_keeps_auto_at_it() {
    let auto = || config(GroupProtocol::Auto);
    for config in [
        auto().session_timeout(Duration::from_secs(10)),
        auto().heartbeat_interval(Duration::from_secs(1)),
        auto().partition_assignment_strategy("range".into()),
        config(GroupProtocol::Classic),
    ] {
        script(config).take_join();
    }
    Script::new(auto(), custom(RebalanceProtocol::Eager)).take_join();
}

#[test]
fn a_commit_with_a_stale_member_epoch_is_tried_again_with_the_new_one() {
    let mut script = reading(consumer(), &[0]);
    script.commit(0, 5);
    script.pass(2_000);
    let (id, _) = script.take_beat();
    script.answer_commit(ErrorCode::STALE_MEMBER_EPOCH);
    let response =
        ConsumerGroupHeartbeatResponse { member_epoch: 2, heartbeat_interval_ms: 2_000, ..Default::default() };
    script.answer(id, MemberResponse::ConsumerGroupHeartbeat(response));
    assert!(script.events().is_empty());
    script.pass(1_000);
    let request = script.take_commit().1;
    assert_eq!(request.generation_id_or_member_epoch, Some(2));
    assert_eq!(request.member_id, script.member.member_id());
}
