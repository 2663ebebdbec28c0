//! The handshake: what a connection does before it takes requests.
//!
//! 1. The client asks for the broker's versions with the newest `ApiVersions` it knows. A broker that does not support
//!    that version refuses and names its own newest one, and the client asks again with it (KIP-35, KIP-511). One that
//!    does not have `ApiVersions` closes the connection or says nothing, and [`old_broker`](super::old_broker) takes
//!    over.
//! 2. With credentials, it names its SASL mechanism in `SaslHandshake`, and the broker lists those that it accepts.
//! 3. The two exchange the mechanism's messages in `SaslAuthenticate` (KIP-152), or bare, if the broker is too old for
//!    that request.
//!
//! A broker may limit the session (KIP-368). Before it ends, the client does steps 2 and 3 again on the same
//! connection. Answers to earlier requests may still arrive meanwhile, but no other request may be sent until that is
//! complete.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::sasl::{Credentials, Mechanism, Move, Work, Worked};
use crate::error::{Error, ErrorKind, Hint, Place, Result, printable_reason};
use crate::link::old_broker::{Greeting, Next, OldBroker, Probe, Snub};
use crate::link::versions::ApiVersions;
use crate::time::Instant;
use crate::wire::api::ApiKey;
use crate::wire::error_code::ErrorCode;
use crate::wire::message::{AnyRequest, Message};
use crate::wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
    SaslHandshakeResponse,
};

/// Between two requests for new credentials, while none come.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A broker that is asked to authenticate a connection again sooner than this after the last time says
/// `ILLEGAL_SASL_STATE` (KIP-368).
const NOT_BEFORE: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Stage {
    /// `ApiVersions` was sent in the newest version.
    Versions,
    /// The broker refused that version; `ApiVersions` was sent again in a version it named.
    VersionsAgain,
    /// An API was asked for that the broker may not have.
    Probing(Probe),
    /// `SaslHandshake` was sent for this exchange.
    Offer(Box<dyn Mechanism>),
    /// The driver is to make the next step of the exchange.
    Step(Work),
    /// The driver makes that step.
    Working,
    /// The client's message was sent; the broker's is awaited.
    Sent(Box<dyn Mechanism>),
    /// Requests may be sent.
    Ready,
}

/// How long the broker accepts requests without a new authentication.
#[derive(Debug)]
struct Session {
    /// When to ask for new credentials, or to ask again.
    ask_at: Instant,
    ends_at: Instant,
}

/// The progress of the handshake.
#[derive(Debug)]
pub(super) struct Handshake {
    stage: Stage,
    /// What the broker supports, once known.
    versions: Option<ApiVersions>,
    credentials: Option<Credentials>,
    /// The name of the SASL mechanism; `None` without SASL.
    mechanism: Option<&'static str>,
    /// The share of a session after which new credentials are asked for.
    session_percent: u32,
    /// How long the session lasts by the broker's last message, counted from when the client's message was sent.
    lifetime: Option<(Instant, Duration)>,
    session: Option<Session>,
    /// When the present authentication began; `None` for the first one.
    again_since: Option<Instant>,
}

/// The next message of the handshake, which may be credentials.
pub(super) enum Step {
    /// A request, and the version to send it in.
    Request(Box<dyn AnyRequest>, i16),
    /// A SASL message without a header.
    Bare(Zeroizing<Vec<u8>>),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(request, version) => write!(f, "Request({}, {version})", request.key().name()),
            Self::Bare(_) => f.write_str("Bare(***)"),
        }
    }
}

impl Handshake {
    /// The first stage and its request; `None` if the handshake is complete. With credentials, it always begins with
    /// the versions: brokers without `ApiVersions` could not take them, and nothing may be sent without them.
    pub(super) fn begin(
        greeting: Greeting,
        credentials: Option<Credentials>,
        session_percent: u32,
    ) -> (Self, Option<Step>) {
        let greeting = if credentials.is_some() { Greeting::Versions } else { greeting };
        let mut handshake = Self {
            stage: Stage::Versions,
            versions: None,
            mechanism: credentials.as_ref().map(|credentials| credentials.mechanism().name()),
            credentials,
            session_percent,
            lifetime: None,
            session: None,
            again_since: None,
        };
        let step = match greeting {
            Greeting::Versions => Some(ask_versions()),
            Greeting::Probe(snub) => {
                let (probe, step) = Probe::begin(snub);
                handshake.stage = Stage::Probing(probe);
                Some(step)
            }
            Greeting::Old(broker) => {
                handshake.be_ready(broker.versions());
                None
            }
        };
        (handshake, step)
    }

