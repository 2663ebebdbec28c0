//! What TLS trusts, and what it shows.

use super::FilePath;
use crate::error::Result;
use crate::secret::Secret;

use super::SecretSource;

/// How connections are encrypted, and which brokers are trusted.
///
/// By default, a broker must have a certificate for the host name that was dialled, signed by an authority that the
/// operating system trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The authorities whose signatures count.
    pub trust: Trust,
    /// What the client shows to brokers that ask for a certificate.
    pub identity: Option<Identity>,
    /// Whether the certificate must be for the host that was dialled. Without this check, everybody who has any
    /// certificate of a trusted authority can pass for a broker.
    pub verify_host_name: bool,
    /// Whether the certificate is checked at all. Without this check, everybody can pass for a broker.
    pub verify_certificate: bool,
    /// The oldest version of TLS that is accepted.
    pub min_version: TlsVersion,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            trust: Trust::System,
            identity: None,
            verify_host_name: true,
            verify_certificate: true,
            min_version: TlsVersion::V1_2,
        }
    }
}

impl Tls {
    /// Trusts the authorities of a PEM file, and no others.
    pub fn with_ca_file(path: impl Into<FilePath>) -> Self {
        Self { trust: Trust::File(path.into()), ..Self::default() }
    }

    /// Trusts the authorities of a text in PEM format, and no others.
    pub fn with_ca_pem(certificates: impl Into<String>) -> Self {
        Self { trust: Trust::Pem(certificates.into()), ..Self::default() }
    }

    /// Shows a certificate to brokers that ask for one.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        if let Trust::File(path) = &self.trust {
            path.check("ssl.truststore.location")?;
        }
        match &self.identity {
            Some(Identity::Files { certificates, key, .. }) if certificates == key => {
                key.check("ssl.keystore.location")
            }
            Some(Identity::Files { certificates, key, .. }) => {
                certificates.check("ssl.certificate.location")?;
                key.check("ssl.key.location")
            }
            Some(Identity::Pem { .. }) | None => Ok(()),
        }
    }

    /// What is not verified, and what that means, for a warning; `None` if everything is.
    pub fn unverified(&self) -> Option<&'static str> {
        if !self.verify_certificate {
            return Some(
                "the certificates of brokers are not verified: everybody on the network can pass for a broker \
                 (ssl.insecure.accept.any.certificate)",
            );
        }
        (!self.verify_host_name).then_some(
            "the host names of brokers are not verified: everybody with a certificate of a trusted authority can pass \
             for a broker (ssl.endpoint.identification.algorithm)",
        )
    }
}

/// The authorities whose signatures under a broker's certificate count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those that the operating system trusts.
    System,
    /// Those of a PEM file. It is read for each new connection, so it can be replaced while the client runs.
    File(FilePath),
    /// Those of a text in PEM format.
    Pem(String),
}

/// The client's certificate with its private key, both in PEM format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// From files. They are read for each new connection, so they can be replaced while the client runs.
    Files {
        /// The certificate, followed by those that lead to the authority.
        certificates: FilePath,
        /// The private key; may be the same file.
        key: FilePath,
        /// Decrypts the key.
        password: Option<SecretSource>,
    },
    /// From texts.
    Pem {
        /// The certificate, followed by those that lead to the authority. Not shown, because people also paste the
        /// private key into it.
        certificates: Secret,
        /// The private key.
        key: Secret,
        /// Decrypts the key.
        password: Option<SecretSource>,
    },
}

impl Identity {
    /// A certificate and its unencrypted key, each from a file.
    pub fn files(certificates: impl Into<FilePath>, key: impl Into<FilePath>) -> Self {
        Self::Files { certificates: certificates.into(), key: key.into(), password: None }
    }

    /// A certificate and its unencrypted key, each from a text.
    pub fn pem(certificates: impl Into<String>, key: Secret) -> Self {
        Self::Pem { certificates: Secret::new(certificates.into()), key, password: None }
    }

    /// Decrypts the key with this password.
    #[must_use]
    pub fn key_password(mut self, given: impl Into<SecretSource>) -> Self {
        let (Self::Files { password, .. } | Self::Pem { password, .. }) = &mut self;
        *password = Some(given.into());
        self
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// What a broker's certificate is compared with. Kafka: `ssl.endpoint.identification.algorithm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EndpointIdentification {
    /// The host that was dialled.
    #[default]
    Https,
    /// Nothing.
    None,
}
