//! A member of a group that Kafka's coordinator manages, and the calls to its Python object.
//!
//! The engine calls from a thread of its own that may block. The thread attaches to Python for each call, and does
//! nothing if the interpreter is exiting or the object is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kavka::assignor::{Assignment, PartitionCounts, Subscriber};
use kavka::{
    CustomAssignor, Error, ErrorKind, GroupConfig, GroupConsumer, GroupOptions, RebalanceListener, TopicPartition,
};
use pyo3::call::PyCallArgs;
use pyo3::prelude::*;

use crate::closing::Callback;
use crate::errors;

/// What `ManagedBalancedConsumer` passes on; see its arguments. `None` stands for the engine's default.
#[pyclass(frozen, module = "pykafka._engine")]
#[derive(Debug)]
pub(crate) struct GroupSettings {
    pub(crate) config: GroupConfig,
    /// The name of an assignor written in Python, and the user data it sends to the group's leader.
    rule: Option<(String, Bytes)>,
}

#[pymethods]
impl GroupSettings {
    #[new]
    #[pyo3(signature = (
        *, assignors, group_instance_id, group_protocol, heartbeat_interval_ms, max_poll_interval_ms, rule,
        session_timeout_ms
    ))]
    fn new(
        assignors: Option<String>,
        group_instance_id: Option<String>,
        group_protocol: &str,
        heartbeat_interval_ms: Option<u64>,
        max_poll_interval_ms: u64,
        rule: Option<(String, Vec<u8>)>,
        session_timeout_ms: Option<u64>,
    ) -> PyResult<Self> {
        let mut config = GroupConfig::from_properties([("group.protocol", group_protocol)])
            .map_err(|error| errors::invalid(&error))?;
        config.group_instance_id = group_instance_id;
        config.max_poll_interval = Duration::from_millis(max_poll_interval_ms);
        config.heartbeat_interval = heartbeat_interval_ms.map_or(config.heartbeat_interval, Duration::from_millis);
        config.session_timeout = session_timeout_ms.map_or(config.session_timeout, Duration::from_millis);
        // Only the Python consumer knows which messages threads are still processing, so it commits.
        config.enable_auto_commit = false;
        if let Some(assignors) = assignors {
            config.partition_assignment_strategy = assignors;
        }
        config.validate().map_err(|error| errors::invalid(&error))?;
        Ok(Self { config, rule: rule.map(|(name, user_data)| (name, user_data.into())) })
    }
}

impl GroupSettings {
    /// The engine's options for this member. `this` is a weak reference to the Python object.
    pub(crate) fn options(&self, py: Python<'_>, topic: &Arc<str>, this: &Py<PyAny>) -> GroupOptions {
        let options = GroupOptions::default().listener(Listener { this: this.clone_ref(py) });
        let Some((name, user_data)) = self.rule.clone() else { return options };
        options.assignor(PythonAssignor { name, user_data, topic: Arc::clone(topic), this: this.clone_ref(py) })
    }
}

/// Calls a method of the Python object, if it still exists.
fn call<T>(
    this: &Py<PyAny>,
    call: impl for<'py> FnOnce(Python<'py>, &Bound<'py, PyAny>) -> PyResult<T>,
) -> Option<PyResult<T>> {
    Python::try_attach(|py| {
        let _callback = Callback::begin(py)?;
        let consumer = this.bind(py).call0().ok().filter(|consumer| !consumer.is_none())?;
        Some(call(py, &consumer))
    })
    .flatten()
}

#[derive(Debug)]
struct Listener {
    this: Py<PyAny>,
}

impl Listener {
    fn tell(&self, method: &str, arguments: impl for<'py> PyCallArgs<'py>) {
        let told = call(&self.this, |py, consumer| {
            if let Err(error) = consumer.call_method1(method, arguments) {
                error.write_unraisable(py, Some(consumer));
            }
            Ok(())
        });
        drop(told);
    }
}

impl RebalanceListener for Listener {
    fn on_assigned(&self, member: &GroupConsumer, partitions: &[TopicPartition]) {
        let committed = member.assigned_at();
        let committed: BTreeMap<_, _> = committed.iter().map(|(key, at)| (key.partition, at.offset)).collect();
        self.tell("_on_assigned", (numbers(partitions), committed));
    }

    fn on_revoked(&self, _: &GroupConsumer, partitions: &[TopicPartition]) {
        self.tell("_on_revoked", (numbers(partitions),));
    }

    fn on_lost(&self, _: &GroupConsumer, partitions: &[TopicPartition]) {
        self.tell("_on_lost", (numbers(partitions),));
    }
}

fn numbers(partitions: &[TopicPartition]) -> Vec<i32> {
    partitions.iter().map(|key| key.partition).collect()
}

/// A membership protocol (assignor) written in Python.
#[derive(Debug)]
struct PythonAssignor {
    name: String,
    user_data: Bytes,
    topic: Arc<str>,
    this: Py<PyAny>,
}

impl CustomAssignor for PythonAssignor {
    fn name(&self) -> &str {
        &self.name
    }

    fn user_data(&self) -> Bytes {
        self.user_data.clone()
    }

    fn assign(&self, _: &PartitionCounts, members: &[Subscriber]) -> kavka::Result<Assignment> {
        let wants = |member: &&Subscriber| member.subscription.topics.contains(&self.topic);
        let ids: Vec<&str> = members.iter().filter(wants).map(|member| member.member_id.as_str()).collect();
        let decided = call(&self.this, |_, consumer| {
            consumer.call_method1("_share_out", (ids,))?.extract::<BTreeMap<String, Vec<i32>>>()
        });
        let Some(decided) = decided else {
            // To assign nothing would stop every member of the group.
            let what = "the consumer that is to assign the group's partitions is gone";
            return Err(Error::new(ErrorKind::Closed, what));
        };
        let decided = decided.map_err(|error| {
            let what = format!("the membership protocol {:?} assigned nothing: {error}", self.name);
            Error::new(ErrorKind::Misuse, what)
        })?;
        let share = |member: &Subscriber| {
            let numbers = decided.get(&member.member_id).into_iter().flatten();
            let keys = numbers.map(|number| TopicPartition::new(Arc::clone(&self.topic), *number));
            (member.member_id.clone(), keys.collect())
        };
        Ok(members.iter().map(share).collect())
    }
}
