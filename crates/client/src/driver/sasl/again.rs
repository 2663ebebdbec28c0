//! Authenticates an open connection again before its session ends (KIP-368).

use std::sync::Arc;
use std::task::{Context, Poll};

use kavka_core::error::{Error, Result};
use kavka_core::link::Connection;
use kavka_core::link::sasl::{Credentials, Worked};
use kavka_core::time::Instant;

use super::{Attempt, Sasl};
use crate::driver::{BoxFuture, ConnectionKey, Switchboard};

/// What is done on another thread for one connection.
pub(in crate::driver) struct Again {
    key: ConnectionKey,
    doing: Option<BoxFuture<'static, Done>>,
    attempt: Option<Attempt>,
}

enum Done {
    Credentials(Result<(Credentials, Attempt)>),
    Step(Result<Worked>, Option<Attempt>),
}

impl Again {
    /// For a connection to this broker.
    pub(in crate::driver) fn new(key: ConnectionKey) -> Self {
        Self { key, doing: None, attempt: None }
    }

    /// Goes on with the authentication, or begins it when it is time. Returns whether there is progress.
    ///
    /// While the credentials are fetched and the attempt waits for its turn, requests go on; only then does the
    /// connection pause. If either fails, the session goes on, and the connection asks again before it ends.
    pub(in crate::driver) fn poll(
        &mut self,
        shared: &Arc<Switchboard>,
        connection: &mut Connection,
        context: &mut Context<'_>,
    ) -> Result<bool> {
        let Some(sasl) = &shared.sasl else { return Ok(false) };
        let now = shared.now();
        let is_due = connection.poll_reauthentication(now);
        if self.doing.is_none() {
            let (sasl, shared, key) = (Arc::clone(sasl), Arc::clone(shared), self.key);
            if let Some(work) = connection.poll_work() {
                let mut attempt = self.attempt.take();
                self.doing = Some(Box::pin(async move {
                    let worked = sasl.step(&shared, || shared.address(key), work, &mut attempt).await;
                    Done::Step(worked, attempt)
                }));
            } else if is_due {
                self.doing = Some(Box::pin(async move { Done::Credentials(prepare(&sasl, &shared, key).await) }));
            }
        }
        let Some(Poll::Ready(done)) = self.doing.as_mut().map(|doing| doing.as_mut().poll(context)) else {
            return Ok(false);
        };
        self.doing = None;
        match done {
            Done::Credentials(Ok((credentials, attempt))) => {
                self.attempt = Some(attempt);
                connection.reauthenticate(now, credentials)?;
            }
            Done::Credentials(Err(error)) => {
                log::warn!("a connection cannot be authenticated again before its session ends: {error}");
            }
            Done::Step(worked, attempt) => {
                self.attempt = attempt;
                let worked = worked.map_err(|error| connection.unauthenticated(error))?;
                connection.handle_worked(now, worked)?;
                self.attempt.take_if(|_| connection.is_ready());
            }
        }
        Ok(true)
    }

    /// Notes that the connection has ended; with the refusal, if the credentials were refused.
    pub(in crate::driver) fn handle_end(&mut self, now: Instant, refusal: Option<Error>) {
        if let Some(attempt) = self.attempt.take() {
            attempt.end(now, refusal);
        }
    }
}

