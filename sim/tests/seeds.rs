//! Runs a fixed number of seeds, and checks that a seed determines its run completely.
//!
//! There are many tests, each of some seeds, so that they run on all processors.

use std::ops::Range;

use kavka_sim::{Outcome, Print, run, run_group};

/// The number of seeds of one test.
const SEEDS: u64 = 125;

fn outcomes(seeds: Range<u64>, run: fn(u64, Print) -> Outcome, replay: &str) -> Vec<Outcome> {
    let outcome = |seed| {
        let outcome = std::panic::catch_unwind(|| run(seed, Print::Nothing));
        outcome.unwrap_or_else(|_| panic!("make {replay} SEED={seed}"))
    };
    seeds.map(outcome).collect()
}

fn whatever_goes_wrong_no_promise_is_broken(from: u64) {
    let outcomes = outcomes(from..from + SEEDS, run, "replay");
    let delivered: u64 = outcomes.iter().map(|outcome| outcome.delivered).sum();
    let failed: u64 = outcomes.iter().map(|outcome| outcome.failed).sum();
    let is_balanced = failed > 0 && delivered > failed;
    assert!(is_balanced, "faults are neither absent nor overwhelming: {delivered} records delivered, {failed} failed");
}

fn whatever_goes_wrong_the_members_of_a_group_keep_their_promises(from: u64) {
    let outcomes = outcomes(from..from + SEEDS, run_group, "replay-group");
    let read: u64 = outcomes.iter().map(|outcome| outcome.delivered).sum();
    assert!(read > SEEDS * 100, "the members read only {read} records");
}

fn the_same_seed_gives_the_same_run(run: fn(u64, Print) -> Outcome) {
    // Seeds that no other test runs.
    let outcomes: Vec<Outcome> = (1_000_000..1_000_100).map(|seed| run(seed, Print::Nothing)).collect();
    for (seed, first) in (1_000_000..).zip(&outcomes) {
        assert_eq!(run(seed, Print::Nothing), *first, "seed {seed} gives two runs");
    }
    let mut hashes: Vec<u64> = outcomes.iter().map(|outcome| outcome.trace_hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), outcomes.len(), "different seeds give different runs");
}

/// One test for each number: it runs the seeds from that many times `SEEDS` on.
macro_rules! tests {
    ($promise:ident: $($name:ident = $number:literal),*) => {
        mod $promise {
            $(#[test]
            fn $name() {
                super::$promise($number * super::SEEDS);
            })*
        }
    };
}

tests! {
    whatever_goes_wrong_no_promise_is_broken:
    part_0 = 0, part_1 = 1, part_2 = 2, part_3 = 3, part_4 = 4, part_5 = 5, part_6 = 6, part_7 = 7
}
tests! {
    whatever_goes_wrong_the_members_of_a_group_keep_their_promises:
    part_0 = 0, part_1 = 1, part_2 = 2, part_3 = 3, part_4 = 4, part_5 = 5, part_6 = 6, part_7 = 7
}

#[test]
fn the_same_seed_gives_the_same_run_of_a_client() {
    the_same_seed_gives_the_same_run(run);
}

#[test]
fn the_same_seed_gives_the_same_run_of_a_group() {
    the_same_seed_gives_the_same_run(run_group);
}
