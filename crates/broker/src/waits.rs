//! Requests that wait for their response.
//!
//! A request that cannot be answered at once becomes a [`Wait`] of its connection. What can end the wait puts the
//! connection into [`Wakes`]: a partition that got records, or a group that has a response for a member. Other waits
//! end by time. So there is one place for everything that waits, and one for everything that can continue.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use kavka_core::time::Instant;
use kavka_core::wire::messages::{JoinGroupResponse, SyncGroupResponse};

use crate::ConnectionId;
use crate::apis::fetch;

/// What a request waits for.
#[derive(Debug)]
pub(crate) enum Wait {
    /// A fetch waits for records of its partitions, or for the end of its time.
    Records(Box<fetch::Waiting>),
    /// A `JoinGroup` waits for the other members.
    Join,
    /// A `SyncGroup` waits for the leader's assignments.
    Sync,
    /// A fault delays the response until this time.
    Until(Instant, Vec<Bytes>),
    /// A fault dropped the response: the connection is never read again.
    Forever,
}

impl Wait {
    /// When to check the connection again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Records(waiting) => Some(waiting.deadline),
            Self::Until(until, _) => Some(*until),
            Self::Join | Self::Sync | Self::Forever => None,
        }
    }
}

/// What a waiting request gets.
#[derive(Debug)]
pub(crate) enum Wake {
    /// A partition of a fetch has changed: check whether it can be answered.
    LookAgain,
    /// The response to a `JoinGroup`.
    Join(JoinGroupResponse),
    /// The response to a `SyncGroup`.
    Sync(SyncGroupResponse),
}

/// Connections whose request need not wait any longer.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    look_again: BTreeSet<ConnectionId>,
    answers: VecDeque<(ConnectionId, Wake)>,
}

impl Wakes {
    /// Makes the fetches of these connections check again.
    pub(crate) fn look_again(&mut self, connections: impl IntoIterator<Item = ConnectionId>) {
        self.look_again.extend(connections);
    }

    /// Answers a `JoinGroup`.
    pub(crate) fn join(&mut self, connection: ConnectionId, response: JoinGroupResponse) {
        self.answers.push_back((connection, Wake::Join(response)));
    }

    /// Answers a `SyncGroup`.
    pub(crate) fn sync(&mut self, connection: ConnectionId, response: SyncGroupResponse) {
        self.answers.push_back((connection, Wake::Sync(response)));
    }

    /// The next connection, and what its request gets.
    pub(crate) fn pop(&mut self) -> Option<(ConnectionId, Wake)> {
        let look_again = self.look_again.pop_first().map(|connection| (connection, Wake::LookAgain));
        look_again.or_else(|| self.answers.pop_front())
    }

    /// Forgets a connection that was closed.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.look_again.remove(&connection);
        self.answers.retain(|(waiting, _)| *waiting != connection);
    }
}
