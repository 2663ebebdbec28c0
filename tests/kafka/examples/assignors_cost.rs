//! How long each assignor takes to share partitions out, ours and Java's, for a group that starts and for one that
//! loses a member.
//!
//! `cargo run --release -p kavka-test-kafka --example assignors_cost`. Java comes from the newest Kafka. Each group is
//! assigned a hundred times: the first figure is the first time, when Java has compiled nothing yet; the second one is
//! the shortest.

#[path = "../tests/java_assignors/mod.rs"]
mod java_assignors;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use java_assignors::{ask_java, line};
use kavka_core::group::Subscription;
use kavka_core::group::assignor::{Assignment, Assignor, PartitionCounts, PartitionRacks, Subscriber};

const ROUNDS: usize = 100;

/// The first and the shortest of several times.
type Times = (Duration, Duration);

fn main() {
    let titles = ["members", "topics", "partitions", "assignor", "", "ours", "", "Java", ""];
    println!("{}", titles.map(|title| format!("{title:>11}")).join(" "));
    for (members, topics, partitions) in [(100, 1, 1_000), (50, 20, 2_000)] {
        for assignor in Assignor::ALL {
            measure(assignor, members, topics, partitions);
        }
    }
}

fn measure(assignor: Assignor, members: usize, topics: usize, partitions: usize) {
    let names: Vec<Arc<str>> = (0..topics).map(|number| format!("topic-{number:02}").into()).collect();
    let of_each = partitions / topics;
    let counts: PartitionCounts = names.iter().map(|name| (Arc::clone(name), of_each as i32)).collect();
    let racks: PartitionRacks = names.iter().map(|name| (Arc::clone(name), vec![BTreeSet::new(); of_each])).collect();
    let fresh: Vec<Subscriber> = (0..members)
        .map(|number| {
            let subscription = Subscription { topics: names.clone(), ..Subscription::default() };
            Subscriber { member_id: format!("member-{number:03}"), group_instance_id: None, subscription }
        })
        .collect();
    let (start, assignment) = time(assignor, &counts, &fresh);
    let settled: Vec<Subscriber> =
        fresh.iter().skip(1).map(|member| claiming(assignor, member.clone(), &assignment)).collect();
    let (leave, _) = time(assignor, &counts, &settled);
    for (what, ours, group) in [("start", start, &fresh), ("leave", leave, &settled)] {
        let java = time_java(&line(assignor, &counts, &racks, group));
        print!("{members:>11} {topics:>11} {partitions:>11} {:>18} {what:>6}", assignor.name());
        println!(" {:>11.2?} {:>11.2?} {:>11.2?} {:>11.2?}", ours.0, ours.1, java.0, java.1);
    }
}

/// The member as it joins the next generation.
fn claiming(assignor: Assignor, mut member: Subscriber, assignment: &Assignment) -> Subscriber {
    let share = assignment.get(&member.member_id).cloned().unwrap_or_default();
    member.subscription.user_data = assignor.user_data(Some((&share, 1))).expect("the names are short");
    member.subscription.generation_id = Some(1);
    member.subscription.owned = share;
    member
}

fn time(assignor: Assignor, counts: &PartitionCounts, members: &[Subscriber]) -> (Times, Assignment) {
    let racks = PartitionRacks::new();
    let mut assignment = Assignment::new();
    let taken: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            assignment = assignor.assign(black_box(counts), &racks, black_box(members));
            started.elapsed()
        })
        .collect();
    ((taken[0], taken.into_iter().min().unwrap_or_default()), assignment)
}

fn time_java(line: &str) -> Times {
    let answer = ask_java(&[&ROUNDS.to_string()], &[line.to_owned()]).remove(0);
    let micros = answer.split(' ').map(|word| Duration::from_micros(word.parse().expect("Java tells two numbers")));
    let mut micros = micros.into_iter();
    let mut next = || micros.next().expect("Java tells two numbers");
    (next(), next())
}
