//! Members of classic groups: which are admitted, what they are told, and which are removed.

use std::time::Duration;

use kavka_core::wire::messages::join_group::JoinGroupRequestProtocol;
use kavka_core::wire::messages::{JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, SyncGroupRequest};
use kavka_core::wire::{ApiKey, ErrorCode};

use crate::cluster::{Cluster, until};
use crate::group_kit::{Group, JOIN};

on_every_broker!(
    a_new_member_is_told_its_id_and_joins_with_it,
    a_member_of_an_old_version_joins_at_once,
    a_session_timeout_out_of_bounds_is_refused,
    a_member_without_a_common_assignor_is_refused,
    a_member_id_that_nobody_gave_out_is_refused,
    only_the_leader_learns_of_the_members,
    the_assignor_that_most_prefer_is_chosen,
    shares_come_when_the_leader_has_assigned,
    a_sync_for_another_assignor_is_refused,
    a_member_that_asks_again_unchanged_stays_in_its_generation,
    a_leader_that_joins_again_starts_a_rebalance,
    a_member_with_a_new_subscription_starts_a_rebalance,
    a_member_that_waits_for_its_share_is_told_of_a_rebalance,
    a_stale_generation_is_refused,
    who_does_not_join_again_in_time_is_dropped,
    who_never_asks_for_its_share_is_dropped,
    a_member_that_falls_silent_is_dropped,
    a_promised_member_id_that_leaves_is_forgotten,
    who_leaves_is_told_one_by_one,
    the_last_member_leaves_an_empty_group,
    groups_are_listed_by_state_and_type,
);

const RANGE: [(&str, &str); 1] = [("range", "t")];

fn a_new_member_is_told_its_id_and_joins_with_it(cluster: &Cluster) {
    for version in cluster.connect(1).versions(ApiKey::JoinGroup).filter(|version| *version >= 4) {
        let group = Group::new(cluster);
        let mut connection = group.connect();
        let answer = connection.call_version(version, &group.join_request("", &RANGE));
        assert_eq!((answer.error_code, answer.generation_id), (ErrorCode::MEMBER_ID_REQUIRED, None), "v{version}");
        assert!(answer.member_id.starts_with("fidelity-"), "{}", answer.member_id);
        let joined = connection.call_version(version, &group.join_request(&answer.member_id, &RANGE));
        assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, Some(1)));
        assert_eq!((&joined.leader, &joined.member_id), (&answer.member_id, &answer.member_id));
        assert_eq!((joined.protocol_name.as_deref(), joined.members.len()), (Some("range"), 1));
        assert_eq!(joined.protocol_type.as_deref(), (version >= 7).then_some("consumer"));
    }
}

fn a_member_of_an_old_version_joins_at_once(cluster: &Cluster) {
    let group = Group::new(cluster);
    let answer = group.connect().call_version(3, &group.join_request("", &RANGE));
    assert_eq!((answer.error_code, answer.generation_id), (ErrorCode::NONE, Some(1)));
}

fn a_session_timeout_out_of_bounds_is_refused(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut connection = group.connect();
    for session_timeout_ms in [999, 1_800_001] {
        let request = JoinGroupRequest { session_timeout_ms, ..group.join_request("", &RANGE) };
        assert_eq!(connection.call_version(JOIN, &request).error_code, ErrorCode::INVALID_SESSION_TIMEOUT);
    }
}

