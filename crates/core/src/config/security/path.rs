//! Paths of files with certificates, keys and tokens.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// The path of a file with certificates, a key or a token.
///
/// People also give the content of the file. It is refused, and neither `Debug` nor [`display`](Self::display) shows
/// it.
#[derive(Clone, PartialEq, Eq)]
pub struct FilePath(PathBuf);

impl FilePath {
    /// Whether this is the text of a key, a certificate or a token, and not a path.
    pub fn is_content(text: &str) -> bool {
        // Each token that is a JSON Web Token begins with this: `{"` in Base64.
        let is_token = text.trim_start().starts_with("eyJ");
        is_token || text.contains(['\n', '\r']) || text.contains("-----BEGIN")
    }

    /// The path, for an error or a log.
    pub fn display(&self) -> impl fmt::Display + use<> {
        let path = self.0.to_string_lossy();
        if Self::is_content(&path) { "***".to_owned() } else { path.into_owned() }
    }

    /// Refuses the content of a file in this setting.
    ///
    /// # Errors
    ///
    /// `Config`, with where the content belongs.
    pub fn check(&self, setting: &str) -> Result<()> {
        if !Self::is_content(&self.0.to_string_lossy()) {
            return Ok(());
        }
        let (content, hint) = match setting {
            "ssl.key.location" => ("a key", "pass the text as ssl.keystore.key"),
            "ssl.certificate.location" => ("a text", "pass the text as ssl.keystore.certificate.chain"),
            "ssl.keystore.location" => {
                ("a text", "pass the texts as ssl.keystore.certificate.chain and ssl.keystore.key")
            }
            "sasl.oauthbearer.token.file" => ("a token", "write the token to a file, or let a callback return it"),
            "https.ca.location" => ("a text", "write the text to a file"),
            _ => ("a text", "pass the text as ssl.truststore.certificates"),
        };
        Err(Error::new(ErrorKind::Config, format!("{setting} holds {content} and not a path")).with_hint(hint))
    }
}

impl Deref for FilePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.display().to_string(), f)
    }
}

impl From<PathBuf> for FilePath {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

impl From<&Path> for FilePath {
    fn from(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl From<&PathBuf> for FilePath {
    fn from(path: &PathBuf) -> Self {
        Self(path.clone())
    }
}

impl From<String> for FilePath {
    fn from(path: String) -> Self {
        Self(path.into())
    }
}

impl From<&str> for FilePath {
    fn from(path: &str) -> Self {
        Self(path.into())
    }
}
