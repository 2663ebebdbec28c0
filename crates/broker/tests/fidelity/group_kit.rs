//! Groups for the tests, and members that talk to their coordinator.

use bytes::Bytes;
use kavka_core::wire::messages::consumer_protocol::ConsumerProtocolSubscription;
use kavka_core::wire::messages::join_group::JoinGroupRequestProtocol;
use kavka_core::wire::messages::leave_group::MemberIdentity;
use kavka_core::wire::messages::sync_group::SyncGroupRequestAssignment;
use kavka_core::wire::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, OffsetFetchRequest, SyncGroupRequest, SyncGroupResponse,
};
use kavka_core::wire::{Encoder, ErrorCode, Message};

use crate::cluster::{Cluster, unique, until};
use crate::connection::Connection;

/// The version of `JoinGroup` to use when it does not matter: the newest.
pub(crate) const JOIN: i16 = 9;
pub(crate) const SYNC: i16 = 5;

pub(crate) fn find_coordinator(cluster: &Cluster, group_id: &str) -> i32 {
    until("the group's coordinator", || {
        let coordinator_keys = vec![group_id.into()];
        let request = FindCoordinatorRequest { coordinator_keys, ..FindCoordinatorRequest::default() };
        let found = cluster.connect(1).call(&request).coordinators.remove(0);
        // Kafka creates the offsets topic at the first request.
        (found.error_code == ErrorCode::NONE).then(|| {
            assert_eq!(format!("{}:{}", found.host, found.port), cluster.address(found.node_id));
            found.node_id
        })
    })
}

/// The group of one test, and its coordinator.
pub(crate) struct Group<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) id: String,
    pub(crate) coordinator: i32,
}

