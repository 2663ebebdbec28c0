//! When the member was awake, to know how long an answer may have lain unread.
//!
//! The coordinator starts the session anew when it answers a `JoinGroup` or `SyncGroup`, which may take minutes. A
//! process that was frozen meanwhile (a suspended container, a stopped virtual machine) finds the answer late. The
//! session then counts from the last moment at which the answer was certainly not there yet.

use std::time::Duration;

use crate::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Awake {
    /// The last time at which the driver asked what to send.
    turn: Instant,
    /// The last two turns that had a pause between them so long that the process must have been
    /// frozen. After such a pause the driver may ask what to send before it reads the answers.
    frozen: (Instant, Instant),
}

impl Awake {
    /// The driver asks what to send. It does so at least once in `pause` if it is not frozen.
    pub(super) fn note(&mut self, now: Instant, pause: Duration) {
        if now.since(self.turn) > pause {
            self.frozen = (self.turn, now);
        }
        self.turn = self.turn.max(now);
    }

    /// The time of this turn.
    pub(super) fn now(&self) -> Instant {
        self.turn
    }

    /// The earliest time at which the coordinator may have answered a request of `sent_at`, if the answer is found now.
    pub(super) fn answered_since(&self, sent_at: Instant) -> Instant {
        let (from, to) = self.frozen;
        sent_at.max(if to > sent_at { from } else { self.turn })
    }
}
