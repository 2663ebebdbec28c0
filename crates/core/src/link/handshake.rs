//! What a connection must settle before it takes requests.
//!
//! The broker is asked for its versions in the newest version of `ApiVersions`. One that does not know it refuses and
//! names its own newest, in which it is asked once more (KIP-35, KIP-511). Then the connection is ready.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Place, Result};
use crate::link::versions::ApiVersions;
use crate::wire::api::ApiKey;
use crate::wire::error_code::ErrorCode;
use crate::wire::message::Message;
use crate::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// The broker was asked for its versions, in the newest version of `ApiVersions`.
    Versions,
    /// It refused that one and was asked again, in a version that it named.
    VersionsAgain,
    /// Requests may be sent.
    Ready(ApiVersions),
}

/// The request that begins a handshake or takes it one step further, and the version to send it in.
pub(super) type Step = (ApiVersionsRequest, i16);

impl Stage {
    /// The first stage, and its request.
    pub(super) fn begin() -> (Self, Step) {
        (Self::Versions, (versions_request(), ApiVersionsRequest::MAX_VERSION))
    }

    /// Takes in the answer to the last step, which was sent in `version`. Gives the next step unless there is none.
    pub(super) fn handle_answer(&mut self, version: i16, body: Bytes) -> Result<Option<Step>> {
        // A broker that does not know the version answers in version 0, whatever was asked.
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
            return Err(Error::new(ErrorKind::Unsupported, "the broker named no API that it speaks"));
        }
        *self = Self::Ready(versions);
        Ok(None)
    }

    /// The broker's versions, once they are known.
    pub(super) fn versions(&self) -> Option<&ApiVersions> {
        match self {
            Self::Versions | Self::VersionsAgain => None,
            Self::Ready(versions) => Some(versions),
        }
    }
}

fn versions_request() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "kavka".into(),
        client_software_version: env!("CARGO_PKG_VERSION").into(),
        ..ApiVersionsRequest::default()
    }
}
