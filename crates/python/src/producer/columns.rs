//! The rows of a table as messages.
//!
//! They are accepted as those of `produce_many` are, but no Python object is made for a row, unless a report will show
//! it or the program's partitioner asks for its key.

use kavka::{Delivery, Header, Record};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::many::{Turns, wait_for_all, with_accepted};
use super::{Producer, Running, choose, enqueue, stopped};
use crate::arrow::ArrowArray;
use crate::arrow::choice::{Choice, Names};
use crate::arrow::import::{Row, Rows, Table};
use crate::message::{Message, Payload};
use crate::process::ForkGuard;
use crate::reports::SharedReports;

/// See `Producer.produce_arrow`.
pub(super) fn produce(
    producer: &Producer,
    py: Python<'_>,
    table: &Bound<'_, PyAny>,
    names: &Names<'_>,
) -> PyResult<usize> {
    let mut accepted = 0;
    match append_all(producer, py, table, names, &mut accepted) {
        Ok(()) => Ok(accepted),
        Err(error) => Err(with_accepted(py, error, "produce_arrow", accepted)),
    }
}

fn append_all(
    producer: &Producer,
    py: Python<'_>,
    table: &Bound<'_, PyAny>,
    names: &Names<'_>,
    accepted: &mut usize,
) -> PyResult<()> {
    let Some(running) = producer.running.get() else { return Err(stopped(py)) };
    let running = running.check(py)?;
    if running.settings.get().serializer.is_some() {
        let text = "produce_arrow does not call the producer's serializer; use a producer without one";
        return Err(PyValueError::new_err(text));
    }
    let reports = running.settings.get().delivery_reports.then(|| producer.reports(py)).transpose()?;
    let Table { schema, mut arrays } = Table::of(table)?;
    let appended = Choice::new(&schema, names).and_then(|choice| {
        let mut turns = Turns::begin(py)?;
        while let Some(array) = arrays.next(py)? {
            let appended = append_rows(py, running, &choice, &array, reports.as_ref(), &mut turns, accepted);
            // What another library's release frees may be large.
            py.detach(|| drop(array));
            appended?;
        }
        Ok(())
    });
    py.detach(|| drop((schema, arrays)));
    appended
}

/// Appends the rows of one array. A sync producer waits until they are stored.
fn append_rows(
    py: Python<'_>,
    running: &Running,
    choice: &Choice<'_>,
    array: &ArrowArray,
    reports: Option<&SharedReports>,
    turns: &mut Turns,
    accepted: &mut usize,
) -> PyResult<()> {
    let rows = Rows::new(choice, array)?;
    let mut headers = Vec::new();
    let mut deliveries = Vec::new();
    for row in 0..rows.count {
        let row = rows.get(row, &mut headers)?;
        let delivery = append(py, running, &row, &headers, reports, accepted)?;
        if running.settings.get().sync {
            deliveries.push(ForkGuard::new(delivery));
        }
        turns.look(py, *accepted)?;
    }
    wait_for_all(py, running, &deliveries)
}

fn append(
    py: Python<'_>,
    running: &Running,
    row: &Row<'_>,
    headers: &[Header<'_>],
    reports: Option<&SharedReports>,
    accepted: &mut usize,
) -> PyResult<Delivery> {
    let settings = running.settings.get();
    let to_python = |bytes: &[u8]| PyBytes::new(py, bytes);
    let partition = match &settings.partitioner {
        Some(partitioner) if row.partition.is_none() => {
            Some(choose(py, partitioner, &settings.partitions, row.key.map(to_python).as_ref())?)
        }
        _ => row.partition,
    };
    let record = Record { key: row.key, value: row.value, headers, partition, timestamp_ms: row.timestamp_ms };
    let delivery = enqueue(py, running, &record, reports)?;
    *accepted += 1;
    if let Some(reports) = reports {
        let payload = |bytes: Option<&[u8]>| {
            bytes.map_or(Payload::Null, |bytes| Payload::Object(to_python(bytes).into_any().unbind()))
        };
        let owned = headers.iter().map(|header| (header.key.into(), header.value.map(Into::into))).collect();
        let headers = (!headers.is_empty()).then(|| Box::new(owned));
        let timestamp_ms = delivery.timestamp_ms();
        let message = Message::produced(payload(row.value), payload(row.key), headers, timestamp_ms, delivery.clone());
        let bytes = row.key.map_or(0, <[u8]>::len) + row.value.map_or(0, <[u8]>::len);
        reports.expect(message.into_object(py)?.unbind(), bytes, &delivery);
    }
    Ok(delivery)
}
