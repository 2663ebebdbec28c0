//! A producer whose leaders are older than Kafka 0.11, or become newer or older while it sends.

mod producer_support;

use kavka_core::cluster::Target;
use kavka_core::config::ProducerConfig;
use kavka_core::error::{Error, ErrorKind, Written};
use kavka_core::producer::{AppendError, Appended, ProducerRequest, ProducerResponse};
use kavka_core::wire::ErrorCode;
use kavka_core::wire::messages::InitProducerIdResponse;
use kavka_core::wire::records::{CompressionType, Header};
use producer_support::{Rig, Sent, TOPIC};

fn rig(config: ProducerConfig, produce_version: i16) -> Rig {
    let mut rig = Rig::new(config, 1);
    rig.produce_version = produce_version;
    rig.assigns_ids = produce_version >= 3;
    rig
}

fn magic(sent: &Sent) -> u8 {
    sent.batches[0].records.clone().into_bytes()[16]
}

/// The next request, once no back-off is in its way.
fn sent_later(rig: &mut Rig) -> Sent {
    for _ in 0..20 {
        if let Some(sent) = rig.poll() {
            return sent;
        }
        rig.after(1_000);
    }
    panic!("nothing is sent");
}

/// The text of an error and of its causes.
fn text_of(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

fn lost() -> Error {
    Error::new(ErrorKind::Disconnected, "gone").with_written(Written::Maybe)
}

#[test]
fn the_format_follows_the_version_of_the_leader() {
    for (produce_version, expected) in [(0, 0), (1, 0), (2, 1), (3, 2), (13, 2)] {
        let mut rig = rig(ProducerConfig::default(), produce_version);
        rig.append_alone(0, "a");
        let sent = rig.sent();
        assert_eq!(magic(&sent), expected, "Produce v{produce_version}");
        assert_eq!(sent.batches[0].stamp.is_some(), expected == 2);
        assert_eq!(sent.values(), ["a"]);
        rig.answer(&sent, ErrorCode::NONE, 0);
        assert_eq!(rig.reports, [(0, 1, None)]);
    }
}

#[test]
fn without_sequence_numbers_one_batch_is_in_flight_and_the_order_is_kept() {
    let mut rig = rig(ProducerConfig::default(), 2);
    rig.append_alone(0, "first");
    let first = rig.sent();
    rig.append_alone(0, "second");
    assert!(rig.poll().is_none(), "the first is in flight");
    rig.answer_with(&first, Err(lost()));
    assert!(rig.poll().is_none(), "it backs off");
    rig.after(1_000);
    let again = rig.sent();
    assert_eq!(again.values(), ["first"]);
    assert_eq!(again.batches[0].records, first.batches[0].records, "the same bytes");
    rig.answer(&again, ErrorCode::NONE, 0);
    let second = rig.sent();
    assert_eq!(second.values(), ["second"]);
    rig.answer(&second, ErrorCode::NONE, 1);
    assert_eq!(rig.reports, [(0, 1, None), (0, 1, None)]);
}

#[test]
fn a_broker_that_comes_back_with_a_newer_version_gets_sequence_numbers() {
    let mut rig = rig(ProducerConfig::default(), 2);
    rig.append_alone(0, "a");
    let old = rig.sent();
    rig.answer_with(&old, Err(lost()));
    (rig.produce_version, rig.assigns_ids) = (13, true);
    rig.after(40_000);
    let new = rig.sent();
    assert_eq!((magic(&new), new.values()), (2, vec!["a".to_owned()]));
    assert!(new.batches[0].stamp.is_some());
    rig.answer(&new, ErrorCode::NONE, 0);
    assert_eq!(rig.reports, [(0, 1, None)]);
}

#[test]
fn headers_are_taken_again_when_the_leader_has_moved_to_an_upgraded_broker_and_back() {
    let mut rig = rig(ProducerConfig::default(), 2);
    rig.append_alone(0, "a");
    let sent = rig.sent();
    rig.answer(&sent, ErrorCode::NONE, 0);
    let headers = [Header { key: b"k", value: Some(b"v") }];
    let with_headers =
        |rig: &mut Rig| rig.producer.append(rig.now, rig.topic, Some(0), 5, None, Some(b"b"), &headers).map(|_| ());
    assert!(with_headers(&mut rig).is_err());
    (rig.produce_version, rig.assigns_ids) = (13, true);
    rig.leaders(1, &[(2, 2)]);
    rig.leaders(1, &[(1, 3)]);
    with_headers(&mut rig).unwrap();
}

#[test]
fn a_batch_that_waits_for_its_turn_waits_for_a_producer_id_if_the_broker_becomes_newer_meanwhile() {
    let mut rig = rig(ProducerConfig::default(), 2);
    rig.append_alone(0, "a");
    let first = rig.sent();
    rig.answer(&first, ErrorCode::NONE, 0);
    // A second producer of the topic has a producer id of its own, which it never needed so far.
    let (handle, topic) = (rig.handle, rig.topic);
    rig.append_alone(0, "b");
    let in_flight = rig.sent();
    rig.handle = rig.producer.open(None);
    rig.topic = rig.producer.topic(rig.now, rig.handle, TOPIC, &rig.metadata);
    let other = rig.append_alone(0, "other");
    (rig.handle, rig.topic) = (handle, topic);
    rig.answer_with(&in_flight, Err(lost()));
    (rig.produce_version, rig.assigns_ids) = (13, true);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let sent = sent_later(&mut rig);
        assert!(sent.batches[0].stamp.is_some());
        seen.extend(sent.values());
        rig.answer(&sent, ErrorCode::NONE, seen.len() as i64);
    }
    seen.sort();
    assert_eq!(seen, ["b", "other"]);
    assert!(other.completion.outcome(0).unwrap().is_ok());
}

