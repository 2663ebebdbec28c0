//! How the records of one batch learn their outcome.
//!
//! One [`Completion`] per batch is shared by all its records. A record is the completion plus an index, so a report
//! costs no allocation. The producer decides an outcome under its lock and hands it out as a [`Completed`].
//! [`Completed::carry_out`], called outside every lock, stores the outcome and wakes those who wait for it.
//!
//! Outcomes arrive for ranges of records, in order and without gaps: a single range, unless the batch was split. A
//! record's outcome is set once and never changes.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, PoisonError};
use std::task::Waker;

use crate::error::{Error, Result};
use crate::sync::{AtomicU32, Mutex, MutexGuard, Ordering};

/// A broker's acknowledgement of a range of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// The offset of the first record of the range. `None` with `acks=0`, and when the broker recognized the batch as a
    /// duplicate but no longer knows its offset.
    pub base_offset: Option<i64>,
    /// The broker's timestamp, in milliseconds since 1970, if the topic uses `LogAppendTime`.
    pub log_append_time_ms: Option<i64>,
}

/// Where a record was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The partition number.
    pub partition: i32,
    /// The record's offset; `None` if the broker did not name it (see [`Acknowledged::base_offset`]).
    pub offset: Option<i64>,
    /// The broker's timestamp, in milliseconds since 1970; `None` if the record keeps its own.
    pub timestamp_ms: Option<i64>,
}

#[derive(Debug)]
struct Range {
    start: u32,
    end: u32,
    outcome: Result<Acknowledged>,
}

/// Identifies a waker: two wakers with the same data and functions wake the same task.
type WakerId = (usize, usize);

fn waker_id(waker: &Waker) -> WakerId {
    (waker.data().addr(), std::ptr::from_ref(waker.vtable()).addr())
}

/// The outcome of one batch.
#[derive(Debug)]
pub struct Completion {
    topic: Arc<str>,
    partition: i32,
    /// How many records, counted from the first, have an outcome.
    resolved: AtomicU32,
    first: OnceLock<Range>,
    /// The ranges after the first one, if the batch was split.
    later: Mutex<Vec<Range>>,
    wakers: Mutex<BTreeMap<WakerId, Waker>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Completion {
    pub(super) fn new(topic: Arc<str>, partition: i32) -> Self {
        Self {
            topic,
            partition,
            resolved: AtomicU32::new(0),
            first: OnceLock::new(),
            later: Mutex::default(),
            wakers: Mutex::default(),
        }
    }

    /// The topic the records go to.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The partition the records go to.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// How many records, counted from the first, have an outcome.
    pub fn resolved(&self) -> u32 {
        self.resolved.load(Ordering::Acquire)
    }

    /// Whether the record at this index has an outcome.
    #[inline]
    pub fn is_resolved(&self, index: u32) -> bool {
        index < self.resolved.load(Ordering::Acquire)
    }

    /// The offset of a record, once it is acknowledged and if the broker named it.
    #[inline]
    pub fn offset(&self, index: u32) -> Option<i64> {
        self.outcome(index)?.ok()?.offset
    }

    /// The outcome of a record; `None` while it is open.
    pub fn outcome(&self, index: u32) -> Option<Result<RecordMetadata>> {
        if !self.is_resolved(index) {
            return None;
        }
        let describe = |range: &Range| match &range.outcome {
            Ok(acknowledged) => Ok(RecordMetadata {
                partition: self.partition,
                offset: acknowledged.base_offset.map(|base| base.saturating_add(i64::from(index - range.start))),
                timestamp_ms: acknowledged.log_append_time_ms,
            }),
            Err(error) => Err(error.clone()),
        };
        match self.first.get() {
            Some(range) if index < range.end => Some(describe(range)),
            _ => lock(&self.later).iter().find(|range| index < range.end).map(describe),
        }
    }

    /// Wakes `waker` at the next outcome of the batch. Returns false, and keeps no waker, if the record has its
    /// outcome.
    ///
    /// An outcome may be that of other records of the batch: check again, and subscribe again if this record is still
    /// open. The waker may be that of a future, a parked thread or a report queue.
    pub fn subscribe(&self, index: u32, waker: &Waker) -> bool {
        let mut wakers = lock(&self.wakers);
        // Must be checked under the lock: `resolve` first sets the count and then takes the wakers.
        if self.is_resolved(index) {
            return false;
        }
        wakers.entry(waker_id(waker)).or_insert_with(|| waker.clone());
        true
    }

    /// Sets the outcome of the records from the first open one up to `end`. Returns false if they have one already.
    fn resolve(&self, end: u32, outcome: Result<Acknowledged>) -> bool {
        let start = self.resolved.load(Ordering::Acquire);
        debug_assert!(start < end, "a record got a second report");
        if start >= end {
            return false;
        }
        if let Err(range) = self.first.set(Range { start, end, outcome }) {
            lock(&self.later).push(range);
        }
        self.resolved.store(end, Ordering::Release);
        let wakers = std::mem::take(&mut *lock(&self.wakers));
        for waker in wakers.into_values() {
            // The waker is foreign code. If it panics (which the panic hook reports), only its owner is affected.
            drop(catch_unwind(AssertUnwindSafe(|| waker.wake())));
        }
        true
    }
}

/// A decided outcome that is not stored yet. Carry it out in the order of the events, outside every lock.
#[derive(Debug)]
#[must_use = "records whose outcome is not carried out are never reported"]
pub struct Completed {
    pub(super) completion: Arc<Completion>,
    pub(super) end: u32,
    pub(super) count: u32,
    pub(super) outcome: Result<Acknowledged>,
}

impl Completed {
    /// The batch it is about.
    pub fn completion(&self) -> &Arc<Completion> {
        &self.completion
    }

