//! Delivery reports: each thread gets those of the messages it produced.
//!
//! Python objects stay with the thread that made them. The engine's thread only pushes the outcome cell of a
//! finished batch into a queue; whoever reads reports pairs the cells with its messages. What one thread has
//! produced for all its producers is in a thread-local list, so nothing here needs a lock but the queue of cells.
//!
//! No Python object is made or dropped while a thread's reports are borrowed: garbage collection could run a
//! `__del__` that comes back here.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use kavka::{Completion, Delivery, Error};
use pyo3::prelude::*;

use crate::message::Message;
use crate::process::ForkGuard;

/// How many messages a thread may have produced without having read their reports.
pub(crate) const MAX_UNREAD: usize = 1_000_000;

/// What the messages of a thread that have no outcome yet may take in memory, beside what the engine has buffered of
/// them: together they stay within what is promised for a broker that has stopped answering (guarantee R8).
const MAX_HELD_BYTES: usize = 20 << 20;

/// What a message takes in memory beside its key and value.
const MESSAGE_BYTES: usize = 256;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The batches that have outcomes since a thread last looked.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    state: Mutex<FinishedState>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct FinishedState {
    batches: VecDeque<Arc<Completion>>,
    /// Whether the thread sleeps: waking nobody would cost a system call per batch.
    is_awaited: bool,
}

impl Finished {
    fn push(&self, batch: Arc<Completion>) {
        let mut state = lock(&self.state);
        state.batches.push_back(batch);
        if state.is_awaited {
            self.arrived.notify_one();
        }
    }

    /// The next batch with outcomes, after a wait of at most `limit`.
    pub(crate) fn pop(&self, limit: Duration) -> Option<Arc<Completion>> {
        let mut state = lock(&self.state);
        if state.batches.is_empty() && !limit.is_zero() {
            state.is_awaited = true;
            let waited = self.arrived.wait_timeout_while(state, limit, |state| state.batches.is_empty());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.is_awaited = false;
        }
        state.batches.pop_front()
    }
}

/// Puts one batch into one thread's queue when it has outcomes.
struct Announce {
    batch: Arc<Completion>,
    finished: Arc<Finished>,
}

impl Wake for Announce {
    fn wake(self: Arc<Self>) {
        self.finished.push(Arc::clone(&self.batch));
    }
}

fn announce(batch: &Arc<Completion>, index: u32, finished: &Arc<Finished>) {
    let waker = Waker::from(Arc::new(Announce { batch: Arc::clone(batch), finished: Arc::clone(finished) }));
    if !batch.subscribe(index, &waker) {
        finished.push(Arc::clone(batch));
    }
}

/// Pointers are as good as random already.
#[derive(Debug, Default)]
struct PointerHasher(u64);

impl Hasher for PointerHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_usize(&mut self, pointer: usize) {
        self.0 = (pointer as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// A message and its index in its batch.
type Sent = (u32, Py<Message>);

/// The messages of one batch that wait for it, and what they take in memory.
#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Sent>,
    bytes: usize,
}

/// The messages that one thread has produced with one producer, and whose reports it has not read.
#[derive(Debug)]
pub(crate) struct ThreadReports {
    unread: usize,
    held_bytes: usize,
    open: HashMap<usize, Waiting, BuildHasherDefault<PointerHasher>>,
    ready: VecDeque<(Py<Message>, Option<Error>)>,
    finished: ForkGuard<Arc<Finished>>,
}

impl Default for ThreadReports {
    fn default() -> Self {
        Self {
            unread: 0,
            held_bytes: 0,
            open: HashMap::default(),
            ready: VecDeque::new(),
            finished: ForkGuard::new(Arc::default()),
        }
    }
}

impl ThreadReports {
    pub(crate) fn is_full(&self) -> bool {
        self.unread >= MAX_UNREAD
    }

    /// Where to wait for the next finished batch; None in a forked child.
    pub(crate) fn finished(&self) -> Option<Arc<Finished>> {
        self.finished.is_at_home().then(|| Arc::clone(&self.finished))
    }

    /// Whether no message should be added before batches have got their outcome.
    pub(crate) fn holds_too_much(&self) -> bool {
        self.held_bytes >= MAX_HELD_BYTES
    }

    /// Notes a message with that many bytes of key and value whose report is to come.
    #[inline]
    pub(crate) fn expect(&mut self, message: Py<Message>, payload_bytes: usize, delivery: &Delivery) {
        let (batch, index) = (delivery.completion(), delivery.index());
        let bytes = MESSAGE_BYTES + payload_bytes;
        self.unread += 1;
        self.held_bytes += bytes;
        let waiting = self.open.entry(Arc::as_ptr(batch).addr()).or_default();
        waiting.bytes += bytes;
        waiting.messages.push_back((index, message));
        if waiting.messages.len() == 1 {
            announce(batch, index, &self.finished);
        }
    }

    /// Makes reports of what has become known of a batch.
    pub(crate) fn take_over(&mut self, batch: &Arc<Completion>) {
        let key = Arc::as_ptr(batch).addr();
        let Some(waiting) = self.open.get_mut(&key) else { return };
        while let Some((index, _)) = waiting.messages.front() {
            let Some(outcome) = batch.outcome(*index) else {
                announce(batch, *index, &self.finished);
                return;
            };
            if let Some((_, message)) = waiting.messages.pop_front() {
                self.ready.push_back((message, outcome.err()));
            }
        }
        self.held_bytes -= waiting.bytes;
        self.open.remove(&key);
    }

    /// The next report.
    pub(crate) fn next(&mut self) -> Option<(Py<Message>, Option<Error>)> {
        let report = self.ready.pop_front()?;
        self.unread -= 1;
        Some(report)
    }
}

/// One thread's reports of one producer. They never leave their thread.
pub(crate) type SharedReports = Rc<RefCell<ThreadReports>>;

/// What a thread's reports are found by. They are forgotten once the producer, and with it this, is gone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProducerIdentity(Arc<()>);

thread_local! {
    static REPORTS: RefCell<Vec<(Weak<()>, SharedReports)>> = const { RefCell::new(Vec::new()) };
}

impl ProducerIdentity {
    /// The reports of what the current thread has produced with this producer.
    pub(crate) fn reports_of_this_thread(&self) -> SharedReports {
        let is_ours = |identity: &Weak<()>| identity.as_ptr() == Arc::as_ptr(&self.0);
        let known = REPORTS.with_borrow(|known| {
            known.iter().find(|(identity, _)| is_ours(identity)).map(|(_, reports)| Rc::clone(reports))
        });
        known.unwrap_or_else(|| self.first_of_this_thread())
    }

    #[cold]
    fn first_of_this_thread(&self) -> SharedReports {
        let reports = SharedReports::default();
        let forgotten: Vec<_> = REPORTS.with_borrow_mut(|known| {
            let forgotten = known.extract_if(.., |(identity, _)| identity.strong_count() == 0).collect();
            known.push((Arc::downgrade(&self.0), Rc::clone(&reports)));
            forgotten
        });
        // Only now: the messages in them are Python objects.
        drop(forgotten);
        reports
    }
}
