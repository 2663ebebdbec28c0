"""Producing and consuming on every generation of Kafka that has record batches."""

from pathlib import Path

import pytest
from pykafka import KafkaClient

COUNT = 5_000
OLDER = (Path(__file__).resolve().parents[2] / "kafka" / "versions" / "older").read_text().split()
OLDEST, *OTHERS = OLDER[OLDER.index("0.11.0.3") :]


@pytest.mark.parametrize("version", [OLDEST, *(pytest.param(version, marks=pytest.mark.long) for version in OTHERS)])
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
