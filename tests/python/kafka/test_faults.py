"""Brokers of real Kafka are killed and frozen; then the log is compared with the reports.

The log is read with librdkafka, which shares no code with us.
"""

import time

import pykafka
import pytest
from witnesses import Reader, Writer, independently_read

PARTITIONS = 3

#: The least number of messages that each run writes.
MESSAGES = 1_000_000


def check(writer, reader, log):
    """None lost, none duplicated, all in order, every report true, everything read."""
    assert writer.error is None
    assert reader.error is None
    assert writer.failed == []
    assert len(writer.delivered) == writer.count, "one report for each message"
    assert len(log) == writer.count, "nothing lost or duplicated"
    assert {(partition, offset): number for number, partition, offset in writer.delivered} == log
    for partition in range(PARTITIONS):
        stored = [number for (where, _), number in sorted(log.items()) if where == partition]
        assert stored == sorted(stored), f"the order of partition {partition}"
        reported = [number for number, where, _ in writer.delivered if where == partition]
        assert reported == stored, f"the order of the reports of partition {partition}"
    assert reader.repeated == []
    assert reader.read == log


def kill_each(kafka, pause):
    for broker_id in kafka.brokers:
        kafka.kill(broker_id)
        time.sleep(pause)
        kafka.start(broker_id)
        kafka.wait_in_sync()


def freeze_one(kafka, broker_id, seconds):
    kafka.freeze(broker_id)
    time.sleep(seconds)
    kafka.thaw(broker_id)
    kafka.wait_ready()
    kafka.wait_in_sync()


def run(kafka, name, *faults):
    kafka.create_topic(name, partitions=PARTITIONS, replication_factor=3)
    writer = Writer(pykafka.KafkaClient(kafka.bootstrap).topics[name], MESSAGES, burst=400)
    reader = Reader(pykafka.KafkaClient(kafka.bootstrap).topics[name].get_simple_consumer(consumer_timeout_ms=500))
    reader.start()
    writer.start()
    try:
        for fault in faults:
            fault()
    finally:
        writer.finish()
        reader.finish(writer.count)
    check(writer, reader, independently_read(kafka.bootstrap, name, PARTITIONS))


def test_brokers_killed_one_after_the_other_and_one_frozen_lose_and_repeat_nothing(start_kafka):
    kafka = start_kafka("LATEST", brokers=3)
    run(kafka, "short", lambda: kill_each(kafka, 1), lambda: freeze_one(kafka, 1, 8))


@pytest.mark.long
@pytest.mark.parametrize("version", ["LATEST", "LATEST_3"])
def test_many_rounds_of_kills_and_freezes_lose_and_repeat_nothing(start_kafka, version):
    kafka = start_kafka(version, brokers=3)
    for number in range(5):
        faults = [lambda number=number: kill_each(kafka, number * 3)]
        faults += [lambda broker_id=broker_id: freeze_one(kafka, broker_id, 12) for broker_id in kafka.brokers]
        run(kafka, f"round-{number}", *faults)