#[test]
fn a_broker_that_comes_back_with_an_older_version_gets_message_sets_and_no_sequence_number_is_used_twice() {
    let mut rig = Rig::warm(ProducerConfig::default());
    rig.append_alone(0, "a");
    let new = rig.sent();
    rig.answer_with(&new, Err(lost()));
    (rig.produce_version, rig.assigns_ids) = (2, false);
    rig.after(1_000);
    let old = sent_later(&mut rig);
    assert_eq!((magic(&old), old.values()), (1, vec!["a".to_owned()]));
    rig.answer(&old, ErrorCode::NONE, 1);

    rig.append_alone(0, "b");
    let old = rig.sent();
    rig.answer_with(&old, Err(lost()));
    (rig.produce_version, rig.assigns_ids) = (13, true);
    rig.after(1_000);
    let again = sent_later(&mut rig);
    assert_eq!((magic(&again), again.values()), (2, vec!["b".to_owned()]));
    assert_eq!(again.stamp().producer_epoch, new.stamp().producer_epoch + 1, "the sequence of the old epoch has a gap");
    assert_eq!(again.stamp().base_sequence, 0);
    rig.answer(&again, ErrorCode::NONE, 2);
    assert_eq!(rig.reports, [(0, 1, None), (0, 1, None)]);
}

/// A producer whose leaders keep the topic in an older format, as they have said of a record in each partition.
fn with_topic_in_older_format(partitions: i32) -> (Rig, Vec<Sent>) {
    let mut rig = Rig::new(ProducerConfig::default(), partitions as usize);
    let mut again = Vec::new();
    for partition in 0..partitions {
        rig.append_alone(partition, "a");
        let refused = sent_later(&mut rig);
        rig.answer(&refused, ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT, -1);
        let sent = sent_later(&mut rig);
        assert_eq!((magic(&sent), sent.batches[0].stamp), (2, None));
        again.push(sent);
    }
    (rig, again)
}

#[test]
fn a_topic_in_an_older_format_gets_batches_without_sequence_numbers_and_the_application_is_told() {
    let (mut rig, again) = with_topic_in_older_format(2);
    for sent in again {
        rig.answer(&sent, ErrorCode::NONE, 0);
    }
    assert_eq!(rig.reports, [(0, 1, None), (1, 1, None)]);
    assert_eq!(rig.old_formats, [TOPIC, TOPIC], "by the leader of each partition");
}

