//! `SaslAuthenticate`: one step of a SASL exchange (KIP-152).

use std::fmt;

use bytes::Bytes;
use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// The client's next message of the exchange.
#[derive(Clone, PartialEq, Message)]
#[kafka(request = "SaslAuthenticate", response = SaslAuthenticateResponse, versions = "0-2", flexible = 2)]
pub struct SaslAuthenticateRequest {
    /// The bytes, in the mechanism's format.
    pub auth_bytes: Bytes,
}

/// Leaves out the bytes, which may be credentials.
impl fmt::Debug for SaslAuthenticateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslAuthenticateRequest").finish_non_exhaustive()
    }
}

/// The broker's next message of the exchange.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-2", flexible = 2)]
pub struct SaslAuthenticateResponse {
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The broker's error message, if it sends one.
    #[kafka(nullable = 0)]
    pub error_message: Option<String>,
    /// The bytes, in the mechanism's format.
    pub auth_bytes: Bytes,
    /// How long the connection may be used before it must authenticate again, in milliseconds; 0 for ever (KIP-368).
    #[kafka(since = 1, ignorable)]
    pub session_lifetime_ms: i64,
}
