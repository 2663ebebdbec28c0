//! SASL: who may use a connection, and until when.
//!
//! [`Authentication`] has the state of every connection and answers `SaslHandshake` and `SaslAuthenticate`; a client
//! that named its mechanism with `SaslHandshake` v0 sends bare tokens, without headers. Until a connection is
//! authenticated, any request that does not belong to the exchange closes it, as does any request after the end of the
//! session (KIP-368).
//!
//! Not here: GSSAPI, delegation tokens, the delay of answers to wrong passwords. Nonces and salts come from the
//! cluster's seed, so they can be predicted.

mod oauthbearer;
mod plain;
mod scram;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kavka_core::time::Instant;
use kavka_core::wire::api::ApiKey;
use kavka_core::wire::error_code::ErrorCode;

use crate::{ConnectionId, KafkaVersion};

/// The longest request or token before a connection is authenticated (Kafka: `sasl.server.max.receive.size`).
const MAX_FRAME_BYTES: usize = 524_288;
/// A connection may begin to authenticate again only once in this time.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// A SASL mechanism that the embedded broker supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SaslMechanism {
    /// User and password as they are.
    Plain,
    /// A proof of the password, with SHA-256.
    ScramSha256,
    /// A proof of the password, with SHA-512.
    ScramSha512,
    /// An unsecured JSON web token: whoever it names is believed.
    OAuthBearer,
}

impl SaslMechanism {
    /// All mechanisms.
    pub const ALL: [Self; 4] = [Self::Plain, Self::ScramSha256, Self::ScramSha512, Self::OAuthBearer];

    /// Kafka's name of the mechanism.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }

    /// The mechanism of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}

/// Who may use the cluster, and how they prove it.
#[derive(Clone)]
pub struct Sasl {
    /// The mechanisms that clients may use (Kafka: `sasl.enabled.mechanisms`), if the cluster's version of Kafka has
    /// them. Default: all.
    pub mechanisms: Vec<SaslMechanism>,
    /// The password of each user, for PLAIN and SCRAM.
    pub passwords: BTreeMap<String, String>,
    /// How long a connection may be used before it must authenticate again (Kafka: `connections.max.reauth.ms`).
    /// Default: `None`, which is for ever.
    pub max_session: Option<Duration>,
}

impl Default for Sasl {
    fn default() -> Self {
        Self { mechanisms: SaslMechanism::ALL.to_vec(), passwords: BTreeMap::new(), max_session: None }
    }
}

impl Sasl {
    /// With the mechanisms that this version of Kafka has.
    pub(crate) fn of(mut self, kafka_version: KafkaVersion) -> Self {
        self.mechanisms.retain(|mechanism| kafka_version.has_mechanism(*mechanism));
        self
    }
}

/// Without the passwords.
impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sasl")
            .field("mechanisms", &self.mechanisms)
            .field("users", &self.passwords.keys())
            .field("max_session", &self.max_session)
            .finish()
    }
}

/// One mechanism's side of the broker, in one exchange.
#[derive(Debug)]
enum Exchange {
    Plain,
    Scram(scram::Server),
    OAuthBearer(oauthbearer::Server),
}

/// What follows from a client's token.
#[derive(Debug)]
enum Step {
    /// The broker's next token.
    Continue(Vec<u8>),
    /// The client is this user.
    Done { user: String, token: Vec<u8>, expires_at_ms: Option<i64> },
}

/// The client is not who it says.
#[derive(Debug)]
enum Refusal {
    /// The client may know why.
    Because(String),
    /// The reason, such as an unknown user, would help to guess passwords.
    Unsaid,
}

type Taken = Result<Step, Refusal>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    mechanism: SaslMechanism,
    user: String,
}

#[derive(Debug)]
enum Phase {
    /// Nothing has happened.
    Start,
    /// The client knows the broker's versions, and must now name a mechanism.
    Versions,
    /// The mechanism is known; `previous` is who the client was before, if it authenticates again.
    Exchange {
        mechanism: SaslMechanism,
        exchange: Exchange,
        is_raw: bool,
        previous: Option<Identity>,
    },
    /// The client wants to authenticate again with another mechanism: whatever it sends now closes the connection.
    OtherMechanism,
    Authenticated {
        identity: Identity,
        until: Option<Instant>,
    },
    /// The client was refused; its last response is on its way.
    Refused,
}

