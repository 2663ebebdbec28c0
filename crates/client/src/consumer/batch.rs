//! A batch that the application reads.

use std::sync::Arc;

use bytes::Bytes;
use kavka_core::consumer::RecordCursor;
use kavka_core::wire::records::RecordView;

use super::SharedMachine;

/// The records of one batch, to be read one after the other; see [`RecordCursor`].
///
/// While it lives, no other batch of its partition is handed out. Records that it has not handed out when it is dropped
/// come again.
#[derive(Debug)]
pub struct Batch {
    cursor: RecordCursor,
    /// Fields drop in order: this one after the cursor, when the partition has a batch to give again.
    released: Released,
}

impl Batch {
    pub(super) fn new(cursor: RecordCursor, machine: Arc<SharedMachine>) -> Self {
        Self { cursor, released: Released(machine) }
    }

    /// The next record; as [`RecordCursor::next_record`].
    ///
    /// Also `None` once the session of a group's member is over (guarantee R14), even if the process was frozen and the
    /// engine has not noticed yet.
    #[inline]
    pub fn next_record(&mut self) -> Option<RecordView> {
        if self.released.0.fence.is_reached() { None } else { self.cursor.next_record() }
    }

    /// The next records, at most `max`, and the buffer that their ranges refer to; as [`RecordCursor::next_records`].
    ///
    /// There are none where [`Batch::next_record`] returns `None`.
    pub fn next_records(&mut self, max: usize) -> (&[RecordView], &Bytes) {
        let max = if self.released.0.fence.is_reached() { 0 } else { max };
        self.cursor.next_records(max)
    }
}

struct Released(Arc<SharedMachine>);

impl std::fmt::Debug for Released {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Released")
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        self.0.arrived.notify_waiters();
    }
}

impl std::ops::Deref for Batch {
    type Target = RecordCursor;

    fn deref(&self) -> &RecordCursor {
        &self.cursor
    }
}
