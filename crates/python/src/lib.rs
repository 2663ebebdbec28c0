//! The private module `pykafka._engine`: where Python and the engine meet.
//!
//! Hot calls (`produce`, `consume`, iteration) and `Message` are classes here; everything that is read more often than
//! run is Python in `python/pykafka`. Rules that hold:
//!
//! - The engine's thread never touches Python.
//! - No Python object is made or dropped, no signal checked and no callback run under a lock of the engine.
//! - Whatever waits does so without the GIL, and looks at signals every 100 ms.
//!
//! The only crate that may use `unsafe`.

mod at_work;
mod broker;
mod cell;
mod client;
mod closing;
mod consumer;
mod errors;
mod logs;
mod message;
mod process;
mod producer;
mod reports;
mod tally;
mod waiting;

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    process::claim_interpreter(module.py())?;
    logs::register();
    module.add("is_main_interpreter", process::is_main_interpreter())?;
    // Cargo's "3.0.0-alpha.1" is Python's "3.0.0a1".
    module.add(
        "__version__",
        env!("CARGO_PKG_VERSION").replace("-alpha.", "a").replace("-beta.", "b").replace("-rc.", "rc"),
    )?;
    module.add_function(wrap_pyfunction!(client::parse_hosts, module)?)?;
    module.add_function(wrap_pyfunction!(logs::forward_log, module)?)?;
    module.add_class::<message::Message>()?;
    module.add_class::<client::Client>()?;
    module.add_class::<producer::Producer>()?;
    module.add_class::<producer::ProducerSettings>()?;
    module.add_class::<consumer::Consumer>()?;
    module.add_class::<consumer::ConsumerSettings>()?;
    module.add_class::<broker::Broker>()?;
    process::register(module)
}
