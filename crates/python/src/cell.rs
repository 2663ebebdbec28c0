//! A slot for a value that is replaced now and then while several threads use it.
//!
//! Its lock is held for a few instructions only: never while Python code runs, while the GIL is released, or while
//! waiting. So it is free whenever the process forks, and a thread that holds the GIL never waits for it.

use std::sync::{Mutex, MutexGuard, TryLockError};

use crate::reports::lock;

/// An optional value.
#[derive(Debug)]
pub(crate) struct Slot<T>(Mutex<Option<T>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Slot<T> {
    /// A clone of the value. For an `Arc`, it stays valid if the slot is changed.
    #[inline]
    pub(crate) fn get(&self) -> Option<T>
    where
        T: Clone,
    {
        lock(&self.0).clone()
    }

    /// Replaces the value, and returns the old one, which the caller must drop without holding a lock.
    pub(crate) fn replace(&self, value: Option<T>) -> Option<T> {
        std::mem::replace(&mut *lock(&self.0), value)
    }

    /// Locks the slot. Drop the guard before any Python code can run.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<T>> {
        lock(&self.0)
    }

    /// Shows the value to the garbage collector, which must not wait: if the slot is locked, the value counts as in
    /// use.
    pub(crate) fn visit<E>(&self, visit: impl FnOnce(&T) -> Result<(), E>) -> Result<(), E> {
        let value = match self.0.try_lock() {
            Ok(value) => value,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        value.as_ref().map_or(Ok(()), visit)
    }
}
