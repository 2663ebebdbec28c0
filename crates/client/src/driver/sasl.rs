//! What SASL needs of the outside: credentials from the program, threads for slow steps, and a limit on attempts.
//!
//! The mechanisms are in [`kavka_core::link::sasl`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kavka_core::config::{Login, Sasl as Settings, ScramHash, Tls as TlsSettings, Token, TokenSource};
use kavka_core::error::{Error, ErrorKind, Phase, Place, Result};
use kavka_core::link::sasl::{Attempts, Broker, Credentials, NONCE_BYTES, Work, Worked};
use kavka_core::secret::Secret;
use kavka_core::time::Instant;
use tokio::sync::watch;

use super::{Network, Switchboard};

mod again;
pub(super) mod oidc;
pub(super) mod tokens;

pub(super) use again::Again;
use oidc::Endpoint;
use tokens::Tokens;

/// SASL with the settings of one client.
pub(super) struct Sasl {
    settings: Settings,
    tokens: Option<Arc<Tokens>>,
    /// Held while the program's callback runs, so that it occupies one thread at most.
    asking: Arc<tokio::sync::Mutex<()>>,
    attempts: Mutex<Attempts>,
    /// How many new connections wait for credentials, and since when none has got any.
    waiting: Mutex<(usize, std::time::Instant)>,
    /// Changes when an attempt ends, for those that wait for that.
    ended: watch::Sender<()>,
}

/// Who the client is, for one connection.
pub(super) enum Identity {
    Plain(String, Secret),
    Scram(ScramHash, String, Secret),
    Token(Token),
    /// The first part of the brokers' principals.
    Kerberos(String),
}

impl Identity {
    /// The credentials for one exchange with the broker at `host`.
    pub(super) fn credentials(&self, host: &str) -> Result<Credentials> {
        Ok(match self {
            Self::Plain(username, password) => {
                Credentials::Plain { username: username.clone(), password: password.clone() }
            }
            Self::Scram(hash, username, password) => {
                let mut nonce = [0; NONCE_BYTES];
                getrandom::fill(&mut nonce).map_err(|cause| {
                    Error::new(ErrorKind::System, "the system gives no random numbers").with_source(cause)
                })?;
                Credentials::Scram { hash: *hash, username: username.clone(), password: password.clone(), nonce }
            }
            Self::Token(token) => {
                Credentials::OAuthBearer { token: token.value.clone(), extensions: token.extensions.clone() }
            }
            Self::Kerberos(service) => Credentials::Gssapi(Box::new(kavka_gssapi::Context::new(service, host))),
        })
    }
}

/// An attempt to authenticate a connection to a broker; it must have begun before the credentials are sent.
pub(super) struct Attempt(Option<(Arc<Sasl>, Broker)>);

impl Attempt {
    /// Ends it, with the error if the credentials were refused.
    pub(super) fn end(mut self, now: Instant, refusal: Option<Error>) {
        if let Some((sasl, broker)) = self.0.take() {
            sasl.end_attempt(now, &broker, refusal);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some((sasl, broker)) = self.0.take() {
            sasl.end_attempt(Instant(0), &broker, None);
        }
    }
}

/// Counts a new connection that waits for credentials.
struct Waiting<'a>(&'a Sasl);

impl<'a> Waiting<'a> {
    fn new(sasl: &'a Sasl) -> Self {
        sasl.note_waiting(1);
        Self(sasl)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.note_waiting(-1);
    }
}

