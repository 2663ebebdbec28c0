//! DOC

use bytes::Bytes;
use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "SaslAuthenticate", response = SaslAuthenticateResponse, versions = "0-2", flexible = 2)]
pub struct SaslAuthenticateRequest {
    /// DOC
    pub auth_bytes: Bytes,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-2", flexible = 2)]
pub struct SaslAuthenticateResponse {
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    #[kafka(nullable = 0)]
    pub error_message: Option<String>,
    /// DOC
    pub auth_bytes: Bytes,
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub session_lifetime_ms: i64,
}
