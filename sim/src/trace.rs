//! What happened in a run, as sentences, and a hash of them all.

use std::fmt::{Arguments, Write};

use kavka_core::time::Instant;

use crate::Print;

/// The trace of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    print: Print,
    line: String,
    /// FNV-1a over all sentences.
    hash: u64,
    sentences: u64,
}

impl Trace {
    pub(crate) fn new(print: Print) -> Self {
        Self { print, line: String::new(), hash: 0xcbf2_9ce4_8422_2325, sentences: 0 }
    }

    /// Adds an event; the sentence has no full stop.
    pub(crate) fn say(&mut self, now: Instant, sentence: Arguments<'_>) {
        self.line.clear();
        // Writing to a string cannot fail.
        let _ = write!(self.line, "{:>6} ms  {sentence}", now.0);
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.sentences += 1;
        if self.print == Print::Trace {
            println!("{}", self.line);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn sentences(&self) -> u64 {
        self.sentences
    }
}
