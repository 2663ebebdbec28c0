//! Counts the failures of messages without delivery reports.
//!
//! The next call logs them, and `stop` raises them, once. The cost is per batch, not per message.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Wake, Waker};

use kavka::{Completion, Error, Written};
use pyo3::prelude::*;

use crate::errors;
use crate::reports::lock;

/// The counters of one producer.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    failed: AtomicU64,
    logged: AtomicU64,
    first_error: Mutex<Option<Error>>,
    maybe_written: AtomicBool,
}

/// Messages that were not delivered, and that nobody was told about yet.
#[derive(Debug)]
pub(crate) struct Failures {
    pub(crate) count: u64,
    pub(crate) first_error: Error,
    /// `Maybe` if any of them may be in the log.
    pub(crate) written: Written,
}

impl Tally {
    /// Counts the outcomes of a batch. Call it once per batch.
    pub(crate) fn watch(this: &Arc<Self>, batch: &Arc<Completion>) {
        Arc::new(Watch { tally: Arc::clone(this), batch: Arc::downgrade(batch), seen: AtomicU32::new(0) }).look();
    }

    /// Logs the failures that were not logged yet.
    #[inline]
    pub(crate) fn log_failures(&self, py: Python<'_>, topic: &str) {
        if self.failed.load(Ordering::Relaxed) != self.logged.load(Ordering::Relaxed) {
            self.log(py, topic);
        }
    }

    #[cold]
    fn log(&self, py: Python<'_>, topic: &str) {
        let failed = self.failed.load(Ordering::Acquire);
        let new = failed - self.logged.swap(failed, Ordering::AcqRel);
        let error = lock(&self.first_error).clone();
        let log = || {
            let logger = py.import("logging")?.call_method1("getLogger", ("pykafka.producer",))?;
            let text = "%d messages of topic %s were not delivered; the first error was: %s";
            logger.call_method1("error", (text, new, topic, error.map(|error| errors::in_python(&error))))
        };
        // A logger that raises must not make `produce` fail, which has nothing to do with these failures.
        if let Err(error) = log() {
            error.write_unraisable(py, None);
        }
    }

    /// How many messages failed, and the first error; returns each failure once.
    pub(crate) fn take_failures(&self) -> Option<Failures> {
        let count = self.failed.swap(0, Ordering::AcqRel);
        self.logged.store(0, Ordering::Release);
        let maybe_written = self.maybe_written.swap(false, Ordering::AcqRel);
        let written = if maybe_written { Written::Maybe } else { Written::No };
        Some(Failures { count, first_error: lock(&self.first_error).take()?, written })
    }
}

/// Follows one batch until all its messages have outcomes.
struct Watch {
    tally: Arc<Tally>,
    /// Weak, because the batch holds this as its waker.
    batch: Weak<Completion>,
    seen: AtomicU32,
}

impl Watch {
    /// Counts the new outcomes, and waits for the rest.
    fn look(self: Arc<Self>) {
        let Some(batch) = self.batch.upgrade() else { return };
        let waker = Waker::from(Arc::clone(&self));
        loop {
            let resolved = batch.resolved();
            let seen = self.seen.swap(resolved, Ordering::Relaxed);
            if resolved > seen {
                self.count(&batch, seen, resolved);
            }
            if batch.subscribe(resolved, &waker) {
                return;
            }
        }
    }

    fn count(&self, batch: &Completion, start: u32, end: u32) {
        // If the first and last record are as far apart in the log as in the batch, none between them failed. This is
        // the usual case, and needs no look at every message.
        let offset = |index| batch.offset(index);
        let is_whole = match (offset(start), offset(end - 1)) {
            (Some(first), Some(last)) => last - first == i64::from(end - 1 - start),
            _ => false,
        };
        if !is_whole {
            for index in start..end {
                if let Some(Err(error)) = batch.outcome(index) {
                    if error.written() == Written::Maybe {
                        self.tally.maybe_written.store(true, Ordering::Release);
                    }
                    lock(&self.tally.first_error).get_or_insert(error);
                    self.tally.failed.fetch_add(1, Ordering::Release);
                }
            }
        }
    }
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}
