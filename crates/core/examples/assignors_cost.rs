//! How long each assignor takes to share partitions out, for a group that starts and for one that loses a member.
//!
//! `cargo run --release -p kavka-core --example assignors_cost`. The figures are the minima of several rounds.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kavka_core::group::Subscription;
use kavka_core::group::assignor::{Assignment, Assignor, PartitionCounts, PartitionRacks, Subscriber};

const ROUNDS: usize = 5;

fn main() {
    println!(
        "{:>8} {:>8} {:>10} {:>20} {:>10} {:>10}",
        "members", "topics", "partitions", "assignor", "start", "leave"
    );
    for (members, topics, partitions) in [(100, 1, 1_000), (50, 20, 2_000)] {
        for assignor in Assignor::ALL {
            measure(assignor, members, topics, partitions);
        }
    }
}

fn measure(assignor: Assignor, members: usize, topics: usize, partitions: usize) {
    let names: Vec<Arc<str>> = (0..topics).map(|number| format!("topic-{number:02}").into()).collect();
    let counts: PartitionCounts =
        names.iter().map(|name| (Arc::clone(name), i32::try_from(partitions / topics).unwrap_or(i32::MAX))).collect();
    let fresh: Vec<Subscriber> = (0..members)
        .map(|number| {
            let subscription = Subscription { topics: names.clone(), ..Subscription::default() };
            Subscriber { member_id: format!("member-{number:03}"), group_instance_id: None, subscription }
        })
        .collect();
    let (start, assignment) = time(assignor, &counts, &fresh);
    let settled: Vec<Subscriber> =
        fresh.into_iter().skip(1).map(|member| claiming(assignor, member, &assignment)).collect();
    let (leave, _) = time(assignor, &counts, &settled);
    println!("{members:>8} {topics:>8} {partitions:>10} {:>20} {start:>10.2?} {leave:>10.2?}", assignor.name());
}

/// The member as it joins the next generation.
fn claiming(assignor: Assignor, mut member: Subscriber, assignment: &Assignment) -> Subscriber {
    let share = assignment.get(&member.member_id).cloned().unwrap_or_default();
    member.subscription.user_data = assignor.user_data(Some((&share, 1))).expect("the names are short");
    member.subscription.generation_id = Some(1);
    member.subscription.owned = share;
    member
}

fn time(assignor: Assignor, counts: &PartitionCounts, members: &[Subscriber]) -> (Duration, Assignment) {
    let racks = PartitionRacks::new();
    let mut best = Duration::MAX;
    let mut assignment = Assignment::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        assignment = assignor.assign(black_box(counts), &racks, black_box(members));
        best = best.min(started.elapsed());
    }
    (best, assignment)
}
