//! Groups as an administrator sees them, for `Cluster`, `Broker` and `kafka-tools`. Results are plain tuples.

use kavka::GroupMember;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::client::Client;

/// A listed group: id, protocol type, state, type, coordinator's id.
type Listing = (String, String, Option<String>, Option<String>, i32);
/// A member: id, instance id, client id, host, metadata, assignment, the partitions in the assignment.
type Member = (String, Option<String>, String, String, Py<PyBytes>, Py<PyBytes>, Vec<(String, i32)>);
/// A described group: state, protocol type, protocol, type, members.
type Description = (String, String, String, String, Vec<Member>);
/// The lag of a partition: topic, partition, committed offset, end offset, member id and client id of its owner.
type Lag = (String, i32, Option<i64>, Option<i64>, Option<(String, String)>);

/// All groups of the cluster.
#[pyfunction]
pub(crate) fn list_groups(py: Python<'_>, client: &Bound<'_, Client>) -> PyResult<Vec<Listing>> {
    let client = client.get();
    let groups = client.run(py, client.engine(py)?.admin().list_groups())?;
    let listed = groups
        .into_iter()
        .map(|group| (group.group_id, group.protocol_type, group.state, group.group_type, group.coordinator));
    Ok(listed.collect())
}

/// A group's state and members.
#[pyfunction]
pub(crate) fn describe_group(py: Python<'_>, client: &Bound<'_, Client>, group: &str) -> PyResult<Description> {
    let client = client.get();
    let group = client.run(py, client.engine(py)?.admin().describe_group(group))?;
    let members = group.members.into_iter().map(|member| described(py, member)).collect();
    Ok((group.state, group.protocol_type, group.protocol, group.group_type, members))
}

fn described(py: Python<'_>, member: GroupMember) -> Member {
    let bytes = |data: &[u8]| PyBytes::new(py, data).unbind();
    let partitions = member.assignment.iter().map(|key| (key.topic.to_string(), key.partition)).collect();
    (
        member.member_id,
        member.group_instance_id,
        member.client_id,
        member.client_host,
        bytes(&member.metadata),
        bytes(&member.assignment_data),
        partitions,
    )
}

/// The lag of a group in each partition that it uses.
#[pyfunction]
pub(crate) fn group_lag(py: Python<'_>, client: &Bound<'_, Client>, group: &str) -> PyResult<Vec<Lag>> {
    let client = client.get();
    let lag = client.run(py, client.engine(py)?.admin().group_lag(group))?;
    let lag = lag.into_iter().map(|lag| {
        let member = lag.member.map(|member| (member.member_id.clone(), member.client_id.clone()));
        let committed = lag.committed.map(|committed| committed.offset);
        (lag.topic_partition.topic.to_string(), lag.topic_partition.partition, committed, lag.end, member)
    });
    Ok(lag.collect())
}
