//! What the members of a classic consumer group send each other. The coordinator passes it on without reading it.
//!
//! Each member sends a [`Subscription`] when it joins; the leader answers with one assignment per member. Both begin
//! with a version. Other clients write them, too, so nothing in them is trusted: malformed data is an error, and of a
//! version newer than ours only the known part is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::consumer::TopicPartition;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::messages::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, ConsumerProtocolTopic,
};
use crate::wire::{DecodeError, Decoder, Encoder, Message};

/// The version of subscriptions that we write.
const SUBSCRIPTION_VERSION: i16 = 3;
/// The version of assignments that we write; members of every version can read it.
const ASSIGNMENT_VERSION: i16 = 0;
/// Null user data.
const NO_USER_DATA: [u8; 4] = (-1_i32).to_be_bytes();

/// The topics a member wants, and the partitions it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The subscribed topics.
    pub topics: Vec<Arc<str>>,
    /// Data for the assignor of the leader.
    pub user_data: Bytes,
    /// The partitions that the member owns (KIP-429).
    pub owned: Vec<TopicPartition>,
    /// The generation in which it got them (KIP-792).
    pub generation_id: Option<i32>,
    /// The member's rack (KIP-881): its `client.rack`.
    pub rack: Option<String>,
}

impl Subscription {
    /// The subscription in the form that `JoinGroup` carries.
    ///
    /// # Errors
    ///
    /// `Misuse` if a string or list is too long for the protocol.
    pub fn encode(&self) -> Result<Bytes> {
        let message = ConsumerProtocolSubscription {
            topics: self.topics.iter().map(ToString::to_string).collect(),
            user_data: Some(self.user_data.clone()),
            owned_partitions: by_topic(&self.owned),
            generation_id: self.generation_id,
            rack_id: self.rack.clone(),
        };
        encode(&message, SUBSCRIPTION_VERSION)
    }

    /// Reads a subscription that any client may have written.
    ///
    /// # Errors
    ///
    /// `Malformed` if it is not a subscription.
    pub fn decode(bytes: Bytes) -> Result<Self> {
        let (version, mut decoder) = versioned(bytes, "subscription")?;
        let message = ConsumerProtocolSubscription::decode(version.min(SUBSCRIPTION_VERSION), &mut decoder)
            .map_err(|error| malformed("subscription", error))?;
        Ok(Self {
            topics: message.topics.iter().map(|topic| Arc::from(topic.as_str())).collect(),
            user_data: message.user_data.unwrap_or_default(),
            owned: flat(message.owned_partitions),
            generation_id: message.generation_id,
            rack: message.rack_id,
        })
    }
}

/// The assignment in the form that `SyncGroup` carries.
///
/// # Errors
///
/// `Misuse` if a topic name is too long for the protocol.
pub fn encode_assignment(partitions: &[TopicPartition]) -> Result<Bytes> {
    let message = ConsumerProtocolAssignment { assigned_partitions: by_topic(partitions), user_data: None };
    encode(&message, ASSIGNMENT_VERSION)
}

/// The topics and partitions of an assignment, without version and user data.
pub(super) fn encode_share(partitions: &[TopicPartition]) -> Result<Vec<u8>> {
    let assignment = encode_assignment(partitions)?;
    Ok(assignment.slice(2..assignment.len() - NO_USER_DATA.len()).to_vec())
}

/// Reads an assignment. Its user data is ignored, and may be missing: `PyKafka` 2 wrote none.
///
/// # Errors
///
/// `Malformed` if it is not an assignment.
pub fn decode_assignment(bytes: &[u8]) -> Result<Vec<TopicPartition>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let with_user_data = Bytes::from([bytes, &NO_USER_DATA[..]].concat());
    let (_, mut decoder) = versioned(with_user_data, "assignment")?;
    let message = ConsumerProtocolAssignment::decode(ASSIGNMENT_VERSION, &mut decoder);
    message.map(|message| flat(message.assigned_partitions)).map_err(|error| malformed("assignment", error))
}

