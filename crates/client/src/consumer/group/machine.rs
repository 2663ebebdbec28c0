//! What the task of a group member does for it (see [`crate::role`]).

use std::sync::Arc;

use kavka_core::cluster::{Call, CoordinatorKind, Metadata, Target};
use kavka_core::consumer::{Done, TopicPartition};
use kavka_core::error::{Error, Result};
use kavka_core::group::{Leave, MemberEvent, MemberRequest, MemberResponse};
use kavka_core::time::Instant;
use kavka_core::wire::messages::leave_group::MemberIdentity;
use kavka_core::wire::messages::{LeaveGroupRequest, LeaveGroupResponse};
use kavka_core::wire::{ApiKey, ErrorCode, Request};

use super::{SharedMember, State};
use crate::consumer::lock;
use crate::driver::Driver;
use crate::offsets::committed_to_topics_in_use;
use crate::role::{PendingResponse, Role, Turn, Wake};

/// The first version of `LeaveGroup` with a list of members (KIP-345).
const LEAVE_IN_A_LIST: i16 = 3;

impl Role for SharedMember {
    type Request = MemberRequest;
    type Response = MemberResponse;

    fn driver(&self) -> &Driver {
        &self.driver
    }

    fn wake(&self) -> &Wake {
        &self.wake
    }

    fn turn(&self, now: Instant, metadata: &Arc<Metadata>, calls: &mut Vec<Call<MemberRequest>>) -> Turn {
        let mut state = self.state();
        let mut look_again = self.look_at_application(now, &mut state);
        state.machine.handle_metadata(metadata);
        let was_idle = state.machine.is_idle();
        calls.extend(std::iter::from_fn(|| state.machine.poll_request(now)));
        if !was_idle && state.machine.is_idle() {
            // From the next look on, a call for records wakes this task.
            look_again = now;
        }
        self.handle_events(&mut state);
        if let Some(due) = state.automatic.due().filter(|_| self.config.enable_auto_commit) {
            // An automatic commit may just have ended, and only then can the next one begin.
            look_again = look_again.min(due);
        }
        // After what was lost is withheld.
        let owns = !state.machine.assignment().is_empty();
        self.consumer.fence(owns.then(|| now + state.machine.session_left(now)));
        let has_ended = state.machine.has_ended() && !state.machine.is_committing();
        let due = state.machine.poll_timeout();
        drop(state);
        self.changed.notify_waiters();
        if has_ended {
            return Turn::Ended;
        }
        Turn::Until(due.map_or(Some(look_again), |due| Some(due.min(look_again))))
    }

    fn send(&self, call: Call<MemberRequest>) -> PendingResponse<MemberResponse> {
        let (call, request) = call.take_body();
        match request {
            MemberRequest::Join(request) => self.ask(call, request, MemberResponse::Join, |answer| answer.error_code),
            MemberRequest::Sync(request) => self.ask(call, request, MemberResponse::Sync, |answer| answer.error_code),
            MemberRequest::Heartbeat(request) => {
                self.ask(call, request, MemberResponse::Heartbeat, |answer| answer.error_code)
            }
            MemberRequest::ConsumerGroupHeartbeat(request) => {
                self.ask(call, request, MemberResponse::ConsumerGroupHeartbeat, |answer| answer.error_code)
            }
            MemberRequest::OffsetCommit(request) => {
                let call = self.driver.within_request_timeout(call);
                self.ask(call, request, MemberResponse::OffsetCommit, |answer| {
                    let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
                    let moved = partitions.find(|partition| partition.error_code.moves_coordinator());
                    moved.map_or(ErrorCode::NONE, |partition| partition.error_code)
                })
            }
            MemberRequest::Leave(leave) => {
                let (driver, group_id) = (self.driver.clone(), Arc::clone(&self.group_id));
                Box::pin(async move {
                    let answer = send_leave(&driver, &group_id, call, leave).await;
                    let refusal = match &answer {
                        Ok(response) => Error::from_code(response.error_code),
                        Err(error) => Some(error.clone()),
                    };
                    if let Some(error) = refusal {
                        driver.handle_coordinator_error(&group_id, CoordinatorKind::Group, &error);
                    }
                    answer.map(MemberResponse::Leave)
                })
            }
            MemberRequest::Committed(keys) => {
                let (driver, group_id) = (self.driver.clone(), Arc::clone(&self.group_id));
                Box::pin(async move {
                    let limit = driver.config().request_timeout;
                    let committed = committed_to_topics_in_use(&driver, &group_id, &keys, limit).await;
                    if let Err(error) = &committed {
                        driver.handle_coordinator_error(&group_id, CoordinatorKind::Group, error);
                    }
                    committed.map(MemberResponse::Committed)
                })
            }
        }
    }

