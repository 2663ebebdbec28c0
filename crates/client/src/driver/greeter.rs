//! Sets up a connection: dials the addresses of the broker's name one after the other, and shakes hands in the way that
//! the broker understands.
//!
//! Nearly every broker tells its versions when it is asked. One before Kafka 0.10 hangs up or says nothing; then
//! another connection finds out what it is (see [`kavka_core::link::Greeting`]).

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use kavka_core::config::show_server;
use kavka_core::error::{Error, ErrorKind, Phase, Place, Result};
use kavka_core::link::{ApiVersions, Connection, ConnectionConfig, Greeting, Snub};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::connection_config;
use super::network::{Stream, dial, in_turn};
use super::sasl::{Attempt, Identity};
use super::transfer::{last_words, read_once, write_output};
use super::{ConnectionKey, Switchboard, old_brokers};

/// How long the question for the versions is waited for after a probe has found an old broker.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// A way to connect to one broker.
struct Greeter<'a> {
    shared: &'a Switchboard,
    host: &'a str,
    port: u16,
    address: SocketAddr,
    config: &'a ConnectionConfig,
    key: ConnectionKey,
    /// Who the client is, with SASL. A broker that has SASL for every client has `ApiVersions`, and is not probed.
    identity: Option<&'a Identity>,
    /// Whether a TLS handshake is under way.
    is_in_tls: &'a AtomicBool,
}

type Opened = (Connection, Box<dyn Stream>);

/// Why a connection was not set up, and the way to try next if the broker hung up.
type Failed = (Error, Option<Greeting>);

/// Sets up a connection, with authentication, within `socket.connection.setup.timeout.ms`.
pub(super) async fn set_up(shared: &Switchboard, key: ConnectionKey) -> Result<(Connection, Box<dyn Stream>)> {
    let (host, port) = shared.address(key)?;
    let place =
        Place { address: Some(show_server(&host, port).into()), broker_id: key.broker_id(), ..Place::default() };
    let config = connection_config(shared, key, place.clone());
    let limit = shared.config.connection_setup_timeout;
    let identity = match &shared.sasl {
        Some(sasl) => Some(shared.not_for_the_broker(key, sasl.identity(false)).await?),
        None => None,
    };
    let refusals = || shared.sasl.as_ref().map(|sasl| sasl.refusals());
    let (deadline, refusals_before) = (Instant::now() + limit, refusals());
    let mut last_error = None::<Error>;
    let is_in_tls = AtomicBool::new(false);
    let timed_out = || set_up_timed_out(&place, is_in_tls.load(Ordering::Relaxed));
    let trying = async {
        let addresses = shared.not_for_the_broker(key, resolve(shared, &host, port, deadline)).await;
        let addresses = addresses.map_err(|error| error.at(place.clone()))?;
        for (address, share) in in_turn(addresses, deadline) {
            let greeter = Greeter {
                shared,
                host: &host,
                port,
                address,
                config: &config,
                key,
                identity: identity.as_ref(),
                is_in_tls: &is_in_tls,
            };
            match timeout(share, greeter.greet()).await.unwrap_or_else(|_| Err(timed_out())) {
                Ok(opened) => return Ok(opened),
                // Behind every address is the same cluster, which may lock the account after a few more attempts.
                Err(error) if error.kind() == ErrorKind::Authentication && refusals() != refusals_before => {
                    return Err(error);
                }
                // That one address was refused says more than that another one cannot be reached.
                Err(error) => {
                    last_error =
                        last_error.take().filter(|last| last.kind() == ErrorKind::Authentication).or(Some(error));
                }
            }
        }
        let none = || Error::new(ErrorKind::Disconnected, "the broker's name has no address").at(place.clone());
        Err(last_error.clone().unwrap_or_else(none))
    };
    match timeout_at(deadline, trying).await {
        Ok(opened) => opened,
        Err(_) => Err(last_error.unwrap_or_else(timed_out)),
    }
}

