//! Reads tables of other libraries, which `produce_arrow` sends.
//!
//! What the structures say of themselves is checked before it is used: a column that contradicts itself is an error.
//! They do not say how long most buffers are, so a library that lies about that cannot be found out.

use std::ffi::CStr;
use std::slice;

use kavka::Header;
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;

use super::batch::{RecordBatch, RecordBatches};
use super::choice::{Choice, Found, HeaderLayout, Unit};
use super::columns::LONGEST_INLINE;
use super::export;
use super::schema::{self, children};
use super::{ArrowArray, ArrowArrayStream, ArrowSchema, Structure};
use crate::errors;

/// The arrays of a table, in turn.
pub(crate) enum Arrays {
    Stream(ArrowArrayStream),
    One(ArrowArray),
    /// Of a consumer of ours. A C stream would have to wait without letting other greenlets run, and would turn every
    /// exception into text.
    Consumed(Py<RecordBatches>),
}

/// A table of another library, or a consumer's.
pub(crate) struct Table {
    pub(crate) schema: ArrowSchema,
    pub(crate) arrays: Arrays,
}

impl Table {
    /// Takes the table of an object that can export one.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let (stream, array) = (intern!(py, "__arrow_c_stream__"), intern!(py, "__arrow_c_array__"));
        let table = if let Ok(batches) = object.cast::<RecordBatches>() {
            Self { schema: schema::Layout::default().schema(), arrays: Arrays::Consumed(batches.clone().unbind()) }
        } else if let Ok(batch) = object.cast::<RecordBatch>() {
            Self { schema: schema::Layout::default().schema(), arrays: Arrays::One(exported(batch.get())?) }
        } else if object.hasattr(stream)? {
            let capsule = object.call_method0(stream)?;
            let mut stream = ArrowArrayStream::from_capsule(&capsule, "what __arrow_c_stream__ returns")?;
            let schema = py.detach(|| stream.read_schema()).map_err(unreadable)?;
            Self { schema, arrays: Arrays::Stream(stream) }
        } else if object.hasattr(array)? {
            let what = "what __arrow_c_array__ returns";
            let (schema, array): (Bound<'_, PyAny>, Bound<'_, PyAny>) = object.call_method0(array)?.extract()?;
            let (schema, array) = (ArrowSchema::from_capsule(&schema, what)?, ArrowArray::from_capsule(&array, what)?);
            Self { schema, arrays: Arrays::One(array) }
        } else {
            let expected = "a table with __arrow_c_stream__ or __arrow_c_array__, such as one of pyarrow or polars";
            return Err(errors::wrong_type("table", expected, object));
        };
        if table.schema.format() != c"+s" {
            let format = table.schema.format().to_string_lossy();
            let text = format!("table must have columns; it is a single one, of Arrow's format {format:?}");
            return Err(PyTypeError::new_err(text));
        }
        Ok(table)
    }
}

impl Arrays {
    /// The next array; `None` behind the last one. May wait, for a file for example, and does so without the GIL.
    pub(crate) fn next(&mut self, py: Python<'_>) -> PyResult<Option<ArrowArray>> {
        let array = match self {
            Self::Stream(stream) => py.detach(|| stream.read_next()).map_err(unreadable)?,
            Self::One(array) => array.take(),
            Self::Consumed(batches) => match batches.get().next(py)? {
                Some(batch) => exported(&batch)?,
                None => return Ok(None),
            },
        };
        Ok((!array.is_empty()).then_some(array))
    }
}

fn exported(batch: &RecordBatch) -> PyResult<ArrowArray> {
    export::array(&batch.0, schema::Layout::default()).map_err(PyValueError::new_err)
}

fn unreadable((code, text): (i32, String)) -> PyErr {
    PyOSError::new_err((code, format!("the table cannot be read: {text}")))
}

/// What is wrong with a column, without its name.
type Malformed = &'static str;

/// The exception for a column that contradicts itself.
#[cold]
fn malformed(name: &str, what: Malformed) -> PyErr {
    PyValueError::new_err(format!("column {name} is malformed: {what}"))
}

/// One column of an array, or a part of one.
#[derive(Clone, Copy)]
struct Column<'a> {
    array: &'a ArrowArray,
    /// The index of the first row in the buffers.
    start: usize,
    rows: usize,
}

