//! A started consumer: the engine's consumer, and the state of its Python object.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kavka::blocking::Pending;
use kavka::{Batch, Commit, ErrorKind, Offsets, TopicPartition};
use pyo3::prelude::*;

use crate::consumer_settings::ConsumerSettings;
use crate::errors;
use crate::fence::{self, Fence};
use crate::greenlets;
use crate::reader::Reader;
use crate::reports::lock;

/// A started consumer: the part that is dropped when it stops.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) client: kavka::Client,
    pub(crate) engine: Reader,
    pub(crate) topic: Arc<str>,
    /// The `Partition` objects, by number.
    pub(crate) partitions: Mutex<BTreeMap<i32, Py<PyAny>>>,
    pub(crate) settings: Py<ConsumerSettings>,
    /// Called with the exception of a failed auto-commit.
    pub(crate) commit_failed: Py<PyAny>,
    /// The last auto-commit, until its outcome is known.
    pub(crate) auto_commit: Mutex<Option<Commit>>,
    /// The time limit of a commit.
    pub(crate) offsets_timeout: Duration,
    pub(crate) pinned: Arc<AtomicUsize>,
}

impl Running {
    pub(crate) fn key(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.topic), partition)
    }

    /// The offset of the next message of a partition.
    pub(crate) fn position(&self, partition: i32) -> Option<i64> {
        self.engine.position(&self.key(partition))
    }

    /// Whether the group has taken this partition from its member.
    pub(crate) fn is_taken(&self, partition: i32) -> bool {
        matches!(self.engine, Reader::Group(_)) && !self.engine.partitions().contains(&self.key(partition))
    }

    /// Starts to commit the offsets of those partitions that the consumer owns, if any; returns the others, too.
    pub(crate) fn commit_owned(&self, offsets: &Offsets, limit: Duration) -> kavka::Result<(Option<Commit>, Vec<i32>)> {
        let Reader::Group(member) = &self.engine else {
            return self.engine.commit(offsets.clone(), limit).map(|commit| (Some(commit), Vec::new()));
        };
        loop {
            let (assignment, mut owned) = (member.assignment(), offsets.clone());
            owned.retain(|key, _| assignment.binary_search(key).is_ok());
            let left_out = offsets.keys().filter(|key| !owned.contains_key(*key)).map(|key| key.partition).collect();
            if owned.is_empty() {
                return Ok((None, left_out));
            }
            match member.commit(owned, limit) {
                // The group has just taken one of them.
                Err(error) if error.kind() == ErrorKind::Fenced => {}
                begun => return begun.map(|commit| (Some(commit), left_out)),
            }
        }
    }

    /// The positions, ready to be committed. A partition that Python has not begun with yet is left out.
    pub(crate) fn to_commit(&self) -> Offsets {
        let mut offsets = self.engine.positions();
        let begun = lock(&self.partitions);
        offsets.retain(|key, _| begun.contains_key(&key.partition));
        drop(begun);
        let metadata = self.settings.get().commit_metadata();
        for committed in offsets.values_mut() {
            committed.metadata.clone_from(&metadata);
        }
        offsets
    }

    pub(crate) fn add(&self, py: Python<'_>, partitions: Vec<(i32, Py<PyAny>, i64)>) -> PyResult<()> {
        for (number, partition, position) in partitions {
            drop(lock(&self.partitions).insert(number, partition));
            let added = self.engine.add(&self.key(number), position);
            added.map_err(|error| errors::to_python(py, &error))?;
        }
        Ok(())
    }

    pub(crate) fn remove(&self, py: Python<'_>, partitions: &[i32]) -> PyResult<()> {
        for number in partitions {
            self.engine.remove(&self.key(*number)).map_err(|error| errors::to_python(py, &error))?;
            let partition = lock(&self.partitions).remove(number);
            drop(partition);
        }
        Ok(())
    }

    /// Waits up to `limit` for a batch. While the fence is reached, waits for the fence instead.
    pub(crate) fn poll(
        &self,
        py: Python<'_>,
        fence: &Fence,
        limit: Duration,
    ) -> PyResult<kavka::Result<Option<Batch>>> {
        let bells = greenlets::bells(py)?;
        self.renew(fence);
        if fence.is_reached() {
            match &bells {
                Some(bells) => {
                    greenlets::wait(bells, Some(limit), |_| (!fence.is_reached()).then_some(()))?;
                }
                None => py.detach(|| fence.wait(limit)),
            }
            self.renew(fence);
            if fence.is_reached() {
                // Errors are reported even then, but no batch is taken.
                return Ok(py.detach(|| self.engine.try_batch().map(|_| None)));
            }
        }
        match bells {
            Some(bells) => greenlets::batch(&bells, &self.engine, limit),
            None => Ok(py.detach(|| self.engine.wait_batch(limit))),
        }
    }

    /// The time limit of a commit. For a group member the fence does not matter: the coordinator refuses a late commit.
    pub(crate) fn commit_limit(&self, fence: &Fence) -> Duration {
        match &self.engine {
            Reader::Given(_) => fence.limit(self.offsets_timeout),
            Reader::Group(_) => self.offsets_timeout,
        }
    }

    /// Starts to leave the group, within `limit`; None if the consumer is no member of a group.
    pub(crate) fn leave(&self, limit: Duration) -> Option<Pending<kavka::Result<()>>> {
        let Reader::Group(member) = &self.engine else { return None };
        Some(self.client.start((**member).close(limit)))
    }

    /// Moves the fence of a group member to the end of its session.
    fn renew(&self, fence: &Fence) {
        if let Reader::Group(member) = &self.engine
            && fence.is_reached()
        {
            let (now_ms, left) = (fence::now_ms(), member.session_left());
            fence.put(Some(now_ms.saturating_add(i64::try_from(left.as_millis()).unwrap_or(i64::MAX))));
        }
    }

    /// Pauses these partitions, or with `None` all.
    pub(crate) fn pause(&self, py: Python<'_>, partitions: Option<&[i32]>) -> PyResult<()> {
        let chosen = |key: &TopicPartition| partitions.is_none_or(|chosen| chosen.contains(&key.partition));
        let mut keys = self.engine.partitions().into_iter().filter(chosen);
        keys.try_for_each(|key| self.engine.pause(&key)).map_err(|error| errors::to_python(py, &error))
    }

    pub(crate) fn resume(&self, py: Python<'_>) -> PyResult<()> {
        let mut keys = self.engine.partitions().into_iter();
        keys.try_for_each(|key| self.engine.resume(&key)).map_err(|error| errors::to_python(py, &error))
    }

    /// Reports to Python if the last auto-commit has failed.
    pub(crate) fn report_failed_commit(&self, py: Python<'_>) {
        let outcome = {
            let mut commit = lock(&self.auto_commit);
            let outcome = commit.as_mut().and_then(Commit::outcome);
            if outcome.is_some() {
                *commit = None;
            }
            outcome
        };
        if let Some(Err(error)) = outcome
            && let Err(error) = self.commit_failed.call1(py, (errors::to_python(py, &error).into_value(py),))
        {
            // A logger that raises must not make `consume` fail.
            error.write_unraisable(py, None);
        }
    }

    /// Logs in Python which positions were reset, and why.
    pub(crate) fn log_resets(&self, py: Python<'_>) {
        for reset in self.engine.take_resets() {
            let log = || {
                let logger = py.import("logging")?.call_method1("getLogger", ("pykafka.simpleconsumer",))?;
                let text = "offset %d of %s is out of range; continuing at %d, as auto_offset_reset says";
                logger.call_method1("warning", (text, reset.from, reset.topic_partition.to_string(), reset.to))
            };
            // A logger that raises must not make `consume` fail.
            if let Err(error) = log() {
                error.write_unraisable(py, None);
            }
        }
    }
}
