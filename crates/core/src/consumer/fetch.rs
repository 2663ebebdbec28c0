//! Builds fetch requests, and puts the batches of their responses into the buffers.
//!
//! One fetch per broker is in flight. It covers every partition that is read from that broker, is not paused and has
//! too little buffered. It asks for no more than fits: what is kept of earlier responses, what other requests in flight
//! may bring, and this request together stay below `fetch_buffer`. A partition that is left out is removed from the
//! fetch session and returns with the next request that has room.
//!
//! A response that a correct broker would not send (batches wholly below the position, or nothing at all before
//! `fetch.max.wait.ms` has passed) is tolerated, but followed by a delay, so that a broken broker is not asked in a hot
//! loop.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Broker, Call, LeaderHint, Notice, Outdated, Target};
use crate::error::{Error, Hint};
use crate::planted::{Bug, is_planted};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::messages::fetch::{
    FetchableTopicResponse, NodeEndpoint, PartitionData, RESPONSE_LIMIT_SINCE, TOPIC_NAMES_UNTIL,
};
use crate::wire::messages::{FetchRequest, FetchResponse};
use crate::wire::records::Records;

use super::buffer::Front;
use super::handout::Pinned;
use super::isolation::AbortedTransactions;
use super::partition::{Partition, State};
use super::partitions::PartitionId;
use super::session::{SessionFetch, Wanted};
use super::{Consumer, ConsumerEvent, ConsumerRequest, InFlight, ODD_ANSWER_BACKOFF};

/// A partition is left out of fetches while this many times `max.partition.fetch.bytes` of it is buffered.
const BUFFERED_FETCHES: usize = 2;

/// How long a broker may hold a fetch that leaves out a partition because enough of it is buffered. The application may
/// empty that buffer at any moment, and no other fetch goes to the broker until it answers this one. Doubles with every
/// response without records.
const BRIEF_WAIT: Duration = Duration::from_millis(5);

/// How long a broker may hold a fetch if it had no records for a while: Kafka's default for `fetch.max.wait.ms`. It
/// still answers as soon as there is a record. A seek or a new partition waits for the answer, so it is not more.
const IDLE_WAIT: Duration = Duration::from_millis(500);

/// After this many responses without records in a row, the wait doubles with each one, up to [`IDLE_WAIT`].
const BUSY_ANSWERS: u32 = 8;

/// What the response to a fetch brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Yield {
    Nothing,
    Something,
}

impl Consumer {
    pub(super) fn poll_fetch(&mut self, now: Instant) -> Option<Call<ConsumerRequest>> {
        self.lacks_room = false;
        self.handle_returned();
        // Strict turns: the broker that has waited longest is first. Room in the buffer is freed bit by bit; if a
        // broker that needs less could overtake, it would take each bit, and the first would wait for ever.
        let broker_id = self.brokers.to_fetch()?;
        let total = self.brokers.get(broker_id)?.session.wanted_bytes();
        let limit = total.min(self.config.fetch_max_bytes as usize).min(self.share());
        let least = limit.min(self.config.max_partition_fetch_bytes as usize);
        if self.room() < least {
            self.drop_paused();
        }
        let limit = limit.min(self.room());
        if limit < least || limit == 0 {
            self.lacks_room = true;
            return None;
        }
        self.fetch(now, broker_id, limit)
    }

    /// A partition is fetched while less than this is buffered of it, in bytes.
    pub(super) fn enough(&self) -> usize {
        let share = self.config.fetch_buffer.checked_div(self.partitions.fetching());
        let share = share.unwrap_or(self.config.fetch_buffer);
        (self.config.max_partition_fetch_bytes as usize).saturating_mul(BUFFERED_FETCHES).min(share)
    }

    /// How much of the fetch buffer one broker may use, in bytes, so that an idle broker's fetch does not block the
    /// others.
    fn share(&self) -> usize {
        let share = self.config.fetch_buffer.checked_div(self.brokers.sources());
        share.unwrap_or(self.config.fetch_buffer).max(1)
    }

    fn room(&self) -> usize {
        self.config.fetch_buffer.saturating_sub(self.buffered_bytes())
    }

    /// Drops what is buffered of paused partitions to make room for the others.
    fn drop_paused(&mut self) {
        for id in self.partitions.paused_with_buffer() {
            let state = self.partitions.get(id).state();
            // The fetch in flight may bring what was just dropped: ignore it, and fetch from the position later.
            self.set_state(id, state);
            self.change(id, Partition::drop_buffer);
        }
    }

