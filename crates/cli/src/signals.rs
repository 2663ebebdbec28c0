//! Ctrl-C and SIGTERM: the first one asks for an orderly end, the second one ends the process.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;

/// Whether Ctrl-C or SIGTERM has come.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    /// The number of the signal that came, or 0.
    signal: Arc<AtomicU8>,
}

impl Interrupt {
    /// Starts to listen.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let mut signals = listen()?;
        let interrupt = Self { signal: Arc::default() };
        let shared = interrupt.clone();
        thread::spawn(move || {
            for signal in signals.forever() {
                let number = u8::try_from(signal).unwrap_or(1);
                if shared.signal.swap(number, Ordering::AcqRel) != 0 {
                    process::exit(128 + signal);
                }
            }
        });
        Ok(interrupt)
    }

    /// The number of the signal that came, if any.
    pub(crate) fn signal(&self) -> Option<u8> {
        Some(self.signal.load(Ordering::Acquire)).filter(|signal| *signal != 0)
    }

    /// Fails if a signal has come.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.signal().map_or(Ok(()), |signal| Err(Failure::interrupted(signal, "interrupted")))
    }
}

/// Blocks until Ctrl-C or SIGTERM. Call [`listen`] first, so that none is missed.
pub(crate) fn wait(mut signals: Signals) {
    signals.forever().next();
}

/// Handles both signals, which would otherwise end the process.
pub(crate) fn listen() -> Result<Signals, Failure> {
    Signals::new([SIGINT, SIGTERM]).map_err(|error| Failure::io("cannot listen for Ctrl-C", &error))
}
