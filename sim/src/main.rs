//! `kavka-sim SEEDS [FROM]` runs that many seeds of each world, from this one (0) on; `kavka-sim groups SEEDS [FROM]`
//! those of groups alone. `kavka-sim replay SEED` and `kavka-sim replay-group SEED` run one seed and print what
//! happens. Built with `planted-bugs`, `kavka-sim planted SEEDS [BUG...]` looks for every planted bug, or for these.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use kavka_sim::{FaultCounts, FaultKind, Outcome, Print, run, run_group};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let is_kept = match arguments[..] {
        ["replay", seed] if let Ok(seed) = seed.parse() => replay(seed, run),
        ["replay-group", seed] if let Ok(seed) = seed.parse() => replay(seed, run_group),
        #[cfg(feature = "planted-bugs")]
        ["planted", seeds, ref bugs @ ..] if let Ok(seeds) = seeds.parse() => kavka_sim::find_planted(seeds, bugs),
        ["groups", seeds, ref from @ ..] if let Some(seeds) = range(seeds, from) => {
            run_seeds(seeds, run_group, "replay-group")
        }
        [seeds, ref from @ ..] if let Some(seeds) = range(seeds, from) => {
            [run_seeds(seeds.clone(), run, "replay"), run_seeds(seeds, run_group, "replay-group")] == [true, true]
        }
        _ => {
            eprintln!("usage: kavka-sim [groups] SEEDS [FROM] | kavka-sim replay SEED | kavka-sim replay-group SEED");
            false
        }
    };
    if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn range(seeds: &str, from: &[&str]) -> Option<Range<u64>> {
    let from: u64 = from.first().unwrap_or(&"0").parse().ok()?;
    Some(from..from.saturating_add(seeds.parse().ok()?))
}

fn replay(seed: u64, run: fn(u64, Print) -> Outcome) -> bool {
    let outcome = run(seed, Print::Trace);
    println!(
        "No promise was broken: {} records were delivered, and {} failed, in {:?} of simulated time.",
        outcome.delivered, outcome.failed, outcome.took
    );
    true
}

/// The sums over many runs.
#[derive(Debug, Default)]
struct Sums {
    broken: u64,
    delivered: u64,
    failed: u64,
    events: u64,
    faults: FaultCounts,
}

/// Runs seeds on every processor.
fn run_seeds(seeds: Range<u64>, run: fn(u64, Print) -> Outcome, replay: &str) -> bool {
    let started = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut sums = Sums::default();
    std::thread::scope(|scope| {
        let work = || run_while_any(&next, seeds.end, run, replay);
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let part = worker.join().expect("a worker catches the panics of its runs");
            sums.broken += part.broken;
            sums.delivered += part.delivered;
            sums.failed += part.failed;
            sums.events += part.events;
            sums.faults.add(&part.faults);
        }
    });
    let (count, took) = (seeds.end - seeds.start, started.elapsed());
    let Sums { broken, delivered, failed, events, faults } = sums;
    println!(
        "{count} seeds in {took:.1?}: {broken} broke a promise; {delivered} records delivered, {failed} failed, \
         {events} events, {} faults",
        faults.total()
    );
    for kind in FaultKind::ALL.into_iter().filter(|kind| faults.of(*kind) > 0) {
        println!("{:>10}  {}", faults.of(kind), kind.name());
    }
    broken == 0
}

fn run_while_any(next: &AtomicU64, end: u64, run: fn(u64, Print) -> Outcome, replay: &str) -> Sums {
    let mut sums = Sums::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return sums;
        }
        if let Ok(outcome) = std::panic::catch_unwind(|| run(seed, Print::Nothing)) {
            sums.delivered += outcome.delivered;
            sums.failed += outcome.failed;
            sums.events += outcome.events;
            sums.faults.add(&outcome.faults);
        } else {
            sums.broken += 1;
            eprintln!("seed {seed} broke a promise: make {replay} SEED={seed}");
        }
    }
}