    fn be_ready(&mut self, versions: ApiVersions) {
        self.versions = Some(versions);
        self.stage = Stage::Ready;
    }

    /// How to begin on another connection, after the broker has closed this one; `None`: in the same way.
    ///
    /// A connection with credentials is for brokers that have `ApiVersions`: those before Kafka 0.10 have no
    /// `SaslHandshake` either.
    pub(super) fn after_hang_up(&self) -> Option<Greeting> {
        match self.stage {
            Stage::Versions if self.mechanism.is_none() => Some(Greeting::Probe(Snub::HungUp)),
            Stage::Probing(Probe::ListGroups(_)) => Some(Greeting::Old(OldBroker::V0_8_2)),
            Stage::Versions
            | Stage::VersionsAgain
            | Stage::Probing(Probe::ListOffsets(_))
            | Stage::Offer(_)
            | Stage::Step(_)
            | Stage::Working
            | Stage::Sent(_)
            | Stage::Ready => None,
        }
    }

    /// Whether requests may be sent.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready)
    }

    /// When the re-authentication under way began.
    pub(super) fn again_since(&self) -> Option<Instant> {
        self.again_since
    }

    /// The versions that the broker supports, once the first handshake is complete.
    pub(super) fn versions(&self) -> Option<&ApiVersions> {
        self.versions.as_ref().filter(|_| self.is_ready() || self.again_since.is_some())
    }

    /// Whether the response to this API belongs to the handshake.
    pub(super) fn awaits(&self, key: ApiKey) -> bool {
        match self.stage {
            Stage::Versions | Stage::VersionsAgain => key == ApiKey::ApiVersions,
            Stage::Probing(Probe::ListOffsets(_)) => key == ApiKey::ListOffsets,
            Stage::Probing(Probe::ListGroups(_)) => key == ApiKey::ListGroups,
            Stage::Offer(_) => key == ApiKey::SaslHandshake,
            Stage::Sent(_) => key == ApiKey::SaslAuthenticate,
            Stage::Step(_) | Stage::Working | Stage::Ready => false,
        }
    }

    /// Takes the response to the last message, which was sent at `sent_at`, in `version`; `None` for a bare one.
    /// Returns the next message, if there is one to send at once.
    pub(super) fn handle_answer(
        &mut self,
        sent_at: Instant,
        version: Option<i16>,
        body: Bytes,
    ) -> Result<Option<Step>> {
        match std::mem::replace(&mut self.stage, Stage::Working) {
            stage @ (Stage::Versions | Stage::VersionsAgain) => {
                self.handle_versions(matches!(stage, Stage::Versions), version.unwrap_or(0), body)
            }
            Stage::Probing(probe) => self.handle_probe(probe, body),
            Stage::Offer(mechanism) => self.handle_offer(mechanism, version.unwrap_or(0), body).map(|()| None),
            Stage::Sent(mechanism) => self.handle_message(mechanism, sent_at, version, body).map(|()| None),
            stage @ (Stage::Step(_) | Stage::Working | Stage::Ready) => {
                self.stage = stage;
                Ok(None)
            }
        }
    }

    fn handle_probe(&mut self, probe: Probe, body: Bytes) -> Result<Option<Step>> {
        Ok(match probe.handle_answer(body)? {
            Next::Probe(probe, step) => {
                self.stage = Stage::Probing(probe);
                Some(step)
            }
            Next::Versions => {
                self.stage = Stage::Versions;
                Some(ask_versions())
            }
            Next::Ready(versions) => {
                self.be_ready(versions);
                None
            }
        })
    }

    fn handle_versions(&mut self, is_first: bool, version: i16, body: Bytes) -> Result<Option<Step>> {
        // A broker that does not support the version answers in version 0.
        let refused = body.get(..2) == Some(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes()[..]);
        let version = if refused { 0 } else { version };
        let response = ApiVersionsResponse::decode_exact(version, body)?;
        if refused && is_first {
            let own = response.api_keys.iter().find(|api| api.api_key == ApiKey::ApiVersions.number());
            let newest = own.map_or(0, |api| api.max_version.clamp(0, ApiVersionsRequest::MAX_VERSION));
            self.stage = Stage::VersionsAgain;
            return Ok(Some(Step::Request(Box::new(versions_request()), newest)));
        }
        if let Some(error) = Error::from_code(response.error_code) {
            return Err(error.at(Place { api: Some(("ApiVersions", version)), ..Place::default() }));
        }
        let versions = ApiVersions::new(&response);
        if versions.is_empty() {
            return Err(Error::new(ErrorKind::Unsupported, "the broker's list of supported APIs is empty"));
        }
        self.versions = Some(versions);
        let Some(credentials) = self.credentials.take() else {
            self.stage = Stage::Ready;
            return Ok(None);
        };
        self.name_mechanism(credentials).map(Some)
    }

    /// Version 1 of `SaslHandshake` announces `SaslAuthenticate` requests, version 0 bare messages.
    fn name_mechanism(&mut self, credentials: Credentials) -> Result<Step> {
        let newest = if self.is_bare() { 0 } else { SaslHandshakeRequest::MAX_VERSION };
        let versions = self.versions.clone().unwrap_or_default();
        let version = versions.choose(ApiKey::SaslHandshake, (0, newest)).map_err(|error| {
            Error::new(ErrorKind::Authentication, "the broker does not know SASL")
                .with_source(error)
                .with_hint(Hint::LeaveOutSasl)
        })?;
        let mechanism = credentials.mechanism().name();
        self.mechanism = Some(mechanism);
        self.stage = Stage::Offer(credentials.begin());
        Ok(Step::Request(Box::new(SaslHandshakeRequest { mechanism: mechanism.into() }), version))
    }

    /// Whether the broker is too old to take SASL messages in requests.
    fn is_bare(&self) -> bool {
        self.versions.as_ref().is_none_or(|versions| versions.choose(ApiKey::SaslAuthenticate, (0, 2)).is_err())
    }

    fn handle_offer(&mut self, mechanism: Box<dyn Mechanism>, version: i16, body: Bytes) -> Result<()> {
        let response = SaslHandshakeResponse::decode_exact(version, body)?;
        let name = self.mechanism.unwrap_or_default();
        let code = response.error_code;
        if code == ErrorCode::ILLEGAL_SASL_STATE && self.again_since.is_some() {
            // It has SASL, as it has taken credentials before: on a new connection it will do so again.
            let what = "the broker does not let the connection authenticate itself again";
            return Err(Error::new(ErrorKind::Disconnected, what));
        }
        if code == ErrorCode::ILLEGAL_SASL_STATE {
            let what = format!("the broker does not use SASL on this port ({name} was asked for)");
            return Err(unauthenticated(what, code).with_hint(Hint::LeaveOutSasl));
        }
        if let Some(error) = Error::from_code(code).filter(|_| code != ErrorCode::UNSUPPORTED_SASL_MECHANISM) {
            return Err(error);
        }
        let is_listed = response.mechanisms.iter().any(|listed| listed == name);
        if code != ErrorCode::NONE || !is_listed {
            let list = if response.mechanisms.is_empty() { "none".into() } else { response.mechanisms.join(", ") };
            let what =
                format!("the broker does not accept the SASL mechanism {name}, only: {}", printable_reason(&list));
            let code = ErrorCode::UNSUPPORTED_SASL_MECHANISM;
            return Err(unauthenticated(what, code).with_hint(Hint::ChooseMechanism));
        }
        self.stage = Stage::Step(Work { mechanism, message: Bytes::new() });
        Ok(())
    }

    fn handle_message(
        &mut self,
        mechanism: Box<dyn Mechanism>,
        sent_at: Instant,
        version: Option<i16>,
        body: Bytes,
    ) -> Result<()> {
        let message = match version {
            None => body,
            Some(version) => {
                let response = SaslAuthenticateResponse::decode_exact(version, body)?;
                let name = self.mechanism.unwrap_or_default();
                if response.error_code == ErrorCode::SASL_AUTHENTICATION_FAILED {
                    return Err(refused(name, &*mechanism, response.error_message.as_deref()));
                }
                if let Some(error) = Error::from_code(response.error_code) {
                    return Err(error);
                }
                let lifetime = u64::try_from(response.session_lifetime_ms).unwrap_or(0);
                self.lifetime = (lifetime > 0).then(|| (sent_at, Duration::from_millis(lifetime)));
                response.auth_bytes
            }
        };
        self.stage = Stage::Step(Work { mechanism, message });
        Ok(())
    }

    /// The next step of the exchange, if it is the driver's turn.
    pub(super) fn poll_work(&mut self) -> Option<Work> {
        match std::mem::replace(&mut self.stage, Stage::Working) {
            Stage::Step(work) => Some(work),
            stage => {
                self.stage = stage;
                None
            }
        }
    }

    /// Takes the outcome of a step. Returns the message to send, if the exchange goes on.
    pub(super) fn handle_worked(&mut self, Worked { mechanism, outcome }: Worked) -> Result<Option<Step>> {
        let Move::Send(message) = outcome? else {
            self.stage = Stage::Ready;
            self.again_since = None;
            self.session = self.lifetime.take().map(|(since, lifetime)| Session {
                ask_at: since + (lifetime.saturating_mul(self.session_percent) / 100).max(NOT_BEFORE),
                ends_at: since + lifetime,
            });
            return Ok(None);
        };
        let versions = self.versions.as_ref().filter(|_| !self.is_bare());
        let newest = SaslAuthenticateRequest::MAX_VERSION;
        let step = match versions.and_then(|versions| versions.choose(ApiKey::SaslAuthenticate, (0, newest)).ok()) {
            Some(version) => {
                let auth_bytes = Bytes::from_owner(message);
                Step::Request(Box::new(SaslAuthenticateRequest { auth_bytes }), version)
            }
            None => Step::Bare(message),
        };
        self.stage = Stage::Sent(mechanism);
        Ok(Some(step))
    }

    /// Begins to authenticate again.
    pub(super) fn reauthenticate(&mut self, now: Instant, credentials: Credentials) -> Result<Step> {
        self.again_since = Some(now);
        self.name_mechanism(credentials)
    }

    /// Whether new credentials are wanted now. While none come, they are asked for again.
    pub(super) fn poll_reauthentication(&mut self, now: Instant) -> bool {
        let is_ready = self.is_ready();
        let Some(session) = self.session.as_mut().filter(|session| is_ready && session.ask_at <= now) else {
            return false;
        };
        session.ask_at = now + (session.ends_at.since(now) / 2).max(ASK_AGAIN);
        true
    }

    /// When new credentials are wanted, and when the session ends; `None` if it does not, or ends during an
    /// authentication.
    pub(super) fn session(&self) -> Option<(Instant, Instant)> {
        self.session.as_ref().filter(|_| self.is_ready()).map(|session| (session.ask_at, session.ends_at))
    }

    /// Whether the broker refuses credentials by closing the connection, and has been given some.
    pub(super) fn may_be_refused(&self) -> bool {
        matches!(self.stage, Stage::Sent(_)) && self.is_bare()
    }

    /// What may be the reason if the broker closes the connection now, before it has answered a request. Whether it has
    /// spoken on an earlier connection matters, too.
    pub(super) fn why_closed(&self, has_spoken: bool) -> Option<Hint> {
        match self.stage {
            Stage::Versions if !has_spoken => Some(Hint::MayRequireTlsOrSasl),
            Stage::Sent(_) if self.may_be_refused() => Some(Hint::Text(
                "it closed during the authentication, as brokers before 1.0 do if the credentials are wrong",
            )),
            Stage::Ready if self.mechanism.is_none() => Some(Hint::MayRequireSasl),
            _ => None,
        }
    }
}

