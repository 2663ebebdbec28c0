//! OAUTHBEARER (RFC 7628, KIP-255): the client sends a token that an identity provider has issued.
//!
//! A broker that accepts the token answers with an empty message. Otherwise it sends its reason as JSON, which the
//! client must acknowledge with one byte before the broker says that the authentication has failed.

use zeroize::Zeroizing;

use super::{Mechanism, Move, refuse, superfluous};
use crate::config::{EXTENSION_FORM, is_extension};
use crate::error::{Result, printable, printable_reason};
use crate::secret::Secret;

/// Goes ahead of the token.
const PREFIX: &[u8] = b"n,,\x01auth=Bearer ";

/// Separates names and values, and alone it acknowledges a refusal.
const SEPARATOR: &[u8] = b"\x01";

#[derive(Debug)]
pub(super) struct OAuthBearer {
    token: Secret,
    extensions: Vec<(String, String)>,
    is_sent: bool,
    complaint: Option<String>,
}

impl OAuthBearer {
    pub(super) fn new(token: Secret, extensions: Vec<(String, String)>) -> Self {
        Self { token, extensions, is_sent: false, complaint: None }
    }

    fn first(&self) -> Result<Zeroizing<Vec<u8>>> {
        let token = self.token.reveal();
        if !is_token(token) {
            return Err(refuse("the token for SASL OAUTHBEARER is empty or has a character that no token can have"));
        }
        // If it grew, a copy of the token would stay in memory.
        let extensions: usize = self.extensions.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        let mut message = Zeroizing::new(Vec::with_capacity(PREFIX.len() + token.len() + extensions + 2));
        message.extend([PREFIX, token, SEPARATOR].into_iter().flatten());
        for (name, value) in &self.extensions {
            if !is_extension(name, value) {
                let name = printable(name);
                return Err(refuse(format!("the extension {name:?} of the OAUTHBEARER token is not a valid one"))
                    .with_hint(EXTENSION_FORM));
            }
            message.extend([name.as_bytes(), b"=", value.as_bytes(), SEPARATOR].into_iter().flatten());
        }
        message.extend(SEPARATOR);
        Ok(message)
    }
}

/// Whether it is a token by RFC 6750, so that nothing can follow it unseen.
fn is_token(token: &[u8]) -> bool {
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = token.get(..token.len() - padding).unwrap_or_default();
    !body.is_empty() && body.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte))
}

impl Mechanism for OAuthBearer {
    fn step(&mut self, message: &[u8]) -> Result<Move> {
        if !self.is_sent {
            self.is_sent = true;
            return self.first().map(Move::Send);
        }
        match &self.complaint {
            None if message.is_empty() => Ok(Move::Done),
            None => {
                self.complaint = Some(printable_reason(&self.token.hide_in(&String::from_utf8_lossy(message))));
                Ok(Move::Send(SEPARATOR.to_vec().into()))
            }
            // Whatever this is, the token was refused.
            Some(complaint) if message.is_empty() => Err(refuse(format!("the broker refused the token: {complaint}"))),
            Some(_) => Err(superfluous("OAUTHBEARER")),
        }
    }

    fn secret(&self) -> Option<&Secret> {
        Some(&self.token)
    }

    fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(token: &str, extensions: &[(&str, &str)]) -> OAuthBearer {
        let extensions = extensions.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        OAuthBearer::new(Secret::new(token), extensions)
    }

    #[test]
    fn the_token_and_its_extensions_are_sent() {
        let mut bearer = bearer("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==", &[("traceId", "123"), ("scope", "a b")]);
        let expected =
            b"n,,\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01traceId=123\x01scope=a b\x01\x01";
        assert_eq!(bearer.step(b"").unwrap(), Move::Send(expected.to_vec().into()));
        assert_eq!(bearer.step(b"").unwrap(), Move::Done);
    }

    #[test]
    fn the_message_without_extensions_ends_with_two_separators() {
        assert_eq!(bearer("t", &[]).step(b"").unwrap(), Move::Send(b"n,,\x01auth=Bearer t\x01\x01".to_vec().into()));
    }

    #[test]
    fn a_refusal_is_acknowledged_and_its_reason_kept() {
        let mut bearer = bearer("token", &[]);
        bearer.step(b"").unwrap();
        let reason = b"{\"status\":\"invalid_token\"}\x1b[2J";
        assert_eq!(bearer.step(reason).unwrap(), Move::Send(vec![1].into()));
        assert_eq!(bearer.complaint(), Some("{\"status\":\"invalid_token\"}\\u{1b}[2J"));
        let error = bearer.step(b"").unwrap_err();
        assert!(error.to_string().contains("invalid_token"), "{error}");
    }

    #[test]
    fn a_long_reason_is_cut() {
        let mut bearer = bearer("token", &[]);
        bearer.step(b"").unwrap();
        bearer.step(&"x".repeat(60_000).into_bytes()).unwrap();
        assert!(bearer.complaint().unwrap().len() < 1_000);
    }

    #[test]
    fn what_could_change_the_message_is_refused() {
        for token in ["", "a\x01auth=Bearer b", "a b", "a=b", "==", "a\n"] {
            let error = bearer(token, &[]).step(b"").unwrap_err();
            assert!(error.to_string().starts_with("the token for SASL OAUTHBEARER is empty or has"), "{error}");
        }
        for extension in [("auth", "x"), ("", "x"), ("a1", "x"), ("a", ""), ("a", "x\x01b=c"), ("a=b", "c"), ("a", "é")]
        {
            assert!(bearer("token", &[extension]).step(b"").is_err(), "{extension:?}");
        }
    }
}
