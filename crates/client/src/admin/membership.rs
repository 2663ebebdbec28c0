//! The requests of one group member, each of which is sent once to the broker that the caller names.
//!
//! They are for programs that are members of a group by their own code, as PyKafka's `Broker` allows. The engine's
//! members are [`GroupConsumer`](crate::GroupConsumer)s.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use kavka_core::error::Result;
use kavka_core::wire::messages::heartbeat::HeartbeatResponse;
use kavka_core::wire::messages::join_group::{JoinGroupRequestProtocol, JoinGroupResponse};
use kavka_core::wire::messages::leave_group::LeaveGroupResponse;
use kavka_core::wire::messages::sync_group::{SyncGroupRequestAssignment, SyncGroupResponse};
use kavka_core::wire::messages::{HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest};

use super::single::{RawMember, SingleBroker};

/// The newest version of `JoinGroup` that gives a new member its id and its place at once (KIP-394).
const JOIN_AT_ONCE: i16 = 3;
/// The newest version of `SyncGroup` that need not repeat the group's protocol (KIP-559).
const SYNC_WITHOUT_PROTOCOL: i16 = 4;
/// The newest version of `LeaveGroup` for one member (KIP-345).
const LEAVE_ALONE: i16 = 2;

/// How a member joins.
#[derive(Debug, Clone)]
pub struct Joining {
    /// The protocol type of the group, such as `consumer`.
    pub protocol_type: String,
    /// The name of the protocol that the member supports: for consumers, an assignor.
    pub protocol_name: String,
    /// The member's data, in the protocol's format.
    pub metadata: Bytes,
    /// How long the member may send no heartbeat, and how long others may take to join again.
    pub session_timeout: Duration,
}

impl SingleBroker {
    /// Joins a group, and waits until all its members have. An empty member id asks for a new one.
    pub fn join_group(
        &self,
        group_id: String,
        member_id: String,
        joining: Joining,
    ) -> impl Future<Output = Result<JoinGroupResponse>> + Send + 'static + use<> {
        let session_timeout_ms = i32::try_from(joining.session_timeout.as_millis()).unwrap_or(i32::MAX);
        let request = JoinGroupRequest {
            group_id,
            session_timeout_ms,
            rebalance_timeout_ms: Some(session_timeout_ms),
            member_id,
            protocol_type: joining.protocol_type,
            protocols: vec![JoinGroupRequestProtocol { name: joining.protocol_name, metadata: joining.metadata }],
            ..JoinGroupRequest::default()
        };
        // The coordinator answers when the others have joined, or their time is over.
        let broker = self.clone().timeout(joining.session_timeout + self.request_timeout());
        broker.send(JOIN_AT_ONCE, request)
    }

    /// Gives the members of a group their assignments, if the caller leads it, and waits for its own.
    pub fn sync_group(
        &self,
        member: RawMember,
        assignments: Vec<(String, Bytes)>,
    ) -> impl Future<Output = Result<SyncGroupResponse>> + Send + 'static + use<> {
        let assignments = assignments.into_iter();
        let request = SyncGroupRequest {
            group_id: member.group_id,
            generation_id: member.generation_id,
            member_id: member.member_id,
            assignments: assignments
                .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment })
                .collect(),
            ..SyncGroupRequest::default()
        };
        self.send(SYNC_WITHOUT_PROTOCOL, request)
    }

    /// Says that a member lives.
    pub fn heartbeat(
        &self,
        member: RawMember,
    ) -> impl Future<Output = Result<HeartbeatResponse>> + Send + 'static + use<> {
        let request = HeartbeatRequest {
            group_id: member.group_id,
            generation_id: member.generation_id,
            member_id: member.member_id,
            ..HeartbeatRequest::default()
        };
        self.send(i16::MAX, request)
    }

    /// Removes a member from its group.
    pub fn leave_group(
        &self,
        group_id: String,
        member_id: String,
    ) -> impl Future<Output = Result<LeaveGroupResponse>> + Send + 'static + use<> {
        self.send(LEAVE_ALONE, LeaveGroupRequest { group_id, member_id, ..LeaveGroupRequest::default() })
    }
}
