//! Who we are to the brokers, and where the sequence of each partition stands (KIP-98, KIP-360).
//!
//! The producer id comes from any broker. The epoch is kept per partition, because brokers check it per partition:
//! when the sequence of one partition is broken, its epoch grows and its sequence starts at 0 again, and no other
//! partition notices. Sequence numbers are never handed out twice in one epoch.
//!
//! The epoch may only grow while nothing of the partition is in flight.

use crate::time::Instant;
use crate::wire::records::ProducerStamp;

/// The producer id and the first epoch that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProducerId {
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
}

impl ProducerId {
    /// The same producer in its next epoch; none if that was the last.
    pub(super) fn next_epoch(self) -> Option<Self> {
        let next = self.producer_epoch.checked_add(1).filter(|epoch| *epoch < i16::MAX)?;
        Some(Self { producer_epoch: next, ..self })
    }
}

/// How far we are with getting a producer id.
#[derive(Debug)]
pub(super) enum Identity {
    /// Not idempotent: batches carry none.
    Off,
    /// To be asked for, not before this time.
    Wanted(Instant),
    /// Asked for by the request with this id.
    Asked(u64),
    Known(ProducerId),
}

/// `base` moved on by `count` records: sequence numbers wrap at 2^31 - 1.
pub(super) fn sequence_after(base: i32, count: u32) -> i32 {
    (base as u32).wrapping_add(count) as i32 & i32::MAX
}

/// Where one partition stands.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    current: Option<ProducerId>,
    next: i32,
    /// Whether a broker accepted anything in this epoch. Until then one batch may be in flight: a broker that knows
    /// nothing of us takes any first sequence number, so the second batch could be stored without the first.
    pub(super) acknowledged: bool,
    /// Whether numbers were spent on records that are not in the log, or may not be.
    pub(super) broken: bool,
}

impl Sequences {
    /// Whether [`stamp`](Self::stamp) needs a producer id first.
    pub(super) fn needs_identity(&self) -> bool {
        self.current.is_none()
    }

    /// The producer id and epoch that its numbers belong to.
    pub(super) fn producer_id(&self) -> Option<ProducerId> {
        self.current
    }

    /// Adopts a producer id if there is none.
    pub(super) fn adopt(&mut self, identity: ProducerId) {
        if self.current.is_none() {
            self.current = Some(identity);
        }
    }

    /// Takes the next numbers for a batch of `count` records.
    pub(super) fn stamp(&mut self, count: u32) -> Option<ProducerStamp> {
        let ProducerId { producer_id, producer_epoch } = self.current?;
        let base_sequence = self.next;
        self.next = sequence_after(base_sequence, count);
        Some(ProducerStamp { producer_id, producer_epoch, base_sequence })
    }

    /// Starts anew in the next epoch. False when there is none left: a new producer id is needed.
    pub(super) fn start_next_epoch(&mut self) -> bool {
        *self = Self { current: self.current, ..Self::default() };
        let Some(current) = self.current else { return true };
        self.current = current.next_epoch();
        self.current.is_some()
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
