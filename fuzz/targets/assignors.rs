//! Members that want and claim anything: every assignor gives each partition to one member that wants it. A cooperative
//! one may hold back what a member claims to own.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use kavka_core::consumer::TopicPartition;
use kavka_core::group::Subscription;
use kavka_core::group::assignor::{Assignor, Subscriber};
use kavka_fuzz::group::{TOPICS, check_assignors, some_counts, some_racks};
use kavka_fuzz::{Unstructured, arbitrary, below};
use libfuzzer_sys::fuzz_target;

fn some_partitions(input: &mut Unstructured<'_>) -> arbitrary::Result<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for _ in 0..below(input, 9)? {
        let number = [0, 1, 2, 5, 9, -1, i32::MAX][below(input, 7)?];
        partitions.push(TopicPartition::new(TOPICS[below(input, TOPICS.len())?], number));
    }
    Ok(partitions)
}

fn some_generation(input: &mut Unstructured<'_>) -> arbitrary::Result<i32> {
    Ok([-1, 0, 1, 2, i32::MAX, i32::MIN][below(input, 6)?])
}

fn some_member(input: &mut Unstructured<'_>, index: usize) -> arbitrary::Result<Subscriber> {
    let mut topics = Vec::new();
    for topic in TOPICS {
        for _ in 0..[1, 0, 2][below(input, 3)?] {
            topics.push(Arc::from(topic));
        }
    }
    let (owned, had) = (some_partitions(input)?, some_partitions(input)?);
    let user_data = match below(input, 3)? {
        0 => Bytes::new(),
        1 => Assignor::Sticky.user_data(Some((&had, some_generation(input)?))).expect("the names are short"),
        _ => Assignor::CooperativeSticky.user_data(Some((&had, some_generation(input)?))).expect("it is short"),
    };
    let generation_id = if input.arbitrary()? { Some(some_generation(input)?) } else { None };
    let rack = [None, Some(""), Some("east"), Some("west")][below(input, 4)?].map(String::from);
    let group_instance_id = if input.ratio(1, 4)? { Some(format!("i{}", below(input, 4)?)) } else { None };
    let subscription = Subscription { topics, user_data, owned, generation_id, rack };
    Ok(Subscriber { member_id: format!("m{index}"), group_instance_id, subscription })
}

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let (counts, racks) = (some_counts(input)?, some_racks(input)?);
    let mut members = Vec::new();
    while !input.is_empty() && members.len() < 12 {
        members.push(some_member(input, members.len())?);
    }
    check_assignors(&counts, &racks, &members);
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});
