//! Subscriptions to patterns, which the coordinator matches if it can.

use std::collections::BTreeSet;

use kavka_core::config::{GroupConfig, GroupProtocol};
use kavka_core::error::{Error, ErrorKind};
use kavka_core::group::assignor::Assignor;
use kavka_core::group::{MemberResponse, Strategy, TopicPattern};
use kavka_core::wire::ErrorCode;
use kavka_core::wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::{ConsumerScript as _, LETTERS, ORDERS, config, consumer, reading, snapshot};
use crate::group_kit::Script;

fn pattern_of(request: &ConsumerGroupHeartbeatRequest) -> (Option<usize>, Option<&str>) {
    (request.subscribed_topic_names.as_ref().map(Vec::len), request.subscribed_topic_regex.as_deref())
}

/// A member that has not joined, subscribed to a pattern that no topic matches.
fn with_pattern(config: GroupConfig) -> Script {
    let mut script = Script::new(config, Strategy::BuiltIn(Assignor::Range));
    script.member.handle_metadata(&snapshot(&[("orders", ORDERS)]));
    script.member.subscribe(script.now, BTreeSet::new());
    script.events();
    script.member.subscribe_pattern(script.now, TopicPattern::new("lett.*").unwrap());
    script
}

#[test]
fn the_coordinator_matches_a_pattern_also_with_topics_that_the_member_would_not() {
    let mut script = with_pattern(consumer());
    assert_eq!(script.events(), ["topics "], "it joins although it knows no such topic");
    let join = script.beat_ok(1, Some(&[]));
    assert_eq!(pattern_of(&join), (Some(0), Some("lett.*")));
    assert_eq!(script.events(), ["assigned "]);
    assert_eq!(pattern_of(&script.beat_ok(2, Some(&[(ORDERS, &[0]), (LETTERS, &[1])]))), (None, None));
    script.begin();
    assert_eq!(script.events(), ["metadata wanted", "assigned 0"]);
    script.member.handle_metadata(&snapshot(&[("orders", ORDERS), ("letters", LETTERS)]));
    script.begin();
    let owned: Vec<_> = script.member.assignment().iter().map(ToString::to_string).collect();
    assert_eq!(owned, ["letters-1", "orders-0"]);
    let acknowledgement = script.beat_ok(2, None);
    assert_eq!(pattern_of(&acknowledgement), (None, None), "new topics are no news to the coordinator");
    script.member.subscribe(script.now, BTreeSet::from(["orders".into()]));
    assert_eq!(pattern_of(&script.beat_ok(2, None)), (Some(1), Some("")), "the pattern is taken back");
    script.pass(2_000);
    script.refuse_beat(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(pattern_of(&script.take_beat().1), (Some(1), None));
}

#[test]
fn a_pattern_that_internal_topics_match_is_not_left_to_the_coordinator() {
    for pattern in [".*", "__consumer.*", "orders|__transaction_state"] {
        let mut script = with_pattern(consumer());
        script.member.subscribe_pattern(script.now, TopicPattern::new(pattern).unwrap());
        let names = usize::from(!pattern.starts_with("__"));
        if names > 0 {
            assert_eq!(pattern_of(&script.take_beat().1), (Some(names), None), "{pattern}");
        } else {
            assert!(script.poll().is_empty(), "{pattern}");
        }
    }
}

#[test]
fn a_member_matches_its_pattern_itself_where_the_coordinator_cannot() {
    let unsupported = || Err(Error::new(ErrorKind::Unsupported, "planted"));
    let mut script = with_pattern(consumer());
    let (id, _) = script.take_beat();
    script.member.handle_response(script.now, id, unsupported());
    assert!(script.poll().is_empty(), "it knows no such topic");
    script.events();
    script.member.handle_metadata(&snapshot(&[("orders", ORDERS), ("letters", LETTERS)]));
    assert_eq!(script.events(), ["topics letters"]);
    let (id, join) = script.take_beat();
    assert_eq!((join.member_epoch, pattern_of(&join)), (0, (Some(1), None)));
    script.member.handle_response(script.now, id, unsupported());
    assert_eq!(script.events().len(), 1, "the cluster has no such protocol: that is told");
}

#[test]
fn with_auto_a_member_stays_with_the_consumer_protocol_where_it_lacks_only_patterns() {
    for has_protocol in [true, false] {
        let mut script = with_pattern(config(GroupProtocol::Auto));
        script.member.handle_metadata(&snapshot(&[("orders", ORDERS), ("letters", LETTERS)]));
        let unsupported = || Err(Error::new(ErrorKind::Unsupported, "planted"));
        let (id, join) = script.take_beat();
        assert_eq!(pattern_of(&join), (Some(0), Some("lett.*")));
        script.member.handle_response(script.now, id, unsupported());
        let (id, join) = script.take_beat();
        assert_eq!((join.member_epoch, pattern_of(&join)), (0, (Some(1), None)));
        if has_protocol {
            script.answer(
                id,
                MemberResponse::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse {
                    member_epoch: 1,
                    heartbeat_interval_ms: 2_000,
                    ..Default::default()
                }),
            );
            assert!(script.member.is_stable());
        } else {
            script.member.handle_response(script.now, id, unsupported());
            script.take_join();
        }
    }
}

#[test]
fn with_auto_a_pattern_is_matched_by_the_member_once_the_group_is_a_classic_one() {
    let mut script = with_pattern(config(GroupProtocol::Auto));
    script.refuse_beat(ErrorCode::GROUP_ID_NOT_FOUND);
    assert!(script.poll().is_empty(), "no topic matches: it takes no part");
    script.member.handle_metadata(&snapshot(&[("orders", ORDERS), ("letters", LETTERS)]));
    script.take_join();
}

#[test]
fn a_member_that_reads_by_names_goes_over_to_a_pattern_of_its_own_where_the_coordinator_has_none() {
    let mut script = reading(consumer(), &[0]);
    script.member.subscribe_pattern(script.now, TopicPattern::new("ord.*").unwrap());
    let (id, beat) = script.take_beat();
    assert_eq!(pattern_of(&beat), (Some(0), Some("ord.*")));
    script.member.handle_response(script.now, id, Err(Error::new(ErrorKind::Unsupported, "planted")));
    assert_eq!(pattern_of(&script.take_beat().1), (Some(1), None));
    assert_eq!(script.member.assignment().len(), 1);
}
