//! A member's commits of offsets.

use std::time::Duration;

use crate::cluster::{Call, Owner};
use crate::consumer::{Ended, Offsets, newest_version};
use crate::error::{Error, ErrorKind, Result};
use crate::planted::{Bug, is_planted};
use crate::time::Instant;
use crate::wire::ErrorCode;
use crate::wire::messages::{OffsetCommitRequest, OffsetCommitResponse};
use crate::wire::primitives::Uuid;

use super::{InFlight, Member, MemberEvent, MemberRequest, release};

impl Member {
    /// Starts to commit offsets of partitions that the member owns. Returns the number that [`MemberEvent::Committed`]
    /// will carry, after `limit` at the latest. Offsets that do not say to which topic they belong are for the one that
    /// has the name now.
    ///
    /// # Errors
    ///
    /// `Misuse` if an offset is negative, `Fenced` if the member does not own a partition. If the coordinator has
    /// removed it from the group, the commit ends with `Fenced`.
    pub fn commit(&mut self, now: Instant, mut offsets: Offsets, limit: Duration) -> Result<u64> {
        if let Some(foreign) = offsets.keys().find(|key| !self.owned.contains(*key)) {
            let what = "the member does not own the partition that it is to commit for";
            let error = Error::new(ErrorKind::Fenced, what).at(self.place());
            let hint = "another member may have it: commit only for the partitions that are assigned now";
            return Err(error.at_partition(&foreign.topic, foreign.partition).with_hint(hint));
        }
        for (key, committed) in offsets.iter_mut().filter(|(_, committed)| committed.topic_id.is_zero()) {
            committed.topic_id = self.metadata.topic(&key.topic).map_or(Uuid::ZERO, |topic| topic.topic_id);
        }
        self.commits.ask(offsets, now + limit)
    }

    pub(super) fn send_commit(&mut self, request: OffsetCommitRequest, limit: Duration) -> Call<MemberRequest> {
        self.committing = release::partitions_of(&request);
        let max_version = newest_version(&request);
        let call = self.send(InFlight::Commit, MemberRequest::OffsetCommit(request));
        Call { owner: Owner::Control, max_version, timeout: Some(limit), ..call }
    }

    pub(super) fn handle_committed(&mut self, now: Instant, response: Result<OffsetCommitResponse>) {
        self.committing.clear();
        self.commits.set_between(self.is_between());
        if is_planted(Bug::CommitCostsShare)
            && let Ok(response) = &response
            && response.topics.iter().flat_map(|topic| &topic.partitions).any(|one| is_rebalancing(one.error_code))
        {
            self.lose(&Error::new(ErrorKind::Fenced, "a commit was refused"), "a commit was refused");
        }
        if !self.commits.handle_response(now, response, &mut self.random) {
            self.poison("a commit was answered that was not in flight");
        }
        if !self.commits.unknown_topics().is_empty() {
            self.events.push_back(MemberEvent::MetadataWanted);
        }
        self.tell_outcomes();
    }

    pub(super) fn tell_outcomes(&mut self) {
        let outcomes = self.commits.take_outcomes();
        let told = |Ended { number, outcome, left }| MemberEvent::Committed { number, outcome, left };
        self.events.extend(outcomes.map(told));
    }
}

fn is_rebalancing(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::ILLEGAL_GENERATION)
}
