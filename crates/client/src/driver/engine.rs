//! Starts and ends the engine thread.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kavka_core::config::{ClientConfig, show_server};
use kavka_core::error::{Error, ErrorKind, Phase, Place, Result};
use kavka_core::wire::ApiKey;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::role;

use super::tls::Peer;
use super::{ConnectionKey, Driver, Network, Sasl, Switchboard, Tls, WireTap};

/// Keeps the engine thread running; it ends when the last one is dropped.
#[derive(Debug)]
pub(crate) struct Alive {
    _stop: oneshot::Sender<()>,
}

impl Driver {
    /// Starts an engine thread.
    pub(crate) fn start(
        config: ClientConfig,
        network: Arc<dyn Network>,
        tap: Option<WireTap>,
        seed: u64,
    ) -> Result<(Self, Arc<Alive>)> {
        config.validate()?;
        let security = config.security()?;
        if let Some(sasl) = security.sasl.as_ref().filter(|sasl| sasl.sends_secret() && security.tls.is_none()) {
            log::warn!(
                "SASL {} without TLS: everybody on the network can read the credentials, and use them; set \
                 security.protocol to SASL_SSL",
                sasl.mechanism()
            );
        }
        let limit = config.connection_setup_timeout;
        let sasl =
            security.sasl.map(|settings| Sasl::new(settings, security.tls.as_ref(), &network, limit)).transpose()?;
        let tls = security.tls.map(|tls| Tls::new(tls, Peer::Broker)).transpose()?.map(Arc::new);
        let cannot =
            |what: &str, cause| Error::new(ErrorKind::System, format!("{what} cannot be started")).with_source(cause);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(16)
            .build()
            .map_err(|cause| cannot("the engine", cause))?;
        let shared = Arc::new(Switchboard::new(config, network, tls, tap, seed).with_sasl(sasl));
        let driver = Self { shared, runtime: runtime.handle().clone() };
        let (stop, stopped) = oneshot::channel::<()>();
        driver.spawn(role::start(Arc::new(driver.clone())));
        let shared = Arc::clone(&driver.shared);
        thread::Builder::new()
            .name("kavka".into())
            .spawn(move || {
                drop(runtime.block_on(stopped));
                // Breaks a cycle: connections hold the shared state, which holds their mailboxes.
                shared.lock().connections.clear();
                runtime.shutdown_background();
            })
            .map_err(|cause| cannot("the engine thread", cause))?;
        Ok((driver, Arc::new(Alive { _stop: stop })))
    }

    /// How long to wait for the response of one broker when any broker could answer, after this many failures in a row.
    pub(super) fn patience(&self, failures: u32) -> Duration {
        let candidates = self.shared.lock().candidates();
        // With only one broker to ask, the limits of its connection and its request apply, and their errors say which
        // it was.
        let config = self.config();
        patience(failures, candidates, config.connection_setup_timeout.saturating_add(config.request_timeout))
    }

    /// Waits for a response that any broker could give. A broker that fails or stays silent comes last next time.
    pub(super) async fn answer_within<T>(
        &self,
        key: ConnectionKey,
        api: ApiKey,
        limit: Duration,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let answer = self.within(limit, answer).await.unwrap_or_else(|| Err(self.no_answer_from(key, api, limit)));
        if answer.is_err() {
            self.shared.lock().route.pass_over(self.now(), key.endpoint);
        }
        answer
    }

    fn no_answer_from(&self, key: ConnectionKey, api: ApiKey, limit: Duration) -> Error {
        // Perhaps nothing was sent: a broker that was unreachable a moment ago is not dialled again at once.
        if let Some(away) = self.shared.lock().unreachable.get(&key.endpoint) {
            return away.error.clone();
        }
        let address = self.shared.address(key).ok().map(|(host, port)| show_server(&host, port).into());
        let place = Place { broker_id: key.broker_id(), address, ..Place::default() };
        if let Some(waiting) = self.shared.sasl.as_ref().and_then(|sasl| sasl.why_waiting()) {
            return waiting.at(place);
        }
        Error::new(
            ErrorKind::TimedOut(Phase::Request),
            format!("no answer to {} within {} s", api.name(), limit.as_secs()),
        )
        .at(place)
        .with_hint("the peer accepts connections but does not answer: is it frozen, overloaded, or not a Kafka broker?")
    }
}

/// How many threads can run at once on this machine.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A broker that stays silent this long is passed over while others can be asked.
const SILENCE: Duration = Duration::from_secs(5);

/// How long to wait for one broker's response. Grows each time all brokers have been asked without success; otherwise
/// brokers that are merely slow would never be heard.
fn patience(failures: u32, candidates: usize, most: Duration) -> Duration {
    if candidates <= 1 {
        return most;
    }
    let rounds = failures / u32::try_from(candidates).unwrap_or(u32::MAX);
    SILENCE.saturating_mul(1 << rounds.min(16)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_broker_is_passed_over_soon_but_slow_ones_are_heard_in_the_end() {
        let limit = Duration::from_secs(30);
        let waits = [0, 3, 4, 8, 12, u32::MAX].map(|failures| patience(failures, 4, limit).as_secs());
        assert_eq!(waits, [5, 5, 10, 20, 30, 30]);
        assert_eq!(patience(0, 1, limit), limit, "there is nobody else");
        assert_eq!(patience(0, 4, Duration::from_secs(1)).as_secs(), 1);
    }
}
