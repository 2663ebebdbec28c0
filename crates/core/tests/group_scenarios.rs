//! The rules of a group member, each as a script of what the coordinator and the application do.

mod group_consumer;
mod group_kit;

use std::time::Duration;

use kavka_core::cluster::Owner;
use kavka_core::error::{Error, ErrorKind};
use kavka_core::group::assignor::{Assignment, RebalanceProtocol};
use kavka_core::group::{MemberRequest, MemberResponse, decode_assignment};
use kavka_core::wire::messages::SyncGroupResponse;
use kavka_core::wire::{ErrorCode, Uuid};

use RebalanceProtocol::{Cooperative, Eager};
use group_kit::{Script, claim, config, custom, joined, key, keys, metadata, metadata_with_id};

#[test]
fn a_new_member_joins_again_with_the_id_that_it_is_given() {
    let mut script = Script::new(config(), custom(Eager));
    assert_eq!(script.events(), ["topics orders"]);
    script.refuse_join(ErrorCode::MEMBER_ID_REQUIRED, "me");
    let (id, request) = script.take_join();
    assert_eq!(request.member_id, "me");
    script.answer(id, joined(1, "leader", &[]));
    script.sync(&[0, 1]);
    assert!(script.member.assignment().is_empty(), "not before the group's offsets are known");
    script.begin();
    assert_eq!(script.events(), ["assigned 0 1"]);
    assert!(script.member.is_stable());
}

#[test]
fn a_member_whose_coordinator_is_silent_loses_its_partitions_at_the_session_timeout() {
    for protocol in [Eager, Cooperative] {
        let mut script = Script::reading(config(), protocol, &[0, 1]);
        for _ in 0..5 {
            script.pass(1_190);
            script.poll();
            assert!(script.events().is_empty());
        }
        script.pass(50);
        assert_eq!(script.events(), ["lost 0 1"]);
        let (_, request) = script.take_join();
        assert_eq!(request.member_id, "me", "it may still have its place");
    }
}

#[test]
fn answers_that_lay_unread_while_the_process_was_frozen_beyond_its_session_do_not_count() {
    for asks_before_it_reads in [false, true] {
        for unread in ["join", "sync"] {
            let mut script = Script::new(config(), custom(Eager));
            if unread == "sync" {
                script.join(1);
            }
            assert_eq!(script.poll(), [unread]);
            script.pass(6_100);
            if asks_before_it_reads {
                script.poll();
            }
            let (id, _) = script.take_asked(unread);
            match unread {
                "join" => script.answer(id, joined(1, "leader", &[])),
                _ => script.answer_sync(id, &[0, 1]),
            }
            let asked = script.poll();
            assert_eq!(asked.last(), Some(&"join"), "{unread}, {asks_before_it_reads}: {asked:?}");
            assert_eq!(script.events(), ["topics orders"], "it starts nothing");
        }
    }
}

#[test]
fn a_member_that_was_frozen_for_a_moment_while_it_joined_proves_itself_at_once() {
    let mut script = Script::new(config(), custom(Eager));
    script.join(1);
    script.poll();
    script.pass(4_000);
    script.sync(&[0, 1]);
    assert_eq!(script.poll(), ["heartbeat", "committed"]);
    assert_eq!(script.member.session_left(script.now).as_secs(), 2);
}

#[test]
fn a_member_that_cannot_reach_its_coordinator_to_join_again_still_loses_what_it_keeps() {
    let mut script = Script::reading(config(), Cooperative, &[0, 1]);
    script.pass(2_000);
    script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    for _ in 0..5 {
        script.fail("join");
        script.pass(1_190);
        assert!(script.events().is_empty());
    }
    script.pass(50);
    assert_eq!(script.events(), ["lost 0 1"]);
}

#[test]
fn a_member_that_waits_for_a_slow_rebalance_keeps_what_it_has_while_the_coordinator_answers() {
    let mut script = Script::reading(config(), Cooperative, &[0, 1]);
    script.pass(2_000);
    script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    let (join, _) = script.take_join();
    for _ in 0..5 {
        script.pass(2_000);
        script.member.handle_poll(script.now);
        assert_eq!(script.owner("heartbeat"), Owner::Control, "the join stands in the way on the other connection");
        script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
        assert!(script.events().is_empty());
    }
    script.answer(join, joined(2, "leader", &[]));
    script.sync(&[0, 1]);
    assert_eq!(script.events(), ["assigned "]);
    assert!(script.member.is_stable(), "what heartbeats said meanwhile has been done");
}

