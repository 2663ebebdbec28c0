//! Checks whether a broker that is silent on one connection answers on another one.

use std::sync::Arc;
use std::time::Duration;

use kavka_core::cluster::{Call, Endpoint, Owner, Target};
use kavka_core::error::ErrorKind;
use kavka_core::time::Instant;
use kavka_core::wire::messages::ListOffsetsRequest;
use tokio::runtime::Handle;

use super::{BoxFuture, ConnectionKey, Driver, Switchboard};

impl Switchboard {
    /// Asks a broker for something that it answers at once, on a connection where nothing else waits. Returns false if
    /// the broker is silent for `limit`. What this client waits for on its own account does not count, nor does a
    /// connection that cannot be made for another reason, because of a name that is not resolved or because there are
    /// too many connections: that says nothing about the connections that exist. Must be called on the engine thread.
    pub(super) fn check(self: &Arc<Self>, endpoint: Endpoint, limit: Duration) -> BoxFuture<'static, bool> {
        let driver = Driver { shared: Arc::clone(self), runtime: Handle::current() };
        let key = ConnectionKey { owner: Owner::Check, endpoint };
        // If the connection is being made, it may wait for something else than the broker.
        if self.lock().silent_checks.get(&endpoint).is_none_or(Option::is_some) {
            self.note_check(key, Some(self.now()));
        }
        // Every broker has this API, and there is nothing to look up.
        let nothing = Call::new(Target::Any, ListOffsetsRequest::default());
        let call = Call { owner: Owner::Check, timeout: Some(limit), may_fail_early: false, ..nothing };
        let answer = driver.begin(endpoint, call);
        Box::pin(async move {
            let mut answer = std::pin::pin!(answer);
            let mut wait = limit;
            loop {
                match driver.within(wait, &mut answer).await {
                    Some(Ok(_)) => return true,
                    Some(Err(error)) if !matches!(error.kind(), ErrorKind::TimedOut(_)) => return true,
                    Some(Err(_)) => return driver.shared.silence_of_check(endpoint).is_zero(),
                    None => {}
                }
                wait = limit.saturating_sub(driver.shared.silence_of_check(endpoint));
                if wait.is_zero() {
                    return false;
                }
            }
        })
    }

    /// Waits for something that is not an answer of the broker: permission, a name, credentials.
    pub(super) async fn not_for_the_broker<T>(&self, key: ConnectionKey, waiting: impl Future<Output = T>) -> T {
        self.note_check(key, None);
        let outcome = waiting.await;
        self.note_check(key, Some(self.now()));
        outcome
    }

    /// Notes since when a connection, if it is one for checks, waits for its broker.
    pub(super) fn note_check(&self, key: ConnectionKey, since: Option<Instant>) {
        if key.owner == Owner::Check {
            self.lock().silent_checks.insert(key.endpoint, since);
        }
    }

    /// How long the broker has been silent on the connection for checks, if anybody waits for it there.
    fn silence_of_check(&self, endpoint: Endpoint) -> Duration {
        let since = self.lock().silent_checks.get(&endpoint).copied().flatten();
        since.map_or(Duration::ZERO, |since| self.now().since(since))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io;
    use std::net::SocketAddr;

    use kavka_broker::Fault;
    use kavka_broker::serve::{Broker, Options};
    use kavka_core::config::{ClientConfig, Login, Sasl as Settings};
    use kavka_core::error::{Error, Result};
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
