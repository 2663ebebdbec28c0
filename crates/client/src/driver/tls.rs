//! TLS over the streams that a [`Network`](super::Network) opens.
//!
//! [`Tls`] reads certificates and keys when the client is made, so that mistakes are found then, and again whenever a
//! file has changed: new connections use the new ones. A broken new file changes nothing but a warning.
//!
//! Nothing of Kafka's is sent before the broker's certificate was accepted.

mod explain;
pub(super) mod key;
pub(super) mod pem;
mod stream;
mod verify;

use std::cell::Cell;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use kavka_core::config::SecretSource;
use kavka_core::config::{Identity, Tls as Settings, TlsVersion, Trust};
use kavka_core::error::{Error, ErrorKind, Place, Result};
use kavka_core::secret::Secret;
use kavka_core::time::Instant;
use rustls::client::{ResolvesClientCert, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tokio::time::timeout;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

use super::network::Stream;
use pem::{Purpose, Source};
use stream::Secured;
use verify::Verifier;

/// How often the files may be looked at, and how long a handshake waits for that.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Who is at the other end, for what errors say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Peer {
    #[default]
    Broker,
    /// Of an identity provider.
    TokenEndpoint,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broker => "the broker",
            Self::TokenEndpoint => "the token endpoint",
        })
    }
}

impl Peer {
    /// The hint that concerns this one.
    fn hint(self, broker: &'static str, token_endpoint: &'static str) -> &'static str {
        match self {
            Self::Broker => broker,
            Self::TokenEndpoint => token_endpoint,
        }
    }
}

/// TLS with the settings of one client.
pub(super) struct Tls {
    settings: Settings,
    peer: Peer,
    provider: Arc<CryptoProvider>,
    state: Mutex<State>,
    /// Held while the files are read, so that a callback for a password occupies one thread at most.
    loading: Arc<tokio::sync::Mutex<()>>,
}

struct State {
    ready: Ready,
    /// What the files looked like when they were last read; also if they could not be used, and never could.
    stamps: Vec<Stamp>,
    /// What they looked like when a warning said that they could not be used.
    warned_of: Vec<Stamp>,
    looked_at: Instant,
}

/// What one handshake needs.
#[derive(Clone)]
pub(super) struct Ready {
    peer: Peer,
    config: Arc<ClientConfig>,
    /// Whether there is a certificate to show.
    has_certificate: bool,
}

/// When a file was changed, and its length; `None` if it is not there.
type Stamp = Option<(SystemTime, u64)>;

/// Shows the client's certificate, if it has one, to brokers that ask for it.
///
/// One for all connections, because rustls resumes a session only with the resolver that it began with.
#[derive(Debug)]
struct Shown(Option<Arc<CertifiedKey>>);

