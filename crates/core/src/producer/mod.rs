//! The producer: turns records into acknowledged batches, without I/O.
//!
//! It owns every record from [`Producer::append`] to its one report, and the state that idempotence needs: sequence
//! numbers and epochs. It has no sockets and no clock. The caller sends what [`Producer::poll_request`] returns and
//! passes the responses back in.
//!
//! One machine serves all producers of a client that have equal settings. Each of them is a [handle](HandleId) with its
//! own topics, limit on records, and end. So a request carries what all of them have for one leader, and the cost of a
//! wake-up depends on what changed, not on the number of handles, topics and partitions.
//!
//! Rules that hold whatever brokers and connections do:
//!
//! - Every accepted record gets exactly one report. The reports of a partition come in the order of its records.
//! - Only a response that names exactly our partition counts as success. Without a definite response a batch counts as
//!   *maybe written*, and is only ever sent again with the same bytes.
//! - When a record fails, everything buffered behind it in its partition fails too. Only a record that the broker
//!   rejects, or is too old for, because of what it is (too large, invalid, with headers) fails alone.
//! - A topic belongs to one handle, so no batch holds records of two. Flushing, closing or failing one handle neither
//!   waits for another nor touches its records.
//! - At most five batches of a partition are in flight, all to the same broker. When one must be sent again, or the
//!   leader changes, the partition sends nothing until all of them are answered; then it sends them again in order.
//! - A sequence number is used once. When some were used in vain, the partition moves to its next epoch as soon as none
//!   of its batches is in flight (KIP-360).
//!
//! KIPs: 98 (idempotence), 360 (epoch bump), 480 (sticky partitions), 516 (topic ids), 951 (leader hints).

mod accumulator;
mod advance;
mod arena;
mod completion;
mod compression;
mod handle;
mod identity;
mod lane;
mod leaders;
mod ledger;
mod older;
mod partition;
mod partitioner;
mod response;
mod sender;
mod split;
mod topic;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub use accumulator::AppendError;
pub use completion::{Acknowledged, Completed, Completion, RecordMetadata};
pub use compression::BatchesToCompress;
pub use handle::Progress;
pub use partitioner::{murmur2, partition_for_key};
pub use sender::{ProduceToSend, ProducerRequest, ProducerResponse};
pub use topic::DELETED_AFTER;

use crate::backoff::Backoff;
use crate::cluster::{Notice, Outdated};
use crate::config::ProducerConfig;
use crate::error::{Error, ErrorKind, Written};
use crate::random::Random;
use crate::time::Instant;
use crate::wire::records::BufferPool;
use arena::{Arena, key};
use handle::Handle;
use lane::Lanes;
use leaders::Leaders;
use ledger::Ledger;
use older::Older;
use partition::{Partition, Rules};
use sender::Sent;
use topic::Topic;

key! {
    /// One producer of the program, as numbered in the machine; from [`Producer::open`].
    pub HandleId
}

key! {
    /// A topic of one handle; from [`Producer::topic`].
    pub TopicIndex
}

key! {
    /// A partition, as numbered in the machine.
    PartitionId
}

key! {
    /// A lane, as numbered in the machine.
    LaneId
}

/// Where an accepted record is: its batch and its index there.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The outcome of its batch.
    pub completion: Arc<Completion>,
    /// Its index in the batch.
    pub index: u32,
    /// Whether to wake the sending task: something can be sent now, or its alarm is set too late.
    pub wake: bool,
}

/// Marks the end of everything that a handle had appended at a [`Producer::flush`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlushMark(u64);

/// What the caller must do besides sending requests.
#[derive(Debug)]
pub enum ProducerEvent {
    /// Records have their outcome: carry it out, outside the lock and in this order.
    Completed(Completed),
    /// For the owner of the metadata.
    Notice(Notice),
    /// A leader said that this topic is kept in a format without sequence numbers: worth a line in the log, once.
    OldFormat(Arc<str>),
    /// This leader assigns no producer ids, so it is sent records without sequence numbers: worth a line, once.
    NoProducerIds(i32),
}

