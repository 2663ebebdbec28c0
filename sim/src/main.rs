//! `kavka-sim SEEDS [FROM]` runs that many seeds of each world, from this one (0) on; `kavka-sim groups SEEDS [FROM]`
//! those of groups alone. `kavka-sim replay SEED` and `kavka-sim replay-group SEED` run one seed and print what
//! happens. Built with `planted-bugs`, `kavka-sim planted SEEDS` looks for every planted bug.

use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use kavka_sim::{Outcome, Print, run, run_group};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["replay", seed] if let Ok(seed) = seed.parse() => {
            println!("{:?}", run(seed, Print::Trace));
            ExitCode::SUCCESS
        }
        ["replay-group", seed] if let Ok(seed) = seed.parse() => {
            println!("{:?}", run_group(seed, Print::Trace));
            ExitCode::SUCCESS
        }
        #[cfg(feature = "planted-bugs")]
        ["planted", seeds] if let Ok(seeds) = seeds.parse() => {
            if kavka_sim::find_planted(seeds) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        ["groups", seeds, ref from @ ..] if let Some(seeds) = range(seeds, from) => {
            if run_seeds(seeds, run_group, "replay-group") { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        [seeds, ref from @ ..] if let Some(seeds) = range(seeds, from) => {
            let is_kept = [run_seeds(seeds.clone(), run, "replay"), run_seeds(seeds, run_group, "replay-group")];
            if is_kept == [true, true] { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        _ => {
            eprintln!("usage: kavka-sim [groups] SEEDS [FROM] | kavka-sim replay SEED | kavka-sim replay-group SEED");
            ExitCode::FAILURE
        }
    }
}

fn range(seeds: &str, from: &[&str]) -> Option<Range<u64>> {
    let from: u64 = from.first().unwrap_or(&"0").parse().ok()?;
    Some(from..from.saturating_add(seeds.parse().ok()?))
}

fn run_seeds(seeds: Range<u64>, run: fn(u64, Print) -> Outcome, replay: &str) -> bool {
    let started = Instant::now();
    let (mut broken, mut delivered, mut failed, mut events) = (0_u64, 0, 0, 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| run(seed, Print::Nothing));
        if let Ok(outcome) = outcome {
            delivered += outcome.delivered;
            failed += outcome.failed;
            events += outcome.events;
        } else {
            broken += 1;
            eprintln!("seed {seed} broke a promise: make {replay} SEED={seed}");
        }
    }
    let took = started.elapsed();
    println!(
        "{count} seeds in {took:.1?}: {broken} broke a promise; {delivered} records delivered, {failed} failed, {events} events"
    );
    broken == 0
}