#[test]
fn a_topic_gets_sequence_numbers_again_when_its_leader_comes_back_with_a_newer_format() {
    let (mut rig, again) = with_topic_in_older_format(1);
    rig.answer_with(&again[0], Err(lost()));
    let new = sent_later(&mut rig);
    assert!(new.batches[0].stamp.is_some());
    rig.answer(&new, ErrorCode::NONE, 0);
    assert_eq!(rig.reports, [(0, 1, None)]);
}

#[test]
fn a_topic_in_an_older_format_costs_no_attempt_of_those_that_retries_allows() {
    let config = |retries| {
        let mut config = ProducerConfig::default();
        config.retries = retries;
        config
    };
    let mut rig = Rig::new(config(0), 1);
    for (leader, epoch) in [(1, 2), (2, 3)] {
        rig.leaders(1, &[(leader, epoch)]);
        rig.append_alone(0, "a");
        let refused = sent_later(&mut rig);
        rig.answer(&refused, ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT, -1);
        let again = sent_later(&mut rig);
        assert_eq!((again.broker_id, again.batches[0].stamp), (leader, None));
        rig.answer(&again, ErrorCode::NONE, 0);
    }
    assert_eq!(rig.reports, [(0, 1, None), (0, 1, None)]);

    let mut rig = Rig::new(config(1), 1);
    rig.append_alone(0, "a");
    for answer in [Err(()), Ok(())] {
        let refused = sent_later(&mut rig);
        rig.answer(&refused, ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT, -1);
        let again = sent_later(&mut rig);
        match answer {
            Ok(()) => rig.answer(&again, ErrorCode::NONE, 0),
            Err(()) => rig.answer_with(&again, Err(lost())),
        }
    }
    assert_eq!(rig.reports, [(0, 1, None)], "one answer was lost, and one retry is allowed");
}

#[test]
fn a_topic_gets_sequence_numbers_again_before_long_when_its_format_is_raised() {
    let (mut rig, mut again) = with_topic_in_older_format(1);
    let mut was_stamped = Vec::new();
    for wait_ms in [20_000, 20_000, 0] {
        rig.answer(&again.remove(0), ErrorCode::NONE, 0);
        rig.after(wait_ms);
        rig.append_alone(0, "b");
        again.push(sent_later(&mut rig));
        was_stamped.push(again[0].batches[0].stamp.is_some());
    }
    assert_eq!(was_stamped, [false, true, true]);
}

#[test]
fn a_request_to_a_broker_that_freezes_after_it_told_its_version_is_called_unanswered() {
    let mut rig = rig(ProducerConfig::default(), 2);
    let record = rig.append_alone(0, "a");
    assert_eq!(magic(&rig.sent()), 1);
    rig.after(10 * 60_000);
    assert!(rig.poll().is_none());
    rig.events();
    let text = text_of(&record.completion.outcome(0).unwrap().unwrap_err());
    assert!(text.contains("the broker has not answered yet"), "{text}");
}

#[test]
fn only_who_asked_for_idempotence_is_advised_to_leave_it_out() {
    for (asked, setting) in [(None, "message.format.version"), (Some(true), "enable.idempotence")] {
        let mut rig = Rig::new(ProducerConfig::default().idempotence(asked), 1);
        let record = rig.append_alone(0, "a");
        // One that did not ask for it gets the error for what else the format does not have, such as headers.
        for _ in 0..if asked.is_some() { 1 } else { 2 } {
            let refused = sent_later(&mut rig);
            rig.answer(&refused, ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT, -1);
        }
        let text = text_of(&record.completion.outcome(0).unwrap().unwrap_err());
        assert!(text.contains(setting), "{text}");
        assert_eq!(text.contains("leave out enable.idempotence"), asked.is_some(), "{text}");
    }
}

