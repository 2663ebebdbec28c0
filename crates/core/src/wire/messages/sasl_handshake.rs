//! `SaslHandshake`: the SASL mechanism of a connection (KIP-43, KIP-152).

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Names the mechanism. Version 0 is followed by bare SASL bytes, version 1 by `SaslAuthenticate` requests.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "SaslHandshake", response = SaslHandshakeResponse, versions = "0-1")]
pub struct SaslHandshakeRequest {
    /// The mechanism, such as `SCRAM-SHA-256`.
    pub mechanism: String,
}

/// Whether the broker supports the mechanism.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-1")]
pub struct SaslHandshakeResponse {
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The mechanisms that the broker supports.
    pub mechanisms: Vec<String>,
}
