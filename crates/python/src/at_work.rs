//! Keeps track of the messages that the application may still be processing, which auto-commit must leave out
//! (guarantee R12).
//!
//! A thread is processing the message, or the batch, that it got last, until it asks for more or ends. It is done with
//! everything it got before. In a program patched by gevent each greenlet counts as a thread.

use std::sync::{Arc, Weak};

use kavka::Offsets;

use crate::greenlets::with_runner;

/// A message, and the thread that is processing it.
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

/// The messages being processed: one for each thread or, for a batch, the first one of each partition.
#[derive(Debug, Default)]
pub(crate) struct AtWork {
    /// That of the thread that got a single message last. Most programs need no more.
    last: Option<Work>,
    /// Those of other threads, and all those of a batch: so `begin` notices that the thread has more than `last` to
    /// finish.
    others: Vec<Work>,
}

impl AtWork {
    /// This thread got a message.
    #[inline]
    pub(crate) fn begin(&mut self, partition: i32, offset: i64) {
        with_runner(|thread| match &mut self.last {
            Some(last) if last.is_of(thread) => (last.partition, last.offset) = (partition, offset),
            _ => self.begin_after_another(thread, partition, offset),
        });
    }

    #[cold]
    fn begin_after_another(&mut self, thread: &Arc<()>, partition: i32, offset: i64) {
        self.others.extend(self.last.replace(Work { thread: Arc::downgrade(thread), partition, offset }));
        self.others.retain(|work| !work.is_of(thread) && work.thread.strong_count() > 0);
    }

    /// This thread got a message in a batch with others, and is processing all of them.
    pub(crate) fn begin_another(&mut self, partition: i32, offset: i64) {
        self.others.extend(self.last.take());
        with_runner(|thread| {
            let is_behind = |work: &Work| work.is_of(thread) && work.partition == partition && work.offset <= offset;
            if !self.others.iter().any(is_behind) {
                self.others.push(Work { thread: Arc::downgrade(thread), partition, offset });
            }
        });
    }

    /// This thread is done with what it got last.
    pub(crate) fn end(&mut self) {
        with_runner(|thread| {
            self.last.take_if(|last| last.is_of(thread));
            self.others.retain(|work| !work.is_of(thread));
        });
    }

    /// The program itself goes on at `offset`: earlier messages no longer hold commits back.
    pub(crate) fn pass(&mut self, partition: i32, offset: i64) {
        let is_passed = |work: &Work| work.partition == partition && work.offset < offset;
        self.last.take_if(|last| is_passed(last));
        self.others.retain(|work| !is_passed(work));
    }

    /// The partition was given up: its next owner commits for it from now on.
    pub(crate) fn forget(&mut self, partition: i32) {
        self.last.take_if(|last| last.partition == partition);
        self.others.retain(|work| work.partition != partition);
    }

    /// Lowers `offsets` so that they leave out what is being processed.
    pub(crate) fn hold_back(&self, offsets: &mut Offsets) {
        let works = self.last.iter().chain(&self.others).filter(|work| work.thread.strong_count() > 0);
        for work in works {
            let of_partition = offsets.iter_mut().find(|(key, _)| key.partition == work.partition);
            if let Some((_, committed)) = of_partition
                && work.offset < committed.offset
            {
                committed.offset = work.offset;
                // The leader epoch would be that of another record.
                committed.leader_epoch = None;
            }
        }
    }
}
