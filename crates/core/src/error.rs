//! The one error type of the engine.
//!
//! An error answers four questions ([`Error::is_retriable`], [`Error::requires_abort`], [`Error::is_fatal`],
//! [`Error::written`]), says where it happened ([`Place`]), and reads as one sentence: *what failed: where; why; what
//! to do*. It is cheap to clone, because the error of a batch is reported to every record in it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::wire::error_code::ErrorCode;

mod hint;

pub use hint::Hint;

/// The kind of an error, which decides what the caller can do about it.
///
/// New kinds may come with any release. Code that must treat every error asks for the [`ErrorClass`]: the list of
/// classes is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A broker answered with this error code, which also says whether a retry can help.
    Broker(ErrorCode),
    /// The connection could not be opened, or was lost.
    Disconnected,
    /// A time limit passed in this phase.
    TimedOut(Phase),
    /// A record was not acknowledged; [`Error::written`] says whether it may be in the log.
    NotDelivered,
    /// `buffer.memory`, or a limit on the number of records, is used up.
    BufferFull,
    /// Our credentials, or the peer's, were refused.
    Authentication,
    /// The broker supports no version of the API that can do what was asked for.
    Unsupported,
    /// The peer sent bytes that do not follow the protocol.
    Malformed,
    /// A newer producer or group member has taken our place.
    Fenced,
    /// The client, producer or consumer was closed.
    Closed,
    /// A setting is unknown, out of range, or conflicts with another one.
    Config,
    /// A call was made with wrong arguments, or at the wrong time.
    Misuse,
    /// The operating system refused a resource that every client needs: a thread, or random numbers.
    System,
    /// A bug of this library.
    Internal,
}

/// All errors in a few classes, which a `match` can list. Every [`ErrorKind`] belongs to one of them.
///
/// The command `kavka` chooses its exit code by it, and the Python package its exceptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The program must be changed: [`ErrorKind::Config`], [`ErrorKind::Misuse`].
    Usage,
    /// A broker refused: [`ErrorKind::Broker`].
    Refused(ErrorCode),
    /// No broker was reached: [`ErrorKind::Disconnected`].
    Unreachable,
    /// Something took too long: [`ErrorKind::TimedOut`].
    TimedOut,
    /// A record was not acknowledged: [`ErrorKind::NotDelivered`].
    NotDelivered,
    /// The producer's buffer is full: [`ErrorKind::BufferFull`].
    Full,
    /// The peer does not follow the protocol: [`ErrorKind::Malformed`].
    Malformed,
    /// Another producer or member has taken our place: [`ErrorKind::Fenced`].
    Fenced,
    /// Our credentials, or the peer's, were refused: [`ErrorKind::Authentication`].
    Unauthenticated,
    /// The object, or the whole client, cannot go on: [`ErrorKind::Unsupported`], [`ErrorKind::Closed`],
    /// [`ErrorKind::System`], [`ErrorKind::Internal`].
    Final,
}

impl ErrorKind {
    /// The class of errors of this kind.
    pub fn class(self) -> ErrorClass {
        match self {
            Self::Config | Self::Misuse => ErrorClass::Usage,
            Self::Broker(code) => ErrorClass::Refused(code),
            Self::Disconnected => ErrorClass::Unreachable,
            Self::TimedOut(_) => ErrorClass::TimedOut,
            Self::NotDelivered => ErrorClass::NotDelivered,
            Self::BufferFull => ErrorClass::Full,
            Self::Malformed => ErrorClass::Malformed,
            Self::Fenced => ErrorClass::Fenced,
            Self::Authentication => ErrorClass::Unauthenticated,
            Self::Unsupported | Self::Closed | Self::System | Self::Internal => ErrorClass::Final,
        }
    }
}

/// What the client was doing when a time limit passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Resolving, connecting and the handshake; `socket.connection.setup.timeout.ms`.
    Connect,
    /// Waiting for the response to a request; `request.timeout.ms`, or the limit of the call if that is shorter.
    Request,
    /// Waiting for metadata; `max.block.ms`.
    Metadata,
    /// Waiting for a record to be acknowledged; `delivery.timeout.ms`.
    Delivery,
    /// Waiting for buffered records to be acknowledged while closing.
    Close,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting (socket.connection.setup.timeout.ms)",
            Self::Request => "waiting for a response",
            Self::Metadata => "waiting for metadata (max.block.ms)",
            Self::Delivery => "waiting for an acknowledgement (delivery.timeout.ms)",
            Self::Close => "closing",
        })
    }
}

