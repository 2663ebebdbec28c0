//! Requests that are not answered yet.
//!
//! A request that has no answer at once becomes a [`Wait`], which its connection keeps. Whoever can end it names the
//! connection in [`Wakes`]: a partition that got records, or a group that has an answer for a member. Time ends the
//! others. So there is one place to look at for everything that waits, and one to ask for what goes on.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use kavka_core::time::Instant;
use kavka_core::wire::messages::{JoinGroupResponse, SyncGroupResponse};

use crate::ConnectionId;
use crate::apis::fetch;

/// What a request waits for.
#[derive(Debug)]
pub(crate) enum Wait {
    /// A fetch, for records of its partitions or the end of its time.
    Records(Box<fetch::Waiting>),
    /// A join, for the other members of the group.
    Join,
    /// A sync, for the assignment that the group's leader brings.
    Sync,
    /// A fault holds the answer back until this time.
    Until(Instant, Vec<Bytes>),
    /// A fault swallowed the answer: the connection is never read again.
    Forever,
}

impl Wait {
    /// When the connection must be looked at again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Records(waiting) => Some(waiting.deadline),
            Self::Until(until, _) => Some(*until),
            Self::Join | Self::Sync | Self::Forever => None,
        }
    }
}

/// Something for a request that waits.
#[derive(Debug)]
pub(crate) enum Wake {
    /// A partition of a fetch changed: there may be an answer now.
    LookAgain,
    /// The answer to a join.
    Join(JoinGroupResponse),
    /// The answer to a sync.
    Sync(SyncGroupResponse),
}

/// Connections whose request need not wait any longer.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    look_again: BTreeSet<ConnectionId>,
    answers: VecDeque<(ConnectionId, Wake)>,
}

impl Wakes {
    /// The fetches of these connections should look again.
    pub(crate) fn look_again(&mut self, connections: impl IntoIterator<Item = ConnectionId>) {
        self.look_again.extend(connections);
    }

    /// A join is answered.
    pub(crate) fn join(&mut self, connection: ConnectionId, response: JoinGroupResponse) {
        self.answers.push_back((connection, Wake::Join(response)));
    }

    /// A sync is answered.
    pub(crate) fn sync(&mut self, connection: ConnectionId, response: SyncGroupResponse) {
        self.answers.push_back((connection, Wake::Sync(response)));
    }

    /// The next connection, and what it gets.
    pub(crate) fn pop(&mut self) -> Option<(ConnectionId, Wake)> {
        let look_again = self.look_again.pop_first().map(|connection| (connection, Wake::LookAgain));
        look_again.or_else(|| self.answers.pop_front())
    }

    /// The connection is gone.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.look_again.remove(&connection);
        self.answers.retain(|(waiting, _)| *waiting != connection);
    }
}
