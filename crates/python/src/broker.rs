//! The embedded broker, for `pykafka.testing`.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use kavka::wire::ErrorCode;
use kavka_broker::serve::{self, Options, Tls};
use kavka_broker::{ClusterConfig, Fault, KafkaVersion, Sasl, SaslMechanism};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::cell::Slot;
use crate::process::ForkGuard;

/// An embedded cluster that listens on loopback ports.
#[pyclass(frozen, module = "pykafka._engine")]
pub(crate) struct Broker {
    served: Slot<Arc<ForkGuard<serve::Broker>>>,
    bootstrap_servers: String,
    certificates: Option<[String; 3]>,
}

/// The password of each user, the names of the mechanisms if not all, and how long a session lasts in milliseconds.
type SaslArguments = (BTreeMap<String, String>, Option<Vec<String>>, Option<u64>);

#[pymethods]
impl Broker {
    #[new]
    fn new(
        py: Python<'_>,
        brokers: u16,
        partitions: i32,
        ports: Vec<u16>,
        client_certificates: Option<bool>,
        sasl: Option<SaslArguments>,
        version: Option<&str>,
    ) -> PyResult<Self> {
        let version = version.map_or_else(|| Ok(KafkaVersion::default()), str::parse);
        let kafka_version = version.map_err(|error| PyValueError::new_err(error.to_string()))?;
        let sasl = sasl.map(self::sasl).transpose()?;
        let tls = client_certificates.map(|client_certificates| Tls { client_certificates });
        let cluster =
            ClusterConfig { kafka_version, brokers, default_partitions: partitions, sasl, ..ClusterConfig::default() };
        let started = py.detach(|| serve::Broker::start(Options { cluster, ports, tls }));
        let served = started.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => PyValueError::new_err(error.to_string()),
            _ => PyOSError::new_err(format!("the embedded broker cannot listen: {error}")),
        })?;
        let bootstrap_servers = served.bootstrap_servers();
        let certificates =
            served.certificates().map(|all| [&all.authority, &all.client, &all.client_key].map(Clone::clone));
        let slot = Slot::default();
        slot.replace(Some(Arc::new(ForkGuard::new(served))));
        Ok(Self { served: slot, bootstrap_servers, certificates })
    }

    /// The addresses of its brokers, as `bootstrap.servers` takes them.
    #[getter]
    fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// The certificate of the authority, a client's certificate and its key, in PEM; `None` without TLS.
    #[getter]
    fn certificates(&self) -> Option<(&str, &str, &str)> {
        self.certificates.as_ref().map(|[authority, client, key]| (&**authority, &**client, &**key))
    }

    /// Sets a user's password.
    fn set_password(&self, py: Python<'_>, user: &str, password: &str) -> PyResult<()> {
        self.with(py, |broker| broker.with(|cluster, _| cluster.set_password(user, password)))
    }

    /// Creates a topic.
    fn create_topic(&self, py: Python<'_>, name: &str, partitions: i32, replication_factor: i16) -> PyResult<()> {
        let refused = |code: ErrorCode| PyValueError::new_err(format!("topic {name:?} was not created: {code}"));
        self.with(py, |broker| {
            broker.with(|cluster, _| cluster.create_topic(name, partitions, replication_factor)).map_err(refused)
        })?
    }

    /// Stops a broker: closes its connections, refuses new ones, and moves its partitions to other leaders.
    fn set_broker_down(&self, py: Python<'_>, broker_id: i32) -> PyResult<()> {
        self.with(py, |broker| broker.set_broker_down(broker_id))
    }

    /// Starts a stopped broker again, on its old port.
    fn set_broker_up(&self, py: Python<'_>, broker_id: i32) -> PyResult<()> {
        self.with(py, |broker| broker.set_broker_up(broker_id))
    }

    /// Answers the next `times` produce requests with an error code, without executing them.
    fn refuse_produce(&self, py: Python<'_>, code: i16, times: u32) -> PyResult<()> {
        let fault = Fault::fail(ErrorCode(code)).api(kavka::wire::ApiKey::Produce).times(times);
        self.with(py, |broker| broker.inject(fault))
    }

    /// Answers the next `times` offset commits with an error code, without executing them.
    fn refuse_commits(&self, py: Python<'_>, code: i16, times: u32) -> PyResult<()> {
        let fault = Fault::fail(ErrorCode(code)).api(kavka::wire::ApiKey::OffsetCommit).times(times);
        self.with(py, |broker| broker.inject(fault))
    }

    /// Reads requests but answers none, until [`Self::heal`].
    fn silence(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |broker| broker.inject(Fault::silence().always()))
    }

    /// Delays every response, until [`Self::heal`].
    fn delay(&self, py: Python<'_>, milliseconds: u64) -> PyResult<()> {
        self.with(py, |broker| broker.inject(Fault::delay(Duration::from_millis(milliseconds)).always()))
    }

    /// Removes all faults, and closes the connections on which a request was left without an answer.
    fn heal(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |broker| broker.with(|cluster, _| cluster.heal()))
    }

    /// Stops the cluster; does nothing if it is stopped.
    fn stop(&self, py: Python<'_>) {
        let served = self.served.replace(None);
        py.detach(|| drop(served));
    }
}

impl Broker {
    fn with<T: Send>(&self, py: Python<'_>, act: impl FnOnce(&serve::Broker) -> T + Send) -> PyResult<T> {
        let served = self.served.get().ok_or_else(|| PyRuntimeError::new_err("the embedded broker is stopped"))?;
        let served = served.check(py)?;
        Ok(py.detach(|| act(served)))
    }
}

/// Without the client's key.
impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("served", &self.served).finish_non_exhaustive()
    }
}

fn mechanism(name: &str) -> PyResult<SaslMechanism> {
    SaslMechanism::from_name(name).ok_or_else(|| {
        let names = SaslMechanism::ALL.map(SaslMechanism::name).join(", ");
        PyValueError::new_err(format!("the embedded broker has no mechanism {name:?}; it has {names}"))
    })
}

/// The settings of a cluster whose clients must authenticate.
fn sasl((passwords, mechanisms, session_ms): SaslArguments) -> PyResult<Sasl> {
    let mut sasl = Sasl { passwords, max_session: session_ms.map(Duration::from_millis), ..Sasl::default() };
    if let Some(names) = mechanisms {
        sasl.mechanisms = names.iter().map(|name| mechanism(name)).collect::<PyResult<_>>()?;
    }
    Ok(sasl)
}
