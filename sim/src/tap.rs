//! Looks at every produce request before it is sent.
//!
//! A batch that may be in the log never changes: whatever is sent with the same producer id, epoch and sequence number
//! has the same bytes, unless the broker has definitely refused what was sent before. The batches of one epoch follow
//! each other without a gap. An epoch begins only when all requests of the one before are answered or lost.

use std::collections::BTreeMap;

use kavka_core::wire::ErrorCode;
use kavka_core::wire::messages::{ProduceRequest, ProduceResponse};

use crate::log::{self, Numbers};

/// A producer id, its epoch, and a partition.
type Sequence = (i64, i16, i32);

#[derive(Debug, Default)]
pub(crate) struct Tap {
    /// What was sent, by its first sequence number.
    sent: BTreeMap<(Sequence, i32), Vec<u8>>,
    /// The next sequence number of each sequence.
    next: BTreeMap<Sequence, i32>,
    /// The batches of the requests that are not answered.
    asked: BTreeMap<u64, Vec<(Sequence, i32)>>,
}

impl Tap {
    /// A request goes out under this number.
    pub(crate) fn handle_request(&mut self, id: u64, request: &ProduceRequest) {
        for data in request.topic_data.iter().flat_map(|topic| &topic.partition_data) {
            let bytes = data.records.clone().unwrap_or_default().into_bytes();
            let Numbers { producer_id, producer_epoch, base_sequence, record_count } = log::numbers(&bytes);
            if producer_id < 0 {
                continue;
            }
            let sequence = (producer_id, producer_epoch, data.index);
            let is_older = |((id, epoch, index), _): &(Sequence, i32)| {
                (*id, *index) == (producer_id, data.index) && *epoch < producer_epoch
            };
            let older = self.asked.values().flatten().find(|asked| is_older(asked));
            assert!(older.is_none(), "{sequence:?} begins while {older:?} is in flight");
            let known = self.sent.get(&(sequence, base_sequence));
            let is_same = known.is_none_or(|known| *known == bytes);
            assert!(is_same, "another batch is sent with {sequence:?} and the sequence number {base_sequence}");
            let next = self.next.entry(sequence).or_insert(0);
            assert!(base_sequence <= *next, "{sequence:?} goes on at {base_sequence}, and not at {next}");
            *next = (*next).max(base_sequence + record_count);
            self.sent.insert((sequence, base_sequence), bytes.to_vec());
            self.asked.entry(id).or_default().push((sequence, base_sequence));
        }
    }

    /// The answer to a request; `None` if there is none.
    pub(crate) fn handle_response(&mut self, id: u64, response: Option<&ProduceResponse>) {
        let asked = self.asked.remove(&id).unwrap_or_default();
        let Some(response) = response else { return };
        for (sequence, base_sequence) in asked {
            let all = response.responses.iter().flat_map(|topic| &topic.partition_responses);
            let mut own = all.filter(|answer| answer.index == sequence.2);
            if let (Some(answer), None) = (own.next(), own.next())
                && is_definite(answer.error_code)
            {
                self.sent.remove(&(sequence, base_sequence));
            }
        }
    }
}

/// Whether this error code says that nothing of the batch is in the log, so that its records may be divided among
/// other batches.
fn is_definite(code: ErrorCode) -> bool {
    const CODES: [ErrorCode; 4] = [
        ErrorCode::MESSAGE_TOO_LARGE,
        ErrorCode::RECORD_LIST_TOO_LARGE,
        ErrorCode::INVALID_RECORD,
        ErrorCode::CORRUPT_MESSAGE,
    ];
    CODES.contains(&code)
}
