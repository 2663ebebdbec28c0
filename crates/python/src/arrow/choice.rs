//! Which columns of a table `produce_arrow` reads, and how they are laid out.
//!
//! The schema decides that, before the first row is read: to read rows may take messages from a consumer, and they
//! would be lost if a column were missing.

use std::ffi::CStr;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::ArrowSchema;

/// The names of the columns that `produce_arrow` reads.
pub(crate) struct Names<'n> {
    pub(crate) value: &'n str,
    pub(crate) key: Option<&'n str>,
    pub(crate) partition: Option<&'n str>,
    pub(crate) timestamp: Option<&'n str>,
    pub(crate) headers: Option<&'n str>,
}

/// A column, or a part of one: which child it is, and how it is laid out.
#[derive(Clone, Copy)]
pub(super) struct Found<L> {
    pub(super) index: usize,
    pub(super) layout: L,
}

/// What a column of numbers means.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    /// 32 bits.
    Int,
    /// 64 bits: that many of them are one, if they are multiplied first.
    Long { times: i64, per: i64 },
}

/// How lists of headers are laid out.
#[derive(Clone, Copy)]
pub(super) struct HeaderLayout<'a> {
    /// Whether offsets have 64 bits.
    pub(super) is_large: bool,
    pub(super) key: Found<&'a CStr>,
    pub(super) value: Found<&'a CStr>,
}

/// The columns to read. Bytes and text are laid out as their Arrow format says.
pub(crate) struct Choice<'a> {
    pub(super) names: &'a Names<'a>,
    /// How many columns the table has.
    pub(super) width: usize,
    pub(super) value: Found<&'a CStr>,
    pub(super) key: Option<Found<&'a CStr>>,
    pub(super) partition: Option<Found<Unit>>,
    pub(super) timestamp: Option<Found<Unit>>,
    pub(super) headers: Option<Found<HeaderLayout<'a>>>,
}

impl<'a> Choice<'a> {
    pub(crate) fn new(schema: &'a ArrowSchema, names: &'a Names<'a>) -> PyResult<Self> {
        let table = Finder(schema.children());
        Ok(Self {
            names,
            width: table.0.len(),
            value: table.binary(names.value)?,
            key: names.key.map(|name| table.binary(name)).transpose()?,
            partition: names.partition.map(|name| table.partition(name)).transpose()?,
            timestamp: names.timestamp.map(|name| table.timestamp(name)).transpose()?,
            headers: names.headers.map(|name| table.headers(name)).transpose()?,
        })
    }
}

/// Finds columns of a table.
struct Finder<'a>(Vec<&'a ArrowSchema>);

impl<'a> Finder<'a> {
    fn column(&self, name: &str) -> PyResult<Found<&'a ArrowSchema>> {
        let mut found = self.0.iter().enumerate().filter(|(_, schema)| schema.name().to_bytes() == name.as_bytes());
        let (index, schema) = match (found.next(), found.next()) {
            (Some((index, schema)), None) => (index, *schema),
            (None, _) => {
                let names: Vec<_> = self.0.iter().map(|schema| schema.name().to_string_lossy()).collect();
                let text = format!("the table has no column {name:?}; it has: {}", names.join(", "));
                return Err(PyValueError::new_err(text));
            }
            (Some(_), Some(_)) => {
                return Err(PyValueError::new_err(format!(
                    "the table has several columns {name:?}; rename all but one"
                )));
            }
        };
        if schema.has_dictionary() {
            let text = format!("column {name} is encoded with a dictionary; cast it to the type of its values first");
            return Err(PyTypeError::new_err(text));
        }
        Ok(Found { index, layout: schema })
    }

    fn binary(&self, name: &str) -> PyResult<Found<&'a CStr>> {
        let Found { index, layout: schema } = self.column(name)?;
        if !is_binary(schema) {
            return Err(wrong_type(name, "binary, utf8, or one of their large and view types", schema));
        }
        Ok(Found { index, layout: schema.format() })
    }

    fn partition(&self, name: &str) -> PyResult<Found<Unit>> {
        let Found { index, layout: schema } = self.column(name)?;
        let layout = match schema.format().to_bytes() {
            b"i" => Unit::Int,
            b"l" => Unit::Long { times: 1, per: 1 },
            _ => return Err(wrong_type(name, "int32 or int64", schema)),
        };
        Ok(Found { index, layout })
    }

    fn timestamp(&self, name: &str) -> PyResult<Found<Unit>> {
        let Found { index, layout: schema } = self.column(name)?;
        let (times, per) = match schema.format().to_bytes() {
            b"l" => (1, 1),
            format if format.starts_with(b"tss:") => (1_000, 1),
            format if format.starts_with(b"tsm:") => (1, 1),
            format if format.starts_with(b"tsu:") => (1, 1_000),
            format if format.starts_with(b"tsn:") => (1, 1_000_000),
            _ => return Err(wrong_type(name, "a timestamp, or int64 for milliseconds since 1970", schema)),
        };
        Ok(Found { index, layout: Unit::Long { times, per } })
    }

    fn headers(&self, name: &str) -> PyResult<Found<HeaderLayout<'a>>> {
        let Found { index, layout: schema } = self.column(name)?;
        let refused = || wrong_type(name, "a list of structs of a key (utf8) and a value (binary), or a map", schema);
        let (is_large, is_map) = match schema.format().to_bytes() {
            b"+l" => (false, false),
            b"+L" => (true, false),
            b"+m" => (false, true),
            _ => return Err(refused()),
        };
        let [entry] = schema.children()[..] else { return Err(refused()) };
        let parts = entry.children();
        if entry.format() != c"+s" || parts.len() != 2 || !parts.iter().all(|part| is_binary(part)) {
            return Err(refused());
        }
        // The specification gives the parts of a map an order, and no names.
        let key = if is_map { Some(0) } else { parts.iter().position(|part| part.name() == c"key") };
        let value = if is_map { Some(1) } else { parts.iter().position(|part| part.name() == c"value") };
        let (Some(key), Some(value)) = (key, value) else { return Err(refused()) };
        let part = |index: usize| Found { index, layout: parts[index].format() };
        Ok(Found { index, layout: HeaderLayout { is_large, key: part(key), value: part(value) } })
    }
}

fn is_binary(schema: &ArrowSchema) -> bool {
    matches!(schema.format().to_bytes(), b"z" | b"Z" | b"vz" | b"u" | b"U" | b"vu") && !schema.has_dictionary()
}

#[cold]
fn wrong_type(name: &str, expected: &str, schema: &ArrowSchema) -> PyErr {
    let format = schema.format().to_string_lossy();
    PyTypeError::new_err(format!("column {name} must be {expected}; its Arrow format is {format:?}"))
}
