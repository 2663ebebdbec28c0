//! `SaslHandshake` v0-1 and `SaslAuthenticate` v0-2: see [`crate::sasl`].
//!
//! A cluster without SASL, and a connection that is authenticated, answer with `ILLEGAL_SASL_STATE`.

use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};

use super::{Answer, Context, Handle};
use crate::sasl::Reply;
use crate::state::State;

impl Handle for SaslHandshakeRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<SaslHandshakeResponse> {
        let Some(authentication) = &mut state.authentication else {
            return self.refuse(ErrorCode::ILLEGAL_SASL_STATE).into();
        };
        let (now, connection, version) = (context.now, context.connection, context.version());
        let error_code = authentication.handle_handshake(now, connection, &self.mechanism, version);
        let is_told = error_code != ErrorCode::ILLEGAL_SASL_STATE;
        let mechanisms = if is_told { authentication.mechanisms() } else { Vec::new() };
        SaslHandshakeResponse { error_code, mechanisms }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> SaslHandshakeResponse {
        SaslHandshakeResponse { error_code, mechanisms: Vec::new() }
    }
}

impl Handle for SaslAuthenticateRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<SaslAuthenticateResponse> {
        let reply = state.handle_sasl_token(context.now, context.connection, &self.auth_bytes);
        let Reply { error_code, mut error_message, token, session_lifetime_ms } = reply;
        if error_code == ErrorCode::ILLEGAL_SASL_STATE {
            error_message = Some("SaslAuthenticate request received after successful authentication".to_owned());
        }
        SaslAuthenticateResponse { error_code, error_message, auth_bytes: token.into(), session_lifetime_ms }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> SaslAuthenticateResponse {
        SaslAuthenticateResponse { error_code, ..SaslAuthenticateResponse::default() }
    }
}