fn encode<M: Message>(message: &M, version: i16) -> Result<Bytes> {
    let mut encoder = Encoder::new();
    encoder.put_slice(&version.to_be_bytes());
    let too_long = |error| Error::new(ErrorKind::Misuse, format!("a subscription cannot be written: {error}"));
    message.encode(version, &mut encoder).map_err(too_long)?;
    Ok(encoder.finish().concat().into())
}

fn versioned(bytes: Bytes, what: &str) -> Result<(i16, Decoder)> {
    let mut decoder = Decoder::from(bytes);
    let version = decoder.array().map(i16::from_be_bytes).map_err(|error| malformed(what, error))?;
    if version < 0 {
        return Err(Error::new(ErrorKind::Malformed, format!("a member's {what} has the version {version}")));
    }
    Ok((version, decoder))
}

fn malformed(what: &str, error: DecodeError) -> Error {
    Error::new(ErrorKind::Malformed, format!("a member's {what} cannot be read")).with_source(Error::from(error))
}

fn by_topic(partitions: &[TopicPartition]) -> Vec<ConsumerProtocolTopic> {
    let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
    for key in partitions {
        topics.entry(&key.topic).or_default().push(key.partition);
    }
    topics
        .into_iter()
        .map(|(topic, partitions)| ConsumerProtocolTopic { topic: topic.to_string(), partitions })
        .collect()
}

fn flat(topics: Vec<ConsumerProtocolTopic>) -> Vec<TopicPartition> {
    let mut all = Vec::new();
    for ConsumerProtocolTopic { topic, partitions } in topics {
        let topic: Arc<str> = topic.into();
        all.extend(partitions.into_iter().map(|partition| TopicPartition::new(Arc::clone(&topic), partition)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[(&str, i32)]) -> Vec<TopicPartition> {
        keys.iter().map(|(topic, partition)| TopicPartition::new(*topic, *partition)).collect()
    }

    fn subscription() -> Subscription {
        Subscription {
            topics: vec!["orders".into(), "letters".into()],
            user_data: Bytes::from_static(b"data"),
            owned: keys(&[("letters", 0), ("orders", 3)]),
            generation_id: Some(7),
            rack: Some("east".into()),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(Subscription::decode(subscription().encode().unwrap()).unwrap(), subscription());
        let share = keys(&[("letters", 0), ("letters", 2), ("orders", 1)]);
        assert_eq!(decode_assignment(&encode_assignment(&share).unwrap()).unwrap(), share);
    }

    #[test]
    fn of_a_newer_version_the_known_part_is_read() {
        let mut bytes = subscription().encode().unwrap().to_vec();
        bytes[1] = 9;
        bytes.extend_from_slice(b"something new");
        assert_eq!(Subscription::decode(bytes.into()).unwrap(), subscription());
    }

    #[test]
    fn a_member_that_is_given_nothing_gets_no_bytes_or_an_empty_list() {
        assert_eq!(decode_assignment(&[]).unwrap(), []);
        assert_eq!(decode_assignment(&encode_assignment(&[]).unwrap()).unwrap(), []);
    }

    #[test]
    fn an_assignment_without_user_data_is_read() {
        let whole = encode_assignment(&keys(&[("orders", 1)])).unwrap();
        let mut cut = whole[..whole.len() - NO_USER_DATA.len()].to_vec();
        cut[1] = 1;
        assert_eq!(decode_assignment(&cut).unwrap(), keys(&[("orders", 1)]));
    }

    #[test]
    fn every_cut_and_every_wrong_byte_is_refused_or_read_but_never_a_panic() {
        let bytes = subscription().encode().unwrap();
        for place in 0..bytes.len() {
            assert!(Subscription::decode(bytes.slice(..place)).is_err(), "cut at {place}");
            for wrong in [0x00, 0x7f, 0x80, 0xff] {
                let mut damaged = bytes.to_vec();
                damaged[place] = wrong;
                drop(Subscription::decode(damaged.clone().into()));
                drop(decode_assignment(&damaged));
            }
        }
    }
}
