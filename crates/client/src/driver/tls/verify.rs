//! Checks the certificate of a broker or a token endpoint, and says in words why it is refused.
//!
//! The checks are those of webpki: a chain of signatures to a trusted authority, the time, the purposes, and the host
//! name against the subject alternative names. The words are made only after a certificate was refused.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use kavka_core::error::Hint;
use rustls::CertificateError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{DateTime, Decode as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::Peer;
use super::explain::kind_in_words;
use super::key::{USABLE_KEYS, unsupported};

/// The most names of a certificate that an error lists.
const NAMES_SHOWN: usize = 8;

/// Decides whether a certificate is the peer's.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) peer: Peer,
    pub(super) authorities: RootCertStore,
    /// The certificates that the user trusts by name; empty if those of the system are trusted.
    pub(super) trusted: Vec<CertificateDer<'static>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) verify_certificate: bool,
    pub(super) verify_host_name: bool,
}

/// Why a certificate is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) what: String,
    pub(super) hint: Hint,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Refusal {}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.verify_certificate {
            return Ok(ServerCertVerified::assertion());
        }
        let checked = ParsedCertificate::try_from(end_entity).and_then(|certificate| {
            self.verify_chain(&certificate, end_entity, intermediates, now)?;
            if self.verify_host_name { verify_server_name(&certificate, server_name) } else { Ok(()) }
        });
        checked.map(|()| ServerCertVerified::assertion()).map_err(|error| {
            explain(error, |error| {
                let known = || intermediates.iter().chain(&self.trusted);
                let shown = Shown::new(self.peer, end_entity);
                match error {
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                        shown.wrong_name(server_name)
                    }
                    CertificateError::UnknownIssuer => shown.unknown_authority(intermediates),
                    CertificateError::BadSignature => shown.bad_signature(known()),
                    CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                        shown.unsupported_signer(known())
                    }
                    error => shown.refusal(error),
                }
            })
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let checked = verify_tls12_signature(message, cert, dss, &self.algorithms);
        checked.map_err(|error| explain(error, |error| Shown::new(self.peer, cert).proves_nothing(error)))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let checked = verify_tls13_signature(message, cert, dss, &self.algorithms);
        checked.map_err(|error| explain(error, |error| Shown::new(self.peer, cert).proves_nothing(error)))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Verifier {
    fn verify_chain(
        &self,
        certificate: &ParsedCertificate<'_>,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let (authorities, algorithms) = (&self.authorities, self.algorithms.all);
        let checked =
            verify_server_cert_signed_by_trust_anchor(certificate, authorities, intermediates, now, algorithms);
        match checked {
            // `openssl req -x509` makes such certificates, and people trust exactly them, for a broker without an
            // authority. webpki has checked the time before.
            Err(rustls::Error::InvalidCertificate(error))
                if webpki_error(&error) == Some(&webpki::Error::CaUsedAsEndEntity)
                    && self.trusted.iter().any(|trusted| trusted == end_entity) =>
            {
                Ok(())
            }
            checked => checked,
        }
    }
}

/// Puts the words of [`Shown`] in place of an error about a certificate.
fn explain(error: rustls::Error, words: impl FnOnce(&CertificateError) -> (String, Hint)) -> rustls::Error {
    let rustls::Error::InvalidCertificate(error) = error else { return error };
    let (what, hint) = words(&error);
    CertificateError::Other(OtherError(Arc::new(Refusal { what, hint }))).into()
}

/// The error of webpki, if it is one that rustls does not know.
fn webpki_error(error: &CertificateError) -> Option<&webpki::Error> {
    let CertificateError::Other(OtherError(inner)) = error else { return None };
    inner.downcast_ref()
}

/// The certificate that a peer shows, for the words about it.
struct Shown {
    peer: Peer,
    /// `None` if it cannot be read.
    certificate: Option<Certificate>,
    /// Whose certificate, with its subject in parentheses.
    whose: String,
}

impl Shown {
    fn new(peer: Peer, end_entity: &CertificateDer<'_>) -> Self {
        let certificate = Certificate::from_der(end_entity).ok();
        let subject = certificate.as_ref().map(subject).unwrap_or_default();
        Self { peer, certificate, whose: format!("{peer}'s certificate{subject}") }
    }

