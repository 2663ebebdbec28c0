//! The message in Python: one class for produced and for consumed messages.
//!
//! A produced message holds the outcome of its batch, so its offset appears when the batch is acknowledged. A large
//! value of a consumed message stays in the fetch buffer until it is read. Neither is part of a pickle or a copy, nor
//! touched when a forked child drops the message.
//!
//! A program may set the attributes. That changes what it reads from then on, and nothing else: the producer has
//! encoded the message, and the consumer counts the offset that it has handed out.

use std::ffi::c_void;
use std::sync::OnceLock;

use bytes::Bytes;
use kavka::Delivery;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDateTime, PyDict, PyList, PyString, PyTuple};

use crate::errors;
use crate::process::ForkGuard;

/// The value of a timestamp that is missing.
const NO_TIMESTAMP: i64 = i64::MIN;
/// What `len(message)` counts besides key and value, as in pykafka 2: the CRC, two bytes of flags, and two lengths.
const OVERHEAD_BYTES: usize = 14;
/// What it counts for the timestamp, if there is one.
const TIMESTAMP_BYTES: usize = 8;

/// A key or a value.
#[derive(Debug, Default)]
pub(crate) enum Payload {
    /// None.
    #[default]
    Null,
    /// `bytes`, or what a deserializer returned.
    Object(Py<PyAny>),
    /// Still in the fetch buffer.
    Lazy(Box<ForkGuard<Lazy>>),
}

/// Bytes in a fetch buffer, and their Python object once somebody has asked for it.
#[derive(Debug)]
pub(crate) struct Lazy {
    pub(crate) bytes: Bytes,
    /// Counts the buffer as kept by the application.
    pub(crate) _pin: Box<dyn Send + Sync + std::fmt::Debug>,
    pub(crate) made: OnceLock<Py<PyAny>>,
}

impl Payload {
    #[inline]
    pub(crate) fn get(&self, py: Python<'_>) -> Py<PyAny> {
        match self {
            Self::Null => py.None(),
            Self::Object(object) => object.clone_ref(py),
            Self::Lazy(lazy) => {
                lazy.made.get_or_init(|| PyBytes::new(py, &lazy.bytes).into_any().unbind()).clone_ref(py)
            }
        }
    }

    fn len(&self, py: Python<'_>) -> usize {
        match self {
            Self::Null => 0,
            Self::Object(object) => object.bind(py).len().unwrap_or(0),
            Self::Lazy(lazy) => lazy.bytes.len(),
        }
    }

    pub(crate) fn from_python(object: &Bound<'_, PyAny>) -> Self {
        if object.is_none() { Self::Null } else { Self::Object(object.clone().unbind()) }
    }
}

/// The headers of a message: names (UTF-8 if the producer followed the protocol) and values.
pub(crate) type Headers = Vec<OwnedHeader>;
/// One header.
pub(crate) type OwnedHeader = (Box<[u8]>, Option<Box<[u8]>>);

/// The memory of so many dropped messages is kept for the next ones, because to allocate it costs more than to fill it.
const KEPT: usize = 4096;

/// A produced or consumed message.
#[pyclass(frozen, freelist = KEPT, module = "pykafka.protocol", name = "Message")]
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) value: Payload,
    pub(crate) key: Payload,
    pub(crate) headers: Option<Box<Headers>>,
    /// The batch of a produced message, and its index there.
    pub(crate) delivery: Option<ForkGuard<Delivery>>,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) partition: Option<Py<PyAny>>,
    pub(crate) partition_id: i32,
    pub(crate) extra: Option<Box<Extra>>,
    /// The attributes that the program has set, by name.
    pub(crate) changed: OnceLock<Py<PyDict>>,
}

/// Fields that only a message created by hand has.
#[derive(Debug)]
pub(crate) struct Extra {
    compression_type: i64,
    produce_attempt: i64,
    protocol_version: i64,
    delivery_report_q: Option<Py<PyAny>>,
}