#[test]
fn requests_that_a_broker_refuses_while_it_is_asked_for_its_version_cost_no_other_question() {
    let mut rig = Rig::warm(ProducerConfig::default());
    rig.produce_version = 2;
    let requests = ["a", "b"].map(|value| {
        rig.append_alone(0, value);
        rig.producer.poll_request(rig.now).unwrap().id
    });
    rig.refuse(requests[0]);
    let question = rig.producer.poll_request(rig.now).unwrap();
    assert!(matches!(question.body, ProducerRequest::Versions));
    rig.refuse(requests[1]);
    assert!(rig.producer.poll_request(rig.now).is_none(), "the broker is being asked already");
    let answer = ProducerResponse::Versions { produce: 2 };
    rig.producer.handle_response(rig.now, question.id, Ok(answer));
    for value in ["a", "b"] {
        let sent = rig.sent();
        assert_eq!((magic(&sent), sent.values()), (1, vec![value.to_owned()]));
        rig.answer(&sent, ErrorCode::NONE, 1);
    }
}

#[test]
fn the_application_is_told_of_a_leader_that_assigns_no_producer_ids() {
    let mut rig = Rig::new(ProducerConfig::default(), 1);
    rig.assigns_ids = false;
    for _ in 0..2 {
        rig.append_alone(0, "a");
        let sent = rig.sent();
        assert_eq!((magic(&sent), sent.batches[0].stamp), (2, None));
        rig.answer(&sent, ErrorCode::NONE, 0);
    }
    assert_eq!((rig.reports, rig.without_ids), (vec![(0, 1, None); 2], vec![1]));
}

#[test]
fn a_leader_that_assigns_no_producer_ids_is_not_asked_for_each_record_of_who_needs_one() {
    let mut rig = Rig::new(ProducerConfig::default().idempotence(Some(true)), 1);
    rig.assigns_ids = false;
    let mut questions = Vec::new();
    for wait_ms in [0, 1_000, 1_000, 40_000] {
        rig.after(wait_ms);
        let record = rig.append_alone(0, "a");
        let mut asked = 0;
        while let Some(call) = rig.producer.poll_request(rig.now) {
            assert!(matches!(call.body, ProducerRequest::InitProducerId(_)));
            asked += 1;
            rig.refuse(call.id);
        }
        rig.events();
        let error = record.completion.outcome(0).unwrap().unwrap_err();
        assert!(text_of(&error).contains("a leader that assigns producer ids"), "{error}");
        questions.push(asked);
    }
    assert_eq!(questions, [2, 0, 0, 1], "first any broker, then the leader, and the leader again after a while");
}

#[test]
fn records_that_an_old_leader_can_store_are_not_held_against_others_in_their_batch() {
    let headers = [Header { key: b"h", value: None }];
    for (produce_version, stored) in [(1, ["a", "d"].as_slice()), (2, &["a", "b", "d"])] {
        let mut rig = rig(ProducerConfig::default(), produce_version);
        // This one opens and fills a batch of its own.
        let first = rig.append(0, "a");
        let append_at = |rig: &mut Rig, value: &[u8]| {
            rig.producer.append_at(rig.now, rig.topic, Some(0), 5, None, Some(value), &[])
        };
        let with_timestamp = append_at(&mut rig, b"b").unwrap();
        let with_headers = rig.producer.append(rig.now, rig.topic, Some(0), 5, None, Some(b"c"), &headers).unwrap();
        let last = rig.append_alone(0, "d");
        let mut sent_values = Vec::new();
        while let Some(sent) = rig.poll() {
            sent_values.extend(sent.values());
            rig.answer(&sent, ErrorCode::NONE, 0);
        }
        rig.events();
        assert_eq!(sent_values, stored, "Produce v{produce_version}");
        let outcome = |appended: &Appended| appended.completion.outcome(appended.index).unwrap();
        assert!(outcome(&first).is_ok() && outcome(&last).is_ok());
        let error = outcome(&with_headers).unwrap_err();
        assert_eq!((error.kind(), error.written()), (ErrorKind::Unsupported, Written::No));
        assert!(text_of(&error).contains("record headers need a broker of Kafka 0.11"), "{error}");
        match produce_version {
            1 => assert!(text_of(&outcome(&with_timestamp).unwrap_err()).contains("timestamps need"), "timestamp"),
            _ => assert!(outcome(&with_timestamp).is_ok()),
        }
    }
}

