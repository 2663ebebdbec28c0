//! `kavka broker`: the embedded broker as a process of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};

use kavka_broker::serve::{Broker, Options, Tls};
use kavka_broker::{ClusterConfig, Sasl};

use crate::arguments::{BrokerArguments, user};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::signals;

/// The replication factor of a topic created without one, if there are that many brokers.
const DEFAULT_REPLICATION_FACTOR: u16 = 3;

/// Serves until Ctrl-C or SIGTERM, which is its normal end.
pub(crate) fn run(cluster: &Cluster, arguments: &BrokerArguments) -> Result<(), Failure> {
    if *cluster != Cluster::default() {
        let sentence =
            "the broker is a cluster of its own: --bootstrap-server, --property and the like are for its clients";
        return Err(Failure::usage(sentence));
    }
    let signals = signals::listen()?;
    let cluster = ClusterConfig {
        kafka_version: arguments.kafka_version,
        brokers: arguments.brokers,
        default_partitions: arguments.partitions,
        default_replication_factor: arguments.brokers.min(DEFAULT_REPLICATION_FACTOR).cast_signed(),
        sasl: sasl(arguments)?,
        ..ClusterConfig::default()
    };
    let tls = arguments.tls.is_some().then(Tls::default);
    let broker = Broker::start(Options { cluster, ports: ports(arguments)?, tls }).map_err(|error| {
        if error.kind() == io::ErrorKind::InvalidInput {
            return Failure::usage(format!("{error}; choose another --kafka-version"));
        }
        let port = arguments.port;
        Failure::new(format!("cannot listen: 127.0.0.1:{port}; {error}; choose another --port, or 0 for a free one"))
    })?;
    if let Some((file, certificates)) = arguments.tls.as_ref().zip(broker.certificates()) {
        std::fs::write(file, &certificates.authority)
            .map_err(|error| Failure::new(format!("cannot write the certificate: {}; {error}", file.display())))?;
    }
    // The parent may have closed our standard output; the broker serves all the same.
    drop(writeln!(io::stdout(), "kavka broker listening on {}", broker.bootstrap_servers()));
    signals::wait(signals);
    broker.stop();
    Ok(())
}

/// Who may use the cluster; `None` if anybody may.
fn sasl(arguments: &BrokerArguments) -> Result<Option<Sasl>, Failure> {
    let mut passwords = BTreeMap::new();
    for (name, password) in &arguments.users {
        if passwords.insert(name.clone(), password.clone()).is_some() {
            return Err(Failure::usage("two --user have the same name"));
        }
    }
    if let Some(path) = &arguments.users_file {
        let shown = path.display();
        let read = fs::read_to_string(path);
        let text = read.map_err(|error| Failure::usage(format!("cannot read {shown}: {error}")))?;
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty()) {
            let refused = |why: &str| Failure::usage(format!("{shown}: line {number}: {why}"));
            let (name, password) = user(line).map_err(|why| refused(&why))?;
            if passwords.insert(name, password).is_some() {
                return Err(refused("this name has come before"));
            }
        }
        // Without users, the broker would let everybody in.
        if passwords.is_empty() {
            return Err(Failure::usage(format!(
                "{shown}: it names no user; write one in each line, like alice:alice-secret"
            )));
        }
    }
    Ok((!passwords.is_empty()).then(|| Sasl { passwords, ..Sasl::default() }))
}

/// Consecutive ports, one for each broker; none if each may use any free port.
fn ports(arguments: &BrokerArguments) -> Result<Vec<u16>, Failure> {
    if arguments.port == 0 {
        return Ok(Vec::new());
    }
    let port = |number| arguments.port.checked_add(number);
    let ports: Option<Vec<u16>> = (0..arguments.brokers).map(port).collect();
    ports.ok_or_else(|| Failure::usage("--port is too high for this many --brokers; the last port is 65535"))
}
