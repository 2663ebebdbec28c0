//! Fetch sessions (KIP-227).

use kavka_core::wire::ErrorCode;
use kavka_core::wire::messages::fetch::{FetchPartition, FetchTopic, ForgottenTopic};
use kavka_core::wire::messages::{FetchRequest, FetchResponse};

use crate::cluster::{Cluster, Topic, append, batch};
use crate::connection::Connection;

on_every_broker!(
    a_session_begins_with_epoch_0_and_answers_for_every_partition,
    an_incremental_fetch_answers_only_for_what_has_news,
    a_changed_position_is_remembered,
    an_added_partition_joins_and_a_forgotten_one_leaves,
    a_wrong_epoch_is_refused_and_the_session_stays,
    a_session_that_does_not_exist_is_refused,
    a_closed_session_is_gone,
    a_partition_with_an_error_is_answered_for_again_and_again,
    a_session_is_not_bound_to_its_connection,
);

/// A topic with two partitions on one broker, and a connection to that broker.
fn two_partitions(cluster: &Cluster) -> (Topic, Connection) {
    let topic = cluster.create(4, 1, &[]);
    let leader = topic.leaders[0];
    (topic.clone(), cluster.connect(leader))
}

/// The partitions of the topic that the leader of partition 0 leads.
fn led(topic: &Topic) -> Vec<i32> {
    let leader = topic.leaders[0];
    (0..).zip(&topic.leaders).filter(|(_, other)| **other == leader).map(|(partition, _)| partition).collect()
}

fn fetch(topic: &Topic, partitions: &[(i32, i64)], session_id: i32, session_epoch: Option<i32>) -> FetchRequest {
    let partitions = partitions.iter().map(|(partition, fetch_offset)| FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    });
    let partitions: Vec<_> = partitions.collect();
    let topic = FetchTopic { topic: topic.name.clone(), topic_id: topic.id, partitions };
    FetchRequest {
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_id,
        session_epoch,
        topics: if topic.partitions.is_empty() { Vec::new() } else { vec![topic] },
        ..FetchRequest::default()
    }
}

/// The partitions in the response, with the size of their records.
fn answered(answer: &FetchResponse) -> Vec<(i32, usize)> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    let bytes = |records: &Option<kavka_core::wire::records::Records>| {
        records.as_ref().map_or(0, kavka_core::wire::records::Records::len)
    };
    let mut told: Vec<_> = partitions.map(|data| (data.partition_index, bytes(&data.records))).collect();
    told.sort_unstable();
    told
}

fn begin(connection: &mut Connection, topic: &Topic, partitions: &[(i32, i64)]) -> i32 {
    let answer = connection.call(&fetch(topic, partitions, 0, Some(0)));
    assert_eq!(answer.error_code, ErrorCode::NONE);
    answer.session_id
}

fn a_session_begins_with_epoch_0_and_answers_for_every_partition(cluster: &Cluster) {
    let (topic, mut connection) = two_partitions(cluster);
    let asked: Vec<_> = led(&topic).into_iter().map(|partition| (partition, 0)).collect();
    let answer = connection.call(&fetch(&topic, &asked, 0, Some(0)));
    assert!(answer.session_id > 0);
    assert_eq!(answered(&answer), asked.iter().map(|(partition, _)| (*partition, 0)).collect::<Vec<_>>());
    let sessionless = connection.call(&fetch(&topic, &asked, 0, None));
    assert_eq!(sessionless.session_id, 0);
}

fn an_incremental_fetch_answers_only_for_what_has_news(cluster: &Cluster) {
    let (topic, mut connection) = two_partitions(cluster);
    let asked: Vec<_> = led(&topic).into_iter().map(|partition| (partition, 0)).collect();
    let session = begin(&mut connection, &topic, &asked);
    let answer = connection.call(&fetch(&topic, &[], session, Some(1)));
    assert_eq!((answer.error_code, answer.session_id, answered(&answer)), (ErrorCode::NONE, session, vec![]));
    let sent = batch(&["news"]);
    append(&mut connection, &topic, sent.clone());
    let answer = connection.call(&fetch(&topic, &[], session, Some(2)));
    assert_eq!(answered(&answer), [(0, sent.len())]);
}

