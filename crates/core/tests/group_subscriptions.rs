//! What a group's member subscribes to, how it leaves, and a coordinator that makes it wait.

mod group_kit;

use std::collections::BTreeSet;
use std::sync::Arc;

use kavka_core::cluster::{Metadata, Owner};
use kavka_core::error::ErrorKind;
use kavka_core::group::assignor::{Assignment, RebalanceProtocol};
use kavka_core::group::{MemberResponse, TopicPattern};
use kavka_core::wire::ErrorCode;
use kavka_core::wire::messages::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use kavka_core::wire::messages::{HeartbeatResponse, LeaveGroupResponse, MetadataResponse};

use RebalanceProtocol::{Cooperative, Eager};
use group_kit::{Script, config, custom, joined, keys, metadata};

fn topics(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

#[test]
fn a_member_without_topics_gives_up_what_it_has_leaves_and_comes_back_when_it_has_some() {
    for protocol in [Eager, Cooperative] {
        let mut script = Script::reading(config(), protocol, &[0, 1]);
        script.member.subscribe(script.now, BTreeSet::new());
        assert_eq!(script.events(), ["topics ", "revoked 0 1"]);
        script.member.handle_released();
        script.leave();
        script.member.handle_poll(script.now);
        assert!(script.poll().is_empty(), "it takes no part");
        script.member.subscribe(script.now, topics(&["orders"]));
        assert_eq!(script.take_join().1.member_id, "", "it is a new member");
    }
}

#[test]
fn a_member_that_subscribes_again_while_it_gives_up_everything_joins_when_it_has() {
    let mut script = Script::reading(config(), Eager, &[0]);
    script.member.subscribe(script.now, BTreeSet::new());
    script.member.subscribe(script.now, topics(&["letters"]));
    script.events();
    script.member.handle_released();
    assert_eq!(script.poll(), ["leave", "join"]);
}

/// A member that has partitions 0 and 1, and whose group rebalances; it has asked to join, and perhaps was let in.
fn between_generations(begun: &str) -> Script {
    let mut script = Script::reading(config(), Cooperative, &[0, 1]);
    script.pass(2_000);
    script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    script.poll();
    if begun == "syncing" {
        script.join(2);
    }
    script
}

#[test]
fn the_last_commits_of_a_member_that_unsubscribes_in_a_rebalance_are_sent_again_in_the_next_generation() {
    for begun in ["joining", "syncing"] {
        let mut script = between_generations(begun);
        script.member.subscribe(script.now, BTreeSet::new());
        assert_eq!(script.events(), ["topics ", "revoked 0 1"]);
        let number = script.commit(1, 7);
        script.member.handle_released();
        script.answer_commit(ErrorCode::ILLEGAL_GENERATION);
        assert!(!script.poll().contains(&"leave"), "nothing is committed yet");
        if begun == "joining" {
            script.join(2);
        }
        script.sync(&[0]);
        script.pass(1_100);
        assert_eq!(script.answer_commit(ErrorCode::NONE), Some(2));
        assert_eq!(script.events(), [format!("committed {number}")]);
        script.leave();
        script.member.handle_poll(script.now);
        assert!(script.poll().is_empty(), "it takes no part");
        script.member.subscribe(script.now, topics(&["orders"]));
        assert_eq!(script.take_join().1.member_id, "", "it is a new member");
    }
}

#[test]
fn a_member_that_unsubscribes_in_a_rebalance_does_not_wait_for_its_end_once_its_commits_are_accepted() {
    for is_closed_meanwhile in [false, true] {
        let mut script = between_generations("joining");
        script.member.subscribe(script.now, BTreeSet::new());
        script.commit(1, 7);
        script.member.handle_released();
        if is_closed_meanwhile {
            script.member.close();
        }
        assert!(!script.poll().contains(&"leave"), "the commit is not answered yet");
        script.answer_commit(ErrorCode::NONE);
        script.leave();
        assert_eq!(script.member.has_ended(), is_closed_meanwhile);
    }
}

#[test]
fn a_member_that_subscribes_again_while_it_leaves_in_a_rebalance_gives_up_everything_once_and_joins_anew() {
    let mut script = between_generations("syncing");
    script.member.subscribe(script.now, BTreeSet::new());
    script.member.subscribe(script.now, topics(&["letters"]));
    script.member.subscribe(script.now, BTreeSet::new());
    script.member.subscribe(script.now, topics(&["letters"]));
    let revoked = script.events().into_iter().filter(|event| event.starts_with("revoked")).count();
    assert_eq!(revoked, 1);
    script.sync(&[0]);
    assert!(!script.poll().contains(&"join"), "it has not given up everything yet");
    script.member.handle_released();
    script.leave();
    assert_eq!(script.take_join().1.member_id, "", "it is a new member");
}

#[test]
fn a_member_that_loses_its_place_while_it_unsubscribes_in_a_rebalance_is_away() {
    let mut script = between_generations("joining");
    script.member.subscribe(script.now, BTreeSet::new());
    assert_eq!(script.events(), ["topics ", "revoked 0 1"]);
    let number = script.commit(1, 7);
    script.refuse_join(ErrorCode::UNKNOWN_MEMBER_ID, "");
    assert_eq!(script.events(), [format!("not committed {number}: Fenced"), "lost 0 1".to_owned()]);
    script.member.handle_released();
    script.fail("commit");
    assert!(!script.poll().contains(&"join"), "it takes no part");
    script.member.subscribe(script.now, topics(&["orders"]));
    script.pass(1_000);
    assert!(script.poll().contains(&"join"));
}

#[test]
fn a_member_that_loses_its_place_while_it_unsubscribes_does_not_join() {
    let mut script = Script::reading(config(), Eager, &[0]);
    script.member.subscribe(script.now, BTreeSet::new());
    script.pass(6_000);
    assert_eq!(script.events(), ["topics ", "revoked 0", "lost 0"]);
    assert!(script.poll().is_empty());
}

#[test]
fn a_pattern_takes_in_the_topics_that_match_as_they_come_and_go() {
    let mut script = Script::new(config(), custom(Eager));
    script.member.subscribe(script.now, BTreeSet::new());
    script.events();
    script.member.subscribe_pattern(script.now, TopicPattern::new("bill.*").unwrap());
    assert!(script.poll().is_empty(), "nothing matches: it takes no part");
    script.member.handle_metadata(&metadata(&[("orders", 4), ("bills", 1), ("old-bills", 1)]));
    assert_eq!(script.events(), ["topics bills"]);
    script.join(1);
    script.sync(&[]);
    assert!(script.member.is_stable());
    script.events();
    script.member.handle_metadata(&metadata(&[("bills", 1), ("bills-2", 1)]));
    assert_eq!(script.events(), ["topics bills bills-2"]);
    assert!(script.take_join().1.reason.unwrap().contains("subscription changed"));
    script.member.handle_metadata(&metadata(&[("orders", 1)]));
    assert_eq!(script.poll(), ["leave"]);
}

#[test]
fn internal_topics_match_no_pattern() {
    let partitions = vec![MetadataResponsePartition::default()];
    let topic = |name: &str, is_internal| MetadataResponseTopic {
        name: Some(name.into()),
        is_internal,
        partitions: partitions.clone(),
        ..Default::default()
    };
    let topics = vec![topic("__consumer_offsets", true), topic("orders", false)];
    let snapshot = Metadata::default().merged(MetadataResponse { topics, ..Default::default() }, true);
    let mut script = Script::new(config(), custom(Eager));
    script.events();
    script.member.subscribe_pattern(script.now, TopicPattern::new(".*").unwrap());
    script.member.subscribe(script.now, BTreeSet::new());
    script.member.handle_metadata(&Arc::new(snapshot));
    script.events();
    script.member.subscribe_pattern(script.now, TopicPattern::new(".*").unwrap());
    assert_eq!(script.events(), ["topics orders"]);
}

#[test]
fn a_pattern_must_match_the_whole_name_and_be_a_regular_expression() {
    let pattern = TopicPattern::new("a|b").unwrap();
    assert!(pattern.matches("a") && pattern.matches("b") && !pattern.matches("ab"));
    let refused = TopicPattern::new("(").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misuse);
    assert!(refused.to_string().contains("\"(\""), "{refused}");
}

