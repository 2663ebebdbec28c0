//! The producer machine when a topic is deleted, made anew, or only looks like that.

mod producer_support;

use std::sync::Arc;
use std::time::Duration;

use kavka_core::cluster::{MetadataRefresh, RefreshConfig};
use kavka_core::producer::{AppendError, Appended};
use kavka_core::time::Instant;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::MetadataResponse;
use producer_support::{
    BACKOFF, Rig, Sent, TOPIC, config, description, description_without_topic, failure, is_open, offset,
};

#[test]
fn a_topic_that_is_made_anew_gets_new_sequences() {
    let mut rig = Rig::warm(config());
    rig.leaders(2, &[(1, 0)]);
    rig.append_alone(0, "a");
    let sent = rig.sent();
    assert_eq!((sent.stamp().producer_epoch, sent.stamp().base_sequence), (1, 0));
}

#[test]
fn records_of_a_topic_that_was_deleted_are_given_up_within_seconds() {
    let mut rig = Rig::warm(config());
    let record = rig.append(0, "lost");
    let mut sent = rig.poll();
    rig.see_no_topic();
    while rig.now < Instant(7_000) {
        if let Some(sent) = sent {
            rig.answer(&sent, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1);
        }
        rig.after(1_100);
        sent = rig.poll();
    }
    rig.events();
    let error = failure(&record);
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
    assert!(error.to_string().contains("the topic was deleted"), "{error}");
    let refused = rig.producer.append(rig.now, rig.topic, Some(0), 0, None, None, &[]);
    assert!(matches!(refused, Err(AppendError::Refused(error)) if error.to_string().contains("deleted")));
    rig.leaders(2, &[(1, 0)]);
    rig.append_alone(0, "anew");
    rig.after(1_100);
    assert_eq!(rig.sent().values(), ["anew"]);
}

#[test]
fn a_topic_that_the_metadata_lacks_is_to_be_looked_up_until_it_is_there_again() {
    let mut rig = Rig::warm(config());
    assert_eq!(rig.producer.missing_topic(rig.topic), None);
    rig.events();
    while rig.producer.poll_progress(rig.now).is_some() {}
    rig.see_no_topic();
    assert_eq!(rig.producer.missing_topic(rig.topic).as_deref(), Some(TOPIC));
    let progress = rig.producer.poll_progress(rig.now).expect("callers that wait for room should know");
    assert_eq!((progress.handle, progress.wakes_callers), (rig.handle, true));
    rig.leaders(1, &[(1, 2)]);
    assert_eq!(rig.producer.missing_topic(rig.topic), None);

    let unseen = rig.producer.topic(rig.now, rig.handle, "new", &rig.metadata);
    let refused = rig.producer.append(rig.now, unseen, None, 0, None, None, &[]);
    assert!(matches!(refused, Err(AppendError::NoMetadata)));
    assert_eq!(rig.producer.missing_topic(unseen).as_deref(), Some("new"));
}

#[test]
fn a_broker_that_lags_behind_does_not_make_a_topic_deleted() {
    let mut rig = Rig::warm(config());
    let record = rig.append(0, "slow");
    let sent = rig.sent();
    rig.see_no_topic();
    rig.after(20_000);
    assert!(rig.poll().is_none());
    rig.events();
    assert!(is_open(&record), "its leader has not said that it does not know the topic");
    rig.answer(&sent, ErrorCode::NONE, 1);
    assert_eq!(offset(&record), Some(1));
}

/// A broker answers a request for the topic's metadata.
fn describe(refresh: &mut MetadataRefresh, rig: &mut Rig, answer: MetadataResponse) {
    refresh.request_topic(&TOPIC.into());
    refresh.poll_request(rig.now).expect("no back-off is left");
    refresh.handle_response(rig.now, Ok(answer));
    rig.producer.handle_metadata(rig.now, refresh.metadata());
}

/// A broker was lost and is back, and for `millis` knows no topic, neither as the leader nor when it is asked for
/// metadata. Returns a record appended meanwhile, and the last request for it.
fn after_a_restart(refresh: &mut MetadataRefresh, rig: &mut Rig, millis: u64) -> (Appended, Option<Sent>) {
    describe(refresh, rig, description(1, &[(1, 1)]));
    rig.after(1_000);
    refresh.handle_possible_restart(rig.now);
    let back_at = rig.now;
    let record = rig.append_alone(0, "kept");
    let mut sent = rig.poll();
    while rig.now < back_at + Duration::from_millis(millis) {
        if let Some(sent) = sent {
            rig.answer(&sent, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1);
        }
        describe(refresh, rig, description_without_topic());
        rig.after(1_300);
        sent = rig.poll();
        rig.events();
    }
    (record, sent)
}

#[test]
fn a_broker_that_has_just_restarted_does_not_make_a_topic_deleted() {
    let mut refresh = MetadataRefresh::new(RefreshConfig { max_age: Duration::from_secs(300), backoff: BACKOFF }, 1);
    let mut rig = Rig::warm(config());
    let (record, sent) = after_a_restart(&mut refresh, &mut rig, 25_000);
    assert!(is_open(&record), "{}", failure(&record));
    describe(&mut refresh, &mut rig, description(1, &[(1, 1)]));
    rig.answer(&sent.expect("it is sent again and again"), ErrorCode::NONE, 1);
    assert_eq!(offset(&record), Some(1));
}

#[test]
fn that_a_topic_was_deleted_while_a_broker_restarted_is_told_once_brokers_had_time_to_learn_of_it() {
    let mut refresh = MetadataRefresh::new(RefreshConfig { max_age: Duration::from_secs(300), backoff: BACKOFF }, 1);
    let mut rig = Rig::warm(config());
    let (record, _) = after_a_restart(&mut refresh, &mut rig, 40_000);
    let error = failure(&record);
    assert!(error.to_string().contains("the topic was deleted"), "{error}");
}

#[test]
fn one_answer_long_ago_does_not_make_a_topic_deleted() {
    let mut rig = Rig::warm(config());
    rig.see_no_topic();
    rig.after(60_000);
    rig.append_alone(0, "a");
    let sent = rig.sent();
    rig.after(2_000);
    rig.answer(&sent, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1);
    assert!(rig.poll().is_none());
    rig.after(1_000);
    assert_eq!(rig.sent().values(), ["a"]);
    assert!(rig.reports.is_empty(), "{:?}", rig.reports);
}

#[test]
fn what_a_leader_said_of_earlier_records_does_not_make_a_topic_deleted() {
    let mut short = config();
    short.delivery_timeout = Duration::from_secs(2);
    let mut rig = Rig::warm(short);
    rig.see_no_topic();
    rig.append_alone(0, "a");
    let sent = rig.sent();
    rig.answer(&sent, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1);
    rig.after(1_000);
    let sent = rig.sent();
    rig.answer(&sent, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1);
    rig.after(1_000);
    assert!(rig.poll().is_none(), "it ran out of time");
    rig.after(60_000);
    rig.append_alone(0, "b");
    assert_eq!(rig.sent().values(), ["b"]);
}

#[test]
fn an_older_snapshot_takes_nothing_back() {
    let mut rig = Rig::new(config(), 1);
    let older = Arc::new(rig.metadata.clone());
    rig.leaders(1, &[(2, 2), (2, 2)]);
    rig.producer.handle_metadata(rig.now, &older);
    assert_eq!(rig.producer.partition_count(rig.topic), 2);
    let newest = rig.metadata.clone();
    rig.producer.topic(rig.now, rig.handle, TOPIC, &newest);
    rig.append_alone(0, "a");
    assert_eq!(rig.sent().broker_id, 2);
}
