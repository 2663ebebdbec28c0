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
struct Entry {
    thread: Weak<()>,
    partition: i32,
    offset: i64,
}

impl Entry {
    fn is_of(&self, thread: &Arc<()>) -> bool {
        Weak::as_ptr(&self.thread) == Arc::as_ptr(thread)
    }
}

/// The messages being processed: one for each thread or, for a batch, the first one of each partition.
#[derive(Debug, Default)]
pub(crate) struct Processing {
    /// That of the thread that got a single message last. Most programs need no more.
    last: Option<Entry>,
    /// Those of other threads, and all those of a batch: so `begin` notices that the thread has more than `last` to
    /// finish.
    others: Vec<Entry>,
    /// The partitions and offsets of messages that the deserializer refused, until their errors are raised.
    refused: Vec<(i32, i64)>,
}

impl Processing {
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
        self.others.extend(self.last.replace(Entry { thread: Arc::downgrade(thread), partition, offset }));
        self.others.retain(|entry| !entry.is_of(thread) && entry.thread.strong_count() > 0);
    }

    /// This thread got a message in a batch with others, and is processing all of them.
    pub(crate) fn begin_another(&mut self, partition: i32, offset: i64) {
        self.others.extend(self.last.take());
        with_runner(|thread| {
            let is_behind =
                |entry: &Entry| entry.is_of(thread) && entry.partition == partition && entry.offset <= offset;
            if !self.others.iter().any(is_behind) {
                self.others.push(Entry { thread: Arc::downgrade(thread), partition, offset });
            }
        });
    }

    /// This thread is done with what it got last.
    pub(crate) fn end(&mut self) {
        with_runner(|thread| {
            self.last.take_if(|last| last.is_of(thread));
            self.others.retain(|entry| !entry.is_of(thread));
        });
    }

    /// The program itself goes on at `offset`: earlier messages no longer hold commits back.
    pub(crate) fn pass(&mut self, partition: i32, offset: i64) {
        let is_passed = |entry: &Entry| entry.partition == partition && entry.offset < offset;
        self.last.take_if(|last| is_passed(last));
        self.others.retain(|entry| !is_passed(entry));
        self.refused.retain(|(of, refused)| *of != partition || *refused >= offset);
    }

    /// The deserializer refused a message behind others that its thread is processing; the error comes with a later
    /// call.
    pub(crate) fn refuse(&mut self, partition: i32, offset: i64) {
        self.refused.push((partition, offset));
    }

    /// That error is raised to this thread, which from then on is processing the message.
    pub(crate) fn raise(&mut self, partition: i32, offset: i64) {
        let waiting = self.refused.len();
        self.refused.retain(|refused| *refused != (partition, offset));
        if self.refused.len() < waiting {
            self.begin(partition, offset);
        }
    }

    /// Whether the error of a refused message is to be raised.
    #[inline]
    pub(crate) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// The first refused message of a partition.
    pub(crate) fn first_refused(&self, partition: i32) -> Option<i64> {
        self.refused.iter().filter(|(of, _)| *of == partition).map(|(_, offset)| *offset).min()
    }

    /// Lowers `offsets` so that they leave out what is being processed, and what was refused.
    pub(crate) fn hold_back(&self, offsets: &mut Offsets) {
        let entries = self.last.iter().chain(&self.others).filter(|entry| entry.thread.strong_count() > 0);
        for entry in entries {
            lower(offsets, entry.partition, entry.offset);
        }
        self.hold_back_refused(offsets);
    }

    /// Lowers `offsets` so that they leave out what was refused.
    pub(crate) fn hold_back_refused(&self, offsets: &mut Offsets) {
        for (partition, offset) in &self.refused {
            lower(offsets, *partition, *offset);
        }
    }
}

fn lower(offsets: &mut Offsets, partition: i32, offset: i64) {
    let of_partition = offsets.iter_mut().find(|(key, _)| key.partition == partition);
    if let Some((_, committed)) = of_partition
        && offset < committed.offset
    {
        committed.offset = offset;
        // The leader epoch would be that of another record.
        committed.leader_epoch = None;
    }
}
