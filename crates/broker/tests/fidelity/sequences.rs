//! Idempotent producers: sequence numbers and epochs.

use kavka_core::wire::messages::InitProducerIdRequest;
use kavka_core::wire::{ApiKey, ErrorCode};

use crate::cluster::{Cluster, append, batch, end_offset, produce, producer_id, sequenced};

on_every_broker!(
    every_producer_gets_an_id_of_its_own,
    a_producer_that_names_itself_gets_a_new_epoch_or_id,
    a_duplicate_is_answered_with_its_first_offset,
    the_last_five_batches_are_remembered,
    a_gap_is_out_of_order,
    a_duplicate_of_another_length_is_out_of_order,
    an_old_epoch_is_invalid,
    a_new_epoch_begins_at_zero,
    an_unknown_producer_may_begin_anywhere,
    sequences_go_round_after_the_largest,
    the_sequences_of_a_partition_are_its_own,
    batches_without_a_producer_are_never_duplicates,
    the_new_leader_knows_the_sequences,
);

fn every_producer_gets_an_id_of_its_own(cluster: &Cluster) {
    let (first, second) = (producer_id(&mut cluster.connect(1)), producer_id(&mut cluster.connect(2)));
    assert_ne!(first, second);
}

fn a_producer_that_names_itself_gets_a_new_epoch_or_id(cluster: &Cluster) {
    let mut connection = cluster.connect(1);
    let known = producer_id(&mut connection);
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        producer_id: Some(known),
        producer_epoch: Some(0),
    };
    let answer = connection.call(&request);
    assert_eq!(answer.error_code, ErrorCode::NONE);
    assert!(answer.producer_id != Some(known) || answer.producer_epoch == 1, "{answer:?}");
}

fn a_duplicate_is_answered_with_its_first_offset(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let id = producer_id(&mut connection);
    append(&mut connection, &topic, batch(&["before"]));
    let sent = sequenced(id, 0, 0, &["a", "b"]);
    for _ in 0..3 {
        let answer = produce(&mut connection, &topic, sent.clone());
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, 1));
    }
    assert_eq!(end_offset(&mut connection, &topic), 3);
}

fn the_last_five_batches_are_remembered(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let id = producer_id(&mut connection);
    for sequence in 0..6 {
        append(&mut connection, &topic, sequenced(id, 0, sequence, &["a"]));
    }
    for sequence in 1..6 {
        let answer = produce(&mut connection, &topic, sequenced(id, 0, sequence, &["a"]));
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, i64::from(sequence)));
    }
    let forgotten = produce(&mut connection, &topic, sequenced(id, 0, 0, &["a"]));
    assert_eq!(forgotten.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(end_offset(&mut connection, &topic), 6);
}

fn a_gap_is_out_of_order(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let id = producer_id(&mut connection);
    append(&mut connection, &topic, sequenced(id, 0, 0, &["a"]));
    let answer = produce(&mut connection, &topic, sequenced(id, 0, 2, &["c"]));
    assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1));
    append(&mut connection, &topic, sequenced(id, 0, 1, &["b"]));
    assert_eq!(end_offset(&mut connection, &topic), 2);
}

fn a_duplicate_of_another_length_is_out_of_order(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let id = producer_id(&mut connection);
    append(&mut connection, &topic, sequenced(id, 0, 0, &["a", "b"]));
    let answer = produce(&mut connection, &topic, sequenced(id, 0, 0, &["a"]));
    assert_eq!(answer.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
}

fn an_old_epoch_is_invalid(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let id = producer_id(&mut connection);
    append(&mut connection, &topic, sequenced(id, 1, 0, &["a"]));
    let answer = produce(&mut connection, &topic, sequenced(id, 0, 0, &["b"]));
    assert_eq!(answer.error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
}

fn a_new_epoch_begins_at_zero(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let id = producer_id(&mut connection);
    append(&mut connection, &topic, sequenced(id, 0, 0, &["a"]));
    let answer = produce(&mut connection, &topic, sequenced(id, 1, 1, &["b"]));
    assert_eq!(answer.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(append(&mut connection, &topic, sequenced(id, 1, 0, &["b"])), 1);
}

fn an_unknown_producer_may_begin_anywhere(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let id = producer_id(&mut connection);
    assert_eq!(append(&mut connection, &topic, sequenced(id, 3, 77, &["a"])), 0);
    assert_eq!(append(&mut connection, &topic, sequenced(id, 3, 78, &["b"])), 1);
}

fn sequences_go_round_after_the_largest(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let id = producer_id(&mut connection);
    let across = sequenced(id, 0, i32::MAX - 1, &["a", "b", "c"]);
    assert_eq!(append(&mut connection, &topic, across.clone()), 0);
    assert_eq!(append(&mut connection, &topic, sequenced(id, 0, 1, &["d"])), 3);
    assert_eq!(append(&mut connection, &topic, across), 0, "a duplicate is found across the turn");
}

fn the_sequences_of_a_partition_are_its_own(cluster: &Cluster) {
    let (first, second) = (cluster.topic(), cluster.topic());
    let id = producer_id(&mut cluster.connect(1));
    for topic in [first, second] {
        let mut connection = cluster.connect_to_leader(&topic);
        assert_eq!(append(&mut connection, &topic, sequenced(id, 0, 0, &["a"])), 0);
        assert_eq!(end_offset(&mut connection, &topic), 1);
    }
}

fn batches_without_a_producer_are_never_duplicates(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    assert!(!connection.versions(ApiKey::Produce).is_empty());
    for offset in 0..3 {
        assert_eq!(append(&mut connection, &topic, batch(&["same"])), offset);
    }
}

fn the_new_leader_knows_the_sequences(cluster: &Cluster) {
    let topic = cluster.create(1, 2, &[]);
    let id = producer_id(&mut cluster.connect(1));
    let sent = sequenced(id, 0, 0, &["a", "b"]);
    append(&mut cluster.connect_to_leader(&topic), &topic, sent.clone());
    let mut connection = cluster.connect(cluster.move_leader(&topic));
    assert_eq!(append(&mut connection, &topic, sent), 0);
    assert_eq!(append(&mut connection, &topic, sequenced(id, 0, 2, &["c"])), 2);
}
