"""A Kafka cluster of plain Java processes on loopback, with its data.

It consists of the brokers, a ZooKeeper if the version needs one, and a folder under `.kafka/run/` with all files.
`close` ends everything. If this process is killed, the kernel kills the programs, and the next cluster removes the
folder.
"""

import base64
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from . import HarnessError, artifacts, layout, probe, security
from .processes import ReservedPort, spawn
from .security import Security

_NOT_CONTROLLER, _TOPIC_ALREADY_EXISTS, _REQUEST_TIMED_OUT, _INVALID_REPLICATION_FACTOR = 41, 36, 7, 38


@dataclass
class Options:
    """The options of a cluster: see `kafka.py run --help`."""

    version: str
    brokers: int = 1
    zookeeper: bool = False
    settings: dict = field(default_factory=dict)
    heap_mib: int = 256
    java_options: list = field(default_factory=list)
    limit_seconds: float = 120.0
    secure: bool = False
    gssapi: bool = False
    proxied: bool = False


class Broker:
    """A broker: its addresses and files, which stay the same over restarts, its version and settings, its process."""

    def __init__(self, broker_id, folder, version, secure_listeners=(), proxied=False):
        self.broker_id = broker_id
        self.version = version
        self.settings = {}
        self._secure_ports = {name: ReservedPort() for name in secure_listeners}
        self.secure_ports = {name: port.number for name, port in self._secure_ports.items()}
        self._ports = ReservedPort(), ReservedPort()
        self.port, self.controller_port = (port.number for port in self._ports)
        self._proxied = (ReservedPort(), ReservedPort()) if proxied else ()
        #: The port of the listener for a proxy, and the proxy's own, which clients are told.
        self.proxied_ports = tuple(port.number for port in self._proxied)
        self.log_dir = folder / f"data-{broker_id}"
        self.settings_path = folder / f"server-{broker_id}.properties"
        self.output_path = folder / f"broker-{broker_id}.log"
        self.process = None
        self.frozen = False

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def end(self, limit_seconds):
        self.process.wait(limit_seconds)
        self.process = None
        self.frozen = False


