//! A place for something that is replaced now and then while several threads use it.
//!
//! Its lock is held for a few instructions: nobody runs Python code, gives the GIL up or waits while holding it. So
//! it is free whenever the process forks, and never makes anybody wait who holds the GIL.

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
    /// A copy of what is in it: of an `Arc`, a reference that stays good whatever is done to the slot.
    #[inline]
    pub(crate) fn get(&self) -> Option<T>
    where
        T: Clone,
    {
        lock(&self.0).clone()
    }

    /// Puts something in, or nothing, and returns what was there, for the caller to drop when it holds no lock.
    pub(crate) fn replace(&self, value: Option<T>) -> Option<T> {
        std::mem::replace(&mut *lock(&self.0), value)
    }

    /// Access in place. The guard must be gone before any Python code can run.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<T>> {
        lock(&self.0)
    }

    /// Shows it to the garbage collector, which must not wait. What is not shown is taken to be in use.
    pub(crate) fn visit<E>(&self, visit: impl FnOnce(&T) -> Result<(), E>) -> Result<(), E> {
        let value = match self.0.try_lock() {
            Ok(value) => value,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        value.as_ref().map_or(Ok(()), visit)
    }
}
