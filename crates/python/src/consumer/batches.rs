//! Many messages in one call.
//!
//! The first message is handed out as by `consume`, with all that may be due: waiting, errors, auto-commit. The others
//! are those already fetched. No auto-commit starts in between: it would count the first messages of the batch as done
//! before the program has seen them.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::{Consumer, Handout, Postponed, deserialized, failed, stopped, to_message};
use crate::greenlets;
use crate::message::Message;

/// See `Consumer.consume_batch`.
pub(super) fn consume<'py>(
    consumer: &Consumer,
    py: Python<'py>,
    max_messages: usize,
    timeout: Option<f64>,
) -> PyResult<Vec<Bound<'py, Message>>> {
    if max_messages == 0 {
        return Err(PyValueError::new_err("max_messages must be at least 1"));
    }
    // Of what lies ready, a greenlet could take batch after batch without a wait.
    greenlets::let_others_run(py)?;
    let running = consumer.running(py)?;
    let settings = running.check(py)?.settings.get();
    let limit = timeout.map_or(Ok(settings.timeout), |seconds| wait_limit(seconds).map(Some))?;
    consumer.raise_pending(py)?;
    let first = match consumer.next_in_batch(py)? {
        Some(message) => Some(message),
        None => consumer.next_from_engine(py, limit, None)?,
    };
    let mut messages: Vec<_> = first.into_iter().collect();
    if messages.is_empty() {
        return Ok(messages);
    }
    // The messages so far are handed out; an error from here on is for the next call.
    if let Err(error) = add_what_is_ready(consumer, py, max_messages, &mut messages) {
        postpone(consumer, error);
    }
    Ok(messages)
}

fn add_what_is_ready<'py>(
    consumer: &Consumer,
    py: Python<'py>,
    max_messages: usize,
    messages: &mut Vec<Bound<'py, Message>>,
) -> Result<(), Postponed> {
    let running = consumer.running(py)?;
    let running = running.check(py)?;
    let deserializer = running.settings.get().deserializer.as_ref();
    while messages.len() < max_messages {
        // A message that the deserializer refuses must be the last one taken.
        let room = if deserializer.is_some() { 1 } else { max_messages - messages.len() };
        let taken = take_from_batch(consumer, py, room)?;
        if taken.is_empty() {
            if consumer.fence.is_reached() {
                return Ok(());
            }
            let ready = py.detach(|| running.engine.try_batch()).map_err(|error| failed(py, &error))?;
            let Some(batch) = ready else { return Ok(()) };
            consumer.start_batch(py, running, batch)?;
        }
        for message in taken {
            let (partition, offset) = (message.partition_id, message.offset);
            let message = match deserializer {
                Some(deserializer) => deserialized(py, deserializer, message)
                    .map_err(|error| Postponed::refused(py, error, partition, offset))?,
                None => message,
            };
            messages.push(Bound::new(py, message)?);
        }
    }
    Ok(())
}

/// Keeps an error for the next call. Until then, nothing is committed past the message that the deserializer refused.
fn postpone(consumer: &Consumer, error: Postponed) {
    {
        let mut handout = consumer.handout.lock();
        // If the consumer is stopped, nobody will ask.
        let Some(handout) = handout.as_mut() else { return };
        if let Some((partition, offset)) = error.refused {
            handout.processing.refuse(partition, offset);
        }
    }
    consumer.postponed.lock().get_or_insert_default().push_back(error);
}

/// Takes up to `room` messages of the current batch, under one lock.
fn take_from_batch(consumer: &Consumer, py: Python<'_>, room: usize) -> PyResult<Vec<Message>> {
    let mut taken = Vec::new();
    let mut handout = consumer.handout.lock();
    let Some(Handout { running, batch: current, processing, .. }) = handout.as_mut() else {
        drop(handout);
        return Err(stopped(py));
    };
    if consumer.fence.is_reached() {
        return Ok(taken);
    }
    let Some((batch, partition)) = current else { return Ok(taken) };
    let number = batch.topic_partition().partition;
    while taken.len() < room {
        let Some(record) = batch.next_record() else { break };
        if taken.is_empty() {
            processing.begin_another(number, record.offset);
        }
        // Runs no Python code: the garbage collector does not track what it makes.
        taken.push(to_message(py, running, batch, &record, number, partition));
    }
    Ok(taken)
}

fn wait_limit(seconds: f64) -> PyResult<Duration> {
    if seconds.is_nan() || seconds < 0.0 {
        return Err(PyValueError::new_err(format!("timeout must not be negative, not {seconds}")));
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}
