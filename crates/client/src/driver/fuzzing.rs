//! The parsers of what identity providers and files say, for the fuzz targets.

use kavka_core::config::Token;
use kavka_core::error::Result;
use kavka_core::secret::Secret;

use super::sasl::{oidc, tokens};
use super::tls::key;
use super::tls::pem::{Purpose, Source};

/// Reads the answer of a token endpoint, which `ends` here or goes on. `None`: it is not complete.
///
/// # Errors
///
/// Those of a client that gets this answer.
pub fn token(answer: &[u8], ends: bool) -> Result<Option<Token>> {
    let Some((status, body)) = oidc::answered(answer, ends)? else { return Ok(None) };
    oidc::token_of(status, &body).map(Some)
}

/// When a token expires, in milliseconds, if it says so.
///
/// # Errors
///
/// If it has expired.
pub fn expiry(token: &Token) -> Result<Option<i64>> {
    tokens::expiry(token)
}

/// Counts the certificates in PEM format.
///
/// # Errors
///
/// If there are none, or the text is damaged.
pub fn certificates(text: &[u8]) -> Result<usize> {
    Source::text(Purpose::Certificate, Secret::new(text)).certificates().map(|certificates| certificates.len())
}

/// Reads a private key in PEM format.
///
/// # Errors
///
/// If it is none, or cannot be decrypted.
pub fn key(text: &[u8], password: Option<&Secret>) -> Result<()> {
    key::read(&Source::text(Purpose::Key, Secret::new(text)), password).map(drop)
}