impl Sasl {
    /// `tls` are the settings of the client. Its versions count for a token endpoint, too; its certificate is for the
    /// brokers only.
    ///
    /// # Errors
    ///
    /// `Config` if the URL of the token endpoint, or the files of its TLS, cannot be used.
    pub(super) fn new(
        settings: Settings,
        tls: Option<&TlsSettings>,
        network: &Arc<dyn Network>,
        limit: Duration,
    ) -> Result<Arc<Self>> {
        let tokens = match &settings {
            Settings::OAuthBearer(source) => {
                let endpoint = match source {
                    TokenSource::ClientCredentials { endpoint_url, client_id, client_secret, scope, trust, .. } => {
                        // What is waived for the brokers is not waived for the identity provider, and who signs for
                        // the brokers does not sign for it.
                        let tls = TlsSettings {
                            trust: trust.clone(),
                            identity: None,
                            verify_certificate: true,
                            verify_host_name: true,
                            ..tls.cloned().unwrap_or_default()
                        };
                        let network = Arc::clone(network);
                        let client = (client_id.as_str(), client_secret);
                        Some(Endpoint::new(network, tls, limit, endpoint_url.as_str(), client, scope.as_deref())?)
                    }
                    TokenSource::Callback(_) | TokenSource::File(_) | TokenSource::Unsecured { .. } => None,
                };
                Some(Tokens::new(source.clone(), endpoint))
            }
            Settings::Plain(_) | Settings::Scram(..) | Settings::Gssapi { .. } => None,
        };
        let (asking, attempts) = Default::default();
        let waiting = Mutex::new((0, std::time::Instant::now()));
        Ok(Arc::new(Self { settings, tokens, asking, attempts, waiting, ended: watch::Sender::new(()) }))
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error of the last attempt, if so many were refused that none may begin now.
    pub(super) fn check(&self, now: Instant) -> Result<()> {
        self.attempts().check(now)
    }

    /// How many attempts were refused until now.
    pub(super) fn refusals(&self) -> u64 {
        self.attempts().refusals()
    }

    /// Notes that one more new connection waits for credentials, or one less.
    fn note_waiting(&self, change: isize) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if change < 0 || waiting.0 == 0 {
            waiting.1 = std::time::Instant::now();
        }
        waiting.0 = waiting.0.saturating_add_signed(change);
    }

    /// What a connection that is not made may be waiting for: the program, a file or a token endpoint, if they have not
    /// given any credentials for a second.
    pub(super) fn why_waiting(&self) -> Option<Error> {
        let (count, since) = *self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = since.elapsed();
        if count == 0 || waited < Duration::from_secs(1) {
            return None;
        }
        let (who, hint) = match &self.settings {
            Settings::OAuthBearer(TokenSource::File(_)) => ("the token file has not been read", None),
            Settings::OAuthBearer(TokenSource::ClientCredentials { .. }) => {
                ("the token endpoint has not given a token", None)
            }
            Settings::OAuthBearer(_) | Settings::Plain(_) | Settings::Scram(..) | Settings::Gssapi { .. } => (
                "the program's callback has not returned the credentials",
                Some("it must not wait for the client that waits for it"),
            ),
        };
        let what = format!("no connection was made, because {who} for SASL for {} s", waited.as_secs());
        let error = Error::new(ErrorKind::TimedOut(Phase::Connect), what);
        Some(hint.into_iter().fold(error, Error::with_hint))
    }

    /// Who the client is. To authenticate an open connection again, a token should be `fresh`: there is time to wait
    /// for a newer one. If none comes, the old one is good until it expires.
    pub(super) async fn identity(&self, fresh: bool) -> Result<Identity> {
        // An open connection goes on meanwhile.
        let _waiting = (!fresh).then(|| Waiting::new(self));
        match (&self.settings, &self.tokens) {
            (Settings::Plain(login), _) => {
                let (username, password) = self.ask(login).await?;
                Ok(Identity::Plain(username, password))
            }
            (Settings::Scram(hash, login), _) => {
                let (username, password) = self.ask(login).await?;
                Ok(Identity::Scram(*hash, username, password))
            }
            (Settings::OAuthBearer(_), Some(tokens)) => {
                let token = tokens.get(fresh).await.or_else(|error| tokens.kept(false).ok_or(error))?;
                Ok(Identity::Token(token))
            }
            (Settings::OAuthBearer(_), None) => Err(Error::new(ErrorKind::Internal, "there is no source of tokens")),
            (Settings::Gssapi { service_name }, _) => Ok(Identity::Kerberos(service_name.clone())),
        }
    }

    async fn ask(&self, login: &Login) -> Result<(String, Secret)> {
        if login.is_fixed() {
            return login.ask();
        }
        let (one, login) = (Arc::clone(&self.asking).lock_owned().await, login.clone());
        // The thread goes on if nobody waits for it any more, so the lock is its own.
        let asked = move || {
            let _one = one;
            login.ask()
        };
        on_a_thread(asked).await?.map_err(|error| no_credentials("there are no credentials for SASL", error))
    }

    async fn begin_attempt(self: &Arc<Self>, shared: &Switchboard, broker: Broker) -> Result<Attempt> {
        let mut ended = self.ended.subscribe();
        let refusals_before = self.attempts().refusals();
        while !self.attempts().begin(shared.now(), &broker, refusals_before)? {
            // The sender lives as long as `self`, so this ends with a change.
            drop(ended.changed().await);
        }
        Ok(Attempt(Some((Arc::clone(self), broker))))
    }

