//! A member of a classic group, and the request of it that waits.

use std::time::Duration;

use bytes::Bytes;
use kavka_core::time::Instant;
use kavka_core::wire::error_code::ErrorCode;

use super::{refused_join, refused_sync};
use crate::ConnectionId;
use crate::waits::Wakes;

/// What a member waits for, and on which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    No,
    /// `JoinGroup`, until all members have joined.
    Join(ConnectionId),
    /// `SyncGroup`, until the leader has sent the assignments.
    Sync(ConnectionId),
}

/// One member of the group.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) group_instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) assignment: Bytes,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) waits: Waits,
    /// Whether it has asked for its assignment in this generation.
    pub(crate) has_synced: bool,
    /// When its session ends without a heartbeat.
    pub(crate) expires: Instant,
}

impl Member {
    pub(crate) fn metadata(&self, protocol_name: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol_name).map(|(_, data)| data.clone()).unwrap_or_default()
    }

    pub(crate) fn supports(&self, protocol_name: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol_name)
    }

    pub(crate) fn is_joining(&self) -> bool {
        matches!(self.waits, Waits::Join(_))
    }

    /// Answers its pending `SyncGroup`, if any, with an error.
    pub(crate) fn end_sync(&mut self, error_code: ErrorCode, wakes: &mut Wakes) {
        if let Waits::Sync(connection) = self.waits {
            self.waits = Waits::No;
            wakes.sync(connection, refused_sync(error_code));
        }
    }

    /// Answers its pending request, if any, with an error.
    pub(crate) fn refuse(&mut self, member_id: &str, error_code: ErrorCode, wakes: &mut Wakes) {
        self.end_sync(error_code, wakes);
        if let Waits::Join(connection) = self.waits {
            self.waits = Waits::No;
            wakes.join(connection, refused_join(error_code, member_id));
        }
    }

    pub(crate) fn heard_from(&mut self, now: Instant) {
        self.expires = now + self.session_timeout;
    }

    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.waits == Waits::No && self.expires <= now
    }
}
