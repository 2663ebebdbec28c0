//! Arrow's streams: the schema of record batches, and then one after the other.

use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{self, AssertUnwindSafe};
use std::ptr;

use super::columns::Columns;
use super::export;
use super::schema::Layout;
use super::{ArrowArray, ArrowArrayStream, ArrowSchema, Structure};

/// `EIO` and `EINVAL`: what was to be exported could not be read, or does not fit into the requested layout.
const EIO: c_int = 5;
const EINVAL: c_int = 22;

/// Returns the next columns; `None` at the end of the stream, and a sentence if there is an error.
pub(super) type Next = Box<dyn FnMut() -> Result<Option<Columns>, String> + Send>;

/// What a stream of ours points to.
struct State {
    next: Next,
    layout: Layout,
    last_error: CString,
}

impl State {
    /// The next array; an empty one, which is released already, at the end.
    fn next(&mut self) -> Result<ArrowArray, Failure> {
        let Some(columns) = (self.next)().map_err(|error| (EIO, error))? else { return Ok(ArrowArray::empty()) };
        export::array(&columns, self.layout).map_err(|error| (EINVAL, error))
    }

    fn fail(&mut self, code: c_int, error: String) -> c_int {
        self.last_error = CString::new(error.replace('\0', "\u{fffd}")).unwrap_or_default();
        code
    }
}

/// A stream of what `next` returns, in this layout.
pub(super) fn stream(layout: Layout, next: Next) -> ArrowArrayStream {
    let state = Box::new(State { next, layout, last_error: CString::default() });
    ArrowArrayStream {
        get_schema: Some(get_schema),
        get_next: Some(get_next),
        get_last_error: Some(get_last_error),
        release: Some(release),
        private_data: Box::into_raw(state).cast(),
    }
}

/// The state of a stream that its reader passes to one of the functions below.
///
/// # Safety
///
/// `stream` is null, or a stream with the content that [`stream()`] put into it. Nobody else uses it during the call.
unsafe fn state<'a>(stream: *mut ArrowArrayStream) -> Option<&'a mut State> {
    // SAFETY: as the caller promises. The state is a box until `release`, after which the pointer is null.
    unsafe { stream.as_mut()?.private_data.cast::<State>().as_mut() }
}

unsafe extern "C" fn get_schema(stream: *mut ArrowArrayStream, schema: *mut ArrowSchema) -> c_int {
    // SAFETY: the specification makes the reader pass its stream, in one thread at a time.
    let Some(state) = (unsafe { state(stream) }) else { return EINVAL };
    // SAFETY: the reader passes room for a schema, with nothing in it that would have to be dropped.
    unsafe { ptr::write(schema, state.layout.schema()) }
    0
}

unsafe extern "C" fn get_next(stream: *mut ArrowArrayStream, array: *mut ArrowArray) -> c_int {
    // SAFETY: the specification makes the reader pass its stream, in one thread at a time.
    let Some(state) = (unsafe { state(stream) }) else { return EINVAL };
    // A panic must not reach C code: the process would abort.
    let next = match panic::catch_unwind(AssertUnwindSafe(|| state.next())) {
        Ok(Ok(next)) => next,
        Ok(Err((code, error))) => return state.fail(code, error),
        Err(_) => return state.fail(EIO, "pykafka panicked, which is a defect of it; please report it".into()),
    };
    // SAFETY: the reader passes room for an array, with nothing in it that would have to be dropped.
    unsafe { ptr::write(array, next) }
    0
}

unsafe extern "C" fn get_last_error(stream: *mut ArrowArrayStream) -> *const c_char {
    // SAFETY: the specification makes the reader pass its stream, in one thread at a time.
    unsafe { state(stream) }.map_or(ptr::null(), |state| state.last_error.as_ptr())
}

unsafe extern "C" fn release(stream: *mut ArrowArrayStream) {
    // SAFETY: the caller passes a stream with the content that `stream` put into it, or null.
    let Some(stream) = (unsafe { stream.as_mut() }) else { return };
    // Without effect on a stream that was released before.
    if stream.release.take().is_some() {
        let state = std::mem::replace(&mut stream.private_data, ptr::null_mut());
        // SAFETY: `stream` made it from a box, and only the first release gets here.
        drop(unsafe { Box::from_raw(state.cast::<State>()) });
    }
}

/// The code and the text of an error.
pub(super) type Failure = (c_int, String);

impl ArrowArrayStream {
    /// The schema of what another library streams.
    pub(super) fn read_schema(&mut self) -> Result<ArrowSchema, Failure> {
        let Some(get_schema) = self.get_schema else { return Err((EINVAL, "it has no get_schema".into())) };
        let mut schema = ArrowSchema::empty();
        // SAFETY: the stream is not released, as `from_capsule` has seen, and there is room for a schema.
        match unsafe { get_schema(self, &raw mut schema) } {
            0 => Ok(schema),
            code => Err(self.failure(code)),
        }
    }

    /// The next array of what another library streams; an empty one at the end.
    pub(super) fn read_next(&mut self) -> Result<ArrowArray, Failure> {
        let Some(get_next) = self.get_next else { return Err((EINVAL, "it has no get_next".into())) };
        let mut array = ArrowArray::empty();
        // SAFETY: the stream is not released, as `from_capsule` has seen, and there is room for an array.
        match unsafe { get_next(self, &raw mut array) } {
            0 => Ok(array),
            code => Err(self.failure(code)),
        }
    }

    fn failure(&mut self, code: c_int) -> Failure {
        // SAFETY: the stream is not released.
        let text = self.get_last_error.map_or(ptr::null(), |get_last_error| unsafe { get_last_error(self) });
        if text.is_null() {
            return (code, "it does not say why".into());
        }
        // SAFETY: a text that is not null ends with a zero, and is valid until the next call.
        (code, unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    }
}
