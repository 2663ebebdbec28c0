//! Leaving the group: the coordinator is told, so that it need not wait for `session.timeout.ms`.
//!
//! The request is `LeaveGroup`, or the last heartbeat of the consumer protocol. If it fails in a way that may pass, for
//! instance because the coordinator has moved, it is sent again until the session has expired and the coordinator knows
//! by itself.

use std::time::Duration;

use crate::cluster::{Call, Owner};
use crate::error::{Error, Result};
use crate::time::Instant;
use crate::wire::messages::LeaveGroupResponse;

use super::{InFlight, Leave, Member, MemberRequest, MemberResponse, State};

/// A request that leaves the group and was not answered yet.
#[derive(Debug)]
pub(super) struct PendingLeave {
    request: MemberRequest,
    is_in_flight: bool,
    retry_at: Instant,
    /// When the coordinator knows by itself; counted from the first attempt.
    over_at: Option<Instant>,
}

impl Member {
    /// Leaves the group because of `reason`. A static member keeps its place (KIP-345).
    pub(super) fn leave(&mut self, reason: &'static str) {
        self.attempt += 1;
        self.note_departed();
        self.membership.lose();
        self.rejoin = None;
        let request = match &self.consumer_group {
            Some(_) => self.leaving_heartbeat().map(MemberRequest::ConsumerGroupHeartbeat),
            None => self.leave_classic(reason).map(MemberRequest::Leave),
        };
        if let Some(request) = request {
            let retry_at = Instant::default();
            self.pending_leave = Some(PendingLeave { request, is_in_flight: false, retry_at, over_at: None });
        }
        self.state = match self.is_closing() {
            true if self.pending_leave.is_some() => State::Leaving,
            true => State::Ended,
            false => self.outside(),
        };
    }

    fn leave_classic(&mut self, reason: &'static str) -> Option<Leave> {
        let member_id = self.membership.member_id().to_owned();
        self.membership.forget_name();
        let is_missed = self.membership.group_instance_id().is_none() && !member_id.is_empty();
        is_missed.then_some(Leave { member_id, reason })
    }

    /// The request to send now, so that the member leaves.
    pub(super) fn send_leave(&mut self, now: Instant) -> Option<Call<MemberRequest>> {
        let pending_leave =
            self.pending_leave.as_mut().filter(|pending| !pending.is_in_flight && pending.retry_at <= now)?;
        pending_leave.is_in_flight = true;
        pending_leave.over_at.get_or_insert(now + self.config.session_timeout);
        let request = pending_leave.request.clone();
        let call = self.send(InFlight::Leave, request);
        // A `JoinGroup` may wait on the member's own connection. By the consumer protocol nothing waits, and the
        // heartbeat that leaves must not overtake the one that joins.
        let owner = if self.consumer_group.is_some() { call.owner } else { Owner::Control };
        Some(Call { owner, ..call })
    }

    pub(super) fn leave_timeout(&self) -> Option<Instant> {
        self.pending_leave.as_ref().filter(|pending| !pending.is_in_flight).map(|pending| pending.retry_at)
    }

    /// Handles the answer to that request, or that there was none.
    pub(super) fn handle_left(&mut self, now: Instant, response: Result<MemberResponse>) {
        // Otherwise the member has joined again since, or another request that leaves is to be sent.
        let still_leaves = self.pending_leave.as_mut().filter(|pending| pending.is_in_flight);
        let Some(pending_leave) = still_leaves else { return };
        let error = match response {
            Ok(MemberResponse::Leave(response)) => refusal(&response),
            Ok(MemberResponse::ConsumerGroupHeartbeat(response)) => Error::from_code(response.error_code),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        let retry_at = now + self.backoff.delay(1, &mut self.random).max(Duration::from_millis(1));
        let is_in_vain = error.is_some_and(|error| error.is_retriable());
        if is_in_vain && pending_leave.over_at.is_some_and(|over_at| retry_at < over_at) {
            (pending_leave.is_in_flight, pending_leave.retry_at) = (false, retry_at);
            return;
        }
        self.pending_leave = None;
        if matches!(self.state, State::Leaving) {
            self.state = State::Ended;
        }
    }
}

/// Why the coordinator did not let the member go, if it did not.
fn refusal(response: &LeaveGroupResponse) -> Option<Error> {
    let codes = response.members.iter().map(|member| member.error_code);
    [response.error_code].into_iter().chain(codes).find_map(Error::from_code)
}
