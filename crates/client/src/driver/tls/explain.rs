//! The reasons for failed TLS handshakes, in the words of people who use Kafka.

use std::fmt::Debug;
use std::io;

use kavka_core::error::{Error, ErrorKind, Hint, Place};
use rustls::{AlertDescription, CertificateError, InvalidMessage, OtherError, PeerIncompatible};

use super::Peer;
use super::verify::Refusal;

/// What is known about the peer, and about the client's own certificate.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    pub(super) peer: Peer,
    /// Whether there is a certificate for the peer to see.
    pub(super) is_configured: bool,
    pub(super) was_asked_for: bool,
}

/// The error of a failed handshake with a peer that said `heard` last.
pub(super) fn handshake(cause: io::Error, known: Known, heard: &[u8]) -> Error {
    match reason(&cause) {
        Some(rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        )) => without_tls(known.peer, heard),
        Some(reason) => refused(reason, known),
        None => match cause.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) {
            Some(error) => error.clone(),
            None => closed(cause, known.peer),
        },
    }
}

fn without_tls(peer: Peer, heard: &[u8]) -> Error {
    let hint = match (heard.get(..4), peer) {
        (Some(b"HTTP"), Peer::Broker) => Hint::Text("it speaks HTTP, not Kafka: check the port"),
        (Some(b"SSH-"), _) => Hint::Text("it speaks SSH: check the port"),
        (_, Peer::Broker) => Hint::UsePlaintext,
        (_, Peer::TokenEndpoint) => Hint::Text("check sasl.oauthbearer.token.endpoint.url"),
    };
    Error::new(ErrorKind::Authentication, format!("{peer} answered without TLS")).with_hint(hint)
}

/// A peer sends records without end that have nothing in them.
pub(super) fn flood(place: &Place) -> io::Error {
    let what = "the peer floods the connection with TLS records that have nothing in them";
    let error = Error::new(ErrorKind::Disconnected, what).at(place.clone());
    let error = error.with_hint("no broker does that: look for what else listens there, or has got in between");
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The error if the peer ended the connection with an alert.
pub(super) fn alert(cause: &io::Error, known: Known) -> Option<Error> {
    reason(cause)
        .filter(|reason| matches!(reason, rustls::Error::AlertReceived(_)))
        .map(|reason| refused(reason, known))
}

/// The error of a connection that had ended its handshake, without the names that rustls uses inside.
pub(super) fn broken(cause: io::Error, peer: Peer) -> io::Error {
    match reason(&cause) {
        Some(reason) => io::Error::new(cause.kind(), in_words(reason, peer)),
        None => cause,
    }
}

/// The same error once more.
pub(super) fn copy(cause: &io::Error) -> io::Error {
    reason(cause).map_or_else(|| cause.kind().into(), |reason| io::Error::new(cause.kind(), reason.clone()))
}

fn reason(cause: &io::Error) -> Option<&rustls::Error> {
    cause.get_ref()?.downcast_ref()
}

/// The connection ended during the handshake. That may be temporary: perhaps the peer was just stopped.
fn closed(cause: io::Error, peer: Peer) -> Error {
    let error =
        Error::new(ErrorKind::Disconnected, "the connection was closed during the TLS handshake").with_hint(peer.hint(
            "if this persists, the port does not use TLS: check the port and security.protocol",
            "if this persists, check sasl.oauthbearer.token.endpoint.url",
        ));
    if cause.kind() == io::ErrorKind::UnexpectedEof { error } else { error.with_source(cause) }
}

fn refused(reason: &rustls::Error, known: Known) -> Error {
    let peer = known.peer;
    let error = |what: String| Error::new(ErrorKind::Authentication, what);
    match reason {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))
            if let Some(refusal) = inner.downcast_ref::<Refusal>() =>
        {
            error(refusal.what.clone()).with_hint(refusal.hint)
        }
        rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )
        | rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            error(format!("{peer} supports no version of TLS that this client accepts"))
                .with_hint("this client supports TLS 1.2 and 1.3, unless ssl.enabled.protocols excludes one")
        }
        rustls::Error::PeerIncompatible(_) => {
            error(format!("{peer} and this client have no cipher or key exchange of TLS in common"))
        }
        rustls::Error::AlertReceived(alert) => by_alert(*alert, known),
        reason => error(format!("the TLS handshake failed: {}", in_words(reason, peer))),
    }
}