    fn end_attempt(&self, now: Instant, broker: &Broker, refusal: Option<Error>) {
        if let (Some(tokens), Some(_)) = (&self.tokens, &refusal) {
            tokens.handle_refusal();
        }
        self.attempts().end(now, broker, refusal);
        self.ended.send_replace(());
    }

    /// Makes a step of an exchange with a broker, whose first one begins an attempt.
    pub(super) async fn step(
        self: &Arc<Self>,
        shared: &Switchboard,
        broker: impl FnOnce() -> Result<Broker>,
        work: Work,
        attempt: &mut Option<Attempt>,
    ) -> Result<Worked> {
        if attempt.is_none() {
            *attempt = Some(self.begin_attempt(shared, broker()?).await?);
        }
        on_a_thread(move || work.run()).await
    }
}

/// Runs what may block or take long on a thread that is not the engine's.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(panicked)
}

fn panicked(cause: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Authentication, "what gets the credentials panicked").with_source(cause)
}

/// The error when a callback of the program, a file or a token endpoint gives no credentials. It is worth another try
/// only if its cause is.
fn no_credentials(what: &str, cause: Error) -> Error {
    let kind = if cause.is_retriable() { cause.kind() } else { ErrorKind::Authentication };
    // Its place, such as that of a token endpoint, is not the broker's.
    if *cause.place() == Place::default() {
        cause.leading_to(kind, what)
    } else {
        Error::new(kind, what).with_source(cause)
    }
}

/// What the tests here and below share.
#[cfg(test)]
mod common {
    use kavka_core::config::{TokenSource, Trust};
    use kavka_core::secret::Secret;

    pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// Tokens of the identity provider at `host`.
    pub(super) fn provider(host: &str, trust: Trust) -> TokenSource {
        TokenSource::ClientCredentials {
            endpoint_url: format!("https://{host}/token").into(),
            client_id: "id".into(),
            client_secret: Secret::new("secret").into(),
            scope: None,
            extensions: Vec::new(),
            trust,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::network::Tcp;
    use super::common::run;
    use super::*;

    #[test]
    fn why_there_are_no_credentials_is_said_in_one_sentence_unless_it_has_a_place_of_its_own() {
        let raised = std::io::Error::other("TypeError: 5");
        let cause = Error::new(ErrorKind::Config, "the callable for the password raised an exception");
        let error = no_credentials("there are no credentials for SASL", cause.with_source(raised));
        assert_eq!(error.kind(), ErrorKind::Authentication);
        let words = "there are no credentials for SASL: the callable for the password raised an exception; because \
                     TypeError: 5";
        assert_eq!(error.to_string(), words);
        let place = Place { address: Some("id.example:443".into()), ..Place::default() };
        let away = Error::new(ErrorKind::Disconnected, "the token endpoint is away").at(place);
        let error = no_credentials("there is no token for SASL", away);
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        let at_broker = error.at(Place { address: Some("kafka-1:9092".into()), ..Place::default() }).to_string();
        assert!(at_broker.contains("id.example:443") && at_broker.contains("kafka-1:9092"), "{at_broker}");
    }

    #[test]
    fn a_callback_that_nobody_waits_for_any_more_keeps_others_waiting_until_it_returns() {
        let (enter, mut entered) = tokio::sync::mpsc::unbounded_channel();
        let (leave, left) = mpsc::channel();
        let left = Mutex::new(left);
        let login = Login::from_fn(move || {
            enter.send(()).unwrap();
            left.lock().unwrap().recv().unwrap();
            Ok(("alice".into(), Secret::new("password")))
        });
        let network: Arc<dyn Network> = Arc::new(Tcp::default());
        let sasl = Sasl::new(Settings::Plain(login), None, &network, Duration::from_secs(60)).unwrap();
        run(async {
            let asking = Arc::clone(&sasl);
            let first = tokio::spawn(async move { asking.identity(false).await.map(drop) });
            entered.recv().await.unwrap();
            first.abort();
            first.await.unwrap_err();
            let is_locked = sasl.asking.try_lock().is_err();
            for _ in 0..2 {
                leave.send(()).unwrap();
            }
            assert!(is_locked);
            sasl.identity(false).await.unwrap();
        });
    }
}
