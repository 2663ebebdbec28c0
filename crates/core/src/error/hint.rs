//! What to do about an error.

/// Ends the text of an error. The language bindings word those hints that name a method, or a setting's value, in their
/// own way ([`Error::worded`](super::Error::worded)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// It reads the same in every language.
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
    /// The peer speaks TLS, and the client does not.
    UseTls,
    /// The client speaks TLS, and the peer does not.
    UsePlaintext,
    /// The peer does not authenticate clients by SASL.
    LeaveOutSasl,
    /// The peer has other SASL mechanisms than the client's.
    ChooseMechanism,
    /// A peer that hung up before it said anything may speak TLS, or authenticate clients.
    MayRequireTlsOrSasl,
    /// A peer that hung up on the first request may authenticate clients.
    MayRequireSasl,
    /// A certificate is wrong in a way that few know. The address comes after the words.
    LookAtCertificates,
}

/// The longest request that brokers accept by default (`socket.request.max.bytes`).
const LONGEST_REQUEST: u64 = 104_857_600;

impl Hint {
    /// What may be wrong if a broker hangs up on a request of so many bytes.
    pub(crate) fn about_length(bytes: u64) -> Option<Self> {
        (bytes > LONGEST_REQUEST).then_some(Self::Text(
            "it is sent a longer request than brokers accept by default: send smaller messages, or raise \
             socket.request.max.bytes on the brokers",
        ))
    }

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
            Self::UseTls => "it requires TLS: set security.protocol to SSL or SASL_SSL, or use its plaintext port",
            Self::UsePlaintext => {
                "the port is a plaintext one: use the port of a TLS listener, or set security.protocol to PLAINTEXT or \
                 SASL_PLAINTEXT"
            }
            Self::LeaveOutSasl => "set security.protocol to PLAINTEXT or SSL, or use the broker's port for SASL",
            Self::ChooseMechanism => "set sasl.mechanism to one of them, or enable it on the broker",
            Self::MayRequireTlsOrSasl => {
                "it closed before its first response: the port may require TLS or SASL (security.protocol), or may not \
                 be Kafka's"
            }
            Self::MayRequireSasl => "it closed before its first answer: the port may require SASL (security.protocol)",
            Self::LookAtCertificates => "look at it with: openssl s_client -showcerts -connect",
        }
    }
}

impl From<&'static str> for Hint {
    fn from(text: &'static str) -> Self {
        Self::Text(text)
    }
}
