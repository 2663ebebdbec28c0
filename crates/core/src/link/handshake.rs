//! The handshake: what a connection does before it takes requests.
//!
//! The client asks for the broker's versions with the newest `ApiVersions` it knows. A broker that does not support
//! that version refuses and names its own newest one, and the client asks again with it (KIP-35, KIP-511).

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Place, Result};
use crate::link::versions::ApiVersions;
use crate::wire::api::ApiKey;
use crate::wire::error_code::ErrorCode;
use crate::wire::message::Message;
use crate::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

/// The progress of the handshake.
#[derive(Debug)]
pub(super) enum Stage {
    /// `ApiVersions` was sent in the newest version.
    Versions,
    /// The broker refused that version; `ApiVersions` was sent again in a version it named.
    VersionsAgain,
    /// The handshake is complete.
    Ready(ApiVersions),
}

/// The next request of the handshake, and the version to send it in.
pub(super) type Step = (ApiVersionsRequest, i16);

impl Stage {
    /// The first stage and its request.
    pub(super) fn begin() -> (Self, Step) {
        (Self::Versions, (versions_request(), ApiVersionsRequest::MAX_VERSION))
    }

    /// Takes the response to the last step, which was sent in `version`. Returns the next step; `None` when complete.
    pub(super) fn handle_answer(&mut self, version: i16, body: Bytes) -> Result<Option<Step>> {
        // A broker that does not support the version answers in version 0.
        let refused = body.get(..2) == Some(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes()[..]);
        let version = if refused { 0 } else { version };
        let response = ApiVersionsResponse::decode_exact(version, body)?;
        if refused && matches!(self, Self::Versions) {
            let own = response.api_keys.iter().find(|api| api.api_key == ApiKey::ApiVersions.number());
            let newest = own.map_or(0, |api| api.max_version.clamp(0, ApiVersionsRequest::MAX_VERSION));
            *self = Self::VersionsAgain;
            return Ok(Some((versions_request(), newest)));
        }
        if let Some(error) = Error::from_code(response.error_code) {
            return Err(error.at(Place { api: Some(("ApiVersions", version)), ..Place::default() }));
        }
        let versions = ApiVersions::new(&response);
        if versions.is_empty() {
            return Err(Error::new(ErrorKind::Unsupported, "the broker's list of supported APIs is empty"));
        }
        *self = Self::Ready(versions);
        Ok(None)
    }

    /// The versions that the broker supports, once known.
    pub(super) fn versions(&self) -> Option<&ApiVersions> {
        match self {
            Self::Versions | Self::VersionsAgain => None,
            Self::Ready(versions) => Some(versions),
        }
    }
}

/// Asks for the broker's versions.
pub(super) fn versions_request() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "kavka".into(),
        client_software_version: env!("CARGO_PKG_VERSION").into(),
        ..ApiVersionsRequest::default()
    }
}
