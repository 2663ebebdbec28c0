//! The GIL, for functions that C code calls.

use pyo3::ffi;
use pyo3::prelude::*;

use crate::closing;

/// Calls Python, from a function that C code calls without the GIL, or with it. `None` once the interpreter exits.
///
/// `Python::attach` alone is not enough: it takes a thread for one that has the GIL if any call of our module is on its
/// stack. Such a call may have called Python code, and that another library, which released the GIL and then called us:
/// `produce_many` does so if its messages come from a reader of `record_batches`.
pub(super) fn with_gil<T>(call: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    // SAFETY: it may be called at any time.
    if unsafe { ffi::Py_IsInitialized() } == 0 || closing::has_begun_elsewhere() {
        return None;
    }
    let _held = Held::take();
    Python::try_attach(call)
}

/// The GIL, until it is dropped.
struct Held(ffi::PyGILState_STATE);

impl Held {
    fn take() -> Self {
        // SAFETY: the interpreter runs, as the caller has seen. It does not matter whether this thread has the GIL.
        Self(unsafe { ffi::PyGILState_Ensure() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: this thread has taken the GIL by `take`, with this result; what it took behind that, it has released.
        unsafe { ffi::PyGILState_Release(self.0) }
    }
}
