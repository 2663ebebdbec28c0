//! The outcomes of the records, in the order of the input.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

use kavka::{Completion, Delivery, Error};

/// Consecutive records in one batch.
struct Run {
    completion: Arc<Completion>,
    first: u32,
    last: u32,
}

/// Counts outcomes; remembers the first failure.
#[derive(Default)]
pub(crate) struct Deliveries {
    open: VecDeque<Run>,
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) first_error: Option<Error>,
}

impl Deliveries {
    /// Adds a record that was accepted.
    pub(crate) fn add(&mut self, delivery: &Delivery) {
        let (completion, index) = (delivery.completion(), delivery.index());
        match self.open.back_mut() {
            Some(run) if Arc::ptr_eq(&run.completion, completion) => run.last = index,
            _ => self.open.push_back(Run { completion: Arc::clone(completion), first: index, last: index }),
        }
    }

    /// Adds a record that the producer refused.
    pub(crate) fn add_refused(&mut self, error: Error) {
        self.failed += 1;
        self.first_error.get_or_insert(error);
    }

    /// Counts the outcomes so far, and writes the partition and offset of each stored record to `print`.
    pub(crate) fn settle(&mut self, mut print: Option<&mut Vec<u8>>) {
        while let Some(run) = self.open.front()
            && run.completion.is_resolved(run.last)
        {
            for index in run.first..=run.last {
                match run.completion.outcome(index) {
                    Some(Err(error)) => {
                        self.failed += 1;
                        self.first_error.get_or_insert(error);
                    }
                    outcome => {
                        self.delivered += 1;
                        let offset = outcome.and_then(Result::ok).and_then(|metadata| metadata.offset);
                        if let Some(print) = &mut print {
                            let offset = offset.map_or_else(|| "?".to_owned(), |offset| offset.to_string());
                            // Writing to a Vec cannot fail.
                            let _ = writeln!(print, "{}\t{offset}", run.completion.partition());
                        }
                    }
                }
            }
            self.open.pop_front();
        }
    }
}
