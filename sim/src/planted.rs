//! Plants one bug after the other, and runs seeds until the judge finds it.

use std::panic::{catch_unwind, set_hook};
use std::sync::{Arc, Mutex, PoisonError};

use kavka_core::planted::{Bug, plant};

use crate::{Print, run, run_group};

/// Runs up to `seeds` seeds for each of these bugs, or for all if none is named, and prints which one finds it, and
/// how. Returns whether all are found. A seed that breaks a promise without the bug, too, finds nothing.
pub fn find_planted(seeds: u64, names: &[&str]) -> bool {
    let is_wanted = |bug: &Bug| names.is_empty() || names.contains(&format!("{bug:?}").as_str());
    let bugs: Vec<Bug> = Bug::ALL.into_iter().filter(is_wanted).collect();
    let message = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&message);
    set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
        *told.lock().unwrap_or_else(PoisonError::into_inner) = text.unwrap_or_default().chars().take(150).collect();
    }));
    let broken_promise = |seed, bug: Bug, is_planted: bool| {
        let run = if bug.is_of_group() { run_group } else { run };
        plant(is_planted.then_some(bug));
        let outcome = catch_unwind(|| run(seed, Print::Nothing));
        plant(None);
        outcome.is_err().then(|| message.lock().unwrap_or_else(PoisonError::into_inner).clone())
    };
    let mut found_by = Vec::new();
    for &bug in &bugs {
        let found = (0..seeds).find_map(|seed| {
            let promise = broken_promise(seed, bug, true)?;
            broken_promise(seed, bug, false).is_none().then_some((seed, promise))
        });
        match found {
            Some((seed, promise)) => {
                println!("{bug:?}: found by seed {seed}: {promise}");
                found_by.push(seed);
            }
            None => println!("{bug:?}: not found by {seeds} seeds"),
        }
    }
    found_by.sort_unstable();
    if let Some(median) = found_by.get(found_by.len() / 2) {
        println!("{} of {} bugs were found; the median is seed {median}", found_by.len(), bugs.len());
    }
    found_by.len() == bugs.len().max(names.len())
}
