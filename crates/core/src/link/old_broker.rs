//! Brokers without `ApiVersions`: Kafka 0.8.2 and 0.9.
//!
//! If they are asked for an API that they do not know, 0.8.2 closes the connection, and 0.9 says nothing, for ever.
//! Other brokers may do that for other reasons. So another connection probes what the broker has: an API of all
//! versions, and then one that came with 0.9. A broker that answers both, while the `ApiVersions` that was sent long
//! before is not answered, is of 0.9. One that closes on the second is of 0.8.2; the next connection is then ready at
//! once.

use bytes::Bytes;

use super::handshake::Step;
use super::versions::ApiVersions;
use crate::error::Result;
use crate::wire::api::ApiKey;
use crate::wire::message::{AnyRequest, Message};
use crate::wire::messages::{ListGroupsRequest, ListGroupsResponse, ListOffsetsRequest, ListOffsetsResponse};

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Greeting {
    /// It asks for the broker's versions.
    #[default]
    Versions,
    /// It finds out whether the broker is one without `ApiVersions`, of which the broker has made this.
    Probe(Snub),
    /// The broker is known to be one.
    Old(OldBroker),
}

/// What a broker has made of a request for its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snub {
    /// It closed the connection.
    HungUp,
    /// It has said nothing for a while.
    Silent,
}

/// A version of Kafka without `ApiVersions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldBroker {
    /// Kafka 0.8.2.
    V0_8_2,
    /// Kafka 0.9.
    V0_9,
}

impl OldBroker {
    /// The versions that it supports.
    pub(super) fn versions(self) -> ApiVersions {
        let common =
            [(ApiKey::ListOffsets, 0), (ApiKey::Metadata, 0), (ApiKey::OffsetFetch, 1), (ApiKey::FindCoordinator, 0)];
        let own: &[(ApiKey, i16)] = match self {
            Self::V0_8_2 => &[(ApiKey::Produce, 0), (ApiKey::Fetch, 0), (ApiKey::OffsetCommit, 1)],
            Self::V0_9 => &[
                (ApiKey::Produce, 1),
                (ApiKey::Fetch, 1),
                (ApiKey::OffsetCommit, 2),
                (ApiKey::JoinGroup, 0),
                (ApiKey::Heartbeat, 0),
                (ApiKey::LeaveGroup, 0),
                (ApiKey::SyncGroup, 0),
                (ApiKey::DescribeGroups, 0),
                (ApiKey::ListGroups, 0),
            ],
        };
        ApiVersions::assumed(common.iter().chain(own).copied())
    }
}

/// The progress of a probe: the request that was sent last.
#[derive(Debug, Clone, Copy)]
pub(super) enum Probe {
    /// `ListOffsets`, which every broker before Kafka 4.0 has in version 0.
    ListOffsets(Snub),
    /// `ListGroups`, which came with 0.9.
    ListGroups(Snub),
}

/// What follows an answer to a probe.
pub(super) enum Next {
    Probe(Probe, Step),
    /// It is not yet certain that the broker does not have `ApiVersions`, which is sent now.
    Versions,
    Ready(ApiVersions),
}

impl Probe {
    /// The first request of a probe.
    pub(super) fn begin(snub: Snub) -> (Self, Step) {
        (Self::ListOffsets(snub), Step::Request(harmless_request(), 0))
    }

    /// Takes the response to the last request.
    pub(super) fn handle_answer(self, body: Bytes) -> Result<Next> {
        match self {
            Self::ListOffsets(snub) => {
                ListOffsetsResponse::decode_exact(0, body)?;
                Ok(Next::Probe(Self::ListGroups(snub), Step::Request(Box::new(ListGroupsRequest::default()), 0)))
            }
            Self::ListGroups(snub) => {
                ListGroupsResponse::decode_exact(0, body)?;
                Ok(match snub {
                    // 0.9 does not hang up. Most likely the broker was about to stop, and is back now.
                    Snub::HungUp => Next::Versions,
                    Snub::Silent => Next::Ready(OldBroker::V0_9.versions()),
                })
            }
        }
    }
}

/// A request that every broker before Kafka 4.0 answers at once, in version 0, and that changes nothing.
pub(super) fn harmless_request() -> Box<dyn AnyRequest> {
    Box::new(ListOffsetsRequest::default())
}
