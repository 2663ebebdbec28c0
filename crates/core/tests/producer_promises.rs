//! The promises of the producer machine, one per test: a machine, a script of events, and what it did.

mod producer_support;

use std::time::Duration;

use kavka_core::cluster::Outdated;
use kavka_core::config::Acks;
use kavka_core::error::{Error, ErrorKind, Phase, Written};
use kavka_core::producer::{AppendError, ProducerResponse};
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::produce::BatchIndexAndErrorMessage;
use kavka_core::wire::messages::{InitProducerIdResponse, ProduceResponse};
use producer_support::{Rig, config, failure, is_open, lost, offset, response};

#[test]
fn five_batches_are_in_flight_and_no_more_and_their_numbers_follow_each_other() {
    let mut rig = Rig::warm(config());
    for i in 0..7 {
        rig.append_alone(0, &i.to_string());
        if i < 5 {
            assert_eq!(rig.sent().stamp().base_sequence, i + 1);
        }
    }
    assert!(rig.poll().is_none());
}

#[test]
fn until_the_first_acknowledgement_one_batch_is_in_flight() {
    let mut rig = Rig::new(config(), 1);
    rig.append_alone(0, "a");
    let first = rig.sent();
    rig.append_alone(0, "b");
    assert!(rig.poll().is_none());
    rig.answer(&first, ErrorCode::NONE, 0);
    assert_eq!(rig.sent().values(), ["b"]);
}

#[test]
fn a_batch_without_an_answer_goes_again_with_the_same_bytes() {
    let mut rig = Rig::warm(config());
    let record = rig.append_alone(0, "a");
    let first = rig.sent();
    rig.answer_with(&first, Err(lost()));
    assert!(rig.poll().is_none(), "it backs off");
    rig.after(130);
    let again = rig.sent();
    assert_eq!(again.batches[0].records, first.batches[0].records);
    rig.answer(&again, ErrorCode::DUPLICATE_SEQUENCE_NUMBER, -1);
    assert_eq!(offset(&record), None, "it is stored, and nobody knows where");
}

#[test]
fn a_duplicate_answer_to_a_first_attempt_is_no_success() {
    let mut rig = Rig::warm(config());
    let record = rig.append_alone(0, "a");
    let sent = rig.sent();
    rig.answer(&sent, ErrorCode::DUPLICATE_SEQUENCE_NUMBER, 3);
    assert_eq!(failure(&record).written(), Written::Maybe);
}

#[test]
fn a_missing_a_doubled_and_a_foreign_partition_are_no_success() {
    let none = ErrorCode::NONE;
    let answers = [
        response(1, &[]),
        response(1, &[(0, none, 1), (0, none, 1)]),
        response(1, &[(1, none, 1)]),
        response(9, &[(0, none, 1)]),
    ];
    for answer in answers {
        let mut rig = Rig::warm(config());
        let record = rig.append_alone(0, "a");
        let sent = rig.sent();
        rig.answer_with(&sent, Ok(answer));
        assert!(is_open(&record));
        rig.after(130);
        let again = rig.sent();
        assert_eq!(again.batches[0].records, sent.batches[0].records);
        rig.answer(&again, none, 1);
        assert_eq!(offset(&record), Some(1));
    }
}

#[test]
fn an_answer_to_a_request_that_was_never_sent_is_ignored() {
    let mut rig = Rig::warm(config());
    let record = rig.append_alone(0, "a");
    let sent = rig.sent();
    rig.producer.handle_response(
        rig.now,
        sent.id + 5,
        Ok(ProducerResponse::Produce(response(1, &[(0, ErrorCode::NONE, 9)]))),
    );
    rig.events();
    assert!(is_open(&record));
    rig.answer(&sent, ErrorCode::NONE, 1);
    rig.answer(&sent, ErrorCode::NONE, 7);
    assert_eq!(offset(&record), Some(1), "the second answer to one request changes nothing");
}

#[test]
fn an_unknown_error_code_fails_the_record_as_maybe_written_and_everything_behind_it() {
    let mut rig = Rig::warm(config());
    let first = rig.append_alone(0, "a");
    let sent = rig.sent();
    let behind = rig.append(0, "b");
    rig.answer(&sent, ErrorCode(999), -1);
    assert_eq!(failure(&first).written(), Written::Maybe);
    assert_eq!(failure(&behind).written(), Written::No);
    assert!(failure(&behind).to_string().contains("999"), "the cause names the first: {}", failure(&behind));
}

#[test]
fn reports_come_in_the_order_of_the_records() {
    let mut rig = Rig::warm(config());
    let first = rig.append_alone(0, "a");
    let one = rig.sent();
    let second = rig.append_alone(0, "b");
    let two = rig.sent();
    rig.answer(&two, ErrorCode::NONE, 2);
    assert!(is_open(&second), "it is held back");
    rig.answer(&one, ErrorCode::NONE, 1);
    assert_eq!((offset(&first), offset(&second)), (Some(1), Some(2)));
    assert_eq!(rig.reports.len(), 2);
}

