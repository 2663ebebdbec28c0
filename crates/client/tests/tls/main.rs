//! TLS: which brokers and which clients are let in, and what the others are told.
//!
//! A [`server`] with a certificate of choice stands in front of an embedded broker; a network without name resolution
//! leads to it, so every host name can be tried.

mod brokers;
mod certificates;
mod clients;
mod files;
mod keys;
mod secrets;
mod server;
mod tokens;

use std::sync::{Mutex, Once};

static LINES: Mutex<Vec<(log::Level, String)>> = Mutex::new(Vec::new());

/// Keeps what every crate logs, at every level.
struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().unwrap().push((record.level(), format!("{} {}", record.target(), record.args())));
    }

    fn flush(&self) {}
}

/// Starts to keep what is logged.
fn listen_to_log() {
    static START: Once = Once::new();
    START.call_once(|| {
        log::set_logger(&Log).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// Everything that was logged since [`listen_to_log`], one line each.
fn logged() -> String {
    LINES.lock().unwrap().iter().map(|(level, line)| format!("{level} {line}")).collect::<Vec<_>>().join("\n")
}

/// Whether there was a warning with these words.
fn warned(words: &str) -> Option<()> {
    let lines = LINES.lock().unwrap();
    lines.iter().any(|(level, line)| *level == log::Level::Warn && line.contains(words)).then_some(())
}
