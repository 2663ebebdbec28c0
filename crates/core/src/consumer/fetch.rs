//! Fetch requests, and what their answers bring into the buffers.
//!
//! One fetch per broker is on its way, for every partition that is led there, is not paused and has too little
//! buffered. It asks for no more than there is room for: what is kept of earlier responses, what other requests may
//! bring and this one together stay below `fetch_buffer`. A partition that is left out is forgotten by the session
//! and comes back with the next request that has room.
//!
//! Answers that should not be (batches wholly below the position, nothing at all before the wait was over) are
//! tolerated, but slow down what they concern: a broken broker is not asked in a hot loop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::cluster::{Broker, Call, LeaderHint, Notice};
use crate::error::{Error, ErrorKind};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::messages::fetch::{FetchableTopicResponse, NodeEndpoint, PartitionData};
use crate::wire::messages::{FetchRequest, FetchResponse};
use crate::wire::records::{RawBatch, batches};

use super::handout::Pinned;
use super::isolation::AbortedTransactions;
use super::partition::{Content, Front, Partition, State};
use super::session::Wanted;
use super::{Consumer, ConsumerEvent, ConsumerRequest, InFlight, ODD_ANSWER_BACKOFF, TopicPartition};

/// The first version of Fetch with a limit for the whole response.
const RESPONSE_LIMIT_SINCE: i16 = 3;
/// The last version of Fetch that names topics; later ones have ids alone (KIP-516).
const TOPIC_NAMES_UNTIL: i16 = 12;
/// How many fetches' worth a partition keeps buffered before it is left out.
const BUFFERED_FETCHES: usize = 2;

/// How long a broker may hold a fetch that leaves out a partition for want of room: the application may empty that
/// partition's buffer at any moment, and nothing more is asked of the broker until it answers. Doubles with every
/// answer that brings nothing.
const BRIEF_WAIT: Duration = Duration::from_millis(5);

/// What came of the answer for one partition.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Brought {
    Nothing,
    Something,
}

impl Consumer {
    pub(super) fn poll_fetch(&mut self, now: Instant) -> Option<Call<ConsumerRequest>> {
        self.is_full = false;
        // Who has waited longest is first, and nobody overtakes it: room comes back bit by bit, and whoever needs less
        // would take every bit.
        let fetchable = self.fetchable(now);
        let last_fetch = |broker_id: &i32| self.brokers.get(broker_id).map(|broker| broker.last_fetch);
        let (broker_id, wanted) = fetchable.into_iter().min_by_key(|(broker_id, _)| last_fetch(broker_id))?;
        let total: usize = wanted.values().map(|wanted| wanted.max_bytes as usize).fold(0, usize::saturating_add);
        let limit = total.min(self.config.fetch_max_bytes as usize).min(self.share());
        let least = limit.min(self.config.max_partition_fetch_bytes as usize);
        if self.room() < least {
            self.drop_paused();
        }
        let limit = limit.min(self.room());
        if limit < least || limit == 0 {
            self.is_full = true;
            return None;
        }
        self.fetch(now, broker_id, wanted, limit)
    }

