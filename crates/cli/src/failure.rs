//! Why the command failed: one line for people, and an exit code for scripts.

use std::fmt;
use std::io;

use kavka::{Error, ErrorClass, ErrorCode};

/// The line for standard error, and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    exit_code: u8,
    sentence: String,
}

impl Failure {
    /// Something failed: exit code 1.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self { exit_code: 1, sentence: sentence.into() }
    }

    /// The command was used wrongly: exit code 2.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self { exit_code: 2, sentence: sentence.into() }
    }

    /// A signal ended it: exit code 128 plus its number, as in shells.
    pub(crate) fn interrupted(signal: u8, sentence: impl Into<String>) -> Self {
        Self { exit_code: signal.saturating_add(128), sentence: sentence.into() }
    }

    /// Reading or writing failed.
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        Self::new(format!("{what}: {error}"))
    }

    pub(crate) fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.class() {
            ErrorClass::Usage => Self::usage(error.to_string()),
            ErrorClass::Unreachable => Self::new(format!("{error}; is it the right cluster (-b)?")),
            ErrorClass::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
                Self::new(format!("{error}; `kavka topics` lists those that exist"))
            }
            ErrorClass::Refused(_)
            | ErrorClass::TimedOut
            | ErrorClass::NotDelivered
            | ErrorClass::Full
            | ErrorClass::Malformed
            | ErrorClass::Fenced
            | ErrorClass::Unauthenticated
            | ErrorClass::Final => Self::new(error.to_string()),
        }
    }
}
