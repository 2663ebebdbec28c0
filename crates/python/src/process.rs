//! What happens to the engine when the process forks, when a second interpreter imports it, and at exit.
//!
//! A forked child has the engine's memory but not its threads, so a lock that one of them held during the fork is never
//! released. Everything that refers to the engine is therefore wrapped in a [`ForkGuard`], which knows the process it
//! was made in. In a child, calls are refused before they touch a lock, and inherited objects are leaked, not dropped.
//!
//! Classes, interned names and modules are cached for the whole process. They belong to the first interpreter that
//! imports this module; any other interpreter is refused.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

use crate::{closing, errors};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// The id of the interpreter that imported the module; -1: none yet.
static INTERPRETER: AtomicI64 = AtomicI64::new(-1);

/// How often this process and its ancestors have forked.
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Python calls it in every forked child.
#[pyfunction]
fn after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    closing::forget_those_of_the_parent();
}

/// A value that may be used and dropped only in the process that made it.
#[derive(Debug)]
pub(crate) struct ForkGuard<T> {
    forks: u32,
    /// `Some` until it is dropped.
    inner: Option<T>,
}

impl<T> ForkGuard<T> {
    #[inline]
    pub(crate) fn new(inner: T) -> Self {
        Self { forks: forks(), inner: Some(inner) }
    }

    /// Whether this is the process that made it.
    #[inline]
    pub(crate) fn is_at_home(&self) -> bool {
        self.forks == forks()
    }

    /// The value; raises in a forked child.
    #[inline]
    pub(crate) fn check(&self, py: Python<'_>) -> PyResult<&T> {
        if self.is_at_home() { Ok(self) } else { Err(forked(py)) }
    }
}

/// The exception for a call in a forked child.
#[cold]
pub(crate) fn forked(py: Python<'_>) -> PyErr {
    errors::named(
        py,
        "KafkaException",
        "this object was created before the process forked and cannot be used in the child; create a new KafkaClient there",
    )
}

impl<T> Deref for ForkGuard<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        let Some(inner) = &self.inner else { unreachable!("only drop takes it out") };
        inner
    }
}

impl<T> DerefMut for ForkGuard<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        let Some(inner) = &mut self.inner else { unreachable!("only drop takes it out") };
        inner
    }
}

impl<T> Drop for ForkGuard<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_at_home() {
            std::mem::forget(self.inner.take());
        }
    }
}

/// Raises if another interpreter has imported the module.
pub(crate) fn claim_interpreter(_py: Python<'_>) -> PyResult<()> {
    // SAFETY: the token proves that this thread is attached to an interpreter, whose id is read.
    let id = unsafe { pyo3::ffi::PyInterpreterState_GetID(pyo3::ffi::PyInterpreterState_Get()) };
    match INTERPRETER.compare_exchange(-1, id, Ordering::Relaxed, Ordering::Relaxed) {
        Err(owner) if owner != id => Err(PyImportError::new_err(
            "pykafka was imported by another Python interpreter of this process and can serve only that one; give each \
             application a process of its own (mod_wsgi: WSGIApplicationGroup %{GLOBAL}; uWSGI: single-interpreter = true)",
        )),
        _ => Ok(()),
    }
}

/// Whether the interpreter that imported the module is the process's first.
pub(crate) fn is_main_interpreter() -> bool {
    INTERPRETER.load(Ordering::Relaxed) == 0
}

/// Registers the functions that Python calls in forked children and at exit.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let in_child = wrap_pyfunction!(after_fork_in_child, module)?;
    let callbacks = [("after_in_child", in_child)];
    py.import("os")?.call_method(
        "register_at_fork",
        (),
        Some(&pyo3::types::IntoPyDict::into_py_dict(callbacks, py)?),
    )?;
    let at_exit = wrap_pyfunction!(closing::at_exit, module)?;
    py.import("atexit")?.call_method1("register", (at_exit,))?;
    Ok(())
}