    /// What may be asked for now, by broker; brokers that are not ready or are answering are left out.
    fn fetchable(&mut self, now: Instant) -> BTreeMap<i32, BTreeMap<TopicPartition, Wanted>> {
        let Self { topics, brokers, config, is_full, .. } = self;
        let fetching = topics.values().flat_map(|all| all.values()).filter(|one| one.state == State::Fetching).count();
        let share = config.fetch_buffer.checked_div(fetching).unwrap_or(config.fetch_buffer);
        let enough = (config.max_partition_fetch_bytes as usize).saturating_mul(BUFFERED_FETCHES).min(share);
        let mut fetchable: BTreeMap<i32, BTreeMap<TopicPartition, Wanted>> = BTreeMap::new();
        let mut left_out = BTreeSet::new();
        for (topic, partitions) in topics {
            for (&number, partition) in partitions {
                let Some(source) = partition.source().filter(|_| partition.is_fetchable(now)) else { continue };
                let is_ready = brokers
                    .get(&source)
                    .is_some_and(|broker| broker.versions.is_some() && !broker.is_fetching && broker.retry_at <= now);
                if !is_ready {
                    continue;
                }
                if partition.settle() == Front::Nothing {
                    partition.drains_first = false;
                } else if partition.drains_first || partition.buffered_bytes >= enough.max(1) {
                    *is_full = true;
                    left_out.insert(source);
                    continue;
                }
                let key = TopicPartition { topic: Arc::clone(topic), partition: number };
                fetchable.entry(source).or_default().insert(key, partition.wanted());
            }
        }
        for (broker_id, broker) in brokers {
            broker.leaves_out = left_out.contains(broker_id);
        }
        fetchable
    }

    /// What one broker may use of the buffer, in bytes: an idle one must not keep the others from it.
    fn share(&self) -> usize {
        let mut sources: Vec<i32> = self.all_partitions().filter_map(Partition::source).collect();
        sources.sort_unstable();
        sources.dedup();
        self.config.fetch_buffer.checked_div(sources.len()).unwrap_or(self.config.fetch_buffer).max(1)
    }

    fn room(&self) -> usize {
        self.config.fetch_buffer.saturating_sub(self.buffered_bytes())
    }

    /// Makes room for those that are not paused.
    fn drop_paused(&mut self) {
        for key in self.partitions().collect::<Vec<_>>() {
            let holds = |partition: &&Partition| partition.is_paused && !partition.buffer.is_empty();
            let Some(state) = self.partition(&key).filter(holds).map(|partition| partition.state) else { continue };
            // What is asked of it is asked again, from where it stands then.
            self.change_state(&key, state);
            if let Some(partition) = self.partition_if_any(&key) {
                partition.drop_buffer();
            }
        }
    }