fn in_words(reason: &rustls::Error, peer: Peer) -> String {
    match reason {
        rustls::Error::InvalidMessage(kind) => {
            format!("{peer} sent a TLS message that cannot be read ({})", kind_in_words(kind))
        }
        rustls::Error::InappropriateMessage { .. } | rustls::Error::InappropriateHandshakeMessage { .. } => {
            format!("{peer} sent a TLS message out of turn")
        }
        rustls::Error::PeerMisbehaved(kind) => format!("{peer} broke the rules of TLS ({})", kind_in_words(kind)),
        rustls::Error::DecryptError => format!("{peer} sent a TLS record that cannot be decrypted"),
        rustls::Error::PeerSentOversizedRecord => format!("{peer} sent a TLS record that is too long"),
        rustls::Error::NoCertificatesPresented => format!("{peer} showed no certificate"),
        rustls::Error::AlertReceived(alert) => format!("{peer} ended the connection (TLS alert {alert:?})"),
        other => kind_in_words(other),
    }
}

/// The name of an error's kind as words: `BadDer` becomes `bad der`. What else the error holds may be long, and is for
/// programmers.
pub(super) fn kind_in_words(error: &dyn Debug) -> String {
    let debug = format!("{error:?}");
    let mut words = String::new();
    for letter in debug.chars().take_while(char::is_ascii_alphanumeric) {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// The broker refused us.
fn by_alert(alert: AlertDescription, known: Known) -> Error {
    let name = format!("{alert:?}");
    let concerns_certificate = matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
            | AlertDescription::DecryptError
    );
    let error = |what: String, hint| Error::new(ErrorKind::Authentication, what).with_hint(hint);
    let Known { peer, is_configured, was_asked_for } = known;
    match alert {
        AlertDescription::UnrecognisedName => error(
            format!("{peer} has no certificate for this host name (TLS alert UnrecognisedName)"),
            peer.hint(
                "use a name of the broker in bootstrap.servers and advertised.listeners",
                "check the host in sasl.oauthbearer.token.endpoint.url",
            ),
        ),
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity if !was_asked_for => error(
            format!("{peer} refused the TLS handshake (TLS alert {name})"),
            peer.hint(
                "perhaps the two have no cipher in common (ssl.cipher.suites of the broker)",
                "perhaps the two have no cipher in common",
            ),
        ),
        _ if concerns_certificate && was_asked_for && peer == Peer::TokenEndpoint => error(
            format!("{peer} wants a client certificate, and none is shown to it (TLS alert {name})"),
            "the client proves to it who it is by the client secret; a certificate in the settings is for the brokers",
        ),
        _ if concerns_certificate && was_asked_for && !is_configured => error(
            format!("{peer} wants a client certificate, and none is configured (TLS alert {name})"),
            "set ssl.certificate.location and ssl.key.location, or ssl.keystore.location to a file with both",
        ),
        _ if concerns_certificate && is_configured => error(
            format!("{peer} refused the client's certificate: {} (TLS alert {name})", meaning(alert)),
            "its authority must be in the broker's truststore, and it must be a valid one for clients (clientAuth)",
        ),
        _ => error(
            format!("{peer} refused the TLS handshake (TLS alert {name})"),
            peer.hint("the broker's log says why", "its log says why"),
        ),
    }
}

fn meaning(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => "it does not trust its authority",
        AlertDescription::CertificateExpired => "it has expired",
        AlertDescription::CertificateRevoked => "it was revoked",
        AlertDescription::UnsupportedCertificate => "it is of a kind that is not supported there",
        AlertDescription::AccessDenied => "its owner may not connect",
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "it was not sent, or its key is of a kind that is not accepted there"
        }
        _ => "it did not accept it",
    }
}