/// The producer machine; see the module's documentation.
#[derive(Debug)]
pub struct Producer {
    config: ProducerConfig,
    /// Its number among the producers of the client.
    number: u64,
    rules: Rules,
    older: Older,
    backoff: Backoff,
    pool: BufferPool,
    random: Random,
    metadata_version: Option<u64>,
    handles: Arena<HandleId, Handle>,
    lanes: Lanes,
    topics: Arena<TopicIndex, Topic>,
    partitions: Arena<PartitionId, Partition>,
    leaders: Leaders,
    /// Open batches that linger, by number, and until when. Times increase with the numbers, because all linger equally
    /// long.
    lingering: BTreeMap<u64, (Instant, PartitionId)>,
    ledger: Ledger,
    /// When partitions may send again after a back-off.
    retries: BTreeSet<(Instant, PartitionId)>,
    leaderless: advance::Leaderless,
    /// Topics that brokers do not know, and when to check them.
    unseen: BTreeSet<(Instant, TopicIndex)>,
    requests: BTreeMap<u64, Sent>,
    next_request_id: u64,
    /// Batches that nobody has taken yet to compress them.
    to_compress: VecDeque<BatchesToCompress>,
    events: VecDeque<ProducerEvent>,
    /// Handles with new reports that [`poll_progress`](Self::poll_progress) has not announced yet.
    progressed: BTreeSet<HandleId>,
    /// Topics to ask for metadata of.
    outdated: Outdated,
    /// Why the machine accepts no more records from any handle; set when it has failed for good.
    refusal: Option<Error>,
}

impl Producer {
    /// Gives the machine a number, which is that of its connections; without one it has number 0.
    #[must_use]
    pub fn with_number(mut self, number: u64) -> Self {
        self.number = number;
        self
    }

    /// A machine with these settings, which must be valid. Its batches take their memory from `pool`.
    ///
    /// `config.max_queued_records` is ignored: each handle has its own. `backoff` is `retry.backoff.ms` and
    /// `retry.backoff.max.ms`. `seed` decides on jitter, and on the first sticky partition of each topic.
    pub fn new(config: ProducerConfig, backoff: Backoff, pool: BufferPool, seed: u64) -> Self {
        let rules = Rules::new(&config);
        let blank = |id| arena::Key::new(id);
        let nowhere = Partition::new(arena::Key::new(0), Arc::default(), -1, arena::Key::new(0), arena::Key::new(0));
        Self {
            leaders: Leaders::new(config.max_in_flight),
            lanes: Lanes::new(rules.idempotent),
            handles: Arena::new(Handle::default()),
            topics: Arena::new(Topic::new(Arc::default(), blank(0), arena::Key::new(0), 0)),
            partitions: Arena::new(nowhere),
            config,
            number: 0,
            rules,
            older: Older::default(),
            backoff,
            pool,
            random: Random::new(seed),
            metadata_version: None,
            lingering: BTreeMap::new(),
            ledger: Ledger::default(),
            retries: BTreeSet::new(),
            leaderless: advance::Leaderless::default(),
            unseen: BTreeSet::new(),
            requests: BTreeMap::new(),
            next_request_id: 0,
            to_compress: VecDeque::new(),
            events: VecDeque::new(),
            progressed: BTreeSet::new(),
            outdated: Outdated::default(),
            refusal: None,
        }
    }

    /// A new handle. At most `max_queued_records` of its records may be unreported at a time.
    pub fn open(&mut self, max_queued_records: Option<usize>) -> HandleId {
        self.handles.insert(|_| Handle::new(max_queued_records))
    }