    fn fetch(
        &mut self,
        now: Instant,
        broker_id: i32,
        mut wanted: BTreeMap<TopicPartition, Wanted>,
        limit: usize,
    ) -> Option<Call<ConsumerRequest>> {
        let isolation_level = self.isolation_level(true);
        let broker = self.brokers.get_mut(&broker_id)?;
        // A cluster in the middle of an upgrade has topics without ids.
        let every_id_known = wanted.values().all(|wanted| !wanted.topic_id.is_zero());
        let max_version = if every_id_known { i16::MAX } else { TOPIC_NAMES_UNTIL };
        let version = broker.versions?.fetch.min(max_version);
        let mut reserved = limit;
        if version < RESPONSE_LIMIT_SINCE {
            (wanted, reserved) = without_response_limit(wanted, limit, self.next_id as usize);
        }
        let session = broker.session.next(version, wanted);
        let max_wait = self.config.fetch_max_wait;
        let wait = if broker.leaves_out {
            BRIEF_WAIT.saturating_mul(1 << broker.in_vain.min(10)).min(max_wait)
        } else {
            max_wait
        };
        broker.is_fetching = true;
        broker.last_fetch = self.next_id;
        self.reserved = self.reserved.saturating_add(reserved);
        let request = FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: i32::try_from(self.config.fetch_min_bytes).unwrap_or(i32::MAX),
            max_bytes: i32::try_from(limit).unwrap_or(i32::MAX),
            isolation_level,
            session_id: session.session_id,
            session_epoch: session.session_epoch,
            topics: session.topics,
            forgotten_topics_data: session.forgotten,
            rack_id: self.config.client_rack.clone().unwrap_or_default(),
            ..FetchRequest::default()
        };
        let in_flight = InFlight::Fetch { broker_id, sent_at: now, wait, reserved };
        let request = self.send(broker_id, in_flight, ConsumerRequest::Fetch(Box::new(request)));
        Some(Call { max_version, ..request })
    }

    pub(super) fn handle_fetch(
        &mut self,
        now: Instant,
        broker_id: i32,
        (sent_at, wait): (Instant, Duration),
        response: FetchResponse,
    ) {
        let broker = self.brokers.entry(broker_id).or_default();
        broker.is_fetching = false;
        if response.error_code != ErrorCode::NONE {
            self.handle_refused_fetch(now, broker_id, response.error_code);
            return;
        }
        broker.session.handle_answer(response.session_id);
        broker.failures = 0;
        broker.has_failed = false;
        let bytes = response.responses.iter().flat_map(|topic| &topic.partitions);
        let bytes = bytes.filter_map(|data| data.records.as_ref()).map(super::super::wire::records::Records::len).sum();
        let pinned = Pinned::new(bytes, &self.pinned);
        let mut brought = Brought::Nothing;
        let mut hints = Vec::new();
        for topic in response.responses {
            if self.handle_topic(now, broker_id, topic, &pinned, &mut hints) == Brought::Something {
                brought = Brought::Something;
            }
        }
        // A broker answers with nothing only when it has waited for something; a little early is early enough.
        let broker = self.brokers.entry(broker_id).or_default();
        broker.in_vain = if brought == Brought::Nothing { broker.in_vain.saturating_add(1) } else { 0 };
        if brought == Brought::Nothing && now.since(sent_at) < wait * 3 / 4 {
            broker.retry_at = sent_at + ODD_ANSWER_BACKOFF;
        }
        if !hints.is_empty() {
            let endpoints = response.node_endpoints.into_iter().filter_map(endpoint).collect();
            self.events.push_back(ConsumerEvent::Notice(Notice::LeaderHints { hints, endpoints }));
        }
    }

    /// The broker refused a whole fetch: most often it has forgotten the session.
    fn handle_refused_fetch(&mut self, now: Instant, broker_id: i32, code: ErrorCode) {
        let broker = self.brokers.entry(broker_id).or_default();
        broker.session.handle_failure(Some(code));
        broker.failures = broker.failures.saturating_add(1);
        // A new session may be asked for at once, but not again and again.
        broker.retry_at = now + self.backoff.delay(broker.failures.saturating_sub(1), &mut self.random);
        if code.refreshes_metadata() {
            self.refresh_metadata(now);
        }
        if let Some(error) = Error::from_code(code).filter(|error| !error.is_retriable()) {
            self.brokers.entry(broker_id).or_default().retry_at = now + self.backoff.max;
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
    ) -> Brought {
        let session = self.brokers.get(&broker_id).map(|broker| &broker.session);
        let Some(name) = session.and_then(|session| session.topic(&topic.topic, topic.topic_id)) else {
            return Brought::Nothing;
        };
        let mut brought = Brought::Nothing;
        for data in topic.partitions {
            let key = TopicPartition { topic: Arc::clone(&name), partition: data.partition_index };
            let session = self.brokers.get(&broker_id).map(|broker| &broker.session);
            let Some(wanted) = session.and_then(|session| session.wanted(&key)).cloned() else { continue };
            if let Some(leader) = data.current_leader.leader_id.filter(|leader| *leader >= 0) {
                let leader_epoch = data.current_leader.leader_epoch.filter(|epoch| *epoch >= 0);
                hints.push(LeaderHint { topic: Arc::clone(&name), partition: key.partition, leader, leader_epoch });
            }
            if self.handle_partition(now, broker_id, &key, &wanted, data, pinned) == Brought::Something {
                brought = Brought::Something;
            }
        }
        brought
    }

    fn handle_partition(
        &mut self,
        now: Instant,
        broker_id: i32,
        key: &TopicPartition,
        wanted: &Wanted,
        data: PartitionData,
        pinned: &Arc<Pinned>,
    ) -> Brought {
        let Some(partition) = self.unchanged(key, wanted.stamp) else { return Brought::Something };
        if partition.state != State::Fetching || partition.fetched != wanted.offset {
            return Brought::Something;
        }
        if data.error_code != ErrorCode::NONE {
            self.handle_partition_error(now, broker_id, key, data.error_code);
            return Brought::Something;
        }
        partition.failures = 0;
        partition.high_watermark = Some(data.high_watermark).filter(|offset| *offset >= 0);
        partition.last_stable_offset = data.last_stable_offset.filter(|offset| *offset >= 0);
        partition.log_start_offset = data.log_start_offset.filter(|offset| *offset >= 0).or(partition.log_start_offset);
        if let Some(end) = data.diverging_epoch.end_offset.filter(|offset| *offset >= 0)
            && self.handle_truncation(key, Some(end), data.diverging_epoch.epoch)
        {
            return Brought::Something;
        }
        self.handle_records(now, key, data, pinned)
    }

    fn handle_records(
        &mut self,
        now: Instant,
        key: &TopicPartition,
        data: PartitionData,
        pinned: &Arc<Pinned>,
    ) -> Brought {
        let follows_rack = self.config.client_rack.is_some();
        let fetch_buffer = self.config.fetch_buffer;
        let Some(partition) = self.partition_if_any(key) else { return Brought::Nothing };
        // Only the leader may send us to another broker.
        let may_follow = follows_rack && partition.preferred_replica.is_none();
        let is_other = |replica: &i32| *replica >= 0 && partition.leader != Some(*replica);
        if let Some(replica) = data.preferred_read_replica.filter(|replica| may_follow && is_other(replica)) {
            partition.preferred_replica = Some(replica);
            return Brought::Something;
        }
        let bytes = data.records.map(super::super::wire::records::Records::into_bytes).unwrap_or_default();
        if bytes.is_empty() {
            return Brought::Nothing;
        }
        let mut hidden = AbortedTransactions::new(data.aborted_transactions.unwrap_or_default());
        if !partition.accept(bytes, &mut hidden, pinned, fetch_buffer) {
            partition.retry_at = now + ODD_ANSWER_BACKOFF;
        }
        self.enqueue(key);
        Brought::Something
    }

    fn handle_partition_error(&mut self, now: Instant, broker_id: i32, key: &TopicPartition, code: ErrorCode) {
        let Some(partition) = self.partition_if_any(key) else { return };
        let is_follower = partition.preferred_replica.take().is_some_and(|replica| replica == broker_id);
        if code == ErrorCode::OFFSET_OUT_OF_RANGE {
            if is_follower {
                // It may lag behind: only what the leader says counts, who may send us straight back.
                self.back_off(now, key);
            } else if partition.settle() != Front::Nothing {
                partition.drains_first = true;
            } else if partition.fetched_epoch.is_some() && partition.leader_epoch.is_some() {
                self.change_state(key, State::Validating { out_of_range: true });
            } else {
                self.reset(key);
            }
            return;
        }
        if code.refreshes_metadata() {
            self.refresh_metadata(now);
        }
        match Error::from_code(code) {
            Some(error) if code == ErrorCode::CORRUPT_MESSAGE => {
                self.fail(key, error.with_hint("the log of the broker is damaged there: seek past it"));
            }
            Some(error) if !code.is_retriable() && code != ErrorCode::UNKNOWN_SERVER_ERROR => self.fail(key, error),
            _ => self.back_off(now, key),
        }
    }
}