/// What is needed to make an object of the class without the general way, which takes longer than all the rest that is
/// done for a message: it calls `object.__new__` with an empty tuple.
struct Mould {
    class: *mut ffi::PyTypeObject,
    allocate: ffi::allocfunc,
    /// Where the `Message` is in an object.
    offset: usize,
}

// SAFETY: Nothing is done with the class but to make objects of it, attached to the interpreter.
unsafe impl Send for Mould {}
// SAFETY: As above.
unsafe impl Sync for Mould {}

static MOULD: PyOnceLock<Mould> = PyOnceLock::new();

impl Mould {
    #[inline]
    fn get(py: Python<'_>) -> PyResult<&'static Self> {
        MOULD.get_or_try_init(py, || Self::new(py))
    }

    /// Looks at an object that was made in the general way.
    #[cold]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let message = Bound::new(py, Message::default())?;
        let class = message.get_type();
        let offset = std::ptr::from_ref(message.get()).addr() - message.as_ptr().addr();
        let size: usize = class.getattr("__basicsize__")?.extract()?;
        assert_eq!(size, offset + size_of::<Message>(), "an object has more to fill than the message");
        // SAFETY: The class is alive, and this slot of a class is always an `allocfunc`.
        let allocate = unsafe {
            let slot = ffi::PyType_GetSlot(class.as_type_ptr(), ffi::Py_tp_alloc);
            std::mem::transmute::<*mut c_void, Option<ffi::allocfunc>>(slot)
        };
        let allocate = allocate.ok_or_else(|| PyRuntimeError::new_err("the class of messages cannot allocate"))?;
        Ok(Self { class: class.as_type_ptr(), allocate, offset })
    }
}

impl Message {
    /// A message that was accepted by the producer.
    #[inline]
    pub(crate) fn produced(
        value: Payload,
        key: Payload,
        headers: Option<Box<Headers>>,
        timestamp_ms: i64,
        delivery: Delivery,
    ) -> Self {
        let partition_id = delivery.completion().partition();
        Self {
            value,
            key,
            headers,
            delivery: Some(ForkGuard::new(delivery)),
            offset: -1,
            timestamp: timestamp_ms,
            partition: None,
            partition_id,
            extra: None,
            changed: OnceLock::new(),
        }
    }

    /// Makes a Python object of it, which the garbage collector does not track: it has no references that the collector
    /// could see, and a program that holds a batch of messages would pay for a look at each of them, again and again.
    #[inline]
    pub(crate) fn into_object(self, py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        let mould = Mould::get(py)?;
        // SAFETY: The class lives as long as the interpreter, and `allocate` is its own. An object that it returns is
        // new and all ours, and has room for a `Message` at `offset`, where nothing is to be dropped. It has the
        // garbage collector's header, and to untrack it twice, as its destructor does, is allowed.
        unsafe {
            let object = (mould.allocate)(mould.class, 0);
            if object.is_null() {
                return Err(PyErr::fetch(py));
            }
            object.byte_add(mould.offset).cast::<Self>().write(self);
            ffi::PyObject_GC_UnTrack(object.cast());
            Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked())
        }
    }

    /// What the program has set; else the broker's timestamp (`message.timestamp.type=LogAppendTime`), or else the
    /// producer's.
    fn timestamp_ms(&self, py: Python<'_>) -> Option<i64> {
        if let Some(set) = self.changed(py, "timestamp") {
            return set.extract().ok();
        }
        let of_the_log = || self.delivery.as_ref()?.outcome()?.ok()?.timestamp_ms;
        of_the_log().or_else(|| (self.timestamp != NO_TIMESTAMP).then_some(self.timestamp))
    }

    /// The value that the program has set for an attribute.
    #[inline]
    fn changed<'py>(&self, py: Python<'py>, name: &str) -> Option<Bound<'py, PyAny>> {
        self.changed.get()?.bind(py).get_item(name).ok().flatten()
    }

    fn changed_number<T: for<'py> FromPyObjectOwned<'py>>(&self, py: Python<'_>, name: &str) -> Option<T> {
        self.changed(py, name)?.extract().ok()
    }

    fn change<'py>(&self, py: Python<'py>, name: &str, value: impl IntoPyObject<'py>) -> PyResult<()> {
        let changed = if let Some(changed) = self.changed.get() {
            changed
        } else {
            // To make it may run the garbage collector, whose finalizers may let another thread run.
            let made = PyDict::new(py).unbind();
            self.changed.get_or_init(|| made)
        };
        changed.bind(py).set_item(name, value)
    }

    fn size_of(&self, py: Python<'_>, name: &str, original: &Payload) -> usize {
        self.changed(py, name).map_or_else(|| original.len(py), |set| set.len().unwrap_or(0))
    }
}

