//! Every message in every version: compared with Kafka's Java client, round trips, and hostile bytes.
//!
//! [`fill`] encodes messages from their schemas alone, so that the derived codec is not tested against itself.

mod error_codes;
mod fill;
mod golden;
mod hostile;
mod round_trip;

use bytes::Bytes;
use kavka_core::wire::messages::*;
use kavka_core::wire::schema::MessageSchema;
use kavka_core::wire::{ApiKey, Encoder, Message};

/// Decodes a message and encodes it again; or says why the bytes are rejected.
fn reencode_as<M: Message>(version: i16, bytes: Bytes) -> Result<Vec<u8>, String> {
    let message = M::decode_exact(version, bytes).map_err(|error| error.to_string())?;
    let mut encoder = Encoder::new();
    message.encode(version, &mut encoder).unwrap_or_else(|error| panic!("{error}, although it was decoded"));
    Ok(encoder.finish().concat())
}

macro_rules! messages {
    ($($name:ident)*) => {
        /// The same for the message with this name.
        fn reencode(name: &str, version: i16, bytes: impl Into<Bytes>) -> Result<Vec<u8>, String> {
            match name {
                $(stringify!($name) => reencode_as::<$name>(version, bytes.into()),)*
                _ => panic!("{name} is missing in the list of messages"),
            }
        }
    };
}

messages! {
    ProduceRequest ProduceResponse FetchRequest FetchResponse ListOffsetsRequest ListOffsetsResponse
    MetadataRequest MetadataResponse OffsetCommitRequest OffsetCommitResponse OffsetFetchRequest OffsetFetchResponse
    FindCoordinatorRequest FindCoordinatorResponse JoinGroupRequest JoinGroupResponse HeartbeatRequest
    HeartbeatResponse LeaveGroupRequest LeaveGroupResponse SyncGroupRequest SyncGroupResponse DescribeGroupsRequest
    DescribeGroupsResponse ListGroupsRequest ListGroupsResponse SaslHandshakeRequest SaslHandshakeResponse
    ApiVersionsRequest ApiVersionsResponse CreateTopicsRequest CreateTopicsResponse DeleteTopicsRequest
    DeleteTopicsResponse InitProducerIdRequest InitProducerIdResponse OffsetForLeaderEpochRequest
    OffsetForLeaderEpochResponse DescribeConfigsRequest DescribeConfigsResponse SaslAuthenticateRequest
    SaslAuthenticateResponse CreatePartitionsRequest CreatePartitionsResponse
    DeleteRecordsRequest DeleteRecordsResponse DeleteGroupsRequest DeleteGroupsResponse
    IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse OffsetDeleteRequest OffsetDeleteResponse
    ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse ConsumerGroupDescribeRequest
    ConsumerGroupDescribeResponse
}

/// Every message in every version.
fn every_version() -> Vec<(MessageSchema, i16)> {
    let schemas = ApiKey::ALL.iter().flat_map(|key| key.schemas());
    schemas.flat_map(|schema| schema.versions.clone().map(move |version| (schema.clone(), version))).collect()
}
