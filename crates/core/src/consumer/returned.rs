//! How the machine learns what became of the batches that it handed out.
//!
//! The application reads and drops a batch on its own thread, without the machine's lock. It leaves a note here, which
//! the machine reads when it is called next. So a call looks only at the partitions whose batches came back, however
//! many batches the application holds.

use std::sync::{Arc, PoisonError};

use crate::error::Error;
use crate::sync::{Mutex, MutexGuard};

use super::lease::Lease;
use super::partitions::PartitionId;

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Note {
    /// It was dropped.
    Dropped(PartitionId),
    /// Records that had passed all checks cannot be read.
    Unreadable(PartitionId, Arc<Lease>, Error),
}

/// The notes that the machine has not read yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Returned(Arc<Mutex<Vec<Note>>>);

impl Returned {
    fn notes(&self) -> MutexGuard<'_, Vec<Note>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn leave(&self, note: Note) {
        self.notes().push(note);
    }

    /// The notes so far, oldest first.
    pub(super) fn take(&self) -> Vec<Note> {
        std::mem::take(&mut *self.notes())
    }
}