#[test]
fn a_member_whose_place_is_gone_while_it_joins_loses_what_it_keeps() {
    let mut script = Script::reading(config(), Cooperative, &[0, 1]);
    script.pass(2_000);
    script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    let (join, _) = script.take_join();
    script.pass(2_000);
    script.beat(ErrorCode::ILLEGAL_GENERATION);
    assert!(script.events().is_empty(), "the answer to the join is on its way");
    script.pass(2_000);
    script.beat(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(script.events(), ["lost 0 1"]);
    script.answer(join, joined(2, "leader", &[]));
    assert_eq!(script.take_join().1.member_id, "");
}

#[test]
fn a_lost_heartbeat_is_followed_by_others_before_the_session_ends() {
    let mut script = Script::reading(config(), Eager, &[0, 1]);
    script.pass(2_000);
    let call = script.member.poll_request(script.now).unwrap();
    assert!(call.timeout.unwrap().as_millis() <= 2_000, "{:?}", call.timeout);
}

#[test]
fn a_member_whose_application_asks_for_nothing_leaves_and_joins_again_at_the_next_poll() {
    let mut script = Script::reading(config(), Eager, &[0, 1]);
    for _ in 0..10 {
        script.pass(2_000);
        script.beat(ErrorCode::NONE);
    }
    assert!(script.events().is_empty());
    script.pass(1);
    assert_eq!(script.events(), ["lost 0 1"]);
    script.leave();
    script.pass(60_000);
    assert!(script.poll().is_empty(), "nothing before the application asks");
    script.member.handle_poll(script.now);
    assert_eq!(script.take_join().1.member_id, "");
}

#[test]
fn a_member_that_the_coordinator_does_not_know_loses_everything_and_joins_as_a_new_one() {
    let mut script = Script::reading(config(), Eager, &[0, 1]);
    let number = script.commit(0, 5);
    script.pass(2_000);
    script.beat(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(script.events(), [format!("not committed {number}: Fenced"), "lost 0 1".to_owned()]);
    assert_eq!(script.take_join().1.member_id, "");
}

#[test]
fn a_member_whose_name_another_one_took_ends() {
    let mut script = Script::reading(config().group_instance_id(Some("till-1".to_owned())), Eager, &[0, 1]);
    script.pass(2_000);
    script.beat(ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(script.events(), ["lost 0 1"]);
    assert!(script.member.has_ended() && script.poll().is_empty());
}

#[test]
fn a_member_without_partitions_is_told_why_it_is_out_of_its_group() {
    let static_member = config().group_instance_id(Some("till-1".to_owned()));
    let mut script = Script::new(static_member, custom(Eager));
    script.join(1);
    script.sync(&[]);
    script.events();
    script.pass(2_000);
    script.beat(ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(script.events(), ["failed: Fenced"]);
}

#[test]
fn a_coordinator_that_refuses_every_join_is_asked_after_pauses() {
    let mut script = Script::new(config(), custom(Eager));
    for code in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::REBALANCE_IN_PROGRESS, ErrorCode::ILLEGAL_GENERATION] {
        script.refuse_join(code, "");
        assert!(script.poll().is_empty(), "{code}");
        script.pass(2_000);
    }
}

#[test]
fn a_commit_during_a_rebalance_is_tried_again_in_the_generation_that_follows() {
    for code in [ErrorCode::REBALANCE_IN_PROGRESS, ErrorCode::ILLEGAL_GENERATION] {
        let mut script = Script::reading(config(), Cooperative, &[0, 1]);
        script.pass(2_000);
        script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
        let (join, _) = script.take_join();
        script.commit(0, 5);
        script.poll();
        script.answer(join, joined(2, "leader", &[]));
        script.answer_commit(code);
        assert!(script.events().is_empty(), "{code} while the member has the partition");
        script.sync(&[0, 1]);
        script.pass(2_000);
        assert_eq!(script.take_commit().1.generation_id_or_member_epoch, Some(2));
    }
}

#[test]
fn a_commit_for_a_topic_that_was_created_again_is_refused_once_and_asks_for_metadata_in_between() {
    let mut script = Script::reading(config(), Cooperative, &[0, 1]);
    let renew = |script: &mut Script, id: u8| {
        script.member.handle_metadata(&metadata_with_id(&[("orders", 4)], Uuid([id; 16])));
    };
    renew(&mut script, 1);
    let number = script.commit(0, 5);
    script.poll();
    script.answer_commit(ErrorCode::UNKNOWN_TOPIC_ID);
    assert_eq!(script.events(), ["metadata wanted"]);
    renew(&mut script, 2);
    script.pass(1_000);
    let told = script.events();
    assert!(told.len() == 1 && told[0].starts_with(&format!("not committed {number}: Broker")), "{told:?}");
    assert_eq!(script.poll(), [""; 0]);
    script.commit(0, 1);
    assert_eq!(script.take_commit().1.topics[0].topic_id, Uuid([2; 16]));
}

#[test]
fn a_member_joins_only_when_its_commits_are_answered() {
    let mut script = Script::reading(config(), Eager, &[0, 1]);
    script.pass(2_000);
    script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(script.events(), ["revoked 0 1"]);
    let number = script.commit(0, 5);
    script.member.handle_released();
    assert_eq!(script.poll(), ["commit"]);
    script.answer_commit(ErrorCode::NONE);
    assert_eq!(script.poll(), ["join"]);
    assert_eq!(script.events(), [format!("committed {number}")]);
}

#[test]
fn a_commit_that_was_given_up_but_may_still_arrive_keeps_the_member_from_joining() {
    for is_answered in [true, false] {
        let mut script = Script::reading(config(), Eager, &[0, 1]);
        script.pass(2_000);
        script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
        assert_eq!(script.events(), ["revoked 0 1"]);
        let number = script.commit_within(0, 5, Duration::from_millis(500));
        script.member.handle_released();
        assert_eq!(script.poll(), ["commit"]);
        script.pass(500);
        assert_eq!(script.events(), [format!("not committed {number}: TimedOut(Request)")]);
        assert_eq!(script.poll(), ["commit"], "the coordinator may apply it after the next owner has begun");
        assert!(script.member.poll_timeout().is_none_or(|due| due > script.now));
        if is_answered {
            script.answer_commit(ErrorCode::NONE);
        } else {
            script.fail("commit");
        }
        assert_eq!(script.poll(), ["join"]);
    }
}

#[test]
fn a_member_has_nothing_to_commit_for_once_it_has_given_up_a_partition() {
    let mut script = Script::reading(config(), Eager, &[0, 1]);
    script.pass(2_000);
    script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    script.events();
    script.commit(0, 5);
    script.member.handle_released();
    assert!(script.member.assignment().is_empty());
}

#[test]
fn a_member_that_lost_partitions_while_its_application_gave_them_up_joins_when_that_is_done() {
    let mut script = Script::reading(config(), Eager, &[0, 1]);
    script.pass(2_000);
    script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(script.events(), ["revoked 0 1"]);
    script.pass(2_000);
    script.beat(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(script.events(), ["lost 0 1"]);
    assert_eq!(script.poll(), [""; 0], "a last commit must not look like one of the next generation");
    assert!(script.member.poll_timeout().is_none_or(|due| due > script.now));
    script.member.handle_released();
    assert_eq!(script.poll(), ["join"]);
}

#[test]
fn a_leader_that_gives_something_up_joins_again_at_once() {
    let mut script = Script::reading(config(), Cooperative, &[0, 1]);
    script.pass(2_000);
    script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    let (id, _) = script.take_join();
    script.answer(id, joined(2, "me", &[("me", "orders"), ("you", "orders")]));
    script.poll();
    let shares = Assignment::from([("me".to_owned(), keys(&[0])), ("you".to_owned(), Vec::new())]);
    script.member.handle_assignment(script.now, Ok(shares));
    script.sync(&[0]);
    script.member.handle_released();
    assert_eq!(script.poll(), ["join"]);
}

#[test]
fn a_leader_waits_for_the_metadata_of_topics_that_others_want() {
    let mut script = Script::new(config(), custom(Eager));
    script.events();
    let (id, _) = script.take_join();
    script.answer(id, joined(1, "me", &[("me", "orders"), ("you", "letters")]));
    assert_eq!(script.events(), ["topics letters orders"]);
    script.member.handle_metadata(&metadata(&[("orders", 4), ("letters", 1)]));
    assert_eq!(script.events(), ["assignment wanted"]);
    let shares = Assignment::from([("me".to_owned(), keys(&[0])), ("you".to_owned(), Vec::new())]);
    script.member.handle_assignment(script.now, Ok(shares));
    assert_eq!(script.poll(), ["sync"]);
}

#[test]
fn a_leader_lets_the_topics_of_others_go_when_it_leads_no_more() {
    let mut script = Script::new(config(), custom(Eager));
    script.events();
    for (leader, topics) in [("me", vec!["topics letters orders"]), ("you", vec!["topics orders"]), ("you", vec![])] {
        let (id, _) = script.take_join();
        script.answer(id, joined(1, leader, &[("me", "orders"), ("you", "letters")]));
        let told: Vec<String> = script.events().into_iter().filter(|event| event.starts_with("topics")).collect();
        assert_eq!(told, topics);
        script.member.handle_metadata(&metadata(&[("orders", 4), ("letters", 1)]));
        script.member.handle_assignment(script.now, Ok(Assignment::new()));
        let (id, _) = script.take("sync");
        let error_code = ErrorCode::REBALANCE_IN_PROGRESS;
        script.answer(id, MemberResponse::Sync(SyncGroupResponse { error_code, ..Default::default() }));
        script.pass(200);
    }
}

#[test]
fn a_leader_has_the_group_join_again_when_a_topic_appears_that_it_knew_nothing_of() {
    let mut script = Script::new(config(), custom(Eager));
    script.events();
    let (id, _) = script.take_join();
    script.answer(id, joined(1, "me", &[("me", "orders"), ("you", "letters")]));
    script.pass(5_000);
    assert_eq!(script.events(), ["topics letters orders", "assignment wanted"]);
    script.member.handle_assignment(script.now, Ok(Assignment::new()));
    script.sync(&[]);
    script.events();
    assert!(script.member.is_stable());
    script.member.handle_metadata(&metadata(&[("orders", 4), ("letters", 1)]));
    assert_eq!(script.poll().last(), Some(&"join"));
}

#[test]
fn what_a_strategy_worked_out_for_an_earlier_generation_is_not_used() {
    let mut script = Script::new(config(), custom(Eager));
    let (id, _) = script.take_join();
    script.answer(id, joined(1, "me", &[("me", "orders")]));
    script.poll();
    script.pass(2_000);
    script.beat(ErrorCode::UNKNOWN_MEMBER_ID);
    let (id, _) = script.take_join();
    script.answer(id, joined(2, "me", &[("me", "orders"), ("you", "orders")]));
    assert_eq!(script.events(), ["topics orders", "assignment wanted", "assignment wanted"]);
    script.member.handle_assignment(script.now, Ok(Assignment::new()));
    assert!(script.poll().is_empty(), "the answer was to the first question");
    script.member.handle_assignment(script.now, Ok(Assignment::new()));
    assert_eq!(script.poll(), ["sync"]);
}

#[test]
fn a_leader_that_is_closed_in_a_rebalance_leaves_everything_as_it_is_and_does_not_ask_the_application() {
    let mut script = Script::reading(config(), Cooperative, &[0, 1]);
    script.pass(2_000);
    script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    let (id, _) = script.take_join();
    script.member.close();
    let mut joined = joined(2, "me", &[("me", "orders"), ("you", "orders"), ("old", "orders")]);
    claim(&mut joined, "me", &keys(&[0, 1]));
    claim(&mut joined, "you", &keys(&[2]));
    script.answer(id, joined);
    assert_eq!(script.events(), ["revoked 0 1"]);
    let (_, MemberRequest::Sync(sync)) = script.take("sync") else { panic!("another request") };
    let shares = sync.assignments.into_iter().map(|share| {
        let partitions = decode_assignment(&share.assignment).unwrap();
        (share.member_id, partitions)
    });
    let expected = [("me", keys(&[0, 1])), ("old", Vec::new()), ("you", keys(&[2]))];
    assert_eq!(shares.collect::<Vec<_>>(), expected.map(|(member_id, share)| (member_id.to_owned(), share)));
}

#[test]
fn by_the_cooperative_protocol_only_what_goes_is_given_up_and_the_member_joins_again() {
    let mut script = Script::reading(config(), Cooperative, &[0, 1]);
    script.pass(2_000);
    script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    assert!(script.events().is_empty(), "it reads on");
    script.join(2);
    script.sync(&[0]);
    assert_eq!(script.events(), ["revoked 1"]);
    assert!(script.member.assignment().contains(&key(0)));
    script.member.handle_released();
    assert_eq!(script.poll(), ["join"]);
    assert!(script.take_join().1.reason.unwrap().contains("given up"));
}

#[test]
fn a_member_that_missed_a_generation_because_its_join_was_in_vain_loses_its_partitions() {
    let mut script = Script::reading(config(), Cooperative, &[0, 1]);
    script.pass(2_000);
    script.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    let (first, _) = script.take_join();
    script.pass(2_000);
    script.beat(ErrorCode::ILLEGAL_GENERATION);
    assert!(script.events().is_empty(), "the answer to its JoinGroup may be on its way");
    let lost = Error::new(ErrorKind::Disconnected, "the connection was lost");
    script.member.handle_response(script.now, first, Err(lost));
    script.pass(1_100);
    script.take_join();
    assert_eq!(script.events(), ["lost 0 1"]);
}

/// Beats for a little more than a session.
fn a_session_passes(script: &mut Script) {
    for _ in 0..4 {
        script.pass(1_600);
        if script.poll().contains(&"heartbeat") {
            script.beat(ErrorCode::NONE);
        }
    }
}

#[test]
fn a_leader_has_the_group_join_again_when_nobody_says_that_a_partition_was_given_up() {
    for (share, joins_again) in [(keys(&[0, 1]), true), (keys(&[0, 1, 2]), false)] {
        let mut script = Script::new(config(), custom(Cooperative));
        let (id, _) = script.take_join();
        let mut joined = joined(1, "me", &[("me", "orders"), ("you", "orders")]);
        claim(&mut joined, "you", &keys(&[0, 1, 2]));
        script.answer(id, joined);
        script.poll();
        let shares = Assignment::from([("me".to_owned(), keys(&[3])), ("you".to_owned(), share)]);
        script.member.handle_assignment(script.now, Ok(shares));
        script.sync(&[3]);
        script.begin();
        assert_eq!(script.poll(), [""; 0], "the owner has time to give up partition 2");
        a_session_passes(&mut script);
        assert_eq!(script.poll().contains(&"join"), joins_again);
    }
}

#[test]
fn a_leader_that_starts_again_cannot_know_what_is_between_two_owners_so_the_group_joins_again() {
    for (protocol, joins_again) in [(Cooperative, true), (Eager, false)] {
        let mut script = Script::new(config().group_instance_id(Some("desk".to_owned())), custom(protocol));
        let (id, _) = script.take_join();
        let mut joined = joined(1, "me", &[("me", "orders"), ("you", "orders")]);
        if let MemberResponse::Join(response) = &mut joined {
            response.skip_assignment = true;
        }
        script.answer(id, joined);
        script.sync(&[3]);
        script.begin();
        a_session_passes(&mut script);
        assert_eq!(script.poll().contains(&"join"), joins_again);
    }
}

#[test]
fn a_member_that_waits_is_not_due_at_once() {
    let steps: [fn(&mut Script); 6] = [
        |script| script.pass(2_000),
        |script| script.beat(ErrorCode::REBALANCE_IN_PROGRESS),
        |script| script.member.handle_released(),
        |script| script.pass(2_500),
        |script| script.fail("join"),
        |script| script.join(2),
    ];
    for protocol in [Eager, Cooperative] {
        let mut script = Script::reading(config(), protocol, &[0, 1]);
        for (number, step) in steps.iter().enumerate() {
            step(&mut script);
            script.events();
            let due = script.member.poll_timeout();
            assert!(due.is_none_or(|due| due > script.now), "{protocol:?}, step {number}");
            script.pass(1_000);
        }
    }
}
