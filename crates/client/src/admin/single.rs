//! Requests to one particular broker, each of which is sent once.
//!
//! Other calls of the client choose the broker, repeat what failed, and turn error codes into errors. These do not:
//! they are for a caller that wants to see what this broker answers, as the methods of PyKafka's `Broker` do.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use kavka_core::cluster::{Call, Owner, Target};
use kavka_core::consumer::TopicPartition;
use kavka_core::error::Result;
use kavka_core::group::needs_classic;
use kavka_core::wire::messages::consumer_group_describe::{self, Assignment};
use kavka_core::wire::messages::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, ConsumerProtocolTopic,
};
use kavka_core::wire::messages::describe_groups::{DescribedGroup, DescribedGroupMember};
use kavka_core::wire::messages::list_groups::ListGroupsResponse;
use kavka_core::wire::messages::list_offsets::{ListOffsetsPartition, ListOffsetsResponse, ListOffsetsTopic};
use kavka_core::wire::messages::metadata::{MetadataRequestTopic, MetadataResponse};
use kavka_core::wire::messages::offset_commit::{
    COMMIT_BY_NAME, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use kavka_core::wire::messages::offset_fetch::{FETCH_ONE_GROUP, OffsetFetchRequestTopic, OffsetFetchResponse};
use kavka_core::wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, ConsumerGroupDescribeRequest, DescribeGroupsRequest, ListGroupsRequest,
    ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest,
};
use kavka_core::wire::{Encoder, ErrorCode, Message, Request};

use super::Admin;
use super::groups::{CONSUMER, DEAD};
use crate::client::Client;
use crate::offsets::{by_topic, names};

/// The newest version of `ApiVersions` without the client's name and version, which it has sent already.
const ASK_FOR_VERSIONS_ONLY: i16 = 2;

/// One broker; from [`Admin::broker`].
#[derive(Debug, Clone)]
pub struct SingleBroker {
    client: Client,
    id: i32,
    owner: Owner,
    timeout: Option<Duration>,
}

/// A member of a group, as its coordinator knows it: nothing is checked.
#[derive(Debug, Clone, Default)]
pub struct RawMember {
    /// The group's id.
    pub group_id: String,
    /// The generation of the group; negative for none, when committing.
    pub generation_id: i32,
    /// The member id; empty for none, when committing.
    pub member_id: String,
}

/// An offset to commit as it is: nothing is checked.
#[derive(Debug, Clone)]
pub struct RawOffset {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The offset of the next record to read.
    pub offset: i64,
    /// Text to store with it.
    pub metadata: String,
}

impl Admin {
    /// The requests to one broker.
    pub fn broker(&self, id: i32) -> SingleBroker {
        SingleBroker { client: self.0.clone(), id, owner: Owner::Control, timeout: None }
    }
}

impl SingleBroker {
    /// The time limit of each request; without it, `request.timeout.ms`.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Sends the requests on a connection of their own, whose number is from
    /// [`Client::next_connection`](crate::Client::next_connection). A request that the broker holds then delays no
    /// other.
    #[must_use]
    pub fn on_connection(self, number: u64) -> Self {
        Self { owner: Owner::Coordinator(number), ..self }
    }

    /// The time limit of a request.
    pub(super) fn request_timeout(&self) -> Duration {
        self.timeout.unwrap_or(self.client.config().request_timeout)
    }

