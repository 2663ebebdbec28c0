//! Delivery reports: each thread gets those of the messages that it produced, and in a program patched by gevent each
//! greenlet does.
//!
//! Python objects stay with the thread that made them. The engine thread only pushes the [`Completion`] of a finished
//! batch into a queue; the thread that reads reports matches it with its messages. What one thread has produced with
//! all its producers is in a thread-local list, so only the queue needs a lock.
//!
//! No Python object is made or dropped while a thread's reports are borrowed: the garbage collector could run a
//! `__del__` that calls in here again.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use kavka::{Completion, Delivery, Error};
use pyo3::prelude::*;

use crate::greenlets;
use crate::message::Message;
use crate::process::ForkGuard;

/// How many unread reports a thread may have.
pub(crate) const MAX_UNREAD: usize = 1_000_000;

/// How much memory a thread's messages without an outcome may take, in addition to the engine's buffer. Together they
/// stay within what is promised for a broker that has stopped answering (guarantee R8).
const MAX_HELD_BYTES: usize = 20 << 20;

/// What a message takes in memory in addition to its key and value.
const MESSAGE_BYTES: usize = 256;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The batches that got outcomes since the thread last looked.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    state: Mutex<FinishedState>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct FinishedState {
    batches: VecDeque<Arc<Completion>>,
    /// Whether the thread sleeps: waking it costs a system call.
    is_awaited: bool,
    /// The greenlets that wait.
    wakers: Vec<Waker>,
}

impl Finished {
    fn push(&self, batch: Arc<Completion>) {
        let mut state = lock(&self.state);
        state.batches.push_back(batch);
        if state.is_awaited {
            self.arrived.notify_one();
        }
        state.wakers.drain(..).for_each(Waker::wake);
    }

    /// Wakes `waker` once, when the next batch gets outcomes.
    pub(crate) fn subscribe(&self, waker: &Waker) {
        let mut state = lock(&self.state);
        if !state.wakers.iter().any(|known| known.will_wake(waker)) {
            state.wakers.push(waker.clone());
        }
    }

    /// The next batch with outcomes; waits for at most `limit`.
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

/// A waker that puts a batch into a thread's queue when it gets outcomes.
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

/// Pointers are already well distributed.
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

/// The messages of one batch that wait for their outcome, and their memory.
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

    /// The queue of finished batches, to wait for; `None` in a forked child.
    pub(crate) fn finished(&self) -> Option<Arc<Finished>> {
        self.finished.is_at_home().then(|| Arc::clone(&self.finished))
    }

    /// Whether a report is ready.
    pub(crate) fn has_next(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether so much waits for outcomes that no message should be added.
    pub(crate) fn holds_too_much(&self) -> bool {
        self.held_bytes >= MAX_HELD_BYTES
    }

    /// Registers a message, with the size of its key and value, whose report is to come.
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

    /// Turns the new outcomes of a batch into reports.
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

/// The reports of one thread and one producer; they never leave their thread.
pub(crate) type SharedReports = Rc<RefCell<ThreadReports>>;

/// The identity of a producer. When it is dropped, the reports of its producer are forgotten.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProducerIdentity(Arc<()>);

/// The reports of one producer in this thread.
#[derive(Debug)]
struct Known {
    producer: Weak<()>,
    /// The greenlet that they belong to, if each greenlet has its own.
    greenlet: Option<Weak<()>>,
    reports: SharedReports,
}

impl Known {
    fn is_forgotten(&self) -> bool {
        self.producer.strong_count() == 0 || self.greenlet.as_ref().is_some_and(|greenlet| greenlet.strong_count() == 0)
    }
}

thread_local! {
    static REPORTS: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
}

impl ProducerIdentity {
    /// The reports of what the current thread has produced with this producer; or of the current greenlet, if
    /// `threading.local` is patched.
    pub(crate) fn reports_of_this_thread(&self) -> SharedReports {
        let greenlet = greenlets::owner_of_reports();
        let is_ours = |known: &&Known| {
            known.producer.as_ptr() == Arc::as_ptr(&self.0)
                && known.greenlet.as_ref().map(Weak::as_ptr) == greenlet.as_ref().map(Arc::as_ptr)
        };
        let known = REPORTS.with_borrow(|known| known.iter().find(is_ours).map(|known| Rc::clone(&known.reports)));
        known.unwrap_or_else(|| self.first_of_this_thread(greenlet.as_ref()))
    }

    #[cold]
    fn first_of_this_thread(&self, greenlet: Option<&Arc<()>>) -> SharedReports {
        let reports = SharedReports::default();
        let first = Known {
            producer: Arc::downgrade(&self.0),
            greenlet: greenlet.map(Arc::downgrade),
            reports: Rc::clone(&reports),
        };
        let forgotten: Vec<_> = REPORTS.with_borrow_mut(|known| {
            let forgotten = known.extract_if(.., |known| known.is_forgotten()).collect();
            known.push(first);
            forgotten
        });
        // Drop them last, without a borrow: their messages are Python objects.
        drop(forgotten);
        reports
    }
}
