"""What `make bench` measures: one row for each case.

A case is the same work for every client. A client that lacks something the case needs is left out, and the table names
it. Add a row here, and `make bench CASES=name` runs it.
"""

from dataclasses import dataclass

#: Clients that lead in their language: cases that vary one thing compare only these.
LEADERS = ("pykafka", "confluent", "kavka", "rdkafka", "franz-go", "java")
#: The clients for Python.
PYTHON = ("pykafka", "confluent", "aiokafka", "kafka-python", "pykafka-2.8", "pykafka-2.8-librdkafka")


@dataclass(frozen=True)
class Case:
    """One kind of work.

    `work` is what the programs do: "produce", "latency" (one message at a time, each acknowledged), "consume", "first"
    (from the start of the process to one acknowledged message), "imports" (Python only), "group" (join, read one
    message).
    `how` is the call: to produce "one" or "many" messages; to consume "iterate", "call" (one message), "batch", "arrow"
    or "fast", which is each client's fastest of the first three.
    `count` is the number of messages for a fast client; `Client.scale` says which part of it a slow one gets.
    """

    name: str
    about: str
    work: str
    how: str = "one"
    count: int = 1_000_000
    size: int = 100
    acks: int = -1
    codec: str = "none"
    reports: bool = False
    keys: bool = False
    partitions: int = 3
    topics: int = 1
    threads: int = 1
    brokers: int = 1
    tls: bool = False
    #: The part of `kafka_cluster`'s versions: 3 for all clients, 4 for those that need it, or "embedded".
    target: str = "3"
    #: Names of clients, or None for all.
    clients: tuple = LEADERS

    @property
    def is_timed(self):
        """Whether a message's or a start's time is the result, and not the number of messages per second."""
        return self.work in ("latency", "first", "imports", "group")


def _produce(name, about, **fields):
    return Case(f"produce-{name}", about, "produce", **fields)


def _consume(name, about, how="fast", **fields):
    return Case(f"consume-{name}", about, "consume", how, **fields)


_ALL = [
    _produce("100", "100-byte messages, acks=all", clients=None),
    _consume("100", "100-byte messages, each client by its fastest call", clients=None),
    _produce("100-many", "100-byte messages, many with one call", how="many", clients=None),
    _consume("100-iterate", "100-byte messages by iteration", "iterate", clients=None),
    _consume("100-call", "100-byte messages, one with each call", "call", clients=None),
    _consume("100-arrow", "100-byte messages as columns", "arrow", clients=None),
    Case("latency-1", "one message after the other, each acknowledged", "latency", count=2_000, clients=None),
    Case("latency-16", "the same in 16 threads or tasks", "latency", count=8_000, threads=16, clients=None),
    Case("first", "from the start of the process to the first acknowledged message", "first", count=1, clients=None),
    Case("imports", "import of the Python package", "imports", count=1, clients=None),
    Case("group", "joining a group of one, until the first message", "group", count=1, clients=None),
    _produce("100-reports", "100-byte messages, the report of each read", reports=True, clients=None),
    _produce("100-keys", "100-byte messages with 1,000 different keys", keys=True),
    _produce("100-acks1", "100-byte messages, acks=1", acks=1),
    _produce("10", "10-byte messages", size=10),
    _produce("1k", "1 KiB messages", size=1024, count=300_000),
    _produce("100k", "100 KiB messages", size=102_400, count=4_000),
    _consume("10", "10-byte messages", size=10),
    _consume("1k", "1 KiB messages", size=1024, count=300_000),
    _consume("100k", "100 KiB messages", size=102_400, count=4_000),
]
for _codec in ("gzip", "snappy", "lz4", "zstd"):
    _ALL += [
        _produce(f"1k-{_codec}", f"1 KiB lines of a log, {_codec}", codec=_codec, size=1024, count=100_000),
        _consume(f"1k-{_codec}", f"1 KiB lines of a log, {_codec}", codec=_codec, size=1024, count=200_000),
    ]
for _partitions in (1, 10, 100, 1000):
    _ALL += [
        _produce(f"100-partitions-{_partitions}", f"{_partitions:,} partitions", partitions=_partitions, count=400_000),
        _consume(f"100-partitions-{_partitions}", f"{_partitions:,} partitions", partitions=_partitions, count=400_000),
    ]
_SHARED = {"count": 200_000, "partitions": 1, "clients": ("pykafka", "confluent", "kavka", "rdkafka", "franz-go")}
for _topics in (10, 1000):
    _ALL.append(_produce(f"100-topics-{_topics}", f"{_topics:,} topics in turn", topics=_topics, **_SHARED))
for _threads in (2, 4):
    _ALL.append(_produce(f"100-threads-{_threads}", f"{_threads} threads with one producer", threads=_threads))
_ALL += [
    _produce("100-replicated", "3 brokers, 3 replicas", brokers=3, count=400_000),
    _consume("100-replicated", "3 brokers, 3 replicas", brokers=3, count=400_000),
    Case("latency-replicated", "3 brokers, 3 replicas, one message at a time", "latency", count=1_000, brokers=3),
    _produce("100-tls", "TLS", tls=True, count=500_000),
    _consume("100-tls", "TLS", tls=True, count=500_000),
]
_NEW = {"target": "4", "clients": ("pykafka", "kavka", "confluent", "confluent-rust", "rdkafka", "franz-go", "java")}
_ALL += [
    _produce("100-kafka-4", "100-byte messages on Kafka 4", **_NEW),
    _consume("100-kafka-4", "100-byte messages on Kafka 4", **_NEW),
    Case("latency-kafka-4", "one message after the other on Kafka 4", "latency", count=2_000, **_NEW),
    _produce("100-embedded", "100-byte messages to the embedded broker", target="embedded", clients=None),
    _consume("100-embedded", "100-byte messages from the embedded broker", target="embedded", clients=None),
]

#: Every case by its name.
CASES = {case.name: case for case in _ALL}
#: The cases of `make bench-quick`.
QUICK = ("produce-100", "consume-100", "latency-1")