#[test]
fn what_an_old_leader_cannot_store_is_known_of_each_record_after_the_leadership_has_moved() {
    let mut rig = Rig::new(ProducerConfig::default(), 1);
    rig.append(0, "a");
    let timed = rig.producer.append_at(rig.now, rig.topic, Some(0), 5, None, Some(b"b"), &[]).unwrap();
    let last = rig.append_alone(0, "c");
    let refused = rig.sent();
    rig.answer(&refused, ErrorCode::NOT_ENOUGH_REPLICAS, -1);
    (rig.produce_version, rig.assigns_ids) = (1, false);
    rig.leaders(1, &[(2, 2)]);
    let mut sent_values = Vec::new();
    while let Some(sent) = rig.poll() {
        sent_values.extend(sent.values());
        rig.answer(&sent, ErrorCode::NONE, 0);
    }
    assert_eq!(sent_values, ["a", "c"]);
    assert!(timed.completion.outcome(timed.index).unwrap().is_err());
    assert!(last.completion.outcome(last.index).unwrap().is_ok());
}

#[test]
fn an_old_broker_that_is_asked_for_a_producer_id_takes_it_from_no_partition_of_a_newer_one() {
    let mut rig = Rig::new(ProducerConfig::default(), 3);
    rig.leaders(1, &[(1, 2), (2, 2), (3, 2)]);
    (rig.any, rig.others) = (2, [(2, 2)].into());
    for partition in 0..3 {
        rig.append_alone(partition, "a");
    }
    for _ in 0..3 {
        let sent = rig.sent();
        assert_eq!(sent.batches[0].stamp.is_some(), sent.broker_id != 2, "broker {}", sent.broker_id);
        rig.answer(&sent, ErrorCode::NONE, 0);
    }
    rig.reports.sort_by_key(|(partition, ..)| *partition);
    assert_eq!(rig.reports, [(0, 1, None), (1, 1, None), (2, 1, None)]);
}

#[test]
fn a_leader_that_cannot_be_asked_for_a_producer_id_holds_up_no_partition_of_another() {
    let mut rig = Rig::new(ProducerConfig::default(), 2);
    rig.leaders(1, &[(1, 2), (3, 2)]);
    rig.append_alone(0, "a");
    rig.append_alone(1, "a");
    let any = rig.producer.poll_request(rig.now).unwrap();
    assert!(matches!((&any.target, &any.body), (Target::Any, ProducerRequest::InitProducerId(_))));
    rig.refuse(any.id);
    let first = rig.producer.poll_request(rig.now).unwrap();
    assert_eq!(first.broker_id(), Some(1));
    rig.producer.handle_response(rig.now, first.id, Err(Error::new(ErrorKind::Disconnected, "it is down")));
    assert!(rig.producer.poll_request(rig.now).is_none(), "it backs off");
    rig.after(1_000);
    let second = rig.producer.poll_request(rig.now).unwrap();
    assert_eq!(second.broker_id(), Some(3));
    let response = InitProducerIdResponse { producer_id: Some(7), ..Default::default() };
    rig.producer.handle_response(rig.now, second.id, Ok(ProducerResponse::InitProducerId(response)));
    assert!(rig.sent().batches[0].stamp.is_some());
}

#[test]
fn a_frozen_leader_is_not_waited_for_once_it_leads_no_partition_that_needs_the_producer_id() {
    let mut rig = Rig::new(ProducerConfig::default(), 2);
    rig.leaders(1, &[(1, 2), (3, 2)]);
    rig.append_alone(0, "a");
    let any = rig.producer.poll_request(rig.now).unwrap();
    rig.refuse(any.id);
    let frozen = rig.producer.poll_request(rig.now).unwrap();
    assert_eq!(frozen.broker_id(), Some(1));
    rig.leaders(1, &[(1, 2), (2, 3)]);
    assert!(rig.producer.poll_request(rig.now).is_none(), "the partition that waits has not moved");
    rig.leaders(1, &[(2, 3), (2, 3)]);
    let moved = rig.producer.poll_request(rig.now).unwrap();
    assert!(matches!((&moved.target, &moved.body), (Target::Broker(2), ProducerRequest::InitProducerId(_))));
    let response =
        |id| ProducerResponse::InitProducerId(InitProducerIdResponse { producer_id: Some(id), ..Default::default() });
    rig.producer.handle_response(rig.now, frozen.id, Ok(response(7)));
    assert!(rig.producer.poll_request(rig.now).is_none(), "an answer to the old question is too late");
    rig.producer.handle_response(rig.now, moved.id, Ok(response(8)));
    assert_eq!(rig.sent().stamp().producer_id, 8);
}

