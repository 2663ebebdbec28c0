//! Many messages in one call, as columns.
//!
//! They are handed out as by `consume_batch`: the first ones with all that may be due, the others if they are already
//! fetched. But the messages of a fetched batch are claimed in few steps, and no Python object is made for one.

use kavka::{Batch, FetchedResponse, RecordView, Span};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::Consumer;
use super::batches::{begin, postpone, start_ready, take_another};
use super::messages::Pin;
use crate::arrow::columns::{Columns, Content, Data, refer_to_data};
use crate::running::Running;

/// Up to this many bytes of keys and values are copied, so that a few small messages do not keep megabytes.
const COPIED_BYTES: usize = 4 << 10;

/// The most bytes of a record batch, whatever `fetch_buffer` is: 32 bits must do to say where one of them is.
const MAX_BYTES: usize = 1 << 30;

/// See `Consumer.consume_arrow`.
pub(super) fn consume(
    consumer: &Consumer,
    py: Python<'_>,
    max_records: usize,
    timeout: Option<f64>,
) -> PyResult<Columns> {
    let limit = begin(consumer, py, timeout)?;
    let running = consumer.running(py)?;
    let running = running.check(py)?;
    if running.settings.get().deserializer.is_some() {
        let text = "consume_arrow does not call the consumer's deserializer; use a consumer without one";
        return Err(PyValueError::new_err(text));
    }
    let mut columns = Building::new(running, max_records);
    let mut take_first = || {
        consumer.take_from_batch(py, |running, batch, _, processing| {
            let first = columns.take(running, batch)?;
            processing.begin(batch.topic_partition().partition, first);
            Some(())
        })
    };
    let first = match take_first()? {
        Some(()) => Some(()),
        None => consumer.next_from_engine(py, limit, None, take_first)?,
    };
    // The messages so far are handed out; an error from here on is for the next call.
    if first.is_some()
        && let Err(error) = add_what_is_ready(consumer, py, running, &mut columns)
    {
        postpone(consumer, error.into());
    }
    Ok(columns.content.finish())
}

impl Consumer {
    /// Lets the next call for messages, or `stop`, raise an exception that is no error.
    pub(crate) fn raise_next(&self, error: PyErr) {
        postpone(self, error.into());
    }
}

fn add_what_is_ready(consumer: &Consumer, py: Python<'_>, running: &Running, columns: &mut Building) -> PyResult<()> {
    while !columns.is_full() {
        let taken = take_another(consumer, py, |running, batch, _, processing| {
            let first = columns.take(running, batch)?;
            processing.begin_another(batch.topic_partition().partition, first);
            Some(())
        })?;
        if taken.is_none() && !start_ready(consumer, py, running)? {
            return Ok(());
        }
    }
    Ok(())
}

/// A record batch that is being made.
struct Building {
    content: Content,
    max_records: usize,
    /// How many bytes of fetch buffers the program may keep; the rest is copied.
    max_kept_bytes: usize,
    /// About how many bytes its keys and values have.
    bytes: usize,
    /// The responses whose buffers it keeps.
    responses: Vec<FetchedResponse>,
}

impl Building {
    fn new(running: &Running, max_records: usize) -> Self {
        let max_kept_bytes = running.settings.get().config.fetch_buffer;
        let content = Content::of_topic(&running.topic);
        Self { content, max_records, max_kept_bytes, bytes: 0, responses: Vec::new() }
    }

    fn is_full(&self) -> bool {
        let bytes = self.bytes.saturating_add(self.content.header_bytes());
        self.content.rows() >= self.max_records || bytes >= self.max_kept_bytes.min(MAX_BYTES)
    }

    /// Takes what it has room for from a batch; returns the offset of the first record, if there is one.
    fn take(&mut self, running: &Running, batch: &mut Batch) -> Option<i64> {
        let (number, response, kept_bytes) =
            (batch.topic_partition().partition, batch.shared_response(), batch.kept_bytes());
        let (records, data) = batch.next_records(self.max_records - self.content.rows());
        let first = records.first()?.offset;
        let used_bytes = payload_bytes(records);
        let becomes = if !refer_to_data(records) {
            Data::Inline
        } else if self.content.holds(data) || self.keeps(running, response, kept_bytes, used_bytes) {
            Data::Kept
        } else {
            Data::Copied
        };
        self.bytes = self.bytes.saturating_add(used_bytes);
        self.content.extend(number, records, data, becomes);
        Some(first)
    }

    /// Whether the columns may keep the buffer of a batch.
    fn keeps(&mut self, running: &Running, response: Option<FetchedResponse>, kept: usize, used: usize) -> bool {
        if response.as_ref().is_some_and(|response| self.responses.contains(response)) {
            return true;
        }
        if used <= COPIED_BYTES {
            return false;
        }
        let Some(pin) = Pin::new(running, kept, self.max_kept_bytes) else { return false };
        self.content.keep(pin);
        self.responses.extend(response);
        true
    }
}

/// About how many bytes the keys and values of records have: those between the first and the last one.
fn payload_bytes(records: &[RecordView]) -> usize {
    let spans = || records.iter().flat_map(|record| [record.key, record.value]).flatten().map(Span::range);
    let (first, last) = (spans().next(), spans().next_back());
    first.zip(last).map_or(0, |(first, last)| last.end.saturating_sub(first.start))
}
