//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "SaslHandshake", response = SaslHandshakeResponse, versions = "0-1")]
pub struct SaslHandshakeRequest {
    /// DOC
    pub mechanism: String,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-1")]
pub struct SaslHandshakeResponse {
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    pub mechanisms: Vec<String>,
}
