//! The consumer machine when events cross: leaders that move during a request, pauses that drop a buffer, sessions
//! whose topics change, and malformed responses.

mod consumer_kit;

use bytes::Bytes;
use consumer_kit::{Kit, TOPIC, answer, batch, config, data, key, metadata, refusal};
use kavka_core::cluster::{Notice, Outdated};
use kavka_core::consumer::{ConsumerEvent, ConsumerRequest, ConsumerResponse, StartPosition};
use kavka_core::error::{Error, ErrorKind};
use kavka_core::wire::messages::fetch::PartitionData;
use kavka_core::wire::messages::list_offsets::EARLIEST_TIMESTAMP;
use kavka_core::wire::messages::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kavka_core::wire::messages::{FetchResponse, ListOffsetsResponse};
use kavka_core::wire::{ErrorCode, Uuid};

fn failures(kit: &mut Kit) -> usize {
    kit.events().iter().filter(|event| matches!(event, ConsumerEvent::Failed(_))).count()
}

/// What the consumer asked new metadata for.
fn outdated(kit: &mut Kit) -> Outdated {
    let mut all = Outdated::default();
    while let Some(event) = kit.consumer.poll_event() {
        if let ConsumerEvent::Notice(Notice::RefreshMetadata(outdated)) = event {
            all.add(outdated);
        }
    }
    all
}

// Pauses.

#[test]
fn a_paused_partition_that_gave_up_its_buffer_while_its_log_was_in_question_goes_on_when_resumed() {
    let config = config().fetch_buffer(4_000).max_partition_fetch_bytes(2_000);
    let mut kit = Kit::of_partitions(config, 2);
    kit.leaders(&[(Some(1), 0), (Some(2), 0)]);
    let ((id, _), (idle, _)) = (kit.fetch(), kit.fetch());
    kit.answer_fetch(id, answer(9, vec![data(0, batch(0, &[&[b'x'; 3_000]]))]));
    kit.consumer.pause(&key(0)).unwrap();
    kit.leaders(&[(Some(1), 1), (Some(2), 0)]);
    let question = kit.request().expect("the new leader is asked where the epoch ended");
    kit.pass(100);
    kit.answer_fetch(idle, answer(5, vec![]));
    // The paused partition's buffer is dropped to make room for the other one.
    let (_, fetch) = kit.fetch();
    assert_eq!(fetch.max_bytes, 2_000);
    kit.consumer.handle_response(kit.now, question.id, Err(Error::new(ErrorKind::Disconnected, "gone")));
    kit.consumer.resume(&key(0)).unwrap();
    kit.pass(5_000);
    kit.answer_epoch_end(0, Some(3));
    let request = kit.request().expect("the partition is asked for again");
    assert_eq!(request.broker_id(), Some(1));
}

// Leaders that move.

#[test]
fn a_question_to_a_leader_that_froze_is_asked_again_of_the_next_one() {
    let mut kit = Kit::new(config());
    kit.leaders(&[(Some(1), 0)]);
    kit.consumer.add(&key(0), StartPosition::Latest).unwrap();
    let frozen = kit.request().unwrap();
    assert_eq!(frozen.broker_id(), Some(1));
    kit.leaders(&[(Some(2), 1)]);
    kit.answer_offset(0, 70);
    assert_eq!(kit.position(0), Some(70));
    kit.consumer.handle_response(kit.now, frozen.id, Err(Error::new(ErrorKind::Disconnected, "gone")));
    assert_eq!(kit.position(0), Some(70));
}

#[test]
fn what_a_leader_of_before_says_of_the_range_moves_no_position() {
    let mut kit = Kit::new(config());
    kit.leaders(&[(Some(1), 0)]);
    kit.consumer.add(&key(0), StartPosition::Offset(500)).unwrap();
    let (id, _) = kit.fetch();
    kit.leaders(&[(Some(2), 1)]);
    kit.answer_fetch(id, answer(9, vec![refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE)]));
    let request = kit.request().unwrap();
    assert!(matches!(request.body, ConsumerRequest::Fetch(_)) && request.broker_id() == Some(2), "{request:?}");
    assert_eq!(kit.position(0), Some(500));
}

// Records below the position.

