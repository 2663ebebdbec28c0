//! TLS for a served cluster: a certificate authority made at start, and what it signs.
//!
//! The authority lives as long as the cluster, so nobody can trust it by mistake for longer. Keys are on the curve
//! P-256. Clients may use TLS 1.2 and 1.3.

use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// How a served cluster speaks TLS.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tls {
    /// Whether a client must have a certificate of the cluster's authority (Kafka: `ssl.client.auth=required`).
    pub client_certificates: bool,
}

/// What clients need, in PEM.
#[derive(Clone)]
pub struct Certificates {
    /// The authority's certificate, which clients must trust (`ssl.ca.location`).
    pub authority: String,
    /// A client's certificate.
    pub client: String,
    /// The client's key.
    pub client_key: String,
}

/// Without the key.
impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("authority", &self.authority).finish_non_exhaustive()
    }
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// Makes the authority and all certificates; brokers are known as `host`, `localhost`, 127.0.0.1 and `::1`.
pub(super) fn prepare(tls: Tls, host: &str) -> io::Result<(Certificates, Arc<ServerConfig>)> {
    let issuer = authority().map_err(io::Error::other)?;
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !names.iter().any(|name| name == host) {
        names.push(host.to_owned());
    }
    let server = sign(&issuer, "kavka broker", names, ExtendedKeyUsagePurpose::ServerAuth).map_err(io::Error::other)?;
    let client = sign(&issuer, "kavka client", Vec::new(), ExtendedKeyUsagePurpose::ClientAuth);
    let (client, client_key) = client.map_err(io::Error::other)?;
    let config = server_config(tls, &issuer, server).map_err(io::Error::other)?;
    let certificates =
        Certificates { authority: issuer.pem(), client: client.pem(), client_key: client_key.serialize_pem() };
    Ok((certificates, Arc::new(config)))
}

fn authority() -> Result<Issuer, rcgen::Error> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.distinguished_name = named("kavka broker authority");
    CertifiedIssuer::self_signed(authority, KeyPair::generate()?)
}

fn sign(
    issuer: &Issuer,
    name: &str,
    hosts: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
    let mut certificate = CertificateParams::new(hosts)?;
    certificate.distinguished_name = named(name);
    certificate.extended_key_usages = vec![usage];
    certificate.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    Ok((certificate.signed_by(&key, issuer)?, key))
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn server_config(
    tls: Tls,
    issuer: &Issuer,
    (certificate, key): (rcgen::Certificate, KeyPair),
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = if tls.client_certificates {
        builder.with_client_cert_verifier(client_verifier(issuer, provider)?)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    builder.with_single_cert(vec![certificate.der().clone()], key)
}

fn client_verifier(
    issuer: &Issuer,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|error| rustls::Error::General(error.to_string()))
}
