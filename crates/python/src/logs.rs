//! The engine's log lines, on their way to Python's `logging`.
//!
//! The engine's thread only puts a line into a queue: it never waits for the GIL, which a thread that waits for the
//! engine may hold. A daemon thread of Python takes the lines out and logs them under `pykafka.engine`; at exit, what is
//! left is logged too. Only a process's first interpreter can have such a thread; in another all lines come at exit. If
//! nobody takes them, the queue forgets the oldest lines and says how many.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;

use crate::process;
use crate::reports::lock;

/// How many lines wait for Python at most.
const MAX_LINES: usize = 1_000;

/// Where Python finds the lines of the engine.
const ENGINE: &str = "pykafka.engine";

/// One line: its logger, its level as Python counts, its text.
#[derive(Debug)]
struct Line {
    logger: String,
    level: u8,
    text: String,
}

/// The lines of one process. A forked child has a queue of its own, because the lock of its parent's may never be released.
#[derive(Debug)]
struct Queue {
    lines: Mutex<Lines>,
    arrived: Condvar,
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
        Self { lines: Mutex::new(lines), arrived: Condvar::new(), of_child: OnceLock::new() }
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
    }

    /// Everything that is there.
    fn take(&self) -> Vec<Line> {
        Self::taken(&mut lock(&self.lines))
    }

    /// Waits until something is there.
    fn wait(&self) -> Vec<Line> {
        let waited = self.arrived.wait_while(lock(&self.lines), |lines| lines.waiting.is_empty());
        Self::taken(&mut waited.unwrap_or_else(PoisonError::into_inner))
    }

    fn taken(lines: &mut Lines) -> Vec<Line> {
        let forgotten = std::mem::take(&mut lines.forgotten);
        let gap = (forgotten > 0).then(|| Line {
            logger: ENGINE.into(),
            level: 30,
            text: format!("{forgotten} lines are missing here: they came faster than Python logged them"),
        });
        gap.into_iter().chain(lines.waiting.drain(..)).collect()
    }
}

/// What the `log` crate gives the engine's lines to.
struct Forward;

impl Log for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Not those of the libraries below the engine.
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

/// Receives the engine's lines from now on.
pub(crate) fn register() {
    // A second time, when the module is loaded again, it is registered already.
    if log::set_logger(&Forward).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}

/// Logs the engine's lines as they come. For a daemon thread: it never returns.
#[pyfunction]
pub(crate) fn forward_log(py: Python<'_>) {
    let queue = Queue::of_this_process();
    loop {
        say(py, py.detach(|| queue.wait()));
    }
}

/// Logs the lines that are left.
pub(crate) fn flush(py: Python<'_>) {
    say(py, Queue::of_this_process().take());
}

fn say(py: Python<'_>, lines: Vec<Line>) {
    for Line { logger, level, text } in lines {
        let log = || {
            let logger = py.import("logging")?.call_method1("getLogger", (logger,))?;
            logger.call_method1("log", (level, "%s", text))
        };
        // A handler that raises must not end the thread.
        if let Err(error) = log() {
            error.write_unraisable(py, None);
        }
    }
}