/// `orders` with one partition, which has a replica in each of these racks.
fn in_racks(racks: &[Option<&str>]) -> Arc<Metadata> {
    let ids = || (1..).zip(racks.iter().copied());
    let broker = |(node_id, rack): (i32, Option<&str>)| MetadataResponseBroker {
        node_id,
        host: "kafka".into(),
        port: 9092,
        rack: rack.map(Into::into),
    };
    let replica_nodes = ids().map(|(id, _)| id).collect();
    let partitions = vec![MetadataResponsePartition { leader_id: Some(1), replica_nodes, ..Default::default() }];
    let topics = vec![MetadataResponseTopic { name: Some("orders".into()), partitions, ..Default::default() }];
    // A rack of nothing stands for a broker that is away.
    let brokers = ids().filter(|(_, rack)| rack.is_some()).map(broker).collect();
    Arc::new(Metadata::default().merged(MetadataResponse { brokers, topics, ..Default::default() }, true))
}

fn leading_in(rack: Option<&str>) -> Script {
    let mut script = Script::in_rack(config(), custom(Cooperative), rack);
    script.member.handle_metadata(&in_racks(&[Some("east"), Some("west")]));
    let (id, _) = script.take_join();
    script.answer(id, joined(1, "me", &[("me", "orders")]));
    script.events();
    script.member.handle_assignment(script.now, Ok(Assignment::from([("me".to_owned(), keys(&[0]))])));
    script.sync(&[0]);
    script.begin();
    script.events();
    assert!(script.member.is_stable());
    script
}