#[pymethods]
impl Message {
    #[new]
    #[pyo3(
        signature = (
            value, partition_key=None, compression_type=0, offset=-1, partition_id=-1, produce_attempt=0,
            protocol_version=0, timestamp=None, delivery_report_q=None, *, headers=None
        ),
        text_signature = "(value, partition_key=None, compression_type=0, offset=-1, partition_id=-1, \
                          produce_attempt=0, protocol_version=0, timestamp=None, delivery_report_q=None, *, \
                          headers=None)"
    )]
    #[allow(clippy::too_many_arguments)]
    fn new(
        value: &Bound<'_, PyAny>,
        partition_key: Option<&Bound<'_, PyAny>>,
        compression_type: i64,
        offset: i64,
        partition_id: i32,
        produce_attempt: i64,
        protocol_version: i64,
        timestamp: Option<i64>,
        delivery_report_q: Option<Py<PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let headers = headers.map(to_headers).transpose()?.filter(|headers| !headers.is_empty());
        Ok(Self {
            value: Payload::from_python(value),
            key: partition_key.map_or(Payload::Null, Payload::from_python),
            headers: headers.map(Box::new),
            delivery: None,
            offset,
            timestamp: timestamp.unwrap_or(NO_TIMESTAMP),
            partition: None,
            partition_id,
            extra: Some(Box::new(Extra { compression_type, produce_attempt, protocol_version, delivery_report_q })),
            changed: OnceLock::new(),
        })
    }

    /// The value: bytes, or what the deserializer returned; None for a tombstone.
    #[getter]
    fn value(&self, py: Python<'_>) -> Py<PyAny> {
        self.changed(py, "value").map_or_else(|| self.value.get(py), Bound::unbind)
    }

    #[setter]
    fn set_value(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.change(value.py(), "value", value)
    }

    /// The key: bytes, or what the deserializer returned; None if there is none.
    #[getter]
    fn partition_key(&self, py: Python<'_>) -> Py<PyAny> {
        self.changed(py, "partition_key").map_or_else(|| self.key.get(py), Bound::unbind)
    }

    #[setter]
    fn set_partition_key(&self, partition_key: &Bound<'_, PyAny>) -> PyResult<()> {
        self.change(partition_key.py(), "partition_key", partition_key)
    }

    /// The offset in the partition; -1 for a produced message until it is acknowledged.
    #[getter]
    fn offset(&self, py: Python<'_>) -> i64 {
        self.changed_number(py, "offset").unwrap_or_else(|| match &self.delivery {
            Some(delivery) => delivery.offset().unwrap_or(-1),
            None => self.offset,
        })
    }

    #[setter]
    fn set_offset(&self, py: Python<'_>, offset: i64) -> PyResult<()> {
        self.change(py, "offset", offset)
    }

    /// The partition number.
    #[getter]
    fn partition_id(&self, py: Python<'_>) -> i32 {
        self.changed_number(py, "partition_id").unwrap_or(self.partition_id)
    }

    #[setter]
    fn set_partition_id(&self, py: Python<'_>, partition_id: i32) -> PyResult<()> {
        self.change(py, "partition_id", partition_id)
    }

    /// The `Partition`, for a consumed message.
    #[getter]
    fn partition(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let original = || self.partition.as_ref().map(|partition| partition.clone_ref(py));
        self.changed(py, "partition").map_or_else(original, |set| Some(set.unbind()))
    }

    #[setter]
    fn set_partition(&self, partition: &Bound<'_, PyAny>) -> PyResult<()> {
        self.change(partition.py(), "partition", partition)
    }

    /// The headers, in order, as `(name, value)` pairs; names may repeat. New in version 3.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let pairs = self.headers.as_deref().map(Vec::as_slice).unwrap_or_default().iter().map(|(name, value)| {
            let name = PyBytes::new(py, name).call_method1("decode", ("utf-8", "surrogateescape"))?;
            Ok((name, value.as_ref().map(|value| PyBytes::new(py, value))))
        });
        PyList::new(py, pairs.collect::<PyResult<Vec<_>>>()?)
    }

    /// The timestamp in milliseconds since 1970; None if the message was produced without one.
    #[getter]
    fn timestamp(&self, py: Python<'_>) -> Option<i64> {
        self.timestamp_ms(py)
    }

    #[setter(timestamp)]
    fn set_timestamp_attribute(&self, when: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_timestamp(when)
    }

    /// The timestamp as a naive UTC datetime; None if there is none (or it is 0), or if no datetime can represent it.
    #[getter]
    fn timestamp_dt<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(milliseconds) = self.timestamp_ms(py).filter(|milliseconds| *milliseconds != 0) else {
            return Ok(None);
        };
        let datetime = py.import("datetime")?;
        let since = PyDict::new(py);
        since.set_item("milliseconds", milliseconds)?;
        let epoch = datetime.getattr("datetime")?.call1((1970, 1, 1))?;
        let timedelta = datetime.getattr("timedelta")?;
        match timedelta.call((), Some(&since)).and_then(|since| epoch.add(since)) {
            Err(error) if error.is_instance_of::<PyOverflowError>(py) => Ok(None),
            made => made.map(Some),
        }
    }

    #[setter]
    fn set_timestamp_dt(&self, when: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_timestamp(when)
    }

    /// Sets the timestamp: an int of milliseconds since 1970, a naive UTC datetime, or None.
    fn set_timestamp(&self, ts: &Bound<'_, PyAny>) -> PyResult<()> {
        let milliseconds =
            timestamp_ms(ts).map_err(|error| PyRuntimeError::new_err(error.value(ts.py()).to_string()))?;
        self.change(ts.py(), "timestamp", milliseconds)
    }

    /// Always 0: compression applies to batches.
    #[getter]
    fn compression_type(&self, py: Python<'_>) -> i64 {
        let original = || self.extra.as_ref().map_or(0, |extra| extra.compression_type);
        self.changed_number(py, "compression_type").unwrap_or_else(original)
    }

    #[setter]
    fn set_compression_type(&self, py: Python<'_>, compression_type: i64) -> PyResult<()> {
        self.change(py, "compression_type", compression_type)
    }

    /// Always 0: the engine counts attempts per batch.
    #[getter]
    fn produce_attempt(&self, py: Python<'_>) -> i64 {
        let original = || self.extra.as_ref().map_or(0, |extra| extra.produce_attempt);
        self.changed_number(py, "produce_attempt").unwrap_or_else(original)
    }

    #[setter]
    fn set_produce_attempt(&self, py: Python<'_>, produce_attempt: i64) -> PyResult<()> {
        self.change(py, "produce_attempt", produce_attempt)
    }

    /// 1: messages have timestamps. 0 for a message created by hand.
    #[getter]
    fn protocol_version(&self, py: Python<'_>) -> i64 {
        let original = || self.extra.as_ref().map_or(1, |extra| extra.protocol_version);
        self.changed_number(py, "protocol_version").unwrap_or_else(original)
    }

    #[setter]
    fn set_protocol_version(&self, py: Python<'_>, protocol_version: i64) -> PyResult<()> {
        self.change(py, "protocol_version", protocol_version)
    }

    /// None: reports come from `Producer.get_delivery_report`.
    #[getter]
    fn delivery_report_q(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let original = || self.extra.as_ref()?.delivery_report_q.as_ref().map(|queue| queue.clone_ref(py));
        self.changed(py, "delivery_report_q").map_or_else(original, |set| Some(set.unbind()))
    }

    #[setter]
    fn set_delivery_report_q(&self, queue: &Bound<'_, PyAny>) -> PyResult<()> {
        self.change(queue.py(), "delivery_report_q", queue)
    }

    /// The arguments that make an equal message in another process.
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let arguments = (
            self.value(py),
            self.partition_key(py),
            self.compression_type(py),
            self.offset(py),
            self.partition_id(py),
            self.produce_attempt(py),
            self.protocol_version(py),
            self.timestamp_ms(py),
        );
        let keywords = PyDict::new(py);
        keywords.set_item("headers", self.headers(py)?)?;
        Ok((arguments.into_pyobject(py)?, keywords))
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        let has_time = self.protocol_version(py) > 0 && self.timestamp_ms(py).is_some_and(|time| time != 0);
        let payload = self.size_of(py, "partition_key", &self.key) + self.size_of(py, "value", &self.value);
        OVERHEAD_BYTES + payload + if has_time { TIMESTAMP_BYTES } else { 0 }
    }

    #[allow(clippy::unused_self)]
    fn __bool__(&self) -> bool {
        true
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let (size, partition_id, offset) =
            (self.size_of(py, "value", &self.value), self.partition_id(py), self.offset(py));
        format!("<pykafka.protocol.Message ({size} bytes, partition {partition_id}, offset {offset})>")
    }
}

