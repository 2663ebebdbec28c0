//! What pykafka's `Cluster`, `Topic` and `SimpleConsumer` ask the cluster, except for messages.
//!
//! Results are plain numbers and strings; Python code wraps them in pykafka's classes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kavka::{ClientConfig, CommittedOffset, ErrorCode, IsolationLevel, Topic, TopicOutcomes, TopicPartition};
use pyo3::prelude::*;

use crate::cell::Slot;
use crate::errors;
use crate::process::ForkGuard;
use crate::security::{self, Mechanism, Tls};
use crate::waiting;

/// pykafka's values for the end and the beginning of a partition, in place of a time.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// The addresses in a comma-separated list of `host:port`.
#[pyfunction]
pub(crate) fn parse_hosts(py: Python<'_>, hosts: &str) -> PyResult<Vec<(String, u16)>> {
    kavka::parse_bootstrap_servers(hosts).map_err(|error| errors::to_python(py, &error))
}

/// The engine of one `KafkaClient`.
#[pyclass(frozen, module = "pykafka._engine")]
#[derive(Debug)]
pub(crate) struct Client {
    /// `None` once it is closed.
    engine: Slot<Arc<ForkGuard<kavka::Client>>>,
    offsets_timeout: Duration,
}

impl Client {
    /// The engine. Raises if the client is closed, or in a forked child.
    pub(crate) fn engine(&self, py: Python<'_>) -> PyResult<kavka::Client> {
        let closed = || errors::named(py, "KafkaException", "the client is closed; create a new KafkaClient");
        let engine = self.engine.get().ok_or_else(closed)?;
        Ok(engine.check(py)?.clone())
    }

    /// The time limit of a call about offsets.
    pub(crate) fn offsets_timeout(&self) -> Duration {
        self.offsets_timeout
    }

