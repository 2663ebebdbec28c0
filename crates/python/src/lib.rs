//! The private module `pykafka._engine`, which connects Python and the engine.
//!
//! Frequent calls (`produce`, `consume`, iteration) and `Message` are implemented here. Code that runs rarely is
//! Python, in `python/pykafka`, because that is easier to read. Rules that hold:
//!
//! - The engine thread never touches Python. Calls to a group member's Python object go through a thread that may
//!   block.
//! - No Python object is made or dropped, no signal checked and no callback run under a lock of the engine.
//! - A call that waits releases the GIL, and checks for signals every 100 ms. Under gevent it lets other greenlets run.
//!
//! Only this crate may use `unsafe`.

mod arrow;
mod broker;
mod cell;
mod client;
mod closing;
mod codecs;
mod consumer;
mod consumer_settings;
mod errors;
mod fence;
mod greenlets;
mod group;
mod groups;
mod logs;
mod membership;
mod message;
mod process;
mod processing;
mod producer;
mod properties;
mod reader;
mod reports;
mod requests;
mod running;
mod security;
mod tally;
mod waiting;

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    process::claim_interpreter(module.py())?;
    logs::register();
    module.add("is_main_interpreter", process::is_main_interpreter())?;
    // Cargo's "3.0.0-alpha.1" is "3.0.0a1" in Python.
    module.add(
        "__version__",
        env!("CARGO_PKG_VERSION").replace("-alpha.", "a").replace("-beta.", "b").replace("-rc.", "rc"),
    )?;
    module.add_function(wrap_pyfunction!(client::parse_hosts, module)?)?;
    module.add_function(wrap_pyfunction!(greenlets::use_greenlets, module)?)?;
    module.add_function(wrap_pyfunction!(codecs::compress, module)?)?;
    module.add_function(wrap_pyfunction!(codecs::decompress, module)?)?;
    module.add_function(wrap_pyfunction!(groups::describe_group, module)?)?;
    module.add_function(wrap_pyfunction!(groups::group_lag, module)?)?;
    module.add_function(wrap_pyfunction!(groups::list_groups, module)?)?;
    module.add_function(wrap_pyfunction!(logs::flush_log, module)?)?;
    module.add_function(wrap_pyfunction!(logs::forward_log, module)?)?;
    module.add_function(wrap_pyfunction!(logs::ring_for_log, module)?)?;
    module.add_function(wrap_pyfunction!(membership::ask_to_join, module)?)?;
    module.add_function(wrap_pyfunction!(membership::ask_to_leave, module)?)?;
    module.add_function(wrap_pyfunction!(membership::ask_to_sync, module)?)?;
    module.add_function(wrap_pyfunction!(membership::new_connection, module)?)?;
    module.add_function(wrap_pyfunction!(membership::send_heartbeat, module)?)?;
    module.add_function(wrap_pyfunction!(properties::beside_settings, module)?)?;
    module.add_function(wrap_pyfunction!(properties::client_properties, module)?)?;
    module.add_function(wrap_pyfunction!(properties::security_of, module)?)?;
    module.add_function(wrap_pyfunction!(security::is_content, module)?)?;
    module.add_function(wrap_pyfunction!(security::may_be_secret, module)?)?;
    module.add_function(wrap_pyfunction!(security::check_ssl_argument, module)?)?;
    module.add_function(wrap_pyfunction!(requests::ask_about_groups, module)?)?;
    module.add_function(wrap_pyfunction!(requests::ask_api_versions, module)?)?;
    module.add_function(wrap_pyfunction!(requests::ask_for_committed, module)?)?;
    module.add_function(wrap_pyfunction!(requests::ask_for_groups, module)?)?;
    module.add_function(wrap_pyfunction!(requests::ask_metadata, module)?)?;
    module.add_function(wrap_pyfunction!(requests::ask_offset_limits, module)?)?;
    module.add_function(wrap_pyfunction!(requests::ask_to_commit, module)?)?;
    module.add_function(wrap_pyfunction!(requests::is_reachable, module)?)?;
    module.add_class::<message::Message>()?;
    module.add_class::<client::Client>()?;
    module.add_class::<producer::Producer>()?;
    module.add_class::<producer::ProducerSettings>()?;
    module.add_class::<consumer::Consumer>()?;
    module.add_class::<consumer_settings::ConsumerSettings>()?;
    module.add_class::<group::GroupSettings>()?;
    module.add_class::<arrow::batch::RecordBatch>()?;
    module.add_class::<arrow::batch::RecordBatches>()?;
    module.add_class::<broker::Broker>()?;
    module.add_class::<security::Secret>()?;
    module.add_class::<security::Tls>()?;
    module.add_class::<security::Mechanism>()?;
    module.add_class::<security::Plain>()?;
    module.add_class::<security::Scram>()?;
    module.add_class::<security::OAuthBearer>()?;
    module.add_class::<security::Gssapi>()?;
    module.add_class::<greenlets::Bells>()?;
    module.add_class::<greenlets::Runner>()?;
    process::register(module)
}