    fn handle_response(&self, now: Instant, id: u64, response: Result<MemberResponse>) {
        self.state().machine.handle_response(now, id, response);
    }

    fn fail(&self, error: &Error) {
        self.consumer.end(error.clone());
        self.state().commits.clear();
    }

    fn finish(&self) {
        // Closes the steward's queue: it finishes what is left, and then ends.
        lock(&self.decisions).take();
        self.changed.notify_waiters();
    }
}

impl SharedMember {
    /// Sends a request to the coordinator; forgets the coordinator if the error says that it has moved.
    fn ask<R: Request>(
        &self,
        call: Call<()>,
        request: R,
        wrap: fn(R::Response) -> MemberResponse,
        code: fn(&R::Response) -> ErrorCode,
    ) -> PendingResponse<MemberResponse> {
        let (driver, group_id) = (self.driver.clone(), Arc::clone(&self.group_id));
        let answer = self.driver.send(call.with_body(request));
        Box::pin(async move {
            let answer = answer.await;
            let refusal = match &answer {
                Ok(response) => Error::from_code(code(response)),
                Err(error) => Some(error.clone()),
            };
            if let Some(error) = refusal {
                driver.handle_coordinator_error(&group_id, CoordinatorKind::Group, &error);
            }
            answer.map(wrap)
        })
    }

    /// Checks at intervals whether the application still asks for records, and commits automatically. Returns when to
    /// check again.
    fn look_at_application(&self, now: Instant, state: &mut State) -> Instant {
        let (seen, looked_at) = state.activity;
        // Often enough that an application that polls is never taken for an idle one.
        let pause = self.config.heartbeat_interval.min(self.config.max_poll_interval / 3);
        let mut look_again = looked_at + pause;
        let is_idle = state.machine.is_idle();
        if now >= look_again || is_idle {
            let activity = self.consumer.activity(is_idle);
            if activity.is_none_or(|activity| activity != seen) {
                state.machine.handle_poll(now);
            }
            state.activity = (activity.unwrap_or(seen), now);
            look_again = now + pause;
        }
        let placed = self.consumer.take_placed();
        if self.config.enable_auto_commit {
            self.commit_automatically(now, state, placed);
        }
        look_again
    }

    /// Commits what the application is done with: at the end of the interval, or at once if one of the `placed`
    /// partitions has just learned where it starts.
    fn commit_automatically(&self, now: Instant, state: &mut State, placed: Vec<TopicPartition>) {
        if self.place(state, placed) {
            state.automatic.hurry();
        }
        if !state.automatic.take_due(now) {
            return;
        }
        let State { automatic, machine, starts, being_lost, .. } = state;
        automatic.owe(self.take_changed());
        let owned = machine.assignment();
        let done = automatic.uncommitted(|key| match owned.contains(key) {
            // A partition that was lost and is owned again keeps its old position until the steward removes it.
            true if being_lost.contains_key(key) || self.consumer.is_withheld(key) => Done::ForNow(None),
            true => self.done(starts, key),
            false => Done::Nothing,
        });
        if done.is_empty() {
            return;
        }
        match state.machine.commit(now, done.clone(), state.automatic.limit()) {
            Ok(number) => state.automatic.begin(number, &done),
            Err(error) => self.consumer.report(error),
        }
    }

    /// Notes the start of each of the `placed` partitions that had none so far. Returns whether there was such a
    /// partition.
    fn place(&self, state: &mut State, mut placed: Vec<TopicPartition>) -> bool {
        placed.retain(|key| state.unplaced.remove(key));
        if placed.is_empty() {
            return false;
        }
        for key in &placed {
            if let Done::Until(start) | Done::ForNow(Some(start)) = self.consumer.done(key) {
                state.starts.insert(key.clone(), start);
            }
        }
        state.automatic.owe(placed);
        true
    }

    /// Remembers partitions without a committed offset. Where they start is committed as soon as it is known, so that a
    /// member that dies before its first commit does not make the next one start elsewhere.
    ///
    /// Forgets what was committed under an earlier assignment: since then another member may have committed.
    fn note_commits(&self, state: &mut State, event: &MemberEvent) {
        let (MemberEvent::Assigned { partitions, .. }
        | MemberEvent::Revoked { partitions }
        | MemberEvent::Lost { partitions, .. }) = event
        else {
            return;
        };
        for key in partitions {
            state.unplaced.remove(key);
            state.automatic.forget(key);
            // The steward still needs those of revoked partitions, for their last commit.
            if !matches!(event, MemberEvent::Revoked { .. }) {
                state.starts.remove(key);
            }
        }
        if let MemberEvent::Assigned { committed, .. } = event
            && self.start.is_some()
        {
            state.unplaced.extend(partitions.iter().filter(|key| !committed.contains_key(*key)).cloned());
        }
    }