impl<'a> Column<'a> {
    /// The rows of `array` behind the first `skipped`, of which there are `rows` or, with `None`, as many as it has.
    fn new(array: &'a ArrowArray, skipped: usize, rows: Option<usize>) -> Result<Self, Malformed> {
        let length = usize::try_from(array.length).map_err(|_| "its length is negative")?;
        let offset = usize::try_from(array.offset).map_err(|_| "its offset is negative")?;
        let left = length.checked_sub(skipped).ok_or("it is shorter than the table")?;
        let rows = rows.unwrap_or(left);
        if left < rows {
            return Err("it is shorter than the table");
        }
        let start = offset.checked_add(skipped).ok_or("its offset is too large")?;
        Ok(Self { array, start, rows })
    }

    fn children(&self) -> Vec<&'a ArrowArray> {
        // SAFETY: an array that is not released points to so many children, which live as long as it does.
        unsafe { children(self.array.children, self.array.n_children) }
    }

    /// Where a buffer begins.
    fn buffer(&self, index: i64) -> Result<*const u8, Malformed> {
        if self.array.buffers.is_null() || !(0..self.array.n_buffers).contains(&index) {
            return Err("it lacks a buffer");
        }
        // SAFETY: that many pointers to buffers begin there.
        Ok(unsafe { *self.array.buffers.add(index as usize) }.cast())
    }

    /// Where a buffer begins that must exist if there are rows.
    fn needed(&self, index: i64) -> Result<*const u8, Malformed> {
        let buffer = self.buffer(index)?;
        if buffer.is_null() && self.rows > 0 { Err("a buffer is null") } else { Ok(buffer) }
    }

    /// Whether a row has a value.
    fn is_valid(&self, bits: *const u8, row: usize) -> bool {
        let at = self.start + row;
        // SAFETY: a buffer of bits has one for each row.
        bits.is_null() || unsafe { bits.add(at / 8).read() } & (1 << (at % 8)) != 0
    }

    /// The bits that say which rows have a value; null if all have one.
    fn bits(&self) -> Result<*const u8, Malformed> {
        if self.array.null_count == 0 { Ok(std::ptr::null()) } else { self.buffer(0) }
    }
}

/// Reads a number, wherever it is: buffers should be aligned, and not all are.
///
/// # Safety
///
/// `buffer` has at least `at + 1` numbers.
unsafe fn number<T: Copy>(buffer: *const u8, at: usize) -> T {
    // SAFETY: as the caller promises.
    unsafe { buffer.cast::<T>().add(at).read_unaligned() }
}

/// How bytes are laid out.
#[derive(Clone, Copy)]
enum Layout {
    Small,
    Large,
    Views { buffers: usize },
}

/// A column of bytes or text.
pub(crate) struct Binary<'a> {
    column: Column<'a>,
    bits: *const u8,
    layout: Layout,
    /// The offsets or views.
    index: *const u8,
    /// With offsets: the bytes. With views: the lengths of the buffers.
    data: *const u8,
}

impl<'a> Binary<'a> {
    fn new(column: Column<'a>, format: &CStr) -> Result<Self, Malformed> {
        let layout = match format.to_bytes() {
            b"z" | b"u" => Layout::Small,
            b"Z" | b"U" => Layout::Large,
            // Behind the views and their bits come the buffers, and their lengths.
            _ => {
                let buffers = column.array.n_buffers.checked_sub(3).and_then(|count| usize::try_from(count).ok());
                Layout::Views { buffers: buffers.ok_or("it lacks a buffer")? }
            }
        };
        let data = match layout {
            Layout::Small | Layout::Large => column.buffer(2)?,
            Layout::Views { .. } => column.buffer(column.array.n_buffers - 1)?,
        };
        Ok(Self { column, bits: column.bits()?, layout, index: column.needed(1)?, data })
    }