    pub(super) fn send<R: Request>(
        &self,
        max_version: i16,
        request: R,
    ) -> impl Future<Output = Result<R::Response>> + Send + 'static + use<R> {
        let call = Call::new(Target::Broker(self.id), request);
        let max_version = max_version.min(call.max_version);
        self.client.call(Call { max_version, owner: self.owner, timeout: self.timeout, ..call })
    }

    /// The versions that it supports of each API.
    pub fn api_versions(&self) -> impl Future<Output = Result<ApiVersionsResponse>> + Send + 'static + use<> {
        self.send(ASK_FOR_VERSIONS_ONLY, ApiVersionsRequest::default())
    }

    /// Its metadata of these topics, or of all. It creates missing ones, if the cluster allows that.
    pub fn metadata(
        &self,
        topics: Option<Vec<String>>,
    ) -> impl Future<Output = Result<MetadataResponse>> + Send + 'static + use<> {
        let named = |name| MetadataRequestTopic { name: Some(name), ..MetadataRequestTopic::default() };
        let topics = topics.map(|names| names.into_iter().map(named).collect());
        self.send(i16::MAX, MetadataRequest { topics, ..MetadataRequest::default() })
    }

    /// For partitions that it leads, the offset of the first record at or after a time.
    pub fn list_offsets(
        &self,
        wanted: &[(TopicPartition, i64)],
    ) -> impl Future<Output = Result<ListOffsetsResponse>> + Send + 'static + use<> {
        let asked = |(key, timestamp): &(TopicPartition, i64)| {
            let partition = ListOffsetsPartition {
                partition_index: key.partition,
                timestamp: *timestamp,
                ..ListOffsetsPartition::default()
            };
            (key.topic.to_string(), partition)
        };
        let topics = by_topic(wanted.iter().map(asked)).into_iter();
        let topics = topics.map(|(name, partitions)| ListOffsetsTopic { name, partitions }).collect();
        self.send(i16::MAX, ListOffsetsRequest { topics, ..ListOffsetsRequest::default() })
    }

    /// Commits offsets of a group that it coordinates.
    pub fn commit_offsets(
        &self,
        member: RawMember,
        offsets: Vec<RawOffset>,
    ) -> impl Future<Output = Result<OffsetCommitResponse>> + Send + 'static + use<> {
        let committed = |offset: RawOffset| {
            let partition = OffsetCommitRequestPartition {
                partition_index: offset.topic_partition.partition,
                committed_offset: offset.offset,
                committed_metadata: Some(offset.metadata),
                ..OffsetCommitRequestPartition::default()
            };
            (offset.topic_partition.topic.to_string(), partition)
        };
        let topics = by_topic(offsets.into_iter().map(committed)).into_iter();
        let topics = topics.map(|(name, partitions)| OffsetCommitRequestTopic {
            name,
            partitions,
            ..OffsetCommitRequestTopic::default()
        });
        let request = OffsetCommitRequest {
            group_id: member.group_id,
            generation_id_or_member_epoch: Some(member.generation_id).filter(|generation| *generation >= 0),
            member_id: member.member_id,
            topics: topics.collect(),
            ..OffsetCommitRequest::default()
        };
        self.send(COMMIT_BY_NAME, request)
    }

    /// What a group that it coordinates has committed.
    pub fn committed_offsets(
        &self,
        group_id: String,
        keys: &[TopicPartition],
    ) -> impl Future<Output = Result<OffsetFetchResponse>> + Send + 'static + use<> {
        let topic = |(name, partition_indexes)| OffsetFetchRequestTopic { name, partition_indexes };
        let topics = Some(names(keys).into_iter().map(topic).collect());
        self.send(FETCH_ONE_GROUP, OffsetFetchRequest { group_id, topics, ..OffsetFetchRequest::default() })
    }

    /// The groups that it coordinates.
    pub fn list_groups(&self) -> impl Future<Output = Result<ListGroupsResponse>> + Send + 'static + use<> {
        self.send(i16::MAX, ListGroupsRequest::default())
    }

    /// State and members of groups that it coordinates. A group in which it assigns the partitions (KIP-848) is
    /// described in the form of a classic group.
    pub fn describe_groups(
        &self,
        groups: Vec<String>,
    ) -> impl Future<Output = Result<Vec<DescribedGroup>>> + Send + 'static + use<> {
        let broker = self.clone();
        async move {
            let request = DescribeGroupsRequest { groups, ..DescribeGroupsRequest::default() };
            let mut groups = broker.send(i16::MAX, request).await?.groups;
            let is_unknown = |group: &&DescribedGroup| {
                group.error_code == ErrorCode::GROUP_ID_NOT_FOUND || group.group_state == DEAD
            };
            let group_ids: Vec<String> = groups.iter().filter(is_unknown).map(|group| group.group_id.clone()).collect();
            if group_ids.is_empty() {
                return Ok(groups);
            }
            let request = ConsumerGroupDescribeRequest { group_ids, ..ConsumerGroupDescribeRequest::default() };
            match broker.send(i16::MAX, request).await {
                Ok(answer) => {
                    for found in answer.groups.into_iter().filter(|group| group.error_code == ErrorCode::NONE) {
                        groups.retain(|group| group.group_id != found.group_id);
                        groups.push(in_classic_form(found));
                    }
                    Ok(groups)
                }
                Err(error) if needs_classic(&error) => Ok(groups),
                Err(error) => Err(error),
            }
        }
    }
}

fn in_classic_form(group: consumer_group_describe::DescribedGroup) -> DescribedGroup {
    let member = |member: consumer_group_describe::Member| {
        let subscription = ConsumerProtocolSubscription {
            topics: member.subscribed_topic_names,
            user_data: Some(Bytes::new()),
            ..ConsumerProtocolSubscription::default()
        };
        let assigned_partitions = assigned(member.assignment);
        let assignment = ConsumerProtocolAssignment { assigned_partitions, user_data: Some(Bytes::new()) };
        DescribedGroupMember {
            member_id: member.member_id,
            client_id: member.client_id,
            client_host: member.client_host,
            member_metadata: encoded(&subscription),
            member_assignment: encoded(&assignment),
            ..DescribedGroupMember::default()
        }
    };
    DescribedGroup {
        group_id: group.group_id,
        group_state: group.group_state,
        protocol_type: CONSUMER.to_owned(),
        protocol_data: group.assignor_name,
        members: group.members.into_iter().map(member).collect(),
        ..DescribedGroup::default()
    }
}

fn assigned(assignment: Assignment) -> Vec<ConsumerProtocolTopic> {
    let topics = assignment.topic_partitions.into_iter();
    topics.map(|topic| ConsumerProtocolTopic { topic: topic.topic_name, partitions: topic.partitions }).collect()
}

/// The message with its version, 0; empty if a name in it is too long for the format.
fn encoded(message: &impl Message) -> Bytes {
    let mut encoder = Encoder::new();
    encoder.put_slice(&[0, 0]);
    message.encode(0, &mut encoder).map_or_else(|_| Bytes::new(), |()| encoder.finish().concat().into())
}
