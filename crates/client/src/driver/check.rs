//! Checks whether a broker that is silent on one connection answers on another one.

use std::sync::Arc;
use std::time::Duration;

use kavka_core::cluster::{Call, Endpoint, Owner, Target};
use kavka_core::error::{Error, ErrorKind};
use kavka_core::time::Instant;
use kavka_core::wire::messages::ListOffsetsRequest;
use tokio::runtime::Handle;

use super::{BoxFuture, ConnectionKey, Driver, Switchboard};

/// For how long a broker that refused a connection for checks is not checked again: with a password that is no longer
/// right, each attempt counts towards locking the account.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// The checks of one broker. They share a connection.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// How many there are.
    running: usize,
    /// Since when their connection has waited for the broker; `None` while it waits for something else.
    silent_since: Option<Instant>,
    /// Until when there are to be no more.
    paused_until: Instant,
}

/// Counts a check until it ends.
struct Running(Arc<Switchboard>, Endpoint);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(checks) = self.0.lock().checks.get_mut(&self.1) {
            checks.running -= 1;
        }
    }
}

impl Switchboard {
    /// Asks a broker for something that it answers at once, on a connection where nothing else waits. Returns false if
    /// the broker is silent for `limit`. What this client waits for on its own account does not count, nor does a
    /// connection that cannot be made for another reason, because of a name that is not resolved or because there are
    /// too many connections: that says nothing about the connections that exist. Must be called on the engine thread.
    pub(super) fn check(self: &Arc<Self>, endpoint: Endpoint, limit: Duration) -> BoxFuture<'static, bool> {
        let now = self.now();
        let running = {
            let mut state = self.lock();
            let checks =
                state.checks.entry(endpoint).or_insert_with(|| Checks { silent_since: Some(now), ..Checks::default() });
            if checks.paused_until > now {
                return Box::pin(async { true });
            }
            if checks.running == 0 && checks.silent_since.is_some() {
                checks.silent_since = Some(now);
            }
            checks.running += 1;
            Running(Arc::clone(self), endpoint)
        };
        let driver = Driver { shared: Arc::clone(self), runtime: Handle::current() };
        // Every broker has this API, and there is nothing to look up.
        let nothing = Call::new(Target::Any, ListOffsetsRequest::default());
        let call = Call { owner: Owner::Check, timeout: Some(limit), may_fail_early: false, ..nothing };
        let answer = driver.begin(endpoint, call);
        Box::pin(async move {
            let Running(shared, _) = &running;
            let mut answer = std::pin::pin!(answer);
            let mut wait = limit;
            loop {
                match driver.within(wait, &mut answer).await {
                    Some(Ok(_)) => {
                        shared.note_check(ConnectionKey { owner: Owner::Check, endpoint }, Some(shared.now()));
                        return true;
                    }
                    Some(Err(error)) if !matches!(error.kind(), ErrorKind::TimedOut(_)) => return true,
                    // It may have been dialled at the last moment only.
                    Some(Err(_)) => return shared.silence_of_check(endpoint) < limit / 3,
                    None => {}
                }
                wait = limit.saturating_sub(shared.silence_of_check(endpoint));
                if wait.is_zero() {
                    return false;
                }
            }
        })
    }

    /// A connection for checks could not be made. That is a failure of the broker only if it was silent.
    pub(super) fn handle_unmade_check(&self, key: ConnectionKey, error: &Error) {
        if matches!(error.kind(), ErrorKind::TimedOut(_)) {
            return self.handle_unreachable(key, error);
        }
        let now = self.now();
        let mut state = self.lock();
        if let Some(checks) = state.checks.get_mut(&key.endpoint) {
            checks.paused_until = now + REFUSED_PAUSE;
        }
        // Lets others dial.
        state.route.handle_opened(now, key.endpoint);
        drop(state);
        self.dialled.send_replace(());
    }

    /// Waits for something that is not an answer of the broker: permission, a name, credentials.
    pub(super) async fn not_for_the_broker<T>(&self, key: ConnectionKey, waiting: impl Future<Output = T>) -> T {
        self.note_check(key, None);
        let outcome = waiting.await;
        self.note_check(key, Some(self.now()));
        outcome
    }

    /// Notes since when a connection, if it is one for checks, has waited for its broker.
    pub(super) fn note_check(&self, key: ConnectionKey, silent_since: Option<Instant>) {
        if key.owner == Owner::Check {
            self.lock().checks.entry(key.endpoint).or_default().silent_since = silent_since;
        }
    }

    /// How long the broker has been silent on the connection for checks, if anybody waits for it there.
    fn silence_of_check(&self, endpoint: Endpoint) -> Duration {
        let since = self.lock().checks.get(&endpoint).and_then(|checks| checks.silent_since);
        since.map_or(Duration::ZERO, |since| self.now().since(since))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kavka_broker::Fault;
    use kavka_broker::serve::{Broker, Options};
    use kavka_core::config::{ClientConfig, Login, Sasl as Settings};
    use kavka_core::error::Result;
    use kavka_core::wire::ApiKey;
    use tokio::time::sleep;

    use super::super::sasl::Sasl;
    use super::super::{Network, Stream, Tcp};
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);
    const LONGER: Duration = Duration::from_secs(3);
    const SHORTER: Duration = Duration::from_millis(1_200);

    /// A network on which a name is found after a while, and nobody answers there.
    struct Mute {
        resolved_in: Duration,
        dial: io::ErrorKind,
    }

    impl Network for Mute {
        fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            Box::pin(async move {
                sleep(self.resolved_in).await;
                Ok(vec![([127, 0, 0, 1], port).into()])
            })
        }

        fn dial<'a>(&'a self, _host: &'a str, _address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
            Box::pin(async {
                match self.dial {
                    io::ErrorKind::TimedOut => pending().await,
                    kind => Err(kind.into()),
                }
            })
        }
    }

    /// Counts dials, and refuses them.
    struct Refusing(Arc<AtomicUsize>);

    impl Network for Refusing {
        fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) })
        }

        fn dial<'a>(&'a self, _host: &'a str, _address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
        }
    }

    fn check(config: ClientConfig, network: impl Network, login: Option<Login>) -> bool {
        let network: Arc<dyn Network> = Arc::new(network);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sasl = login.map(|login| Sasl::new(Settings::Plain(login), None, &network, LIMIT).unwrap());
        let shared = Arc::new(Switchboard::new(config, network, None, None, 1).with_sasl(sasl));
        runtime.block_on(async { shared.check(Endpoint::Bootstrap(0), LIMIT).await })
    }

    fn config() -> ClientConfig {
        ClientConfig::default().bootstrap_servers(vec![("kafka".into(), 9092)])
    }

    #[test]
    fn a_broker_that_cannot_be_reached_is_dead_and_one_that_refuses_is_not() {
        for (dial, is_alive) in [(io::ErrorKind::TimedOut, false), (io::ErrorKind::ConnectionRefused, true)] {
            let network = Mute { resolved_in: Duration::ZERO, dial };
            assert_eq!(check(config(), network, None), is_alive, "{dial:?}");
        }
    }

    #[test]
    fn a_broker_is_not_dead_because_its_name_is_not_resolved() {
        let network = || Mute { resolved_in: LONGER, dial: io::ErrorKind::ConnectionRefused };
        assert!(check(config(), network(), None));
        assert!(
            check(config().connection_setup_timeout(LIMIT), network(), None),
            "the time for the set-up is over, too"
        );
    }

    #[test]
    fn a_broker_is_not_dead_because_the_credentials_are_late() {
        let network = Mute { resolved_in: Duration::ZERO, dial: io::ErrorKind::ConnectionRefused };
        let late = Login::from_fn(|| -> Result<_> {
            std::thread::sleep(LONGER);
            Err(Error::new(ErrorKind::Authentication, "the vault is sealed"))
        });
        assert!(check(config(), network, Some(late)));
    }

    #[test]
    fn a_broker_that_refuses_is_not_lost_and_not_checked_again_at_once() {
        let dials = Arc::new(AtomicUsize::new(0));
        let network: Arc<dyn Network> = Arc::new(Refusing(Arc::clone(&dials)));
        let shared = Arc::new(Switchboard::new(config(), network, None, None, 1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for _ in 0..3 {
            assert!(runtime.block_on(async { shared.check(Endpoint::Bootstrap(0), LIMIT).await }));
        }
        assert_eq!((dials.load(Ordering::SeqCst), shared.lock().unreachable.len()), (1, 0));
    }

    #[test]
    fn checks_of_one_broker_share_its_silence() {
        let network: Arc<dyn Network> = Arc::new(Mute { resolved_in: Duration::ZERO, dial: io::ErrorKind::TimedOut });
        let shared = Arc::new(Switchboard::new(config(), network, None, None, 1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::Bootstrap(0);
        let (silence, dead) = runtime.block_on(async {
            let first = tokio::spawn(shared.check(endpoint, LIMIT));
            sleep(SHORTER).await;
            let second = tokio::spawn(shared.check(endpoint, LIMIT));
            let silence = shared.silence_of_check(endpoint);
            (silence, [!first.await.unwrap(), !second.await.unwrap()])
        });
        assert!(silence >= SHORTER, "the second one does not postpone the verdict: {silence:?}");
        assert_eq!(dead, [true, true]);
        assert_eq!(shared.lock().checks[&endpoint].running, 0);
    }

    #[test]
    fn a_broker_that_needs_its_time_for_the_handshake_and_for_the_answer_is_alive() {
        let broker = Broker::start(Options::default()).unwrap();
        let servers = kavka_core::config::parse_bootstrap_servers(&broker.bootstrap_servers()).unwrap();
        for api in [ApiKey::ApiVersions, ApiKey::ListOffsets] {
            broker.inject(Fault::delay(SHORTER).api(api).times(1));
        }
        assert!(check(ClientConfig::default().bootstrap_servers(servers), Tcp::default(), None));
        assert_eq!(broker.with(|cluster, _| cluster.faults().injected()), 2);
    }
}