/// All addresses of a broker's name.
async fn resolve(shared: &Switchboard, host: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>> {
    let failed = |what| Error::new(ErrorKind::Disconnected, what);
    match timeout_at(deadline, shared.network.resolve(host, port)).await {
        Ok(resolved) => resolved.map_err(|cause| failed("the broker's name cannot be resolved").with_source(cause)),
        Err(_) => Err(failed("the broker's name was not resolved in time").with_hint(
            "the name service does not answer within socket.connection.setup.timeout.ms: can this machine reach it?",
        )),
    }
}

fn set_up_timed_out(place: &Place, is_in_tls: bool) -> Error {
    let (what, hint) = if is_in_tls {
        ("no answer to the TLS handshake", "is the port that of a TLS listener? otherwise correct security.protocol")
    } else {
        let hint = "the peer accepts connections but says nothing, or packets to it are lost: is it a Kafka broker?";
        ("no answer", hint)
    };
    Error::new(ErrorKind::TimedOut(Phase::Connect), format!("{what} while {}", Phase::Connect))
        .at(place.clone())
        .with_hint(hint)
}

impl Greeter<'_> {
    /// Connects, and again in another way if the broker treats the connection like one does that has no `ApiVersions`.
    pub(super) async fn greet(&self) -> Result<Opened> {
        let known = match self.identity {
            Some(_) => Greeting::Versions,
            None => self.shared.lock().old_brokers.greeting(self.key.endpoint),
        };
        let (mut greeting, mut first_error) = (known, None);
        loop {
            let outcome = match greeting {
                Greeting::Versions => self.ask_or_probe().await,
                Greeting::Probe(_) | Greeting::Old(_) => self.shake_hands(greeting, None).await,
            };
            let (error, next) = match outcome {
                Ok(opened) => {
                    old_brokers::note(self.shared, self.key.endpoint, &opened.0, &self.config.place);
                    return Ok(opened);
                }
                Err(failed) => failed,
            };
            let error = first_error.get_or_insert(error).clone();
            let (now, next) = (self.shared.now(), next.filter(|next| *next != greeting));
            let old_brokers = &mut self.shared.lock().old_brokers;
            let Some(next) = next.filter(|next| old_brokers.may_begin(now, self.key.endpoint, *next)) else {
                // It may come back with another version.
                old_brokers.forget(self.key.endpoint);
                return Err(error);
            };
            greeting = next;
        }
    }

    /// Asks for the broker's versions. If there is no answer for a while, probes it on a second connection. If that one
    /// says that the broker is old, the first one has a last chance to prove the opposite: its packets may only be
    /// late.
    async fn ask_or_probe(&self) -> std::result::Result<Opened, Failed> {
        let (dialled, is_dialled) = oneshot::channel();
        let patience = self.shared.lock().old_brokers.patience(self.key.endpoint);
        let probing = async {
            if is_dialled.await.is_err() || self.identity.is_some() {
                return None;
            }
            tokio::time::sleep(patience).await;
            Some(self.shake_hands(self.other_greeting().await, None).await)
        };
        let mut asking = std::pin::pin!(self.shake_hands(Greeting::Versions, Some(dialled)));
        tokio::select! {
            biased;
            asked = &mut asking => return asked,
            probed = probing => match probed {
                Some(Ok(opened)) if !opened.0.versions().is_some_and(ApiVersions::is_assumed) => return Ok(opened),
                Some(Ok(opened)) => {
                    let asked = timeout(LAST_CHANCE, asking).await;
                    return asked.ok().and_then(std::result::Result::ok).map_or(Ok(opened), Ok);
                }
                Some(Err((error, Some(next @ Greeting::Old(_))))) => return Err((error, Some(next))),
                Some(Err(_)) | None => {}
            },
        }
        asking.await
    }

    /// How to begin beside a connection on which the broker is silent. Only one connection at a time probes it; others
    /// wait for what that finds out.
    async fn other_greeting(&self) -> Greeting {
        let mut opened = self.shared.dialled.subscribe();
        let probe = Greeting::Probe(Snub::Silent);
        loop {
            let now = self.shared.now();
            {
                let old_brokers = &mut self.shared.lock().old_brokers;
                let known = old_brokers.greeting(self.key.endpoint);
                if known != Greeting::Versions {
                    return known;
                }
                if old_brokers.may_begin(now, self.key.endpoint, probe) {
                    return probe;
                }
            }
            // The sender lives as long as `shared`, so this ends with a change or with the time-out.
            drop(timeout(old_brokers::PROBE_AGAIN, opened.changed()).await);
        }
    }

    /// Connects in one way. Tells `dialled` when the handshake begins.
    async fn shake_hands(
        &self,
        greeting: Greeting,
        dialled: Option<oneshot::Sender<()>>,
    ) -> std::result::Result<Opened, Failed> {
        let (shared, place) = (self.shared, &self.config.place);
        // An earlier attempt may have been given up in the middle.
        self.is_in_tls.store(false, Ordering::Relaxed);
        let failed = |error| (error, None);
        let mut stream = dial(shared.network.as_ref(), self.host, self.address).await.map_err(|cause| {
            let error = Error::new(ErrorKind::Disconnected, "the broker cannot be reached");
            failed(error.at(place.clone()).with_source(cause))
        })?;
        if let Some(tls) = &shared.tls {
            let ready = shared.not_for_the_broker(self.key, tls.ready(shared.now())).await;
            self.is_in_tls.store(true, Ordering::Relaxed);
            let secured = ready.shake_hands(self.host, stream, &self.place_with_address()).await;
            self.is_in_tls.store(false, Ordering::Relaxed);
            stream = secured.map_err(failed)?;
        }
        if let Some(dialled) = dialled {
            // Nobody listens any more if the probe has come first.
            let _ = dialled.send(());
        }
        let config = ConnectionConfig { greeting, ..self.config.clone() };
        let credentials = self.identity.map(|identity| identity.credentials(self.host)).transpose().map_err(failed)?;
        let mut connection = Connection::new(config, credentials, shared.read_pool.clone()).map_err(failed)?;
        let mut attempt = None;
        let done = self.get_ready(&mut connection, &mut stream, &mut attempt).await;
        if let Some(attempt) = attempt {
            attempt.end(shared.now(), done.as_ref().err().and_then(|error| connection.refusal(error)));
        }
        match done {
            Ok(()) => Ok((connection, stream)),
            Err(error) => {
                let next = connection.after_hang_up().filter(|_| error.kind() == ErrorKind::Disconnected);
                Err((error, next))
            }
        }
    }

    /// The place with the IP address that is dialled: perhaps only one address of a name leads to the wrong machine.
    fn place_with_address(&self) -> Place {
        match &self.config.place.address {
            Some(name) if self.host.parse::<IpAddr>().is_err() => {
                let address = Some(format!("{name} ({})", self.address.ip()).into());
                Place { address, ..self.config.place.clone() }
            }
            _ => self.config.place.clone(),
        }
    }

    /// Goes through the handshake of a new connection.
    async fn get_ready(
        &self,
        connection: &mut Connection,
        stream: &mut Box<dyn Stream>,
        attempt: &mut Option<Attempt>,
    ) -> Result<()> {
        let mut answers = Vec::new();
        while !connection.is_ready() {
            if let (Some(sasl), Some(work)) = (&self.shared.sasl, connection.poll_work()) {
                let step = sasl.step(self.shared, || Ok((self.host.into(), self.port)), work, attempt);
                let worked = self.shared.not_for_the_broker(self.key, step).await?;
                connection.handle_worked(self.shared.now(), worked)?;
                continue;
            }
            poll_fn(|context| {
                let now = self.shared.now();
                if let Err(failed) = write_output(now, connection, stream, context) {
                    return Poll::Ready(Err(last_words(now, connection, stream, &mut answers, context, failed)));
                }
                read_once(now, connection, stream, &mut answers, context)
            })
            .await?;
        }
        Ok(())
    }
}
