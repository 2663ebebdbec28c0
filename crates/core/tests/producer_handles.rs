//! Many producers in one machine: what they share, and that none is affected by another's errors.

mod producer_support;

use std::collections::BTreeMap;
use std::sync::Arc;

use kavka_core::cluster::Metadata;
use kavka_core::config::ProducerConfig;
use kavka_core::error::{Error, ErrorKind, Phase};
use kavka_core::producer::{
    AppendError, Appended, HandleId, Producer, ProducerEvent, ProducerRequest, ProducerResponse, TopicIndex,
};
use kavka_core::time::Instant;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::produce::{PartitionProduceResponse, TopicProduceResponse};
use kavka_core::wire::messages::{InitProducerIdResponse, ProduceRequest, ProduceResponse};
use kavka_core::wire::records::{Compression, Compressor, ProducerStamp};
use producer_support::{BACKOFF, metadata_of, pool, seen};

/// A machine, and a clock.
struct Rig {
    machine: Producer,
    metadata: Arc<Metadata>,
    now: Instant,
    next_producer_id: i64,
}

/// A request, by the broker's name.
struct Sent {
    id: u64,
    request: ProduceRequest,
}

impl Sent {
    fn topics(&self) -> Vec<&str> {
        self.request.topic_data.iter().map(|topic| topic.name.as_str()).collect()
    }

    fn stamps(&self) -> Vec<ProducerStamp> {
        seen(&self.request).into_iter().map(|batch| batch.stamp.unwrap()).collect()
    }
}

impl Rig {
    fn new(topics: usize, config: ProducerConfig) -> Self {
        let machine = Producer::new(config, BACKOFF, pool(64 << 20), 7);
        let metadata = Arc::new(metadata_of(&Metadata::default(), (0..topics).map(name)));
        Self { machine, metadata, now: Instant(0), next_producer_id: 40 }
    }

    fn open(&mut self, topic: usize, max_queued_records: Option<usize>) -> (HandleId, TopicIndex) {
        let handle = self.machine.open(max_queued_records);
        (handle, self.machine.topic(self.now, handle, &name(topic), &self.metadata))
    }

    fn append(&mut self, topic: TopicIndex) -> Result<Appended, AppendError> {
        self.machine.append(self.now, topic, None, 0, None, Some(b"v"), &[])
    }

    fn poll(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some(call) = self.machine.poll_request(self.now) {
            let (call, request) = call.take_body();
            match request {
                ProducerRequest::InitProducerId(_) => {
                    let producer_id = Some(self.next_producer_id);
                    self.next_producer_id += 1;
                    let response = InitProducerIdResponse { producer_id, ..Default::default() };
                    let response = ProducerResponse::InitProducerId(response);
                    self.machine.handle_response(self.now, call.id, Ok(response));
                }
                ProducerRequest::Versions => panic!("no request was refused"),
                ProducerRequest::Produce(request) => {
                    let mut compressor = Compressor::new(Compression::default()).unwrap();
                    sent.push(Sent { id: call.id, request: request.seal(&mut compressor).unwrap() });
                }
            }
        }
        sent
    }

    /// Answers that every batch was stored.
    fn store(&mut self, sent: &Sent) {
        let stored = |index| PartitionProduceResponse { index, error_code: ErrorCode::NONE, ..Default::default() };
        let responses = sent.request.topic_data.iter().map(|topic| TopicProduceResponse {
            name: topic.name.clone(),
            partition_responses: topic.partition_data.iter().map(|data| stored(data.index)).collect(),
            ..Default::default()
        });
        let response = ProduceResponse { responses: responses.collect(), ..Default::default() };
        self.machine.handle_response(self.now, sent.id, Ok(ProducerResponse::Produce(response)));
        self.carry_out();
    }

    /// Carries out the events, and forgets handles that are over.
    fn carry_out(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            if let ProducerEvent::Completed(completed) = event {
                completed.carry_out();
            }
        }
        while self.machine.poll_progress(self.now).is_some() {}
    }
}

fn name(topic: usize) -> String {
    format!("topic-{topic:04}")
}

fn is_stored(appended: &Appended) -> bool {
    matches!(appended.completion.outcome(appended.index), Some(Ok(_)))
}

fn is_open(appended: &Appended) -> bool {
    appended.completion.outcome(appended.index).is_none()
}

fn lingers() -> ProducerConfig {
    ProducerConfig::default().linger(std::time::Duration::from_secs(60))
}

#[test]
fn one_request_carries_the_records_of_a_thousand_handles() {
    let mut rig = Rig::new(1_000, ProducerConfig::default());
    let topics: Vec<_> = (0..1_000).map(|topic| rig.open(topic, None).1).collect();
    let appended: Vec<_> = topics.iter().map(|topic| rig.append(*topic).unwrap()).collect();
    let sent = rig.poll();
    assert_eq!(sent.iter().map(|sent| sent.topics().len()).collect::<Vec<_>>(), [1_000]);
    rig.store(&sent[0]);
    assert!(appended.iter().all(is_stored));
}