#[test]
fn nothing_goes_to_a_new_leader_before_the_old_one_has_answered() {
    let mut rig = Rig::warm(config());
    rig.append_alone(0, "a");
    let first = rig.sent();
    rig.append_alone(0, "b");
    let second = rig.sent();
    rig.leaders(1, &[(2, 2)]);
    rig.append_alone(0, "c");
    assert!(rig.poll().is_none());
    rig.answer(&first, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1);
    rig.after(1_000);
    assert!(rig.poll().is_none(), "the second is still at the old leader");
    rig.answer(&second, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1);
    rig.after(1_000);
    let again: Vec<_> = std::iter::from_fn(|| rig.poll()).collect();
    assert!(again.iter().all(|sent| sent.broker_id == 2));
    assert_eq!(again.iter().flat_map(producer_support::Sent::values).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(again[0].batches[0].records, first.batches[0].records);
    assert_eq!(again[1].batches[0].records, second.batches[0].records);
}

#[test]
fn a_record_that_was_never_sent_times_out_as_not_written() {
    let mut rig = Rig::new(config(), 1);
    rig.leaders(1, &[(-1, 1)]);
    let record = rig.append_alone(0, "a");
    assert!(rig.poll().is_none());
    rig.after(120_000);
    assert!(rig.poll().is_none());
    rig.events();
    let error = failure(&record);
    assert_eq!((error.kind(), error.written()), (ErrorKind::TimedOut(Phase::Delivery), Written::No));
    assert!(!rig.refreshes.is_empty(), "the leader was asked for");
    let own = Outdated::Topics([producer_support::TOPIC.into()].into());
    assert!(rig.refreshes.iter().all(|outdated| *outdated == own), "{:?}", rig.refreshes);
}

#[test]
fn a_record_in_flight_times_out_as_maybe_written_and_the_epoch_moves_on_when_it_is_answered() {
    let mut rig = Rig::warm(config());
    let first = rig.append_alone(0, "a");
    let sent = rig.sent();
    let behind = rig.append(0, "b");
    rig.after(120_000);
    assert!(rig.poll().is_none());
    rig.events();
    assert_eq!((failure(&first).written(), failure(&behind).written()), (Written::Maybe, Written::No));
    let later = rig.append_alone(0, "c");
    assert!(rig.poll().is_none(), "the old request may still be carried out");
    rig.answer_with(&sent, Err(lost()));
    let fresh = rig.sent();
    assert_eq!((fresh.stamp().producer_epoch, fresh.stamp().base_sequence), (1, 0));
    rig.answer(&fresh, ErrorCode::NONE, 4);
    assert_eq!(offset(&later), Some(4));
    assert_eq!(rig.reports.len(), 3, "one report each");
}

#[test]
fn a_batch_that_is_too_large_is_halved_in_place_and_keeps_its_numbers() {
    let mut rig = Rig::warm(config());
    rig.append(0, "lone");
    let lone = rig.sent();
    rig.answer(&lone, ErrorCode::NONE, 1);
    rig.append(0, "hold");
    let hold = rig.sent();
    let records: Vec<_> = ["a", "b", "c", "d"].iter().map(|value| rig.append(0, value)).collect();
    rig.producer.flush(rig.now, rig.handle);
    let whole = rig.sent();
    rig.append_alone(0, "behind");
    let behind = rig.sent();
    rig.answer(&hold, ErrorCode::NONE, 2);
    rig.answer(&whole, ErrorCode::MESSAGE_TOO_LARGE, -1);
    assert!(rig.poll().is_none(), "the one behind is not answered yet");
    rig.answer(&behind, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
    let again: Vec<_> = std::iter::from_fn(|| rig.poll()).collect();
    let values: Vec<_> = again.iter().map(producer_support::Sent::values).collect();
    assert_eq!(values, [vec!["a", "b"], vec!["c", "d"], vec!["behind"]]);
    let base = whole.stamp().base_sequence;
    let bases: Vec<_> = again.iter().map(|sent| sent.stamp().base_sequence).collect();
    assert_eq!(bases, [base, base + 2, base + 4]);
    for (sent, at) in again.iter().zip([3, 5, 7]) {
        rig.answer(sent, ErrorCode::NONE, at);
    }
    assert_eq!(records.iter().map(offset).collect::<Vec<_>>(), [Some(3), Some(4), Some(5), Some(6)]);
}

#[test]
fn a_single_record_that_is_too_large_fails_alone_and_its_neighbours_are_delivered() {
    let mut rig = Rig::warm(config());
    let large = rig.append_alone(0, "large");
    let sent = rig.sent();
    let after = rig.append_alone(0, "after");
    let behind = rig.sent();
    rig.answer(&sent, ErrorCode::MESSAGE_TOO_LARGE, -1);
    rig.answer(&behind, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
    let error = failure(&large);
    assert_eq!((error.code(), error.written()), (Some(ErrorCode::MESSAGE_TOO_LARGE), Written::No));
    let again = rig.sent();
    assert_eq!(again.values(), ["after"]);
    assert_eq!((again.stamp().producer_epoch, again.stamp().base_sequence), (1, 0));
    rig.answer(&again, ErrorCode::NONE, 1);
    assert_eq!(offset(&after), Some(1));
}

#[test]
fn the_records_a_broker_names_as_invalid_fail_and_the_others_go_again() {
    let mut rig = Rig::warm(config());
    rig.append(0, "hold");
    let hold = rig.sent();
    let records: Vec<_> = ["a", "bad", "c"].iter().map(|value| rig.append(0, value)).collect();
    rig.producer.flush(rig.now, rig.handle);
    let sent = rig.sent();
    rig.answer(&hold, ErrorCode::NONE, 1);
    let mut answer = response(1, &[(0, ErrorCode::INVALID_RECORD, -1)]);
    answer.responses[0].partition_responses[0].record_errors =
        vec![BatchIndexAndErrorMessage { batch_index: 1, ..Default::default() }];
    rig.answer_with(&sent, Ok(answer));
    assert!(is_open(&records[1]), "it waits for the one before it");
    let first = rig.sent();
    rig.answer(&first, ErrorCode::NONE, 2);
    assert_eq!(failure(&records[1]).written(), Written::No);
    let second = rig.sent();
    rig.answer(&second, ErrorCode::NONE, 3);
    assert_eq!((offset(&records[0]), offset(&records[2])), (Some(2), Some(3)));
}

#[test]
fn a_lost_sequence_starts_anew_in_the_next_epoch_with_what_is_surely_not_written() {
    for code in
        [ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::UNKNOWN_PRODUCER_ID, ErrorCode::INVALID_PRODUCER_EPOCH]
    {
        let mut rig = Rig::warm(config());
        let record = rig.append_alone(0, "a");
        let sent = rig.sent();
        rig.answer(&sent, code, -1);
        rig.after(130);
        let again = rig.sent();
        assert_eq!((again.stamp().producer_epoch, again.stamp().base_sequence), (1, 0), "{code}");
        rig.answer(&again, ErrorCode::NONE, 8);
        assert_eq!(offset(&record), Some(8));
    }
}

#[test]
fn a_lost_sequence_fails_what_may_be_written() {
    let mut rig = Rig::warm(config());
    let record = rig.append_alone(0, "a");
    let sent = rig.sent();
    rig.answer_with(&sent, Err(lost()));
    rig.after(130);
    let again = rig.sent();
    rig.answer(&again, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
    assert_eq!(failure(&record).written(), Written::Maybe);
}

#[test]
fn a_new_leader_named_in_the_answer_is_passed_on() {
    let mut rig = Rig::warm(config());
    rig.append_alone(0, "a");
    let sent = rig.sent();
    let mut answer = response(1, &[(0, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1)]);
    let leader = &mut answer.responses[0].partition_responses[0].current_leader;
    (leader.leader_id, leader.leader_epoch) = (Some(3), Some(9));
    rig.answer_with(&sent, Ok(answer));
    assert_eq!(rig.hints, 1);
    rig.leaders(1, &[(3, 9)]);
    assert_eq!(rig.sent().broker_id, 3, "without waiting for the back-off");
}

#[test]
fn with_acks_none_a_written_request_is_a_success_without_an_offset() {
    let mut weak = config();
    weak.acks = Acks::None;
    let mut rig = Rig::new(weak, 1);
    let record = rig.append_alone(0, "a");
    let sent = rig.sent();
    assert_eq!(sent.batches[0].stamp, None);
    rig.answer_with(&sent, Ok(ProduceResponse::default()));
    assert_eq!(offset(&record), None);
    let second = rig.append_alone(0, "b");
    let sent = rig.sent();
    rig.answer_with(&sent, Err(lost()));
    assert_eq!(failure(&second).written(), Written::Maybe, "it is not sent twice");
}

#[test]
fn a_flush_is_done_when_everything_before_it_is_reported() {
    let mut rig = Rig::warm(config());
    rig.append(0, "a");
    let mark = rig.producer.flush(rig.now, rig.handle);
    let sent = rig.sent();
    assert!(!rig.producer.is_flushed(rig.handle, mark));
    rig.append(0, "b");
    rig.answer(&sent, ErrorCode::NONE, 1);
    assert!(rig.producer.is_flushed(rig.handle, mark));
    assert!(!rig.producer.is_idle());
}

#[test]
fn what_is_given_up_at_the_end_is_reported_once_and_says_whether_it_may_be_written() {
    let mut rig = Rig::warm(config());
    let sent_record = rig.append_alone(0, "a");
    let sent = rig.sent();
    let buffered = rig.append(0, "b");
    assert_eq!(rig.producer.written(rig.handle), Written::Maybe);
    rig.producer.abandon(
        rig.now,
        rig.handle,
        &Error::new(ErrorKind::TimedOut(Phase::Close), "the time to close was over"),
    );
    rig.events();
    assert_eq!((failure(&sent_record).written(), failure(&buffered).written()), (Written::Maybe, Written::No));
    assert!(rig.producer.is_idle());
    assert_eq!(rig.producer.written(rig.handle), Written::No, "every record has its report");
    rig.answer(&sent, ErrorCode::NONE, 1);
    assert_eq!(rig.reports.len(), 2);
    let late = rig.producer.append(rig.now, rig.topic, Some(0), 0, None, None, &[]);
    assert!(matches!(late, Err(AppendError::Refused(error)) if error.kind() == ErrorKind::Closed));
}

#[test]
fn a_cluster_that_gives_no_producer_id_fails_everything_for_good() {
    let mut rig = Rig::new(config(), 1);
    let record = rig.append(0, "a");
    let asked = rig.producer.poll_request(rig.now).unwrap().id;
    let refused = InitProducerIdResponse { error_code: ErrorCode::CLUSTER_AUTHORIZATION_FAILED, ..Default::default() };
    rig.producer.handle_response(rig.now, asked, Ok(ProducerResponse::InitProducerId(refused)));
    rig.events();
    assert!(failure(&record).to_string().contains("enable.idempotence"), "{}", failure(&record));
    assert!(matches!(
        rig.producer.append(rig.now, rig.topic, Some(0), 0, None, None, &[]),
        Err(AppendError::Refused(_))
    ));
}

#[test]
fn a_lost_answer_to_init_producer_id_is_asked_for_again() {
    let mut rig = Rig::new(config(), 1);
    rig.append(0, "a");
    let asked = rig.producer.poll_request(rig.now).unwrap().id;
    rig.producer.handle_response(rig.now, asked, Err(lost()));
    assert!(rig.producer.poll_request(rig.now).is_none());
    rig.after(130);
    assert_eq!(rig.sent().values(), ["a"]);
}

#[test]
fn a_record_that_ran_out_of_time_says_what_it_waited_for() {
    let config = config().delivery_timeout(Duration::from_secs(1));
    let mut rig = Rig::warm(config.clone());
    rig.leaders(1, &[(-1, 2)]);
    let leaderless = rig.append(0, "leaderless");
    rig.after(1_000);
    assert!(rig.poll().is_none());
    rig.events();
    let error = failure(&leaderless);
    assert_eq!(error.code(), Some(ErrorCode::LEADER_NOT_AVAILABLE));
    assert!(error.to_string().contains("the partition has no leader"), "{error}");

    let mut rig = Rig::new(config, 1);
    let nameless = rig.append(0, "nameless");
    assert!(rig.producer.poll_request(rig.now).is_some(), "a producer id is asked for");
    rig.after(1_000);
    assert!(rig.producer.poll_request(rig.now).is_none());
    rig.events();
    let error = failure(&nameless);
    assert!(error.to_string().contains("no broker has assigned a producer id yet"), "{error}");
}

#[test]
fn only_with_sequence_numbers_a_request_is_given_up_before_its_time_is_up() {
    for (acks, may_fail_early) in [(Acks::All, true), (Acks::Leader, false), (Acks::None, false)] {
        let mut rig = Rig::new(config().acks(acks), 1);
        rig.append_alone(0, "first");
        assert_eq!(rig.sent().may_fail_early, may_fail_early, "{acks:?}");
    }
}

#[test]
fn without_idempotence_a_batch_that_goes_again_is_not_overtaken() {
    let mut rig = Rig::new(config().acks(Acks::Leader), 1);
    rig.append_alone(0, "first");
    let first = rig.sent();
    rig.append_alone(0, "second");
    assert!(rig.poll().is_none(), "the first may have to go again");
    rig.answer(&first, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1);
    rig.after(130);
    let again = rig.sent();
    assert_eq!(again.values(), ["first"]);
    rig.answer(&again, ErrorCode::NONE, 0);
    assert_eq!(rig.sent().values(), ["second"]);

    let never_again = config().acks(Acks::Leader).retries(0);
    let mut rig = Rig::new(never_again, 1);
    rig.append_alone(0, "first");
    drop(rig.sent());
    rig.append_alone(0, "second");
    assert_eq!(rig.sent().values(), ["second"], "nothing goes again");
}
