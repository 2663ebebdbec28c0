//! Makes authorities and certificates.

use kavka::config::Identity;
use kavka_core::secret::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The host names of the certificates that are as they should be: the bootstrap server's, and the broker's in the
/// metadata.
pub(crate) const HOSTS: &[&str] = &["kafka.test", "127.0.0.1"];

/// Who signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A certificate with its key, and those that lead to the authority.
pub(crate) struct Issued {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Only the certificate itself.
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
}

impl Issued {
    /// The EC key of the files in `keys/`, with a certificate that OpenSSL has made for it.
    pub(crate) fn from_file(certificate: &str) -> Self {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = KeyPair::from_pem(include_str!("keys/ec.pkcs8.pem")).unwrap();
        Self { chain: vec![der], pem: certificate.to_owned(), key }
    }

    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// As a client's settings have it.
    pub(crate) fn identity(&self) -> Identity {
        Identity::pem(self.pem.as_str(), Secret::new(self.key.serialize_pem()))
    }

    /// With a certificate that OpenSSL has made.
    pub(crate) fn followed_by_file(mut self, certificate: &str) -> Self {
        self.chain.push(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap());
        self
    }

    /// With the certificate of an intermediate authority.
    pub(crate) fn followed_by(mut self, authority: &Authority) -> Self {
        self.chain.push(authority.certificate.clone());
        self
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority_params(name);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// An authority below this one; `change` may spoil it.
    pub(crate) fn intermediate(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = authority_params(name);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self { certificate: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// What clients that trust it have in their CA file.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A broker's certificate for [`HOSTS`].
    pub(crate) fn issue(&self) -> Issued {
        self.issue_with(|_| {})
    }

    pub(crate) fn issue_for(&self, hosts: &[&str]) -> Issued {
        self.issue_with(|params| params.subject_alt_names = hosts_params(hosts).subject_alt_names)
    }

    /// The same, with a change.
    pub(crate) fn issue_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = hosts_params(HOSTS);
        change(&mut params);
        self.sign(&params, KeyPair::generate().unwrap())
    }

    /// A client's certificate; `change` may spoil it.
    pub(crate) fn issue_to_client(&self, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        self.issue_to_key(KeyPair::generate().unwrap(), change)
    }

    /// A client's certificate for a given key.
    pub(crate) fn issue_to_key(&self, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = named("client-7", CertificateParams::default());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        self.sign(&params, key)
    }

    fn sign(&self, params: &CertificateParams, key: KeyPair) -> Issued {
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { chain: vec![certificate.der().clone()], pem: certificate.pem(), key }
    }
}

/// A certificate for [`HOSTS`] that nobody else has signed.
pub(crate) fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Issued {
    let mut params = hosts_params(HOSTS);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Issued { chain: vec![certificate.der().clone()], pem: certificate.pem(), key }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = named(name, CertificateParams::default());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn hosts_params(hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = named("broker-1", CertificateParams::new(hosts).unwrap());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn named(name: &str, mut params: CertificateParams) -> CertificateParams {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