#[test]
fn flushing_a_handle_neither_waits_for_another_nor_sends_what_it_has() {
    let mut rig = Rig::new(2, lingers());
    let ((a, topic_a), (b, topic_b)) = (rig.open(0, None), rig.open(1, None));
    for topic in [topic_a, topic_b] {
        rig.append(topic).unwrap();
    }
    let first = rig.poll();
    rig.append(topic_b).unwrap();
    rig.append(topic_a).unwrap();
    rig.store(&first[0]);
    let mark = rig.machine.flush(rig.now, a);
    let sent = rig.poll();
    assert_eq!(sent.iter().flat_map(Sent::topics).collect::<Vec<_>>(), [name(0)], "the other lingers");
    assert!(!rig.machine.is_flushed(a, mark));
    rig.store(&sent[0]);
    assert!(rig.machine.is_flushed(a, mark));
    assert_eq!((rig.machine.queued_records(a), rig.machine.queued_records(b)), (0, 1));
}

#[test]
fn giving_up_a_handle_fails_its_records_and_no_others() {
    let mut rig = Rig::new(2, lingers());
    let ((a, topic_a), (_, topic_b)) = (rig.open(0, None), rig.open(1, None));
    let (mine, other) = (rig.append(topic_a).unwrap(), rig.append(topic_b).unwrap());
    let sent = rig.poll();
    assert_eq!(sent.len(), 1, "they share a request");
    rig.machine.abandon(rig.now, a, &Error::new(ErrorKind::TimedOut(Phase::Close), "the time to close was over"));
    rig.carry_out();
    assert!(matches!(mine.completion.outcome(0), Some(Err(_))) && is_open(&other));
    assert!(matches!(rig.append(topic_a), Err(AppendError::Refused(error)) if error.kind() == ErrorKind::Closed));
    rig.append(topic_b).unwrap();
    rig.store(&sent[0]);
    assert!(is_stored(&other));
}

#[test]
fn a_handle_whose_count_is_full_lets_its_records_go_and_blocks_nobody_else() {
    let mut rig = Rig::new(2, lingers());
    let ((_, small), (_, other)) = (rig.open(0, Some(3)), rig.open(1, None));
    rig.append(small).unwrap();
    let lone = rig.poll();
    rig.store(&lone[0]);
    rig.append(small).unwrap();
    let lone = rig.poll();
    for _ in 0..2 {
        rig.append(small).unwrap();
    }
    rig.store(&lone[0]);
    rig.append(small).unwrap();
    assert!(rig.poll().is_empty(), "they linger");
    assert!(matches!(rig.append(small), Err(AppendError::TooManyRecords(3))));
    let sent = rig.poll();
    assert_eq!(seen(&sent[0].request)[0].values.len(), 3, "waiting for room is not waiting for the linger");
    rig.append(other).unwrap();
    rig.store(&sent[0]);
    rig.append(small).unwrap();
}

#[test]
fn two_handles_on_one_topic_have_a_producer_id_each_and_are_never_in_one_request() {
    let mut rig = Rig::new(2, ProducerConfig::default());
    let (a, b) = (rig.open(0, None), rig.open(0, None));
    let (_, shared) = rig.open(1, None);
    let appended: Vec<_> = [a.1, b.1, shared].into_iter().map(|topic| rig.append(topic).unwrap()).collect();
    let sent = rig.poll();
    let topics: Vec<_> = sent.iter().map(Sent::topics).collect();
    assert_eq!(topics, [vec![name(0), name(1)], vec![name(0)]]);
    let producer_id = |sent: &Sent| sent.stamps()[0].producer_id;
    assert_ne!(producer_id(&sent[0]), producer_id(&sent[1]));
    for sent in &sent {
        rig.store(sent);
    }
    assert!(appended.iter().all(is_stored));
    assert_eq!(rig.machine.topic(rig.now, b.0, &name(0), &Arc::clone(&rig.metadata)), b.1, "it stays the same");
}

#[test]
fn a_released_handle_delivers_what_it_has_and_is_forgotten() {
    let mut rig = Rig::new(1, lingers());
    let (handle, topic) = rig.open(0, None);
    rig.append(topic).unwrap();
    let lone = rig.poll();
    let last = rig.append(topic).unwrap();
    rig.machine.release(rig.now, handle);
    rig.store(&lone[0]);
    assert!(!rig.machine.is_over(), "it has a record");
    let sent = rig.poll();
    rig.store(&sent[0]);
    assert!(is_stored(&last) && rig.machine.is_over());
    let late = rig.append(topic);
    assert!(matches!(late, Err(AppendError::Refused(error)) if error.kind() == ErrorKind::Misuse));
}

