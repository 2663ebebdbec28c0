//! Record batches in Python.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyValueError};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::columns::Columns;
use super::gil::with_gil;
use super::schema::Layout;
use super::stream::{Next, stream};
use super::{ArrowSchema, Structure, export};
use crate::consumer::Consumer;
use crate::greenlets;

type Capsule<'py> = Bound<'py, PyCapsule>;

/// Consumed messages as columns, for every library that takes Arrow data: `pyarrow.record_batch(batch)`,
/// `polars.DataFrame(batch)`, `pandas.DataFrame.from_arrow(batch)`, or `SELECT ... FROM batch` in duckdb.
///
/// The columns are `topic`, `partition`, `offset`, `timestamp` (milliseconds, UTC), `key`, `value`, and `headers` (a
/// list of `key` and `value`). A null `value` is a tombstone, a null `timestamp` one that the producer did not set.
/// Keys and values are views: into the memory that they were fetched into, which lives as long as a column that refers
/// to it, or into a copy, if they are few or the program keeps a lot of such memory. A name of a header that is no
/// UTF-8 has U+FFFD in place of what cannot be read. A library without views can request `binary` or `large_binary`,
/// which are copies, and `topic` as `utf8`, not as a dictionary.
///
/// It can be exported more than once, in any thread, and in a forked child.
#[pyclass(frozen, module = "pykafka._engine")]
#[derive(Debug)]
pub(crate) struct RecordBatch(pub(crate) Columns);

#[pymethods]
impl RecordBatch {
    /// How many messages it has.
    fn __len__(&self) -> usize {
        self.0.rows()
    }

    fn __repr__(&self) -> String {
        format!("<pykafka.RecordBatch ({} messages)>", self.0.rows())
    }

    /// The schema, as a capsule for other libraries.
    #[allow(clippy::unused_self)]
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Capsule<'py>> {
        Layout::default().schema().into_capsule(py)
    }

    /// The schema and the columns, as capsules for other libraries.
    ///
    /// :param requested_schema: a capsule with the schema that is wanted; see the class.
    /// :raises ValueError: if a column of more than 2 GiB is requested as `binary`.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Capsule<'py>, Capsule<'py>)> {
        let layout = layout(requested_schema)?;
        let array = export::array(&self.0, layout).map_err(PyValueError::new_err)?;
        Ok((layout.schema().into_capsule(py)?, array.into_capsule(py)?))
    }

    /// A stream of this batch only, as a capsule for other libraries.
    ///
    /// :param requested_schema: a capsule with the schema that is wanted; see the class.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Capsule<'py>> {
        let mut columns = Some(Arc::clone(&self.0));
        stream(layout(requested_schema)?, Box::new(move || Ok(columns.take()))).into_capsule(py)
    }
}

/// Record batches of a consumer, one after the other, until `consumer_timeout_ms` passes without a message.
///
/// Libraries that take Arrow streams read it to the end: `pyarrow.RecordBatchReader.from_stream(batches)`. The error of
/// such a library then has the text of ours. An exception that is no error, such as `SystemExit`, is raised again by
/// the next call for messages, or by `stop`.
#[pyclass(frozen, module = "pykafka._engine")]
#[derive(Debug)]
pub(crate) struct RecordBatches {
    pub(crate) consumer: Py<Consumer>,
    pub(crate) max_records: i64,
}

#[pymethods]
impl RecordBatches {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<RecordBatch>> {
        self.next(py)
    }

    /// The schema, as a capsule for other libraries.
    #[allow(clippy::unused_self)]
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Capsule<'py>> {
        Layout::default().schema().into_capsule(py)
    }

    /// A stream of the batches, as a capsule for other libraries.
    ///
    /// :param requested_schema: a capsule with the schema that is wanted; see `RecordBatch`.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        this: Py<Self>,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Capsule<'py>> {
        let layout = layout(requested_schema)?;
        let batches = Streamed(Some(this));
        let next: Next = Box::new(move || {
            let next = with_gil(|py| batches.next(py));
            next.unwrap_or_else(|| Err("the interpreter is shutting down".into()))
        });
        stream(layout, next).into_capsule(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.consumer)
    }
}

impl RecordBatches {
    /// The next batch; `None` if no message arrives in time.
    pub(super) fn next(&self, py: Python<'_>) -> PyResult<Option<RecordBatch>> {
        let batch = self.consumer.get().consume_arrow(py, self.max_records, None)?;
        Ok((batch.0.rows() > 0).then_some(batch))
    }
}

/// What a stream reads, and may drop without the GIL. `Some` until it is dropped.
struct Streamed(Option<Py<RecordBatches>>);

impl Streamed {
    fn next(&self, py: Python<'_>) -> Result<Option<Columns>, String> {
        let Some(batches) = &self.0 else { return Ok(None) };
        let batches = batches.get();
        // The reader is inside a call without the GIL. If another greenlet ran in this thread meanwhile, it would find
        // that call's state of the thread, and not its own.
        let next = greenlets::without_others(|| batches.next(py));
        next.map(|batch| batch.map(|batch| batch.0)).map_err(|error| {
            let text = error.to_string();
            put_back(py, batches.consumer.get(), error);
            text
        })
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        let mut batches = ManuallyDrop::new(self.0.take());
        // Once the interpreter exits, nobody needs its memory.
        let _ = with_gil(|_| {
            // SAFETY: this runs at most once, and nothing else uses it.
            unsafe { ManuallyDrop::drop(&mut batches) }
        });
    }
}

/// Keeps an exception that is no error, such as `SystemExit`, because a reader makes an error of what it gets.
fn put_back(py: Python<'_>, consumer: &Consumer, error: PyErr) {
    if error.is_instance_of::<PyKeyboardInterrupt>(py) {
        // Python raises it as soon as the reader returns, so the consumer need not.
        // SAFETY: this thread has the GIL.
        unsafe { ffi::PyErr_SetInterrupt() }
    } else if !error.is_instance_of::<PyException>(py) {
        consumer.raise_next(error);
    }
}

fn layout(requested: Option<&Bound<'_, PyAny>>) -> PyResult<Layout> {
    let Some(requested) = requested else { return Ok(Layout::default()) };
    let schema = ArrowSchema::within(requested, "requested_schema")?;
    // SAFETY: the name of the capsule says that it points to a schema, which lives as long as the capsule. It stays
    // there: the caller may request it of several objects.
    Ok(Layout::requested(unsafe { schema.as_ref() }))
}
