//! Secrets that can be replaced while the client runs.

use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::secret::Secret;

/// A secret that is fixed, or asked for whenever it is needed, so that it can be replaced while the client runs.
#[derive(Clone)]
pub struct SecretSource(Source);

#[derive(Clone)]
enum Source {
    Fixed(Secret),
    Callback(Arc<dyn Fn() -> Result<Secret> + Send + Sync>),
}

impl SecretSource {
    /// Asks `callback` whenever the secret is needed. It may block.
    pub fn from_fn(callback: impl Fn() -> Result<Secret> + Send + Sync + 'static) -> Self {
        Self(Source::Callback(Arc::new(callback)))
    }

    /// The secret. May block, unless it is [`fixed`](Self::fixed).
    ///
    /// # Errors
    ///
    /// That of the callback.
    pub fn ask(&self) -> Result<Secret> {
        match &self.0 {
            Source::Fixed(secret) => Ok(secret.clone()),
            Source::Callback(callback) => callback(),
        }
    }

    /// The secret, if it is always the same.
    pub fn fixed(&self) -> Option<&Secret> {
        match &self.0 {
            Source::Fixed(secret) => Some(secret),
            Source::Callback(_) => None,
        }
    }
}

impl From<Secret> for SecretSource {
    fn from(secret: Secret) -> Self {
        Self(Source::Fixed(secret))
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Fixed(secret) => secret.fmt(f),
            Source::Callback(_) => f.write_str("callback"),
        }
    }
}

impl PartialEq for SecretSource {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Source::Fixed(one), Source::Fixed(other)) => one == other,
            (Source::Callback(one), Source::Callback(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for SecretSource {}