class Cluster:
    """A cluster; `start` starts all of it.

    :param waiter: sleeps; its `pause` raises when nobody uses this cluster any more.
    """

    def __init__(self, options, waiter):
        self.options = options
        self._version = artifacts.parse_version(options.version)
        self._waiter = waiter
        self._zookeeper_mode = layout.uses_zookeeper(self._version, options.zookeeper)
        self.folder, self._lock = _claim_folder()
        self.security = None
        if options.secure or options.gssapi:
            self.security = Security(self.folder, self._version, options.gssapi)
        self._java = self._java_of(options.version)
        self._zookeeper, self._zookeeper_port = None, ReservedPort()
        listeners = self.security.protocols if self.security else ()
        numbers = range(1, options.brokers + 1)
        self.brokers = {
            number: Broker(number, self.folder, options.version, listeners, options.proxied) for number in numbers
        }

    @property
    def bootstrap(self):
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers.values())

    @property
    def secure_listeners(self):
        """The addresses of each secure listener on all brokers, by its name."""
        names = self.security.protocols if self.security else ()
        brokers = self.brokers.values()
        return {name: ",".join(f"localhost:{broker.secure_ports[name]}" for broker in brokers) for name in names}

    @property
    def zookeeper_address(self):
        return f"127.0.0.1:{self._zookeeper_port.number}" if self._zookeeper_mode else None

    @property
    def zookeeper_process(self):
        """ZooKeeper's process id by its name, if there is a ZooKeeper."""
        return {"zookeeper": self._zookeeper.pid} if self._zookeeper else {}

    def start(self):
        """Starts everything, and waits until it is ready."""
        if self.security:
            self.security.create()
        if self._zookeeper_mode:
            self._start_zookeeper()
        else:
            self._format_storage()
        for number in self.brokers:
            self.start_broker(number)
        self.wait_ready()
        if self.security:
            self.set_scram_password(security.USER, security.PASSWORD)
            self._until(self.security.is_ready, "Kerberos to give a ticket")

    def close(self):
        """Kills all programs, and removes all files."""
        running = [broker.process for broker in self.brokers.values() if broker.process] + [self._zookeeper]
        running += [self.security.process] if self.security else []
        for process in filter(None, running):
            process.kill()
        for process in filter(None, running):
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def start_broker(self, number, version=None, settings=None):
        """Starts a stopped broker, with its addresses and data. Does not wait until it is ready.

        A new version and new settings, over those of the cluster, stay the broker's own.
        """
        broker = self._broker(number)
        if broker.alive:
            raise HarnessError(f"broker {number} runs already")
        if version and not self._zookeeper_mode:
            raise HarnessError("only brokers with ZooKeeper can be started with another version")
        if version:
            layout.check_zookeeper_mode(artifacts.parse_version(version))
            broker.version = version
        if settings:
            broker.settings |= settings
        self._write_settings(broker)
        if self._zookeeper_mode:
            self._until(lambda: self._is_unregistered(number), f"broker {number}'s old session to end in ZooKeeper")
        java = self._java_of(broker.version)
        broker.process = spawn([*java, "kafka.Kafka", str(broker.settings_path)], broker.output_path)

    def kill_broker(self, number):
        """SIGKILL: the broker is gone at once, and tells nobody."""
        broker = self._running(number)
        broker.signal(signal.SIGKILL)
        broker.end(30)

    def freeze_broker(self, number):
        """SIGSTOP: the broker keeps its connections but does not respond."""
        broker = self._running(number)
        broker.signal(signal.SIGSTOP)
        broker.frozen = True

    def thaw_broker(self, number):
        """SIGCONT: the broker continues."""
        broker = self._running(number)
        broker.signal(signal.SIGCONT)
        broker.frozen = False

    def stop_broker(self, number):
        """SIGTERM: the broker hands over its partitions and ends. Waits for that."""
        broker = self._running(number)
        if broker.frozen:
            raise HarnessError(f"broker {number} is frozen and cannot stop by itself; thaw or kill it")
        broker.signal(signal.SIGTERM)
        try:
            broker.end(60)
        except subprocess.TimeoutExpired:
            raise HarnessError(
                f"broker {number} did not stop within 60 s of SIGTERM\n{_tail(broker.output_path)}"
            ) from None

    def wait_ready(self):
        """Waits until all running brokers answer, and each sees all of them and a controller."""
        running = {broker.broker_id for broker in self._awake()}

        def is_ready():
            if self._version >= (0, 10):
                return all(running <= view.brokers and view.controller != -1 for view in self._views())
            # Before the first topic, their metadata does not list each other, so it is enough that they answer.
            held = self._ephemeral_nodes()
            return {"/controller", *(f"/brokers/ids/{number}" for number in running)} <= held and all(self._views())

        self._until(is_ready, f"brokers {sorted(running)} to see each other and a controller")

    def wait_in_sync(self):
        """Waits until all replicas of all partitions are in sync, as all running brokers see it."""
        self._until(
            lambda: all(
                partition.leader >= 0 and set(partition.in_sync_replicas) == set(partition.replicas)
                for view in self._views()
                for partitions in view.topics.values()
                for partition in partitions.values()
            ),
            "every replica to be in sync",
        )

    def create_topic(self, topic, partitions, replication_factor, settings):
        """Creates a topic, and waits until all running brokers know a leader for each partition."""
        if self._version < (0, 10, 1):
            self._create_topic_by_tool(topic, partitions, replication_factor, settings)
        else:
            self._create_topic_by_request(topic, partitions, replication_factor, settings)

        def is_known(view):
            known = view.topics.get(topic, {})
            return len(known) == partitions and all(partition.leader >= 0 for partition in known.values())

        self._until(lambda: all(map(is_known, self._views())), f"leaders for every partition of {topic}")

    def describe_topic(self, topic):
        """The leader and replicas of each partition, as the first broker to answer sees them."""
        for broker in self._awake():
            with contextlib.suppress(probe.ProbeError):
                view = probe.metadata(broker.port, self._version)
                if topic not in view.topics:
                    raise HarnessError(f"no topic {topic!r} on this cluster")
                return view.topics[topic]
        raise HarnessError("no broker answers; start or thaw one")

    def move_leader(self, topic, partition, leader):
        """Makes a broker the leader of a partition; waits until all running brokers see that. Needs Kafka 2.4."""
        replicas = self.describe_topic(topic)[partition].replicas
        # If it is not a replica, it replaces the leader as one.
        others = [other for other in replicas if other != leader][-(len(replicas) - 1) :] if len(replicas) > 1 else []
        port = self._broker(leader).port
        if error := probe.reassign(port, topic, partition, [leader, *others]):
            raise HarnessError(f"{topic}-{partition} not given to broker {leader}: Kafka's error {error}")

        def leads():
            probe.elect_preferred_leader(port, topic, partition)
            return all(view.topics[topic][partition].leader == leader for view in self._views())

        self._until(leads, f"broker {leader} to lead {topic}-{partition}")

    def set_scram_password(self, user, password):
        """Gives a user this password for both SCRAM mechanisms; waits until all running brokers want it."""
        if not self.security:
            raise HarnessError("this cluster has no listeners with SCRAM; start it with --secure")
        for mechanism in probe.SCRAM_HASHES:
            if self._version >= (2, 7):
                what = f"{user}'s password to be set for {mechanism}"
                self._until(lambda how=mechanism: self._set_scram_password(how, user, password), what)
            else:
                command = [*self.tool_command("configs"), "--alter", "--entity-type", "users", "--entity-name", user]
                self._run_tool([*command, "--add-config", f"{mechanism}=[password={password}]"])

        def is_accepted():
            ports = [broker.secure_ports["SASL_PLAINTEXT"] for broker in self._awake()]
            return all(probe.authenticates(port, how, user, password) for port in ports for how in probe.SCRAM_HASHES)

        self._until(is_accepted, f"every broker to accept the password of {user}")

    def tool_command(self, tool, version_text=None):
        """The command line for one of Kafka's tools on this cluster, by default of its version; the caller adds
        arguments."""
        version_text = version_text or self.options.version
        version = artifacts.parse_version(version_text)
        jars, name = layout.tool_class(version_text, tool)
        connection = layout.tool_connection(version, tool, self.bootstrap, self.zookeeper_address)
        return [*layout.java(jars, version, 256, self.folder), name, *connection]

    def _set_scram_password(self, mechanism, user, password):
        controller = next(self._views()).controller
        if controller not in self.brokers:
            return False
        error = probe.set_scram_password(self.brokers[controller].port, mechanism, user, password)
        if error not in (0, _NOT_CONTROLLER, _REQUEST_TIMED_OUT):
            raise HarnessError(f"{user}'s password was not set for {mechanism}: Kafka's error {error}")
        return error == 0

    def _create_topic_by_request(self, topic, partitions, replication_factor, settings):
        said = tried = None

        def is_created():
            nonlocal said, tried
            view = next(self._views())
            if view.controller not in self.brokers:
                return False
            error, message = probe.create_topic(
                self.brokers[view.controller].port, self._version, topic, partitions, replication_factor, settings
            )
            # A request that timed out may still have created the topic.
            made = error == 0 or (tried and error == _TOPIC_ALREADY_EXISTS)
            # On a busy machine, the controller takes a broker whose heartbeats are late for one that is away.
            is_away = error == _INVALID_REPLICATION_FACTOR and "fenced" in (message or "")
            if not made and not is_away and error not in (_NOT_CONTROLLER, _REQUEST_TIMED_OUT):
                raise HarnessError(f"topic {topic} not created: Kafka's error {error}: {message}")
            said, tried = f"error {error}: {message}", True
            return made

        self._until(is_created, f"topic {topic} to be created", lambda: f"Kafka said {said}")

    def _create_topic_by_tool(self, topic, partitions, replication_factor, settings):
        command = [*self.tool_command("topics"), "--create", "--topic", topic, "--partitions", str(partitions)]
        command += ["--replication-factor", str(replication_factor)]
        for key, value in settings.items():
            command += ["--config", f"{key}={value}"]
        # In these versions the tool always ends with 0.
        if f'Created topic "{topic}"' not in (said := self._run_tool(command)):
            raise HarnessError(f"topic {topic} not created: {said[-2000:]}")

    @staticmethod
    def _run_tool(command):
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode != 0:
            raise HarnessError(f"Kafka's tool ended with status {done.returncode}: {done.stdout[-2000:]}")
        return done.stdout

    def _start_zookeeper(self):
        data, settings_path = self.folder / "zookeeper", self.folder / "zookeeper.properties"
        data.mkdir()
        _write_properties(settings_path, layout.zookeeper_settings(self._zookeeper_port.number, data))
        command = [*self._java, "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(settings_path)]
        self._zookeeper = spawn(command, self.folder / "zookeeper.log")
        self._until(lambda: probe.four_letters(self._zookeeper_port.number, "ruok") == "imok", "ZooKeeper to answer")

    def _is_unregistered(self, number):
        # A broker refuses to start while the session of its killed predecessor still holds its id.
        return f"/brokers/ids/{number}" not in self._ephemeral_nodes()

    def _ephemeral_nodes(self):
        return set(probe.four_letters(self._zookeeper_port.number, "dump").split())

    def _format_storage(self):
        """Gives each broker a copy of storage that Kafka's tool has formatted once, with the broker's own ids."""
        name = f"format-{self.options.version}"
        with artifacts.made_once(name) as template:
            if template:
                self._format_template(template)
        cluster_id = _kafka_uuid()
        for broker in self.brokers.values():
            shutil.copytree(artifacts.STORE / name, broker.log_dir)
            meta = broker.log_dir / "meta.properties"
            own = {"cluster.id": cluster_id, "node.id": broker.broker_id, "directory.id": _kafka_uuid()}
            kept = dict(line.split("=", 1) for line in meta.read_text().splitlines() if not line.startswith("#"))
            _write_properties(meta, {key: own.get(key, value) for key, value in kept.items()})

    def _format_template(self, template):
        broker = Broker(1, self.folder, self.options.version)
        broker.log_dir = template
        _write_properties(broker.settings_path, layout.kraft_broker_settings(broker, [broker]))
        command = [
            *self._java,
            "kafka.tools.StorageTool",
            "format",
            "-t",
            _kafka_uuid(),
            "-c",
            str(broker.settings_path),
        ]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode != 0:
            raise HarnessError(f"Kafka {self.options.version} could not format its storage:\n{done.stdout[-2000:]}")

    def _java_of(self, version):
        """The beginning of the command line for a program of this version."""
        options = [*(self.security.java_options() if self.security else ()), *self.options.java_options]
        jars = artifacts.broker_jars(version)
        return layout.java(jars, artifacts.parse_version(version), self.options.heap_mib, self.folder, options)

    def _write_settings(self, broker):
        version = artifacts.parse_version(broker.version)
        if self._zookeeper_mode:
            settings = layout.zookeeper_broker_settings(version, broker, self.brokers, self._zookeeper_port.number)
        else:
            settings = layout.kraft_broker_settings(broker, self.brokers.values())
        settings |= layout.fast_settings(version, len(self.brokers))
        if broker.proxied_ports:
            layout.add_proxied_listener(settings, *broker.proxied_ports)
        if self.security:
            layout.add_listeners(settings, broker.secure_ports, self.security.protocols)
            settings |= self.security.settings()
        settings |= self.options.settings | broker.settings
        _write_properties(broker.settings_path, settings)

    def _views(self):
        return (probe.metadata(broker.port, self._version) for broker in self._awake())

    def _awake(self):
        awake = [broker for broker in self.brokers.values() if broker.process and not broker.frozen]
        if not awake:
            raise HarnessError("no broker runs; start or thaw one")
        return awake

    def _broker(self, number):
        if number not in self.brokers:
            raise HarnessError(f"no broker {number}; there are {sorted(self.brokers)}")
        return self.brokers[number]

    def _running(self, number):
        broker = self._broker(number)
        if not broker.alive:
            raise HarnessError(f"broker {number} does not run\n{_tail(broker.output_path)}")
        return broker

    def _until(self, holds, what, said=lambda: "not so yet"):
        """Waits until `holds()` is true; if it gets no answer, that counts as false."""
        deadline = time.monotonic() + self.options.limit_seconds
        last = None
        while True:
            self._check_processes()
            try:
                if holds():
                    return
                last = None
            except probe.ProbeError as error:
                last = error
            if time.monotonic() > deadline:
                tails = "\n".join(_tail(broker.output_path) for broker in self.brokers.values())
                raise HarnessError(f"waited {self.options.limit_seconds} s for {what}; {last or said()}\n{tails}")
            self._waiter.pause(0.05)

    def _check_processes(self):
        if self._zookeeper and self._zookeeper.poll() is not None:
            raise HarnessError(f"ZooKeeper ended by itself\n{_tail(self.folder / 'zookeeper.log')}")
        for broker in self.brokers.values():
            if broker.process and not broker.alive:
                status = broker.process.returncode
                raise HarnessError(
                    f"broker {broker.broker_id} ended by itself with status {status}\n{_tail(broker.output_path)}"
                )


def _claim_folder():
    """A new folder for a cluster's files, locked while this process lives. Removes those of dead processes."""
    runs = artifacts.STORE / "run"
    runs.mkdir(parents=True, exist_ok=True)
    with open(artifacts.STORE / "run.lock", "w") as all_runs:
        fcntl.flock(all_runs, fcntl.LOCK_EX)
        for left in runs.iterdir():
            with contextlib.suppress(OSError), open(left / "owner.lock", "w") as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=runs))
        lock = open(folder / "owner.lock", "w")  # noqa: SIM115 - stays open as long as the cluster lives
        fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def _kafka_uuid():
    """A random id in Kafka's format. Kafka's tools would take one that begins with `-` for an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()).startswith("-"):
        pass
    return text


def _write_properties(path, settings):
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))


def _tail(path, lines=30):
    if not path.exists():
        return f"(no {path.name})"
    return f"--- the end of {path.name}:\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