    fn refusal(&self, error: &CertificateError) -> (String, Hint) {
        let Self { whose, .. } = self;
        let (what, hint) = match error {
            CertificateError::ExpiredContext { time, not_after } => (
                format!("{whose}, or one above it, expired on {}; it is {} now", day(*not_after), day(*time)),
                "the certificate must be renewed, unless the clock of this machine is wrong",
            ),
            CertificateError::NotValidYetContext { time, not_before } => (
                format!("{whose}, or one above it, is not valid before {}; it is {} now", day(*not_before), day(*time)),
                "check the clock of this machine, and that of the one that issued the certificate",
            ),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => (
                format!("{whose} is not one for servers (extended key usage)"),
                "the certificate needs the purpose serverAuth, or none",
            ),
            CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => (
                format!(
                    "{whose}, or one above it, is signed with {}, which is not accepted",
                    signature_algorithm(signature_algorithm_id)
                ),
                "let the authority sign it anew, with SHA-256 or better",
            ),
            error => match webpki_error(error) {
                Some(error) => return self.refusal_of_webpki(error),
                None => return (format!("{whose} is not valid: {}", kind_in_words(error)), Hint::LookAtCertificates),
            },
        };
        (what, hint.into())
    }

    /// For the errors that rustls does not know.
    fn refusal_of_webpki(&self, error: &webpki::Error) -> (String, Hint) {
        let Self { whose, .. } = self;
        let (what, hint) = match error {
            webpki::Error::CaUsedAsEndEntity => (
                format!("{whose} is that of an authority (CA:TRUE)"),
                "a server needs a certificate of its own; a self-signed one can be trusted by itself as the CA file",
            ),
            webpki::Error::EndEntityUsedAsCa => (
                format!("{whose} was signed with one that is not an authority's (CA:FALSE)"),
                "an authority's certificate needs the basic constraint CA:TRUE",
            ),
            webpki::Error::UnsupportedCertVersion if self.is_old() => (
                format!("{whose} is an X.509 version 1 certificate, which cannot name hosts"),
                "sign it anew with openssl x509 -req and its option -extfile, which names a file with a line such as \
                 subjectAltName=DNS:kafka-1.example; that makes version 3",
            ),
            webpki::Error::UnsupportedCertVersion => (
                format!("an authority's certificate above {whose} is an X.509 version 1 certificate"),
                "sign that one anew with openssl x509 -req and its option -extfile, which names a file with the line \
                 basicConstraints=CA:TRUE; that makes version 3",
            ),
            webpki::Error::MaximumPathDepthExceeded
            | webpki::Error::MaximumPathBuildCallsExceeded
            | webpki::Error::MaximumSignatureChecksExceeded => (
                format!("there are too many certificates of authorities above {whose}"),
                "at most six may stand between it and the trusted one",
            ),
            webpki::Error::PathLenConstraintViolated => (
                format!("there are more authorities above {whose} than one of them allows (path length constraint)"),
                "let an authority sign it that is nearer to the trusted one",
            ),
            webpki::Error::NameConstraintViolation => (
                format!("{whose} has a name for which an authority above it may not sign (name constraints)"),
                "use a name that the authority is for, or another authority",
            ),
            other => return (format!("{whose} is not valid: {}", kind_in_words(other)), Hint::LookAtCertificates),
        };
        (what, hint.into())
    }

    /// Whether it is older than version 3.
    fn is_old(&self) -> bool {
        self.certificate.as_ref().is_some_and(|certificate| certificate.tbs_certificate().version() != Version::V3)
    }

    /// The peer did not prove that the certificate is its own.
    fn proves_nothing(&self, error: &CertificateError) -> (String, Hint) {
        let Self { peer, whose, .. } = self;
        if *error != CertificateError::BadSignature {
            return self.refusal(error);
        }
        match self.certificate.as_ref().and_then(unsupported_key) {
            Some(kind) => (format!("{whose} has {kind}, which is not supported"), USABLE_KEYS.into()),
            None => (
                format!("{peer} does not have the private key of the certificate that it shows"),
                "look for what else listens there, or has got in between".into(),
            ),
        }
    }

