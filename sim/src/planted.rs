//! Plants one bug after the other in the group member, and runs seeds until the judge finds it.

use std::panic::{catch_unwind, set_hook};
use std::sync::{Arc, Mutex, PoisonError};

use kavka_core::planted::{Bug, plant};

use crate::{Print, run_group};

/// Runs up to `seeds` seeds of the group world for each bug, and prints when it is found. Returns whether all are.
pub fn find_planted(seeds: u64) -> bool {
    let said = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&said);
    set_hook(Box::new(move |panic| {
        let message = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        *told.lock().unwrap_or_else(PoisonError::into_inner) = message.chars().take(150).collect();
    }));
    let mut are_all_found = true;
    for bug in Bug::ALL {
        plant(Some(bug));
        let found = (0..seeds).find(|seed| catch_unwind(|| run_group(*seed, Print::Nothing)).is_err());
        plant(None);
        are_all_found &= found.is_some();
        let said = said.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Some(seed) => println!("{bug:?}: found by seed {seed}: {said}"),
            None => println!("{bug:?}: not found by {seeds} seeds"),
        }
    }
    are_all_found
}
