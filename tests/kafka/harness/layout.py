"""The differences between Kafka's versions: Java options, server settings, classes of the tools.

Pure functions of a version; nothing here starts a program. A broker only warns about settings that its version does not
know, so one table of settings for a fast start serves all versions.
"""

import zipfile

from . import HarnessError, artifacts

# Newest first: the first one found in the jars is used.
_TOOL_CLASSES = {
    "console-producer": ["org.apache.kafka.tools.ConsoleProducer", "kafka.tools.ConsoleProducer"],
    "console-consumer": ["org.apache.kafka.tools.consumer.ConsoleConsumer", "kafka.tools.ConsoleConsumer"],
    "topics": ["org.apache.kafka.tools.TopicCommand", "kafka.admin.TopicCommand"],
    "configs": ["org.apache.kafka.tools.ConfigCommand", "kafka.admin.ConfigCommand"],
    "consumer-groups": [
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        "kafka.admin.ConsumerGroupCommand",
    ],
    "get-offsets": ["org.apache.kafka.tools.GetOffsetShell", "kafka.tools.GetOffsetShell"],
    "dump-log": ["org.apache.kafka.tools.DumpLogSegments", "kafka.tools.DumpLogSegments"],
    "jmx": ["org.apache.kafka.tools.JmxTool"],
}
_LOG4J = """\
log4j.rootLogger=INFO, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.target=System.err
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=[%d{HH:mm:ss,SSS}] %p %m (%c{1})%n
"""


def uses_zookeeper(version, asked):
    """Whether brokers of `version` run with ZooKeeper: because they must, or can and it was `asked` for."""
    if asked:
        check_zookeeper_mode(version)
    return asked or version < (3, 3)


def check_zookeeper_mode(version):
    """Raises an error if brokers of `version` cannot run with ZooKeeper."""
    if version >= (4, 0):
        raise HarnessError("Kafka 4.0 and later have no ZooKeeper mode; leave out --zookeeper, or use an older version")


def java(jars, version, heap_mib, directory, options=()):
    """The beginning of a command line that runs a class from the folder `jars`; its log goes to stderr.

    :param options: more options for Java, which override ours.
    """
    log4j = directory / "log4j.properties"
    log4j.write_text(_LOG4J)
    # Without the second compiler, brokers start in half the time, and starting is most of what tests do with them.
    command = [
        "java",
        f"-Xmx{heap_mib}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Djava.net.preferIPv4Stack=true",
    ]
    command += [f"-Dlog4j.configuration=file:{log4j}", "-Dzookeeper.jmx.log4j.disable=true"]
    command += ["-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss,SSS"]
    if version < (2, 0):
        for package in ("java.lang", "java.nio", "sun.nio.ch", "java.util"):
            command += ["--add-opens", f"java.base/{package}=ALL-UNNAMED"]
    return [*command, *options, "-cp", f"{jars}/*"]


def zookeeper_settings(port, directory):
    """The settings of a cluster's ZooKeeper server."""
    return {
        "dataDir": directory,
        "clientPort": port,
        "clientPortAddress": "127.0.0.1",
        "tickTime": 1000,
        "maxClientCnxns": 0,
        "admin.enableServer": "false",
        "4lw.commands.whitelist": "*",
    }


def fast_settings(version, brokers):
    """Settings with which a small cluster starts fast, notices faults fast, and never loses an acknowledged record."""
    replicas = min(3, brokers)
    in_sync = 2 if brokers >= 3 else 1
    settings = {
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "unclean.leader.election.enable": "false",
        "num.partitions": 1,
        "auto.create.topics.enable": "true",
        "delete.topic.enable": "true",
        "offsets.topic.num.partitions": 5,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.num.partitions": 3,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 3,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "replica.lag.time.max.ms": 4000,
        "log.cleaner.dedupe.buffer.size": 16 << 20,
    }
    if version >= (3, 7):
        settings["group.consumer.min.heartbeat.interval.ms"] = 1000
        settings["group.consumer.heartbeat.interval.ms"] = 1000
    if version >= (0, 9):
        # Tests write records with old timestamps, which must not expire. 0.8.2 uses the age of the file, and does not
        # know -1.
        settings["log.retention.ms"] = -1
    settings["broker.session.timeout.ms"] = _session_timeout_ms(brokers)
    settings["broker.heartbeat.interval.ms"] = _session_timeout_ms(brokers) // 6
    return settings