#[test]
fn sequence_numbers_of_a_topic_that_was_forgotten_are_not_given_out_again() {
    let mut rig = Rig::new(2, ProducerConfig::default());
    let (_keeper, kept) = rig.open(1, None);
    let mut seen_stamps = BTreeMap::new();
    for round in 0..3 {
        let (handle, topic) = rig.open(0, None);
        rig.append(topic).unwrap();
        rig.append(kept).unwrap();
        for sent in rig.poll() {
            for (topic, stamp) in sent.topics().into_iter().zip(sent.stamps()) {
                let key = (topic.to_owned(), stamp.producer_id, stamp.producer_epoch, stamp.base_sequence);
                assert_eq!(seen_stamps.insert(key, round), None, "{stamp:?} was used for two batches of {topic}");
            }
            rig.store(&sent);
        }
        rig.machine.release(rig.now, handle);
        rig.carry_out();
    }
    let producer_ids: Vec<_> = seen_stamps.keys().map(|(_, producer_id, ..)| *producer_id).collect();
    assert!(producer_ids.iter().all(|id| *id == producer_ids[0]), "one producer id does: {producer_ids:?}");
}

#[test]
fn a_topic_with_a_batch_in_flight_is_forgotten_when_it_is_answered() {
    let mut rig = Rig::new(2, ProducerConfig::default());
    // Keeps the producer id in use.
    let _keeper = rig.open(1, None);
    let (handle, topic) = rig.open(0, None);
    rig.append(topic).unwrap();
    let sent = rig.poll();
    rig.machine.abandon(rig.now, handle, &Error::new(ErrorKind::TimedOut(Phase::Close), "over"));
    rig.machine.release(rig.now, handle);
    rig.carry_out();
    let (_, next) = rig.open(0, None);
    rig.append(next).unwrap();
    let other = rig.poll();
    assert_ne!(sent[0].stamps()[0].producer_id, other[0].stamps()[0].producer_id, "the old batch may arrive yet");
    rig.store(&sent[0]);
    rig.store(&other[0]);
    let (_, again) = rig.open(0, None);
    rig.append(again).unwrap();
    let third = rig.poll();
    let (first, third) = (sent[0].stamps()[0], third[0].stamps()[0]);
    assert_eq!(first.producer_id, third.producer_id);
    assert!(first.producer_epoch < third.producer_epoch);
}

#[test]
fn a_topic_that_disappears_after_its_producer_is_gone_stops_no_other_producer() {
    let mut rig = Rig::new(2, ProducerConfig::default());
    let (_keeper, kept) = rig.open(1, None);
    let (handle, topic) = rig.open(0, None);
    rig.append(topic).unwrap();
    let unanswered = rig.poll();
    rig.machine.abandon(rig.now, handle, &Error::new(ErrorKind::TimedOut(Phase::Close), "over"));
    rig.machine.release(rig.now, handle);
    rig.carry_out();
    let without = Arc::new(metadata_of(&rig.metadata, std::iter::once(name(1))));
    rig.machine.handle_metadata(rig.now, &without);
    let appended = rig.append(kept).unwrap();
    let sent = rig.poll();
    rig.store(&sent[0]);
    rig.store(&unanswered[0]);
    assert!(is_stored(&appended) && !rig.machine.has_failed());
}

#[test]
fn a_partition_on_the_list_of_a_forgotten_one_is_numbered_with_its_own_producer_id() {
    let mut config = ProducerConfig::default();
    config.max_in_flight = 1;
    let mut rig = Rig::new(2, config);
    let ((_, first), (forgotten, gone)) = (rig.open(0, None), rig.open(1, None));
    rig.append(first).unwrap();
    let sent = rig.poll();
    rig.append(gone).unwrap();
    assert!(rig.poll().is_empty(), "the broker is busy");
    rig.machine.abandon(rig.now, forgotten, &Error::new(ErrorKind::TimedOut(Phase::Close), "over"));
    rig.machine.release(rig.now, forgotten);
    rig.carry_out();
    let (_, second) = rig.open(0, None);
    rig.append(second).unwrap();
    rig.store(&sent[0]);
    let other = rig.poll();
    assert_ne!(sent[0].stamps()[0], other[0].stamps()[0], "the broker would take it for the first record once more");
    assert_ne!(sent[0].stamps()[0].producer_id, other[0].stamps()[0].producer_id);
}

#[test]
fn a_handle_that_is_full_is_told_of_room_when_there_is_some_and_not_before() {
    let mut rig = Rig::new(1, lingers());
    let (_, topic) = rig.open(0, Some(1));
    rig.append(topic).unwrap();
    let sent = rig.poll();
    assert!(matches!(rig.append(topic), Err(AppendError::TooManyRecords(1))));
    assert_eq!(rig.machine.poll_progress(rig.now), None, "a waiting caller would be woken for nothing");
    rig.store(&sent[0]);
    rig.append(topic).unwrap();
}
