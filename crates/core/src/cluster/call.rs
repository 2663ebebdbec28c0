//! One request to a broker, in the form in which every machine and every plain call hands it to the driver.
//!
//! A [`Call`] tells the driver all it needs to know to send the request: the broker ([`Target`]), the connection
//! ([`Owner`]), the newest usable version and the time limit. The driver does not look into the body.

use std::sync::Arc;
use std::time::Duration;

/// Which broker a request goes to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Any broker, or a bootstrap server if none is known.
    Any,
    /// The broker that handles administrative requests.
    Controller,
    /// The broker with this id.
    Broker(i32),
    /// The broker that coordinates this group or this transactional id.
    Coordinator(Arc<str>, CoordinatorKind),
}

/// What a coordinator is responsible for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoordinatorKind {
    /// The members and committed offsets of a group.
    Group,
    /// The transactions of a producer.
    Transaction,
}

impl CoordinatorKind {
    /// The coordinator's `key_type` in `FindCoordinator`.
    pub fn key_type(self) -> i8 {
        match self {
            Self::Group => 0,
            Self::Transaction => 1,
        }
    }
}

/// Which of the client's connections to a broker a request uses.
///
/// A broker answers the requests on one connection strictly in order. A request that the broker may hold for a while (a
/// long-polling fetch, a join) therefore gets a connection of its own, so that it delays nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The client's own: metadata, offsets, administration.
    Control,
    /// One producer machine, by its number among those of the client.
    Produce(u64),
    /// One consumer, by its number in the client.
    Fetch(u64),
    /// One group member or transactional producer, by its number in the client.
    Coordinator(u64),
    /// The checks whether a broker that is silent on another connection still works. They never wait for anything.
    Check,
}

/// The time limit of one attempt if `left` remains for all of them: half, so that a second attempt has time on a new
/// connection if the first turns out to be dead, but at least a second. (`request.timeout.ms` limits it, too.)
pub fn limit_of_one_attempt(left: Duration) -> Duration {
    (left / 2).max(Duration::from_secs(1))
}

/// A request, and how to send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<B> {
    /// Identifies the request when its response is handed back to the machine that sent it; 0 if no machine did.
    pub id: u64,
    /// The broker to send it to.
    pub target: Target,
    /// The connection to send it on.
    pub owner: Owner,
    /// The oldest version to use: the request is refused, with `Unsupported`, if the broker supports only older ones.
    pub min_version: i16,
    /// The newest version to use: lower than the negotiated one if the body lacks fields that newer versions require.
    pub max_version: i16,
    /// Whether the broker sends a response. It sends none to a produce request with `acks=0`.
    pub is_answered: bool,
    /// How long to wait for the response; `None`: `request.timeout.ms`.
    pub timeout: Option<Duration>,
    /// Whether it may fail before its time is up because the broker seems dead. Its sender must bear that the broker
    /// executes it after all.
    pub may_fail_early: bool,
    /// How many attempts in a row have failed. With [`Target::Any`] it decides how long one broker may stay silent
    /// before the next one is asked.
    pub failures: u32,
    /// The request itself.
    pub body: B,
}

impl<B> Call<B> {
    /// A request on the client's control connection, with the default limits.
    pub fn new(target: Target, body: B) -> Self {
        let (owner, min_version, max_version) = (Owner::Control, 0, i16::MAX);
        let (is_answered, timeout, may_fail_early, failures) = (true, None, true, 0);
        Self { id: 0, target, owner, min_version, max_version, is_answered, timeout, may_fail_early, failures, body }
    }

    /// Splits off the body.
    pub fn take_body(self) -> (Call<()>, B) {
        let Self { id, target, owner, min_version, max_version, is_answered, timeout, may_fail_early, failures, body } =
            self;
        let body_less = Call {
            id,
            target,
            owner,
            min_version,
            max_version,
            is_answered,
            timeout,
            may_fail_early,
            failures,
            body: (),
        };
        (body_less, body)
    }

    /// The same call with another body.
    pub fn with_body<C>(self, body: C) -> Call<C> {
        let Self {
            id, target, owner, min_version, max_version, is_answered, timeout, may_fail_early, failures, ..
        } = self;
        Call { id, target, owner, min_version, max_version, is_answered, timeout, may_fail_early, failures, body }
    }

    /// The id of the broker it goes to, if the target is one particular broker.
    pub fn broker_id(&self) -> Option<i32> {
        match self.target {
            Target::Broker(id) => Some(id),
            Target::Any | Target::Controller | Target::Coordinator(..) => None,
        }
    }
}
