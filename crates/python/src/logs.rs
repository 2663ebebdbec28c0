//! Forwards the engine's log lines to Python's `logging`.
//!
//! The engine thread only puts a line into a queue. It never waits for the GIL, because a thread that waits for the
//! engine may hold it. A Python daemon thread takes the lines out and logs them under `pykafka.engine`; the remaining
//! lines are logged at exit. Only the first interpreter of a process can have such a thread; in another one, all lines
//! come at exit. In a program patched by gevent the thread would be a greenlet that blocks all others, so a bell of the
//! hub rings instead ([`greenlets`](crate::greenlets)). If nobody takes the lines, the queue drops the oldest and
//! counts them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;

use crate::greenlets::Bells;
use crate::process;
use crate::reports::lock;

/// The most lines in the queue.
const MAX_LINES: usize = 1_000;

/// The logger of the engine's lines in Python.
const ENGINE: &str = "pykafka.engine";

/// A line: its logger, its Python log level, its text.
#[derive(Debug)]
struct Line {
    logger: String,
    level: u8,
    text: String,
}

/// The queue of one process. A forked child has a new one, because a thread of the parent may have held the old one's
/// lock.
#[derive(Debug)]
struct Queue {
    lines: Mutex<Lines>,
    arrived: Condvar,
    /// Rings when there are lines, in a program patched by gevent.
    bell: Mutex<Option<Waker>>,
    of_child: OnceLock<Box<Queue>>,
}

#[derive(Debug)]
struct Lines {
    waiting: VecDeque<Line>,
    forgotten: u64,
}

static QUEUE: Queue = Queue::new();

impl Queue {
    const fn new() -> Self {
        let lines = Lines { waiting: VecDeque::new(), forgotten: 0 };
        Self { lines: Mutex::new(lines), arrived: Condvar::new(), bell: Mutex::new(None), of_child: OnceLock::new() }
    }

    fn of_this_process() -> &'static Self {
        (0..process::forks()).fold(&QUEUE, |queue, _| queue.of_child.get_or_init(|| Box::new(Self::new())))
    }

    fn push(&self, line: Line) {
        let mut lines = lock(&self.lines);
        if lines.waiting.len() >= MAX_LINES {
            lines.waiting.pop_front();
            lines.forgotten += 1;
        }
        lines.waiting.push_back(line);
        self.arrived.notify_one();
        let is_first = lines.waiting.len() == 1;
        drop(lines);
        if is_first && let Some(bell) = &*lock(&self.bell) {
            bell.wake_by_ref();
        }
    }

    /// All lines in the queue.
    fn take(&self) -> Vec<Line> {
        Self::taken(&mut lock(&self.lines))
    }

    /// Waits until there are lines.
    fn wait(&self) -> Vec<Line> {
        let waited = self.arrived.wait_while(lock(&self.lines), |lines| lines.waiting.is_empty());
        Self::taken(&mut waited.unwrap_or_else(PoisonError::into_inner))
    }

    fn taken(lines: &mut Lines) -> Vec<Line> {
        let forgotten = std::mem::take(&mut lines.forgotten);
        let gap = (forgotten > 0).then(|| Line {
            logger: ENGINE.into(),
            level: 30,
            text: format!("{forgotten} lines are missing here: they came faster than Python could log them"),
        });
        gap.into_iter().chain(lines.waiting.drain(..)).collect()
    }
}

/// The `log` crate's logger.
struct Forward;

impl Log for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Without the lines of the libraries that the engine uses.
        metadata.target().starts_with("kavka") || metadata.target().starts_with("pykafka")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let target = record.target();
            let logger = if target.starts_with("pykafka") { target } else { ENGINE }.to_owned();
            let level = match record.level() {
                Level::Error => 40,
                Level::Warn => 30,
                Level::Info => 20,
                Level::Debug | Level::Trace => 10,
            };
            Queue::of_this_process().push(Line { logger, level, text: record.args().to_string() });
        }
    }

    fn flush(&self) {}
}

/// Starts to receive the engine's lines.
pub(crate) fn register() {
    // It is registered already if the module is loaded a second time.
    if log::set_logger(&Forward).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}

/// Logs the engine's lines as they come. For a daemon thread; never returns.
#[pyfunction]
pub(crate) fn forward_log(py: Python<'_>) {
    let queue = Queue::of_this_process();
    loop {
        say(py, py.detach(|| queue.wait()));
    }
}

/// From now on a bell rings when there are lines for [`flush_log`]. Returns its number.
#[pyfunction]
pub(crate) fn ring_for_log(bells: &Bound<'_, Bells>) -> u64 {
    let (number, waker) = bells.get().bell();
    let queue = Queue::of_this_process();
    *lock(&queue.bell) = Some(waker.clone());
    // Rings for the lines that are already there.
    waker.wake();
    number
}

/// Logs the lines in the queue.
#[pyfunction]
pub(crate) fn flush_log(py: Python<'_>) {
    flush(py);
}

/// Logs the remaining lines.
pub(crate) fn flush(py: Python<'_>) {
    say(py, Queue::of_this_process().take());
}

fn say(py: Python<'_>, lines: Vec<Line>) {
    for Line { logger, level, text } in lines {
        let log = || {
            let logger = py.import("logging")?.call_method1("getLogger", (logger,))?;
            logger.call_method1("log", (level, "%s", text))
        };
        // A logging handler that raises must not end the thread.
        if let Err(error) = log() {
            error.write_unraisable(py, None);
        }
    }
}