    /// The bytes in a row; `None` if they are null.
    fn get(&self, row: usize) -> Result<Option<&'a [u8]>, Malformed> {
        if !self.column.is_valid(self.bits, row) {
            return Ok(None);
        }
        let at = self.column.start + row;
        let bytes = match self.layout {
            // SAFETY: there is an offset for the beginning of each row, and one for the end of the last.
            Layout::Small => self.between(unsafe { number::<i32>(self.index, at) }.into(), unsafe {
                number::<i32>(self.index, at + 1).into()
            }),
            // SAFETY: the same.
            Layout::Large => self.between(unsafe { number(self.index, at) }, unsafe { number(self.index, at + 1) }),
            Layout::Views { buffers } => self.viewed(at, buffers),
        };
        bytes.map(Some)
    }

    fn between(&self, from: i64, to: i64) -> Result<&'a [u8], Malformed> {
        let length = to.checked_sub(from).and_then(|length| usize::try_from(length).ok());
        match (usize::try_from(from), length) {
            (Ok(_), Some(0)) => Ok(&[]),
            (Ok(_), Some(_)) if self.data.is_null() => Err("a buffer is null"),
            // SAFETY: the bytes between two offsets belong to the row. The array keeps them for as long as it is
            // borrowed.
            (Ok(from), Some(length)) => Ok(unsafe { slice::from_raw_parts(self.data.add(from), length) }),
            _ => Err("its offsets go back"),
        }
    }

    fn viewed(&self, at: usize, buffers: usize) -> Result<&'a [u8], Malformed> {
        // SAFETY: there is a view of 16 bytes for each row.
        let view = unsafe { self.index.add(at * 16) };
        // SAFETY: a view is four numbers of 4 bytes, or a number and bytes.
        let [length, _, buffer, from] = unsafe { number::<[i32; 4]>(view, 0) };
        let length = usize::try_from(length).map_err(|_| "a view has a negative length")?;
        if length <= LONGEST_INLINE {
            // SAFETY: so few bytes are in the view itself.
            return Ok(unsafe { slice::from_raw_parts(view.add(4), length) });
        }
        let outside = "a view points outside of its buffer";
        let (buffer, from) =
            (usize::try_from(buffer).map_err(|_| outside)?, usize::try_from(from).map_err(|_| outside)?);
        if buffer >= buffers || self.data.is_null() {
            return Err(outside);
        }
        // SAFETY: there is a length for each buffer.
        let size = usize::try_from(unsafe { number::<i64>(self.data, buffer) }).map_err(|_| outside)?;
        let data = self.column.buffer(2 + buffer as i64)?;
        if data.is_null() || from.checked_add(length).is_none_or(|end| end > size) {
            return Err(outside);
        }
        // SAFETY: the range is within the buffer. The array keeps it for as long as it is borrowed.
        Ok(unsafe { slice::from_raw_parts(data.add(from), length) })
    }
}

/// A column of integers or times.
pub(crate) struct Numbers<'a> {
    column: Column<'a>,
    bits: *const u8,
    unit: Unit,
    values: *const u8,
}

impl<'a> Numbers<'a> {
    fn new(column: Column<'a>, unit: Unit) -> Result<Self, Malformed> {
        Ok(Self { column, bits: column.bits()?, unit, values: column.needed(1)? })
    }

    fn get(&self, row: usize) -> Result<Option<i64>, Malformed> {
        if !self.column.is_valid(self.bits, row) {
            return Ok(None);
        }
        let at = self.column.start + row;
        match self.unit {
            // SAFETY: there is a number for each row.
            Unit::Int => Ok(Some(unsafe { number::<i32>(self.values, at) }.into())),
            Unit::Long { times, per } => {
                // SAFETY: the same.
                let number: i64 = unsafe { number(self.values, at) };
                number.div_euclid(per).checked_mul(times).map(Some).ok_or("a time is out of range")
            }
        }
    }
}

/// A column of lists of headers.
struct Lists<'a> {
    column: Column<'a>,
    bits: *const u8,
    is_large: bool,
    offsets: *const u8,
    entries: Column<'a>,
    entry_bits: *const u8,
    keys: Binary<'a>,
    values: Binary<'a>,
}

impl<'a> Lists<'a> {
    fn new(column: Column<'a>, layout: &HeaderLayout<'_>) -> Result<Self, Malformed> {
        let [entries] = column.children()[..] else { return Err("a list has one child") };
        let entries = Column::new(entries, 0, None)?;
        let parts = entries.children();
        let part = |found: Found<&CStr>| {
            let array = parts.get(found.index).ok_or("a header has two children")?;
            // The offset of the entries counts for their children, too.
            Binary::new(Column::new(array, entries.start, Some(entries.rows))?, found.layout)
        };
        Ok(Self {
            column,
            bits: column.bits()?,
            is_large: layout.is_large,
            offsets: column.needed(1)?,
            entries,
            entry_bits: entries.bits()?,
            keys: part(layout.key)?,
            values: part(layout.value)?,
        })
    }

    fn get(&self, row: usize, headers: &mut Vec<Header<'a>>) -> Result<(), Malformed> {
        headers.clear();
        if !self.column.is_valid(self.bits, row) {
            return Ok(());
        }
        let at = self.column.start + row;
        // SAFETY: there is an offset for the beginning of each row, and one for the end of the last.
        let offset = |at| unsafe {
            if self.is_large { number::<i64>(self.offsets, at) } else { number::<i32>(self.offsets, at).into() }
        };
        let [from, to] = [at, at + 1].map(offset);
        let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to)) else {
            return Err("an offset is negative");
        };
        if from > to || to > self.entries.rows {
            return Err("its offsets go back, or behind its child");
        }
        for entry in from..to {
            if !self.entries.is_valid(self.entry_bits, entry) {
                return Err("a header is null");
            }
            let key = self.keys.get(entry)?.ok_or("the key of a header is null")?;
            headers.push(Header { key, value: self.values.get(entry)? });
        }
        Ok(())
    }
}

