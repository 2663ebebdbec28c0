//! Standard output, in large writes.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

use crate::failure::Failure;

/// What is collected before it is written, in bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// Standard output, which is written when the buffer is full or the caller has nothing more for now.
pub(crate) struct Output {
    file: File,
    buffer: Vec<u8>,
}

impl Output {
    /// Goes around `std::io::stdout`, which searches everything that is written for the end of a line.
    pub(crate) fn new() -> Result<Self, Failure> {
        let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(|error| Self::failure(&error))?;
        Ok(Self { file: stdout.into(), buffer: Vec::with_capacity(2 * BUFFER_BYTES) })
    }

    /// Where to put what shall be written.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes if there is much to write.
    pub(crate) fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < BUFFER_BYTES { Ok(()) } else { self.flush() }
    }

    /// Writes what there is.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.buffer);
        self.buffer.clear();
        written
    }

    /// The failure that a write ended with. Check [`is_closed`] first: a reader such as `head` that has seen enough is
    /// not a failure.
    pub(crate) fn failure(error: &io::Error) -> Failure {
        Failure::io("cannot write to standard output", error)
    }
}

/// Whether nobody reads our output any more.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    error.kind() == ErrorKind::BrokenPipe
}