impl Partition {
    fn is_fetchable(&self, now: Instant) -> bool {
        self.state == State::Fetching && !self.is_paused && self.retry_at <= now && !self.is_at_bad_batch()
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            topic_id: self.topic_id,
            offset: self.fetched,
            max_bytes: self.max_bytes,
            // A follower's epoch lags behind: only the leader is asked to be the one we mean.
            leader_epoch: self.leader_epoch.filter(|_| self.preferred_replica.is_none()),
            stamp: self.stamp,
        }
    }

    /// Buffers what is new in `bytes`; answers whether there was anything.
    fn accept(&mut self, bytes: Bytes, hidden: &mut AbortedTransactions, pinned: &Arc<Pinned>, limit: usize) -> bool {
        let mut found = batches(bytes);
        let mut any = false;
        for batch in found.by_ref() {
            let accepted = batch.and_then(|batch| self.accept_batch(batch, hidden, pinned));
            match accepted {
                Ok(is_new) => any |= is_new,
                Err(error) => {
                    self.push(self.fetched, Content::Bad(at_offset(error, self.fetched)));
                    return true;
                }
            }
        }
        if let Some(needed) = found.first_batch_bytes() {
            self.ask_for_more(needed, limit);
        }
        any
    }

    fn accept_batch(
        &mut self,
        batch: RawBatch,
        hidden: &mut AbortedTransactions,
        pinned: &Arc<Pinned>,
    ) -> Result<bool, Error> {
        let header = *batch.header();
        let producer_id = header.producer.map_or(-1, |producer| producer.producer_id);
        let is_hidden = hidden.hides(header.last_offset, producer_id, header.is_transactional, header.is_control);
        if header.last_offset < self.fetched {
            // A damaged header must not make a batch one that was read already.
            batch.check_crc()?;
            return Ok(false);
        }
        let Some(next) = header.last_offset.checked_add(1) else {
            return Err(Error::new(ErrorKind::Malformed, "a record batch ends behind the last offset there can be"));
        };
        if is_hidden {
            // Nobody will open it, and a damaged header must not hide records.
            batch.check_crc()?;
            self.push(header.last_offset, Content::Hidden);
        } else {
            self.push(header.last_offset, Content::Batch(batch, Arc::clone(pinned)));
        }
        self.fetched = next;
        self.fetched_epoch = header.partition_leader_epoch;
        Ok(true)
    }

    /// The first batch did not fit into what was asked for (brokers before 0.10.1 cut it off).
    fn ask_for_more(&mut self, needed_bytes: usize, limit_bytes: usize) {
        let more = needed_bytes.max((self.max_bytes as usize).saturating_mul(2)).min(limit_bytes);
        if needed_bytes > limit_bytes || more <= self.max_bytes as usize {
            let what =
                format!("a record batch of {needed_bytes} bytes is larger than the fetch buffer of {limit_bytes}");
            let error = Error::new(ErrorKind::Unsupported, what).with_hint("raise fetch_buffer");
            self.push(self.fetched, Content::Bad(at_offset(error, self.fetched)));
        }
        self.max_bytes = i32::try_from(more).unwrap_or(i32::MAX);
    }
}

fn at_offset(error: Error, offset: i64) -> Error {
    error.at(crate::error::Place { offset: Some(offset), ..Default::default() })
}

/// As many partitions as fit without a limit for the response, at least one, and what they may bring; others are first
/// in `turn`.
fn without_response_limit(
    wanted: BTreeMap<TopicPartition, Wanted>,
    limit: usize,
    turn: usize,
) -> (BTreeMap<TopicPartition, Wanted>, usize) {
    let mut all: Vec<(TopicPartition, Wanted)> = wanted.into_iter().collect();
    let first = turn.checked_rem(all.len()).unwrap_or(0);
    all.rotate_left(first);
    let mut total: usize = 0;
    let mut chosen = BTreeMap::new();
    for (key, wanted) in all {
        let next = total.saturating_add(wanted.max_bytes as usize);
        if next > limit && !chosen.is_empty() {
            break;
        }
        total = next;
        chosen.insert(key, wanted);
    }
    (chosen, total)
}

fn endpoint(endpoint: NodeEndpoint) -> Option<Broker> {
    Broker::new(endpoint.node_id, &endpoint.host, endpoint.port, endpoint.rack)
}
