//! TLS: which brokers and which clients are let in, and what the others are told.
//!
//! A [`server`] with a certificate of choice stands in front of an embedded broker; a network without name resolution
//! leads to it, so every host name can be tried.

mod brokers;
mod certificates;
mod clients;
mod files;
mod keys;
mod server;

use std::sync::{Mutex, Once};

static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps all warnings.
struct Warnings;

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            WARNINGS.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Starts to keep warnings.
fn listen_for_warnings() {
    static START: Once = Once::new();
    START.call_once(|| {
        log::set_logger(&Warnings).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    });
}

/// Whether there was a warning with these words.
fn warned(words: &str) -> Option<()> {
    WARNINGS.lock().unwrap().iter().any(|warning| warning.contains(words)).then_some(())
}