/// Whether a failed record may still be in the log (guarantee R6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Written {
    /// No byte of it was sent, or a broker definitely rejected it: it is safe to send it again.
    #[default]
    No,
    /// It may be in the log; sending it again may duplicate it.
    Maybe,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::No => "it was not written",
            Self::Maybe => "it may have been written; sending it again may duplicate it",
        })
    }
}

/// Where an error happened, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The group, if it concerns one.
    pub group: Option<Arc<str>>,
    /// The topic, if it concerns one.
    pub topic: Option<Arc<str>>,
    /// The partition of `topic`.
    pub partition: Option<i32>,
    /// The offset in that partition.
    pub offset: Option<i64>,
    /// The broker's id; `None` for a bootstrap server.
    pub broker_id: Option<i32>,
    /// The `host:port` that was dialled.
    pub address: Option<Arc<str>>,
    /// The name of the API, and the version of the request.
    pub api: Option<(&'static str, i16)>,
    /// How many attempts were made.
    pub attempts: Option<u32>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(self.group.as_deref().map(|group| format!("group {}", printable_name(group))));
        if let Some(topic) = &self.topic {
            let mut part = printable_name(topic);
            if let Some(partition) = self.partition {
                part = format!("{part}-{partition}");
            }
            if let Some(offset) = self.offset {
                part = format!("{part} at offset {offset}");
            }
            parts.push(part);
        }
        match (self.broker_id, &self.address) {
            (Some(id), Some(address)) => parts.push(format!("on broker {id} at {}", printable_name(address))),
            (Some(id), None) => parts.push(format!("on broker {id}")),
            (None, Some(address)) => parts.push(format!("at {}", printable_name(address))),
            (None, None) => {}
        }
        if let Some((name, version)) = self.api {
            parts.push(format!("in {name} v{version}"));
        }
        if let Some(attempts) = self.attempts {
            parts.push(format!("after {attempts} attempt{}", if attempts == 1 { "" } else { "s" }));
        }
        f.write_str(&parts.join(" "))
    }
}

/// Escapes control characters, and those that hide or reorder others or begin a line, so that text from a peer or a
/// user is safe to print on one line. What begins like a key or certificate in PEM format is not shown.
pub fn printable(text: &str) -> String {
    escaped(text).collect()
}

/// A name that a peer gave, such as that of a host, a topic or a certificate: [`printable`], and cut if it is longer
/// than names are.
pub fn printable_name(text: &str) -> String {
    shortened(text, MAX_NAME_CHARS)
}

/// What a peer gave as its reason: [`printable`], and cut if it is long.
pub fn printable_reason(text: &str) -> String {
    shortened(text, MAX_REASON_CHARS)
}

/// The most characters of a name in an error. The names of hosts and topics are shorter.
const MAX_NAME_CHARS: usize = 300;

/// The most characters of a reason in an error.
const MAX_REASON_CHARS: usize = 500;

fn shortened(text: &str, most: usize) -> String {
    let mut chars = escaped(text);
    let mut shown: String = chars.by_ref().take(most).collect();
    if chars.next().is_some() {
        shown.push_str("...");
    }
    shown
}

fn escaped(text: &str) -> impl Iterator<Item = char> {
    // People paste keys where something else belongs.
    let (shown, hidden) = match text.split_once("-----BEGIN") {
        Some((before, _)) => (before, "-----BEGIN ***"),
        None => (text, ""),
    };
    shown.chars().chain(hidden.chars()).flat_map(|c| {
        let escape = misleads(c).then(|| c.escape_default());
        let plain = if escape.is_none() { Some(c) } else { None };
        escape.into_iter().flatten().chain(plain)
    })
}

/// Whether a character is invisible, or changes how others are shown.
fn misleads(c: char) -> bool {
    let is_format = matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    );
    c.is_control() || is_format
}

/// What went wrong, where, why, and what can be done about it.
#[derive(Clone)]
pub struct Error(Arc<Details>);

