//! Waits for batches, and starts them.

use std::time::{Duration, Instant};

use kavka::Batch;
use pyo3::intern;
use pyo3::prelude::*;

use super::Consumer;
use super::refusals::{failed, stopped};
use crate::process::ForkGuard;
use crate::reports::lock;
use crate::running::Running;
use crate::waiting;

impl Consumer {
    /// What `next` finds first in the next batch, if one arrives in time.
    #[cold]
    pub(super) fn next_from_engine<T>(
        &self,
        py: Python<'_>,
        limit: Option<Duration>,
        unblock_event: Option<&Bound<'_, PyAny>>,
        mut next: impl FnMut() -> PyResult<Option<T>>,
    ) -> PyResult<Option<T>> {
        let Some(running) = self.running.get() else { return Err(stopped(py)) };
        let running = running.check(py)?;
        self.caller.check(py, limit)?;
        self.done_with_last();
        let begun = Instant::now();
        loop {
            self.raise_pending(py)?;
            if let Some(taken) = next()? {
                return Ok(Some(taken));
            }
            running.log_resets(py);
            running.report_failed_commit(py);
            let left = limit.map(|limit| limit.saturating_sub(begun.elapsed()));
            let step = left.map_or(waiting::STEP, |left| left.min(waiting::STEP));
            let polled = running.poll(py, &self.fence, step)?;
            if let Some(batch) = polled.map_err(|error| failed(py, &error))? {
                self.start_batch(py, running, batch)?;
                continue;
            }
            py.check_signals()?;
            let is_unblocked = match unblock_event {
                Some(event) => event.call_method0(intern!(py, "is_set"))?.is_truthy()?,
                None => false,
            };
            if is_unblocked || left.is_some_and(|left| left <= step) {
                return Ok(None);
            }
        }
    }

    pub(super) fn start_batch(&self, py: Python<'_>, running: &Running, batch: Batch) -> PyResult<()> {
        let number = batch.topic_partition().partition;
        let known = lock(&running.partitions).get(&number).map(|partition| partition.clone_ref(py));
        let partition = known.unwrap_or_else(|| py.None());
        let before = {
            let mut handout = self.handout.lock();
            handout.as_mut().map(|handout| handout.batch.replace((ForkGuard::new(batch), partition)))
        };
        let Some(before) = before else { return Err(stopped(py)) };
        // If another thread had a batch, the rest of it is handed out again.
        drop(before);
        Ok(())
    }
}
