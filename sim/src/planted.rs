//! Plants one bug after the other in the group member, and runs seeds until the judge finds it.

use std::panic::{catch_unwind, set_hook};
use std::sync::{Arc, Mutex, PoisonError};

use kavka_core::planted::{Bug, plant};

use crate::{Print, run_group};

/// Runs up to `seeds` seeds of the group world for each bug, and prints which one finds it. Returns whether all are
/// found. A seed that breaks a promise without the bug, too, finds nothing.
pub fn find_planted(seeds: u64) -> bool {
    let message = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&message);
    set_hook(Box::new(move |panic| {
        let payload = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        *told.lock().unwrap_or_else(PoisonError::into_inner) = payload.chars().take(150).collect();
    }));
    let broken_promise = |seed, bug| {
        plant(bug);
        let outcome = catch_unwind(|| run_group(seed, Print::Nothing));
        plant(None);
        outcome.is_err().then(|| message.lock().unwrap_or_else(PoisonError::into_inner).clone())
    };
    let mut are_all_found = true;
    for bug in Bug::ALL {
        let found = (0..seeds).find_map(|seed| {
            let promise = broken_promise(seed, Some(bug))?;
            broken_promise(seed, None).is_none().then_some((seed, promise))
        });
        are_all_found &= found.is_some();
        match found {
            Some((seed, promise)) => println!("{bug:?}: found by seed {seed}: {promise}"),
            None => println!("{bug:?}: not found by {seeds} seeds"),
        }
    }
    are_all_found
}