/// Gets the credentials, and then the right to present them.
async fn prepare(sasl: &Arc<Sasl>, shared: &Switchboard, key: ConnectionKey) -> Result<(Credentials, Attempt)> {
    let identity = sasl.identity(true).await?;
    let broker = shared.address(key)?;
    Ok((identity.credentials(&broker.0)?, sasl.begin_attempt(shared, broker).await?))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use kavka_core::cluster::{Endpoint, Owner};
    use kavka_core::config::{ClientConfig, Login, Sasl as Settings};
    use kavka_core::error::{ErrorKind, Place};
    use kavka_core::link::{ConnectionConfig, Greeting, ReadPool};
    use kavka_core::secret::Secret;
    use kavka_core::wire::api::encode_response;
    use kavka_core::wire::messages::api_versions::ApiVersion;
    use kavka_core::wire::messages::{
        ApiVersionsRequest, ApiVersionsResponse, SaslAuthenticateResponse, SaslHandshakeResponse,
    };
    use kavka_core::wire::{ApiKey, Message};

    use super::*;
    use crate::driver::network::{Network, Tcp};

    const KEY: ConnectionKey = ConnectionKey { owner: Owner::Control, endpoint: Endpoint::Bootstrap(0) };

    fn hear(connection: &mut Connection, key: ApiKey, version: i16, correlation_id: i32, message: &impl Message) {
        let frame = encode_response(key, version, correlation_id, message).unwrap().concat();
        connection.space()[..frame.len()].copy_from_slice(&frame);
        connection.handle_read(Instant(0), frame.len(), &mut Vec::new()).unwrap();
    }

    fn work(connection: &mut Connection) {
        let worked = connection.poll_work().unwrap().run();
        connection.handle_worked(Instant(0), worked).unwrap();
    }

    /// A connection that is authenticated, and must soon be so again.
    fn authenticated(credentials: Credentials) -> Connection {
        let config = ConnectionConfig {
            client_id: "test".into(),
            max_response_bytes: 1_000,
            place: Place::default(),
            has_spoken: false,
            greeting: Greeting::Versions,
            keeps_order: false,
            authentication_limit: Duration::from_secs(60),
            session_percent: 85,
        };
        let mut connection = Connection::new(config, Some(credentials), ReadPool::default()).unwrap();
        let api = |key: ApiKey, max_version| ApiVersion { api_key: key as i16, min_version: 0, max_version };
        let api_keys =
            vec![api(ApiKey::ApiVersions, 3), api(ApiKey::SaslHandshake, 1), api(ApiKey::SaslAuthenticate, 2)];
        let versions = ApiVersionsResponse { api_keys, ..Default::default() };
        hear(&mut connection, ApiKey::ApiVersions, ApiVersionsRequest::MAX_VERSION, 0, &versions);
        let offer = SaslHandshakeResponse { mechanisms: vec!["PLAIN".into()], ..Default::default() };
        hear(&mut connection, ApiKey::SaslHandshake, 1, 1, &offer);
        work(&mut connection);
        let accepted = SaslAuthenticateResponse { session_lifetime_ms: 1, ..Default::default() };
        hear(&mut connection, ApiKey::SaslAuthenticate, 2, 2, &accepted);
        work(&mut connection);
        assert!(connection.is_ready());
        connection
    }

    #[test]
    fn a_connection_that_may_not_try_again_yet_goes_on_with_its_session() {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let config = ClientConfig::default().bootstrap_servers(vec![("kafka".into(), 9092)]);
            let network: Arc<dyn Network> = Arc::new(Tcp::default());
            let settings = Settings::Plain(Login::new("alice", Secret::new("password")));
            let sasl = Sasl::new(settings, None, &network, Duration::from_secs(60)).unwrap();
            let shared = Switchboard::new(config, network, None, None, 1).with_sasl(Some(Arc::clone(&sasl)));
            let shared = Arc::new(shared);
            let credentials = sasl.identity(false).await.unwrap().credentials("kafka").unwrap();
            let mut connection = authenticated(credentials);
            let mut others = Vec::new();
            for number in 1..=3 {
                others.push(sasl.begin_attempt(&shared, (format!("kafka-{number}").into(), 9092)).await.unwrap());
            }
            let mut again = Again::new(KEY);
            // A connection asks for new credentials after a second at the earliest.
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            poll_fn(|context| Poll::Ready(again.poll(&shared, &mut connection, context))).await.unwrap();
            assert!(connection.is_ready(), "it waits for its turn");
            for other in others {
                other.end(shared.now(), Some(Error::new(ErrorKind::Authentication, "wrong")));
            }
            let ended = poll_fn(|context| match again.poll(&shared, &mut connection, context) {
                Ok(false) => Poll::Pending,
                other => Poll::Ready(other),
            });
            assert!(ended.await.unwrap());
            assert!(connection.is_ready(), "too many attempts were refused");
        });
    }
}
