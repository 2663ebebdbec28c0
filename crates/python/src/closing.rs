//! How producers end: by `stop`, by garbage collection, and when the interpreter exits. The exit also waits for
//! callbacks, and makes group members leave: a daemon thread may keep one in use until the process ends.
//!
//! In all three cases, messages that were accepted are sent. Garbage collection does not wait for that. The exit does,
//! up to a limit, and prints one line if the limit was too short.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use kavka::Written;
use kavka::blocking::Pending;
use pyo3::intern;
use pyo3::prelude::*;

use crate::errors;
use crate::logs;
use crate::process::ForkGuard;
use crate::producer::Running;
use crate::reader::Reader;
use crate::reports::lock;
use crate::tally::Failures;
use crate::{running, waiting};

/// The longest that the interpreter's exit waits for buffered messages.
const EXIT_LIMIT: Duration = Duration::from_secs(30);

/// The longest that the interpreter's exit waits for members to leave their groups.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

type Closing = Pending<Result<(), String>>;

// Locked only by threads that hold the GIL and keep it meanwhile, so they are free when the process forks.
static RUNNING: Mutex<Vec<Weak<ForkGuard<Running>>>> = Mutex::new(Vec::new());
static MEMBERS: Mutex<Vec<Weak<ForkGuard<running::Running>>>> = Mutex::new(Vec::new());
static ABANDONED: Mutex<Vec<Closing>> = Mutex::new(Vec::new());

/// The thread in which the interpreter exits; unset until it does.
static EXIT: OnceLock<ThreadId> = OnceLock::new();

/// Stops a daemon thread that calls in while the interpreter exits, by never returning.
///
/// Python does the same to such a thread a moment later. An exception would only print a traceback.
pub(crate) fn rest_if_exiting(py: Python<'_>) {
    if has_begun_elsewhere() {
        py.detach(|| {
            loop {
                thread::park();
            }
        });
    }
}

/// Whether the interpreter exits in another thread than this one, which must not call Python any more.
pub(crate) fn has_begun_elsewhere() -> bool {
    EXIT.get().is_some_and(|exiting| *exiting != thread::current().id())
}

