//! OAUTHBEARER (RFC 7628) with unsecured JSON web tokens, as Kafka's own validator for tests takes them: a token
//! without a signature, with the claims `sub` and `exp`, is believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::Value;

use super::{Refusal, Step, Taken};

/// What a client is told about a token that is not valid.
const INVALID: &str = r#"{"status":"invalid_token"}"#;

/// The broker in one exchange.
#[derive(Debug, Default)]
pub(super) struct Server {
    /// The client knows that its token is refused, and has to confirm that.
    is_refused: bool,
}

impl Server {
    pub(super) fn handle_token(&mut self, wall_clock_ms: i64, token: &[u8]) -> Taken {
        if self.is_refused {
            return Err(Refusal::Because(INVALID.to_owned()));
        }
        let (authorization_id, bearer) = parse(token).ok_or(Refusal::Unsaid)?;
        match claims(bearer, wall_clock_ms) {
            Some((user, _)) if !authorization_id.is_empty() && authorization_id != user => {
                Err(Refusal::Because(format!(
                    "Authentication failed: Client requested an authorization id ({authorization_id}) that is different \
                 from the token's principal name ({user})"
                )))
            }
            Some((user, expires_at_ms)) => {
                Ok(Step::Done { user, token: Vec::new(), expires_at_ms: Some(expires_at_ms) })
            }
            None => {
                self.is_refused = true;
                Ok(Step::Continue(INVALID.as_bytes().to_vec()))
            }
        }
    }
}

/// The authorization id and the token in a client's first message.
fn parse(message: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(message).ok()?;
    let (header, rest) = text.split_once('\u{1}')?;
    let authorization_id = header.strip_prefix("n,")?.strip_suffix(',')?;
    let bearer = rest.split('\u{1}').find_map(|pair| pair.strip_prefix("auth="))?;
    let (scheme, token) = bearer.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    is_bearer.then_some((authorization_id.strip_prefix("a=").unwrap_or(authorization_id), token))
}

/// The user that a valid token names, and when it expires, in milliseconds since 1970.
fn claims(token: &str, wall_clock_ms: i64) -> Option<(String, i64)> {
    let (header, rest) = token.split_once('.')?;
    let claims = rest.strip_suffix('.')?;
    let decode = |part: &str| serde_json::from_slice::<Value>(&BASE64.decode(part).ok()?).ok();
    let (header, claims) = (decode(header)?, decode(claims)?);
    let user = claims.get("sub")?.as_str()?;
    let expires_at_ms = (claims.get("exp")?.as_f64()? * 1_000.0) as i64;
    let is_valid = header.get("alg")?.as_str()? == "none" && wall_clock_ms < expires_at_ms && !user.is_empty();
    is_valid.then(|| (user.to_owned(), expires_at_ms))
}
