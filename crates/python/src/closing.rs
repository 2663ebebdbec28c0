//! The end of producers: by `stop`, by garbage collection, and when the interpreter exits.
//!
//! What was accepted is sent in all three cases. Garbage collection does not wait for it; the exit does, up to a limit,
//! and says so in one line if that was not enough.

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
use crate::reports::lock;
use crate::tally::Failures;
use crate::waiting;

/// The longest the interpreter's exit waits for what is buffered.
const EXIT_LIMIT: Duration = Duration::from_secs(30);

type Closing = Pending<Result<(), String>>;

// Both are locked only with the GIL, which is not given up meanwhile: so they are free when the process forks.
static RUNNING: Mutex<Vec<Weak<ForkGuard<Running>>>> = Mutex::new(Vec::new());
static ABANDONED: Mutex<Vec<Closing>> = Mutex::new(Vec::new());

/// The thread on which the interpreter exits, once it does.
static EXIT: OnceLock<ThreadId> = OnceLock::new();

/// Ends a call of a daemon thread that the exit has overtaken: quietly, by never returning.
///
/// Python does the same to such a thread a moment later. An exception would only print a traceback.
pub(crate) fn rest_if_exiting(py: Python<'_>) {
    if EXIT.get().is_some_and(|exiting| *exiting != thread::current().id()) {
        py.detach(|| {
            loop {
                thread::park();
            }
        });
    }
}

/// Forgets, in a forked child, the producers of its parent: their messages are the parent's to deliver.
///
/// What they hold is leaked, because it reaches into the parent's engine.
pub(crate) fn forget_those_of_the_parent() {
    std::mem::forget(std::mem::take(&mut *lock(&RUNNING)));
    std::mem::forget(std::mem::take(&mut *lock(&ABANDONED)));
}

/// Notes a producer, so that the exit finds it.
pub(crate) fn remember(running: &Arc<ForkGuard<Running>>) {
    let mut known = lock(&RUNNING);
    known.retain(|known| known.strong_count() > 0);
    known.push(Arc::downgrade(running));
}

/// Closes and waits for it; the answer is what the user must be told.
pub(crate) fn close(py: Python<'_>, running: &Running, limit: Option<Duration>) -> PyResult<()> {
    let engine = running.engine.clone();
    let limit = limit.unwrap_or(running.delivery_timeout + waiting::STEP);
    let closed = waiting::forever(py, running.client.start(async move { engine.close(limit).await }))?;
    let failed = running.tally.take_failures();
    let text = match (&closed, &failed) {
        (Ok(()), None) => return Ok(()),
        (Err(error), _) => errors::in_python(&error.to_string()),
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
    format!(
        "{count} {plural} not delivered to topic {topic}; the first error was: {}",
        errors::in_python(&first_error.to_string())
    )
}

/// Closes without anybody waiting.
fn start_closing(running: &Running, limit: Duration) -> Closing {
    let (engine, tally, topic) = (running.engine.clone(), Arc::clone(&running.tally), running.topic_name.clone());
    running.client.start(async move {
        let closed = engine.close(limit).await;
        match (closed, tally.take_failures()) {
            (Err(error), _) => Err(errors::in_python(&error.to_string())),
            (Ok(()), Some(failures)) => Err(undelivered(&topic, &failures)),
            (Ok(()), None) => Ok(()),
        }
    })
}

/// Closes a producer that nobody holds any more.
pub(crate) fn in_background(running: &Running) {
    let closing = start_closing(running, running.delivery_timeout);
    let mut abandoned = lock(&ABANDONED);
    abandoned.retain(|closing| closing.wait(Some(Duration::ZERO)).inspect(say).is_none());
    abandoned.push(closing);
}

/// One line for whoever started the program: nobody else is left to be told.
fn say(outcome: &Result<(), String>) {
    if let Err(text) = outcome {
        eprintln!("pykafka: {text}");
    }
}

/// Delivers what is buffered before the interpreter goes away.
#[pyfunction]
pub(crate) fn at_exit(py: Python<'_>) {
    EXIT.get_or_init(|| thread::current().id());
    deliver(py);
    logs::flush(py);
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
        // Ctrl-C, or another signal whose handler raises. Python would print that exception, and nothing of messages.
        let Ok(outcome) = waiting::until(py, closing, Some(left)) else {
            return say(&Err("interrupted while messages were delivered at exit; some may be lost".into()));
        };
        say(&outcome.unwrap_or_else(|| Err("messages were not delivered before the interpreter exited".into())));
    }
}
