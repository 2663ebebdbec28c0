//! One request to a broker, as every machine and every plain call asks for it.
//!
//! A [`Call`] says everything that whoever sends it must know: which broker ([`Target`]), on whose connection
//! ([`Owner`]), in which versions, for how long. The body is the machine's own.

use std::sync::Arc;
use std::time::Duration;

/// Which broker a request goes to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Any broker, or a bootstrap server if none is known.
    Any,
    /// The broker that takes administrative requests.
    Controller,
    /// This broker.
    Broker(i32),
    /// The broker that coordinates this group or transactional id.
    Coordinator(Arc<str>, CoordinatorKind),
}

/// What a coordinator looks after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoordinatorKind {
    /// The members and committed offsets of a group.
    Group,
    /// The transactions of a producer.
    Transaction,
}

impl CoordinatorKind {
    /// Its number in `FindCoordinator`.
    pub fn key_type(self) -> i8 {
        match self {
            Self::Group => 0,
            Self::Transaction => 1,
        }
    }
}

/// Whose connection a request takes.
///
/// A broker answers each connection strictly in order, so a request that may wait at the broker must not stand before
/// somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The client's own: metadata, offsets, administration.
    Control,
    /// All producers of the client.
    Produce,
    /// One consumer, by its number in the client.
    Fetch(u64),
    /// One group member or transactional producer, by its number in the client.
    Coordinator(u64),
}

/// A request, and how it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<B> {
    /// Names the request when its answer is handed to the machine that asked; 0 when no machine did.
    pub id: u64,
    /// Which broker it goes to.
    pub target: Target,
    /// Whose connection it takes.
    pub owner: Owner,
    /// The newest version that can carry it, for a request that lacks what newer ones need.
    pub max_version: i16,
    /// Whether the broker answers at all: it does not answer a produce request with `acks=0`.
    pub is_answered: bool,
    /// The limit for the answer; `request.timeout.ms` if there is none.
    pub timeout: Option<Duration>,
    /// How often in a row it was sent in vain. With [`Target::Any`] it decides how long a broker may keep silent before
    /// another one is asked.
    pub failures: u32,
    /// What is asked.
    pub body: B,
}

impl<B> Call<B> {
    /// An ordinary request on the client's own connection.
    pub fn new(target: Target, body: B) -> Self {
        let (owner, max_version) = (Owner::Control, i16::MAX);
        Self { id: 0, target, owner, max_version, is_answered: true, timeout: None, failures: 0, body }
    }

    /// The call without its body, and the body.
    pub fn take_body(self) -> (Call<()>, B) {
        let Self { id, target, owner, max_version, is_answered, timeout, failures, body } = self;
        (Call { id, target, owner, max_version, is_answered, timeout, failures, body: () }, body)
    }

    /// The same call with another body.
    pub fn with_body<C>(self, body: C) -> Call<C> {
        let Self { id, target, owner, max_version, is_answered, timeout, failures, body: _ } = self;
        Call { id, target, owner, max_version, is_answered, timeout, failures, body }
    }

    /// The broker it goes to, if that is one in particular.
    pub fn broker_id(&self) -> Option<i32> {
        match self.target {
            Target::Broker(id) => Some(id),
            Target::Any | Target::Controller | Target::Coordinator(..) => None,
        }
    }
}
