//! The reports of records, written as they come.
//!
//! Within a partition they are written in the order in which the engine gives them, not in the order in which the
//! records were sent: so a reader can see whether the two agree.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kavka::{Completion, Delivery, Error, RecordMetadata, Written};

use super::lines::{Line, now_ms};

/// Reports that were not there this long ago are of failures since: between failing a record and reporting it, the
/// engine accepts others, which do not fail.
const LONG_MS: u128 = 1000;

/// The values and keys by the number of a record.
#[derive(Debug)]
pub(super) struct Naming {
    pub(super) topic: String,
    pub(super) value_prefix: Option<u32>,
    pub(super) repeating_keys: Option<u64>,
}

impl Naming {
    pub(super) fn value(&self, number: u64) -> String {
        self.value_prefix.map_or_else(|| number.to_string(), |prefix| format!("{prefix}.{number}"))
    }

    pub(super) fn key(&self, number: u64) -> Option<String> {
        self.repeating_keys.map(|keys| (number % keys).to_string())
    }

    fn begin<'a>(&self, out: &'a mut Vec<u8>, now_ms: u128, name: &str, number: u64) -> Line<'a> {
        let (key, value) = (self.key(number), self.value(number));
        Line::new(out, now_ms, name).bytes("key", key.as_deref().map(str::as_bytes)).text("value", &value)
    }

    /// The line for a record that was not delivered. `told` is missing if it was not even accepted.
    pub(super) fn write_error(&self, out: &mut Vec<u8>, number: u64, told: Option<Told>, error: &Error) {
        let outcome = match error.written() {
            Written::No => "not_written",
            Written::Maybe => "maybe_written",
        };
        let mut line = self.begin(out, now_ms(), "producer_send_error", number).text("topic", &self.topic);
        if let Some(Told { partition, age_ms, accepted }) = told {
            line = line.member("partition", partition).member("age_ms", age_ms).member("accepted", accepted);
        }
        line.text("exception", &format!("{:?}", error.kind()))
            .text("message", &error.to_string())
            .text("outcome", outcome)
            .end();
    }

    fn write_success(&self, out: &mut Vec<u8>, now_ms: u128, number: u64, age_ms: u128, metadata: &RecordMetadata) {
        // -1 is what Java's producer names if it does not know the offset.
        let offset = metadata.offset.unwrap_or(-1);
        let line = self.begin(out, now_ms, "producer_send_success", number).text("topic", &self.topic);
        let line = line.member("partition", metadata.partition).member("offset", offset);
        line.member("age_ms", age_ms).end();
    }
}

/// What is told of a record that was accepted and failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    partition: i32,
    /// How old it was when it had no report yet.
    age_ms: u128,
    /// How many records were accepted long before it failed.
    accepted: u64,
}

/// A record that was accepted.
struct Sent {
    number: u64,
    accepted_ms: u64,
}

impl Sent {
    fn age_ms(&self, now_ms: u128) -> u128 {
        now_ms.saturating_sub(self.accepted_ms.into())
    }
}

/// When reports are written, and when they were written last.
#[derive(Debug, Clone, Copy)]
struct Times {
    now_ms: u128,
    looked_ms: u128,
    /// How many records were accepted long ago.
    accepted: u64,
}

/// A batch that has records without a report.
struct Open {
    completion: Arc<Completion>,
    /// The records by their index in the batch.
    records: Vec<Sent>,
    reported: u32,
}

/// The records on their way.
#[derive(Default)]
pub(super) struct Reports {
    /// By partition; the newest batch last.
    open: BTreeMap<i32, Vec<Open>>,
    pub(super) acked: u64,
    /// How many records were accepted so far.
    accepted: u64,
    /// When reports were written in the last [`LONG_MS`], and how many records were accepted by then. The first is
    /// older.
    written: VecDeque<(u128, u64)>,
}

impl Reports {
    /// Adds a record that was accepted.
    pub(super) fn add(&mut self, delivery: &Delivery, number: u64) {
        self.accepted = number + 1;
        let record = Sent { number, accepted_ms: now_ms() as u64 };
        let completion = delivery.completion();
        let batches = self.open.entry(completion.partition()).or_default();
        match batches.last_mut() {
            Some(batch) if Arc::ptr_eq(&batch.completion, completion) => batch.records.push(record),
            _ => batches.push(Open { completion: Arc::clone(completion), records: vec![record], reported: 0 }),
        }
    }

    /// Writes the reports that have come.
    pub(super) fn write(&mut self, naming: &Naming, out: &mut Vec<u8>) {
        let now_ms = now_ms();
        while self.written.get(1).is_some_and(|(then, _)| then + LONG_MS <= now_ms) {
            self.written.pop_front();
        }
        let long_ago = self.written.front().filter(|(then, _)| then + LONG_MS <= now_ms);
        let accepted = long_ago.map_or(0, |(_, accepted)| *accepted);
        // Then there was no report yet. Since then this program may have been busy with writing others.
        let looked_ms = self.written.back().map_or(now_ms, |(then, _)| *then);
        let times = Times { now_ms, looked_ms, accepted };
        for batches in self.open.values_mut() {
            batches.retain_mut(|batch| {
                self.acked += batch.write(naming, out, times);
                (batch.reported as usize) < batch.records.len()
            });
        }
        self.written.push_back((now_ms, self.accepted));
    }

    /// Whether a record has no report.
    pub(super) fn is_waiting(&self) -> bool {
        self.open.values().any(|batches| !batches.is_empty())
    }
}

impl Open {
    /// Returns how many records were stored.
    fn write(&mut self, naming: &Naming, out: &mut Vec<u8>, times: Times) -> u64 {
        let Times { now_ms, looked_ms, accepted } = times;
        let mut acked = 0;
        while let (Some(outcome), Some(record)) =
            (self.completion.outcome(self.reported), self.records.get(self.reported as usize))
        {
            match outcome {
                Ok(metadata) => {
                    acked += 1;
                    let age_ms = record.age_ms(looked_ms);
                    naming.write_success(out, now_ms, record.number, age_ms, &metadata);
                }
                Err(error) => {
                    let age_ms = record.age_ms(looked_ms);
                    let told = Told { partition: self.completion.partition(), age_ms, accepted };
                    naming.write_error(out, record.number, Some(told), &error);
                }
            }
            self.reported += 1;
        }
        acked
    }
}
