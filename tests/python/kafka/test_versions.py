"""Producing and consuming on every generation of Kafka, from 0.8.2 on."""

from pathlib import Path

import pytest
from pykafka import KafkaClient
from pykafka.common import CompressionType
from pykafka.exceptions import KafkaException

COUNT = 5_000
OLDER = (Path(__file__).resolve().parents[2] / "kafka" / "versions" / "older").read_text().split()
#: Those that every run tries: each of them is the last of its kind in something.
ALWAYS = ["0.8.2.2", "0.9.0.1", "0.11.0.3"]
#: Brokers that keep message sets instead of record batches.
WITH_MESSAGE_SETS = OLDER[: OLDER.index("0.11.0.3")]
CODECS = {
    "none": CompressionType.NONE,
    "gzip": CompressionType.GZIP,
    "snappy": CompressionType.SNAPPY,
    "lz4": CompressionType.LZ4,
}


def versions(those):
    """The parameters of a test for these versions: all but the most important only in long runs."""
    return [version if version in ALWAYS else pytest.param(version, marks=pytest.mark.long) for version in those]


@pytest.mark.parametrize("version", versions(OLDER))
def test_messages_reports_and_committed_offsets_work_on_every_version(start_kafka, version, take):
    cluster = start_kafka(version, brokers=1, settings={"num.partitions": "3"})
    topic = KafkaClient(cluster.bootstrap).topics["versions"]
    sent = {b"%d" % number for number in range(COUNT)}
    with topic.get_producer(delivery_reports=True) as producer:
        for value in sent:
            producer.produce(value, partition_key=value[-1:])
        reports = [producer.get_delivery_report(timeout=120) for _ in range(COUNT)]
    assert all(error is None for _, error in reports)
    stored = {(message.partition_id, message.offset): message.value for message, _ in reports}

    consumer = topic.get_simple_consumer(consumer_group="versions", consumer_timeout_ms=500)
    read = {(message.partition_id, message.offset): message.value for message in take(consumer, COUNT)}
    assert read == stored
    assert set(read.values()) == sent
    consumer.commit_offsets()
    consumer.stop()
    again = topic.get_simple_consumer(consumer_group="versions", consumer_timeout_ms=500)
    assert again.consume() is None


@pytest.mark.parametrize("version", versions(WITH_MESSAGE_SETS))
def test_old_console_tools_read_what_we_write_and_we_read_what_they_write(start_kafka, version, take):
    cluster = start_kafka(version, brokers=1)
    client = KafkaClient(cluster.bootstrap)
    for name, codec in CODECS.items():
        cluster.create_topic(name)
        ours = [b"%d, long enough to be worth compressing in a batch of many" % number for number in range(200)]
        with client.topics[name].get_producer(compression=codec) as producer:
            for value in ours:
                producer.produce(value)
        read = cluster.tool("console-consumer", "--topic", name, "--from-beginning", "--max-messages", len(ours))
        assert read.splitlines() == ours, f"compressed with {name}"

        theirs = [b"%d, written by the console producer" % number for number in range(200)]
        # By default the tool does not wait for acknowledgements, and may lose what it sends before it ends.
        written_with = ["--topic", name, "--compression-codec", name, "--request-required-acks", "-1"]
        cluster.tool("console-producer", *written_with, input=b"".join(value + b"\n" for value in theirs))
        consumer = client.topics[name].get_simple_consumer(consumer_timeout_ms=500)
        assert [message.value for message in take(consumer, 400)] == ours + theirs, f"compressed with {name}"
        consumer.stop()


@pytest.mark.parametrize("version", versions(WITH_MESSAGE_SETS))
def test_a_message_larger_than_a_fetch_is_read(start_kafka, version, take):
    cluster = start_kafka(version, brokers=1)
    topic = KafkaClient(cluster.bootstrap).topics["large"]
    sent = [b"small", b"x" * 300_000, b"behind"]
    with topic.get_producer() as producer:
        for value in sent:
            producer.produce(value)
    consumer = topic.get_simple_consumer(consumer_timeout_ms=500, fetch_message_max_bytes=1_000)
    assert [message.value for message in take(consumer, 3)] == sent


@pytest.mark.parametrize("version", versions(WITH_MESSAGE_SETS))
def test_what_an_old_broker_cannot_do_is_said_in_an_error(start_kafka, version):
    cluster = start_kafka(version, brokers=1)
    client = KafkaClient(cluster.bootstrap)
    topic = client.topics["errors"]
    with topic.get_producer(sync=True) as producer:
        producer.produce(b"value")
        with pytest.raises(KafkaException, match=r"record headers need a broker of Kafka 0\.11"):
            producer.produce(b"value", headers=[("name", b"value")])
        producer.produce(b"still usable")
    if version.startswith("0.8"):
        with pytest.raises(KafkaException, match=r"JoinGroup, which came with Kafka 0\.9"):
            topic.get_balanced_consumer(b"group", managed=True)


@pytest.mark.parametrize("version", versions(WITH_MESSAGE_SETS[1:]))
def test_a_group_shares_the_partitions_of_a_topic(start_kafka, version, take):
    cluster = start_kafka(version, brokers=1, settings={"num.partitions": "4"})
    topic = KafkaClient(cluster.bootstrap).topics["shared"]
    with topic.get_producer() as producer:
        for number in range(400):
            producer.produce(b"%d" % number, partition_key=b"%d" % number)
    consumer = topic.get_balanced_consumer(b"group", managed=True, auto_commit_enable=True)
    assert len(consumer.partitions) == 4
    assert {message.value for message in take(consumer, 400)} == {b"%d" % number for number in range(400)}
    consumer.stop()
