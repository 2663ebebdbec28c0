"""The brokers to measure against, and the topics on them."""

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests" / "kafka"))

from kafka_cluster import LATEST, LATEST_3, Cluster  # noqa: E402 - found by the line above

CPUS = sorted(os.sched_getaffinity(0))
#: Brokers and the harness share one CPU, and each client in turn has the other.
BROKER_CPU, CLIENT_CPU = CPUS[-1], CPUS[0]
#: The harness is tuned for brokers that start fast; here they must run fast.
FAST = {"heap_mib": 1024, "java_options": ["-XX:TieredStopAtLevel=4"]}


class Target:
    """Running brokers: their address, the authority to trust if they speak TLS, and what they are."""

    def __init__(self, about, bootstrap, ca=None, replicas=1):
        self.about, self.bootstrap, self.ca, self._replicas = about, bootstrap, ca, replicas
        self._filled = {}
        self._admin = None

    @property
    def settings(self):
        """confluent-kafka's settings for these brokers: the harness uses it to create, fill and check topics."""
        tls = {"security.protocol": "ssl", "ssl.ca.location": self.ca} if self.ca else {}
        # Without a word about connections that end with the brokers.
        return {"bootstrap.servers": self.bootstrap, "log_level": 0, **tls}

    @property
    def admin(self):
        """A client for administration."""
        from confluent_kafka.admin import AdminClient

        self._admin = self._admin or AdminClient(self.settings)
        return self._admin

    def create(self, topics, partitions):
        """Creates topics with one request, and waits until they exist."""
        from confluent_kafka.admin import NewTopic

        wanted = [NewTopic(name, partitions, self._replicas) for name in topics]
        for future in self.admin.create_topics(wanted, operation_timeout=60).values():
            future.result()

    def delete(self, topics):
        """Deletes topics, so that their files do not fill the memory."""
        for future in self.admin.delete_topics(topics, operation_timeout=60).values():
            future.result()

    def stored(self, topics, partitions):
        """How many records the topics hold: the sum of their end offsets."""
        from confluent_kafka import TopicPartition
        from confluent_kafka.admin import OffsetSpec

        every = [TopicPartition(topic, number) for topic in topics for number in range(partitions)]
        futures = self.admin.list_offsets({each: OffsetSpec.latest() for each in every}, request_timeout=60)
        return sum(future.result().offset for future in futures.values())

    def filled(self, case, values, count):
        """The topics for consumers, written once by confluent-kafka and then read by all."""
        shape = (case.size, case.codec, case.partitions, case.topics)
        if shape not in self._filled:
            name = "-".join(map(str, ("read", *shape)))
            topics = [f"{name}-{number}" for number in range(case.topics)]
            self.create(topics, case.partitions)
            self._fill(topics, case, values, count)
            self._filled[shape] = topics
        return self._filled[shape]

    def _fill(self, topics, case, values, count):
        from confluent_kafka import Producer

        # All partitions get batches of the same size, in turn.
        burst = max(1, min(500, 250_000 // case.size, count // (case.partitions * len(topics) * 4)))
        options = {"linger.ms": 50, "batch.num.messages": burst, "compression.type": case.codec}
        producer = Producer({**self.settings, **options, "queue.buffering.max.messages": 1_000_000})
        sent = 0
        while sent < count:
            for topic in topics:
                for partition in range(case.partitions):
                    for _ in range(burst):
                        produce_or_wait(producer, topic, values[sent % len(values)], partition)
                        sent += 1
            producer.poll(0)
        if producer.flush(120):
            sys.exit("a topic for the consumers could not be filled")


def produce_or_wait(producer, topic, value, partition):
    """Produces a message; waits while the queue is full."""
    while True:
        try:
            return producer.produce(topic, value, partition=partition)
        except BufferError:
            producer.poll(0.1)


@contextmanager
def running(name, brokers, tls):
    """Starts the brokers of a target: "3" and "4" are versions of Apache Kafka, "embedded" is the one of `kavka`."""
    with (embedded_broker if name == "embedded" else real_kafka)(name, brokers, tls) as target:
        yield target


@contextmanager
def real_kafka(name, brokers=1, tls=False):
    """Apache Kafka."""
    version = {"3": LATEST_3, "4": LATEST}[name]
    about = f"Apache Kafka {version}" + (f", {brokers} brokers" if brokers > 1 else "") + (", TLS" if tls else "")
    with Cluster(version, brokers=brokers, secure=tls, **FAST) as cluster:
        address = cluster.secure_listeners["SSL"] if tls else cluster.bootstrap
        yield Target(about, address, cluster.security["ca"] if tls else None, brokers)


@contextmanager
def embedded_broker(name="embedded", brokers=1, tls=False):
    """The embedded broker, in a separate process: it costs so little that the client is the limit."""
    kavka = ROOT / "target" / "release" / "kavka"
    subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "kavka-cli"], cwd=ROOT, check=True)
    command = [kavka, "broker", "--port", "0", "--partitions", "3", "--brokers", str(brokers)]
    with tempfile.TemporaryDirectory() as folder:
        ca = str(Path(folder) / "ca.pem") if tls else None
        command += ["--tls", ca] if tls else []
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield Target(f"{name} broker", process.stdout.readline().split()[-1], ca, brokers)
            finally:
                process.terminate()