#[test]
fn a_leader_in_a_rack_has_the_group_join_again_when_replicas_move_to_other_racks() {
    let mut script = leading_in(Some("east"));
    script.member.handle_metadata(&in_racks(&[Some("east"), None]));
    assert!(script.poll().is_empty(), "a broker that is away moves nothing");
    script.member.handle_metadata(&in_racks(&[Some("east"), Some("north")]));
    assert_eq!(script.poll(), ["join"]);
    let mut script = leading_in(None);
    script.member.handle_metadata(&in_racks(&[Some("east"), Some("north")]));
    assert!(script.poll().is_empty(), "a leader without a rack does not look at racks, as Java's");
}

/// A member of generation 1 that was given nothing.
fn without_a_share() -> Script {
    let mut script = Script::new(config(), custom(Eager));
    script.join(1);
    script.sync(&[]);
    script.events();
    script
}

#[test]
fn a_good_bye_that_was_refused_is_said_again_until_the_session_is_over() {
    let closed = || {
        let mut script = without_a_share();
        script.member.close();
        script
    };
    let refuse = |script: &mut Script| {
        let (id, _) = script.take("leave");
        let error_code = ErrorCode::NOT_COORDINATOR;
        script.answer(id, MemberResponse::Leave(LeaveGroupResponse { error_code, ..Default::default() }));
    };
    let mut script = closed();
    refuse(&mut script);
    assert!(!script.member.has_ended());
    assert!(script.poll().is_empty(), "not at once");
    script.now = script.member.poll_timeout().unwrap();
    script.fail("leave");
    script.now = script.member.poll_timeout().unwrap();
    script.leave();
    assert!(script.member.has_ended());

    let mut script = closed();
    let over = script.now.0 + 6_000;
    while !script.member.has_ended() {
        refuse(&mut script);
        script.now = script.member.poll_timeout().unwrap_or(script.now);
        assert!(script.now.0 <= over);
    }
}

#[test]
fn a_member_whose_coordinator_falls_silent_while_it_waits_for_others_joins_again() {
    for has_a_place in [false, true] {
        let mut script = if has_a_place {
            let mut script = without_a_share();
            script.pass(2_000);
            script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
            script
        } else {
            Script::new(config(), custom(Eager))
        };
        let (old, _) = script.take_join();
        script.pass(2_000);
        assert_eq!(script.owner("heartbeat"), Owner::Control, "the join waits on the other connection");
        script.pass(2_000);
        script.fail("heartbeat");
        assert_eq!(script.poll(), ["heartbeat"]);
        script.pass(2_000);
        script.fail("heartbeat");
        script.pass(1_000);
        let (new, request) = script.take_join();
        assert!(request.reason.is_some());
        script.answer(old, joined(1, "leader", &[]));
        assert!(script.poll().is_empty(), "the answer to the join that was given up comes too late");
        script.answer(new, joined(2, "leader", &[]));
        assert_eq!(script.poll(), ["sync"]);
    }
}