fn a_member_without_a_common_assignor_is_refused(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut leader = group.lead();
    let mut refuse = |request: &JoinGroupRequest| {
        let answer = leader.connection.call_version(JOIN, request);
        assert_eq!(answer.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    };
    refuse(&group.join_request("", &[("sticky", "t")]));
    refuse(&JoinGroupRequest { protocol_type: "connect".into(), ..group.join_request("", &RANGE) });
    refuse(&group.join_request("", &[]));
}

fn a_member_id_that_nobody_gave_out_is_refused(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut connection = group.connect();
    let join = group.join_request("nobody", &RANGE);
    assert_eq!(connection.call_version(JOIN, &join).error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(group.heartbeat(&mut connection, "nobody", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    let sync = group.sync_request("nobody", 1, &[]);
    assert_eq!(connection.call(&sync).error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(group.leave(&mut connection, "nobody", None), ErrorCode::UNKNOWN_MEMBER_ID);
}

fn only_the_leader_learns_of_the_members(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut leader = group.lead();
    let (follower, [led, joined]) = group.joined_by_another(&mut leader);
    assert_eq!((led.generation_id, joined.generation_id), (Some(2), Some(2)));
    assert_eq!((&led.leader, &joined.leader), (&leader.member_id, &leader.member_id));
    let mut members: Vec<_> = led.members.iter().map(|member| &member.member_id).collect();
    members.sort();
    let mut expected = [&leader.member_id, &follower.member_id];
    expected.sort();
    assert_eq!(members, expected);
    assert!(joined.members.is_empty());
    assert_eq!(group.describe(&mut leader.connection), ("CompletingRebalance".into(), String::new(), 2));
}

fn the_assignor_that_most_prefer_is_chosen(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut leader = group.lead();
    let protocols = [("sticky", "t"), ("range", "t")];
    let mut others: Vec<_> = (0..2).map(|_| group.connect()).collect();
    for connection in &mut others {
        let member_id = group.new_member_id(connection, &protocols);
        connection.send(JOIN, &group.join_request(&member_id, &protocols));
    }
    // Nobody is answered before the leader, too, has joined again.
    until("both to have joined", || (group.describe(&mut leader.connection).2 == 3).then_some(()));
    let rejoin = group.join_request(&leader.member_id, &[("range", "t"), ("sticky", "t")]);
    let led = leader.connection.call_version(JOIN, &rejoin);
    let joined = others.iter_mut().map(|connection| connection.receive::<JoinGroupRequest>(JOIN));
    for joined in joined.chain([led]) {
        assert_eq!((joined.generation_id, joined.protocol_name.as_deref()), (Some(2), Some("sticky")));
    }
}

fn shares_come_when_the_leader_has_assigned(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut leader = group.lead();
    let (mut follower, _) = group.joined_by_another(&mut leader);
    let version = *follower.connection.versions(ApiKey::SyncGroup).end();
    follower.connection.send(version, &group.sync_request(&follower.member_id, 2, &[]));
    // The coordinator answers other requests, so it has processed this one and holds its response.
    assert_eq!(group.heartbeat(&mut leader.connection, &leader.member_id, 2), ErrorCode::NONE);
    assert!(!follower.connection.has_answer());
    let shares = [(&*leader.member_id, "half"), (&*follower.member_id, "rest")];
    let synced = leader.connection.call(&group.sync_request(&leader.member_id, 2, &shares));
    assert_eq!((synced.error_code, &*synced.assignment), (ErrorCode::NONE, &b"half"[..]));
    let synced = follower.connection.receive::<SyncGroupRequest>(version);
    assert_eq!((synced.error_code, &*synced.assignment), (ErrorCode::NONE, &b"rest"[..]));
    assert_eq!((synced.protocol_type.as_deref(), synced.protocol_name.as_deref()), (Some("consumer"), Some("range")));
    assert_eq!(group.sync(&mut follower, 2, "").assignment, "rest", "whoever asks again is told again");
    assert_eq!(group.describe(&mut leader.connection), ("Stable".into(), "range".into(), 2));
}

fn a_sync_for_another_assignor_is_refused(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut leader = group.lead();
    let sync = group.sync_request(&leader.member_id, 1, &[]);
    let sync = SyncGroupRequest { protocol_name: Some("sticky".into()), ..sync };
    assert_eq!(leader.connection.call(&sync).error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
}

fn a_member_that_asks_again_unchanged_stays_in_its_generation(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut leader = group.lead();
    let (mut follower, _) = group.joined_by_another(&mut leader);
    let join = group.join_request(&follower.member_id, &RANGE);
    assert_eq!(follower.connection.call_version(JOIN, &join).generation_id, Some(2), "before it was assigned");
    group.sync(&mut leader, 2, "all");
    assert_eq!(follower.connection.call_version(JOIN, &join).generation_id, Some(2), "and after");
}

fn a_leader_that_joins_again_starts_a_rebalance(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut leader = group.lead();
    let join = group.join_request(&leader.member_id, &RANGE);
    assert_eq!(leader.connection.call_version(JOIN, &join).generation_id, Some(2));
}

fn a_member_with_a_new_subscription_starts_a_rebalance(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut leader = group.lead();
    let (mut follower, _) = group.joined_by_another(&mut leader);
    group.sync(&mut leader, 2, "all");
    follower.connection.send(JOIN, &group.join_request(&follower.member_id, &[("range", "other")]));
    until("the leader to be told of a rebalance", || {
        let heard = group.heartbeat(&mut leader.connection, &leader.member_id, 2);
        (heard == ErrorCode::REBALANCE_IN_PROGRESS).then_some(())
    });
}

fn a_member_that_waits_for_its_share_is_told_of_a_rebalance(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut leader = group.lead();
    let (mut follower, _) = group.joined_by_another(&mut leader);
    let version = *follower.connection.versions(ApiKey::SyncGroup).end();
    follower.connection.send(version, &group.sync_request(&follower.member_id, 2, &[]));
    assert_eq!(group.heartbeat(&mut leader.connection, &leader.member_id, 2), ErrorCode::NONE);
    assert_eq!(group.leave(&mut leader.connection, &leader.member_id, None), ErrorCode::NONE);
    let synced = follower.connection.receive::<SyncGroupRequest>(version);
    assert_eq!(synced.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
}

fn a_stale_generation_is_refused(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut leader = group.lead();
    assert_eq!(group.heartbeat(&mut leader.connection, &leader.member_id, 7), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(group.sync(&mut leader, 7, "").error_code, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(group.heartbeat(&mut leader.connection, &leader.member_id, 1), ErrorCode::NONE);
}

/// A `JoinGroup` with a short rebalance time-out.
fn hasty(request: JoinGroupRequest) -> JoinGroupRequest {
    JoinGroupRequest { rebalance_timeout_ms: Some(1_000), ..request }
}

fn who_does_not_join_again_in_time_is_dropped(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut busy_at = group.connect();
    let busy = group.new_member_id(&mut busy_at, &RANGE);
    busy_at.call_version(JOIN, &hasty(group.join_request(&busy, &RANGE)));
    let mut connection = group.connect();
    let member_id = group.new_member_id(&mut connection, &RANGE);
    let joined = connection.call_version(JOIN, &hasty(group.join_request(&member_id, &RANGE)));
    assert_eq!((joined.generation_id, joined.leader, joined.members.len()), (Some(2), member_id, 1));
    assert_eq!(group.heartbeat(&mut busy_at, &busy, 1), ErrorCode::UNKNOWN_MEMBER_ID);
}

fn who_never_asks_for_its_share_is_dropped(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut connection = group.connect();
    let member_id = group.new_member_id(&mut connection, &RANGE);
    connection.call_version(JOIN, &hasty(group.join_request(&member_id, &RANGE)));
    until("the member to be dropped", || {
        let heard = group.heartbeat(&mut connection, &member_id, 1);
        (heard == ErrorCode::UNKNOWN_MEMBER_ID).then_some(())
    });
}

fn a_member_that_falls_silent_is_dropped(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut connection = group.connect();
    let member_id = group.new_member_id(&mut connection, &RANGE);
    let join = JoinGroupRequest { session_timeout_ms: 6_000, ..group.join_request(&member_id, &RANGE) };
    connection.call_version(JOIN, &join);
    connection.call(&group.sync_request(&member_id, 1, &[]));
    let begun = std::time::Instant::now();
    until("the group to be empty", || (group.describe(&mut connection).0 == "Empty").then_some(()));
    assert!(begun.elapsed() > Duration::from_secs(5), "no member goes before its session ends");
    assert_eq!(group.heartbeat(&mut connection, &member_id, 1), ErrorCode::UNKNOWN_MEMBER_ID);
}

fn a_promised_member_id_that_leaves_is_forgotten(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut leader = group.lead();
    let promised = group.new_member_id(&mut leader.connection, &RANGE);
    assert_eq!(group.heartbeat(&mut leader.connection, &leader.member_id, 1), ErrorCode::NONE);
    assert_eq!(group.leave(&mut leader.connection, &promised, None), ErrorCode::NONE);
    // Kafka 4 starts a rebalance for that, Kafka 3 does not.
    let join = group.join_request(&promised, &RANGE);
    assert_eq!(leader.connection.call_version(JOIN, &join).error_code, ErrorCode::UNKNOWN_MEMBER_ID);
}

fn who_leaves_is_told_one_by_one(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut leader = group.lead();
    let (mut follower, _) = group.joined_by_another(&mut leader);
    group.sync(&mut leader, 2, "all");
    assert_eq!(group.leave(&mut follower.connection, &follower.member_id, None), ErrorCode::NONE);
    assert_eq!(
        group.heartbeat(&mut follower.connection, &follower.member_id, 2),
        ErrorCode::UNKNOWN_MEMBER_ID,
        "it is out"
    );
    let heard = group.heartbeat(&mut leader.connection, &leader.member_id, 2);
    assert_eq!(heard, ErrorCode::REBALANCE_IN_PROGRESS, "the others share what it had");
    assert_eq!(group.leave(&mut follower.connection, &follower.member_id, None), ErrorCode::UNKNOWN_MEMBER_ID);
}

fn the_last_member_leaves_an_empty_group(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut leader = group.lead();
    let (group_id, member_id) = (group.id.clone(), leader.member_id.clone());
    let request = LeaveGroupRequest { group_id, member_id, ..LeaveGroupRequest::default() };
    assert_eq!(leader.connection.call_version(2, &request).error_code, ErrorCode::NONE, "in the form for one");
    assert_eq!(group.describe(&mut leader.connection), ("Empty".into(), String::new(), 0));
    // The generation was bumped when the group became empty.
    let protocols = vec![JoinGroupRequestProtocol { name: "sticky".into(), ..JoinGroupRequestProtocol::default() }];
    let join = JoinGroupRequest { protocols, protocol_type: "other".into(), ..group.join_request("", &[]) };
    let joined = leader.connection.call_version(3, &join);
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, Some(3)), "of any kind");
}

fn groups_are_listed_by_state_and_type(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut leader = group.lead();
    let mut is_listed = |states: &[&str], types: &[&str]| {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let request = ListGroupsRequest { states_filter: owned(states), types_filter: owned(types) };
        let answer = leader.connection.call(&request);
        assert_eq!(answer.error_code, ErrorCode::NONE);
        let found = answer.groups.into_iter().find(|listed| listed.group_id == group.id);
        found.map(|listed| (listed.protocol_type, listed.group_state, listed.group_type))
    };
    let expected = Some(("consumer".to_owned(), "Stable".to_owned(), "classic".to_owned()));
    assert_eq!(is_listed(&[], &[]), expected);
    assert_eq!(is_listed(&["stable"], &["Classic"]), expected);
    assert_eq!(is_listed(&["Empty"], &[]), None);
    assert_eq!(is_listed(&[], &["consumer"]), None);
}