    /// A signature in the chain is wrong.
    fn bad_signature<'a>(&self, known: impl Iterator<Item = &'a CertificateDer<'a>>) -> (String, Hint) {
        if let Some(refusal) = self.by_unsupported_key(known) {
            return refusal;
        }
        let what = format!(
            "{}, or one above it, was signed by an authority with another key than the trusted one of the same name",
            self.whose
        );
        let hint = self.peer.hint(
            "was the authority made anew? get its current certificate for ssl.truststore.location",
            "was the authority made anew? get its current certificate for https.ca.location",
        );
        (what, hint.into())
    }

    /// A signature in the chain is of another kind than the key of the authority.
    fn unsupported_signer<'a>(&self, known: impl Iterator<Item = &'a CertificateDer<'a>>) -> (String, Hint) {
        self.by_unsupported_key(known).unwrap_or_else(|| {
            let what = format!("{}, or one above it, was signed with a key that is not supported", self.whose);
            (what, USABLE_KEYS.into())
        })
    }

    /// The words for a chain with an authority whose key is not supported.
    fn by_unsupported_key<'a>(&self, known: impl Iterator<Item = &'a CertificateDer<'a>>) -> Option<(String, Hint)> {
        let known: Vec<_> = known.filter_map(|der| Certificate::from_der(der).ok()).collect();
        // A trusted one that has signed itself may have signed nothing else here.
        let is_below = |certificate: &&Certificate| {
            let certificate = certificate.tbs_certificate();
            certificate.issuer() != certificate.subject()
        };
        let below: Vec<_> = known.iter().filter(is_below).chain(&self.certificate).collect();
        let has_signed = |authority: &&Certificate| {
            let name = authority.tbs_certificate().subject();
            below.iter().any(|certificate| certificate.tbs_certificate().issuer() == name)
        };
        let with_kind = |authority| Some((authority, unsupported_key(authority)?));
        let (authority, kind) = known.iter().filter(has_signed).find_map(with_kind)?;
        let what = format!(
            "{}, or one above it, was signed by an authority{} that has {kind}, which is not supported",
            self.whose,
            subject(authority)
        );
        Some((what, USABLE_KEYS.into()))
    }

    fn unknown_authority(&self, intermediates: &[CertificateDer<'_>]) -> (String, Hint) {
        let Self { peer, whose, .. } = self;
        let trust = peer.hint(
            "if that is right, add it to ssl.truststore.location",
            "if that is right, add it to https.ca.location",
        );
        let Some(certificate) = &self.certificate else {
            return (format!("{whose} was issued by an unknown authority"), trust.into());
        };
        let certificate = certificate.tbs_certificate();
        if certificate.issuer() == certificate.subject() {
            return (format!("{whose} is self-signed, and not one of those that are trusted"), trust.into());
        }
        // Follow the chain that the peer sent as far as it goes.
        let sent: Vec<_> = intermediates.iter().filter_map(|der| Certificate::from_der(der).ok()).collect();
        let mut issuer = certificate.issuer();
        for _ in 0..sent.len() {
            let above = sent.iter().map(Certificate::tbs_certificate).find(|above| above.subject() == issuer);
            match above {
                Some(above) if above.issuer() != issuer => issuer = above.issuer(),
                _ => break,
            }
        }
        let what = format!("{whose} leads to an unknown authority (CA): {} is not trusted", printable(issuer));
        let hint = peer.hint(
            "add that authority to ssl.truststore.location; if it is an intermediate one, the broker should send its \
             certificate, too",
            "add that authority to https.ca.location; if it is an intermediate one, the endpoint should send its \
             certificate, too",
        );
        (what, hint.into())
    }

    fn wrong_name(&self, name: &ServerName<'_>) -> (String, Hint) {
        let Self { peer, whose, .. } = self;
        let names = self.certificate.as_ref().map(names).unwrap_or_default();
        let asked = name.to_str();
        if names.is_empty() {
            return (
                format!("{whose} is not for {asked}: it has no subject alternative names"),
                "the common name (CN) does not count: the certificate needs the host name as a subject alternative name"
                    .into(),
            );
        }
        let more = if names.len() > NAMES_SHOWN { ", ..." } else { "" };
        let shown = names.get(..NAMES_SHOWN).unwrap_or(&names).join(", ");
        let hint = peer.hint(
            "use a name of the certificate in bootstrap.servers and in the broker's advertised.listeners, or add this \
             name to the certificate",
            "use a name of the certificate in sasl.oauthbearer.token.endpoint.url, or add this name to the certificate",
        );
        (format!("{whose} is not for {asked}, but for {shown}{more}"), hint.into())
    }
}

