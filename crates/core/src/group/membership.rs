//! A member's identity in its group, and the clock of its session.

use std::time::Duration;

use crate::consumer::Membership;
use crate::time::Instant;

/// The member id, the generation, and the session.
#[derive(Debug)]
pub(super) struct State {
    group_instance_id: Option<String>,
    member_id: String,
    generation_id: Option<i32>,
    /// Whether the group is in a later generation, as far as the member knows.
    is_behind: bool,
    /// Since when the session counts: when the last answered heartbeat was sent, or when another request was answered
    /// at the earliest. Not when the answer was found: the process may have been frozen in between.
    heard_at: Instant,
    asked_at: Instant,
    /// When to send the next heartbeat.
    heartbeat_at: Instant,
}

impl State {
    pub(super) fn new(group_instance_id: Option<String>) -> Self {
        let (heard_at, asked_at, heartbeat_at) = Default::default();
        Self {
            group_instance_id,
            member_id: String::new(),
            generation_id: None,
            is_behind: false,
            heard_at,
            asked_at,
            heartbeat_at,
        }
    }

    pub(super) fn member_id(&self) -> &str {
        &self.member_id
    }

    pub(super) fn group_instance_id(&self) -> Option<&String> {
        self.group_instance_id.as_ref()
    }

    pub(super) fn generation_id(&self) -> Option<i32> {
        self.generation_id
    }

    /// Whether it is a member of a generation.
    pub(super) fn is_member(&self) -> bool {
        self.generation_id.is_some()
    }

    /// What its commits carry; `None` if it is in no generation.
    pub(super) fn stamp(&self) -> Option<Membership> {
        Some(Membership {
            generation_id: self.generation_id?,
            member_id: self.member_id.clone(),
            group_instance_id: self.group_instance_id.clone(),
        })
    }

    /// The member has this id.
    pub(super) fn name(&mut self, member_id: String) {
        self.member_id = member_id;
    }

    /// The coordinator no longer knows the member id.
    pub(super) fn forget_name(&mut self) {
        self.member_id.clear();
    }

    /// It joined this generation, at `since` or later.
    pub(super) fn join(&mut self, since: Instant, member_id: String, generation_id: i32, interval: Duration) {
        self.member_id = member_id;
        self.generation_id = Some(generation_id);
        self.is_behind = false;
        self.note_answer(since, interval);
    }

    /// By the consumer protocol: the coordinator answered the heartbeat with this member epoch.
    pub(super) fn confirm(&mut self, member_epoch: i32, interval: Duration) {
        self.generation_id = Some(member_epoch);
        self.note_heartbeat_answer();
        self.heartbeat_at = self.asked_at + interval;
    }

    /// It is no longer in a generation.
    pub(super) fn lose(&mut self) {
        self.generation_id = None;
        self.is_behind = false;
    }

    /// The coordinator says that the group is in a later generation.
    pub(super) fn fall_behind(&mut self) {
        self.is_behind = true;
    }

    /// Whether the group is in a later generation.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// The coordinator answered a request other than a heartbeat, at `since` or later.
    pub(super) fn note_answer(&mut self, since: Instant, interval: Duration) {
        self.heard_at = self.heard_at.max(since);
        self.heartbeat_at = since + interval;
    }

    /// A heartbeat is being sent; the next one is due after `interval`.
    pub(super) fn beat(&mut self, now: Instant, interval: Duration) {
        self.asked_at = now;
        self.heartbeat_at = now + interval;
    }

    /// The coordinator answered the heartbeat.
    pub(super) fn note_heartbeat_answer(&mut self) {
        self.heard_at = self.heard_at.max(self.asked_at);
    }

    /// How much of the session is left if the coordinator does not answer again: that long its partitions are safe.
    pub(super) fn left(&self, now: Instant, session_timeout: Duration) -> Duration {
        if self.is_member() { (self.heard_at + session_timeout).since(now) } else { Duration::ZERO }
    }

    /// The heartbeat failed; sends the next one at this time.
    pub(super) fn beat_again_at(&mut self, at: Instant) {
        self.heartbeat_at = at;
    }

    /// Whether a heartbeat is due.
    pub(super) fn must_beat(&self, now: Instant) -> bool {
        self.is_member() && self.heartbeat_at <= now
    }

    /// Whether the session has expired: the coordinator may have removed the member.
    pub(super) fn has_expired(&self, now: Instant, session_timeout: Duration) -> bool {
        self.is_member() && now.since(self.heard_at) >= session_timeout
    }

    /// When to send the next heartbeat.
    pub(super) fn beats_at(&self) -> Option<Instant> {
        self.is_member().then_some(self.heartbeat_at)
    }

    /// When the session expires if the coordinator does not answer again.
    pub(super) fn expires_at(&self, session_timeout: Duration) -> Option<Instant> {
        self.is_member().then(|| self.heard_at + session_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_found_late_counts_from_when_it_was_asked_for() {
        let (interval, session) = (Duration::from_millis(100), Duration::from_secs(6));
        let mut standing = State::new(None);
        assert_eq!(standing.left(Instant(0), session), Duration::ZERO);
        standing.join(Instant(0), "one".into(), 1, interval);
        standing.beat(Instant(500), interval);
        assert_eq!(standing.left(Instant(500), session), Duration::from_millis(5_500));
        standing.note_heartbeat_answer();
        assert_eq!(standing.left(Instant(500), session), session);
        assert!(standing.has_expired(Instant(10_000), session), "the process was frozen meanwhile");
    }
}