/// The milliseconds since 1970 of a datetime (naive: UTC) or an int; None stays None.
pub(crate) fn timestamp_ms(when: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    if when.is_none() {
        return Ok(None);
    }
    if when.is_instance_of::<PyDateTime>() {
        let times = when.py().import("pykafka.utils.times")?;
        return times.call_method1("to_timestamp_ms", (when,))?.extract().map(Some);
    }
    match when.extract::<i64>() {
        Ok(milliseconds) => Ok(Some(milliseconds)),
        Err(error) if error.is_instance_of::<PyOverflowError>(when.py()) => {
            let range = "from -2**63 to 2**63 - 1 milliseconds since 1970";
            Err(PyValueError::new_err(format!("timestamp must be {range}, not {}", when.repr()?)))
        }
        Err(_) => {
            let expected = "a datetime or an int of milliseconds since 1970, as int(time.time() * 1000) gives";
            Err(errors::wrong_type("timestamp", expected, when))
        }
    }
}

/// Reads a sequence of `(name, value)` pairs.
pub(crate) fn to_headers(headers: &Bound<'_, PyAny>) -> PyResult<Headers> {
    if headers.is_instance_of::<PyString>() || headers.is_instance_of::<PyBytes>() {
        return Err(errors::wrong_type("headers", "a list of (name, value) pairs", headers));
    }
    let not_a_list = |_| errors::wrong_type("headers", "a list of (name, value) pairs", headers);
    headers.try_iter().map_err(not_a_list)?.map(|pair| to_header(&pair?)).collect()
}

fn to_header(pair: &Bound<'_, PyAny>) -> PyResult<OwnedHeader> {
    let not_a_pair = |_| errors::wrong_type("a header", "a pair of name and value", pair);
    let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract().map_err(not_a_pair)?;
    let name = if name.is_instance_of::<PyString>() {
        name.call_method1("encode", ("utf-8", "surrogateescape"))?
    } else {
        name
    };
    let name =
        name.cast_exact::<PyBytes>().map_err(|_| errors::wrong_type("a header's name", "str or bytes", &name))?;
    let value = match value.cast_exact::<PyBytes>() {
        Ok(bytes) => Some(bytes.as_bytes().into()),
        Err(_) if value.is_none() => None,
        Err(_) => return Err(errors::wrong_type("a header's value", "bytes or None", &value)),
    };
    Ok((name.as_bytes().into(), value))
}
