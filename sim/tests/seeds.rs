//! Runs a fixed number of seeds, and checks that a seed determines its run completely.

use kavka_sim::{Print, run, run_group};

#[test]
fn whatever_goes_wrong_no_promise_is_broken() {
    let (mut delivered, mut failed) = (0, 0);
    for seed in 0..30 {
        let outcome = std::panic::catch_unwind(|| run(seed, Print::Nothing));
        let outcome = outcome.unwrap_or_else(|_| panic!("make replay SEED={seed}"));
        delivered += outcome.delivered;
        failed += outcome.failed;
    }
    let is_balanced = failed > 0 && delivered > failed;
    assert!(is_balanced, "faults are neither absent nor overwhelming: {delivered} records delivered, {failed} failed");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..3 {
        assert_eq!(run(seed, Print::Nothing), run(seed, Print::Nothing));
    }
    assert_ne!(run(0, Print::Nothing).trace_hash, run(1, Print::Nothing).trace_hash);
}

#[test]
fn whatever_goes_wrong_the_members_of_a_group_keep_their_promises() {
    for seed in 0..60 {
        let outcome = std::panic::catch_unwind(|| run_group(seed, Print::Nothing));
        outcome.unwrap_or_else(|_| panic!("make replay-group SEED={seed}"));
    }
}

#[test]
fn the_same_seed_gives_the_same_run_of_a_group() {
    assert_eq!(run_group(1, Print::Nothing), run_group(1, Print::Nothing));
}
