//! Groups as an administrator sees them: listed, described, deleted.
//!
//! Only its coordinator knows a group. So listing asks every broker, and the other calls ask the group's coordinator.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use kavka_core::cluster::{Call, CoordinatorKind, Target};
use kavka_core::consumer::TopicPartition;
use kavka_core::error::{Error, ErrorKind, Result, printable_reason};
use kavka_core::group::{decode_assignment, needs_classic};
use kavka_core::wire::messages::consumer_group_describe::{self, Assignment, ConsumerGroupDescribeResponse};
use kavka_core::wire::messages::delete_groups::DeleteGroupsResponse;
use kavka_core::wire::messages::describe_groups::{DescribeGroupsResponse, DescribedGroup, DescribedGroupMember};
use kavka_core::wire::messages::list_groups::{ListGroupsResponse, ListedGroup};
use kavka_core::wire::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest,
};
use kavka_core::wire::{ErrorCode, Request};

use super::Admin;
use crate::offsets::of_group;

/// The protocol type of consumer groups.
pub(super) const CONSUMER: &str = "consumer";
/// The state that old versions report for a group that the coordinator does not know, for lack of an error code.
pub(super) const DEAD: &str = "Dead";

/// A group in the list of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// The group's id.
    pub group_id: String,
    /// `consumer` for a consumer group; empty for a group that has only committed offsets.
    pub protocol_type: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, ...; `None` before Kafka 2.6.
    pub state: Option<String>,
    /// `classic`, `consumer` (KIP-848), ...; `None` before Kafka 3.8.
    pub group_type: Option<String>,
    /// The id of the broker that coordinates it.
    pub coordinator: i32,
}

/// A group with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// The group's id.
    pub group_id: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, ...
    pub state: String,
    /// `consumer` for a consumer group; empty for a group that has only committed offsets.
    pub protocol_type: String,
    /// The assignor in use, such as `range`; empty while there are no members.
    pub protocol: String,
    /// `classic` or `consumer` (KIP-848).
    pub group_type: String,
    /// How often members and subscriptions have changed. Known only if the coordinator assigns (KIP-848).
    pub group_epoch: Option<i32>,
    /// The group epoch of the members' target assignments.
    pub assignment_epoch: Option<i32>,
    /// The members, sorted by member id.
    pub members: Vec<GroupMember>,
}

/// One member of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupMember {
    /// The member id.
    pub member_id: String,
    /// `group.instance.id`, for a static member (KIP-345).
    pub group_instance_id: Option<String>,
    /// The member's `client.id`.
    pub client_id: String,
    /// The address from which it is connected.
    pub client_host: String,
    /// Its partitions, if this is a consumer group.
    pub assignment: Vec<TopicPartition>,
    /// The partitions that it shall have once the group is balanced. Known only if the coordinator assigns (KIP-848),
    /// as are its member epoch and its subscription.
    pub target_assignment: Option<Vec<TopicPartition>>,
    /// Its member epoch: behind the group's until it has moved to its target.
    pub member_epoch: Option<i32>,
    /// Whether it uses the classic protocol, as in a group that is changing its protocol (KIP-1099, Kafka 4.0).
    pub is_classic: Option<bool>,
    /// The topics to which it is subscribed by name.
    pub subscribed_topics: Option<Vec<String>>,
    /// The regular expression by which it is subscribed.
    pub subscribed_pattern: Option<String>,
    /// What it sent when it joined, in the format of the group's protocol.
    pub metadata: Bytes,
    /// Its assignment, in the format of the group's protocol.
    pub assignment_data: Bytes,
}

