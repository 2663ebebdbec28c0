//! What happens to the engine when the process forks, and when the interpreter exits.
//!
//! A forked child has the memory of the engine but not its threads: whoever took a lock at the moment of the fork
//! will never give it back. So every object remembers how often its process was forked when it was made, and each
//! call compares that number before it takes any lock. A child leaks what it inherited rather than to tear it down.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use crate::errors;

static FORKS: AtomicU32 = AtomicU32::new(0);

/// Called by Python in every forked child.
#[pyfunction]
fn after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The process an object was made in, and the object: usable and dropped only there.
#[derive(Debug)]
pub(crate) struct Native<T> {
    born: u32,
    inner: ManuallyDrop<T>,
}

impl<T> Native<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { born: FORKS.load(Ordering::Relaxed), inner: ManuallyDrop::new(inner) }
    }

    fn is_at_home(&self) -> bool {
        self.born == FORKS.load(Ordering::Relaxed)
    }

    /// Refuses to go on in a forked child.
    #[inline]
    pub(crate) fn check(&self, py: Python<'_>) -> PyResult<&Self> {
        if self.is_at_home() { Ok(self) } else { Err(refuse(py)) }
    }
}

#[cold]
fn refuse(py: Python<'_>) -> PyErr {
    errors::named(
        py,
        "KafkaException",
        "this object was created before the process forked and cannot be used in the child; create a new KafkaClient there",
    )
}

impl<T> Deref for Native<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> Drop for Native<T> {
    fn drop(&mut self) {
        if self.is_at_home() {
            // SAFETY: the value is dropped once, here, and not used after it.
            unsafe { ManuallyDrop::drop(&mut self.inner) };
        }
    }
}

/// Asks Python to call us in forked children and at exit.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let in_child = wrap_pyfunction!(after_fork_in_child, module)?;
    let callbacks = [("after_in_child", in_child)];
    py.import("os")?.call_method(
        "register_at_fork",
        (),
        Some(&pyo3::types::IntoPyDict::into_py_dict(callbacks, py)?),
    )?;
    let at_exit = wrap_pyfunction!(crate::closing::at_exit, module)?;
    py.import("atexit")?.call_method1("register", (at_exit,))?;
    Ok(())
}
