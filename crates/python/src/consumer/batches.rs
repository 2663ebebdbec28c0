//! Many messages in one call.
//!
//! The first message is handed out as by `consume`, with all that may be due: waiting, errors, auto-commit. The others
//! are those already fetched. No auto-commit starts in between: it would count the first messages of the batch as done
//! before the program has seen them.

use std::time::Duration;

use kavka::Batch;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::{Consumer, Handout, Postponed, deserialize, failed, stopped, to_message};
use crate::greenlets;
use crate::message::Message;
use crate::processing::Processing;
use crate::running::Running;
use crate::waiting::limit_of;

/// See `Consumer.consume_batch`.
pub(super) fn consume<'py>(
    consumer: &Consumer,
    py: Python<'py>,
    max_messages: usize,
    timeout: Option<f64>,
) -> PyResult<Vec<Bound<'py, Message>>> {
    let limit = begin(consumer, py, timeout)?;
    let first = match consumer.next_in_batch(py)? {
        Some(message) => Some(message),
        None => consumer.next_from_engine(py, limit, None, || consumer.next_in_batch(py))?,
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

/// Begins a call for many messages: raises what is to be raised first, and returns how long the call may wait.
pub(super) fn begin(consumer: &Consumer, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Duration>> {
    // Of what lies ready, a greenlet could take batch after batch without a wait.
    greenlets::let_others_run(py)?;
    let running = consumer.running(py)?;
    let settings = running.check(py)?.settings.get();
    let limit = timeout.map_or(Ok(settings.timeout), |seconds| limit_of(seconds).map(Some))?;
    consumer.raise_pending(py)?;
    Ok(limit)
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
        if taken.is_empty() && !start_ready(consumer, py, running)? {
            return Ok(());
        }
        for mut message in taken {
            if let Some(deserializer) = deserializer {
                deserialize(py, deserializer, &mut message)
                    .map_err(|error| Postponed::refused(py, error, message.partition_id, message.offset))?;
            }
            messages.push(message.into_object(py)?);
        }
    }
    Ok(())
}

/// Starts the next batch that is fetched; false if there is none, or it may not be handed out.
pub(super) fn start_ready(consumer: &Consumer, py: Python<'_>, running: &Running) -> PyResult<bool> {
    if consumer.fence.is_reached() {
        return Ok(false);
    }
    // While the finished batch is held, no other batch of its partition is handed out.
    let finished = consumer.handout.lock().as_mut().and_then(|handout| handout.batch.take());
    drop(finished);
    let ready = py.detach(|| running.engine.try_batch()).map_err(|error| failed(py, &error))?;
    let Some(batch) = ready else { return Ok(false) };
    consumer.start_batch(py, running, batch)?;
    Ok(true)
}

/// Keeps an error for the next call. Until then, nothing is committed past the message that the deserializer refused.
pub(super) fn postpone(consumer: &Consumer, error: Postponed) {
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
    take_another(consumer, py, |running, batch, partition, processing| {
        let mut taken = Vec::new();
        let number = batch.topic_partition().partition;
        while taken.len() < room {
            let Some(record) = batch.next_record() else { break };
            if taken.is_empty() {
                processing.begin_another(number, record.offset);
            }
            // Runs no Python code: the garbage collector does not track what it makes.
            taken.push(to_message(py, running, batch, &record, number, partition));
        }
        taken
    })
}

/// Lets `take` take more of the current batch, under its lock; it must not run Python code.
pub(super) fn take_another<T: Default>(
    consumer: &Consumer,
    py: Python<'_>,
    take: impl FnOnce(&Running, &mut Batch, &Py<PyAny>, &mut Processing) -> T,
) -> PyResult<T> {
    let mut handout = consumer.handout.lock();
    let Some(Handout { running, batch: current, processing, .. }) = handout.as_mut() else {
        drop(handout);
        return Err(stopped(py));
    };
    if consumer.fence.is_reached() {
        return Ok(T::default());
    }
    let Some((batch, partition)) = current else { return Ok(T::default()) };
    Ok(take(running, batch, partition, processing))
}

/// How many a call may return.
pub(super) fn at_least_one(name: &str, most: i64) -> PyResult<usize> {
    let refused = || PyValueError::new_err(format!("{name} must be at least 1, not {most}"));
    usize::try_from(most).ok().filter(|most| *most > 0).ok_or_else(refused)
}