#[test]
fn a_damaged_header_does_not_make_a_batch_one_that_was_read_already() {
    let mut damaged = batch(100, &[&b"a"[..]; 10]).to_vec();
    damaged[23..27].copy_from_slice(&2_i32.to_be_bytes());
    let mut kit = Kit::of_partitions(config(), 1);
    kit.consumer.seek(&key(0), StartPosition::Offset(105)).unwrap();
    kit.feed(vec![data(0, [damaged.into(), batch(110, &[b"b"])].concat())]);
    assert_eq!(kit.offsets(), Vec::<i64>::new());
    let errors = kit.errors();
    assert!(errors.len() == 1 && errors[0].contains("CRC") && errors[0].contains("offset 105"), "{errors:?}");
}

// Topics and sessions.

#[test]
fn a_topic_without_an_id_is_fetched_by_its_name() {
    let mut kit = Kit::new(config());
    kit.consumer.handle_metadata(kit.now, &metadata(&[(Some(1), 0)], Uuid::ZERO));
    kit.consumer.add(&key(0), StartPosition::Offset(0)).unwrap();
    let request = kit.request().unwrap();
    assert!(matches!(request.body, ConsumerRequest::Fetch(_)));
    assert_eq!(request.max_version, 12, "the last version that names topics");
    let mut response = answer(9, vec![data(0, batch(0, &[b"a"]))]);
    response.responses[0].topic = TOPIC.into();
    response.responses[0].topic_id = Uuid::ZERO;
    kit.answer_fetch(request.id, response);
    assert_eq!(kit.offsets(), [0]);
    kit.leaders(&[(Some(1), 0)]);
    assert_eq!(kit.request().unwrap().max_version, i16::MAX, "with its id it needs no old version");
}

#[test]
fn a_broker_that_knows_no_topic_ids_does_not_make_us_forget_the_one_that_others_answer_with() {
    let mut kit = Kit::of_partitions(config(), 1);
    kit.consumer.handle_metadata(kit.now, &metadata(&[(Some(1), 0)], Uuid::ZERO));
    kit.feed(vec![data(0, batch(0, &[b"a"]))]);
    assert_eq!(kit.offsets(), [0]);
}

#[test]
fn a_session_that_names_topics_is_not_told_to_forget_one_that_was_created_again() {
    let mut kit = Kit::of_partitions(config(), 1);
    kit.versions.fetch = 12;
    let mut response = answer(9, vec![data(0, batch(0, &[b"a"]))]);
    response.responses[0].topic = TOPIC.into();
    let (id, _) = kit.fetch();
    kit.answer_fetch(id, response);
    kit.consumer.handle_metadata(kit.now, &metadata(&[(Some(1), 0)], Uuid([8; 16])));
    assert_eq!(kit.errors().len(), 1);
    kit.consumer.seek(&key(0), StartPosition::Offset(0)).unwrap();
    let (_, request) = kit.fetch();
    assert_eq!((request.session_id, request.session_epoch), (9, Some(1)));
    assert_eq!(request.topics[0].partitions[0].fetch_offset, 0);
    assert!(request.forgotten_topics_data.is_empty(), "the broker would forget what it was just asked for");
}

#[test]
fn a_refused_fetch_asks_for_metadata_of_the_topics_that_it_named() {
    for (code, topics) in [(ErrorCode::UNKNOWN_TOPIC_ID, vec![TOPIC]), (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, vec![])]
    {
        let mut kit = Kit::of_partitions(config(), 2);
        let (id, _) = kit.fetch();
        let refused = FetchResponse { error_code: code, ..FetchResponse::default() };
        kit.answer_fetch(id, refused);
        assert_eq!(outdated(&mut kit), Outdated::Topics(topics.into_iter().map(Into::into).collect()), "{code}");
    }
}

#[test]
fn a_question_about_offsets_without_an_answer_asks_for_metadata_of_its_topic() {
    for (kind, topics) in [(ErrorKind::Disconnected, vec![TOPIC]), (ErrorKind::Unsupported, vec![])] {
        let mut kit = Kit::new(config());
        kit.leaders(&[(Some(1), 0)]);
        kit.consumer.add(&key(0), StartPosition::Latest).unwrap();
        let request = kit.request().expect("it asks for the end of the log");
        kit.consumer.handle_response(kit.now, request.id, Err(Error::new(kind, "no answer")));
        assert_eq!(outdated(&mut kit), Outdated::Topics(topics.into_iter().map(Into::into).collect()), "{kind:?}");
    }
}