#[test]
fn in_a_cluster_of_two_versions_who_asks_for_idempotence_gets_it_from_those_leaders_that_have_it() {
    let mut rig = Rig::new(ProducerConfig::default().idempotence(Some(true)), 2);
    rig.leaders(1, &[(1, 2), (2, 2)]);
    (rig.any, rig.others) = (2, [(2, 2)].into());
    for _ in 0..2 {
        rig.after(1_000);
        let refused = rig.append_alone(1, "to the old one");
        let taken = rig.append_alone(0, "to the new one");
        let sent = rig.sent();
        assert!(sent.batches[0].stamp.is_some() && sent.broker_id == 1);
        rig.answer(&sent, ErrorCode::NONE, 0);
        assert!(rig.poll().is_none());
        rig.events();
        let error = refused.completion.outcome(0).unwrap().unwrap_err();
        assert_eq!((error.kind(), error.written()), (ErrorKind::Unsupported, Written::No));
        assert!(text_of(&error).contains("Kafka 0.11 or newer"), "{error}");
        assert!(taken.completion.outcome(0).unwrap().is_ok());
    }
    rig.others.clear();
    let upgraded = rig.append_alone(1, "to the upgraded one");
    let sent = sent_later(&mut rig);
    assert!(sent.batches[0].stamp.is_some() && sent.broker_id == 2);
    rig.answer(&sent, ErrorCode::NONE, 0);
    assert!(upgraded.completion.outcome(0).unwrap().is_ok());
}

#[test]
fn a_request_that_a_broker_refuses_just_before_it_is_upgraded_is_sent_again() {
    let mut rig = Rig::warm(ProducerConfig::default());
    rig.append_alone(0, "a");
    let refused = rig.producer.poll_request(rig.now).unwrap();
    rig.refuse(refused.id);
    assert!(rig.poll().is_none(), "it has the version now, but nothing may be sent in a hot loop");
    let again = sent_later(&mut rig);
    assert_eq!(again.values(), ["a"]);
    rig.answer(&again, ErrorCode::NONE, 1);
    assert_eq!(rig.reports, [(0, 1, None)]);
}

#[test]
fn a_broker_that_has_no_common_version_fails_the_records_at_once() {
    let mut rig = Rig::warm(ProducerConfig::default());
    let record = rig.append_alone(0, "a");
    let refused = rig.producer.poll_request(rig.now).unwrap();
    rig.refuse(refused.id);
    let versions = rig.producer.poll_request(rig.now).unwrap();
    assert!(matches!(versions.body, ProducerRequest::Versions));
    rig.refuse(versions.id);
    let error = record.completion.outcome(0).unwrap().unwrap_err();
    assert_eq!((error.kind(), error.written()), (ErrorKind::Unsupported, Written::No));
}

#[test]
fn a_broker_that_was_upgraded_unnoticed_gets_sequence_numbers_before_long() {
    let mut rig = rig(ProducerConfig::default(), 2);
    let mut was_stamped = Vec::new();
    for (number, wait_ms) in [0, 1_000, 40_000, 1_000].into_iter().enumerate() {
        rig.after(wait_ms);
        rig.append_alone(0, "a");
        let sent = sent_later(&mut rig);
        was_stamped.push(sent.batches[0].stamp.is_some());
        rig.answer(&sent, ErrorCode::NONE, number as i64);
        (rig.produce_version, rig.assigns_ids) = (13, true);
    }
    assert_eq!(was_stamped, [false, false, false, true], "it is asked again while the third batch is sent");
}

