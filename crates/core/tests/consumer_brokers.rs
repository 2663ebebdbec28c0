//! The consumer machine and the brokers it asks: fetch sessions, leaders that move or refuse, and the fetch buffer.

mod consumer_kit;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consumer_kit::{
    Kit, TOPIC, TOPIC_ID, answer, asked, batch, config, data, description, key, kit, metadata, refusal,
};
use kavka_core::backoff::Backoff;
use kavka_core::cluster::{MetadataRefresh, Notice, Outdated, RefreshConfig};
use kavka_core::consumer::{ConsumerEvent, ConsumerRequest, StartPosition, TopicPartition};
use kavka_core::error::{Error, ErrorKind};
use kavka_core::time::Instant;
use kavka_core::wire::ErrorCode;
use kavka_core::wire::messages::MetadataResponse;
use kavka_core::wire::messages::fetch::PartitionData;

// Fetch sessions.

#[test]
fn a_session_is_told_only_what_changed() {
    let mut kit = kit(3);
    let (id, request) = kit.fetch();
    assert_eq!((request.session_id, request.session_epoch), (0, Some(0)));
    assert_eq!(asked(&request.topics).len(), 3);
    kit.answer_fetch(id, answer(9, vec![data(1, batch(0, &[b"a"]))]));
    let (id, request) = kit.fetch();
    assert_eq!((request.session_id, request.session_epoch), (9, Some(1)));
    assert_eq!(asked(&request.topics), [(1, 1)]);
    assert!(request.forgotten_topics_data.is_empty());
    kit.consumer.pause(&key(2)).unwrap();
    kit.pass(100);
    kit.answer_fetch(id, answer(9, vec![]));
    let (_, request) = kit.fetch();
    assert_eq!((request.session_epoch, asked(&request.topics)), (Some(2), vec![]));
    assert_eq!(request.forgotten_topics_data[0].partitions, [2]);
    assert_eq!(request.forgotten_topics_data[0].topic_id, TOPIC_ID);
}

#[test]
fn a_lost_session_is_begun_anew_with_every_partition() {
    for (code, session_id) in [(ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0), (ErrorCode::INVALID_FETCH_SESSION_EPOCH, 9)]
    {
        let mut kit = kit(2);
        kit.feed(vec![data(0, batch(0, &[b"a"]))]);
        let (id, _) = kit.fetch();
        kit.answer_fetch(id, kavka_core::wire::messages::FetchResponse { error_code: code, ..answer(0, vec![]) });
        let (_, request) = kit.fetch();
        assert_eq!((request.session_id, request.session_epoch), (session_id, Some(0)));
        let mut all = asked(&request.topics);
        all.sort_unstable();
        assert_eq!(all, [(0, 1), (1, 0)]);
    }
}

#[test]
fn after_an_unanswered_fetch_the_session_is_not_trusted() {
    let mut kit = kit(2);
    kit.feed(vec![data(0, batch(0, &[b"a"]))]);
    let (id, _) = kit.fetch();
    kit.consumer.handle_response(kit.now, id, Err(Error::new(ErrorKind::Disconnected, "gone")));
    assert!(kit.request().is_none(), "a broker that failed is left alone for a while");
    kit.pass(200);
    let (_, request) = kit.fetch();
    assert_eq!((request.session_id, request.session_epoch), (9, Some(0)));
    assert_eq!(asked(&request.topics).len(), 2);
}

#[test]
fn a_broker_without_sessions_gets_every_partition_each_time() {
    let mut kit = kit(2);
    kit.versions.fetch = 4;
    for _ in 0..2 {
        let (id, request) = kit.fetch();
        assert_eq!(request.session_epoch, None);
        assert_eq!(asked(&request.topics).len(), 2);
        kit.pass(100);
        let mut response = answer(0, vec![]);
        response.responses[0].topic = consumer_kit::TOPIC.into();
        kit.answer_fetch(id, response);
    }
}