    /// How many records it is about.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The error, if the records failed.
    pub fn error(&self) -> Option<&Error> {
        self.outcome.as_ref().err()
    }

    /// Stores the outcome and wakes everybody who waits for it.
    pub fn carry_out(self) {
        self.completion.resolve(self.end, self.outcome);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;
    use crate::error::ErrorKind;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn stored_at(offset: i64) -> Acknowledged {
        Acknowledged { base_offset: Some(offset), log_append_time_ms: None }
    }

    #[test]
    fn every_record_of_a_split_batch_finds_its_own_range() {
        let completion = Completion::new("t".into(), 3);
        completion.resolve(2, Ok(stored_at(10)));
        assert_eq!(completion.offset(1), Some(11));
        assert!(completion.outcome(2).is_none());
        completion.resolve(3, Err(Error::new(ErrorKind::NotDelivered, "too large")));
        completion.resolve(5, Ok(stored_at(12)));
        assert_eq!(completion.outcome(2).unwrap().unwrap_err().kind(), ErrorKind::NotDelivered);
        assert_eq!((completion.offset(3), completion.offset(4)), (Some(12), Some(13)));
    }

    #[test]
    fn a_waker_that_panics_keeps_nobody_else_from_being_woken() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("the waker panics, on purpose");
            }
        }
        let completion = Completion::new("t".into(), 0);
        let count = Arc::new(Count(AtomicUsize::new(0)));
        completion.subscribe(0, &Waker::from(Arc::new(Panics)));
        completion.subscribe(0, &Waker::from(Arc::clone(&count)));
        assert!(completion.resolve(1, Ok(stored_at(0))));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_waker_is_called_at_the_outcome_and_refused_after_it() {
        let completion = Completion::new("t".into(), 0);
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        assert!(completion.subscribe(0, &waker));
        assert!(completion.subscribe(1, &waker), "the same waker is kept once");
        completion.resolve(2, Ok(stored_at(0)));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(!completion.subscribe(1, &waker));
    }

    /// Each task has data of its own, so their wakers differ.
    struct Task(Arc<Count>);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_batch_can_be_awaited_by_as_many_tasks_as_it_has_records() {
        // If subscribing looked at every other task, this would take longer than a test may last.
        const TASKS: u32 = 400_000;
        let completion = Completion::new("t".into(), 0);
        let count = Arc::new(Count(AtomicUsize::new(0)));
        for index in 0..TASKS {
            let waker = Waker::from(Arc::new(Task(Arc::clone(&count))));
            assert!(completion.subscribe(index, &waker) && completion.subscribe(index, &waker));
        }
        completion.resolve(TASKS, Ok(stored_at(0)));
        assert_eq!(count.0.load(Ordering::SeqCst), TASKS as usize);
    }
}
