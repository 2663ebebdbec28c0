//! Bytes on the wire: primitives, APIs, messages, error codes and records.

pub mod error_code;
pub mod records;
