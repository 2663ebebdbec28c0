//! The reports of records, written as they come.
//!
//! Within a partition they are written in the order in which the engine gives them, not in the order in which the
//! records were sent: so a reader can see whether the two agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use kavka::{Completion, Delivery, Error, RecordMetadata, Written};

use super::lines::{Line, now_ms};

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

    /// The line for a record that was not delivered.
    pub(super) fn write_error(&self, out: &mut Vec<u8>, number: u64, partition: Option<i32>, error: &Error) {
        let outcome = match error.written() {
            Written::No => "not_written",
            Written::Maybe => "maybe_written",
        };
        let mut line = self.begin(out, now_ms(), "producer_send_error", number).text("topic", &self.topic);
        if let Some(partition) = partition {
            line = line.member("partition", partition);
        }
        line.text("exception", &format!("{:?}", error.kind()))
            .text("message", &error.to_string())
            .text("outcome", outcome)
            .end();
    }

    fn write_success(&self, out: &mut Vec<u8>, now_ms: u128, number: u64, metadata: &RecordMetadata) {
        // -1 is what Java's producer names if it does not know the offset.
        let offset = metadata.offset.unwrap_or(-1);
        let line = self.begin(out, now_ms, "producer_send_success", number).text("topic", &self.topic);
        line.member("partition", metadata.partition).member("offset", offset).end();
    }
}

/// A batch that has records without a report.
struct Open {
    completion: Arc<Completion>,
    /// The number of each record, by its index in the batch.
    numbers: Vec<u64>,
    reported: u32,
}

/// The records on their way.
#[derive(Default)]
pub(super) struct Reports {
    /// By partition; the newest batch last.
    open: BTreeMap<i32, Vec<Open>>,
    pub(super) acked: u64,
}

impl Reports {
    /// Adds a record that was accepted.
    pub(super) fn add(&mut self, delivery: &Delivery, number: u64) {
        let completion = delivery.completion();
        let batches = self.open.entry(completion.partition()).or_default();
        match batches.last_mut() {
            Some(batch) if Arc::ptr_eq(&batch.completion, completion) => batch.numbers.push(number),
            _ => batches.push(Open { completion: Arc::clone(completion), numbers: vec![number], reported: 0 }),
        }
    }

    /// Writes the reports that have come.
    pub(super) fn write(&mut self, naming: &Naming, out: &mut Vec<u8>) {
        let now_ms = now_ms();
        for batches in self.open.values_mut() {
            batches.retain_mut(|batch| {
                self.acked += batch.write(naming, out, now_ms);
                (batch.reported as usize) < batch.numbers.len()
            });
        }
    }

    /// Whether a record has no report.
    pub(super) fn is_waiting(&self) -> bool {
        self.open.values().any(|batches| !batches.is_empty())
    }
}

impl Open {
    /// Returns how many records were stored.
    fn write(&mut self, naming: &Naming, out: &mut Vec<u8>, now_ms: u128) -> u64 {
        let mut acked = 0;
        while let (Some(outcome), Some(number)) =
            (self.completion.outcome(self.reported), self.numbers.get(self.reported as usize))
        {
            match outcome {
                Ok(metadata) => {
                    acked += 1;
                    naming.write_success(out, now_ms, *number, &metadata);
                }
                Err(error) => naming.write_error(out, *number, Some(self.completion.partition()), &error),
            }
            self.reported += 1;
        }
        acked
    }
}
