//! Checks the certificate of a broker or a token endpoint, and says in words why it is refused.
//!
//! The checks are those of webpki: a chain of signatures to a trusted authority, the time, the purposes, and the host
//! name against the subject alternative names. The words are made only after a certificate was refused.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::CertificateError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::{DateTime, Decode as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::Peer;

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
    pub(super) hint: &'static str,
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
            let rustls::Error::InvalidCertificate(error) = error else { return error };
            let refusal = refusal(&error, self.peer, end_entity, intermediates, server_name);
            CertificateError::Other(OtherError(Arc::new(refusal))).into()
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
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

/// The error of webpki, if it is one that rustls does not know.
fn webpki_error(error: &CertificateError) -> Option<&webpki::Error> {
    let CertificateError::Other(OtherError(inner)) = error else { return None };
    inner.downcast_ref()
}

fn refusal(
    error: &CertificateError,
    peer: Peer,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    name: &ServerName<'_>,
) -> Refusal {
    let certificate = Certificate::from_der(end_entity).ok();
    let subject = certificate.as_ref().map(subject).unwrap_or_default();
    let (what, hint) = match error {
        CertificateError::ExpiredContext { time, not_after } => (
            format!(
                "{peer}'s certificate{subject}, or one above it, expired on {}; it is {} now",
                day(*not_after),
                day(*time)
            ),
            "the certificate must be renewed, unless the clock of this machine is wrong",
        ),
        CertificateError::NotValidYetContext { time, not_before } => (
            format!(
                "{peer}'s certificate{subject}, or one above it, is not valid before {}; it is {} now",
                day(*not_before),
                day(*time)
            ),
            "check the clock of this machine, and that of the one that issued the certificate",
        ),
        CertificateError::UnknownIssuer => unknown_authority(peer, certificate.as_ref(), &subject, intermediates),
        CertificateError::BadSignature => (
            format!(
                "{peer}'s certificate{subject}, or one above it, was signed by an authority with another key than the \
                 trusted one of the same name"
            ),
            peer.hint(
                "was the authority made anew? get its current certificate for ssl.truststore.location",
                "was the authority made anew? get its current certificate for https.ca.location",
            ),
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            wrong_name(peer, certificate.as_ref(), &subject, name)
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => (
            format!("{peer}'s certificate{subject} is not one for servers (extended key usage)"),
            "the certificate needs the purpose serverAuth, or none",
        ),
        error => match webpki_error(error) {
            Some(webpki::Error::CaUsedAsEndEntity) => (
                format!("{peer}'s certificate{subject} is that of an authority (CA:TRUE)"),
                "a server needs a certificate of its own; a self-signed one can be trusted by itself as the CA file",
            ),
            Some(webpki::Error::EndEntityUsedAsCa) => (
                format!("{peer}'s certificate{subject} was signed with one that is not an authority's (CA:FALSE)"),
                "an authority's certificate needs the basic constraint CA:TRUE",
            ),
            Some(other) => (format!("{peer}'s certificate{subject} is not valid: {other}"), CHECK_IT),
            None => (format!("{peer}'s certificate{subject} is not valid: {error}"), CHECK_IT),
        },
    };
    Refusal { what, hint }
}

const CHECK_IT: &str = "look at it with: openssl s_client -connect HOST:PORT -showcerts";

fn unknown_authority(
    peer: Peer,
    certificate: Option<&Certificate>,
    subject: &str,
    intermediates: &[CertificateDer<'_>],
) -> (String, &'static str) {
    let trust = peer
        .hint("if that is right, add it to ssl.truststore.location", "if that is right, add it to https.ca.location");
    let Some(certificate) = certificate else {
        return (format!("{peer}'s certificate was issued by an unknown authority"), trust);
    };
    let certificate = certificate.tbs_certificate();
    if certificate.issuer() == certificate.subject() {
        return (format!("{peer}'s certificate{subject} is self-signed, and not one of those that are trusted"), trust);
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
    let what = format!(
        "{peer}'s certificate{subject} leads to an unknown authority (CA): {} is not trusted",
        printable(issuer)
    );
    let hint = peer.hint(
        "add that authority to ssl.truststore.location; if it is an intermediate one, the broker should send its \
         certificate, too",
        "add that authority to https.ca.location; if it is an intermediate one, the endpoint should send its \
         certificate, too",
    );
    (what, hint)
}

fn wrong_name(
    peer: Peer,
    certificate: Option<&Certificate>,
    subject: &str,
    name: &ServerName<'_>,
) -> (String, &'static str) {
    let names = certificate.map(names).unwrap_or_default();
    let asked = name.to_str();
    if names.is_empty() {
        return (
            format!("{peer}'s certificate{subject} is not for {asked}: it has no subject alternative names"),
            "the common name (CN) does not count: the certificate needs the host name as a subject alternative name",
        );
    }
    let more = if names.len() > NAMES_SHOWN { ", ..." } else { "" };
    let shown = names.get(..NAMES_SHOWN).unwrap_or(&names).join(", ");
    (
        format!("{peer}'s certificate{subject} is not for {asked}, but for {shown}{more}"),
        peer.hint(
            "use a name of the certificate in bootstrap.servers and in the broker's advertised.listeners, or add this \
             name to the certificate",
            "use a name of the certificate in sasl.oauthbearer.token.endpoint.url, or add this name to the certificate",
        ),
    )
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
