//! Offsets without a consumer: ends of partitions, offsets by time, committed offsets.

use std::collections::BTreeMap;

use kavka::{CommittedOffset, ErrorCode, IsolationLevel, Record, TopicPartition};
use kavka_test_support::on_every_listener;
use kavka_test_support::rig::wait;
use kavka_test_support::{LIMIT, unique};

use crate::cluster::{Cluster, Writer};

on_every_listener!(
    the_ends_of_every_partition_are_found,
    times_are_found_in_every_partition,
    an_unknown_partition_has_no_offsets,
    committed_offsets_come_back,
);

/// Three partitions with 0, 1 and 2 records, with the timestamps 1000 and 2000.
fn three(cluster: &Cluster) -> (Writer, Vec<TopicPartition>) {
    let topic = cluster.topic(3);
    let writer = Writer::new(cluster, &topic);
    for (partition, time) in [(1, 1000), (2, 1000), (2, 2000)] {
        writer.send_record(&Record { partition: Some(partition), timestamp_ms: Some(time), ..Record::default() });
    }
    writer.flush();
    (writer, (0..3).map(|partition| TopicPartition::new(topic.as_str(), partition)).collect())
}

fn the_ends_of_every_partition_are_found(cluster: &Cluster) {
    let (writer, keys) = three(cluster);
    let (client, asked) = (writer.client.clone(), keys.clone());
    let (beginnings, ends) = wait(&writer.client, async move {
        let ends = client.end_offsets(&asked, IsolationLevel::ReadCommitted, LIMIT).await.unwrap();
        (client.beginning_offsets(&asked, LIMIT).await.unwrap(), ends)
    });
    let found = keys.iter().map(|key| (beginnings[key], ends[key])).collect::<Vec<_>>();
    assert_eq!(found, [(0, 0), (0, 1), (0, 2)]);
}

fn times_are_found_in_every_partition(cluster: &Cluster) {
    let (writer, keys) = three(cluster);
    let (client, asked) = (writer.client.clone(), keys.iter().map(|key| (key.clone(), 1500)).collect::<Vec<_>>());
    let found = wait(&writer.client, async move { client.offsets_for_times(&asked, LIMIT).await.unwrap() });
    let found: Vec<_> =
        keys.iter().map(|key| found[key].as_ref().map(|found| (found.offset, found.timestamp_ms))).collect();
    assert_eq!(found, [None, None, Some((1, Some(2000)))]);
}

fn an_unknown_partition_has_no_offsets(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let client = cluster.client();
    for name in [topic, unique("nowhere")] {
        let asked = [TopicPartition::new(name.as_str(), 7)];
        let owned = client.clone();
        let limit = std::time::Duration::from_secs(5);
        let error = wait(&client, async move { owned.beginning_offsets(&asked, limit).await.unwrap_err() });
        assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
        assert_eq!(error.place().topic.as_deref(), Some(name.as_str()), "{error}");
    }
}

fn committed_offsets_come_back(cluster: &Cluster) {
    let (writer, keys) = three(cluster);
    let group_id = unique("group");
    let noted = CommittedOffset { metadata: "note".into(), ..CommittedOffset::new(2) };
    let committed = BTreeMap::from([(keys[1].clone(), CommittedOffset::new(1)), (keys[2].clone(), noted)]);
    let client = writer.client.clone();
    let (sent, asked) = (committed.clone(), keys.clone());
    let found = wait(&writer.client, async move {
        client.commit_offsets(&group_id, &sent, LIMIT).await.unwrap();
        client.committed_offsets(&group_id, &asked, LIMIT).await.unwrap()
    });
    assert_eq!(found, committed);
}
