//! Paths of files with certificates, keys and tokens.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// The path of a file with certificates, a key or a token.
///
/// People also give the content of the file, which is refused, and passwords. Neither `Debug` nor
/// [`display`](Self::display) shows what may be either.
#[derive(Clone, PartialEq, Eq)]
pub struct FilePath(PathBuf);

impl FilePath {
    /// Whether this is the text of a key, a certificate or a token, and not a path.
    pub fn is_content(text: &str) -> bool {
        // Each token that is a JSON Web Token begins with this: `{"` in Base64.
        let is_token = text.trim_start().starts_with("eyJ");
        is_token || text.contains(['\n', '\r']) || text.contains("-----BEGIN")
    }

    /// Whether this may be a secret and not a path: the content of a file, or a bare word, such as a password.
    pub fn may_be_secret(text: &str) -> bool {
        Self::is_content(text) || !text.is_empty() && !text.contains(['/', '\\', '.'])
    }

    /// The path, for an error or a log.
    pub fn display(&self) -> impl fmt::Display + use<> {
        let path = self.0.to_string_lossy();
        if Self::may_be_secret(&path) { "***".to_owned() } else { path.into_owned() }
    }

    /// The path as a word of a shell's command.
    pub fn shell_word(&self) -> String {
        let path = self.display().to_string();
        let is_plain = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
        if path.chars().all(is_plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
    }

    /// Refuses the content of a file in this setting, and nothing.
    ///
    /// # Errors
    ///
    /// `Config`, with where the content belongs.
    pub fn check(&self, setting: &str) -> Result<()> {
        if self.0.as_os_str().is_empty() {
            let error = Error::new(ErrorKind::Config, format!("{setting} is empty"));
            return Err(error.with_hint("give the path of a file, or leave it out"));
        }
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

/// A format of Java's stores, of which none is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFormat {
    /// Java's own.
    Jks,
    /// PKCS#12.
    Pkcs12,
}

impl StoreFormat {
    /// That of files which are called so.
    pub(super) fn of_name(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_lowercase().as_str() {
            "jks" | "keystore" | "truststore" => Some(Self::Jks),
            "p12" | "pfx" | "pkcs12" => Some(Self::Pkcs12),
            _ => None,
        }
    }

    /// What is wrong with a store of this format, with the command that converts it.
    pub fn refusal(self, path: Option<&FilePath>, is_truststore: bool) -> String {
        let path = path.map_or_else(|| "FILE".into(), FilePath::shell_word);
        let command = match (self, is_truststore) {
            (Self::Jks, true) => format!("keytool -list -rfc -keystore {path} > ca.pem"),
            (Self::Jks, false) => format!(
                "keytool -importkeystore -srckeystore {path} -destkeystore client.p12 -deststoretype PKCS12 && \
                 openssl pkcs12 -in client.p12 -out client.pem"
            ),
            (Self::Pkcs12, true) => format!("openssl pkcs12 -in {path} -nokeys -out ca.pem"),
            (Self::Pkcs12, false) => format!("openssl pkcs12 -in {path} -out client.pem"),
        };
        format!("a {self} keystore, and only PEM is supported; convert it with: {command}")
    }
}

impl fmt::Display for StoreFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jks => "JKS",
            Self::Pkcs12 => "PKCS#12",
        })
    }
}