/// What people call the key of a certificate, if this client cannot use it.
fn unsupported_key(certificate: &Certificate) -> Option<String> {
    let key = certificate.tbs_certificate().subject_public_key_info();
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.decode_as().ok());
    unsupported(&key.algorithm.oid.to_string(), curve, key.subject_public_key.raw_bytes())
}

/// What people call a signature algorithm, which begins with its number in DER.
fn signature_algorithm(der: &[u8]) -> String {
    let number = match der {
        [0x06, length, rest @ ..] => rest.get(..usize::from(*length)),
        _ => None,
    };
    let Some(number) = number.and_then(|number| ObjectIdentifier::from_bytes(number).ok()) else {
        return "an unknown algorithm".into();
    };
    let number = number.to_string();
    let name = match number.as_str() {
        "1.2.840.113549.1.1.4" => "MD5 and RSA",
        "1.2.840.113549.1.1.5" => "SHA-1 and RSA",
        "1.2.840.10045.4.1" => "SHA-1 and ECDSA",
        "1.2.840.10040.4.3" => "SHA-1 and DSA",
        "1.3.101.113" => "Ed448",
        _ => return format!("the algorithm {number}"),
    };
    name.into()
}

/// The subject alternative names that can name a host.
fn names(certificate: &Certificate) -> Vec<String> {
    let Ok(Some((_, SubjectAltName(names)))) = certificate.tbs_certificate().get_extension() else { return Vec::new() };
    let host = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => Some(kavka_core::error::printable_name(name.as_str())),
        GeneralName::IpAddress(octets) => match octets.as_bytes() {
            octets if let Ok(octets) = <[u8; 4]>::try_from(octets) => Some(IpAddr::from(octets).to_string()),
            octets if let Ok(octets) = <[u8; 16]>::try_from(octets) => Some(IpAddr::from(octets).to_string()),
            _ => None,
        },
        _ => None,
    };
    names.iter().filter_map(host).collect()
}

fn subject(certificate: &Certificate) -> String {
    let subject = printable(certificate.tbs_certificate().subject());
    if subject.is_empty() { subject } else { format!(" ({subject})") }
}

fn printable(name: &x509_cert::name::Name) -> String {
    kavka_core::error::printable_name(&name.to_string())
}

/// The day and the time, in UTC.
fn day(time: UnixTime) -> String {
    let time = std::time::Duration::from_secs(time.as_secs());
    DateTime::from_unix_duration(time).map_or_else(|_| "an unknown day".into(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn a_broker_that_does_not_prove_who_it_is_may_have_a_key_that_is_too_short() {
        let proves_nothing = |pem: &str| {
            let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            Shown::new(Peer::Broker, &certificate).proves_nothing(&CertificateError::BadSignature).0
        };
        let short = proves_nothing(include_str!("../../../tests/tls/keys/rsa.1024.certificate.pem"));
        assert_eq!(short, "the broker's certificate (CN=Weak CA) has an RSA key of 1024 bits, which is not supported");
        let other = proves_nothing(include_str!("../../../tests/tls/keys/ec.v1.certificate.pem"));
        assert_eq!(other, "the broker does not have the private key of the certificate that it shows");
    }

    #[test]
    fn what_nobody_has_words_for_is_short_and_readable() {
        let long = webpki::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: vec![7; 500],
            public_key_algorithm_id: vec![7; 500],
        };
        for (error, words) in [
            (webpki::Error::BadDerTime, "bad der time"),
            (
                webpki::Error::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(long),
                "unsupported crl signature algorithm for public key context",
            ),
        ] {
            assert_eq!(kind_in_words(&error), words);
        }
    }

    #[test]
    fn signature_algorithms_are_named() {
        let sha1_with_rsa = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 5, 5, 0];
        assert_eq!(signature_algorithm(&sha1_with_rsa), "SHA-1 and RSA");
        assert_eq!(signature_algorithm(&[6, 3, 0x2a, 3, 4]), "the algorithm 1.2.3.4");
        for broken in [&[][..], &[6], &[6, 9, 1], &[6, 0], &[6, 1, 0xff]] {
            assert_eq!(signature_algorithm(broken), "an unknown algorithm");
        }
    }
}