/// The error for `SASL_AUTHENTICATION_FAILED`.
fn refused(name: &str, mechanism: &dyn Mechanism, message: Option<&str>) -> Error {
    let shown =
        |words: &str| printable_reason(&mechanism.secret().map_or(words.into(), |secret| secret.hide_in(words)));
    // The complaint is what the mechanism would show.
    let complaint = mechanism.complaint().map(str::to_owned);
    let message = message.map(shown).filter(|message| Some(message) != complaint.as_ref());
    let words = [complaint, message].into_iter().flatten().filter(|words| !words.is_empty());
    let words = words.collect::<Vec<_>>().join("; ");
    let words = if words.is_empty() { "it gives no reason".into() } else { words };
    let what = format!("the broker refused the credentials for SASL {name}: {words}");
    unauthenticated(what, ErrorCode::SASL_AUTHENTICATION_FAILED)
}

/// An error of the authentication, with what the broker's answer means as its cause.
fn unauthenticated(what: String, code: ErrorCode) -> Error {
    let error = Error::new(ErrorKind::Authentication, what);
    Error::from_code(code).into_iter().fold(error, Error::with_source)
}

fn ask_versions() -> Step {
    Step::Request(Box::new(versions_request()), ApiVersionsRequest::MAX_VERSION)
}

/// Asks for the broker's versions.
pub(super) fn versions_request() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "kavka".into(),
        client_software_version: env!("CARGO_PKG_VERSION").into(),
        ..ApiVersionsRequest::default()
    }
}