impl<'a> Group<'a> {
    /// A new group, once its coordinator is ready.
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        let group_id = unique("group");
        let group = Self { cluster, coordinator: find_coordinator(cluster, &group_id), id: group_id };
        let mut connection = group.connect();
        until("the coordinator to serve", || {
            let request = OffsetFetchRequest { group_id: group.id.clone(), ..OffsetFetchRequest::default() };
            let error_code = connection.call_version(7, &request).error_code;
            let not_yet = [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS];
            (!not_yet.contains(&error_code)).then_some(())
        });
        group
    }

    /// A connection to the coordinator. A member with a pending join needs one of its own.
    pub(crate) fn connect(&self) -> Connection {
        self.cluster.connect(self.coordinator)
    }

    /// The `JoinGroup` of a dynamic member that supports these protocols.
    pub(crate) fn join_request(&self, member_id: &str, protocols: &[(&str, &str)]) -> JoinGroupRequest {
        let protocol = |(name, topic): &(&str, &str)| JoinGroupRequestProtocol {
            name: (*name).into(),
            metadata: subscription(topic),
        };
        JoinGroupRequest {
            group_id: self.id.clone(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: Some(10_000),
            member_id: member_id.into(),
            protocol_type: "consumer".into(),
            protocols: protocols.iter().map(protocol).collect(),
            ..JoinGroupRequest::default()
        }
    }

    /// A new member id, from the response that requires one.
    pub(crate) fn new_member_id(&self, connection: &mut Connection, protocols: &[(&str, &str)]) -> String {
        let answer = connection.call_version(JOIN, &self.join_request("", protocols));
        assert_eq!(answer.error_code, ErrorCode::MEMBER_ID_REQUIRED);
        answer.member_id
    }

    pub(crate) fn sync_request(
        &self,
        member_id: &str,
        generation_id: i32,
        shares: &[(&str, &str)],
    ) -> SyncGroupRequest {
        let share = |(member_id, assignment): &(&str, &str)| SyncGroupRequestAssignment {
            member_id: (*member_id).into(),
            assignment: Bytes::from((*assignment).to_owned()),
        };
        SyncGroupRequest {
            group_id: self.id.clone(),
            generation_id,
            member_id: member_id.into(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: shares.iter().map(share).collect(),
            ..SyncGroupRequest::default()
        }
    }

    pub(crate) fn heartbeat(&self, connection: &mut Connection, member_id: &str, generation_id: i32) -> ErrorCode {
        self.heartbeat_as(connection, member_id, None, generation_id)
    }

    pub(crate) fn heartbeat_as(
        &self,
        connection: &mut Connection,
        member_id: &str,
        instance: Option<&str>,
        generation_id: i32,
    ) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: self.id.clone(),
            generation_id,
            member_id: member_id.into(),
            group_instance_id: instance.map(Into::into),
        };
        connection.call(&request).error_code
    }

    /// Removes a member from the group; returns the outcome.
    pub(crate) fn leave(&self, connection: &mut Connection, member_id: &str, instance: Option<&str>) -> ErrorCode {
        let member = MemberIdentity {
            member_id: member_id.into(),
            group_instance_id: instance.map(Into::into),
            reason: Some("the test is over".into()),
        };
        let members = vec![member];
        let request = LeaveGroupRequest { group_id: self.id.clone(), members, ..LeaveGroupRequest::default() };
        let answer = connection.call(&request);
        assert_eq!(answer.error_code, ErrorCode::NONE);
        answer.members[0].error_code
    }

    /// The state, the assignor and the number of members.
    pub(crate) fn describe(&self, connection: &mut Connection) -> (String, String, usize) {
        let groups = vec![self.id.clone()];
        let request = DescribeGroupsRequest { groups, ..DescribeGroupsRequest::default() };
        let group = connection.call(&request).groups.remove(0);
        (group.group_state, group.protocol_data, group.members.len())
    }

    /// A member that leads a stable group of its own in generation 1, with the assignor `range`.
    pub(crate) fn lead(&self) -> Member {
        let mut connection = self.connect();
        let member_id = self.new_member_id(&mut connection, &[("range", "t")]);
        let joined = connection.call_version(JOIN, &self.join_request(&member_id, &[("range", "t")]));
        assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, Some(1)));
        let mut member = Member { connection, member_id };
        assert_eq!(self.sync(&mut member, 1, "all").assignment, "all");
        member
    }

    /// Asks for the assignment of a generation; if it leads, it assigns `share` to itself.
    pub(crate) fn sync(&self, member: &mut Member, generation_id: i32, share: &str) -> SyncGroupResponse {
        let request = self.sync_request(&member.member_id, generation_id, &[(&member.member_id, share)]);
        member.connection.call_version(SYNC, &request)
    }

    /// A second member joins, and the leader rejoins: generation 2, not assigned yet.
    pub(crate) fn joined_by_another(&self, leader: &mut Member) -> (Member, [JoinGroupResponse; 2]) {
        let mut connection = self.connect();
        let member_id = self.new_member_id(&mut connection, &[("range", "t")]);
        connection.send(JOIN, &self.join_request(&member_id, &[("range", "t")]));
        until("the leader to be told of a rebalance", || {
            let heard = self.heartbeat(&mut leader.connection, &leader.member_id, 1);
            (heard == ErrorCode::REBALANCE_IN_PROGRESS).then_some(())
        });
        let rejoin = self.join_request(&leader.member_id, &[("range", "t")]);
        let led = leader.connection.call_version(JOIN, &rejoin);
        let joined = connection.receive::<JoinGroupRequest>(JOIN);
        (Member { connection, member_id }, [led, joined])
    }
}

/// A member and its connection.
pub(crate) struct Member {
    pub(crate) connection: Connection,
    pub(crate) member_id: String,
}

fn subscription(topic: &str) -> Bytes {
    embedded(0, &ConsumerProtocolSubscription { topics: vec![topic.into()], ..Default::default() })
}

/// What members send each other inside `JoinGroup` and `SyncGroup`, with its version.
pub(crate) fn embedded(version: i16, message: &impl Message) -> Bytes {
    let mut encoder = Encoder::new();
    encoder.put_slice(&version.to_be_bytes());
    message.encode(version, &mut encoder).unwrap();
    encoder.finish().concat().into()
}
