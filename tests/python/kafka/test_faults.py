"""Brokers of real Kafka are killed and frozen; then the log is compared with the reports.

The log is read with librdkafka, which shares no code with us.
"""

import queue
import threading
import time

import confluent_kafka
import pykafka
import pytest

PARTITIONS = 3

#: The least number of messages that each run writes.
MESSAGES = 1_000_000


class Writer(threading.Thread):
    """Produces numbered messages until it is told to stop, and keeps every report."""

    def __init__(self, topic):
        super().__init__()
        self._topic = topic
        self._stopping = threading.Event()
        self.count = 0
        #: The reports, in order: the message's number, partition and offset.
        self.delivered = []
        self.failed = []
        self.error = None

    def run(self):
        try:
            with self._topic.get_producer(delivery_reports=True) as producer:
                while self.count < MESSAGES or not self._stopping.is_set():
                    for _ in range(400):
                        producer.produce(b"%010d" % self.count + b"." * 90)
                        self.count += 1
                    self._read_reports(producer)
                    time.sleep(0.01)
                while len(self.delivered) + len(self.failed) < self.count:
                    self._note(*producer.get_delivery_report(timeout=180))
        except BaseException as error:
            self.error = error

    def _read_reports(self, producer):
        try:
            while True:
                self._note(*producer.get_delivery_report(block=False))
        except queue.Empty:
            pass

    def _note(self, message, error):
        number = int(message.value[:10])
        if error is None:
            self.delivered.append((number, message.partition_id, message.offset))
        else:
            self.failed.append((number, error))

    def finish(self):
        self._stopping.set()
        self.join()


class Reader(threading.Thread):
    """Consumes until it has seen a number of messages, while brokers go and come back."""

    def __init__(self, topic):
        super().__init__()
        self._consumer = topic.get_simple_consumer(consumer_timeout_ms=500, auto_start=True)
        self._goal = None
        #: (partition, offset): number.
        self.read = {}
        self.repeated = []
        self.error = None

    def run(self):
        deadline = None
        try:
            while self._goal is None or len(self.read) < self._goal:
                for message in self._consumer:
                    place = (message.partition_id, message.offset)
                    if place in self.read:
                        self.repeated.append(place)
                    self.read[place] = int(message.value[:10])
                if self._goal is not None:
                    deadline = deadline or time.monotonic() + 180
                    if time.monotonic() > deadline:
                        return
        except BaseException as error:
            self.error = error
        finally:
            self._consumer.stop()

    def finish(self, goal):
        self._goal = goal
        self.join()


def independently_read(bootstrap, topic):
    """{(partition, offset): number} of all messages in a topic, read with librdkafka."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "independent",
            "enable.auto.commit": False,
            "check.crcs": True,
            "fetch.queue.backoff.ms": 1,
        }
    )
    read = {}
    try:
        places = [confluent_kafka.TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)]
        ends = {place.partition: consumer.get_watermark_offsets(place, timeout=30)[1] for place in places}
        consumer.assign(places)
        deadline = time.monotonic() + 180
        while len(read) < sum(ends.values()):
            assert time.monotonic() < deadline, f"{len(read)} of {sum(ends.values())} messages"
            for message in consumer.consume(10_000, timeout=1):
                assert message.error() is None, message.error()
                read[message.partition(), message.offset()] = int(message.value()[:10])
    finally:
        consumer.close()
    return read


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
    writer = Writer(pykafka.KafkaClient(kafka.bootstrap).topics[name])
    reader = Reader(pykafka.KafkaClient(kafka.bootstrap).topics[name])
    reader.start()
    writer.start()
    try:
        for fault in faults:
            fault()
    finally:
        writer.finish()
        reader.finish(writer.count)
    check(writer, reader, independently_read(kafka.bootstrap, name))


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
