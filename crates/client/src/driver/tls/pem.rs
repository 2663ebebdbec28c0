//! Reads certificates and private keys, in PEM format, from files and texts.
//!
//! An error names the file, or says which text it is. It never shows what is in it.

use std::fmt::Display;
use std::io;
use std::path::Path;

use kavka_core::config::{FilePath, StoreFormat};
use kavka_core::error::{Error, ErrorKind, Hint, Result};
use kavka_core::secret::Secret;
use pem::Pem;
use rustls::pki_types::CertificateDer;

/// What a file or text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::driver) enum Purpose {
    /// The certificates of the authorities that are trusted.
    Authorities,
    /// The client's certificate, and those that lead to the authority.
    Certificate,
    /// The client's private key.
    Key,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Authorities => "the CA certificates",
            Self::Certificate => "the client's certificate",
            Self::Key => "the client's private key",
        }
    }
}

/// A file or a text in PEM format.
pub(in crate::driver) struct Source {
    purpose: Purpose,
    /// `None`: the settings have the text itself.
    path: Option<FilePath>,
    bytes: Secret,
}

impl Source {
    pub(super) fn file(purpose: Purpose, path: &FilePath) -> Result<Self> {
        let source = |bytes| Self { purpose, path: Some(path.clone()), bytes };
        // Opening a directory succeeds on some systems, and reading it fails with words that few understand.
        if path.is_dir() {
            return Err(source(Secret::new("")).fault("it is a directory, not a file"));
        }
        match std::fs::read(&**path) {
            Ok(bytes) => Ok(source(Secret::new(bytes))),
            Err(cause) => Err(source(Secret::new("")).unreadable(cause)),
        }
    }

    pub(in crate::driver) fn text(purpose: Purpose, text: Secret) -> Self {
        Self { purpose, path: None, bytes: text }
    }

    fn name(&self) -> String {
        match &self.path {
            // The name of a file that is there is no secret.
            Some(path) if path.is_file() => format!("{} in {}", self.purpose.name(), Path::display(path)),
            Some(path) => format!("{} in {}", self.purpose.name(), path.display()),
            None => format!("{} in the settings", self.purpose.name()),
        }
    }

    fn unreadable(&self, cause: io::Error) -> Error {
        let error = Error::new(ErrorKind::Config, format!("{} cannot be read", self.name())).with_source(cause);
        let is_shown = |path: &FilePath| !FilePath::may_be_secret(&path.to_string_lossy());
        if self.path.as_ref().is_none_or(is_shown) {
            return error;
        }
        error.with_hint("the name is not shown, because it may be a password: a path has a / or an extension")
    }

    /// The error of a source with this fault.
    pub(super) fn fault(&self, what: impl Display) -> Error {
        Error::new(ErrorKind::Config, format!("{} cannot be used: {what}", self.name()))
    }

    /// All blocks.
    pub(super) fn blocks(&self) -> Result<Vec<Pem>> {
        let bytes = self.bytes.reveal();
        if bytes.trim_ascii().is_empty() {
            return Err(self.fault("it is empty"));
        }
        let begins = count(bytes, b"-----BEGIN ");
        if begins == 0 {
            return Err(self.not_pem(bytes));
        }
        // The cause might show a part of the file.
        let blocks = pem::parse_many(bytes).map_err(|_| self.fault("it is damaged"))?;
        if blocks.len() < begins {
            return Err(self.fault("it is damaged: the end of a block is missing"));
        }
        Ok(blocks)
    }

    /// All certificates; at least one.
    pub(in crate::driver) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let is_certificate = |block: &Pem| matches!(block.tag(), "CERTIFICATE" | "X509 CERTIFICATE");
        let blocks = self.blocks()?.into_iter().filter(is_certificate);
        let certificates: Vec<_> = blocks.map(|block| CertificateDer::from(block.into_contents())).collect();
        if certificates.is_empty() { Err(self.fault("it has no certificate in it")) } else { Ok(certificates) }
    }

    fn not_pem(&self, bytes: &[u8]) -> Error {
        let store = |format: StoreFormat| {
            let is_truststore = self.purpose == Purpose::Authorities;
            self.fault(format_args!("it is {}", format.refusal(self.path.as_ref(), is_truststore)))
        };
        let path = self.path.as_ref().map_or_else(|| "FILE".into(), FilePath::shell_word);
        let convert = |what: &str, command: String| {
            self.fault(format_args!("{what}, and only PEM is supported; convert it with: {command}"))
        };
        match (Format::of(bytes), self.purpose) {
            (Format::Store(format), _) => store(format),
            (Format::Der, Purpose::Key) => {
                convert("it is in DER format", format!("openssl pkey -inform der -in {path} -out key.pem"))
            }
            (Format::Der, _) => {
                convert("it is in DER format", format!("openssl x509 -inform der -in {path} -out certificate.pem"))
            }
            (Format::Unknown, _) => self
                .fault("it is not in PEM format")
                .with_hint(Hint::Text("PEM begins with a line like -----BEGIN ...-----")),
        }
    }
}

/// What else than PEM people have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Store(StoreFormat),
    Der,
    Unknown,
}

impl Format {
    fn of(bytes: &[u8]) -> Self {
        // The magic numbers of JKS and JCEKS.
        if bytes.starts_with(&[0xfe, 0xed, 0xfe, 0xed]) || bytes.starts_with(&[0xce, 0xce, 0xce, 0xce]) {
            return Self::Store(StoreFormat::Jks);
        }
        // A DER sequence: its tag, and its length in one byte or, with the highest bit set, in the next few bytes.
        let [0x30, length, rest @ ..] = bytes else { return Self::Unknown };
        let content = rest.get(if length & 0x80 == 0 { 0 } else { usize::from(length & 0x7f) }..).unwrap_or_default();
        // PKCS#12 begins with its version, 3, where a certificate has a sequence, and a key the version 0 or 1.
        if content.starts_with(&[0x02, 0x01, 0x03]) { Self::Store(StoreFormat::Pkcs12) } else { Self::Der }
    }
}

fn count(bytes: &[u8], pattern: &[u8]) -> usize {
    bytes.windows(pattern.len()).filter(|window| *window == pattern).count()
}