    /// The next thing to do besides sending; call it until it returns `None`.
    pub fn poll_event(&mut self) -> Option<ProducerEvent> {
        if let Some(outdated) = self.outdated.take() {
            return Some(ProducerEvent::Notice(Notice::RefreshMetadata(outdated)));
        }
        self.events.pop_front()
    }

    /// The progress of a handle that has new reports, or was flushed or released. Poll all events first, then call this
    /// until it returns `None`.
    pub fn poll_progress(&mut self, now: Instant) -> Option<Progress> {
        let id = self.progressed.pop_first()?;
        let settled = self.settled(id);
        let handle = self.handles.get_mut(id);
        let (wakes_callers, is_over) = (handle.take_retry(), handle.is_over());
        if is_over && let Some(handle) = self.handles.remove(id) {
            self.remove_topics(now, handle.topics.into_values());
        }
        Some(Progress { handle: id, settled, wakes_callers, is_over })
    }

    /// When to call [`poll_request`](Self::poll_request) again if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let identity = self.lanes.next_wanting().map(|(at, _)| at).filter(|_| !self.ledger.is_empty());
        let linger = self.lingering.first_key_value().map(|(_, (due, _))| *due);
        let delivery = self.ledger.front().map(|(.., deadline)| deadline);
        let retry = self.retries.first().map(|(at, _)| *at);
        // With no records to fail, there is no hurry to find out whether a topic was deleted.
        let unseen = self.unseen.first().map(|(at, _)| *at).filter(|_| !self.ledger.is_empty());
        [identity, linger, delivery, retry, unseen, self.leaderless.due()].into_iter().flatten().min()
    }

    /// Ends the linger of everything that the handle has appended so far. All of it is reported once
    /// [`is_flushed`](Self::is_flushed) is true for the mark.
    pub fn flush(&mut self, now: Instant, handle: HandleId) -> FlushMark {
        self.expedite_handle(now, handle);
        self.progressed.insert(handle);
        FlushMark(self.ledger.next_number())
    }

    /// Ends the linger of every open batch of a handle.
    fn expedite_handle(&mut self, now: Instant, handle: HandleId) {
        let next_number = self.ledger.next_number();
        for number in self.handles.get_mut(handle).expedite(next_number) {
            self.end_linger(now, number);
        }
    }

    /// Ends the linger of every open batch of every handle, so that their memory is freed sooner.
    pub fn expedite(&mut self, now: Instant) {
        while let Some((number, _)) = self.lingering.first_key_value() {
            self.end_linger(now, *number);
        }
    }

    /// Whether everything before the mark has its outcome, once the events polled so far are carried out.
    pub fn is_flushed(&self, handle: HandleId, mark: FlushMark) -> bool {
        self.settled(handle) >= mark
    }

    /// The mark before which everything of the handle has its outcome, once the events polled so far are carried out.
    pub fn settled(&self, handle: HandleId) -> FlushMark {
        let next_number = self.ledger.next_number();
        FlushMark(self.handles.find(handle).map_or(next_number, |handle| handle.settled(next_number)))
    }

    /// Whether the machine has failed for good and accepts no records.
    pub fn has_failed(&self) -> bool {
        self.refusal.is_some()
    }

    /// Refuses further records of the handle, and ends the linger of what it has buffered.
    pub fn close(&mut self, now: Instant, handle: HandleId) {
        self.handles.get_mut(handle).refuse(Error::new(ErrorKind::Closed, "the producer is closed"));
        self.flush(now, handle);
    }

    /// Closes a handle that nobody uses any more: it is removed once all its records are reported.
    pub fn release(&mut self, now: Instant, handle: HandleId) {
        self.close(now, handle);
        self.handles.get_mut(handle).release();
    }

    /// Fails every unacknowledged record of the handle, with `cause` as the reason.
    pub fn abandon(&mut self, now: Instant, handle: HandleId, cause: &Error) {
        self.close(now, handle);
        for id in self.partitions_of(handle) {
            self.give_up(now, id, cause);
        }
        self.check();
    }

    /// The partitions in which a handle has unreported batches, each once.
    fn partitions_of(&self, handle: HandleId) -> Vec<PartitionId> {
        let unreported = self.handles.get(handle).unreported();
        let mut partitions: Vec<_> = unreported.filter_map(|number| self.ledger.partition(number)).collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions
    }

    /// Whether any unreported record of the handle may be in the log.
    pub fn written(&self, handle: HandleId) -> Written {
        let partitions = self.partitions_of(handle);
        let maybe = partitions.iter().any(|id| self.partitions.get(*id).written() == Written::Maybe);
        if maybe { Written::Maybe } else { Written::No }
    }

    /// Whether every record is reported and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.ledger.is_empty() && self.events.is_empty()
    }

    /// Whether the machine can be dropped: every handle is released, and all records are reported.
    pub fn is_over(&self) -> bool {
        self.handles.len() == 0 && self.is_idle()
    }

    /// How many accepted records of the handle are not reported yet.
    pub fn queued_records(&self, handle: HandleId) -> usize {
        self.handles.find(handle).map_or(0, Handle::queued_records)
    }

    /// How many requests are in flight.
    pub fn requests_in_flight(&self) -> usize {
        self.requests.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::arena::Key;
    use super::*;
    use crate::cluster::{Broker, Call, LeaderHint, Metadata};
    use crate::wire::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};
    use crate::wire::messages::produce::{PartitionProduceResponse, TopicProduceResponse};
    use crate::wire::messages::{InitProducerIdResponse, MetadataResponse, ProduceResponse};
    use crate::wire::records::{Compression, Compressor};

    /// A machine, and a snapshot with topics of these names.
    fn machine(names: &[&str]) -> (Producer, Metadata) {
        let topic = |name: &&str| MetadataResponseTopic {
            name: Some((*name).into()),
            partitions: vec![MetadataResponsePartition { leader_id: Some(1), ..Default::default() }],
            ..Default::default()
        };
        let response = MetadataResponse { topics: names.iter().map(topic).collect(), ..Default::default() };
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
        let pool = BufferPool::new(64 << 20, Arc::new(|| ()));
        (Producer::new(ProducerConfig::default(), backoff, pool, 1), Metadata::default().merged(response, true))
    }

    fn open(producer: &mut Producer, name: &str, metadata: &Metadata) -> (HandleId, TopicIndex) {
        let handle = producer.open(None);
        (handle, producer.topic(Instant(0), handle, name, metadata))
    }

    fn append(producer: &mut Producer, topic: TopicIndex) -> Result<Appended, AppendError> {
        producer.append(Instant(0), topic, None, 0, None, None, &[])
    }

    /// Carries out the events, and forgets handles that are over.
    fn carry_out(producer: &mut Producer) {
        while let Some(event) = producer.poll_event() {
            if let ProducerEvent::Completed(completed) = event {
                completed.carry_out();
            }
        }
        while producer.poll_progress(Instant(0)).is_some() {}
    }

    /// A turn of the machine's task. Every request is answered: gets its producer id, or is stored. Returns the number
    /// of requests.
    fn turn(producer: &mut Producer) -> usize {
        let mut requests = 0;
        while let Some(call) = producer.poll_request(Instant(0)) {
            requests += 1;
            let response = match call.body {
                ProducerRequest::Versions => panic!("no request was refused"),
                ProducerRequest::InitProducerId(_) => ProducerResponse::InitProducerId(InitProducerIdResponse {
                    producer_id: Some(call.id as i64),
                    ..Default::default()
                }),
                ProducerRequest::Produce(request) => {
                    let request = request.seal(&mut Compressor::new(Compression::default()).unwrap()).unwrap();
                    let answer = |name: String| TopicProduceResponse {
                        name,
                        partition_responses: vec![PartitionProduceResponse::default()],
                        ..Default::default()
                    };
                    let responses = request.topic_data.into_iter().map(|topic| answer(topic.name)).collect();
                    ProducerResponse::Produce(ProduceResponse { responses, ..Default::default() })
                }
            };
            producer.handle_response(Instant(0), call.id, Ok(response));
        }
        carry_out(producer);
        producer.poll_timeout();
        requests
    }

    #[test]
    fn a_wake_up_looks_at_no_lane_that_has_nothing_to_do_and_lanes_that_are_over_are_removed() {
        const LANES: usize = 10_000;
        let (mut producer, metadata) = machine(&["shared", "other"]);
        let (_, stays) = open(&mut producer, "shared", &metadata);
        let others: Vec<_> = (1..LANES).map(|_| open(&mut producer, "shared", &metadata)).collect();
        let visits_of_a_turn = |producer: &mut Producer| {
            let before = producer.lanes.count_and_visits().1;
            let record = append(producer, stays).unwrap();
            assert!(turn(producer) > 0 && record.completion.is_resolved(record.index));
            producer.lanes.count_and_visits().1 - before
        };
        let visits = visits_of_a_turn(&mut producer);
        assert!(visits < 30, "{visits} looks at lanes although one of {LANES} sends");

        let last: Vec<_> = others.iter().map(|(_, topic)| append(&mut producer, *topic).unwrap()).collect();
        for (handle, _) in others {
            producer.release(Instant(0), handle);
        }
        assert_eq!(producer.lanes.count_and_visits().0, LANES, "their last records are not reported");
        turn(&mut producer);
        assert!(last.iter().all(|record| matches!(record.completion.outcome(record.index), Some(Ok(_)))));
        assert_eq!(producer.lanes.count_and_visits().0, 1);
        let visits = visits_of_a_turn(&mut producer);
        assert!(visits < 30, "{visits} looks at lanes, of which one is left");
    }

    #[test]
    fn a_new_leader_of_one_partition_costs_no_look_at_the_others() {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: Some(1),
            leader_epoch: Some(1),
            ..Default::default()
        };
        let partitions = (0..10_000).map(partition).collect();
        let topic = MetadataResponseTopic { name: Some("many".into()), partitions, ..Default::default() };
        let metadata = Metadata::default().merged(MetadataResponse { topics: vec![topic], ..Default::default() }, true);
        let (mut producer, _) = machine(&[]);
        let (_, topic) = open(&mut producer, "many", &metadata);
        let hint = LeaderHint { topic: "many".into(), partition: 7_777, leader: 2, leader_epoch: Some(2) };
        let brokers = vec![Broker::new(2, "kafka", 9092, None).unwrap()];
        let before = producer.partitions.visits();
        producer.handle_metadata(Instant(0), &metadata.with_leaders(&[hint], brokers).unwrap());
        let visits = producer.partitions.visits() - before;
        assert!(visits < 10, "{visits} looks at partitions");
        let leader = |producer: &Producer, index| {
            producer.partitions.get(producer.topics.get(topic).partition(index).unwrap()).leader()
        };
        assert_eq!((leader(&producer, 7_777), leader(&producer, 7_776)), (Some(2), Some(1)));
    }

    #[test]
    fn a_batch_that_is_too_large_is_taken_apart_when_its_pieces_are_sealed_and_not_under_the_lock() {
        let rebuilt = || split::tests::REBUILT.with(std::cell::Cell::get);
        let (mut producer, metadata) = machine(&["a"]);
        let (_, topic) = open(&mut producer, "a", &metadata);
        for _ in 0..4 {
            append(&mut producer, topic).unwrap();
        }
        let init = producer.poll_request(Instant(0)).unwrap();
        let response = InitProducerIdResponse { producer_id: Some(7), ..Default::default() };
        producer.handle_response(Instant(0), init.id, Ok(ProducerResponse::InitProducerId(response)));
        let seal = |call: Call<ProducerRequest>| match call.body {
            ProducerRequest::Produce(request) => {
                request.seal(&mut Compressor::new(Compression::default()).unwrap()).unwrap()
            }
            other => panic!("{other:?} is not what was to be sent"),
        };
        let produce = producer.poll_request(Instant(0)).unwrap();
        let id = produce.id;
        seal(produce);
        let error_code = crate::wire::ErrorCode::MESSAGE_TOO_LARGE;
        let refused = PartitionProduceResponse { error_code, ..Default::default() };
        let refused =
            TopicProduceResponse { name: "a".into(), partition_responses: vec![refused], ..Default::default() };
        let response = ProduceResponse { responses: vec![refused], ..Default::default() };
        producer.handle_response(Instant(0), id, Ok(ProducerResponse::Produce(response)));
        let half = producer.poll_request(Instant(0)).unwrap();
        assert_eq!(rebuilt(), 0);
        seal(half);
        assert_eq!(rebuilt(), 1);
    }

    #[test]
    fn a_producer_id_that_comes_for_a_lane_that_is_gone_goes_to_no_other_lane() {
        let (mut producer, metadata) = machine(&["shared"]);
        let (_keeper, _) = open(&mut producer, "shared", &metadata);
        let (handle, topic) = open(&mut producer, "shared", &metadata);
        append(&mut producer, topic).unwrap();
        let late = producer.poll_request(Instant(0)).unwrap();
        producer.abandon(Instant(0), handle, &Error::new(ErrorKind::Closed, "over"));
        producer.release(Instant(0), handle);
        carry_out(&mut producer);

        let (_, topic) = open(&mut producer, "shared", &metadata);
        append(&mut producer, topic).unwrap();
        let response = InitProducerIdResponse { producer_id: Some(7), ..Default::default() };
        producer.handle_response(Instant(0), late.id, Ok(ProducerResponse::InitProducerId(response)));
        let next = producer.poll_request(Instant(0)).unwrap();
        assert!(matches!(next.body, ProducerRequest::InitProducerId(_)), "it asks for its own");
        assert!(!producer.has_failed());
    }

    #[test]
    fn a_mistake_of_ours_stops_the_machine_and_reports_every_record_of_every_handle() {
        let mistakes: [fn(&mut Producer, PartitionId); 4] = [
            |producer, _| assert!(producer.partitions.get(PartitionId::new(99)).is_landed()),
            |producer, _| drop(producer.partitions.remove(PartitionId::new(99))),
            |producer, id| producer.partitions.get_mut(id).lose_batch(),
            |producer, _| producer.leaders = Leaders::new(5),
        ];
        for mistake in mistakes {
            let (mut producer, metadata) = machine(&["a", "b"]);
            let opened = ["a", "b"].map(|name| open(&mut producer, name, &metadata));
            turn(&mut producer);
            let records = opened.map(|(_, topic)| append(&mut producer, topic).unwrap());
            let mark = producer.flush(Instant(0), opened[0].0);
            let init = producer.poll_request(Instant(0)).unwrap();
            let response = InitProducerIdResponse { producer_id: Some(7), ..Default::default() };
            producer.handle_response(Instant(0), init.id, Ok(ProducerResponse::InitProducerId(response)));
            let produce = producer.poll_request(Instant(0)).unwrap();

            mistake(&mut producer, PartitionId::new(0));
            producer.handle_response(Instant(0), produce.id, Err(Error::new(ErrorKind::Disconnected, "planted")));
            assert!(producer.has_failed() && producer.poll_request(Instant(0)).is_none());

            carry_out(&mut producer);
            for record in &records {
                assert_eq!(record.completion.outcome(0).unwrap().unwrap_err().kind(), ErrorKind::Internal);
            }
            assert!(producer.is_flushed(opened[0].0, mark) && producer.is_idle());
            assert!(matches!(append(&mut producer, opened[1].1), Err(AppendError::Refused(_))));
        }
    }
}
