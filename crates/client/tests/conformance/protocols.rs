//! Groups whose members leave the protocol open (`group.protocol=auto`): by the consumer protocol where the brokers
//! have it, and otherwise by the classic one, with the same outcome. And groups that change from one to the other.

use std::collections::BTreeSet;
use std::time::Duration;

use kavka::blocking::GroupConsumer;
use kavka::{Client, GroupConfig, GroupOptions, GroupProtocol, Offsets, TopicPartition};
use kavka_test_support::rig::wait;
use kavka_test_support::{on_every_listener, unique, until};

use crate::cluster::Cluster;
use crate::membership::{
    Diary, gets_the_partitions_that_its_topic_gains, group, joined, leave, leaves_while_it_asks_for_nothing, member,
    read, settle, takes_in_the_topics_that_match, write,
};

on_every_listener!(
    members_with_auto_share_the_partitions_and_the_last_one_has_them_all_again,
    a_member_with_auto_goes_on_where_the_group_stopped,
    a_static_member_with_auto_comes_back_to_its_partitions,
    the_listener_of_a_member_with_auto_is_told_of_everything_in_order,
    a_member_with_auto_that_asks_for_no_records_leaves_and_comes_back_when_it_does,
    partitions_that_a_topic_gains_reach_a_member_with_auto,
    a_pattern_of_a_member_with_auto_takes_in_the_topics_that_match_also_later_ones,
    a_running_group_changes_its_protocol_and_back_reads_everything_and_commits_nothing_backwards,
);

fn auto() -> GroupConfig {
    GroupConfig::default().auto_commit_interval(Duration::from_millis(200))
}

fn classic() -> GroupConfig {
    group("range").group_protocol(GroupProtocol::Classic)
}

/// Whether the group's coordinator assigns the partitions.
fn is_by_coordinator(client: &Client, group_id: &str) -> bool {
    let groups = wait(client, client.admin().list_groups()).unwrap();
    let group = groups.into_iter().find(|group| group.group_id == group_id).unwrap();
    group.group_type.is_some_and(|group_type| group_type.eq_ignore_ascii_case("consumer"))
}

fn members_with_auto_share_the_partitions_and_the_last_one_has_them_all_again(cluster: &Cluster) {
    let (topic, group_id, client) = (cluster.topic(4), unique("group"), cluster.client());
    let first = member(&client, &group_id, auto(), &topic);
    settle(&[&first], &[4]);
    let second = member(&client, &group_id, auto(), &topic);
    settle(&[&first, &second], &[2, 2]);
    let all: BTreeSet<_> = first.assignment().into_iter().chain(second.assignment()).collect();
    assert_eq!(all.len(), 4);
    leave(&first);
    settle(&[&second], &[4]);
    leave(&second);
}

fn a_member_with_auto_goes_on_where_the_group_stopped(cluster: &Cluster) {
    let (topic, group_id, client) = (cluster.topic(2), unique("group"), cluster.client());
    write(cluster, &topic, 2, 10);
    let first = member(&client, &group_id, auto(), &topic);
    let mut seen = read(&first, 12);
    leave(&first);
    let second = member(&client, &group_id, auto(), &topic);
    seen.extend(read(&second, 8));
    seen.sort_unstable();
    let all: Vec<_> = (0..2).flat_map(|partition| (0..10).map(move |offset| (partition, offset))).collect();
    assert_eq!(seen, all);
    leave(&second);
}

fn a_static_member_with_auto_comes_back_to_its_partitions(cluster: &Cluster) {
    let (topic, group_id, client) = (cluster.topic(4), unique("group"), cluster.client());
    let named = |name: &str| auto().group_instance_id(Some(name.into()));
    let stays = member(&client, &group_id, named("stays"), &topic);
    let goes = member(&client, &group_id, named("goes"), &topic);
    settle(&[&stays, &goes], &[2, 2]);
    let (had, kept, generation) = (goes.assignment(), stays.assignment(), stays.generation_id());
    leave(&goes);
    let back = member(&client, &group_id, named("goes"), &topic);
    settle(&[&stays, &back], &[2, 2]);
    assert_eq!((back.assignment(), stays.assignment(), stays.generation_id()), (had, kept, generation));
    leave(&back);
    leave(&stays);
}