#[derive(Clone)]
struct Details {
    kind: ErrorKind,
    what: String,
    place: Place,
    written: Option<Written>,
    hint: Option<Hint>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The result of a call of the engine.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error; `what` says what failed, in lower case and without a full stop.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        let what = what.into();
        Self(Arc::new(Details { kind, what, place: Place::default(), written: None, hint: None, source: None }))
    }

    /// The error for a broker's error code; `None` if the code means success.
    pub fn from_code(code: ErrorCode) -> Option<Self> {
        (code != ErrorCode::NONE).then(|| Self::new(ErrorKind::Broker(code), format!("the broker answered {code}")))
    }

    /// Adds what `place` knows; keeps the rest.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        self.change(|details| {
            let old = std::mem::take(&mut details.place);
            details.place = Place {
                group: place.group.or(old.group),
                topic: place.topic.or(old.topic),
                partition: place.partition.or(old.partition),
                offset: place.offset.or(old.offset),
                broker_id: place.broker_id.or(old.broker_id),
                address: place.address.or(old.address),
                api: place.api.or(old.api),
                attempts: place.attempts.or(old.attempts),
            };
        })
    }

    /// Adds the topic and partition.
    #[must_use]
    pub fn at_partition(self, topic: &Arc<str>, partition: i32) -> Self {
        self.at(Place { topic: Some(Arc::clone(topic)), partition: Some(partition), ..Place::default() })
    }

    /// Sets whether the record may be in the log.
    #[must_use]
    pub fn with_written(self, written: Written) -> Self {
        self.change(|details| details.written = Some(written))
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<Hint>) -> Self {
        let hint = hint.into();
        self.change(|details| details.hint = Some(hint))
    }

    /// What this error leads to, of another kind: `what` comes ahead of it in the same sentence.
    #[must_use]
    pub fn leading_to(self, kind: ErrorKind, what: &str) -> Self {
        self.change(|details| {
            details.kind = kind;
            details.what = format!("{what}: {}", details.what);
        })
    }

    /// Sets the cause, which [`Display`](fmt::Display) prints at the end.
    #[must_use]
    pub fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.change(|details| details.source = Some(Arc::new(source)))
    }

    fn change(self, change: impl FnOnce(&mut Details)) -> Self {
        let mut details = Arc::unwrap_or_clone(self.0);
        change(&mut details);
        Self(Arc::new(details))
    }

    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The class of its kind.
    pub fn class(&self) -> ErrorClass {
        self.0.kind.class()
    }

    /// Where it happened.
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// The broker's error code, from this error or its cause.
    pub fn code(&self) -> Option<ErrorCode> {
        if let ErrorKind::Broker(code) = self.0.kind {
            return Some(code);
        }
        self.0.source.as_deref().and_then(|source| source.downcast_ref::<Self>()).and_then(Self::code)
    }

    /// Whether the same call can succeed if it is repeated.
    pub fn is_retriable(&self) -> bool {
        match self.0.kind {
            ErrorKind::Broker(code) => code.is_retriable(),
            ErrorKind::Disconnected | ErrorKind::TimedOut(_) | ErrorKind::BufferFull => true,
            ErrorKind::NotDelivered
            | ErrorKind::Authentication
            | ErrorKind::Unsupported
            | ErrorKind::Malformed
            | ErrorKind::Fenced
            | ErrorKind::Closed
            | ErrorKind::Config
            | ErrorKind::Misuse
            | ErrorKind::System
            | ErrorKind::Internal => false,
        }
    }

    /// Whether the current transaction must be aborted before anything else can be sent.
    pub fn requires_abort(&self) -> bool {
        !self.is_retriable() && !self.is_fatal()
    }

    /// Whether the object that returned it can no longer be used.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Authentication | ErrorKind::Fenced | ErrorKind::Closed | ErrorKind::System | ErrorKind::Internal
        )
    }

    /// Whether the record may be in the log; `No` for errors that concern no record.
    pub fn written(&self) -> Written {
        self.0.written.unwrap_or_default()
    }
}

impl Error {
    /// The text of the error, with these words for the hints.
    pub fn worded(&self, words: fn(Hint) -> &'static str) -> String {
        Worded { error: self, words }.to_string()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Worded { error: self, words: Hint::text }.fmt(f)
    }
}

struct Worded<'a> {
    error: &'a Error,
    words: fn(Hint) -> &'static str,
}