    fn fetch(&mut self, now: Instant, broker_id: i32, limit: usize) -> Option<Call<ConsumerRequest>> {
        let (number, max_wait, partitions) = (self.next_id, self.config.fetch_max_wait, &self.partitions);
        // With a larger `fetch.min.bytes`, records wait as long as the fetch.
        let is_answered_at_once = self.config.fetch_min_bytes <= 1;
        let prepared = self.brokers.change(broker_id, now, |broker| {
            let max_version = if broker.session.knows_every_topic_id() { i16::MAX } else { TOPIC_NAMES_UNTIL };
            let version = broker.versions()?.fetch.min(max_version);
            let name = |id: PartitionId| partitions.get(id).key().clone();
            let (session, reserved) = if version < RESPONSE_LIMIT_SINCE {
                broker.session.next_within(limit, name)
            } else {
                (broker.session.next(version, name), limit)
            };
            let doubled = |wait: Duration, times: u32| wait.saturating_mul(1 << times.min(10));
            let wait = if broker.leaves_out() {
                doubled(BRIEF_WAIT, broker.empty_answers).min(max_wait)
            } else if is_answered_at_once {
                let idle_answers = broker.empty_answers.saturating_sub(BUSY_ANSWERS);
                doubled(max_wait, idle_answers).min(IDLE_WAIT.max(max_wait))
            } else {
                max_wait
            };
            broker.is_fetching = true;
            broker.last_fetch = number;
            Some((max_version, session, reserved, wait))
        });
        let (max_version, session, reserved, wait) = prepared?;
        self.reserved = self.reserved.saturating_add(reserved);
        let request = self.fetch_request(session, wait, limit);
        let in_flight = InFlight::Fetch { broker_id, sent_at: now, wait, reserved };
        let request = self.send(Target::Broker(broker_id), in_flight, ConsumerRequest::Fetch(Box::new(request)));
        Some(Call { max_version, ..request })
    }

