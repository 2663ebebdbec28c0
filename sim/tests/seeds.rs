//! A fixed number of seeds, and that a seed says everything about its run.

use kavka_sim::{Print, run};

#[test]
fn whatever_goes_wrong_no_promise_is_broken() {
    for seed in 0..40 {
        let outcome = std::panic::catch_unwind(|| run(seed, Print::Nothing));
        assert!(outcome.is_ok(), "make replay SEED={seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..3 {
        assert_eq!(run(seed, Print::Nothing), run(seed, Print::Nothing));
    }
    assert_ne!(run(0, Print::Nothing).trace_hash, run(1, Print::Nothing).trace_hash);
}
