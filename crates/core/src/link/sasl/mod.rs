//! SASL: how a client proves to a broker who it is. One machine per mechanism, without I/O.
//!
//! The broker's messages come in as bytes, and the client's answers go out as bytes. A step may take long: SCRAM hashes
//! the password up to a million times, and Kerberos may have to ask for a ticket. So a connection never makes a step
//! itself. It gives out [`Work`], which its driver runs where it delays nobody, and takes the [`Worked`] back.

use std::fmt;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::config::{SaslMechanism, ScramHash};
use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secret;

mod attempts;
mod gssapi;
mod oauthbearer;
mod plain;
mod scram;

pub use attempts::{Attempts, Broker};
pub use gssapi::GssContext;
pub use scram::NONCE_BYTES;

/// What a client proves its identity with, for one exchange.
#[derive(Debug)]
pub enum Credentials {
    /// A name and a password, which the broker gets to see (RFC 4616).
    Plain {
        /// Kafka's user.
        username: String,
        /// Its password.
        password: Secret,
    },
    /// A name and a password, which stays with the client (RFC 5802, RFC 7677).
    Scram {
        /// The hash function of the mechanism.
        hash: ScramHash,
        /// Kafka's user.
        username: String,
        /// Its password.
        password: Secret,
        /// Unpredictable bytes, fresh for every exchange.
        nonce: [u8; NONCE_BYTES],
    },
    /// A token of an identity provider (RFC 7628).
    OAuthBearer {
        /// The token.
        token: Secret,
        /// Names and values that the broker gets beside it (KIP-342).
        extensions: Vec<(String, String)>,
    },
    /// A Kerberos ticket (RFC 4752).
    Gssapi(Box<dyn GssContext>),
}

impl Credentials {
    /// Its mechanism.
    pub fn mechanism(&self) -> SaslMechanism {
        match self {
            Self::Plain { .. } => SaslMechanism::Plain,
            Self::Scram { hash: ScramHash::Sha256, .. } => SaslMechanism::ScramSha256,
            Self::Scram { hash: ScramHash::Sha512, .. } => SaslMechanism::ScramSha512,
            Self::OAuthBearer { .. } => SaslMechanism::OAuthBearer,
            Self::Gssapi(_) => SaslMechanism::Gssapi,
        }
    }

    /// The exchange, before its first message.
    pub(super) fn begin(self) -> Box<dyn Mechanism> {
        match self {
            Self::Plain { username, password } => Box::new(plain::Plain::new(username, password)),
            Self::Scram { hash, username, password, nonce } => {
                Box::new(scram::Scram::new(hash, username, password, nonce))
            }
            Self::OAuthBearer { token, extensions } => Box::new(oauthbearer::OAuthBearer::new(token, extensions)),
            Self::Gssapi(context) => Box::new(gssapi::Gssapi::new(context)),
        }
    }
}

/// The client's next move in an exchange.
#[derive(PartialEq, Eq)]
pub(super) enum Move {
    /// To send this message, which may be a password, and wait for the broker's next one.
    Send(Zeroizing<Vec<u8>>),
    /// Nothing: both sides are satisfied.
    Done,
}

impl fmt::Debug for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send(_) => "Send(***)",
            Self::Done => "Done",
        })
    }
}

/// The client's side of one exchange.
pub(super) trait Mechanism: fmt::Debug + Send {
    /// Takes the broker's message, which is empty before the first move.
    fn step(&mut self, message: &[u8]) -> Result<Move>;

    /// What was sent to the broker and must not be shown if it comes back in the broker's words.
    fn secret(&self) -> Option<&Secret> {
        None
    }

    /// Why the broker is about to refuse, if it has said so.
    fn complaint(&self) -> Option<&str> {
        None
    }
}

/// A step of an exchange, for a thread that may be busy or blocked for a while.
#[derive(Debug)]
pub struct Work {
    pub(super) mechanism: Box<dyn Mechanism>,
    pub(super) message: Bytes,
}

/// The outcome of [`Work`].
#[derive(Debug)]
pub struct Worked {
    pub(super) mechanism: Box<dyn Mechanism>,
    pub(super) outcome: Result<Move>,
}

impl Work {
    /// Makes the step.
    pub fn run(self) -> Worked {
        let Self { mut mechanism, message } = self;
        let outcome = mechanism.step(&message);
        Worked { mechanism, outcome }
    }
}

/// An error of the exchange itself: the broker's message, or the credentials, are not what they must be.
fn refuse(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Authentication, why)
}

/// A broker's message after the one that should have been its last.
fn superfluous(mechanism: &str) -> Error {
    refuse(format!("the broker goes on with {mechanism} after its last message"))
}
