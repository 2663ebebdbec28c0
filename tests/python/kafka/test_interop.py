"""Others read what we write, and we read what others write: Kafka's console tools and librdkafka.

Each test runs on real Kafka, and on the embedded broker, which must serve these clients, too.
"""

import subprocess

import confluent_kafka
import pykafka
import pykafka.testing
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from pykafka.common import CompressionType

CODECS = {
    "none": CompressionType.NONE,
    "gzip": CompressionType.GZIP,
    "snappy": CompressionType.SNAPPY,
    "lz4": CompressionType.LZ4,
    "zstd": CompressionType.ZSTD,
}
LONG = b"long enough to be worth compressing, " * 20
#: Key, value and headers. The console tools do not support empty header names, nor bytes that are not text.
RECORDS = [
    (b"key", b"value", []),
    (None, LONG, []),
    (b"", b"", []),
    (b"tombstone", None, []),
    (None, None, []),
    (b"headers", LONG, [("name", b"one"), ("other", b""), ("name", None), ("name", b"one")]),
]


@pytest.fixture(scope="module")
def embedded():
    """The embedded broker, as three brokers."""
    with pykafka.testing.Broker(brokers=3) as broker:
        yield broker.bootstrap_servers


@pytest.fixture(params=["kafka", "embedded"])
def bootstrap(request):
    """The addresses of three brokers: real ones, then embedded ones."""
    other = request.getfixturevalue(request.param)
    return other if request.param == "embedded" else other.bootstrap


@pytest.fixture
def tool(kafka, bootstrap):
    """Runs one of Kafka's console tools on the brokers under test."""

    def run(name, *arguments, stdin=b""):
        command = [bootstrap if word == kafka.bootstrap else word for word in kafka.tool_command(name)]
        done = subprocess.run([*command, *map(str, arguments)], input=stdin, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return run


@pytest.fixture
def topic(bootstrap, kafka, request):
    """A new topic of one partition, which all brokers know."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    if bootstrap == kafka.bootstrap:
        kafka.create_topic(name, replication_factor=3)
    else:
        admin = AdminClient({"bootstrap.servers": bootstrap})
        admin.create_topics([NewTopic(name, 1, 3)])[name].result(timeout=60)
    return name


def text(data):
    """Bytes as the console tools print and read them, with a word for null that no record contains."""
    return "NULL" if data is None else data.decode()


def named(headers):
    return ",".join(f"{name}:{text(data)}" for name, data in headers)


def write(bootstrap, topic, codec, records):
    with pykafka.KafkaClient(bootstrap).topics[topic].get_producer(compression=CODECS[codec]) as producer:
        for key, value, headers in records:
            producer.produce(value, partition_key=key, headers=headers)


def read(bootstrap, topic, count):
    with pykafka.KafkaClient(bootstrap).topics[topic].get_simple_consumer(consumer_timeout_ms=60_000) as consumer:
        messages = [consumer.consume() for _ in range(count)]
    assert [message.offset for message in messages] == list(range(count))
    return [(message.partition_key, message.value, message.headers) for message in messages]


@pytest.mark.parametrize("codec", CODECS)
def test_librdkafka_reads_what_we_write(bootstrap, topic, codec):
    write(bootstrap, topic, codec, RECORDS)
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": topic, "check.crcs": True, "auto.offset.reset": "earliest"}
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    messages = []
    while len(messages) < len(RECORDS):
        message = consumer.poll(60)
        assert message is not None
        assert message.error() is None, message.error()
        messages.append(message)
    consumer.close()
    assert [(message.key(), message.value(), message.headers() or []) for message in messages] == RECORDS


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("idempotent", [True, False])
def test_we_read_what_librdkafka_writes(bootstrap, topic, codec, idempotent):
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap, "compression.type": codec, "enable.idempotence": idempotent, "linger.ms": 50}
    )
    failed = []
    for key, value, headers in RECORDS:
        producer.produce(
            topic, value, key, headers=headers, on_delivery=lambda error, _: error and failed.append(error)
        )
    assert producer.flush(60) == 0
    assert failed == []
    assert read(bootstrap, topic, len(RECORDS)) == RECORDS


def test_a_group_of_librdkafka_reads_what_we_write(bootstrap, topic):
    """Subscribing needs the group APIs, which the embedded broker has for other clients."""
    write(bootstrap, topic, "none", RECORDS)
    settings = {"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest"}
    settings["enable.auto.commit"] = False
    consumer = confluent_kafka.Consumer(settings)
    consumer.subscribe([topic])
    messages = consumer.consume(len(RECORDS), timeout=60)
    assert [message.value() for message in messages] == [value for _, value, _ in RECORDS]
    consumer.commit(asynchronous=False)
    consumer.close()
    with pykafka.KafkaClient(bootstrap).topics[topic].get_simple_consumer(consumer_group=topic) as ours:
        assert [found.offset for _, found in ours.fetch_offsets()] == [len(RECORDS)]


def test_the_console_consumer_reads_what_we_write(bootstrap, topic, tool):
    for codec in CODECS:
        write(bootstrap, topic, codec, RECORDS)
    printed = tool(
        "console-consumer",
        *("--topic", topic, "--from-beginning", "--max-messages", len(RECORDS) * len(CODECS), "--timeout-ms", 60_000),
        *("--formatter-property", "print.key=true", "--formatter-property", "print.headers=true"),
        *("--formatter-property", "print.offset=true", "--formatter-property", "null.literal=NULL"),
    )
    lines = []
    for offset, (key, value, headers) in enumerate(RECORDS * len(CODECS)):
        lines.append(f"Offset:{offset}\t{named(headers) or 'NO_HEADERS'}\t{text(key)}\t{text(value)}")
    assert printed.decode().splitlines() == lines


@pytest.mark.parametrize("codec", CODECS)
def test_we_read_what_the_console_producer_writes(bootstrap, topic, tool, codec):
    lines = [f"{named(headers) or 'NULL'}\t{text(key)}\t{text(value)}\n" for key, value, headers in RECORDS]
    tool(
        "console-producer",
        *("--topic", topic, "--compression-codec", codec),
        *("--reader-property", "parse.key=true", "--reader-property", "parse.headers=true"),
        *("--reader-property", "null.marker=NULL"),
        stdin="".join(lines).encode(),
    )
    assert read(bootstrap, topic, len(RECORDS)) == RECORDS
