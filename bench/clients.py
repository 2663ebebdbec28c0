"""The clients that `make bench` compares: what each can do, and its best documented settings with the reason."""

from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Where `bench/peers.py` installs what the project itself does not need.
PEERS = ROOT / "target" / "bench"

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
TRAITS = ("reports", "keys", "threads", "topics", "tls", "share-latency")
JVM = ["-Xms1g", "-Xmx1g", "-XX:+UseSerialGC"]


@dataclass(frozen=True)
class Client:
    """One client.

    `works` maps each work to the calls that the client has for it; the first of "consume" is its fastest.
    `scale` is the part of a case's messages that it gets, so that a run takes seconds and not minutes.
    `settings` are given to the program as they are, for each work; `why` explains them.
    """

    name: str
    label: str
    program: tuple
    library: str
    works: dict
    settings: dict = field(default_factory=dict)
    why: str = "its defaults"
    scale: dict = field(default_factory=dict)
    codecs: tuple = CODECS
    traits: tuple = ()
    #: Since which Kafka it works.
    since: int = 0
    #: Below which Kafka it works.
    before: int = 99
    #: Whether PyKafka 2.8 is to use librdkafka.
    native: bool = False

    @property
    def files(self):
        """The files that it needs, which `bench/peers.py` makes."""
        if self.library == "java":
            return (PEERS / "java" / "arguments",)
        return self.program[:1]

    def is_installed(self):
        """Whether its program is there."""
        return all(Path(part).exists() for part in self.files)

    def lacks(self, case):
        """What the case needs and the client has not, or None."""
        hows = self.works.get(case.work, ())
        if not hows or (case.how not in ("fast", *hows) and case.work in ("produce", "consume")):
            return case.how if hows else case.work
        if case.codec not in self.codecs:
            return case.codec
        version = 4 if case.target == "embedded" else int(case.target)
        if not self.since <= (3 if case.target == "embedded" else version):
            return f"Kafka before {self.since}.0"
        if not version < self.before:
            return f"Kafka {self.before}.0 or newer"
        needed = {
            "reports": case.reports,
            "keys": case.keys,
            "threads": case.threads > 1 and case.work == "produce",
            "topics": case.topics > 1,
            "tls": case.tls,
            "share-latency": case.threads > 1 and case.work == "latency",
        }
        return next((trait for trait, is_needed in needed.items() if is_needed and trait not in self.traits), None)

    def how(self, case):
        """The call that this client uses in a case."""
        return self.works["consume"][0] if case.how == "fast" else case.how

    def count(self, case):
        """How many messages it gets: a multiple of 1,000 if the case has that many."""
        if case.is_timed and case.work != "latency":
            return 1
        count = int(case.count * self.scale.get(case.work, 1))
        return max(count // 1000 * 1000, min(case.count, 1000))


def _python(venv):
    return (PEERS / venv / "bin" / "python", ROOT / "bench" / "python" / "program.py")


_PROJECT = (ROOT / ".venv" / "bin" / "python", ROOT / "bench" / "python" / "program.py")
_RUST = (PEERS / "rust" / "release" / "bench-clients",)
_JAVA = ("java", *JVM, f"@{PEERS / 'java' / 'arguments'}", "Bench")
_TIMED = {"latency": ("one",), "first": ("one",), "group": ("one",)}
_PYTHON = {**_TIMED, "imports": ("one",)}
_OLD = {"produce": ("one",), "consume": ("iterate", "call"), **_PYTHON}
_OLD_WHY = (
    "linger_ms=5 (by default 5 s), pending_timeout_ms=-1 (else stop() loses messages), sync calls with linger_ms=1 and"
    " min_queued_messages=1 (linger_ms=0 spins)"
)
_LIBRDKAFKA = {
    "produce": {"linger.ms": 5, "queue.buffering.max.messages": 1_000_000},
    "consume": {"fetch.queue.backoff.ms": 1},
}
_LIBRDKAFKA_WHY = (
    "idempotent, linger.ms=5, queue.buffering.max.messages=1,000,000 (a full queue stops the program);"
    " fetch.queue.backoff.ms=1 (by default it stops fetching for a second when its queue is full)"
)

_ALL = [
    Client(
        "pykafka",
        "PyKafka 3",
        _PROJECT,
        "ours",
        {"produce": ("one", "many"), "consume": ("batch", "iterate", "call", "arrow"), **_PYTHON},
        scale={"produce": 2, "consume": 2},
        traits=TRAITS,
    ),
    Client(
        "confluent",
        "confluent-kafka (Python)",
        _python("peers"),
        "confluent",
        {"produce": ("one", "many"), "consume": ("batch", "call"), **_PYTHON},
        _LIBRDKAFKA,
        _LIBRDKAFKA_WHY + "; consume(1000)",
        traits=TRAITS,
    ),
    Client(
        "confluent-default",
        "confluent-kafka, default settings",
        _python("peers"),
        "confluent",
        {"consume": ("batch", "call")},
        why="its defaults: for comparison",
        scale={"consume": 0.5},
        traits=("topics", "tls"),
    ),
    Client(
        "aiokafka",
        "aiokafka",
        _python("peers"),
        "aio",
        {"produce": ("one", "many"), "consume": ("batch", "iterate"), **_PYTHON},
        {"produce": {"linger_ms": 5, "max_batch_size": 131_072}},
        "idempotent, linger_ms=5, max_batch_size=128 KiB",
        {"produce": 0.2, "consume": 0.5},
        ("none", "gzip"),
        ("reports", "keys", "topics", "tls", "share-latency"),
    ),
    Client(
        "kafka-python",
        "kafka-python",
        _python("peers"),
        "kafka_python",
        {"produce": ("one",), "consume": ("batch", "iterate"), **_PYTHON},
        {"produce": {"linger_ms": 5, "batch_size": 131_072}},
        "idempotent, linger_ms=5, batch_size=128 KiB, poll(max_records=10,000)",
        {"produce": 0.1, "consume": 0.2},
        ("none", "gzip"),
        TRAITS,
    ),
    Client(
        "pykafka-2.8",
        "PyKafka 2.8",
        _python("pykafka2"),
        "pykafka2",
        _OLD,
        why=_OLD_WHY,
        scale={"produce": 0.2, "consume": 0.03, "latency": 0.25},
        codecs=("none", "gzip"),
        traits=("reports", "keys", "threads", "share-latency"),
        before=4,
    ),
    Client(
        "pykafka-2.8-python-3.10",
        "PyKafka 2.8 on Python 3.10",
        _python("pykafka2-310"),
        "pykafka2",
        _OLD,
        why=_OLD_WHY + "; its consumer sleeps for each message, which costs 100 times as much since Python 3.11",
        scale={"produce": 0.2, "consume": 0.1, "latency": 0.25},
        codecs=("none", "gzip"),
        traits=("reports", "keys", "threads", "share-latency"),
        before=4,
    ),
    Client(
        "pykafka-2.8-librdkafka",
        "PyKafka 2.8 with librdkafka",
        _python("pykafka2"),
        "pykafka2",
        _OLD,
        why="linger_ms=5; its consumer needs two settings mended before it starts (bench/python/pykafka2.py)",
        scale={"produce": 0.2, "consume": 0.2, "latency": 0.25},
        codecs=("none", "gzip", "snappy"),
        traits=("reports", "keys", "threads"),
        before=4,
        native=True,
    ),
    Client(
        "kavka",
        "kavka (Rust)",
        _RUST,
        "kavka",
        {"produce": ("one",), "consume": ("batch", "iterate"), **_TIMED},
        scale={"produce": 2, "consume": 2},
        traits=TRAITS,
    ),
    Client(
        "rdkafka",
        "rdkafka (Rust, librdkafka)",
        _RUST,
        "rdkafka",
        {"produce": ("one",), "consume": ("call",), **_TIMED},
        _LIBRDKAFKA,
        _LIBRDKAFKA_WHY + "; ThreadedProducer, BaseConsumer",
        traits=("reports", "keys", "threads", "topics", "share-latency"),
    ),
    Client(
        "krafka",
        "krafka (Rust)",
        _RUST,
        "krafka",
        {"produce": ("one",), "consume": ("batch",), "latency": ("one",), "first": ("one",)},
        {"produce": {"linger.ms": 5, "batch.size": 131_072}},
        "linger 5 ms, batches of 128 KiB, one tokio thread",
        scale={"produce": 0.5},
        traits=("keys",),
    ),
    Client(
        "rskafka",
        "rskafka (Rust)",
        _RUST,
        "rskafka",
        {"produce": ("many",), "consume": ("batch",), "latency": ("one",), "first": ("one",)},
        why="batches of 1,000 made by the caller: it has no producer of single messages; one request in flight for"
        " each partition",
        traits=(),
    ),
    Client(
        "confluent-rust",
        "confluent-kafka (Rust)",
        _RUST,
        "confluent",
        {"produce": ("one",), "consume": ("batch",), "latency": ("one",), "first": ("one",)},
        {"produce": {"batch.size": 1_000_000, "linger.ms": 5}, "consume": {"max.poll.records": 10_000}},
        "batch.size=1 MB, linger.ms=5, max.poll.records=10,000",
        traits=("keys",),
        since=4,
    ),
    Client(
        "java",
        "Kafka's Java client",
        _JAVA,
        "java",
        {"produce": ("one",), "consume": ("batch",), **_TIMED},
        {
            "produce": {"linger.ms": 5, "batch.size": 262_144, "buffer.memory": 268_435_456},
            "consume": {"max.poll.records": 10_000},
        },
        "linger.ms=5, batch.size=256 KiB, buffer.memory=256 MiB, max.poll.records=10,000; after a warm-up of 1,000,000"
        " messages (20,000 calls), because Java compiles while it runs",
        traits=TRAITS,
    ),
    Client(
        "franz-go",
        "franz-go (Go)",
        (PEERS / "go" / "bench-go",),
        "go",
        {"produce": ("one",), "consume": ("batch",), **_TIMED},
        why="ProducerLinger 5 ms, MaxBufferedRecords 1,000,000, GOMAXPROCS as the pinned core gives it",
        traits=TRAITS,
    ),
]

#: Every client by its name.
CLIENTS = {client.name: client for client in _ALL}
