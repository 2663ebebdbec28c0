//! What other clients write into a group: subscriptions, sticky user data and assignments of any bytes.
//!
//! A member that leads the group assigns by them without a panic; and each partition goes to one member that wants it,
//! or is held back by a cooperative assignor because a member claims it.
#![no_main]

use bytes::Bytes;
use kavka_core::group::assignor::{PartitionRacks, Subscriber};
use kavka_core::group::{Subscription, decode_assignment, encode_assignment};
use kavka_fuzz::group::{check_assignors, some_counts};
use kavka_fuzz::{Unstructured, arbitrary, some_bytes, within_memory};
use libfuzzer_sys::fuzz_target;

/// A subscription in valid bytes, whose user data may be anything.
fn written(input: &mut Unstructured<'_>) -> arbitrary::Result<Bytes> {
    let topics = ["a", "b", "c"].iter().map(|topic| (*topic).into()).collect();
    let user_data = Bytes::copy_from_slice(some_bytes(input, 200)?);
    let subscription = Subscription { topics, user_data, generation_id: input.arbitrary()?, ..Default::default() };
    Ok(subscription.encode().expect("it is short"))
}

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let counts = some_counts(input)?;
    let mut members = Vec::new();
    while !input.is_empty() && members.len() < 6 {
        let bytes = match input.int_in_range(0..=2_u8)? {
            0 => written(input)?,
            _ => Bytes::copy_from_slice(some_bytes(input, 400)?),
        };
        if let Ok(share) = within_memory(bytes.len(), 0, || decode_assignment(&bytes)) {
            let again = encode_assignment(&share).map(|bytes| decode_assignment(&bytes));
            let sorted = |mut share: Vec<_>| {
                share.sort();
                share
            };
            assert_eq!(sorted(again.expect("it is no longer").expect("it is ours")), sorted(share));
        }
        let subscription = within_memory(bytes.len(), 0, || Subscription::decode(bytes.clone()));
        let member_id = format!("m{}", members.len());
        // A leader counts a member without a readable subscription as one that wants nothing.
        let subscription = subscription.unwrap_or_default();
        members.push(Subscriber { member_id, group_instance_id: None, subscription });
    }
    check_assignors(&counts, &PartitionRacks::new(), &members);
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});