// Reported errors, and how often.

#[test]
fn an_answer_about_offsets_that_cannot_be_read_is_reported_once() {
    let mut kit = Kit::new(config());
    kit.leaders(&[(Some(1), 0)]);
    kit.consumer.add(&key(0), StartPosition::Latest).unwrap();
    let mut reported = 0;
    for _ in 0..5 {
        let request = kit.request().expect("the question is asked again");
        kit.consumer.handle_response(kit.now, request.id, Err(Error::new(ErrorKind::Malformed, "nonsense")));
        reported += failures(&mut kit);
        kit.pass(2_000);
    }
    assert_eq!(reported, 1);
}

#[test]
fn a_broker_whose_fetches_cannot_be_read_is_reported_once_until_one_can() {
    let mut kit = Kit::of_partitions(config(), 1);
    let mut reported = 0;
    for _ in 0..5 {
        let (id, _) = kit.fetch();
        kit.consumer.handle_response(kit.now, id, Err(Error::new(ErrorKind::Malformed, "nonsense")));
        reported += failures(&mut kit);
        kit.pass(2_000);
    }
    assert_eq!(reported, 1, "that it connects does not mean that it works");
    kit.feed(vec![data(0, batch(0, &[b"a"]))]);
    let (id, _) = kit.fetch();
    kit.consumer.handle_response(kit.now, id, Err(Error::new(ErrorKind::Malformed, "nonsense")));
    assert_eq!(failures(&mut kit), 1, "it worked in between");
}

// Taking turns.

#[test]
fn a_partition_that_was_removed_and_added_again_has_one_turn_in_each_round() {
    let two = |partition| data(partition, [batch(0, &[b"a"]), batch(1, &[b"b"])].concat());
    let mut kit = Kit::of_partitions(config(), 2);
    kit.feed(vec![two(0)]);
    kit.consumer.remove(&key(0)).unwrap();
    kit.consumer.add(&key(0), StartPosition::Offset(0)).unwrap();
    kit.feed(vec![two(0), two(1)]);
    let order: Vec<i32> = kit.take_all().iter().map(|given| given.partition).collect();
    assert_eq!(order, [0, 1, 0, 1]);
}

// Followers (KIP-392).

fn redirect(to: i32) -> PartitionData {
    PartitionData { preferred_read_replica: Some(to), ..data(0, Bytes::new()) }
}

#[test]
fn brokers_that_send_us_in_circles_are_asked_a_few_times_a_second_at_most() {
    let sent_back: [fn(i32) -> PartitionData; 3] = [
        |broker_id| redirect(if broker_id == 1 { 2 } else { 1 }),
        |_| redirect(1),
        |broker_id| if broker_id == 1 { redirect(2) } else { refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE) },
    ];
    for sent_back in sent_back {
        let mut kit = Kit::of_partitions(config().client_rack(Some("a".into())), 1);
        let mut fetches = 0;
        for _ in 0..1_000 {
            while let Some(request) = kit.request() {
                fetches += 1;
                assert!(fetches <= 25, "more than 25 fetches within {:?}", kit.now);
                kit.answer_fetch(request.id, answer(9, vec![sent_back(request.broker_id().unwrap())]));
            }
            kit.pass(1);
        }
        assert!(fetches >= 5, "{fetches} fetches in a second");
        assert_eq!(kit.position(0), Some(0));
    }
}

// Old brokers.

#[test]
fn a_time_before_every_segment_of_an_old_broker_is_the_beginning() {
    let mut kit = Kit::new(config());
    kit.versions.list_offsets = 0;
    kit.leaders(&[(Some(1), 0)]);
    kit.consumer.add(&key(0), StartPosition::Timestamp(1_000)).unwrap();
    let request = kit.request().unwrap();
    let found = ListOffsetsPartitionResponse { partition_index: 0, ..Default::default() };
    let topics = vec![ListOffsetsTopicResponse { name: TOPIC.into(), partitions: vec![found] }];
    let response = ListOffsetsResponse { topics, ..Default::default() };
    kit.consumer.handle_response(kit.now, request.id, Ok(ConsumerResponse::ListOffsets(response)));
    let ConsumerRequest::ListOffsets(asked) = kit.request().unwrap().body else { panic!("another question is due") };
    assert_eq!(asked.topics[0].partitions[0].timestamp, EARLIEST_TIMESTAMP);
}
