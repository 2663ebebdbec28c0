//! The consumer embedded protocol: what the members of a classic group of consumers say inside `JoinGroup` and
//! `SyncGroup`.
//!
//! Only members read it, except where the coordinator has to know topics: when offsets are deleted, and when the group
//! has members that leave the assignment to the coordinator (KIP-848).

use bytes::Bytes;
use kavka_core::wire::messages::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, ConsumerProtocolTopic,
};
use kavka_core::wire::{Decoder, Encoder, Message};

use super::assignor::Partitions;
use super::consumer::Topics;

/// The newest version.
const NEWEST: i16 = 3;

/// The version that precedes the data, or the newest if it is newer. `None` if it is no version.
fn version(data: &Bytes) -> Option<i16> {
    let version = i16::from_be_bytes(data.first_chunk().copied()?);
    (version >= 0).then_some(version.min(NEWEST))
}

fn decode<M: Message>(data: &Bytes) -> Option<M> {
    let version = version(data)?;
    M::decode(version, &mut Decoder::from(data.slice(2..))).ok()
}

/// What a member sent when it joined. `None` if it is not the data of a consumer.
pub(super) fn subscription(data: &Bytes) -> Option<ConsumerProtocolSubscription> {
    decode(data)
}

/// The partitions of an assignment; empty for a member that was not assigned anything yet. `None` if it is not that of
/// a consumer.
pub(super) fn assignment(data: &Bytes, topics: &Topics) -> Option<Partitions> {
    if data.is_empty() {
        return Some(Partitions::new());
    }
    decode::<ConsumerProtocolAssignment>(data).map(|assignment| by_id(&assignment.assigned_partitions, topics))
}

/// These partitions by their topics' ids. Topics that do not exist are left out.
pub(super) fn by_id(named: &[ConsumerProtocolTopic], topics: &Topics) -> Partitions {
    let known = named.iter().filter_map(|named| topics.get(named.topic.as_str()).map(|topic| (topic.topic_id, named)));
    known.flat_map(|(id, named)| named.partitions.iter().map(move |partition| (id, *partition))).collect()
}

/// The assignment of a member that joined with `metadata`, in the version of that.
pub(super) fn encode_assignment(partitions: &Partitions, metadata: &Bytes, topics: &Topics) -> Bytes {
    let named = topics.values().filter_map(|topic| {
        let of_topic = partitions.iter().filter(|(topic_id, _)| *topic_id == topic.topic_id);
        let partitions: Vec<i32> = of_topic.map(|(_, partition)| *partition).collect();
        (!partitions.is_empty()).then(|| ConsumerProtocolTopic { topic: topic.name.to_string(), partitions })
    });
    let assignment = ConsumerProtocolAssignment { assigned_partitions: named.collect(), user_data: None };
    let version = version(metadata).unwrap_or(0);
    let mut encoder = Encoder::new();
    encoder.put_slice(&version.to_be_bytes());
    // Topic names are short enough for the protocol.
    let outcome = assignment.encode(version, &mut encoder);
    debug_assert!(outcome.is_ok(), "an assignment can be encoded: {outcome:?}");
    encoder.finish().concat().into()
}
