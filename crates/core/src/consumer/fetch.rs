//! Fetch requests, and what their answers bring into the buffers.
//!
//! One fetch per broker is on its way, for every partition that is led there, is not paused and has too little
//! buffered. It asks for no more than there is room for: what is kept of earlier responses, what other requests may
//! bring and this one together stay below `fetch_buffer`. A partition that is left out is forgotten by the session
//! and comes back with the next request that has room.
//!
//! Answers that should not be (batches wholly below the position, nothing at all before the wait was over) are
//! tolerated, but slow down what they concern: a broken broker is not asked in a hot loop.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Broker, Call, LeaderHint, Notice, Target};
use crate::error::Error;
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

/// How many fetches' worth a partition keeps buffered before it is left out.
const BUFFERED_FETCHES: usize = 2;

/// How long a broker may hold a fetch that leaves out a partition for want of room: the application may empty that
/// partition's buffer at any moment, and nothing more is asked of the broker until it answers. Doubles with every
/// answer that brings nothing.
const BRIEF_WAIT: Duration = Duration::from_millis(5);

/// What the answer to a fetch was good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Yield {
    Nothing,
    Something,
}

impl Consumer {
    pub(super) fn poll_fetch(&mut self, now: Instant) -> Option<Call<ConsumerRequest>> {
        self.lacks_room = false;
        self.settle_those_out();
        // The broker that has waited longest is first, and none overtakes it: room comes back bit by bit, and one that
        // needs less would take every bit.
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

    /// The batches that somebody holds, or held, were perhaps read to their end: there may be room again.
    fn settle_those_out(&mut self) {
        for id in std::mem::take(&mut self.out) {
            self.change(id, Partition::settle);
            if self.partitions.get(id).is_some_and(Partition::is_out) {
                self.out.insert(id);
            }
        }
    }

    /// How much a partition may have buffered and still be fetched, in bytes.
    pub(super) fn enough(&self) -> usize {
        let share = self.config.fetch_buffer.checked_div(self.partitions.fetching());
        let share = share.unwrap_or(self.config.fetch_buffer);
        (self.config.max_partition_fetch_bytes as usize).saturating_mul(BUFFERED_FETCHES).min(share)
    }

    /// What one broker may use of the buffer, in bytes: an idle one must not keep the others from it.
    fn share(&self) -> usize {
        let share = self.config.fetch_buffer.checked_div(self.brokers.sources());
        share.unwrap_or(self.config.fetch_buffer).max(1)
    }

    fn room(&self) -> usize {
        self.config.fetch_buffer.saturating_sub(self.buffered_bytes())
    }

    /// Makes room for those that are not paused.
    fn drop_paused(&mut self) {
        for id in self.partitions.paused_with_buffer() {
            let Some(state) = self.partitions.get(id).map(Partition::state) else { continue };
            // What is asked of it is asked again, from where it stands then.
            self.set_state(id, state);
            self.change(id, Partition::drop_buffer);
        }
    }

    fn fetch(&mut self, now: Instant, broker_id: i32, limit: usize) -> Option<Call<ConsumerRequest>> {
        let (number, max_wait, partitions) = (self.next_id, self.config.fetch_max_wait, &self.partitions);
        let prepared = self.brokers.change(broker_id, now, |broker| {
            let max_version = if broker.session.knows_every_topic_id() { i16::MAX } else { TOPIC_NAMES_UNTIL };
            let version = broker.versions()?.fetch.min(max_version);
            let name = |id: PartitionId| partitions.get(id).map(|partition| partition.key().clone());
            let (session, reserved) = if version < RESPONSE_LIMIT_SINCE {
                broker.session.next_within(limit, name)
            } else {
                (broker.session.next(version, name), limit)
            };
            let wait = if broker.leaves_out() {
                BRIEF_WAIT.saturating_mul(1 << broker.empty_answers.min(10)).min(max_wait)
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
            broker.has_failed = false;
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
            // A broker answers with nothing only when it has waited for something; a little early is early enough. What it
            // has for partitions that we gave up in the meantime counts for nothing, and is not its fault.
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

    /// The broker refused a whole fetch: most often it has forgotten the session.
    fn handle_refused_fetch(&mut self, now: Instant, broker_id: i32, code: ErrorCode) {
        let error = Error::from_code(code).filter(|error| !error.is_retriable());
        let (backoff, random) = (self.backoff, &mut self.random);
        self.brokers.change(broker_id, now, |broker| {
            broker.is_fetching = false;
            broker.session.handle_failure(Some(code));
            broker.failures = broker.failures.saturating_add(1);
            // A new session may be asked for at once, but not again and again.
            let delay = backoff.delay(broker.failures.saturating_sub(1), random);
            broker.retry_at = now + if error.is_some() { backoff.max } else { delay };
        });
        if code.refreshes_metadata() {
            self.refresh_metadata(now);
        }
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
            let Some(id) = self.partitions.find(&name, data.partition_index) else { continue };
            let asked = self.brokers.get(broker_id).and_then(|broker| broker.session.asked(id));
            let is_same_topic = |asked: &Wanted| !topic.topic.is_empty() || asked.topic_id == topic.topic_id;
            let Some(asked) = asked.filter(is_same_topic) else { continue };
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
        let Some(partition) = self.unchanged(id, asked.stamp) else { return Yield::Something };
        if partition.state() != State::Fetching || partition.fetched() != asked.offset {
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
            // Only the leader may send us to another broker.
            if partition.follow(data.preferred_read_replica.filter(|_| follows_rack)) {
                return Yield::Something;
            }
            let bytes = data.records.map(Records::into_bytes).unwrap_or_default();
            if bytes.is_empty() {
                return Yield::Nothing;
            }
            let mut hidden = AbortedTransactions::new(data.aborted_transactions.unwrap_or_default());
            if !partition.accept(bytes, &mut hidden, pinned, fetch_buffer) {
                partition.slow_down(now + ODD_ANSWER_BACKOFF);
            }
            Yield::Something
        });
        self.enqueue(id);
        yields.unwrap_or(Yield::Nothing)
    }

    fn handle_partition_error(&mut self, now: Instant, broker_id: i32, id: PartitionId, code: ErrorCode) {
        let is_follower = self.change(id, |partition| partition.leave_follower(broker_id)) == Some(true);
        if code == ErrorCode::OFFSET_OUT_OF_RANGE {
            if is_follower {
                // It may lag behind: only what the leader says counts, who may send us straight back.
                self.back_off(now, id);
            } else {
                self.handle_out_of_range(id);
            }
            return;
        }
        match Error::from_code(code) {
            Some(error) if code == ErrorCode::CORRUPT_MESSAGE => {
                self.fail(id, error.with_hint("the log of the broker is damaged there: seek past it"));
            }
            _ => self.handle_refusal(now, id, code),
        }
    }

    /// The leader has nothing at the fetched offset: first what is buffered is handed out, then we ask why.
    fn handle_out_of_range(&mut self, id: PartitionId) {
        let can_validate = self
            .partitions
            .get(id)
            .is_some_and(|partition| partition.fetched_epoch().is_some() && partition.leader_epoch().is_some());
        if self.change(id, Partition::drain) == Some(Front::Nothing) {
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
