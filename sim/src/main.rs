//! `kavka-sim SEEDS` runs that many seeds; `kavka-sim replay SEED` runs one and prints what happens.

use std::process::ExitCode;
use std::time::Instant;

use kavka_sim::{Print, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["replay", seed] if let Ok(seed) = seed.parse() => {
            println!("{:?}", run(seed, Print::Trace));
            ExitCode::SUCCESS
        }
        [seeds] if let Ok(seeds) = seeds.parse() => run_seeds(seeds),
        _ => {
            eprintln!("usage: kavka-sim SEEDS | kavka-sim replay SEED");
            ExitCode::FAILURE
        }
    }
}

fn run_seeds(seeds: u64) -> ExitCode {
    let started = Instant::now();
    let (mut broken, mut delivered, mut failed, mut events) = (0_u64, 0, 0, 0);
    for seed in 0..seeds {
        let outcome = std::panic::catch_unwind(|| run(seed, Print::Nothing));
        if let Ok(outcome) = outcome {
            delivered += outcome.delivered;
            failed += outcome.failed;
            events += outcome.events;
        } else {
            broken += 1;
            eprintln!("seed {seed} broke a promise: make replay SEED={seed}");
        }
    }
    let took = started.elapsed();
    println!(
        "{seeds} seeds in {took:.1?}: {broken} broke a promise; {delivered} records delivered, {failed} failed, {events} events"
    );
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
