//! Waiting under gevent: a greenlet that waits lets the other greenlets of its thread run.
//!
//! This file does not know gevent. Python registers a function that finds the [`Bells`] of the current thread, if a
//! gevent hub runs there. A wait then polls its future with a waker that rings a bell, and asks Python to run other
//! greenlets until that bell rings. Ringing appends a number to a list and writes a byte to a socket that the hub
//! watches, so the engine thread needs no GIL for it.
//!
//! The future must not be on the stack: gevent moves the stack of a greenlet away while another one runs.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use kavka::Batch;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::reader::Reader;
use crate::reports::lock;
use crate::waiting::STEP;

/// What the first client with `use_greenlets` registers.
#[derive(Debug)]
struct Gevent {
    /// Returns the [`Bells`] of the current thread, or None.
    find_bells: Py<PyAny>,
    /// Returns the [`Runner`] of the current greenlet, or None.
    find_runner: Py<PyAny>,
    /// Whether gevent has patched `threading.local`, so that each greenlet has its own values.
    is_local_patched: bool,
}

static GEVENT: OnceLock<Gevent> = OnceLock::new();

/// Whether [`GEVENT`] is set. A program without gevent checks only this, once or twice per message.
static IS_USED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static THIS_THREAD: Arc<()> = Arc::default();
    /// The greenlet that runs in this thread, as of the last [`know_runner`].
    static GREENLET: RefCell<Option<Arc<()>>> = const { RefCell::new(None) };
    /// Whether [`without_others`] is under way.
    static IS_ALONE: Cell<bool> = const { Cell::new(false) };
}

#[inline]
fn are_used() -> bool {
    IS_USED.load(Ordering::Relaxed)
}

/// From now on, a wait lets other greenlets run in threads for which `find_bells` returns [`Bells`].
#[pyfunction]
pub(crate) fn use_greenlets(find_bells: Py<PyAny>, find_runner: Py<PyAny>, is_local_patched: bool) {
    // A second client registers the same, so its values can be dropped.
    let _ = GEVENT.set(Gevent { find_bells, find_runner, is_local_patched });
    IS_USED.store(true, Ordering::Relaxed);
}

/// The bells of this thread, if other greenlets can run in it. Without gevent this is one comparison.
#[inline]
pub(crate) fn bells(py: Python<'_>) -> PyResult<Option<Bound<'_, Bells>>> {
    let Some(gevent) = GEVENT.get() else { return Ok(None) };
    if IS_ALONE.get() {
        return Ok(None);
    }
    gevent.find_bells.bind(py).call0()?.extract().map_err(PyErr::from)
}

/// Runs `call`, whose waits let no other greenlets run: they block the thread, as without gevent.
pub(crate) fn without_others<T>(call: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            IS_ALONE.set(self.0);
        }
    }
    let _before = Before(IS_ALONE.replace(true));
    call()
}

/// Stands for a greenlet; Python drops it when the greenlet ends.
#[pyclass(frozen, module = "pykafka._engine")]
#[derive(Debug, Default)]
pub(crate) struct Runner(Arc<()>);

#[pymethods]
impl Runner {
    #[new]
    fn new() -> Self {
        Self::default()
    }
}

/// Finds out which greenlet runs, for [`with_runner`]. Call it at the beginning of a call, and after each wait in it.
#[inline]
pub(crate) fn know_runner(py: Python<'_>) -> PyResult<()> {
    if are_used() { find_runner(py) } else { Ok(()) }
}

#[cold]
fn find_runner(py: Python<'_>) -> PyResult<()> {
    let Some(gevent) = GEVENT.get() else { return Ok(()) };
    let runner: Option<PyRef<'_, Runner>> = gevent.find_runner.bind(py).call0()?.extract()?;
    GREENLET.set(runner.map(|runner| Arc::clone(&runner.0)));
    Ok(())
}

/// Passes `look` the identity of the thread or greenlet that runs; it is dropped when that ends.
#[inline]
pub(crate) fn with_runner<T>(look: impl FnOnce(&Arc<()>) -> T) -> T {
    match greenlet() {
        None => THIS_THREAD.with(look),
        Some(greenlet) => look(&greenlet),
    }
}

#[inline]
fn greenlet() -> Option<Arc<()>> {
    if are_used() { GREENLET.with_borrow(Option::clone) } else { None }
}

