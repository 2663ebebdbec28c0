//! Which messages the application may still be working on: they are not to be committed for it (guarantee R12).
//!
//! A thread works on the message it was handed last until it asks for more, or ends. It is done with what it was handed
//! before.

use std::sync::{Arc, Weak};

use kavka::Offsets;

thread_local! {
    /// Stands for this thread, and goes when it ends.
    static THIS_THREAD: Arc<()> = Arc::default();
}

/// One message, and who works on it.
#[derive(Debug)]
struct Work {
    thread: Weak<()>,
    partition: i32,
    offset: i64,
}

impl Work {
    fn is_of(&self, thread: &Arc<()>) -> bool {
        Weak::as_ptr(&self.thread) == Arc::as_ptr(thread)
    }
}

/// The messages that are worked on: at most one of each thread.
#[derive(Debug, Default)]
pub(crate) struct AtWork {
    /// Of the thread that was handed a message last. Most often there is no other.
    last: Option<Work>,
    others: Vec<Work>,
}

impl AtWork {
    /// This thread was handed a message.
    #[inline]
    pub(crate) fn begin(&mut self, partition: i32, offset: i64) {
        THIS_THREAD.with(|thread| match &mut self.last {
            Some(last) if last.is_of(thread) => (last.partition, last.offset) = (partition, offset),
            _ => self.begin_after_another(thread, partition, offset),
        });
    }

    #[cold]
    fn begin_after_another(&mut self, thread: &Arc<()>, partition: i32, offset: i64) {
        self.others.extend(self.last.replace(Work { thread: Arc::downgrade(thread), partition, offset }));
        self.others.retain(|work| !work.is_of(thread) && work.thread.strong_count() > 0);
    }

    /// This thread is done with the message it was handed last.
    pub(crate) fn end(&mut self) {
        THIS_THREAD.with(|thread| {
            self.last.take_if(|last| last.is_of(thread));
            self.others.retain(|work| !work.is_of(thread));
        });
    }

    /// The program itself says that it goes on at `offset`: nothing before is held back any more.
    pub(crate) fn pass(&mut self, partition: i32, offset: i64) {
        let is_passed = |work: &Work| work.partition == partition && work.offset < offset;
        self.last.take_if(|last| is_passed(last));
        self.others.retain(|work| !is_passed(work));
    }

    /// Takes what is worked on out of what is to be committed.
    pub(crate) fn hold_back(&self, offsets: &mut Offsets) {
        let works = self.last.iter().chain(&self.others).filter(|work| work.thread.strong_count() > 0);
        for work in works {
            let of_partition = offsets.iter_mut().find(|(key, _)| key.partition == work.partition);
            if let Some((_, committed)) = of_partition
                && work.offset < committed.offset
            {
                committed.offset = work.offset;
                // The epoch is that of the record before the position.
                committed.leader_epoch = None;
            }
        }
    }
}