    /// Runs a future on the engine, and waits for its result.
    pub(crate) fn run<T, F>(&self, py: Python<'_>, future: F) -> PyResult<T>
    where
        T: Send + 'static,
        F: Future<Output = kavka::Result<T>> + Send + 'static,
    {
        let pending = self.engine(py)?.start(future);
        waiting::forever(py, pending)?.map_err(|error| errors::to_python(py, &error))
    }

    /// The same for a future that asks any broker for metadata. The exception says so if none can be reached.
    fn find<T, F>(&self, py: Python<'_>, future: F) -> PyResult<()>
    where
        T: Send + 'static,
        F: Future<Output = kavka::Result<T>> + Send + 'static,
    {
        let pending = self.engine(py)?.start(async move { future.await.map(drop) });
        waiting::forever(py, pending)?.map_err(|error| errors::unreachable(py, &error))
    }
}

/// A partition: leader, replicas, in-sync replicas.
type Described = (Option<i32>, Vec<i32>, Vec<i32>);
/// A topic to create: name, partitions, replication factor, assignments, settings.
type NewTopic = (String, i32, i16, Vec<(i32, Vec<i32>)>, Vec<(String, String)>);
/// The outcome for a topic: name, error code, text.
type TopicOutcome = (String, i16, String);

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (
        *, bootstrap_servers, request_timeout_ms, connect_timeout_ms, offsets_timeout_ms, buffer_memory, max_block_ms,
        max_response_bytes, source_address, tls, sasl
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        bootstrap_servers: Vec<(String, u16)>,
        request_timeout_ms: u64,
        connect_timeout_ms: u64,
        offsets_timeout_ms: u64,
        buffer_memory: usize,
        max_block_ms: u64,
        max_response_bytes: usize,
        source_address: String,
        tls: Option<&Bound<'_, Tls>>,
        sasl: Option<&Bound<'_, Mechanism>>,
    ) -> PyResult<Self> {
        let mut config = ClientConfig::default();
        config.bootstrap_servers = bootstrap_servers;
        config.client_id = "pykafka".into();
        config.request_timeout = Duration::from_millis(request_timeout_ms);
        config.connection_setup_timeout = Duration::from_millis(connect_timeout_ms);
        config.buffer_memory = buffer_memory;
        config.max_block = Duration::from_millis(max_block_ms);
        config.max_response_bytes = max_response_bytes;
        config.source_address = source_address;
        let config = config.with_security(security::security(tls.map(Bound::get), sasl.map(Bound::get)));
        let engine = py.detach(|| kavka::Client::new(config)).map_err(|error| errors::to_python(py, &error))?;
        let slot = Slot::default();
        slot.replace(Some(Arc::new(ForkGuard::new(engine))));
        Ok(Self { engine: slot, offsets_timeout: Duration::from_millis(offsets_timeout_ms) })
    }

    /// Waits for the first metadata.
    fn connect(&self, py: Python<'_>) -> PyResult<()> {
        self.find(py, self.engine(py)?.ready())
    }

    /// Ends the waits for topics, and refuses new ones; does nothing if the client is closed, or in a forked child.
    fn end_lookups(&self, py: Python<'_>) {
        if let Some(engine) = self.engine.get()
            && let Ok(engine) = engine.check(py)
        {
            engine.close();
        }
    }

    /// Drops the engine, which ends when everything made from it is dropped, too; does nothing if the client is closed.
    fn close(&self, py: Python<'_>) {
        let engine = self.engine.replace(None);
        py.detach(|| drop(engine));
    }

    /// Refreshes the metadata of all brokers and topics.
    fn refresh(&self, py: Python<'_>) -> PyResult<()> {
        self.find(py, self.engine(py)?.refresh_metadata())
    }

    /// Waits until a topic is known; creates it if `create`.
    fn topic(&self, py: Python<'_>, name: String, create: bool) -> PyResult<()> {
        self.find(py, self.engine(py)?.topic(&name, create))
    }

    /// The version of the metadata, the controller's id, and `(id, host, port)` of each broker.
    #[allow(clippy::type_complexity)]
    fn brokers(&self, py: Python<'_>) -> PyResult<(u64, Option<i32>, Vec<(i32, String, u16)>)> {
        let metadata = self.engine(py)?.metadata();
        let brokers = metadata.brokers().map(|broker| (broker.id, broker.host.to_string(), broker.port)).collect();
        Ok((metadata.version, metadata.controller_id, brokers))
    }

    /// The names of all usable topics.
    fn topic_names(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let metadata = self.engine(py)?.metadata();
        Ok(metadata.topics().filter(|topic| !topic.partitions.is_empty()).map(|topic| topic.name.to_string()).collect())
    }

    /// How many partitions a topic has.
    fn partition_count(&self, py: Python<'_>, topic: &str) -> PyResult<usize> {
        Ok(self.engine(py)?.metadata().topic(topic).map_or(0, |topic| topic.partitions.len()))
    }

    /// The partitions of a topic.
    fn partitions(&self, py: Python<'_>, topic: &str) -> PyResult<Vec<Described>> {
        let describe = |topic: &Topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|known| (known.leader, known.replicas.clone(), known.in_sync_replicas.clone())).collect()
        };
        Ok(self.engine(py)?.metadata().topic(topic).map(|topic| describe(topic)).unwrap_or_default())
    }

    /// For each partition the offset of the first message at or after a time, if there is one.
    ///
    /// `committed_only` decides what the end of a partition is: behind its last message, or its last stable offset.
    fn list_offsets(
        &self,
        py: Python<'_>,
        topic: &str,
        timestamps: BTreeMap<i32, i64>,
        committed_only: bool,
    ) -> PyResult<BTreeMap<i32, Option<i64>>> {
        let key = |partition| TopicPartition::new(topic, partition);
        let at_end =
            |end: i64| timestamps.iter().filter(move |(_, at)| **at == end).map(|(partition, _)| key(*partition));
        let earliest: Vec<_> = at_end(EARLIEST).collect();
        let latest: Vec<_> = at_end(LATEST).collect();
        let times = timestamps.iter().filter(|(_, at)| ![EARLIEST, LATEST].contains(*at));
        let times: Vec<_> = times.map(|(partition, at)| (key(*partition), *at)).collect();
        let isolation = if committed_only { IsolationLevel::ReadCommitted } else { IsolationLevel::ReadUncommitted };
        let client = self.engine(py)?;
        self.run(py, async move {
            let limit = client.config().request_timeout;
            let mut found: BTreeMap<i32, Option<i64>> = BTreeMap::new();
            if !earliest.is_empty() {
                let offsets = client.beginning_offsets(&earliest, limit).await?;
                found.extend(offsets.into_iter().map(|(key, offset)| (key.partition, Some(offset))));
            }
            if !latest.is_empty() {
                let offsets = client.end_offsets(&latest, isolation, limit).await?;
                found.extend(offsets.into_iter().map(|(key, offset)| (key.partition, Some(offset))));
            }
            if !times.is_empty() {
                let offsets = client.offsets_for_times(&times, limit).await?;
                found.extend(offsets.into_iter().map(|(key, found)| (key.partition, found.map(|found| found.offset))));
            }
            Ok(found)
        })
    }

    /// The id of the group's coordinator.
    fn group_coordinator(&self, py: Python<'_>, group: String) -> PyResult<i32> {
        let (client, limit) = (self.engine(py)?, self.offsets_timeout);
        self.run(py, client.group_coordinator(&group, limit))
    }

    /// Commits `(partition, offset, metadata)` for a group without members.
    fn commit_offsets(
        &self,
        py: Python<'_>,
        group: String,
        topic: &str,
        offsets: Vec<(i32, i64, String)>,
    ) -> PyResult<()> {
        let committed = |(partition, offset, metadata)| {
            (TopicPartition::new(topic, partition), CommittedOffset { metadata, ..CommittedOffset::new(offset) })
        };
        let offsets: BTreeMap<_, _> = offsets.into_iter().map(committed).collect();
        let (client, limit) = (self.engine(py)?, self.offsets_timeout);
        self.run(py, client.commit_offsets(&group, &offsets, limit))
    }

    /// The committed offset and metadata of each partition; partitions without one are left out.
    fn committed_offsets(
        &self,
        py: Python<'_>,
        group: String,
        topic: &str,
        partitions: Vec<i32>,
    ) -> PyResult<BTreeMap<i32, (i64, String)>> {
        let keys: Vec<_> = partitions.into_iter().map(|partition| TopicPartition::new(topic, partition)).collect();
        let (client, limit) = (self.engine(py)?, self.offsets_timeout);
        let found = self.run(py, client.committed_offsets(&group, &keys, limit))?;
        Ok(found.into_iter().map(|(key, committed)| (key.partition, (committed.offset, committed.metadata))).collect())
    }

    /// Creates topics; returns the outcome for each.
    fn create_topics(&self, py: Python<'_>, topics: Vec<NewTopic>, timeout_ms: u64) -> PyResult<Vec<TopicOutcome>> {
        let topics: Vec<_> = topics.into_iter().map(new_topic).collect();
        let client = self.engine(py)?;
        let timeout = Duration::from_millis(timeout_ms);
        Ok(outcomes(self.run(py, client.admin().create_topics(&topics, timeout))?))
    }

    /// Deletes topics; returns the outcome for each.
    fn delete_topics(&self, py: Python<'_>, topics: Vec<String>, timeout_ms: u64) -> PyResult<Vec<TopicOutcome>> {
        let client = self.engine(py)?;
        let timeout = Duration::from_millis(timeout_ms);
        Ok(outcomes(self.run(py, client.admin().delete_topics(&topics, timeout))?))
    }
}

fn new_topic((name, partitions, replication_factor, assignments, configs): NewTopic) -> kavka::NewTopic {
    kavka::NewTopic {
        name,
        partitions: Some(partitions).filter(|count| *count >= 0),
        replication_factor: Some(replication_factor).filter(|factor| *factor >= 0),
        assignments,
        configs,
    }
}

fn outcomes(outcomes: TopicOutcomes) -> Vec<TopicOutcome> {
    let described = outcomes.into_iter().map(|(name, outcome)| match outcome {
        Ok(()) => (name, 0, String::new()),
        Err(error) => (name, error.code().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR).0, error.to_string()),
    });
    described.collect()
}
