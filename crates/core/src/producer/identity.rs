//! The producer id and epoch, and the sequence number of each partition (KIP-98, KIP-360).
//!
//! Any broker can assign the producer id. The epoch is kept per partition, because brokers check it per partition: when
//! the sequence of one partition is broken, its epoch is bumped and its sequence restarts at 0, and other partitions
//! are not affected. No sequence number is used twice in one epoch.
//!
//! The epoch may be bumped only while no batch of the partition is in flight.

use crate::time::Instant;
use crate::wire::records::ProducerStamp;

/// A producer id and its first epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProducerId {
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
}

impl ProducerId {
    /// The same producer id with the next epoch; `None` if the epochs are used up.
    pub(super) fn next_epoch(self) -> Option<Self> {
        let next = self.producer_epoch.checked_add(1).filter(|epoch| *epoch < i16::MAX)?;
        Some(Self { producer_epoch: next, ..self })
    }
}

/// The state of the producer id.
#[derive(Debug)]
pub(super) enum Identity {
    /// The producer is not idempotent and needs none.
    Off,
    /// It must be requested, but not before this time.
    Wanted(Instant),
    /// The request with this id asks for it.
    Asked(u64),
    Known(ProducerId),
}

/// The sequence number `count` records after `base`; sequence numbers wrap around at 2^31 - 1.
pub(super) fn sequence_after(base: i32, count: u32) -> i32 {
    (base as u32).wrapping_add(count) as i32 & i32::MAX
}

/// The sequence of one partition.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    current: Option<ProducerId>,
    next: i32,
    /// Whether a broker has acknowledged a batch of this epoch. Before that, only one batch may be in flight: a broker
    /// that has no state for this producer accepts any first sequence number, so it could store the second batch
    /// without the first.
    pub(super) acknowledged: bool,
    /// Whether sequence numbers were used for records that are not, or may not be, in the log.
    pub(super) broken: bool,
    /// Whether the leader keeps the topic in a format without them (`message.format.version`).
    pub(super) unsupported: bool,
}

impl Sequences {
    /// Whether [`stamp`](Self::stamp) needs a producer id first.
    pub(super) fn needs_identity(&self) -> bool {
        self.current.is_none()
    }

    /// The current producer id and epoch.
    pub(super) fn producer_id(&self) -> Option<ProducerId> {
        self.current
    }

    /// Sets the producer id, if none is set.
    pub(super) fn adopt(&mut self, identity: ProducerId) {
        if self.current.is_none() {
            self.current = Some(identity);
        }
    }

    /// Takes the next sequence numbers, for a batch of `count` records.
    pub(super) fn stamp(&mut self, count: u32) -> Option<ProducerStamp> {
        let ProducerId { producer_id, producer_epoch } = self.current?;
        let base_sequence = self.next;
        self.next = sequence_after(base_sequence, count);
        Some(ProducerStamp { producer_id, producer_epoch, base_sequence })
    }

    /// For planted bugs: uses sequence numbers again.
    pub(super) fn go_back_to(&mut self, sequence: i32) {
        self.next = sequence;
    }

    /// Bumps the epoch and restarts the sequence. False if the epochs are used up: a new producer id is needed.
    pub(super) fn start_next_epoch(&mut self) -> bool {
        let next = self.current.and_then(ProducerId::next_epoch);
        let is_used_up = self.current.is_some() && next.is_none();
        *self = Self { current: next, ..Self::default() };
        !is_used_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_wrap_to_zero_after_the_largest() {
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
        assert_eq!(sequence_after(0, 7), 7);
    }

    #[test]
    fn batches_follow_each_other_across_the_wrap() {
        let mut sequences = Sequences { next: i32::MAX - 1, ..Sequences::default() };
        sequences.adopt(ProducerId { producer_id: 9, producer_epoch: 0 });
        let stamps: Vec<_> = (0..3).map(|_| sequences.stamp(2).unwrap().base_sequence).collect();
        assert_eq!(stamps, [i32::MAX - 1, 0, 2]);
    }

    #[test]
    fn after_the_last_epoch_a_new_producer_id_is_needed() {
        let mut sequences = Sequences::default();
        sequences.adopt(ProducerId { producer_id: 9, producer_epoch: i16::MAX - 2 });
        assert!(sequences.start_next_epoch());
        assert_eq!(sequences.stamp(1).unwrap().producer_epoch, i16::MAX - 1);
        assert!(!sequences.start_next_epoch());
        assert!(sequences.needs_identity());
    }
}