/// The greenlet that delivery reports belong to; `None` if they belong to the thread.
#[inline]
pub(crate) fn owner_of_reports() -> Option<Arc<()>> {
    if !are_used() {
        return None;
    }
    GEVENT.get().filter(|gevent| gevent.is_local_patched).map(|_| with_runner(Arc::clone))
}

/// The bells of one thread. Its subclass in Python adds `wait(number, seconds)`.
#[pyclass(frozen, subclass, module = "pykafka._engine")]
#[derive(Debug)]
pub(crate) struct Bells {
    rung: Arc<Rung>,
    receiver: UnixStream,
}

#[derive(Debug)]
struct Rung {
    numbers: Mutex<Vec<u64>>,
    sender: UnixStream,
}

#[pymethods]
impl Bells {
    #[new]
    #[pyo3(signature = (*_args))]
    fn new(_args: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let (sender, receiver) = UnixStream::pair()?;
        sender.set_nonblocking(true)?;
        receiver.set_nonblocking(true)?;
        Ok(Self { rung: Arc::new(Rung { numbers: Mutex::default(), sender }), receiver })
    }

    /// The socket that becomes readable when a bell rings.
    fn fileno(&self) -> i32 {
        self.receiver.as_raw_fd()
    }

    /// The numbers of the bells that have rung since the last call.
    fn take(&self) -> PyResult<Vec<u64>> {
        // Empty the socket first: a bell that rings later makes it readable again.
        loop {
            match (&self.receiver).read(&mut [0; 64]) {
                Ok(64) => {}
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(std::mem::take(&mut *lock(&self.rung.numbers)))
    }
}

/// The bell of one wait.
struct Bell {
    number: u64,
    rung: Arc<Rung>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let is_first = {
            let mut numbers = lock(&self.rung.numbers);
            numbers.push(self.number);
            numbers.len() == 1
        };
        if is_first {
            // If the socket is full, it is readable already; if its thread has ended, nobody waits.
            let _ = (&self.rung.sender).write(&[0]);
        }
    }
}

impl Bells {
    /// A new bell: its number, and a waker that rings it.
    pub(crate) fn bell(&self) -> (u64, Waker) {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        (number, Waker::from(Arc::new(Bell { number, rung: Arc::clone(&self.rung) })))
    }
}

/// Polls until there is a result or the limit passes (then `None`), and lets other greenlets run in between.
///
/// Polls at least every [`STEP`], for conditions that ring no bell.
pub(crate) fn wait<T>(
    bells: &Bound<'_, Bells>,
    limit: Option<Duration>,
    mut poll: impl FnMut(&Waker) -> Option<T>,
) -> PyResult<Option<T>> {
    let (number, waker) = bells.get().bell();
    let begun = Instant::now();
    loop {
        if let Some(answer) = poll(&waker) {
            return Ok(Some(answer));
        }
        let left = limit.map(|limit| limit.saturating_sub(begun.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(None);
        }
        give_way(bells, number, left.map_or(STEP, |left| left.min(STEP)))?;
    }
}

/// The next batch, if one arrives in time. Lets other greenlets run even if a batch is ready; otherwise a greenlet that
/// reads in a loop would never let them.
pub(crate) fn batch(
    bells: &Bound<'_, Bells>,
    consumer: &Reader,
    limit: Duration,
) -> PyResult<kavka::Result<Option<Batch>>> {
    let (number, _) = bells.get().bell();
    give_way(bells, number, Duration::ZERO)?;
    let mut arrived = consumer.arrival();
    let arrived = wait(bells, Some(limit), |waker| match arrived.as_mut().poll(&mut Context::from_waker(waker)) {
        Poll::Ready(batch) => Some(batch),
        Poll::Pending => None,
    })?;
    Ok(arrived.transpose())
}

/// Lets other greenlets run, for what works on without waiting. Returns whether there can be any.
pub(crate) fn let_others_run(py: Python<'_>) -> PyResult<bool> {
    let Some(bells) = bells(py)? else { return Ok(false) };
    let (number, _) = bells.get().bell();
    give_way(&bells, number, Duration::ZERO)?;
    know_runner(py)?;
    Ok(true)
}

/// Lets other greenlets run until the bell rings or the time has passed.
fn give_way(bells: &Bound<'_, Bells>, number: u64, limit: Duration) -> PyResult<()> {
    let py = bells.py();
    bells.call_method1(intern!(py, "wait"), (number, limit.as_secs_f64()))?;
    py.check_signals()
}
