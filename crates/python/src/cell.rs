//! A place for something shared that is replaced now and then and read on hot paths.
//!
//! The GIL is its lock: it is read and replaced only with a `Python` token in hand, and nothing in between can give the
//! GIL up. The module asks for a GIL from interpreters that can do without one.

use std::cell::UnsafeCell;
use std::sync::Arc;

use pyo3::prelude::*;

/// An optional shared value, guarded by the GIL.
#[derive(Debug)]
pub(crate) struct GilCell<T>(UnsafeCell<Option<Arc<T>>>);

// SAFETY: every access holds the GIL for its whole length, so no two overlap; the content is `Send + Sync` itself.
unsafe impl<T: Send + Sync> Sync for GilCell<T> {}

impl<T> Default for GilCell<T> {
    fn default() -> Self {
        Self(UnsafeCell::new(None))
    }
}

impl<T> GilCell<T> {
    /// What is in it.
    #[inline]
    pub(crate) fn get(&self, _py: Python<'_>) -> Option<Arc<T>> {
        // SAFETY: the token shows that the GIL is held, and counting a reference runs no Python code.
        unsafe { (*self.0.get()).clone() }
    }

    /// Puts something else in and returns what was there, for the caller to drop when it likes.
    pub(crate) fn replace(&self, _py: Python<'_>, value: Option<Arc<T>>) -> Option<Arc<T>> {
        // SAFETY: as above; the old value is moved out, not dropped here.
        unsafe { std::mem::replace(&mut *self.0.get(), value) }
    }

    /// Shows it to the garbage collector, which holds the GIL but has no token.
    pub(crate) fn visit<E>(&self, visit: impl FnOnce(&T) -> Result<(), E>) -> Result<(), E> {
        // SAFETY: garbage collection holds the GIL, and visiting runs no Python code.
        unsafe { (*self.0.get()).as_deref() }.map_or(Ok(()), visit)
    }
}

/// A place for something that one caller at a time takes out, works on and puts back, guarded by the GIL.
#[derive(Debug)]
pub(crate) struct GilSlot<T>(UnsafeCell<Option<Box<T>>>);

// SAFETY: every access holds the GIL for its whole length, so no two overlap.
unsafe impl<T: Send> Sync for GilSlot<T> {}

impl<T> Default for GilSlot<T> {
    fn default() -> Self {
        Self(UnsafeCell::new(None))
    }
}

impl<T> GilSlot<T> {
    /// Takes out what is in it.
    #[inline]
    pub(crate) fn take(&self, py: Python<'_>) -> Option<Box<T>> {
        self.put(py, None)
    }

    /// Puts something in and returns what was there, for the caller to drop when it likes.
    #[inline]
    pub(crate) fn put(&self, _py: Python<'_>, value: Option<Box<T>>) -> Option<Box<T>> {
        // SAFETY: the token shows that the GIL is held; the old value is moved out, not dropped here.
        unsafe { std::mem::replace(&mut *self.0.get(), value) }
    }

    /// Looks at what is in it; `look` must not run Python code.
    pub(crate) fn peek<R>(&self, _py: Python<'_>, look: impl FnOnce(&T) -> R) -> Option<R> {
        // SAFETY: as above; `look` does not give up the GIL, so nobody can take the value meanwhile.
        unsafe { (*self.0.get()).as_deref() }.map(look)
    }
}