def zookeeper_broker_settings(version, broker, brokers, zookeeper_port):
    """The id and addresses of a broker that uses ZooKeeper."""
    settings = {
        "broker.id": broker.broker_id,
        "zookeeper.connect": f"127.0.0.1:{zookeeper_port}",
        "zookeeper.session.timeout.ms": _session_timeout_ms(len(brokers)),
        "log.dirs": broker.log_dir,
    }
    if version < (0, 9):
        settings |= {"host.name": "127.0.0.1", "port": broker.port}
        settings |= {"advertised.host.name": "127.0.0.1", "advertised.port": broker.port}
    else:
        settings["listeners"] = f"PLAINTEXT://127.0.0.1:{broker.port}"
    return settings


def kraft_broker_settings(broker, brokers):
    """The id and addresses of a combined broker and controller."""
    return {
        "process.roles": "broker,controller",
        "node.id": broker.broker_id,
        "controller.quorum.voters": ",".join(f"{each.broker_id}@127.0.0.1:{each.controller_port}" for each in brokers),
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{broker.port},CONTROLLER://127.0.0.1:{broker.controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker.port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": broker.log_dir,
    }


def add_proxied_listener(settings, port, proxy_port):
    """Adds a listener without TLS whose clients are told the proxy's port. The other brokers do not use it."""
    settings.setdefault("advertised.listeners", settings["listeners"])
    settings["listeners"] += f",PROXIED://127.0.0.1:{port}"
    settings["advertised.listeners"] += f",PROXIED://127.0.0.1:{proxy_port}"
    settings["listener.security.protocol.map"] = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT"


def add_listeners(settings, ports, protocols):
    """Adds listeners to a broker's addresses: their ports and security protocols, by their names."""
    protocol_map = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
    settings.setdefault("advertised.listeners", settings["listeners"])
    for name, port in ports.items():
        settings["listeners"] += f",{name}://127.0.0.1:{port}"
        settings["advertised.listeners"] += f",{name}://localhost:{port}"
        protocol_map += f",{name}:{protocols[name]}"
    settings["listener.security.protocol.map"] = protocol_map


def tool_class(version_text, tool):
    """The folder of jars and the class of one of Kafka's command-line tools."""
    if tool not in _TOOL_CLASSES:
        raise HarnessError(f"no tool {tool!r}; there are: {', '.join(_TOOL_CLASSES)}")
    tools_version = artifacts.tools_version(version_text)
    folders = [(artifacts.broker_jars, version_text)]
    if artifacts.parse_version(version_text) >= (3, 0):
        folders += [(artifacts.tool_jars, tools_version), (artifacts.broker_jars, tools_version)]
    for fetch, version in folders:
        jars = fetch(version)
        if found := _first_class(jars, _TOOL_CLASSES[tool]):
            return jars, found
    raise HarnessError(f"Kafka {version_text} has no class for the tool {tool!r}")


def tool_connection(version, tool, bootstrap, zookeeper):
    """The arguments that give a tool the cluster's address."""
    if tool in ("dump-log", "jmx"):
        return []
    if (tool == "console-producer" and version < (2, 5)) or (tool == "get-offsets" and version < (3, 0)):
        return ["--broker-list", bootstrap]
    if tool == "console-consumer" and version < (0, 10, 1):
        return ["--zookeeper", zookeeper]
    if tool in ("topics", "configs") and version < (2, 2):
        return ["--zookeeper", zookeeper]
    if tool == "consumer-groups" and version < (0, 10):
        return ["--zookeeper", zookeeper]
    return ["--bootstrap-server", bootstrap]


def _session_timeout_ms(brokers):
    # A killed broker can register again only when its old session has ended. A single broker may use a short session;
    # in a larger cluster, sessions must survive the pauses of a busy machine.
    return 6000 if brokers > 1 else 3000


def _first_class(jars, names):
    held = set()
    for jar in jars.glob("kafka*.jar"):
        with zipfile.ZipFile(jar) as archive:
            held.update(archive.namelist())
    return next((name for name in names if name.replace(".", "/") + ".class" in held), None)