    fn fetch_request(&self, session: SessionFetch, wait: Duration, limit: usize) -> FetchRequest {
        FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: i32::try_from(self.config.fetch_min_bytes).unwrap_or(i32::MAX),
            max_bytes: i32::try_from(limit).unwrap_or(i32::MAX),
            isolation_level: self.isolation_level(true),
            session_id: session.session_id,
            session_epoch: session.session_epoch,
            topics: session.topics,
            forgotten_topics_data: session.forgotten,
            rack_id: self.config.client_rack.clone().unwrap_or_default(),
            ..FetchRequest::default()
        }
    }

    pub(super) fn handle_fetch(
        &mut self,
        now: Instant,
        broker_id: i32,
        (sent_at, wait): (Instant, Duration),
        response: FetchResponse,
    ) {
        if response.error_code != ErrorCode::NONE {
            self.handle_refused_fetch(now, broker_id, response.error_code);
            return;
        }
        self.brokers.change(broker_id, now, |broker| {
            broker.is_fetching = false;
            broker.session.handle_answer(response.session_id);
            broker.failures = 0;
            broker.reported_at = None;
        });
        let records = response.responses.iter().flat_map(|topic| &topic.partitions);
        let bytes = records.filter_map(|data| data.records.as_ref()).map(Records::len).sum();
        let pinned = Pinned::new(bytes, &self.pinned);
        let mut hints = Vec::new();
        let topics = response.responses.into_iter();
        let yields = topics.map(|topic| self.handle_topic(now, broker_id, topic, &pinned, &mut hints));
        let yields = yields.max().unwrap_or(Yield::Nothing);
        self.brokers.change(broker_id, now, |broker| {
            broker.empty_answers = if yields == Yield::Nothing { broker.empty_answers.saturating_add(1) } else { 0 };
            // A broker with nothing to return waits for `fetch.max.wait.ms`; answering a little early is fine. If all
            // it returned is for partitions that changed in the meantime, an early answer is not its fault.
            let is_odd = yields == Yield::Nothing && now.since(sent_at) < wait * 3 / 4;
            if is_odd && !broker.session.has_changed() {
                broker.retry_at = sent_at + ODD_ANSWER_BACKOFF;
            }
        });
        if !hints.is_empty() {
            let endpoints = response.node_endpoints.into_iter().filter_map(endpoint).collect();
            self.events.push_back(ConsumerEvent::Notice(Notice::LeaderHints { hints, endpoints }));
        }
    }

    /// The broker refused a whole fetch request, usually because it no longer knows the fetch session.
    fn handle_refused_fetch(&mut self, now: Instant, broker_id: i32, code: ErrorCode) {
        let error = Error::from_code(code).filter(|error| !error.is_retriable());
        let (backoff, random) = (self.backoff, &mut self.random);
        let topics = self.brokers.get(broker_id).filter(|_| code.refreshes_metadata());
        self.outdated.add(topics.map(|broker| Outdated::Topics(broker.session.topics())).unwrap_or_default());
        self.brokers.change(broker_id, now, |broker| {
            broker.is_fetching = false;
            broker.session.handle_failure(Some(code));
            broker.failures = broker.failures.saturating_add(1);
            // The first request for a new session goes at once, further ones back off.
            let delay = backoff.delay(broker.failures.saturating_sub(1), random);
            broker.retry_at = now + if error.is_some() { backoff.max } else { delay };
        });
        if let Some(error) = error {
            self.report_failure(broker_id, error);
        }
    }

    fn handle_topic(
        &mut self,
        now: Instant,
        broker_id: i32,
        topic: FetchableTopicResponse,
        pinned: &Arc<Pinned>,
        hints: &mut Vec<LeaderHint>,
    ) -> Yield {
        let by_id = self.partitions.topic_name(topic.topic_id).filter(|_| topic.topic.is_empty());
        let Some(name) = by_id.map_or_else(|| self.partitions.own_name(&topic.topic), |name| Some(Arc::clone(name)))
        else {
            return Yield::Nothing;
        };
        let mut yields = Yield::Nothing;
        for data in topic.partitions {
            let id = self.partitions.id_of(&name, data.partition_index);
            let asked = id.and_then(|id| Some((id, self.brokers.get(broker_id)?.session.asked(id)?)));
            let is_same_topic = |asked: &Wanted| !topic.topic.is_empty() || asked.topic_id == topic.topic_id;
            // Nobody asked for anything else, or the partition was removed since.
            let Some((id, asked)) = asked.filter(|(_, asked)| is_same_topic(asked)) else { continue };
            if let Some(leader) = data.current_leader.leader_id.filter(|leader| *leader >= 0) {
                let leader_epoch = data.current_leader.leader_epoch.filter(|epoch| *epoch >= 0);
                let partition = data.partition_index;
                hints.push(LeaderHint { topic: Arc::clone(&name), partition, leader, leader_epoch });
            }
            yields = yields.max(self.handle_partition(now, broker_id, id, &asked, data, pinned));
        }
        yields
    }

    fn handle_partition(
        &mut self,
        now: Instant,
        broker_id: i32,
        id: PartitionId,
        asked: &Wanted,
        data: PartitionData,
        pinned: &Arc<Pinned>,
    ) -> Yield {
        let is_current =
            |partition: &Partition| partition.state() == State::Fetching && partition.fetched() == asked.offset;
        let is_late = !self.unchanged(id, asked.stamp).is_some_and(is_current);
        if is_late && !is_planted(Bug::LateFetchCounts) {
            return Yield::Something;
        }
        if data.error_code != ErrorCode::NONE {
            self.handle_partition_error(now, broker_id, id, data.error_code);
            return Yield::Something;
        }
        if let Some(end) = data.diverging_epoch.end_offset.filter(|offset| *offset >= 0)
            && self.handle_truncation(id, Some(end), data.diverging_epoch.epoch)
        {
            return Yield::Something;
        }
        self.handle_records(now, id, data, pinned)
    }

    fn handle_records(&mut self, now: Instant, id: PartitionId, data: PartitionData, pinned: &Arc<Pinned>) -> Yield {
        let (follows_rack, fetch_buffer) = (self.config.client_rack.is_some(), self.config.fetch_buffer);
        let yields = self.change(id, |partition| {
            partition.handle_answer(&data);
            // Only the leader may name a preferred replica.
            if partition.follow(data.preferred_read_replica.filter(|_| follows_rack)) {
                return Yield::Something;
            }
            let bytes = data.records.map(Records::into_bytes).unwrap_or_default();
            if bytes.is_empty() {
                if is_planted(Bug::EndMovesPosition) {
                    partition.pass_end();
                }
                return Yield::Nothing;
            }
            let mut hidden = AbortedTransactions::new(data.aborted_transactions.unwrap_or_default());
            if !partition.accept(bytes, &mut hidden, pinned, fetch_buffer) {
                partition.slow_down(now + ODD_ANSWER_BACKOFF);
            }
            Yield::Something
        });
        self.enqueue(id);
        yields
    }

    fn handle_partition_error(&mut self, now: Instant, broker_id: i32, id: PartitionId, code: ErrorCode) {
        let is_follower = self.change(id, |partition| partition.leave_follower(broker_id));
        if code == ErrorCode::OFFSET_OUT_OF_RANGE {
            if is_follower {
                // A follower may lag behind, so its refusal is not final: ask the leader, which may name the follower
                // again.
                self.back_off(now, id);
            } else {
                self.handle_out_of_range(id);
            }
            return;
        }
        if is_planted(Bug::ResetsOnRefusal) {
            return self.reset(id);
        }
        match Error::from_code(code) {
            Some(error) if code == ErrorCode::CORRUPT_MESSAGE => {
                self.fail(id, error.with_hint(Hint::SeekPastDamage));
            }
            Some(_) | None => self.handle_refusal(now, id, code),
        }
    }

    /// The leader has no record at the fetched offset. What is buffered is handed out before we ask for the reason.
    fn handle_out_of_range(&mut self, id: PartitionId) {
        let partition = self.partitions.get(id);
        let can_validate = partition.fetched_epoch().is_some() && partition.leader_epoch().is_some();
        self.changed.insert(id);
        if self.change(id, Partition::drain) == Front::Nothing {
            if can_validate {
                self.set_state(id, State::Validating { out_of_range: true });
            } else {
                self.reset(id);
            }
        }
    }
}

fn endpoint(endpoint: NodeEndpoint) -> Option<Broker> {
    Broker::new(endpoint.node_id, &endpoint.host, endpoint.port, endpoint.rack)
}