#[derive(Debug)]
struct Session {
    phase: Phase,
    /// When it last began to authenticate again.
    renewed: Option<Instant>,
}

/// What to do with a request, before it is looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Handle,
    /// Answer with this error, and close the connection.
    Refuse(ErrorCode),
    Close,
}

/// The answer to a token.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) error_code: ErrorCode,
    pub(crate) error_message: Option<String>,
    pub(crate) token: Vec<u8>,
    pub(crate) session_lifetime_ms: i64,
}

/// The sessions of all connections to a cluster whose clients must authenticate.
#[derive(Debug)]
pub(crate) struct Authentication {
    config: Sasl,
    scram_keys: BTreeMap<(SaslMechanism, String), scram::Keys>,
    sessions: BTreeMap<ConnectionId, Session>,
}

impl Authentication {
    pub(crate) fn new(config: Sasl) -> Self {
        Self { config, scram_keys: BTreeMap::new(), sessions: BTreeMap::new() }
    }

    /// Sets a user's password. Connections that are authenticated stay so.
    pub(crate) fn set_password(&mut self, user: &str, password: &str) {
        self.config.passwords.insert(user.to_owned(), password.to_owned());
        self.scram_keys.retain(|(_, known), _| known != user);
    }

    pub(crate) fn handle_connect(&mut self, connection: ConnectionId) {
        self.sessions.insert(connection, Session { phase: Phase::Start, renewed: None });
    }

    pub(crate) fn forget_connection(&mut self, connection: ConnectionId) {
        self.sessions.remove(&connection);
    }

    /// The names of the enabled mechanisms.
    pub(crate) fn mechanisms(&self) -> Vec<String> {
        self.config.mechanisms.iter().map(|mechanism| mechanism.name().to_owned()).collect()
    }

    fn phase(&self, connection: ConnectionId) -> Option<&Phase> {
        self.sessions.get(&connection).map(|session| &session.phase)
    }

    /// Whether a frame may be that long.
    pub(crate) fn allows(&self, connection: ConnectionId, bytes: usize) -> bool {
        bytes <= MAX_FRAME_BYTES || matches!(self.phase(connection), Some(Phase::Authenticated { .. }))
    }

    /// Whether the next frame is a token without a header.
    pub(crate) fn expects_raw_token(&self, connection: ConnectionId) -> bool {
        matches!(self.phase(connection), Some(Phase::Exchange { is_raw: true, .. }))
    }

    /// Whether the connection is to be closed after what it is sent now.
    pub(crate) fn is_refused(&self, connection: ConnectionId) -> bool {
        matches!(self.phase(connection), Some(Phase::Refused))
    }

    /// Decides about a request before it is decoded.
    pub(crate) fn admit(&mut self, now: Instant, connection: ConnectionId, key: ApiKey) -> Admission {
        let Some(session) = self.sessions.get_mut(&connection) else { return Admission::Close };
        match &session.phase {
            Phase::Start if key == ApiKey::ApiVersions => Admission::Handle,
            Phase::Start | Phase::Versions if key == ApiKey::SaslHandshake => Admission::Handle,
            Phase::Exchange { .. } if key == ApiKey::SaslAuthenticate => Admission::Handle,
            Phase::Exchange { .. } => {
                session.phase = Phase::Refused;
                Admission::Refuse(ErrorCode::ILLEGAL_SASL_STATE)
            }
            Phase::Authenticated { until, .. }
                if key == ApiKey::SaslHandshake || until.is_none_or(|until| now < until) =>
            {
                Admission::Handle
            }
            _ => Admission::Close,
        }
    }

    /// Notes that the client got the broker's versions, which it may ask for only once.
    pub(crate) fn handle_versions(&mut self, connection: ConnectionId) {
        if let Some(session) = self.sessions.get_mut(&connection)
            && matches!(session.phase, Phase::Start)
        {
            session.phase = Phase::Versions;
        }
    }

