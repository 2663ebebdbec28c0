//! Columns for other libraries: the Arrow C data interface, and its PyCapsule protocol.
//!
//! Libraries of one process pass columns to each other as C structures: pointers to buffers, and a function that
//! releases them. So there is nothing to link and nothing to copy, and neither arrow-rs nor pyarrow is needed. This
//! file has the structures of Arrow's specification, and the capsules around them; `schema` says what our columns are
//! called, `export` fills the structures, `choice` and `import` read those of others, and `stream` passes several in
//! turn.
//!
//! Rules of the specification that all of them keep:
//!
//! - A structure whose `release` is null is empty. Whoever moves a structure sets the `release` of the old one to null.
//! - `release` may be called in any thread, without the GIL, after the interpreter has ended, and in a forked child. So
//!   nothing that we export refers to a Python object, except the stream of a consumer, which asks for the GIL itself
//!   (see `gil`).
//! - A reader of our columns may move a child out of its parent, and release the two in any order.
// What is cast counts things in memory, or was found to be in range; a record batch has little more than a gibibyte.
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

pub(crate) mod batch;
pub(crate) mod choice;
pub(crate) mod columns;
mod export;
mod gil;
pub(crate) mod import;
mod schema;
pub(crate) mod stream;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{self, NonNull};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::errors;

/// `struct ArrowSchema`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct ArrowSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut ArrowSchema,
    dictionary: *mut ArrowSchema,
    release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    private_data: *mut c_void,
}

/// `struct ArrowArray`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct ArrowArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *mut *const c_void,
    children: *mut *mut ArrowArray,
    dictionary: *mut ArrowArray,
    release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    private_data: *mut c_void,
}

/// `struct ArrowArrayStream`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct ArrowArrayStream {
    get_schema: Option<unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowSchema) -> c_int>,
    get_next: Option<unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowArray) -> c_int>,
    get_last_error: Option<unsafe extern "C" fn(*mut ArrowArrayStream) -> *const c_char>,
    release: Option<unsafe extern "C" fn(*mut ArrowArrayStream)>,
    private_data: *mut c_void,
}

/// One of the three structures.
pub(crate) trait Structure: Sized + Send + 'static {
    /// The name of its capsules.
    const CAPSULE: &'static CStr;

    /// The structure that holds nothing.
    fn empty() -> Self;

    fn is_empty(&self) -> bool;

    /// Moves the content out of `self`.
    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::empty())
    }

    /// A capsule with this content. If nobody takes the content, the capsule releases it.
    fn into_capsule(self, py: Python<'_>) -> PyResult<Bound<'_, PyCapsule>> {
        PyCapsule::new_with_value(py, self, Self::CAPSULE)
    }

    /// Where a capsule has its structure; `what` names the capsule in errors.
    fn within(capsule: &Bound<'_, PyAny>, what: &str) -> PyResult<NonNull<Self>> {
        let expected = format!("a capsule named {}", Self::CAPSULE.to_string_lossy());
        let capsule = capsule.cast::<PyCapsule>().map_err(|_| errors::wrong_type(what, &expected, capsule))?;
        Ok(capsule.pointer_checked(Some(Self::CAPSULE))?.cast())
    }

    /// Moves the content out of a capsule.
    fn from_capsule(capsule: &Bound<'_, PyAny>, what: &str) -> PyResult<Self> {
        let mut content = Self::within(capsule, what)?;
        // SAFETY: the name of the capsule says that it points to such a structure, and this thread has the GIL, so
        // nobody else takes the content at the same time.
        let content = unsafe { content.as_mut() }.take();
        if content.is_empty() {
            return Err(PyValueError::new_err(format!(
                "{what} is empty: it was read before, and can be read only once"
            )));
        }
        Ok(content)
    }
}

/// Implements what the three structures have in common: a thread may pass one to another one, and what is not moved out
/// is released.
macro_rules! structure {
    ($structure:ident, $capsule:literal, $empty:expr) => {
        // SAFETY: the specification lets the content be used and released in any thread, one at a time.
        unsafe impl Send for $structure {}

        impl Structure for $structure {
            const CAPSULE: &'static CStr = $capsule;

            fn empty() -> Self {
                $empty
            }

            fn is_empty(&self) -> bool {
                self.release.is_none()
            }
        }

        impl Drop for $structure {
            fn drop(&mut self) {
                if let Some(release) = self.release {
                    // SAFETY: `release` is not null, so the content has not been moved or released; and it is not used
                    // any more.
                    unsafe { release(self) }
                }
            }
        }
    };
}

structure!(
    ArrowSchema,
    c"arrow_schema",
    ArrowSchema {
        format: ptr::null(),
        name: ptr::null(),
        metadata: ptr::null(),
        flags: 0,
        n_children: 0,
        children: ptr::null_mut(),
        dictionary: ptr::null_mut(),
        release: None,
        private_data: ptr::null_mut(),
    }
);

structure!(
    ArrowArray,
    c"arrow_array",
    ArrowArray {
        length: 0,
        null_count: 0,
        offset: 0,
        n_buffers: 0,
        n_children: 0,
        buffers: ptr::null_mut(),
        children: ptr::null_mut(),
        dictionary: ptr::null_mut(),
        release: None,
        private_data: ptr::null_mut(),
    }
);

structure!(
    ArrowArrayStream,
    c"arrow_array_stream",
    ArrowArrayStream {
        get_schema: None,
        get_next: None,
        get_last_error: None,
        release: None,
        private_data: ptr::null_mut(),
    }
);

/// Structures on the heap that another structure points to, as its children or its dictionary.
#[derive(Debug)]
struct Owned<T>(Vec<*mut T>);

impl<T> Owned<T> {
    fn new(structures: impl IntoIterator<Item = T>) -> Self {
        Self(structures.into_iter().map(|structure| Box::into_raw(Box::new(structure))).collect())
    }

    /// The pointer to the first pointer.
    fn list(&mut self) -> *mut *mut T {
        if self.0.is_empty() { ptr::null_mut() } else { self.0.as_mut_ptr() }
    }

    /// The first pointer.
    fn first(&self) -> *mut T {
        self.0.first().copied().unwrap_or(ptr::null_mut())
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        for structure in &self.0 {
            // SAFETY: `new` made it from a box, and nothing else frees it: whoever moves a child leaves its structure
            // here, empty. Dropping a structure releases what is still in it.
            drop(unsafe { Box::from_raw(*structure) });
        }
    }
}