fn the_listener_of_a_member_with_auto_is_told_of_everything_in_order(cluster: &Cluster) {
    let (topic, group_id, client) = (cluster.topic(4), unique("group"), cluster.client());
    write(cluster, &topic, 4, 5);
    let diary = Diary::default();
    let first = joined(&client, &group_id, auto(), GroupOptions::default().listener(diary.clone()), &topic);
    assert_eq!(read(&first, 20).len(), 20);
    let second = member(&client, &group_id, auto(), &topic);
    settle(&[&first, &second], &[2, 2]);
    leave(&first);
    let told = diary.0.lock().unwrap().clone();
    if is_by_coordinator(&client, &group_id) {
        assert_eq!(told, ["assigned 4", "revoked 2", "assigned 0", "revoked 2"], "it reads on where nothing changes");
    } else {
        assert_eq!(told, ["assigned 4", "revoked 4", "assigned 2", "revoked 2"]);
    }
    leave(&second);
}

fn a_member_with_auto_that_asks_for_no_records_leaves_and_comes_back_when_it_does(cluster: &Cluster) {
    leaves_while_it_asks_for_nothing(cluster, auto());
}

fn partitions_that_a_topic_gains_reach_a_member_with_auto(cluster: &Cluster) {
    gets_the_partitions_that_its_topic_gains(cluster, auto());
}

/// Reads until so many different records have come. Partitions move meanwhile: a record that was returned just before
/// its partition was given up comes again.
fn read_all(members: &[&GroupConsumer], seen: &mut BTreeSet<(TopicPartition, i64)>, until_seen: usize) {
    until("the records to come", || {
        for member in members {
            let records = member.next_records(100, Duration::from_millis(20)).unwrap();
            seen.extend(records.into_iter().map(|record| (record.topic_partition, record.offset)));
        }
        (seen.len() >= until_seen).then_some(())
    });
}

fn a_pattern_of_a_member_with_auto_takes_in_the_topics_that_match_also_later_ones(cluster: &Cluster) {
    takes_in_the_topics_that_match(cluster, auto());
}

/// Checks that no committed offset is smaller than it was, and notes them.
fn check_commits(client: &Client, group_id: &str, committed: &mut Offsets) {
    let now = wait(client, client.admin().group_offsets(group_id)).unwrap();
    for (key, before) in &*committed {
        assert!(now[key].offset >= before.offset, "{key} went from {} back to {}", before.offset, now[key].offset);
    }
    *committed = now;
}

fn a_running_group_changes_its_protocol_and_back_reads_everything_and_commits_nothing_backwards(cluster: &Cluster) {
    let (topic, group_id, client) = (cluster.topic(4), unique("group"), cluster.client());
    let mut seen = BTreeSet::new();
    let mut members = [member(&client, &group_id, classic(), &topic), member(&client, &group_id, classic(), &topic)];
    settle(&[&members[0], &members[1]], &[2, 2]);
    let (mut written, mut committed) = (0, Offsets::new());
    for config in [auto as fn() -> GroupConfig, classic] {
        for place in 0..2 {
            write(cluster, &topic, 4, 5);
            written += 20;
            read_all(&[&members[0], &members[1]], &mut seen, written);
            check_commits(&client, &group_id, &mut committed);
            leave(&members[place]);
            check_commits(&client, &group_id, &mut committed);
            members[place] = member(&client, &group_id, config(), &topic);
            write(cluster, &topic, 4, 5);
            written += 20;
            read_all(&[&members[0], &members[1]], &mut seen, written);
            settle(&[&members[0], &members[1]], &[2, 2]);
            check_commits(&client, &group_id, &mut committed);
        }
    }
    assert_eq!(seen.len(), written);
    for member in &members {
        leave(member);
        check_commits(&client, &group_id, &mut committed);
    }
    assert_eq!(committed.len(), 4);
}
