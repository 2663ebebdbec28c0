//! Settings by their Kafka names, for `kafka-tools`: properties files, and TLS and SASL as settings say them.
//!
//! Whoever gives settings by these names reads errors with the same names.

use kavka::config::{self, select_properties};
use kavka::{ClientConfig, Error};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::security::{Mechanism, Tls};

/// A setting's name and its value.
type Property = (String, String);

/// Of the properties in a file's content those of a client, and what is wrong with the names that nobody knows.
#[pyfunction]
pub(crate) fn client_properties(content: &[u8]) -> PyResult<(Vec<Property>, Vec<String>)> {
    let (used, unknown) = select_properties(content, &[]).map_err(invalid)?;
    Ok((used, unknown.iter().map(ToString::to_string).collect()))
}

/// TLS and SASL, as the settings of a client say; if a name repeats, the last one counts.
#[pyfunction]
pub(crate) fn security_of(settings: Vec<Property>) -> PyResult<(Option<Tls>, Option<Mechanism>)> {
    let config = ClientConfig::from_properties(settings).map_err(invalid)?;
    let security = config.security().map_err(invalid)?;
    Ok((security.tls.map(Tls::from), security.sasl.map(Mechanism::from)))
}

/// The text with the first mention of each setting followed by the option that says the same.
#[pyfunction]
pub(crate) fn beside_settings(text: String, options: Vec<Property>) -> String {
    config::beside_mentions(text, options.iter().map(|(setting, option)| (setting.as_str(), option.as_str())))
}

fn invalid(error: Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}
