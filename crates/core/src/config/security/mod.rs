//! How a client and its brokers recognize each other: TLS and SASL.
//!
//! A program sets a [`Security`] (`ClientConfig::with_security`), or the rows `security.protocol`, `ssl.*` and
//! `sasl.*`, from which `ClientConfig::security` makes one. Both are checked as a whole by `validate`, before anything
//! is sent.

mod foreign;
mod jaas;
mod path;
mod rows;
mod sasl;
mod source;
mod tls;

pub(super) use foreign::{Foreign, foreign};
pub use path::{FilePath, StoreFormat};
pub(super) use rows::security_of;
pub(crate) use sasl::{EXTENSION_FORM, is_extension};
pub use sasl::{EndpointUrl, Login, Sasl, SaslMechanism, ScramHash, Token, TokenCallback, TokenSource};
pub use source::SecretSource;
pub use tls::{EndpointIdentification, Identity, Tls, TlsVersion, Trust};

use crate::error::Result;

/// What connections are made of. Kafka: `security.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    #[default]
    Plaintext,
    /// TLS; the client may show a certificate.
    Ssl,
    /// SASL without encryption: others on the network can read and change everything.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// Whether it encrypts.
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    /// Whether the client authenticates itself by SASL.
    pub fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

/// How a client and its brokers recognize each other. The default is neither TLS nor SASL.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Security {
    /// Encrypts, and verifies the brokers.
    pub tls: Option<Tls>,
    /// Tells the brokers who the client is.
    pub sasl: Option<Sasl>,
}

impl Security {
    /// Connections with TLS.
    pub fn tls(tls: Tls) -> Self {
        Self { tls: Some(tls), sasl: None }
    }

    /// Authenticates the client by SASL.
    #[must_use]
    pub fn sasl(mut self, sasl: Sasl) -> Self {
        self.sasl = Some(sasl);
        self
    }

    /// Kafka's name for the combination.
    pub fn protocol(&self) -> SecurityProtocol {
        match (&self.tls, &self.sasl) {
            (None, None) => SecurityProtocol::Plaintext,
            (Some(_), None) => SecurityProtocol::Ssl,
            (None, Some(_)) => SecurityProtocol::SaslPlaintext,
            (Some(_), Some(_)) => SecurityProtocol::SaslSsl,
        }
    }

    /// Refuses what no broker could accept, and what is no path of a file.
    pub(super) fn check(&self) -> Result<()> {
        self.tls.as_ref().map_or(Ok(()), Tls::check)?;
        self.sasl.as_ref().map_or(Ok(()), Sasl::check)
    }
}