#[test]
fn a_member_waits_for_others_as_long_as_its_coordinator_answers_anything() {
    let mut script = Script::new(config(), custom(Eager));
    let (id, _) = script.take_join();
    for _ in 0..20 {
        script.pass(2_000);
        script.member.handle_poll(script.now);
        let (beat, _) = script.take("heartbeat");
        let error_code = ErrorCode::UNKNOWN_MEMBER_ID;
        script.answer(beat, MemberResponse::Heartbeat(HeartbeatResponse { error_code, ..Default::default() }));
        assert!(script.poll().is_empty());
    }
    script.answer(id, joined(1, "leader", &[]));
    assert_eq!(script.poll(), ["sync"]);
}

#[test]
fn a_member_that_is_closed_lets_go_leaves_and_ends() {
    let mut script = Script::reading(config(), Eager, &[0, 1]);
    script.member.close();
    assert_eq!(script.events(), ["revoked 0 1"]);
    let number = script.commit(1, 7);
    script.answer_commit(ErrorCode::NONE);
    assert_eq!(script.events(), [format!("committed {number}")]);
    script.member.handle_released();
    script.leave();
    assert!(script.member.has_ended());
}

#[test]
fn a_member_can_be_closed_in_every_state_and_ends() {
    for state in ["unjoined", "joining", "syncing", "beginning"] {
        for protocol in [Eager, Cooperative] {
            for closed_while_it_has in [&[][..], &[0]] {
                if protocol == Eager && !closed_while_it_has.is_empty() {
                    continue;
                }
                let mut script = if closed_while_it_has.is_empty() {
                    Script::new(config(), custom(protocol))
                } else {
                    let mut script = Script::reading(config(), protocol, closed_while_it_has);
                    script.pass(2_000);
                    script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
                    script
                };
                let join = (state != "unjoined").then(|| script.take_join().0);
                let late = join.filter(|_| state == "joining");
                if state != "joining"
                    && let Some(join) = join
                {
                    script.answer(join, joined(2, "leader", &[]));
                }
                if state == "beginning" {
                    script.sync(&[0, 1, 2]);
                }
                script.member.close();
                if let Some(join) = late {
                    script.answer(join, joined(2, "leader", &[]));
                }
                if script.events().iter().any(|event| event.starts_with("revoked")) {
                    assert!(!script.member.has_ended());
                    script.member.handle_released();
                }
                if script.poll().contains(&"leave") {
                    assert_eq!(script.owner("leave"), Owner::Control, "a join may wait on the other connection");
                    script.leave();
                }
                assert!(script.member.has_ended(), "{state}, {protocol:?}, it has {closed_while_it_has:?}");
                assert!(script.member.assignment().is_empty());
            }
        }
    }
}

#[test]
fn the_last_commits_of_a_member_that_is_closed_in_a_rebalance_are_sent_again_in_the_next_generation() {
    for begun in ["joining", "syncing"] {
        let mut script = between_generations(begun);
        script.member.close();
        assert_eq!(script.events(), ["revoked 0 1"]);
        let number = script.commit(1, 7);
        script.member.handle_released();
        script.answer_commit(ErrorCode::ILLEGAL_GENERATION);
        assert!(!script.poll().contains(&"leave"), "nothing is committed yet");
        if begun == "joining" {
            script.join(2);
        }
        script.sync(&[0]);
        script.pass(1_100);
        assert_eq!(script.answer_commit(ErrorCode::NONE), Some(2));
        assert_eq!(script.events(), [format!("committed {number}")]);
        script.leave();
        assert!(script.member.has_ended());
    }
}

#[test]
fn a_member_that_is_closed_in_a_rebalance_does_not_wait_for_its_end_once_its_commits_are_accepted() {
    let mut script = between_generations("joining");
    script.member.close();
    script.commit(1, 7);
    script.member.handle_released();
    assert!(!script.poll().contains(&"leave"), "the commit is not answered yet");
    script.answer_commit(ErrorCode::NONE);
    script.leave();
    assert!(script.member.has_ended());
}

#[test]
fn a_member_that_is_closed_while_it_gives_up_a_part_is_asked_for_the_rest_too() {
    let mut script = Script::reading(config(), Cooperative, &[0, 1]);
    script.pass(2_000);
    script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    script.join(2);
    script.sync(&[0]);
    assert_eq!(script.events(), ["revoked 1"]);
    script.member.close();
    script.member.handle_released();
    assert_eq!(script.events(), ["revoked 0"]);
    script.member.handle_released();
    script.leave();
    assert!(script.member.has_ended());
}