/// A call of Python code by a thread of the engine.
///
/// When the interpreter ends, Python unwinds a thread that is inside such a call, and a Rust thread must not be unwound
/// like that: the process would abort. So the exit waits for these calls, and no new ones begin.
#[derive(Debug)]
pub(crate) struct Callback(&'static AtomicUsize);

/// How many calls are under way.
static CALLBACKS: AtomicUsize = AtomicUsize::new(0);

/// How many calls for credentials are under way. They may begin until what is buffered at exit is delivered, because a
/// broker may want them before it takes the messages.
static CREDENTIALS: AtomicUsize = AtomicUsize::new(0);

/// Whether the exit has delivered what was buffered.
static HAS_DELIVERED: AtomicBool = AtomicBool::new(false);

impl Callback {
    /// None once the interpreter exits.
    pub(crate) fn begin(_py: Python<'_>) -> Option<Self> {
        Self::counted(&CALLBACKS, || EXIT.get().is_none())
    }

    /// For a call that gets credentials. None once the interpreter exits and everything is delivered.
    pub(crate) fn begin_for_credentials(_py: Python<'_>) -> Option<Self> {
        Self::counted(&CREDENTIALS, || !HAS_DELIVERED.load(Ordering::SeqCst))
    }

    fn counted(count: &'static AtomicUsize, may_begin: impl FnOnce() -> bool) -> Option<Self> {
        // If it may not begin, this is dropped at once, which counts it down again.
        count.fetch_add(1, Ordering::SeqCst);
        let callback = Self(count);
        may_begin().then_some(callback)
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn wait_for_callbacks(py: Python<'_>, under_way: &AtomicUsize) {
    let begun = Instant::now();
    while under_way.load(Ordering::SeqCst) > 0 {
        if begun.elapsed() >= EXIT_LIMIT {
            return say(&Err("a callback had not returned when the interpreter exited".into()));
        }
        py.detach(|| thread::sleep(Duration::from_millis(1)));
        if py.check_signals().is_err() {
            return say(&Err("interrupted while a callback was waited for at exit".into()));
        }
    }
}

/// Forgets the parent's producers, members and callbacks in a forked child: their messages are the parent's to deliver.
///
/// Their memory is leaked, because it refers to the parent's engine.
pub(crate) fn forget_those_of_the_parent() {
    std::mem::forget(std::mem::take(&mut *lock(&RUNNING)));
    std::mem::forget(std::mem::take(&mut *lock(&MEMBERS)));
    std::mem::forget(std::mem::take(&mut *lock(&ABANDONED)));
    // The threads that make these calls do not exist in the child.
    CALLBACKS.store(0, Ordering::SeqCst);
    CREDENTIALS.store(0, Ordering::SeqCst);
}

/// Registers a producer, so that the exit finds it.
pub(crate) fn remember(running: &Arc<ForkGuard<Running>>) {
    add(&RUNNING, running);
}

/// Registers a consumer that is a member of a group, so that the exit finds it; ignores any other consumer.
pub(crate) fn remember_member(running: &Arc<ForkGuard<running::Running>>) {
    if matches!(running.engine, Reader::Group(_)) {
        add(&MEMBERS, running);
    }
}

fn add<T>(known: &Mutex<Vec<Weak<T>>>, running: &Arc<T>) {
    let mut known = lock(known);
    known.retain(|known| known.strong_count() > 0);
    known.push(Arc::downgrade(running));
}

/// Closes a producer and waits for it; returns what to tell the user.
pub(crate) fn close(py: Python<'_>, running: &Running, limit: Option<Duration>) -> PyResult<()> {
    let limit = limit.unwrap_or(running.delivery_timeout + waiting::STEP);
    let closed = waiting::forever(py, running.client.start(running.engine.close(limit)))?;
    let failed = running.tally.take_failures();
    let text = match (&closed, &failed) {
        (Ok(()), None) => return Ok(()),
        (Err(error), _) => errors::in_python(error),
        (Ok(()), Some(failures)) => undelivered(&running.topic_name, failures),
    };
    let error = errors::named(py, "ProduceFailureError", &text);
    let written = [closed.as_ref().err().map(kavka::Error::written), failed.as_ref().map(|failures| failures.written)];
    if written.contains(&Some(Written::Maybe)) {
        error.value(py).setattr(intern!(py, "written"), intern!(py, "maybe"))?;
    }
    Err(error)
}

fn undelivered(topic: &str, Failures { count, first_error, .. }: &Failures) -> String {
    let plural = if *count == 1 { "message was" } else { "messages were" };
    format!("{count} {plural} not delivered to topic {topic}; the first error was: {}", errors::in_python(first_error))
}

/// Starts to close a producer without waiting.
fn start_closing(running: &Running, limit: Duration) -> Closing {
    let (engine, tally, topic) = (running.engine.clone(), Arc::clone(&running.tally), running.topic_name.clone());
    running.client.start(async move {
        let closed = engine.close(limit).await;
        match (closed, tally.take_failures()) {
            (Err(error), _) => Err(errors::in_python(&error)),
            (Ok(()), Some(failures)) => Err(undelivered(&topic, &failures)),
            (Ok(()), None) => Ok(()),
        }
    })
}

/// Closes a producer that nobody refers to any more.
pub(crate) fn in_background(running: &Running) {
    let closing = start_closing(running, running.delivery_timeout);
    let mut abandoned = lock(&ABANDONED);
    abandoned.retain(|closing| closing.wait(Some(Duration::ZERO)).inspect(say).is_none());
    abandoned.push(closing);
}

/// Prints one line to standard error: at exit nobody is left to catch an exception.
fn say(outcome: &Result<(), String>) {
    if let Err(text) = outcome {
        eprintln!("pykafka: {text}");
    }
}

/// Waits for callbacks, leaves groups and delivers what is buffered, before the interpreter exits.
#[pyfunction]
pub(crate) fn at_exit(py: Python<'_>) {
    EXIT.get_or_init(|| thread::current().id());
    wait_for_callbacks(py, &CALLBACKS);
    leave_groups(py);
    deliver(py);
    HAS_DELIVERED.store(true, Ordering::SeqCst);
    wait_for_callbacks(py, &CREDENTIALS);
    logs::flush(py);
}

/// As if the consumers were dropped: what was read since the last commit is read again.
fn leave_groups(py: Python<'_>) {
    let members: Vec<_> = lock(&MEMBERS).drain(..).filter_map(|known| known.upgrade()).collect();
    let leaving: Vec<_> = members.iter().filter_map(|member| member.check(py).ok()?.leave(LEAVE_LIMIT)).collect();
    let begun = Instant::now();
    for leaving in leaving {
        let left = (LEAVE_LIMIT + waiting::STEP).saturating_sub(begun.elapsed());
        match waiting::until(py, leaving, Some(left)) {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(_)) | None) => {
                let text = "a consumer could not leave its group before the interpreter exited; other members get its \
                            partitions when its session ends";
                return say(&Err(text.into()));
            }
            Err(_) => return say(&Err("interrupted while consumers left their groups at exit".into())),
        }
    }
}

fn deliver(py: Python<'_>) {
    let running: Vec<_> = lock(&RUNNING).drain(..).filter_map(|known| known.upgrade()).collect();
    let mut closing: Vec<Closing> = running
        .iter()
        .filter(|running| running.check(py).is_ok())
        .map(|running| start_closing(running, running.delivery_timeout.min(EXIT_LIMIT)))
        .collect();
    closing.append(&mut lock(&ABANDONED));
    let begun = Instant::now();
    for closing in closing {
        let left = (EXIT_LIMIT + waiting::STEP).saturating_sub(begun.elapsed());
        // Ctrl-C, or a signal handler that raised. Python would print that exception, and nothing about messages.
        let Ok(outcome) = waiting::until(py, closing, Some(left)) else {
            return say(&Err("interrupted while messages were delivered at exit; some may be lost".into()));
        };
        say(&outcome.unwrap_or_else(|| Err("messages were not delivered before the interpreter exited".into())));
    }
}
