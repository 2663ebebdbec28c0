//! The methods of `Broker` for programs that are members of a group by their own code. Results are plain tuples, and
//! error codes are returned as they are.

use std::time::Duration;

use bytes::Bytes;
use kavka::{Joining, RawMember, SingleBroker};
use pyo3::prelude::*;

use crate::client::Client;

/// The outcome of joining: error code, generation, protocol, the leader's id, the member's id, and ids and data of all
/// members, for the leader.
type Joined = (i16, i32, String, String, String, Vec<(String, Vec<u8>)>);
/// A place in a group: its id, the generation, the member's id.
type Place = (String, i32, String);

/// The number of a connection of its own.
#[pyfunction]
pub(crate) fn new_connection(py: Python<'_>, client: &Bound<'_, Client>) -> PyResult<u64> {
    Ok(client.get().engine(py)?.next_connection())
}

fn broker(py: Python<'_>, client: &Bound<'_, Client>, (id, connection): (i32, u64)) -> PyResult<SingleBroker> {
    Ok(client.get().engine(py)?.admin().broker(id).on_connection(connection))
}

fn member((group_id, generation_id, member_id): Place) -> RawMember {
    RawMember { group_id, generation_id, member_id }
}

/// Joins a group with one protocol: its type, its name and the member's data.
#[pyfunction]
pub(crate) fn ask_to_join(
    py: Python<'_>,
    client: &Bound<'_, Client>,
    whom: (i32, u64),
    group_id: String,
    member_id: String,
    protocol: (String, String, Vec<u8>),
    session_timeout_ms: u64,
) -> PyResult<Joined> {
    let (protocol_type, protocol_name, metadata) = protocol;
    let session_timeout = Duration::from_millis(session_timeout_ms);
    let joining = Joining { protocol_type, protocol_name, metadata: Bytes::from(metadata), session_timeout };
    let answer = client.get().run(py, broker(py, client, whom)?.join_group(group_id, member_id, joining))?;
    let members = answer.members.into_iter().map(|member| (member.member_id, member.metadata.to_vec())).collect();
    let (generation, protocol) = (answer.generation_id.unwrap_or(-1), answer.protocol_name.unwrap_or_default());
    Ok((answer.error_code.0, generation, protocol, answer.leader, answer.member_id, members))
}

/// Hands out the assignments, `(member id, assignment)`, if the member leads; returns an error code and its own.
#[pyfunction]
pub(crate) fn ask_to_sync(
    py: Python<'_>,
    client: &Bound<'_, Client>,
    whom: (i32, u64),
    place: Place,
    assignments: Vec<(String, Vec<u8>)>,
) -> PyResult<(i16, Vec<u8>)> {
    let assignments = assignments.into_iter().map(|(id, assignment)| (id, Bytes::from(assignment))).collect();
    let answer = client.get().run(py, broker(py, client, whom)?.sync_group(member(place), assignments))?;
    Ok((answer.error_code.0, answer.assignment.to_vec()))
}

/// Sends a heartbeat; returns the error code.
#[pyfunction]
pub(crate) fn send_heartbeat(
    py: Python<'_>,
    client: &Bound<'_, Client>,
    whom: (i32, u64),
    place: Place,
) -> PyResult<i16> {
    Ok(client.get().run(py, broker(py, client, whom)?.heartbeat(member(place)))?.error_code.0)
}

/// Leaves a group; returns the error code.
#[pyfunction]
pub(crate) fn ask_to_leave(
    py: Python<'_>,
    client: &Bound<'_, Client>,
    whom: (i32, u64),
    group_id: String,
    member_id: String,
) -> PyResult<i16> {
    Ok(client.get().run(py, broker(py, client, whom)?.leave_group(group_id, member_id))?.error_code.0)
}