/// A row of a table, and its headers.
pub(crate) struct Row<'a> {
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp_ms: Option<i64>,
}

/// The rows of one array of a table.
pub(crate) struct Rows<'a> {
    choice: &'a Choice<'a>,
    pub(crate) count: usize,
    value: Binary<'a>,
    key: Option<Binary<'a>>,
    partition: Option<Numbers<'a>>,
    timestamp: Option<Numbers<'a>>,
    headers: Option<Lists<'a>>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(choice: &'a Choice<'a>, array: &'a ArrowArray) -> PyResult<Self> {
        let of_table = |what: Malformed| PyValueError::new_err(format!("the table is malformed: {what}"));
        let whole = Column::new(array, 0, None).map_err(of_table)?;
        let bits = if array.n_buffers == 0 { std::ptr::null() } else { whole.bits().map_err(of_table)? };
        if !bits.is_null() && (0..whole.rows).any(|row| !whole.is_valid(bits, row)) {
            return Err(PyValueError::new_err("the table has a row that is null itself, and not only its columns"));
        }
        let columns = Columns { whole, arrays: whole.children() };
        if columns.arrays.len() != choice.width {
            return Err(of_table("it has fewer or more columns than its schema"));
        }
        let names = choice.names;
        let binary = |column: Column<'a>, format: &CStr| Binary::new(column, format);
        Ok(Self {
            choice,
            count: whole.rows,
            value: columns.read(names.value, choice.value, binary)?,
            key: columns.read_if(names.key, choice.key, binary)?,
            partition: columns.read_if(names.partition, choice.partition, Numbers::new)?,
            timestamp: columns.read_if(names.timestamp, choice.timestamp, Numbers::new)?,
            headers: columns.read_if(names.headers, choice.headers, |column, layout| Lists::new(column, &layout))?,
        })
    }

    /// A row; its headers go into `headers`.
    pub(crate) fn get(&self, row: usize, headers: &mut Vec<Header<'a>>) -> PyResult<Row<'a>> {
        let names = self.choice.names;
        let of = |name: Option<&'a str>| move |what: Malformed| malformed(name.unwrap_or_default(), what);
        if let Some(lists) = &self.headers {
            lists.get(row, headers).map_err(of(names.headers))?;
        }
        let key = self.key.as_ref().map_or(Ok(None), |key| key.get(row));
        let partition = self.partition.as_ref().map_or(Ok(None), |partition| partition.get(row));
        let timestamp = self.timestamp.as_ref().map_or(Ok(None), |timestamp| timestamp.get(row));
        let partition = partition.map_err(of(names.partition))?.map(|partition| {
            i32::try_from(partition).map_err(|_| {
                let name = names.partition.unwrap_or_default();
                PyValueError::new_err(format!("column {name} has {partition}, which is no number of a partition"))
            })
        });
        Ok(Row {
            value: self.value.get(row).map_err(of(Some(names.value)))?,
            key: key.map_err(of(names.key))?,
            partition: partition.transpose()?,
            timestamp_ms: timestamp.map_err(of(names.timestamp))?,
        })
    }
}

/// The columns of one array of a table.
struct Columns<'a> {
    whole: Column<'a>,
    arrays: Vec<&'a ArrowArray>,
}

impl<'a> Columns<'a> {
    fn read<L, T>(
        &self,
        name: &str,
        found: Found<L>,
        read: impl FnOnce(Column<'a>, L) -> Result<T, Malformed>,
    ) -> PyResult<T> {
        let array = self.arrays.get(found.index).ok_or("it is missing");
        let column = array.and_then(|array| Column::new(array, self.whole.start, Some(self.whole.rows)));
        column.and_then(|column| read(column, found.layout)).map_err(|what| malformed(name, what))
    }

    fn read_if<L, T>(
        &self,
        name: Option<&str>,
        found: Option<Found<L>>,
        read: impl FnOnce(Column<'a>, L) -> Result<T, Malformed>,
    ) -> PyResult<Option<T>> {
        name.zip(found).map(|(name, found)| self.read(name, found, read)).transpose()
    }
}