#[test]
fn who_asks_for_idempotence_gets_an_error_instead_of_less() {
    let config = ProducerConfig::default().idempotence(Some(true));
    let mut without_ids = rig(config.clone(), 2);
    let record = without_ids.append_alone(0, "a");
    assert!(without_ids.poll().is_none());
    without_ids.events();
    let error = record.completion.outcome(0).unwrap().unwrap_err();
    assert_eq!((error.kind(), error.written()), (ErrorKind::Unsupported, Written::No));
    let mut mixed = rig(config, 2);
    mixed.assigns_ids = true;
    for value in ["a", "b", "c"] {
        let record = mixed.append_alone(0, value);
        assert!(mixed.poll().is_none());
        mixed.events();
        let error = record.completion.outcome(0).unwrap().unwrap_err();
        assert_eq!((error.kind(), error.written()), (ErrorKind::Unsupported, Written::No));
        let text = text_of(&error);
        assert!(text.contains("an idempotent producer needs a broker of Kafka 0.11"), "{text}");
        mixed.after(60_000);
    }
}

#[test]
fn zstd_on_a_broker_that_does_not_have_it_is_an_error() {
    for produce_version in [2, 6] {
        let config = ProducerConfig::default().compression(CompressionType::Zstd.into());
        let mut rig = rig(config, produce_version);
        let record = rig.append_alone(0, "a");
        assert!(rig.poll().is_none());
        rig.events();
        let text = record.completion.outcome(0).unwrap().unwrap_err().to_string();
        assert!(text.contains("zstd compression needs a broker of Kafka 2.1"), "{text}");
        assert_eq!(text.matches("it was not written").count(), 1, "{text}");
    }
}

#[test]
fn a_timestamp_of_the_programs_choice_is_refused_where_the_leader_cannot_store_it() {
    let append = |rig: &mut Rig| rig.producer.append_at(rig.now, rig.topic, Some(0), 5, None, Some(b"v"), &[]);
    let mut old = rig(ProducerConfig::default(), 1);
    let first = append(&mut old).unwrap();
    assert!(old.poll().is_none(), "the leader was not known to be old");
    old.events();
    let error = first.completion.outcome(0).unwrap().unwrap_err();
    assert_eq!((error.kind(), error.written()), (ErrorKind::Unsupported, Written::No));
    assert!(text_of(&error).contains("timestamps need a broker of Kafka 0.10"), "{error}");
    let Err(AppendError::Refused(error)) = append(&mut old) else { panic!("now it is") };
    assert!(error.to_string().contains("timestamps need a broker of Kafka 0.10"), "{error}");
    old.append_alone(0, "without");
    assert_eq!(old.sent().values(), ["without"]);
    let mut newer = rig(ProducerConfig::default(), 2);
    append(&mut newer).unwrap();
    assert_eq!(newer.sent().values(), ["v"]);
}

#[test]
fn headers_are_refused_where_the_leader_is_too_old() {
    let mut rig = rig(ProducerConfig::default(), 2);
    let headers = [Header { key: b"h", value: None }];
    let append = |rig: &mut Rig| rig.producer.append(rig.now, rig.topic, Some(0), 5, None, Some(b"v"), &headers);
    let first = append(&mut rig).unwrap();
    assert!(rig.poll().is_none(), "the leader was not known to be old");
    rig.events();
    let error = first.completion.outcome(0).unwrap().unwrap_err();
    assert_eq!((error.kind(), error.written()), (ErrorKind::Unsupported, Written::No));
    assert!(text_of(&error).contains("record headers need a broker of Kafka 0.11"), "{error}");
    let Err(AppendError::Refused(error)) = append(&mut rig) else { panic!("now it is") };
    assert!(error.to_string().contains("record headers need a broker of Kafka 0.11"), "{error}");
    rig.append_alone(0, "plain");
    let sent = rig.sent();
    assert_eq!(sent.values(), ["plain"]);
}
