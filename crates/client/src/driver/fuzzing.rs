//! The parsers of what identity providers and files say, for the fuzz targets.

use kavka_core::config::Token;
use kavka_core::error::Result;
use kavka_core::secret::Secret;

use super::sasl::{oidc, tokens};
use super::tls::key;
use super::tls::pem::{Purpose, Source};

/// Reads the answer of a token endpoint, which arrives in pieces of this size, and `ends` here or goes on. It may
/// repeat `secrets`. `None`: it is not complete.
///
/// # Errors
///
/// Those of a client that gets this answer.
pub fn token(answer: &[u8], piece_bytes: usize, ends: bool, secrets: &[Secret]) -> Result<Option<Token>> {
    let mut reader = oidc::Answer::default();
    for piece in answer.chunks(piece_bytes.max(1)).chain(ends.then_some(&[][..])) {
        if let Some(space) = reader.space()?.get_mut(..piece.len()) {
            space.copy_from_slice(piece);
        }
        if let Some((status, body)) = reader.read(piece.len(), piece.is_empty())? {
            return oidc::token_of(status, &body, secrets).map(Some);
        }
    }
    Ok(None)
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
