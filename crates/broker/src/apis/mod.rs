//! The handlers, one file for each API, which begins with the versions it supports and what it leaves out.
//!
//! A handler gets the decoded request and changes the [`State`]. It answers at once, or returns what the request waits
//! for.

mod alter_configs;
mod api_versions;
mod configs;
mod consumer_groups;
mod coordinator;
mod delete_records;
mod epochs;
pub(crate) mod fetch;
mod groups;
mod init_producer_id;
mod list_offsets;
pub(crate) mod metadata;
mod offset_delete;
mod offsets;
mod produce;
mod sasl;
mod topics;

use bytes::Bytes;
use kavka_core::time::Instant;
use kavka_core::wire::api::{ApiKey, RequestHeader, encode_response};
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::message::{Message, Request};
use kavka_core::wire::messages;

use crate::ConnectionId;
use crate::faults::{Mishap, Then};
use crate::state::State;
use crate::waits::Wait;

pub(crate) use api_versions::{own_versions, speaks};

/// Where a request comes from, and when.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) now: Instant,
    pub(crate) connection: ConnectionId,
    pub(crate) broker_id: i32,
    pub(crate) header: RequestHeader,
}

impl Context {
    pub(crate) fn version(&self) -> i16 {
        self.header.version
    }
}

/// A handler's result.
pub(crate) enum Answer<R> {
    /// Send this response.
    Now(R),
    /// Send no response, now or later.
    Nothing,
    /// Close the connection.
    Close,
    /// The response comes later.
    Wait(Wait),
}

impl<R> From<R> for Answer<R> {
    fn from(response: R) -> Self {
        Self::Now(response)
    }
}

/// Handles the requests of one API.
pub(crate) trait Handle: Request {
    /// Executes the request.
    fn handle(self, state: &mut State, context: &Context) -> Answer<Self::Response>;

    /// A response with `error_code` in every error field.
    fn refuse(&self, error_code: ErrorCode) -> Self::Response;
}

/// What to do with a connection after a request.
pub(crate) enum Outcome {
    /// Send this frame.
    Respond(Vec<Bytes>),
    Nothing,
    Close,
    Wait(Wait),
}

/// Decodes a request, and executes it unless a fault prevents that. `None` if it cannot be decoded.
pub(crate) fn dispatch(state: &mut State, context: &Context, mishap: Mishap, body: Bytes) -> Option<Outcome> {
    macro_rules! apis {
        ($($key:ident $request:ident)*) => {
            match context.header.key {
                $(ApiKey::$key => run::<messages::$request>(state, context, mishap, body),)*
            }
        };
    }
    apis! {
        Produce ProduceRequest
        Fetch FetchRequest
        ListOffsets ListOffsetsRequest
        Metadata MetadataRequest
        OffsetCommit OffsetCommitRequest
        OffsetFetch OffsetFetchRequest
        FindCoordinator FindCoordinatorRequest
        JoinGroup JoinGroupRequest
        Heartbeat HeartbeatRequest
        LeaveGroup LeaveGroupRequest
        SyncGroup SyncGroupRequest
        DescribeGroups DescribeGroupsRequest
        ListGroups ListGroupsRequest
        SaslHandshake SaslHandshakeRequest
        ApiVersions ApiVersionsRequest
        CreateTopics CreateTopicsRequest
        DeleteTopics DeleteTopicsRequest
        InitProducerId InitProducerIdRequest
        OffsetForLeaderEpoch OffsetForLeaderEpochRequest
        DescribeConfigs DescribeConfigsRequest
        SaslAuthenticate SaslAuthenticateRequest
        CreatePartitions CreatePartitionsRequest
        DeleteRecords DeleteRecordsRequest
        DeleteGroups DeleteGroupsRequest
        IncrementalAlterConfigs IncrementalAlterConfigsRequest
        OffsetDelete OffsetDeleteRequest
        ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequest
        ConsumerGroupDescribe ConsumerGroupDescribeRequest
    }
}

fn run<R: Handle>(state: &mut State, context: &Context, mishap: Mishap, body: Bytes) -> Option<Outcome> {
    let request = R::decode_exact(context.version(), body).ok()?;
    let refusal = match mishap.then {
        Then::Fail(error_code) => Some(request.refuse(error_code)),
        _ => None,
    };
    let answer = if mishap.is_applied { request.handle(state, context) } else { Answer::Nothing };
    let answer = refusal.map_or(answer, Answer::Now);
    Some(match answer {
        Answer::Now(response) => Outcome::Respond(frame(&context.header, &response)?),
        Answer::Nothing => Outcome::Nothing,
        Answer::Close => Outcome::Close,
        Answer::Wait(wait) => Outcome::Wait(wait),
    })
}

/// The frame of a response. `None` if the version cannot carry it.
pub(crate) fn frame<M: Message>(header: &RequestHeader, response: &M) -> Option<Vec<Bytes>> {
    encode_response(header.key, header.version, header.correlation_id, response).ok()
}
