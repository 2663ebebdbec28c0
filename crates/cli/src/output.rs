//! Standard output, in large writes.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

use crate::failure::Failure;

/// The size of the buffer, in bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// Standard output, written when the buffer is full or the caller has nothing more for now.
pub(crate) struct Output {
    file: File,
    buffer: Vec<u8>,
}

impl Output {
    /// Bypasses `std::io::stdout`, which searches everything that is written for line ends.
    pub(crate) fn new() -> Result<Self, Failure> {
        let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(|error| Self::failure(&error))?;
        Ok(Self { file: stdout.into(), buffer: Vec::with_capacity(2 * BUFFER_BYTES) })
    }

    /// Writes a complete text. It is no failure if the reader has closed the pipe.
    pub(crate) fn print(text: &str) -> Result<(), Failure> {
        let mut output = Self::new()?;
        output.buffer.extend_from_slice(text.as_bytes());
        match output.flush() {
            Err(error) if !is_closed(&error) => Err(Self::failure(&error)),
            _ => Ok(()),
        }
    }

    /// The buffer to append to.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes the buffer if it is full.
    pub(crate) fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < BUFFER_BYTES { Ok(()) } else { self.flush() }
    }

    /// Writes the buffer.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.buffer);
        self.buffer.clear();
        written
    }

    /// The failure for an error of a write. Check [`is_closed`] first: it is not a failure if a reader such as `head`
    /// has seen enough.
    pub(crate) fn failure(error: &io::Error) -> Failure {
        Failure::io("cannot write to standard output", error)
    }
}

/// Whether the reader of our output has closed it.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    error.kind() == ErrorKind::BrokenPipe
}