thread_local! {
    /// Whether [`Shown`] was asked in this thread.
    static WAS_ASKED: Cell<bool> = const { Cell::new(false) };
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        WAS_ASKED.set(true);
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// Whether the peer asks for a certificate in what `work` makes of its records.
fn asks_meanwhile<T>(work: impl FnOnce() -> T) -> (T, bool) {
    WAS_ASKED.set(false);
    (work(), WAS_ASKED.get())
}

impl Tls {
    /// Reads the files. May block for a moment.
    ///
    /// # Errors
    ///
    /// `Config`, with the path of the file that cannot be used, but nothing of its content.
    pub(super) fn new(settings: Settings, peer: Peer) -> Result<Self> {
        if let Some(unverified) = settings.unverified() {
            log::warn!("{unverified}");
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let stamps = stamps(&settings);
        let ready = load(&settings, peer, &provider)?;
        let state = Mutex::new(State { ready, stamps, warned_of: Vec::new(), looked_at: Instant(0) });
        Ok(Self { settings, peer, provider, state, loading: Arc::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a handshake that begins at `now` needs; reads the files again if they have changed. If that takes long,
    /// because a callback for a password does, the handshake goes on with what there was.
    pub(super) async fn ready(self: &Arc<Self>, now: Instant) -> Ready {
        if self.is_due(now)
            && let Ok(one) = Arc::clone(&self.loading).try_lock_owned()
        {
            let tls = Arc::clone(self);
            let reloading = tokio::task::spawn_blocking(move || {
                let _one = one;
                tls.reload();
            });
            drop(timeout(LOOK_AGAIN, reloading).await);
        }
        self.lock().ready.clone()
    }

    fn is_due(&self, now: Instant) -> bool {
        if files(&self.settings).is_empty() {
            return false;
        }
        let mut state = self.lock();
        let is_due = now.since(state.looked_at) >= LOOK_AGAIN;
        if is_due {
            state.looked_at = now;
        }
        is_due
    }

    fn reload(&self) {
        // Taken before the files are read: what changes meanwhile is read the next time.
        let stamps = stamps(&self.settings);
        if stamps == self.lock().stamps {
            return;
        }
        let loaded = load(&self.settings, self.peer, &self.provider);
        let mut state = self.lock();
        // A callback may learn the password of the new key a moment later.
        let is_new = state.warned_of != stamps;
        state.warned_of.clone_from(&stamps);
        if loaded.is_ok() || !asks_for_password(&self.settings) {
            state.stamps = stamps;
        }
        match loaded {
            Ok(ready) => {
                state.ready = ready;
                log::info!("the files for TLS have changed; new connections use the new ones");
            }
            Err(error) if is_new => {
                log::warn!("the files for TLS have changed, but the old ones stay in use: {error}");
            }
            Err(_) => {}
        }
    }
}

impl Ready {
    /// Performs the handshake on a fresh connection to `host`.
    ///
    /// # Errors
    ///
    /// `Authentication` if the two sides do not accept each other; `Disconnected` if the connection ends.
    pub(super) async fn shake_hands(
        &self,
        host: &str,
        stream: Box<dyn Stream>,
        place: &Place,
    ) -> Result<Box<dyn Stream>> {
        let name = server_name(host).map_err(|error| error.at(place.clone()))?;
        let session = UnbufferedClientConnection::new(Arc::clone(&self.config), name).map_err(unusable)?;
        let known = explain::Known { peer: self.peer, is_configured: self.has_certificate, was_asked_for: false };
        let mut secured = Secured::new(session, stream, place.clone(), known);
        match secured.shake_hands().await {
            Ok(()) => Ok(Box::new(secured)),
            Err(cause) => Err(explain::handshake(cause, secured.known, secured.heard()).at(place.clone())),
        }
    }
}

fn unusable(cause: rustls::Error) -> Error {
    Error::new(ErrorKind::Internal, "TLS cannot be set up").with_source(cause)
}

/// The name that the certificate must have. (rustls ignores a trailing dot.)
fn server_name(host: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(|_| {
        let what =
            format!("{} is not a host name that a certificate can have", kavka_core::error::printable_name(host));
        Error::new(ErrorKind::Authentication, what)
            .with_hint("use ASCII letters, digits, hyphens and dots; write an international name as xn--...")
    })
}

/// The files of the settings, in a fixed order.
fn files(settings: &Settings) -> Vec<&Path> {
    let trust = match &settings.trust {
        Trust::File(path) => Some(&**path),
        Trust::System | Trust::Pem(_) => None,
    };
    let identity = match &settings.identity {
        Some(Identity::Files { certificates, key, .. }) => vec![&**certificates, &**key],
        Some(Identity::Pem { .. }) | None => Vec::new(),
    };
    trust.into_iter().chain(identity).collect()
}

fn asks_for_password(settings: &Settings) -> bool {
    let identity = settings.identity.as_ref();
    identity.is_some_and(|(Identity::Files { password, .. } | Identity::Pem { password, .. })| {
        password.as_ref().is_some_and(|password| password.fixed().is_none())
    })
}

fn stamps(settings: &Settings) -> Vec<Stamp> {
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files(settings).into_iter().map(stamp).collect()
}

fn load(settings: &Settings, peer: Peer, provider: &Arc<CryptoProvider>) -> Result<Ready> {
    let (authorities, trusted) = if settings.verify_certificate {
        authorities(&settings.trust, peer)?
    } else {
        (RootCertStore::empty(), Vec::new())
    };
    let verifier = Verifier {
        peer,
        authorities,
        trusted,
        algorithms: provider.signature_verification_algorithms,
        verify_certificate: settings.verify_certificate,
        verify_host_name: settings.verify_host_name,
    };
    let certificate = settings.identity.as_ref().map(identity).transpose()?.map(Arc::new);
    let has_certificate = certificate.is_some();
    let versions: &[_] = match settings.min_version {
        TlsVersion::V1_2 => &[&TLS12, &TLS13],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(Shown(certificate)));
    Ok(Ready { peer, config: Arc::new(config), has_certificate })
}

/// The trusted authorities, and the certificates that the user trusts by name.
fn authorities(trust: &Trust, peer: Peer) -> Result<(RootCertStore, Vec<CertificateDer<'static>>)> {
    let mut store = RootCertStore::empty();
    let source = match trust {
        Trust::System => {
            let found = rustls_native_certs::load_native_certs();
            // Systems have certificates that no browser would take; they help nobody, and they harm nobody.
            let (usable, _) = store.add_parsable_certificates(found.certs);
            if usable == 0 {
                let error =
                    Error::new(ErrorKind::Config, "this system trusts no certificate authority").with_hint(peer.hint(
                        "install its CA certificates, or set ssl.truststore.location",
                        "install its CA certificates, or set https.ca.location",
                    ));
                return Err(found.errors.into_iter().next().into_iter().fold(error, Error::with_source));
            }
            return Ok((store, Vec::new()));
        }
        Trust::File(path) => Source::file(Purpose::Authorities, path)?,
        Trust::Pem(text) => Source::text(Purpose::Authorities, Secret::new(text.as_str())),
    };
    let trusted = source.certificates()?;
    for (number, certificate) in (1..).zip(&trusted) {
        let invalid = |_| source.fault(format_args!("certificate {number} in it is not a valid X.509 certificate"));
        store.add(certificate.clone()).map_err(invalid)?;
    }
    Ok((store, trusted))
}

fn identity(identity: &Identity) -> Result<CertifiedKey> {
    let (certificates, key, password) = match identity {
        Identity::Files { certificates, key, password } => {
            (Source::file(Purpose::Certificate, certificates)?, Source::file(Purpose::Key, key)?, password)
        }
        Identity::Pem { certificates, key, password } => (
            Source::text(Purpose::Certificate, certificates.clone()),
            Source::text(Purpose::Key, key.clone()),
            password,
        ),
    };
    let password = password.as_ref().map(SecretSource::ask).transpose()?;
    let identity = CertifiedKey::new(certificates.certificates()?, key::read(&key, password.as_ref())?);
    match is_key_of_certificate(&identity) {
        Some(true) => Ok(identity),
        Some(false) => Err(key
            .fault("it does not belong to the client's certificate")
            .with_hint("the client's own certificate must be the first one in its file")),
        None => Err(certificates.fault("the first certificate in it is not a valid X.509 certificate")),
    }
}

/// `None` if the certificate cannot be read.
fn is_key_of_certificate(identity: &CertifiedKey) -> Option<bool> {
    match identity.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Some(true),
        Err(rustls::Error::InconsistentKeys(_)) => Some(false),
        // rustls reads only version 3, but shows any; whether version 1 is good enough, the broker decides.
        Err(_) => {
            let certificate = Certificate::from_der(identity.end_entity_cert().ok()?).ok()?;
            let key = certificate.tbs_certificate().subject_public_key_info().to_der().ok()?;
            Some(identity.key.public_key().is_none_or(|public| public.as_ref() == key))
        }
    }
}