impl Admin {
    /// All groups of the cluster that this client may see, sorted by id.
    ///
    /// # Errors
    ///
    /// That of the first broker that does not answer, because its groups would be missing from the list.
    pub fn list_groups(&self) -> impl Future<Output = Result<Vec<GroupListing>>> + Send + 'static + use<> {
        let admin = self.clone();
        async move {
            let metadata = admin.0.refresh_metadata().await?;
            let mut groups = BTreeMap::new();
            let asked = metadata.brokers().map(|broker| admin.clone().list_groups_of(broker.id));
            for listed in join_all(asked).await {
                groups.extend(listed?.into_iter().map(|group| (group.group_id.clone(), group)));
            }
            Ok(groups.into_values().collect())
        }
    }

    async fn list_groups_of(self, broker_id: i32) -> Result<Vec<GroupListing>> {
        let call = Call::new(Target::Broker(broker_id), ListGroupsRequest::default());
        let listed = |response: ListGroupsResponse| match Error::from_code(response.error_code) {
            Some(error) => Err(error),
            None => Ok(response.groups),
        };
        let groups = self.0.driver.call(call, self.0.max_block(), listed).await?;
        Ok(groups.into_iter().map(|group| listing(group, broker_id)).collect())
    }

    /// A group's state, protocol and members, whichever protocol they use.
    ///
    /// # Errors
    ///
    /// `Broker` with `GROUP_ID_NOT_FOUND` if there is no such group.
    pub fn describe_group(
        &self,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupDescription>> + Send + 'static + use<> {
        let (admin, group_id) = (self.clone(), Arc::<str>::from(group_id));
        async move {
            let request = DescribeGroupsRequest { groups: vec![group_id.to_string()], ..Default::default() };
            let described = |response: DescribeGroupsResponse| {
                only(response.groups, |group| group.group_id == *group_id).and_then(described)
            };
            let classic = admin.ask_coordinator(&group_id, request, described).await;
            let Err(error) = classic else { return classic };
            if error.code() != Some(ErrorCode::GROUP_ID_NOT_FOUND) {
                return Err(error);
            }
            // That is also the answer for a group whose coordinator assigns.
            match admin.describe_consumer_group(&group_id).await {
                Err(other) if needs_classic(&other) => Err(error),
                outcome => outcome,
            }
        }
    }

    async fn describe_consumer_group(&self, group_id: &Arc<str>) -> Result<GroupDescription> {
        let request = ConsumerGroupDescribeRequest { group_ids: vec![group_id.to_string()], ..Default::default() };
        let described = |response: ConsumerGroupDescribeResponse| {
            only(response.groups, |group| group.group_id == **group_id).and_then(described_by_coordinator)
        };
        self.ask_coordinator(group_id, request, described).await
    }

    /// Deletes a group without members, and its committed offsets (Kafka 1.1 and newer).
    ///
    /// # Errors
    ///
    /// `Broker` with `NON_EMPTY_GROUP` if it has members, `GROUP_ID_NOT_FOUND` if it does not exist.
    pub fn delete_group(&self, group_id: &str) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let (admin, group_id) = (self.clone(), Arc::<str>::from(group_id));
        async move {
            let request = DeleteGroupsRequest { groups_names: vec![group_id.to_string()] };
            let deleted = |response: DeleteGroupsResponse| {
                let result = only(response.results, |result| result.group_id == *group_id);
                result.and_then(|result| refused(result.error_code, result.error_message).map_or(Ok(()), Err))
            };
            admin.ask_coordinator(&group_id, request, deleted).await
        }
    }

    async fn ask_coordinator<R: Request + Clone, T>(
        &self,
        group_id: &Arc<str>,
        request: R,
        classify: impl Fn(R::Response) -> Result<T>,
    ) -> Result<T> {
        let call = Call::new(Target::Coordinator(Arc::clone(group_id), CoordinatorKind::Group), request);
        let asked = self.0.driver.call(call, self.0.max_block(), classify);
        asked.await.map_err(|error| of_group(error, group_id))
    }
}

/// The entry of the response for the group that was asked about.
fn only<T>(entries: Vec<T>, is_asked: impl Fn(&T) -> bool) -> Result<T> {
    let entry = entries.into_iter().find(is_asked);
    entry.ok_or_else(|| Error::new(ErrorKind::Malformed, "the coordinator's answer does not name the group"))
}

fn refused(code: ErrorCode, message: Option<String>) -> Option<Error> {
    let error = Error::from_code(code)?;
    Some(match (code, message.filter(|message| !message.is_empty())) {
        // The broker's message says more than the code, for instance that the group has another type.
        (_, Some(message)) => error.with_source(std::io::Error::other(printable_reason(&message))),
        (ErrorCode::NON_EMPTY_GROUP, None) => error.with_hint("stop the group's members first"),
        (ErrorCode::GROUP_ID_NOT_FOUND, None) => error.with_hint("there is no such group; it may have expired"),
        _ => error,
    })
}

fn listing(group: ListedGroup, coordinator: i32) -> GroupListing {
    let known = |text: String| Some(text).filter(|text| !text.is_empty());
    GroupListing {
        group_id: group.group_id,
        protocol_type: group.protocol_type,
        state: known(group.group_state),
        group_type: known(group.group_type),
        coordinator,
    }
}