    /// Acts on events that need no waiting, and passes the others to the steward.
    fn handle_events(&self, state: &mut State) {
        let mut failure = None;
        while let Some(event) = state.machine.poll_event() {
            match event {
                MemberEvent::Topics(topics) => {
                    let hold = |topic: Arc<str>| {
                        let held = self.driver.hold_topic(&topic);
                        (topic, held)
                    };
                    state.topics = topics.into_iter().map(hold).collect();
                }
                MemberEvent::Committed { number, outcome, left } => match state.commits.remove(&number) {
                    // The receiver may be gone: nobody has to wait for the outcome.
                    Some(sender) => drop(sender.send(outcome)),
                    None => {
                        if let Some(error) = state.automatic.end(number, outcome, &left) {
                            self.consumer.report(error);
                        }
                    }
                },
                MemberEvent::MetadataWanted => self.driver.refresh_metadata(),
                MemberEvent::Failed(error) => {
                    failure = Some(error.clone());
                    self.consumer.report(error);
                }
                event => {
                    self.note_commits(state, &event);
                    if let MemberEvent::Lost { partitions, error } = &event {
                        failure = Some(error.clone());
                        // Do this here, because the steward may be waiting for the application.
                        self.consumer.withhold(partitions);
                        for key in partitions {
                            *state.being_lost.entry(key.clone()).or_default() += 1;
                        }
                    }
                    if let Some(decisions) = &*lock(&self.decisions) {
                        drop(decisions.send(event));
                    }
                }
            }
        }
        if let Some(error) = failure.filter(|_| state.machine.has_ended()) {
            // From now on every call for records says why there are none.
            self.consumer.end(error);
        }
    }
}

async fn send_leave(driver: &Driver, group_id: &Arc<str>, call: Call<()>, leave: Leave) -> Result<LeaveGroupResponse> {
    let coordinator = driver.find_coordinator(group_id, CoordinatorKind::Group).await?;
    let version = driver.api_version(coordinator, call.owner, ApiKey::LeaveGroup).await?;
    let Leave { member_id, reason } = leave;
    let group_id = group_id.to_string();
    let request = if version >= LEAVE_IN_A_LIST {
        let member = MemberIdentity { member_id, group_instance_id: None, reason: Some(reason.into()) };
        LeaveGroupRequest { group_id, members: vec![member], ..LeaveGroupRequest::default() }
    } else {
        LeaveGroupRequest { group_id, member_id, ..LeaveGroupRequest::default() }
    };
    driver.send(Call { target: Target::Broker(coordinator), ..call.with_body(request) }).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::GroupConfig;
    use crate::blocking::wait_for;
    use kavka_core::consumer::AutomaticCommits;

    use crate::consumer::group::steward::tests::{LIMIT, member_of};

    /// A time at which nothing is due any more.
    const NEVER: Instant = Instant(u64::MAX / 2);

    #[test]
    fn a_member_that_left_because_nobody_asked_for_records_joins_again_when_somebody_asks() {
        let config = GroupConfig::default().max_poll_interval(Duration::from_millis(300)).enable_auto_commit(false);
        let (_broker, _client, member) = member_of(config);
        let shared = &member.shared;
        let left = async {
            loop {
                let changed = shared.changed.notified();
                if shared.consumer.wakes_member() {
                    return;
                }
                changed.await;
            }
        };
        wait_for(left, LIMIT).unwrap();
        // The member looks for itself no more.
        shared.state().activity.1 = NEVER;
        let back = async {
            loop {
                let changed = shared.changed.notified();
                // Reports first that the member has left.
                drop(member.try_batch());
                if !shared.state().machine.is_idle() {
                    return;
                }
                changed.await;
            }
        };
        wait_for(back, LIMIT).unwrap();
    }

    #[test]
    fn a_partition_whose_start_is_not_found_does_not_keep_the_member_awake() {
        let (_broker, _client, member) = member_of(GroupConfig::default());
        let shared = &member.shared;
        let mut state = shared.state();
        state.unplaced.insert(TopicPartition::new("orders", 9));
        let now = shared.driver.now();
        // One that the member's own task has begun would hide what this is about.
        state.automatic = AutomaticCommits::new(shared.config.auto_commit_interval, Duration::from_secs(30));
        state.automatic.take_due(now);
        let due = state.automatic.due();
        shared.commit_automatically(now, &mut state, Vec::new());
        assert!(due.is_some_and(|due| due > now) && state.automatic.due() == due);
    }
}
