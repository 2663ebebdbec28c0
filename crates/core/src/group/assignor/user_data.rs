//! The user data of subscriptions, in which sticky assignors tell the leader about a member.

use bytes::Bytes;

use crate::consumer::TopicPartition;
use crate::error::Result;
use crate::group::subscription::encode_share;
use crate::wire::Decoder;

/// User data of a `sticky` member: the partitions that it had before it gave them up, and the generation.
pub(super) fn encode_owned(owned: &[TopicPartition], generation_id: i32) -> Result<Bytes> {
    Ok([encode_share(owned)?, generation_id.to_be_bytes().to_vec()].concat().into())
}

/// Reads it. Version 0 has no generation. Malformed data counts as empty, as in Java's assignor.
pub(super) fn decode_owned(user_data: &Bytes) -> (Vec<TopicPartition>, Option<i32>) {
    read_owned(&mut Decoder::from(user_data.clone())).unwrap_or_default()
}

fn read_owned(decoder: &mut Decoder) -> Option<(Vec<TopicPartition>, Option<i32>)> {
    let mut owned = Vec::new();
    for _ in 0..decoder.length(false).ok()?? {
        let topic: std::sync::Arc<str> = decoder.string(false).ok()??.into();
        for _ in 0..decoder.length(false).ok()?? {
            let number = i32::from_be_bytes(decoder.array().ok()?);
            owned.push(TopicPartition::new(std::sync::Arc::clone(&topic), number));
        }
    }
    Some((owned, decode_generation(&decoder.clone().into_rest())))
}

/// User data of a `cooperative-sticky` member: its generation, for leaders that do not know version 2 of the
/// subscription.
pub(super) fn encode_generation(generation_id: i32) -> Bytes {
    generation_id.to_be_bytes().to_vec().into()
}

/// Reads it.
pub(super) fn decode_generation(user_data: &[u8]) -> Option<i32> {
    user_data.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned() -> Vec<TopicPartition> {
        [("letters", 0), ("letters", 2), ("orders", 1)].map(|(topic, number)| TopicPartition::new(topic, number)).into()
    }

    #[test]
    fn what_a_member_had_is_read_with_and_without_its_generation() {
        let bytes = encode_owned(&owned(), 7).unwrap();
        assert_eq!(decode_owned(&bytes), (owned(), Some(7)));
        assert_eq!(decode_owned(&bytes.slice(..bytes.len() - 4)), (owned(), None));
    }

    #[test]
    fn malformed_user_data_counts_for_nothing_and_is_never_a_panic() {
        let bytes = encode_owned(&owned(), 7).unwrap();
        assert_eq!(decode_owned(&Bytes::new()), (Vec::new(), None));
        assert_eq!(decode_owned(&Bytes::from_static(b"testuserdata")), (Vec::new(), None));
        for place in 0..bytes.len() {
            drop(decode_owned(&bytes.slice(..place)));
            for wrong in [0x00, 0x7f, 0x80, 0xff] {
                let mut damaged = bytes.to_vec();
                damaged[place] = wrong;
                drop(decode_owned(&damaged.into()));
            }
        }
    }
}
