//! How a group with members changes its protocol, as with Kafka's `group.consumer.migration.policy=bidirectional`.
//!
//! A classic group of consumers becomes a consumer group (KIP-848) when the first member joins by
//! `ConsumerGroupHeartbeat`. Its members live on in it, and are replaced one by one. When the last member that uses
//! heartbeats of that kind goes, the group becomes a classic one again, whose members have to join anew. The same
//! happens when a static member that uses the classic protocol takes its place, but then a stable group stays stable.

use std::collections::BTreeMap;
use std::sync::Arc;

use kavka_core::time::Instant;
use kavka_core::wire::error_code::ErrorCode;

use super::classic::{self, CONSUMERS, ClassicGroup, Waits};
use super::consumer::{self, Classic, ConsumerGroup, Topics};
use super::embedded;
use crate::waits::Wakes;

/// The consumer group that a classic group becomes: its members have what they were assigned last. Those that wait for
/// the group are told to join again.
///
/// `None` if it is not a group of consumers, or if their data cannot be read.
pub(super) fn upgrade(
    group: &mut ClassicGroup,
    now: Instant,
    topics: &Topics,
    wakes: &mut Wakes,
) -> Option<ConsumerGroup> {
    if group.protocol_type != CONSUMERS {
        return None;
    }
    let generation_id = group.generation_id;
    let upgrade = |(member_id, member): (&String, &classic::Member)| {
        let subscription = embedded::subscription(&member.metadata(&group.protocol_name))?;
        let assigned = embedded::assignment(&member.assignment, topics)?;
        let classic = Classic { session_timeout: member.session_timeout, protocols: member.protocols.clone() };
        let upgraded = consumer::Member {
            instance_id: member.group_instance_id.clone(),
            rack_id: subscription.rack_id,
            client_id: member.client_id.clone(),
            rebalance_timeout: member.rebalance_timeout,
            topic_names: subscription.topics.into_iter().collect(),
            classic: Some(Arc::new(classic)),
            epoch: generation_id,
            previous_epoch: generation_id,
            target: assigned.clone(),
            assigned,
            expires: now + member.session_timeout,
            ..consumer::Member::default()
        };
        Some((member_id.clone(), upgraded))
    };
    let members = group.members.iter().map(upgrade).collect::<Option<BTreeMap<_, _>>>()?;
    for (member_id, member) in &mut group.members {
        member.refuse(member_id, ErrorCode::REBALANCE_IN_PROGRESS, wakes);
    }
    Some(ConsumerGroup::stable(generation_id, members))
}

/// The classic group that a consumer group becomes, all of whose members use the classic protocol. It is stable, with
/// what the coordinator meant everybody to have; it has to rebalance if somebody does not have that yet.
pub(super) fn downgrade(group: &ConsumerGroup, now: Instant, topics: &Topics) -> ClassicGroup {
    let downgrade = |(member_id, member): (&String, &consumer::Member)| {
        let classic = member.classic.as_ref()?;
        let metadata = classic.protocols.first().map(|(_, metadata)| metadata.clone()).unwrap_or_default();
        let downgraded = classic::Member {
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            assignment: embedded::encode_assignment(&member.target, &metadata, topics),
            session_timeout: classic.session_timeout,
            rebalance_timeout: member.rebalance_timeout,
            protocols: classic.protocols.clone(),
            waits: Waits::No,
            has_synced: true,
            expires: now + classic.session_timeout,
        };
        Some((member_id.clone(), downgraded))
    };
    ClassicGroup::stable(group.epoch, group.members.iter().filter_map(downgrade).collect())
}
