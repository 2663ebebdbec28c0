//! Delivery reports: each thread gets those of the messages that it produced, and in a program patched by gevent each
//! greenlet does.
//!
//! Python objects stay with the thread that made them. The engine thread only pushes the [`Completion`] of a finished
//! batch into a queue; the thread that reads reports matches it with its messages. What one thread has produced with
//! all its producers is thread-local, so only the queue needs a lock. All producers share the queue and the limits of
//! the thread; each has its own reports, which are found by the producer's address.
//!
//! No Python object is made or dropped while a thread's reports are borrowed: the garbage collector could run a
//! `__del__` that calls in here again.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::{self, Rc};
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// How much memory the messages that a thread has produced with one client may take while they have no outcome, in
/// addition to the client's buffer. Together they stay within what is promised for a broker that has stopped answering
/// (guarantee R8).
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

/// The messages of one batch that wait for their outcome, their memory, and the reports of the producer.
///
/// A batch holds messages of one producer: producers that write to one topic have different lanes.
#[derive(Debug)]
struct Waiting {
    messages: VecDeque<Sent>,
    bytes: usize,
    held_bytes: Rc<Cell<usize>>,
    reports: rc::Weak<RefCell<ProducerReports>>,
}

/// What one thread has produced with all its producers.
#[derive(Debug)]
struct Owned {
    unread: usize,
    open: HashMap<usize, Waiting, BuildHasherDefault<PointerHasher>>,
    finished: ForkGuard<Arc<Finished>>,
}

impl Default for Owned {
    fn default() -> Self {
        Self { unread: 0, open: HashMap::default(), finished: ForkGuard::new(Arc::default()) }
    }
}

/// The unread reports of one producer in one thread, and how many there are and will be.
#[derive(Debug, Default)]
struct ProducerReports {
    ready: VecDeque<(Py<Message>, Option<Error>)>,
    unread: usize,
}

/// The reports of one producer in one thread; they never leave their thread.
#[derive(Debug, Clone)]
pub(crate) struct SharedReports {
    owned: Rc<RefCell<Owned>>,
    own: Rc<RefCell<ProducerReports>>,
    /// The memory of all messages that the thread has produced with this client, and that have no outcome.
    held_bytes: Rc<Cell<usize>>,
}

impl SharedReports {
    /// Whether the thread has as many unread reports as it may have.
    pub(crate) fn is_full(&self) -> bool {
        let is_full = || self.owned.borrow().unread >= MAX_UNREAD;
        if is_full() {
            // Unread reports of producers that are gone do not count.
            drop(OWNERS.with_borrow_mut(Owners::forget));
        }
        is_full()
    }

    /// Whether so much waits for outcomes that no message should be added.
    pub(crate) fn holds_too_much(&self) -> bool {
        self.held_bytes.get() >= MAX_HELD_BYTES
    }

    /// The queue of finished batches of this thread, to wait for; `None` in a forked child.
    pub(crate) fn finished(&self) -> Option<Arc<Finished>> {
        let owned = self.owned.borrow();
        owned.finished.is_at_home().then(|| Arc::clone(&owned.finished))
    }

    /// Whether a report of this producer is ready.
    pub(crate) fn has_next(&self) -> bool {
        !self.own.borrow().ready.is_empty()
    }

    /// Registers a message, with the size of its key and value, whose report is to come.
    #[inline]
    pub(crate) fn expect(&self, message: Py<Message>, payload_bytes: usize, delivery: &Delivery) {
        let (batch, index) = (delivery.completion(), delivery.index());
        let bytes = MESSAGE_BYTES + payload_bytes;
        self.own.borrow_mut().unread += 1;
        let owned = &mut *self.owned.borrow_mut();
        owned.unread += 1;
        self.held_bytes.set(self.held_bytes.get() + bytes);
        let waiting = owned.open.entry(Arc::as_ptr(batch).addr()).or_insert_with(|| {
            announce(batch, index, &owned.finished);
            let (held_bytes, reports) = (Rc::clone(&self.held_bytes), Rc::downgrade(&self.own));
            Waiting { messages: VecDeque::new(), bytes: 0, held_bytes, reports }
        });
        waiting.bytes += bytes;
        waiting.messages.push_back((index, message));
    }

    /// Turns the new outcomes of a batch of this thread into reports of its producer.
    pub(crate) fn take_over(&self, batch: &Arc<Completion>) {
        let key = Arc::as_ptr(batch).addr();
        let mut owned = self.owned.borrow_mut();
        let Some(waiting) = owned.open.get_mut(&key) else { return };
        let reports = waiting.reports.upgrade();
        let mut unwanted = Vec::new();
        while let Some((index, _)) = waiting.messages.front() {
            let Some(outcome) = batch.outcome(*index) else {
                announce(batch, *index, &owned.finished);
                return;
            };
            let Some((_, message)) = waiting.messages.pop_front() else { break };
            match &reports {
                Some(reports) => reports.borrow_mut().ready.push_back((message, outcome.err())),
                None => unwanted.push(message),
            }
        }
        waiting.held_bytes.set(waiting.held_bytes.get() - waiting.bytes);
        owned.open.remove(&key);
        drop(owned);
        // Without a borrow: these are Python objects.
        drop(unwanted);
    }

