//! Static members of classic groups (KIP-345): a member that restarts takes over its place.

use kavka_core::wire::ErrorCode;
use kavka_core::wire::messages::{JoinGroupRequest, JoinGroupResponse, SyncGroupRequest};

use crate::cluster::Cluster;
use crate::connection::Connection;
use crate::group_kit::{Group, JOIN, Member};

on_every_broker!(
    a_static_member_joins_at_once,
    a_leader_that_starts_again_keeps_its_place_without_a_rebalance,
    a_leader_that_starts_again_in_an_old_version_is_not_told_that_it_leads,
    a_member_that_starts_again_with_another_assignor_starts_a_rebalance,
    the_old_member_id_of_a_static_member_is_fenced,
    a_static_member_leaves_by_its_name_alone,
    a_static_member_that_is_not_there_is_unknown,
);

fn join(
    group: &Group,
    connection: &mut Connection,
    version: i16,
    member_id: &str,
    protocol: &str,
) -> JoinGroupResponse {
    let request = JoinGroupRequest {
        group_instance_id: Some("one".into()),
        ..group.join_request(member_id, &[(protocol, "t"), ("sticky", "t")])
    };
    connection.call_version(version, &request)
}

/// A static member called `one` that leads a stable group of its own, in generation 1.
fn lead(group: &Group) -> Member {
    let mut connection = group.connect();
    let joined = join(group, &mut connection, JOIN, "", "range");
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, Some(1)));
    let mut member = Member { connection, member_id: joined.member_id };
    assert_eq!(group.sync(&mut member, 1, "all").assignment, "all");
    member
}

fn a_static_member_joins_at_once(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut member = lead(&group);
    assert!(member.member_id.starts_with("one-"), "{}", member.member_id);
    let heard = group.heartbeat_as(&mut member.connection, &member.member_id, Some("one"), 1);
    assert_eq!(heard, ErrorCode::NONE);
}

fn a_leader_that_starts_again_keeps_its_place_without_a_rebalance(cluster: &Cluster) {
    let group = Group::new(cluster);
    let old = lead(&group);
    let mut connection = group.connect();
    let joined = join(&group, &mut connection, JOIN, "", "range");
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, Some(1)));
    assert_ne!(joined.member_id, old.member_id);
    assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 1));
    assert!(joined.skip_assignment, "it leads and has nothing to assign (KIP-814)");
    let mut new = Member { connection, member_id: joined.member_id };
    assert_eq!(group.sync(&mut new, 1, "else").assignment, "all", "what was assigned before");
}

fn a_leader_that_starts_again_in_an_old_version_is_not_told_that_it_leads(cluster: &Cluster) {
    let group = Group::new(cluster);
    let old = lead(&group);
    let joined = join(&group, &mut group.connect(), 8, "", "range");
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, Some(1)));
    assert_eq!((joined.leader, joined.members.len()), (old.member_id, 0));
}

fn a_member_that_starts_again_with_another_assignor_starts_a_rebalance(cluster: &Cluster) {
    let group = Group::new(cluster);
    lead(&group);
    let request =
        JoinGroupRequest { group_instance_id: Some("one".into()), ..group.join_request("", &[("sticky", "t")]) };
    let joined = group.connect().call_version(JOIN, &request);
    assert_eq!((joined.generation_id, joined.protocol_name.as_deref()), (Some(2), Some("sticky")));
}

fn the_old_member_id_of_a_static_member_is_fenced(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut old = lead(&group);
    let (old_id, connection) = (old.member_id, &mut old.connection);
    let new_id = join(&group, &mut group.connect(), JOIN, "", "range").member_id;
    assert_eq!(group.heartbeat_as(connection, &old_id, Some("one"), 1), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(join(&group, connection, JOIN, &old_id, "range").error_code, ErrorCode::FENCED_INSTANCE_ID);
    let sync = SyncGroupRequest { group_instance_id: Some("one".into()), ..group.sync_request(&old_id, 1, &[]) };
    assert_eq!(connection.call(&sync).error_code, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(group.leave(connection, &old_id, Some("one")), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(group.heartbeat(connection, &old_id, 1), ErrorCode::UNKNOWN_MEMBER_ID, "without its name");
    assert_eq!(group.heartbeat_as(connection, &new_id, Some("one"), 1), ErrorCode::NONE);
}

fn a_static_member_leaves_by_its_name_alone(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut member = lead(&group);
    assert_eq!(group.leave(&mut member.connection, "", Some("two")), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(group.leave(&mut member.connection, "", Some("one")), ErrorCode::NONE);
    assert_eq!(group.describe(&mut member.connection).0, "Empty");
}

fn a_static_member_that_is_not_there_is_unknown(cluster: &Cluster) {
    let group = Group::new(cluster);
    let mut dynamic = group.lead();
    let (member_id, connection) = (dynamic.member_id, &mut dynamic.connection);
    assert_eq!(group.heartbeat_as(connection, &member_id, Some("one"), 1), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(join(&group, connection, JOIN, &member_id, "range").error_code, ErrorCode::UNKNOWN_MEMBER_ID);
}
