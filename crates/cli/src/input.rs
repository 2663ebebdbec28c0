//! Reads standard input in a thread, and cuts it into records, so that a wait for input can be interrupted.
//!
//! The thread reads large blocks, and passes on blocks of whole records, so that records are not copied one by one.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use memchr::memmem::{Finder, FinderRev};

/// How much is read at once, in bytes.
const READ_BYTES: usize = 256 << 10;

/// How many blocks are read ahead.
const PIECES_AHEAD: usize = 4;

/// A longer record is an error: the separator is probably wrong.
const MAX_RECORD_BYTES: usize = 100 << 20;

/// What came from standard input.
pub(crate) enum Input {
    /// Records, each ended by the separator, which may be missing after the very last one.
    Records(Vec<u8>),
    /// Nothing arrived in time.
    Nothing,
    /// The end of the input.
    End,
}

/// Receives the blocks.
pub(crate) struct Reader(Receiver<io::Result<Vec<u8>>>);

impl Reader {
    /// Starts the thread.
    pub(crate) fn start(source: impl Read + Send + 'static, separator: &[u8]) -> Self {
        let (sender, receiver) = sync_channel(PIECES_AHEAD);
        let separator = separator.to_vec();
        thread::spawn(move || {
            if let Err(error) = read(source, &separator, &sender) {
                // If the receiver is gone, the program is ending, and the error no longer matters.
                drop(sender.send(Err(error)));
            }
        });
        Self(receiver)
    }

    /// Waits up to `limit` for records.
    pub(crate) fn next(&self, limit: Duration) -> io::Result<Input> {
        match self.0.recv_timeout(limit) {
            Ok(piece) => piece.map(Input::Records),
            Err(RecvTimeoutError::Timeout) => Ok(Input::Nothing),
            Err(RecvTimeoutError::Disconnected) => Ok(Input::End),
        }
    }
}

fn read(mut source: impl Read, separator: &[u8], sender: &SyncSender<io::Result<Vec<u8>>>) -> io::Result<()> {
    let finder = FinderRev::new(separator);
    let mut piece = Vec::with_capacity(READ_BYTES);
    loop {
        let known = piece.len();
        piece.resize(known + READ_BYTES, 0);
        let read = match source.read(&mut piece[known..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
            Ok(0) => {
                piece.truncate(known);
                if !piece.is_empty() {
                    drop(sender.send(Ok(piece)));
                }
                return Ok(());
            }
            Ok(read) => read,
        };
        piece.truncate(known + read);
        // A separator may begin in the old bytes and end in the new ones.
        let from = known.saturating_sub(separator.len() - 1);
        if let Some(at) = finder.rfind(&piece[from..]) {
            let rest = piece.split_off(from + at + separator.len());
            if sender.send(Ok(std::mem::replace(&mut piece, rest))).is_err() {
                return Ok(());
            }
        } else if piece.len() > MAX_RECORD_BYTES {
            return Err(io::Error::other("a record is longer than 100 MiB; is the --separator right?"));
        }
    }
}

/// The records in a block, without their separators.
pub(crate) fn records<'a>(piece: &'a [u8], separator: &'a Finder<'_>) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = piece;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (record, behind) = match separator.find(rest) {
            Some(at) => (&rest[..at], &rest[at + separator.needle().len()..]),
            None => (rest, &rest[rest.len()..]),
        };
        rest = behind;
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns one byte at a time, so that a separator is cut in every possible place.
    struct Slowly(Vec<u8>);

    impl Read for Slowly {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            buffer[0] = self.0.remove(0);
            Ok(1)
        }
    }

    fn all(text: &[u8], separator: &[u8]) -> Vec<Vec<u8>> {
        let reader = Reader::start(Slowly(text.to_vec()), separator);
        let finder = Finder::new(separator);
        let mut found = Vec::new();
        loop {
            match reader.next(Duration::from_secs(10)).unwrap() {
                Input::Records(piece) => found.extend(records(&piece, &finder).map(<[u8]>::to_vec)),
                Input::Nothing => {}
                Input::End => return found,
            }
        }
    }

    #[test]
    fn a_last_record_needs_no_separator() {
        assert_eq!(all(b"a\nb", b"\n"), [b"a", b"b"]);
        assert_eq!(all(b"a\nb\n", b"\n"), [b"a", b"b"]);
    }

    #[test]
    fn an_empty_line_is_an_empty_record_and_no_input_is_none() {
        assert_eq!(all(b"\n\na", b"\n"), [&b""[..], b"", b"a"]);
        assert!(all(b"", b"\n").is_empty());
    }

    #[test]
    fn a_separator_of_several_bytes_is_found_wherever_the_input_is_cut() {
        assert_eq!(all(b"a--b---c", b"--"), [&b"a"[..], b"b", b"-c"]);
    }
}