    /// The next report of this producer, if one is ready; raises in a forked child.
    #[inline]
    pub(crate) fn next(&self, py: Python<'_>) -> PyResult<Option<(Py<Message>, Option<Error>)>> {
        let owned = &mut *self.owned.borrow_mut();
        owned.finished.check(py)?;
        let mut own = self.own.borrow_mut();
        let Some(report) = own.ready.pop_front() else { return Ok(None) };
        own.unread -= 1;
        owned.unread -= 1;
        Ok(Some(report))
    }
}

/// The identity of a producer. When it is dropped, the reports of its producer are forgotten.
#[derive(Debug, Default)]
pub(crate) struct ProducerIdentity {
    own: Arc<()>,
    /// The address of its client.
    client: AtomicUsize,
}

/// What one thread has produced, and the reports of each of its producers by the producer's address. In a program
/// patched by gevent: what one greenlet has produced.
#[derive(Debug, Default)]
struct Owner {
    owned: Rc<RefCell<Owned>>,
    /// For each client, by its address: the memory of messages without an outcome.
    held_bytes: HashMap<usize, Rc<Cell<usize>>, BuildHasherDefault<PointerHasher>>,
    producers: HashMap<usize, (Weak<()>, SharedReports), BuildHasherDefault<PointerHasher>>,
}

impl Owner {
    /// The reports of a producer that has none here yet.
    fn first_of(&mut self, producer: &ProducerIdentity) -> SharedReports {
        let held_bytes = self.held_bytes.entry(producer.client.load(Ordering::Relaxed)).or_default();
        let held_bytes = Rc::clone(held_bytes);
        let reports = SharedReports { owned: Rc::clone(&self.owned), own: Rc::default(), held_bytes };
        self.producers.insert(producer.address(), (Arc::downgrade(&producer.own), reports.clone()));
        reports
    }

    /// Takes out the reports of producers that are gone.
    fn forget(&mut self) -> Vec<SharedReports> {
        let gone = self.producers.extract_if(|_, (producer, _)| producer.strong_count() == 0);
        let gone: Vec<_> = gone.map(|(_, (_, reports))| reports).collect();
        self.held_bytes.retain(|_, held_bytes| Rc::strong_count(held_bytes) > 1);
        self.owned.borrow_mut().unread -= gone.iter().map(|reports| reports.own.borrow().unread).sum::<usize>();
        gone
    }
}

/// The owners of reports in this thread: the thread itself, and its greenlets by their address.
#[derive(Debug, Default)]
struct Owners {
    thread: Owner,
    greenlets: HashMap<usize, (Weak<()>, Owner), BuildHasherDefault<PointerHasher>>,
}

impl Owners {
    fn of(&mut self, greenlet: Option<&Arc<()>>) -> &mut Owner {
        let Some(greenlet) = greenlet else { return &mut self.thread };
        let entry = self.greenlets.entry(Arc::as_ptr(greenlet).addr());
        &mut entry.or_insert_with(|| (Arc::downgrade(greenlet), Owner::default())).1
    }

    /// Takes out what belongs to greenlets and producers that are gone. It contains Python objects: drop it without a
    /// borrow.
    #[cold]
    fn forget(&mut self) -> (Vec<Owner>, Vec<SharedReports>) {
        let ended = self.greenlets.extract_if(|_, (greenlet, _)| greenlet.strong_count() == 0);
        let ended = ended.map(|(_, (_, owner))| owner).collect();
        let rest = self.greenlets.values_mut().map(|(_, owner)| owner);
        (ended, rest.chain([&mut self.thread]).flat_map(Owner::forget).collect())
    }
}

thread_local! {
    static OWNERS: RefCell<Owners> = RefCell::default();
}

impl ProducerIdentity {
    /// Names its client, which stays the same, by the client's address.
    pub(crate) fn belongs_to(&self, client: usize) {
        self.client.store(client, Ordering::Relaxed);
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.own).addr()
    }

    /// The reports of what the current thread has produced with this producer; or of the current greenlet, if
    /// `threading.local` is patched.
    #[inline]
    pub(crate) fn reports_of_this_thread(&self) -> SharedReports {
        let greenlet = greenlets::owner_of_reports();
        let known = OWNERS.with_borrow_mut(|owners| {
            let owner = owners.of(greenlet.as_ref());
            owner.producers.get(&self.address()).map(|(_, reports)| reports.clone())
        });
        known.unwrap_or_else(|| self.first_of_this_thread(greenlet.as_ref()))
    }

    #[cold]
    fn first_of_this_thread(&self, greenlet: Option<&Arc<()>>) -> SharedReports {
        let (reports, forgotten) = OWNERS.with_borrow_mut(|owners| {
            let forgotten = owners.forget();
            (owners.of(greenlet).first_of(self), forgotten)
        });
        drop(forgotten);
        reports
    }
}
