//! The codecs of record batches for `pykafka.utils.compression`: the engine's own, and Snappy without framing.

use kavka::wire::records::{Compressor, Decompressor};
use kavka::{CompressionType, Error};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors;

fn codec(py: Python<'_>, name: &str) -> PyResult<CompressionType> {
    let codec = CompressionType::from_name(name);
    codec.ok_or_else(|| errors::named(py, "KafkaException", &format!("there is no codec {name:?}")))
}

/// Compresses `data`. With `framed`, Snappy uses the framing of the Xerial library.
#[pyfunction]
pub(crate) fn compress<'py>(py: Python<'py>, name: &str, data: &[u8], framed: bool) -> PyResult<Bound<'py, PyBytes>> {
    let codec = codec(py, name)?;
    let compressed = py.detach(|| {
        if codec == CompressionType::Snappy && !framed {
            return snap::raw::Encoder::new().compress_vec(data).map_err(|error| error.to_string());
        }
        let compress = || Compressor::new(codec.into())?.compress(&[data], 0);
        compress().map_err(|error: Error| error.to_string())
    });
    Ok(PyBytes::new(py, &compressed.map_err(PyValueError::new_err)?))
}

/// Decompresses `data`, if the result has at most `max_bytes`.
#[pyfunction]
pub(crate) fn decompress<'py>(
    py: Python<'py>,
    name: &str,
    data: &[u8],
    max_bytes: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let codec = codec(py, name)?;
    let plain = py.detach(|| Decompressor::new().decompress(codec, data, max_bytes));
    Ok(PyBytes::new(py, &plain.map_err(|error| errors::to_python(py, &error))?))
}