fn described(group: DescribedGroup) -> Result<GroupDescription> {
    let code = if group.error_code == ErrorCode::NONE && group.group_state == DEAD {
        ErrorCode::GROUP_ID_NOT_FOUND
    } else {
        group.error_code
    };
    if let Some(error) = refused(code, group.error_message) {
        return Err(error);
    }
    let is_of_consumers = group.protocol_type == CONSUMER;
    let mut members: Vec<_> =
        group.members.into_iter().map(|member| described_member(member, is_of_consumers)).collect();
    members.sort_by(|one, other| one.member_id.cmp(&other.member_id));
    Ok(GroupDescription {
        group_id: group.group_id,
        state: group.group_state,
        protocol_type: group.protocol_type,
        protocol: group.protocol_data,
        group_type: "classic".to_owned(),
        group_epoch: None,
        assignment_epoch: None,
        members,
    })
}

fn described_member(member: DescribedGroupMember, is_of_consumers: bool) -> GroupMember {
    // Members may send anything: an assignment that cannot be decoded is shown without partitions.
    let decoded = is_of_consumers.then(|| decode_assignment(&member.member_assignment).unwrap_or_default());
    let mut assignment = decoded.unwrap_or_default();
    assignment.sort();
    GroupMember {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        assignment,
        metadata: member.member_metadata,
        assignment_data: member.member_assignment,
        ..GroupMember::default()
    }
}

fn described_by_coordinator(group: consumer_group_describe::DescribedGroup) -> Result<GroupDescription> {
    if let Some(error) = refused(group.error_code, group.error_message) {
        return Err(error);
    }
    let mut members: Vec<_> = group.members.into_iter().map(member_of_coordinator).collect();
    members.sort_by(|one, other| one.member_id.cmp(&other.member_id));
    Ok(GroupDescription {
        group_id: group.group_id,
        state: group.group_state,
        protocol_type: CONSUMER.to_owned(),
        protocol: group.assignor_name,
        group_type: CONSUMER.to_owned(),
        group_epoch: Some(group.group_epoch),
        assignment_epoch: Some(group.assignment_epoch),
        members,
    })
}

fn member_of_coordinator(member: consumer_group_describe::Member) -> GroupMember {
    GroupMember {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        assignment: partitions(&member.assignment),
        target_assignment: Some(partitions(&member.target_assignment)),
        member_epoch: Some(member.member_epoch),
        is_classic: member.member_type.filter(|kind| *kind >= 0).map(|kind| kind == 0),
        subscribed_topics: Some(member.subscribed_topic_names),
        subscribed_pattern: member.subscribed_topic_regex.filter(|pattern| !pattern.is_empty()),
        ..GroupMember::default()
    }
}

fn partitions(assignment: &Assignment) -> Vec<TopicPartition> {
    let of_topic = |topic: &consumer_group_describe::TopicPartitions| {
        let name = Arc::<str>::from(topic.topic_name.as_str());
        topic
            .partitions
            .iter()
            .map(move |partition| TopicPartition::new(Arc::clone(&name), *partition))
            .collect::<Vec<_>>()
    };
    let mut partitions: Vec<_> = assignment.topic_partitions.iter().flat_map(of_topic).collect();
    partitions.sort();
    partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumers_assignment_is_read_and_a_foreign_one_is_no_fault() {
        let bytes = [&[0, 1, 0, 0, 0, 1, 0, 1][..], b"t", &[0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 3], &[0xff; 4]].concat();
        let member = |data: &[u8]| DescribedGroupMember {
            member_assignment: Bytes::copy_from_slice(data),
            ..DescribedGroupMember::default()
        };
        let partitions = described_member(member(&bytes), true).assignment;
        assert_eq!(partitions, [TopicPartition::new("t", 3), TopicPartition::new("t", 5)]);
        assert_eq!(described_member(member(&bytes), false).assignment, [], "another protocol's");
        assert_eq!(described_member(member(&bytes[..12]), true).assignment, [], "cut off");
    }

    #[test]
    fn a_group_that_old_brokers_call_dead_is_not_found() {
        let dead = DescribedGroup { group_state: DEAD.into(), ..DescribedGroup::default() };
        assert_eq!(described(dead).unwrap_err().code(), Some(ErrorCode::GROUP_ID_NOT_FOUND));
    }
}
