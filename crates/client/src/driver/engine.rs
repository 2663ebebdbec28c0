//! The engine thread, from its first to its last breath.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kavka_core::cluster::Metadata;
use kavka_core::config::ClientConfig;
use kavka_core::error::{Error, ErrorKind, Phase, Place, Result};
use kavka_core::time::Instant;
use kavka_core::wire::messages::{MetadataRequest, MetadataResponse};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::{CallOptions, ConnectionKey, Driver, Network, Owner, Shared, Target, WireTap};

/// Keeps the engine thread alive: it ends when the last one is dropped.
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
        let cannot =
            |what: &str, cause| Error::new(ErrorKind::Misuse, format!("{what} cannot be started")).with_source(cause);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(16)
            .build()
            .map_err(|cause| cannot("the engine", cause))?;
        let driver =
            Self { shared: Arc::new(Shared::new(config, network, tap, seed)), runtime: runtime.handle().clone() };
        let (stop, stopped) = oneshot::channel::<()>();
        driver.spawn(keep_metadata(driver.clone()));
        let shared = Arc::clone(&driver.shared);
        thread::Builder::new()
            .name("kavka".into())
            .spawn(move || {
                drop(runtime.block_on(stopped));
                // Connections hold the shared state, which holds their mailboxes.
                shared.lock().connections.clear();
                runtime.shutdown_background();
            })
            .map_err(|cause| cannot("the engine thread", cause))?;
        Ok((driver, Arc::new(Alive { _stop: stop })))
    }

    async fn fetch_metadata(&self, now: Instant) -> Option<(bool, Arc<Metadata>)> {
        let request = self.shared.lock().refresh.poll_request(now)?;
        let answer = self.ask_any(request).await;
        let mut state = self.shared.lock();
        state.metadata_error = answer.as_ref().err().cloned();
        let changed = state.refresh.handle_response(self.now(), answer);
        Some((changed, Arc::clone(state.refresh.metadata())))
    }

    async fn ask_any(&self, request: MetadataRequest) -> Result<MetadataResponse> {
        let endpoint = self.endpoint(Target::Any)?;
        let others = self.shared.lock().has_other_endpoints();
        // Alone, it has the limits of its connection and of its request, whose errors say which it was.
        let config = self.config();
        let limit = if others { SILENCE } else { config.connection_setup_timeout + config.request_timeout };
        let answer = self.begin_at(endpoint, CallOptions::on(Owner::Control), request);
        let answer = timeout(limit, answer).await.unwrap_or_else(|_| {
            let address = self.shared.address(ConnectionKey { owner: Owner::Control, endpoint }).ok();
            let address = address.map(|(host, port)| format!("{host}:{port}").into());
            let place = Place { address, ..Place::default() };
            Err(Error::new(ErrorKind::TimedOut(Phase::Request), "no answer to a request for metadata").at(place))
        });
        if answer.is_err() {
            self.shared.lock().route.handle_failure(self.now(), endpoint);
        }
        answer
    }
}

/// A broker that is silent for this long while others could be asked is passed over.
const SILENCE: Duration = Duration::from_secs(5);

/// Asks for metadata whenever the machine wants it, for as long as the engine runs.
async fn keep_metadata(driver: Driver) {
    loop {
        if let Some((changed, metadata)) = driver.fetch_metadata(driver.now()).await {
            if changed {
                driver.shared.publish(metadata);
            }
            driver.shared.attempts.send_modify(|attempts| *attempts += 1);
        }
        let due = driver.shared.lock().refresh.poll_timeout();
        let wait = sleep(due.map_or(Duration::MAX, |due| due.since(driver.now())));
        tokio::select! {
            () = driver.shared.refresh_wanted.notified() => {}
            () = wait => {}
        }
    }
}
