//! Sequences of metadata answers: a topic vanishes, its id changes, it shrinks, leaders are unknown, epochs go back.
//!
//! A snapshot takes every sequence, and a leader in it never goes back to an older epoch of the same topic. What asks
//! for metadata takes answers of any bytes. What a producer makes of such snapshots is in the target `producer`.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use kavka_core::backoff::Backoff;
use kavka_core::cluster::{LeaderHint, Metadata, MetadataRefresh, RefreshConfig};
use kavka_core::time::Instant;
use kavka_core::wire::messages::MetadataResponse;
use kavka_core::wire::{Message, Uuid};
use kavka_fuzz::{TOPIC, Unstructured, arbitrary, below, lost, some_metadata};
use libfuzzer_sys::fuzz_target;

const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };

/// The id of the topic, and the leader epochs of its partitions.
fn epochs(metadata: &Metadata) -> Option<(Uuid, Vec<Option<i32>>)> {
    let topic = metadata.topic(TOPIC)?;
    Some((topic.topic_id, topic.partitions.iter().map(|partition| partition.leader_epoch).collect()))
}

/// Leader epochs only grow while the topic is the same.
fn check(before: &Metadata, after: &Metadata) {
    let (Some((id, old)), Some((new_id, new))) = (epochs(before), epochs(after)) else { return };
    if id != new_id || id == Uuid::ZERO {
        return;
    }
    for (old, new) in old.iter().zip(&new) {
        assert!(old.is_none() || new.is_none() || old <= new, "the leader epoch goes back from {old:?} to {new:?}");
    }
}

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let config = RefreshConfig { max_age: Duration::from_secs(300), backoff: BACKOFF };
    let mut refresh = MetadataRefresh::new(config, 1).with_bootstrap_servers(1);
    let topic: Arc<str> = TOPIC.into();
    let (mut now, mut snapshot, mut tickets) = (Instant(0), Metadata::default(), Vec::new());
    while !input.is_empty() {
        match input.int_in_range(0..=9_u8)? {
            0 => now = now + Duration::from_millis(input.int_in_range(0..=400_000)?),
            1 => refresh.hold_topic(Arc::clone(&topic)),
            2 => refresh.release_topic(TOPIC),
            3 => tickets.push(refresh.request_topic(&topic)),
            4 => tickets.push(refresh.request_new(&topic)),
            5 => tickets.push(refresh.request_all_topics()),
            6 => refresh.forget_topic(TOPIC),
            7 => {
                let leader = below(input, 5)? as i32;
                let leader_epoch = if input.arbitrary()? { Some(i32::from(input.arbitrary::<u8>()?)) } else { None };
                let hint =
                    LeaderHint { topic: Arc::clone(&topic), partition: below(input, 6)? as i32, leader, leader_epoch };
                if let Some(hinted) = snapshot.with_leaders(&[hint], Vec::new()) {
                    check(&snapshot, &hinted);
                    snapshot = hinted;
                }
            }
            8 => {
                let next = some_metadata(input, &snapshot)?;
                check(&snapshot, &next);
                snapshot = next;
            }
            _ => {
                if refresh.poll_request(now).is_some() {
                    let version = MetadataResponse::MAX_VERSION - below(input, 6)? as i16;
                    let body = bytes::Bytes::copy_from_slice(kavka_fuzz::some_bytes(input, 300)?);
                    match MetadataResponse::decode_exact(version, body) {
                        Ok(response) => drop(refresh.handle_response(now, Ok(response))),
                        Err(_) => drop(refresh.handle_response(now, Err(lost()))),
                    }
                }
            }
        }
        drop(tickets.iter().map(|ticket| refresh.outcomes().outcome(*ticket)).collect::<Vec<_>>());
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});
