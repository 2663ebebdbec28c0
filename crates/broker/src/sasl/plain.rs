//! PLAIN (RFC 4616): the user and the password, as they are.

use std::collections::BTreeMap;

use subtle::ConstantTimeEq;

use super::{Refusal, Step, Taken};

/// Checks the only token: `[authorization id] NUL user NUL password`.
pub(super) fn check(passwords: &BTreeMap<String, String>, token: &[u8]) -> Taken {
    let refuse = |reason: &str| Err(Refusal::Because(format!("Authentication failed: {reason}")));
    let Ok(text) = std::str::from_utf8(token) else { return Err(Refusal::Unsaid) };
    let parts: Vec<_> = text.splitn(4, '\0').collect();
    let [authorization_id, user, password] = parts.as_slice() else {
        let reason = format!("Invalid SASL/PLAIN response: expected 3 tokens, got {}", parts.len());
        return Err(Refusal::Because(reason));
    };
    match (*authorization_id, *user, *password) {
        (_, "", _) => refuse("username not specified"),
        (_, _, "") => refuse("password not specified"),
        (other, user, _) if !other.is_empty() && other != user => {
            refuse("Client requested an authorization id that is different from username")
        }
        (_, user, password) => match passwords.get(user) {
            Some(expected) if bool::from(expected.as_bytes().ct_eq(password.as_bytes())) => {
                Ok(Step::Done { user: user.to_owned(), token: Vec::new(), expires_at_ms: None })
            }
            _ => refuse("Invalid username or password"),
        },
    }
}