impl fmt::Display for Worded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error: Error(details), words } = self;
        f.write_str(&details.what)?;
        if details.place != Place::default() {
            write!(f, ": {}", details.place)?;
        }
        if let Some(written) = details.written {
            write!(f, "; {written}")?;
        }
        if let Some(source) = &details.source {
            match source.downcast_ref() {
                Some(error) => write!(f, "; because {}", Worded { error, words: *words })?,
                None => write!(f, "; because {source}")?,
            }
        }
        if let Some(hint) = details.hint {
            write!(f, "; {}", words(hint))?;
            if hint == Hint::LookAtCertificates {
                // A name may be followed by the address that it led to.
                let address = details.place.address.as_deref().and_then(|address| address.split(' ').next());
                write!(f, " {}", printable_name(address.unwrap_or("HOST:PORT")))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_pasted_where_something_else_belongs_is_not_shown() {
        let pasted = "TLSv1.2,-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n";
        for shown in [printable(pasted), printable_name(pasted), printable_reason(pasted)] {
            assert_eq!(shown, "TLSv1.2,-----BEGIN ***");
        }
    }

    #[test]
    fn what_could_deceive_a_reader_of_one_line_is_escaped() {
        let text = "a\r\n\u{1b}[2J\u{85}\u{2028}\u{202e}\u{200b}\u{feff}é 漢";
        let shown = "a\\r\\n\\u{1b}[2J\\u{85}\\u{2028}\\u{202e}\\u{200b}\\u{feff}é 漢";
        assert_eq!(printable(text), shown);
        for c in ['\u{ad}', '\u{61c}', '\u{180e}', '\u{fff9}', '\u{fffb}', '\u{e0000}', '\u{e007f}'] {
            assert_eq!(printable(&c.to_string()), c.escape_default().to_string());
        }
    }

    #[test]
    fn a_long_name_or_reason_is_cut_and_says_so() {
        for (shown, most) in
            [(printable_name as fn(&str) -> String, MAX_NAME_CHARS), (printable_reason, MAX_REASON_CHARS)]
        {
            assert_eq!(shown(&"é".repeat(most)), "é".repeat(most));
            assert_eq!(shown(&"é".repeat(60_000)), "é".repeat(most) + "...");
            assert_eq!(shown(&"\n".repeat(60_000)).len(), most + 3);
        }
        let long: Arc<str> = "x".repeat(60_000).into();
        let place =
            Place { topic: Some(long.clone()), address: Some(long.clone()), group: Some(long), ..Place::default() };
        assert!(Error::new(ErrorKind::Disconnected, "gone").at(place).to_string().len() < 1_000);
    }

    #[test]
    fn the_sentence_says_what_where_why_and_what_to_do() {
        let place = Place {
            topic: Some("orders".into()),
            partition: Some(3),
            broker_id: Some(2),
            address: Some("kafka-2:9092".into()),
            attempts: Some(4),
            ..Place::default()
        };
        let error = Error::new(ErrorKind::NotDelivered, "record not acknowledged within delivery.timeout.ms")
            .at(place)
            .with_written(Written::Maybe)
            .with_source(std::io::Error::other("connection refused"))
            .with_hint("check that the broker runs");
        assert_eq!(
            error.to_string(),
            "record not acknowledged within delivery.timeout.ms: orders-3 on broker 2 at kafka-2:9092 after 4 attempts; \
             it may have been written; sending it again may duplicate it; because connection refused; \
             check that the broker runs"
        );
    }

    #[test]
    fn a_language_binding_words_the_hints_also_of_the_cause() {
        let cause = Error::new(ErrorKind::Malformed, "a record is broken").with_hint(Hint::SeekPast);
        let error = Error::new(ErrorKind::Misuse, "nothing was read").with_source(cause).with_hint("read the log");
        let words = |hint| if let Hint::Text(text) = hint { text } else { "call next()" };
        assert_eq!(error.worded(words), "nothing was read; because a record is broken; call next(); read the log");
    }

    #[test]
    fn a_control_character_from_a_peer_is_escaped() {
        let place = Place { topic: Some("a\nb".into()), ..Place::default() };
        assert_eq!(Error::new(ErrorKind::Misuse, "bad topic").at(place).to_string(), "bad topic: a\\nb");
    }

    #[test]
    fn a_wrapped_broker_error_keeps_its_code() {
        let cause = Error::from_code(ErrorCode::MESSAGE_TOO_LARGE).unwrap();
        let error = Error::new(ErrorKind::NotDelivered, "record refused").with_source(cause);
        assert_eq!(error.code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
    }
}
