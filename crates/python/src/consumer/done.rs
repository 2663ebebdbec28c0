//! What the program is done with, and commits of that.

use std::collections::BTreeMap;

use pyo3::prelude::*;

use super::Consumer;
use super::refusals::{failed, stopped};
use crate::reports::lock;
use crate::running::Running;

impl Consumer {
    /// A thread that asks for more is done with what it got before.
    pub(super) fn done_with_last(&self) {
        if let Some(handout) = self.handout.lock().as_mut() {
            handout.processing.end();
        }
    }

    /// The program is done with the messages before an offset that it commits or seeks to.
    pub(super) fn pass(&self, offsets: &BTreeMap<i32, i64>) {
        if let Some(handout) = self.handout.lock().as_mut() {
            for (partition, offset) in offsets {
                handout.processing.pass(*partition, *offset);
            }
        }
    }

    /// Starts to commit what threads are done with; does not wait. Does nothing while the previous auto-commit is in
    /// flight: the next one will be newer, and the previous outcome must not be missed.
    #[cold]
    pub(super) fn commit(&self, py: Python<'_>, running: &Running) -> PyResult<()> {
        running.report_failed_commit(py);
        let mut auto_commit = lock(&running.auto_commit);
        if auto_commit.is_some() {
            return Ok(());
        }
        // Take the positions first: what is handed out after that lies behind them.
        let mut offsets = running.to_commit();
        let is_held_back =
            self.handout.lock().as_ref().map(|handout| handout.processing.hold_back(&mut offsets)).is_some();
        if !is_held_back {
            // Another thread is stopping the consumer, and commits.
            drop(auto_commit);
            return Err(stopped(py));
        }
        let begun = running.engine.commit(offsets, running.commit_limit(&self.fence));
        let begun = begun.map(|commit| *auto_commit = Some(commit));
        drop(auto_commit);
        begun.map_err(|error| failed(py, &error))
    }
}