    /// The client names its mechanism.
    pub(crate) fn handle_handshake(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        name: &str,
        version: i16,
    ) -> ErrorCode {
        let Some(session) = self.sessions.get_mut(&connection) else { return ErrorCode::ILLEGAL_SASL_STATE };
        let previous = match &session.phase {
            // A session without an end is never renewed.
            Phase::Authenticated { until: None, .. } => return ErrorCode::ILLEGAL_SASL_STATE,
            Phase::Authenticated { identity, .. } => Some(identity.clone()),
            _ => None,
        };
        if previous.is_some() {
            if session.renewed.is_some_and(|renewed| now.since(renewed) < MIN_INTERVAL) {
                return ErrorCode::ILLEGAL_SASL_STATE;
            }
            session.renewed = Some(now);
        }
        let found = SaslMechanism::from_name(name).filter(|mechanism| self.config.mechanisms.contains(mechanism));
        let Some(mechanism) = found else {
            session.phase = Phase::Refused;
            return ErrorCode::UNSUPPORTED_SASL_MECHANISM;
        };
        let exchange = match mechanism {
            SaslMechanism::Plain => Exchange::Plain,
            SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512 => Exchange::Scram(scram::Server::new(mechanism)),
            SaslMechanism::OAuthBearer => Exchange::OAuthBearer(oauthbearer::Server::default()),
        };
        session.phase = match previous {
            Some(identity) if identity.mechanism != mechanism => Phase::OtherMechanism,
            previous => Phase::Exchange { mechanism, exchange, is_raw: version == 0, previous },
        };
        ErrorCode::NONE
    }

    /// The client's next token.
    pub(crate) fn handle_token(
        &mut self,
        now: Instant,
        wall_clock_ms: i64,
        connection: ConnectionId,
        token: &[u8],
        random: [u64; 2],
    ) -> Reply {
        let illegal = Reply { error_code: ErrorCode::ILLEGAL_SASL_STATE, ..Reply::default() };
        let Some(session) = self.sessions.get_mut(&connection) else { return illegal };
        let next = match &mut session.phase {
            Phase::Exchange { exchange: Exchange::Plain, .. } => plain::check(&self.config.passwords, token),
            Phase::Exchange { exchange: Exchange::OAuthBearer(server), .. } => {
                server.handle_token(wall_clock_ms, token)
            }
            Phase::Exchange { exchange: Exchange::Scram(server), mechanism, .. } => {
                let keys = |user: &str| {
                    let password = self.config.passwords.get(user)?;
                    let made = || scram::Keys::new(*mechanism, password, random);
                    Some(self.scram_keys.entry((*mechanism, user.to_owned())).or_insert_with(made).clone())
                };
                server.handle_token(token, keys, random)
            }
            _ => return illegal,
        };
        match next {
            Ok(Step::Continue(token)) => Reply { token, ..Reply::default() },
            Ok(Step::Done { user, token, expires_at_ms }) => {
                let expires_in_ms = expires_at_ms.map(|expires_at_ms| expires_at_ms.saturating_sub(wall_clock_ms));
                let max_session =
                    self.config.max_session.map(|most| i64::try_from(most.as_millis()).unwrap_or(i64::MAX));
                let lifetime_ms = expires_in_ms.into_iter().chain(max_session).min().map(|most| most.max(0));
                session.complete(now, user, token, lifetime_ms)
            }
            Err(refusal) => session.refuse(refusal),
        }
    }
}

impl Session {
    fn complete(&mut self, now: Instant, user: String, token: Vec<u8>, lifetime_ms: Option<i64>) -> Reply {
        let Phase::Exchange { mechanism, previous, .. } = &self.phase else { return Reply::default() };
        if let Some(previous) = previous.as_ref().filter(|previous| previous.user != user) {
            let reason =
                format!("Cannot change principals during re-authentication from User.{}: User.{user}", previous.user);
            return self.refuse(Refusal::Because(reason));
        }
        let until = lifetime_ms.map(|most| now + Duration::from_millis(most.unsigned_abs()));
        self.phase = Phase::Authenticated { identity: Identity { mechanism: *mechanism, user }, until };
        Reply { token, session_lifetime_ms: lifetime_ms.unwrap_or(0), ..Reply::default() }
    }

    fn refuse(&mut self, refusal: Refusal) -> Reply {
        let reason = match (refusal, &self.phase) {
            (Refusal::Because(reason), _) => reason,
            (Refusal::Unsaid, Phase::Exchange { mechanism, previous, .. }) => {
                let what = if previous.is_some() { "re-authentication" } else { "authentication" };
                let name = mechanism.name();
                format!("Authentication failed during {what} due to invalid credentials with SASL mechanism {name}")
            }
            (Refusal::Unsaid, _) => "Authentication failed".to_owned(),
        };
        self.phase = Phase::Refused;
        Reply { error_code: ErrorCode::SASL_AUTHENTICATION_FAILED, error_message: Some(reason), ..Reply::default() }
    }
}
