//! What to do about an error.

/// Ends the text of an error. The language bindings word those hints that name a method in their own way
/// ([`Error::worded`](super::Error::worded)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// It names no method.
    Text(&'static str),
    /// What comes next in a partition cannot be read.
    SeekPast,
    /// The same, and the broker's log may be the cause.
    SeekPastDamage,
    /// A partition has no position any more, because its log was truncated.
    SeekAfterTruncation,
    /// A partition has no position any more, because the leader does not have the offset.
    SeekInRange,
    /// A partition has no position any more, because its topic was deleted and created again.
    SeekInNewTopic,
    /// A partition is paused, because it has no position yet.
    SeekAndResume,
}

impl Hint {
    /// The hint in the words of the Rust API.
    pub fn text(self) -> &'static str {
        match self {
            Self::Text(text) => text,
            Self::SeekPast => "seek past it to continue with this partition",
            Self::SeekPastDamage => "if this persists, the broker's log is damaged there: seek past it",
            Self::SeekAfterTruncation => "records that were read are gone; seek to say where to continue",
            Self::SeekInRange => "seek to say where to continue",
            Self::SeekInNewTopic => "seek to say where to start in the new topic",
            Self::SeekAndResume => "seek it and resume it, or set auto.offset.reset",
        }
    }
}

impl From<&'static str> for Hint {
    fn from(text: &'static str) -> Self {
        Self::Text(text)
    }
}