#[test]
fn a_broker_that_comes_back_older_is_not_sent_a_delta() {
    let mut kit = kit(2);
    kit.feed(vec![data(0, batch(0, &[b"a"]))]);
    let (id, _) = kit.fetch();
    kit.consumer.handle_response(kit.now, id, Err(Error::new(ErrorKind::Disconnected, "gone")));
    kit.versions.fetch = 4;
    kit.pass(200);
    let (_, request) = kit.fetch();
    assert_eq!(request.session_epoch, None);
    assert_eq!(asked(&request.topics).len(), 2);
}

// Leaders.

#[test]
fn a_new_leader_named_in_an_answer_is_passed_on() {
    let mut kit = kit(1);
    let mut moved = refusal(0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    moved.current_leader.leader_id = Some(2);
    moved.current_leader.leader_epoch = Some(4);
    kit.feed(vec![moved]);
    let hints = kit.events().into_iter().find_map(|event| match event {
        ConsumerEvent::Notice(Notice::LeaderHints { hints, .. }) => Some(hints),
        _ => None,
    });
    let hints = hints.expect("the hint is an event");
    assert_eq!((hints[0].leader, hints[0].leader_epoch), (2, Some(4)));
    assert!(kit.request().is_none());
    kit.leaders(&[(Some(2), 4)]);
    assert_eq!(kit.request().unwrap().broker_id(), Some(2), "the new leader is asked without waiting for the back-off");
}

#[test]
fn a_topic_whose_leader_refuses_again_and_again_does_not_keep_another_without_leader_from_being_asked_for() {
    let mut kit = kit(4);
    kit.consumer.add(&TopicPartition::new("letters", 0), StartPosition::Offset(0)).unwrap();
    let mut asked_for_letters = 0;
    for turn in 0..40 {
        if let Some(call) = kit.request() {
            let ConsumerRequest::Fetch(_) = call.body else { panic!("{call:?}") };
            kit.answer_fetch(call.id, answer(1, vec![refusal(turn % 4, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]));
        }
        while let Some(event) = kit.consumer.poll_event() {
            if let ConsumerEvent::Notice(Notice::RefreshMetadata(Outdated::Topics(topics))) = event {
                asked_for_letters += usize::from(topics.contains("letters"));
            }
        }
        kit.pass(250);
    }
    assert!(asked_for_letters >= 5, "{asked_for_letters} times in 10 s");
}

#[test]
fn a_partition_without_a_leader_asks_for_metadata_once_a_second() {
    let mut kit = kit(1);
    kit.leaders(&[(None, 0)]);
    let mut refreshes = 0;
    for _ in 0..10 {
        assert!(kit.request().is_none());
        while let Some(event) = kit.consumer.poll_event() {
            let ConsumerEvent::Notice(Notice::RefreshMetadata(outdated)) = event else { panic!("{event:?}") };
            assert_eq!(outdated, Outdated::Topics([TOPIC.into()].into()), "of its topic alone");
            refreshes += 1;
        }
        let next = kit.consumer.poll_timeout().expect("a timer is set");
        assert!(next > kit.now);
        kit.now = next;
    }
    assert!(kit.now >= Instant(9_000) && refreshes == 10, "{refreshes} until {:?}", kit.now);
}

#[test]
fn each_broker_has_one_fetch_on_its_way_and_does_not_wait_for_another() {
    let mut kit = kit(2);
    kit.leaders(&[(Some(1), 0), (Some(2), 0)]);
    let (first, second) = (kit.request().unwrap(), kit.request().unwrap());
    assert_eq!((first.broker_id(), second.broker_id()), (Some(1), Some(2)));
    assert!(kit.request().is_none());
    kit.answer_fetch(second.id, answer(9, vec![data(1, batch(0, &[b"a"]))]));
    assert_eq!(kit.request().unwrap().broker_id(), Some(2));
}

#[test]
fn a_follower_in_our_rack_is_read_and_its_word_on_offsets_is_not_trusted() {
    let mut kit = Kit::of_partitions(config().client_rack(Some("a".into())), 1);
    let (id, request) = kit.fetch();
    assert_eq!(request.rack_id, "a");
    let redirect = PartitionData { preferred_read_replica: Some(3), ..data(0, Bytes::new()) };
    kit.answer_fetch(id, answer(9, vec![redirect]));
    let request = kit.request().unwrap();
    assert_eq!(request.broker_id(), Some(3));
    kit.answer_fetch(request.id, answer(5, vec![refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE)]));
    kit.pass(200);
    assert_eq!(kit.request().unwrap().broker_id(), Some(1), "the leader decides what is out of range");
    assert!(kit.events().is_empty());
}

/// Advances the time in small steps, and answers each fetch with what `answer_with` returns. Returns the errors by
/// time.
fn errors_over(kit: &mut Kit, millis: u64, mut answer_with: impl FnMut() -> ErrorCode) -> Vec<(u64, String)> {
    let (begun, mut errors) = (kit.now.0, Vec::new());
    while kit.now.0 < begun + millis {
        while let Some(request) = kit.request() {
            if let ConsumerRequest::Fetch(_) = request.body {
                kit.answer_fetch(request.id, answer(9, vec![refusal(0, answer_with())]));
            }
        }
        errors.extend(kit.errors().into_iter().map(|error| (kit.now.0 - begun, error)));
        kit.pass(100);
    }
    errors
}

#[test]
fn a_topic_that_was_deleted_is_told_within_seconds_and_again_while_it_lasts() {
    let mut kit = kit(1);
    kit.feed(vec![data(0, batch(0, &[b"a"]))]);
    assert_eq!(kit.offsets(), [0]);
    kit.unknown_topic(&metadata(&[(Some(1), 0)], TOPIC_ID));
    let errors = errors_over(&mut kit, 30_000, || ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert!(errors.iter().all(|(_, error)| error.contains("the topic was deleted") && error.contains(TOPIC)));
    assert!((2..=3).contains(&errors.len()) && errors[0].0 <= 5_000, "{errors:?}");
    kit.leaders(&[(Some(1), 0)]);
    assert_eq!(errors_over(&mut kit, 30_000, || ErrorCode::NONE), [], "it is back");
}

#[test]
fn a_topic_that_was_deleted_is_told_also_when_metadata_has_forgotten_its_partitions() {
    let mut kit = kit(1);
    // As after listing all topics of the cluster, or when the same client deleted it.
    let left_out = metadata(&[(Some(1), 0)], TOPIC_ID).merged(MetadataResponse::default(), true);
    kit.consumer.handle_metadata(kit.now, &Arc::new(left_out.clone()));
    kit.unknown_topic(&left_out);
    let errors = errors_over(&mut kit, 30_000, || ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert!((2..=3).contains(&errors.len()) && errors[0].0 <= 5_000, "{errors:?}");
    kit.leaders(&[(Some(1), 0)]);
    assert_eq!(errors_over(&mut kit, 30_000, || ErrorCode::NONE), [], "it is back");
}

#[test]
fn one_broker_that_lags_behind_does_not_make_a_topic_deleted() {
    // The metadata says that it is unknown, while the leader serves it.
    let mut kit = kit(1);
    kit.unknown_topic(&metadata(&[(Some(1), 0)], TOPIC_ID));
    assert_eq!(errors_over(&mut kit, 30_000, || ErrorCode::NONE), []);
    // A leader says that it is unknown, while the metadata has it.
    let mut kit = self::kit(1);
    assert_eq!(errors_over(&mut kit, 30_000, || ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), []);
    // Both say so, but only for a moment.
    let mut kit = self::kit(1);
    kit.unknown_topic(&metadata(&[(Some(1), 0)], TOPIC_ID));
    assert_eq!(errors_over(&mut kit, 1_000, || ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), []);
    kit.leaders(&[(Some(1), 0)]);
    assert_eq!(errors_over(&mut kit, 30_000, || ErrorCode::NONE), []);
}

#[test]
fn a_broker_that_has_just_restarted_does_not_make_a_topic_deleted() {
    let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
    let mut refresh = MetadataRefresh::new(RefreshConfig { max_age: Duration::from_secs(300), backoff }, 1);
    let mut kit = kit(1);
    let known = description(&[(Some(1), 0)], TOPIC_ID);
    let mut unknown = known.clone();
    unknown.topics[0].error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    unknown.topics[0].partitions.clear();
    let mut describe = |kit: &mut Kit, answer: &MetadataResponse, restarts: bool| {
        if restarts {
            refresh.handle_possible_restart(kit.now);
        }
        refresh.request_topic(&TOPIC.into());
        refresh.poll_request(kit.now).expect("no back-off is left");
        refresh.handle_response(kit.now, Ok(answer.clone()));
        kit.consumer.handle_metadata(kit.now, refresh.metadata());
    };
    describe(&mut kit, &known, false);
    kit.pass(1_000);
    describe(&mut kit, &unknown, true);
    assert_eq!(errors_over(&mut kit, 29_000, || ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), []);
    describe(&mut kit, &unknown, false);
    assert_eq!(errors_over(&mut kit, 2_000, || ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), []);
    describe(&mut kit, &unknown, false);
    let errors = errors_over(&mut kit, 5_000, || ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert!(errors.len() == 1 && errors[0].1.contains("the topic was deleted"), "{errors:?}");
}

#[test]
fn permission_that_is_taken_away_is_told_at_intervals_and_reading_goes_on_when_it_is_back() {
    let mut kit = kit(1);
    let errors = errors_over(&mut kit, 25_000, || ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    assert!(errors.len() == 3 && errors.iter().all(|(_, error)| error.contains("TOPIC_AUTHORIZATION_FAILED")));
    assert_eq!(errors_over(&mut kit, 25_000, || ErrorCode::NONE), []);
    kit.feed(vec![data(0, batch(0, &[b"a"]))]);
    assert_eq!(kit.offsets(), [0], "nobody had to seek");
}

#[test]
fn what_no_retry_can_mend_is_reported_once_and_then_at_intervals() {
    let mut kit = kit(1);
    kit.feed(vec![refusal(0, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE)]);
    assert_eq!(kit.errors().len(), 1);
    assert!(kit.request().is_none());

    let mut kit = self::kit(1);
    let mut failures = Vec::new();
    for _ in 0..12 {
        let (id, _) = kit.fetch();
        kit.consumer.handle_response(kit.now, id, Err(Error::new(ErrorKind::Authentication, "wrong password")));
        let is_failure = |event: &&ConsumerEvent| matches!(event, ConsumerEvent::Failed(error) if error.is_fatal());
        failures.push(kit.events().iter().filter(is_failure).count());
        kit.pass(2_000);
    }
    assert_eq!(failures, [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0], "every ten seconds, although it is asked more often");
}

// Memory.

#[test]
fn fetches_in_flight_and_buffers_together_stay_within_the_bound() {
    let value = vec![b'x'; 1 << 10];
    let config = config().fetch_buffer(64 << 10).max_partition_fetch_bytes(16 << 10);
    let mut kit = Kit::of_partitions(config, 12);
    kit.leaders(&(0..12).map(|index| (Some(1 + index % 3), 0)).collect::<Vec<_>>());
    let record_bytes = batch(0, &[&value]).len();
    let mut next = [0_i64; 12];
    let mut held = 0;
    for round in 0..200 {
        let requests: Vec<_> = std::iter::from_fn(|| kit.request()).collect();
        let fetches = requests.into_iter().map(|request| match request.body {
            ConsumerRequest::Fetch(fetch) => (request.id, *fetch),
            other => panic!("not a fetch: {other:?}"),
        });
        let fetches: Vec<_> = fetches.collect();
        let in_flight: usize = fetches.iter().map(|(_, fetch)| fetch.max_bytes as usize).sum();
        assert!(held + in_flight <= 64 << 10, "{held} bytes held and {in_flight} asked for in round {round}");
        for (id, fetch) in fetches {
            let mut room = fetch.max_bytes as usize / record_bytes;
            let mut answers = Vec::new();
            for (partition, offset) in asked(&fetch.topics) {
                let count = room.min(4);
                room -= count;
                let records: Vec<Bytes> = (0..count).map(|index| batch(offset + index as i64, &[&value])).collect();
                held += count * record_bytes;
                answers.push(data(partition, records.concat()));
            }
            kit.answer_fetch(id, answer(0, answers));
        }
        for given in kit.take_some(usize::MAX).unwrap_or_default() {
            assert_eq!(given.offset, next[given.partition as usize], "nothing is skipped");
            next[given.partition as usize] += 1;
            held -= record_bytes;
        }
        kit.pass(50);
    }
    assert!(next.iter().all(|next| *next > 5), "every partition gets its share: {next:?}");
}

#[test]
fn a_partition_with_enough_buffered_is_left_out_until_some_was_taken() {
    let config = config().max_partition_fetch_bytes(100);
    let mut kit = Kit::of_partitions(config, 2);
    kit.feed(vec![data(0, batch(0, &[&[b'x'; 300]]))]);
    let (id, request) = kit.fetch();
    assert_eq!(request.forgotten_topics_data[0].partitions, [0]);
    kit.pass(100);
    kit.answer_fetch(id, answer(9, vec![]));
    assert!(kit.consumer.wants_poll(), "the broker can be asked for more once something was taken");
    kit.take_all();
    assert_eq!(asked(&kit.fetch().1.topics), [(0, 1)]);
}

#[test]
fn a_buffer_that_turns_out_to_be_empty_when_the_next_batch_is_wanted_is_worth_a_poll() {
    let config = config().max_partition_fetch_bytes(100);
    let mut kit = Kit::of_partitions(config, 1);
    kit.feed(vec![data(0, batch(0, &[&[b'x'; 300]]))]);
    let mut cursor = kit.cursor();
    // The engine polls when the batch was taken, but nothing of it is read yet.
    assert!(kit.request().is_none());
    assert!(cursor.next_record().is_some());
    drop(cursor);
    assert!(kit.consumer.take_batch().is_none());
    assert!(kit.consumer.wants_poll(), "only the engine can bring more");
    assert_eq!(asked(&kit.fetch().1.topics), [(0, 1)]);
}

#[test]
fn a_broker_does_not_hold_a_fetch_for_long_while_a_partition_is_left_out() {
    let config = config().max_partition_fetch_bytes(100);
    let full_wait = i32::try_from(config.fetch_max_wait.as_millis()).unwrap();
    let mut kit = Kit::of_partitions(config, 2);
    kit.feed(vec![data(0, batch(0, &[&[b'x'; 300]]))]);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let (id, request) = kit.fetch();
        waits.push(request.max_wait_ms);
        kit.pass(u64::try_from(request.max_wait_ms).unwrap());
        kit.answer_fetch(id, answer(9, vec![]));
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, full_wait], "an application that takes nothing is not polled for");
    kit.take_all();
    assert_eq!(kit.fetch().1.max_wait_ms, full_wait, "nothing is left out");
}

#[test]
fn an_idle_broker_is_asked_less_often_where_that_delays_no_record() {
    let waits = |config| {
        let mut kit = Kit::of_partitions(config, 1);
        let mut ask = |records| {
            let (id, request) = kit.fetch();
            kit.pass(u64::try_from(request.max_wait_ms).unwrap());
            kit.answer_fetch(id, answer(9, records));
            request.max_wait_ms
        };
        let idle: Vec<_> = (0..12).map(|_| ask(vec![])).collect();
        ask(vec![data(0, batch(0, &[b"a"]))]);
        (idle, ask(vec![]))
    };
    let expected = [vec![100; 9], vec![200, 400, 500]].concat();
    assert_eq!(waits(config()), (expected, 100), "a record makes it a busy one again");
    assert_eq!(waits(config().fetch_min_bytes(2)), (vec![100; 12], 100), "records wait as long as the fetch");
    let patient = config().fetch_max_wait(std::time::Duration::from_secs(2));
    assert_eq!(waits(patient), (vec![2_000; 12], 2_000));
}

#[test]
fn the_buffers_of_paused_partitions_make_room_for_others() {
    let config = config().fetch_buffer(4_000).max_partition_fetch_bytes(2_000);
    let mut kit = Kit::of_partitions(config, 2);
    kit.feed(vec![data(0, batch(0, &[&[b'x'; 3_000]]))]);
    kit.consumer.pause(&key(0)).unwrap();
    assert_eq!(kit.fetch().1.topics.len(), 0, "partition 1 is fetched in the session");
    kit.consumer.resume(&key(0)).unwrap();
    assert_eq!(kit.position(0), Some(0));
}
