//! A request on a connection, and what can come of it.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Phase, Place};
use crate::time::Instant;
use crate::wire::api::ApiKey;

/// How long a connection on which requests wait may be silent before its broker is checked elsewhere: a third of the
/// longest time limit, but within these bounds.
const SILENCE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(5);

/// Names a request; chosen by its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// How to send one request.
#[derive(Debug, Clone, Copy)]
pub struct SendOptions {
    /// The oldest version to use.
    pub min_version: i16,
    /// The newest version to use.
    pub max_version: i16,
    /// Whether the broker sends a response. It sends none to a produce request with `acks=0`.
    pub is_answered: bool,
    /// How long the request may wait while nothing is answered on its connection.
    pub limit: Duration,
    /// Whether it may fail earlier because its broker seems dead. Its sender must bear that the broker executes it
    /// after all.
    pub may_fail_early: bool,
}

/// A broker's response.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The request it answers.
    pub id: RequestId,
    /// The API of the request.
    pub key: ApiKey,
    /// The version of the request and the response.
    pub version: i16,
    /// The body of the response, without its header. Empty for a request that the broker does not answer.
    pub body: Bytes,
}

/// A request that will not be answered any more.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The request.
    pub id: RequestId,
    /// Why. [`Error::written`] says whether the broker may have executed it.
    pub error: Error,
}

/// A request on its way, as its connection remembers it.
#[derive(Debug)]
pub(super) struct InFlight {
    /// `None` if nobody waits for the response: it is part of the handshake, a probe, or has expired.
    pub(super) id: Option<RequestId>,
    pub(super) key: ApiKey,
    pub(super) version: i16,
    /// `None` for a SASL message without a header.
    pub(super) correlation_id: Option<i32>,
    pub(super) limit: Duration,
    pub(super) may_fail_early: bool,
    pub(super) queued_at: Instant,
    /// Its position in the stream of all bytes sent: if the stream did not get that far, nothing of it was written.
    pub(super) starts_at: u64,
    /// Where the next one starts.
    pub(super) ends_at: u64,
}

impl InFlight {
    /// How long nothing may be heard while it waits, before its broker is checked.
    pub(super) fn longest_silence(&self) -> Duration {
        // If an overloaded coordinator were given up, all its members would join again at once.
        let patience = if matches!(self.key, ApiKey::JoinGroup | ApiKey::SyncGroup) { 3 } else { 1 };
        (self.limit / 3).clamp(*SILENCE.start(), *SILENCE.end() * patience)
    }
}

/// The error of a request whose time is up.
pub(super) fn no_response(place: &Place, request: &InFlight) -> Error {
    let place = Place { api: Some((request.key.name(), request.version)), ..place.clone() };
    Error::new(ErrorKind::TimedOut(Phase::Request), format!("no response for {:?}", request.limit)).at(place)
}
