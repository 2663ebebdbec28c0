"""Real Kafka from Python tests.

    with Cluster(LATEST, brokers=3) as cluster:
        cluster.create_topic("orders", partitions=3, replication_factor=3)
        cluster.kill(1)

A thin wrapper of `kafka.py`, which runs as a process of its own so that nothing is left when the test dies. This
module imports nothing but the standard library; load it without putting this folder first on `sys.path`, where
`kafka.py` would hide the kafka-python package.
"""

import collections
import contextlib
import json
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

_PROGRAM = Path(__file__).resolve().with_name("kafka.py")
_VERSIONS = _PROGRAM.with_name("versions")

#: The newest Kafka, on which everything is tested.
LATEST = (_VERSIONS / "latest").read_text().strip()
#: The last Kafka 3: the newest that supports the request versions that Kafka 4 has dropped.
LATEST_3 = (_VERSIONS / "latest_3").read_text().strip()


class KafkaError(Exception):
    """Kafka could not be fetched or started, or a command failed."""


class Cluster:
    """A running Kafka cluster; ready when the constructor returns. Use it as a context manager, or call `close`.

    :param version: "0.8.2.2" to `LATEST`. Before 3.3 it comes with ZooKeeper.
    :param zookeeper: ask for ZooKeeper mode where both exist (3.3 to 3.9).
    :param settings: broker settings by Kafka's names, over the harness's own.
    :param heap_mib: heap of each broker in MiB.
    :param java_options: options for the brokers' Java, like `-XX:TieredStopAtLevel=4` for measurements: by default
        it compiles for a fast start only.
    :param secure: add the listeners SSL, MTLS (which wants a client certificate), SASL_PLAINTEXT, SASL_SSL, SASL_MTLS
        (which wants a client certificate and SASL, Kafka 2.8 and later), REAUTH (SASL_SSL with sessions of ten seconds)
        and OIDC (SASL_SSL with signed tokens, Kafka 3.9 and later).
    :param gssapi: as `secure`, and a Kerberos server, so that the listeners with SASL have the mechanism GSSAPI.
    :raises KafkaError: with the end of the brokers' logs when it does not start.

    :param proxied: add a listener to each broker that advertises another port, for a proxy of the test: `proxied` has
        both ports by the broker's id. Not together with `secure`.

    Attributes: `bootstrap`, `brokers` (id: address), `version`, `zookeeper` (address or `None`), `dir`,
    `processes` (name: process id, as they were at the start; a broker's name is its id), `secure_listeners`
    (name: addresses) and `security` (the certificates, users and other facts that a client needs). Commands may
    come from any thread; they are carried out one after the other.
    """

    def __init__(
        self,
        version=LATEST,
        brokers=1,
        *,
        zookeeper=False,
        settings=None,
        heap_mib=256,
        java_options=(),
        secure=False,
        gssapi=False,
        proxied=False,
    ):
        command = [
            sys.executable,
            str(_PROGRAM),
            "run",
            f"--version={version}",
            f"--brokers={brokers}",
            f"--heap={heap_mib}",
        ]
        if zookeeper:
            command.append("--zookeeper")
        command += [
            flag for flag, asked in (("--secure", secure), ("--gssapi", gssapi), ("--proxied", proxied)) if asked
        ]
        command += [f"--set={name}={value}" for name, value in (settings or {}).items()]
        command += [f"--java-option={option}" for option in java_options]
        self._lock = threading.Lock()
        # A session of its own: Ctrl-C reaches the test first, which then closes the cluster.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            about = self._answer()
        except BaseException:
            self.close()
            raise
        self.bootstrap = about["bootstrap"]
        self.brokers = {int(number): address for number, address in about["brokers"].items()}
        self.version = about["version"]
        self.zookeeper = about["zookeeper"]
        self.secure_listeners = about["secure_listeners"]
        self.security = about["security"]
        self.proxied = {int(number): tuple(ports) for number, ports in about["proxied"].items()}
        self.dir = Path(about["dir"])
        self.processes = {"harness": self._process.pid} | about["processes"]
        self._about = about

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends all processes, and removes all files. Does nothing if that is done."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def kill(self, broker_id):
        """SIGKILL: the broker is gone at once, and tells nobody."""
        self._command("kill", broker_id)

    def stop(self, broker_id):
        """SIGTERM: the broker hands over its partitions and ends; returns when it has."""
        self._command("stop", broker_id)

    def freeze(self, broker_id):
        """SIGSTOP: the broker keeps its connections but does not respond."""
        self._command("freeze", broker_id)

    def thaw(self, broker_id):
        """SIGCONT: the broker continues."""
        self._command("thaw", broker_id)

    def start(self, broker_id, wait=True, version=None, settings=None):
        """Starts a killed or stopped broker, with its data and address.

        :param wait: return only when it is ready; see `wait_ready`.
        :param version: another version for this broker from now on, in a cluster with ZooKeeper.
        :param settings: with a version, settings for this broker from now on, over those of the cluster.
        :raises ValueError: if there are settings without a version.
        """
        if settings and not version:
            raise ValueError(f"broker {broker_id}: settings need a version, too: give that of the cluster, or another")
        given = (f"{name}={value}" for name, value in (settings or {}).items())
        self._command("start", broker_id, *([version, *given] if version else ()))
        if wait:
            self.wait_ready()

    def wait_ready(self):
        """Waits until all running brokers answer, and each sees all of them and a controller."""
        self._command("wait-ready")

    def wait_in_sync(self):
        """Waits until all replicas of all partitions are in sync."""
        self._command("wait-in-sync")

    def create_topic(self, topic, partitions=1, replication_factor=1, settings=None):
        """Creates a topic; returns when all running brokers know a leader for each partition."""
        given = (f"{name}={value}" for name, value in (settings or {}).items())
        self._command("topic", "create", topic, partitions, replication_factor, *given)

    def describe_topic(self, topic):
        """`{partition: {"leader": id, "replicas": [id], "in_sync_replicas": [id]}}`."""
        described = self._command("topic", "describe", topic)["partitions"]
        return {int(partition): about for partition, about in described.items()}

    def leader(self, topic, partition):
        """The id of the broker that leads a partition."""
        return self.describe_topic(topic)[partition]["leader"]

    def move_leader(self, topic, partition, broker_id):
        """Makes a broker the leader of a partition; returns when all running brokers know that. Needs Kafka 2.4."""
        self._command("topic", "lead", topic, partition, broker_id)

    def set_scram_password(self, user, password):
        """Sets a user's password for both SCRAM mechanisms; returns when all running brokers want it."""
        self._command("scram", user, password)

    def log_dir(self, broker_id):
        """The folder with a broker's partition logs."""
        return Path(self._about["log_dirs"][str(broker_id)])

    def output(self, broker_id):
        """A broker's console output."""
        return Path(self._about["outputs"][str(broker_id)]).read_text(errors="replace")

    def tool_command(self, name, version=None):
        """The beginning of the command line for one of Kafka's tools, connected to this cluster; add its arguments.

        :param name: "console-producer", "console-consumer", "topics", "configs", "consumer-groups", "get-offsets",
            "dump-log" or "jmx".
        :param version: the Kafka version of the tool; None: that of the cluster.
        """
        return self._command("tool", name, *([version] if version else []))["command"]

    def tool(self, name, *arguments, input=b"", timeout=300, version=None):
        """Runs one of Kafka's tools, and returns its output.

        :raises KafkaError: if its exit status is not 0.
        """
        command = [*self.tool_command(name, version), *map(str, arguments)]
        done = subprocess.run(command, input=input, capture_output=True, timeout=timeout)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise KafkaError(f"{name} ended with status {done.returncode}: {said[-2000:]}")
        return done.stdout

    def dump_log(self, topic, partition):
        """The output of Kafka's DumpLogSegments for a partition's log on its leader, with the contents of records."""
        segments = sorted(self.log_dir(self.leader(topic, partition)).glob(f"{topic}-{partition}/*.log"))
        arguments = ["--print-data-log", "--deep-iteration", "--files", ",".join(map(str, segments))]
        return self.tool("dump-log", *arguments).decode(errors="replace")

    def counted(self, listener):
        """What the first broker has counted on a listener since it started, by the names in JMX. Needs Kafka 3.5."""
        process_id = str(self.processes["1"])
        _run("jcmd", process_id, "ManagementAgent.start_local")
        url = re.search(r'"(service:jmx:[^"]+)"', _run("jcmd", process_id, "PerfCounter.print"))[1]
        name = f"kafka.server:type=socket-server-metrics,listener={listener},networkProcessor=*"
        arguments = ["--jmx-url", url, "--object-name", name, "--one-time", "--report-format", "properties"]
        totals = collections.Counter()
        for total, count in re.findall(rb":([a-z-]+-(?:total|count))=([0-9.E]+)", self.tool("jmx", *arguments)):
            totals[total.decode()] += int(float(count))
        return totals

    def _command(self, *words):
        with self._lock:
            # If the harness is gone there is no answer, which raises the error.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(shlex.join(map(str, words)) + "\n")
                self._process.stdin.flush()
            return self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise KafkaError(f"the harness ended with status {self._process.wait()}; its stderr says why")
        answer = json.loads(line)
        if "error" in answer:
            raise KafkaError(answer["error"])
        return answer


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise KafkaError(f"{' '.join(command)} ended with status {done.returncode}: {done.stdout + done.stderr}")
    return done.stdout
