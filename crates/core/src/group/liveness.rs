//! Whether the coordinator still works while it makes a member wait.
//!
//! `JoinGroup` and `SyncGroup` may wait for as long as the slowest member needs. A coordinator that froze or was
//! replaced meanwhile would let them wait in vain for all that time. So while one of them is in flight the coordinator
//! is also asked for heartbeats, over the connection that all share. If it answers none of them for a while, the member
//! joins again, at whichever broker is the coordinator then.

use std::time::Duration;

use crate::cluster::{Call, Owner};
use crate::error::Result;
use crate::time::Instant;
use crate::wire::messages::HeartbeatRequest;

use super::{InFlight, Member, MemberRequest, MemberResponse, State};

/// The shortest time limit of a heartbeat.
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(1);

/// On a busy machine, a driver may be woken this much later than it asked for.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// When the first heartbeat was in vain, if none was answered since.
    silent_since: Option<Instant>,
    probe_at: Instant,
}

impl Member {
    /// The coordinator keeps a member that it does not hear from for at least this long.
    pub(super) fn session_timeout(&self) -> Duration {
        let configured = self.config.session_timeout;
        self.consumer_group.as_ref().map_or(configured, |group| group.session(configured))
    }

    /// How long the driver sleeps at most: it looks at the application at least this often.
    pub(super) fn longest_pause(&self) -> Duration {
        self.config.heartbeat_interval + LONGEST_DELAY
    }

    /// The time limit of a heartbeat, short enough that after a lost one there is time for others within the session.
    pub(super) fn heartbeat_timeout(&self) -> Duration {
        (self.session_timeout() / 3).max(SHORTEST_HEARTBEAT)
    }

    /// Whether the coordinator makes the member wait.
    pub(super) fn is_waiting_for_others(&self) -> bool {
        self.is_in_flight(InFlight::Join) || self.is_in_flight(InFlight::Sync)
    }

    /// `JoinGroup` is sent now.
    pub(super) fn expect_signs_of_life(&mut self, now: Instant) {
        self.liveness = Liveness { silent_since: None, probe_at: now + self.heartbeat_timeout() };
    }

    /// When the coordinator is to be asked for a sign of life. Members with partitions send real heartbeats anyway.
    pub(super) fn probe_timeout(&self) -> Option<Instant> {
        let is_classic = self.consumer_group.is_none();
        let is_waiting = self.is_waiting_for_others() && !self.must_prove_itself();
        let is_needed = is_classic && is_waiting && !self.is_in_flight(InFlight::Probe);
        is_needed.then_some(self.liveness.probe_at)
    }

    /// Asks the coordinator for a sign of life. What it answers does not matter.
    pub(super) fn probe(&mut self, now: Instant) -> Option<Call<MemberRequest>> {
        self.probe_timeout().filter(|probe_at| *probe_at <= now)?;
        self.liveness.probe_at = now + self.heartbeat_timeout();
        let request = HeartbeatRequest {
            group_id: self.group_id.to_string(),
            generation_id: self.membership.generation_id().unwrap_or(-1),
            member_id: self.membership.member_id().to_owned(),
            group_instance_id: None,
        };
        let timeout = Some(self.heartbeat_timeout());
        let call = self.send(InFlight::Probe, MemberRequest::Heartbeat(request));
        Some(Call { owner: Owner::Control, timeout, ..call })
    }

    pub(super) fn handle_probe(&mut self, now: Instant, response: Result<MemberResponse>) {
        match response {
            Ok(MemberResponse::Heartbeat(answer)) if answer.error_code.moves_coordinator() => self.note_silence(now),
            Ok(_) => self.note_sign_of_life(),
            Err(_) => self.note_silence(now),
        }
    }

    pub(super) fn note_sign_of_life(&mut self) {
        self.liveness.silent_since = None;
    }

    /// A heartbeat was in vain.
    pub(super) fn note_silence(&mut self, now: Instant) {
        let silent_since = *self.liveness.silent_since.get_or_insert(now);
        if now.since(silent_since) >= self.heartbeat_timeout() && self.is_waiting_for_others() {
            self.attempt += 1;
            self.pause(now);
            self.rejoin.get_or_insert("the coordinator fell silent while the member joined");
            self.state = State::Unjoined;
        }
    }
}