fn a_changed_position_is_remembered(cluster: &Cluster) {
    let (topic, mut connection) = two_partitions(cluster);
    append(&mut connection, &topic, batch(&["a"]));
    append(&mut connection, &topic, batch(&["b"]));
    let session = begin(&mut connection, &topic, &[(0, 0)]);
    let answer = connection.call(&fetch(&topic, &[(0, 1)], session, Some(1)));
    let one = batch(&["b"]).len();
    assert_eq!(answered(&answer), [(0, one)]);
    let again = connection.call(&fetch(&topic, &[], session, Some(2)));
    assert_eq!(answered(&again), [(0, one)]);
    let moved = connection.call(&fetch(&topic, &[(0, 2)], session, Some(3)));
    assert_eq!(answered(&moved), []);
}

fn an_added_partition_joins_and_a_forgotten_one_leaves(cluster: &Cluster) {
    let (topic, mut connection) = two_partitions(cluster);
    let (first, second) = (led(&topic)[0], led(&topic)[1]);
    append(&mut connection, &topic, batch(&["a"]));
    let session = begin(&mut connection, &topic, &[(second, 0)]);
    let joined = connection.call(&fetch(&topic, &[(first, 0)], session, Some(1)));
    assert_eq!(answered(&joined).first().map(|(partition, _)| *partition), Some(first));
    let forgotten = ForgottenTopic { topic: topic.name.clone(), topic_id: topic.id, partitions: vec![first] };
    let request = FetchRequest { forgotten_topics_data: vec![forgotten], ..fetch(&topic, &[], session, Some(2)) };
    assert_eq!(answered(&connection.call(&request)), []);
}

fn a_wrong_epoch_is_refused_and_the_session_stays(cluster: &Cluster) {
    let (topic, mut connection) = two_partitions(cluster);
    let session = begin(&mut connection, &topic, &[(0, 0)]);
    let refused = connection.call(&fetch(&topic, &[], session, Some(2)));
    assert_eq!((refused.error_code, refused.session_id), (ErrorCode::INVALID_FETCH_SESSION_EPOCH, 0));
    assert!(refused.responses.is_empty());
    assert_eq!(connection.call(&fetch(&topic, &[], session, Some(1))).error_code, ErrorCode::NONE);
}

fn a_session_that_does_not_exist_is_refused(cluster: &Cluster) {
    let (topic, mut connection) = two_partitions(cluster);
    let refused = connection.call(&fetch(&topic, &[], 1, Some(1)));
    assert_eq!(refused.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

fn a_closed_session_is_gone(cluster: &Cluster) {
    let (topic, mut connection) = two_partitions(cluster);
    let session = begin(&mut connection, &topic, &[(0, 0)]);
    // Epoch -1 with a session id: the session's last fetch.
    let last = connection.call(&fetch(&topic, &[(0, 0)], session, None));
    assert_eq!((last.error_code, last.session_id), (ErrorCode::NONE, 0));
    let refused = connection.call(&fetch(&topic, &[], session, Some(1)));
    assert_eq!(refused.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

fn a_partition_with_an_error_is_answered_for_again_and_again(cluster: &Cluster) {
    let (topic, mut connection) = two_partitions(cluster);
    let session = begin(&mut connection, &topic, &[(0, 0)]);
    for epoch in 1..3 {
        let asked: &[(i32, i64)] = if epoch == 1 { &[(0, 99)] } else { &[] };
        let answer = connection.call(&fetch(&topic, asked, session, Some(epoch)));
        let data = &answer.responses[0].partitions[0];
        assert_eq!((data.partition_index, data.error_code), (0, ErrorCode::OFFSET_OUT_OF_RANGE));
    }
}

fn a_session_is_not_bound_to_its_connection(cluster: &Cluster) {
    let (topic, mut connection) = two_partitions(cluster);
    let session = begin(&mut connection, &topic, &[(0, 0)]);
    let answer = cluster.connect_to_leader(&topic).call(&fetch(&topic, &[], session, Some(1)));
    assert_eq!((answer.error_code, answer.session_id), (ErrorCode::NONE, session));
}
