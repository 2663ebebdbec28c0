"""Brokers of real Kafka are upgraded and downgraded one after the other, while programs write and read.

Each round follows Kafka's upgrade notes. New binaries come first, with the old `inter.broker.protocol.version` and
`log.message.format.version`; then come the new protocol and the new format, each with a round of its own. A broker can
go back to old binaries only as long as they speak the protocol, so the protocol of the newest version is never set.

The log is read with librdkafka, and as bytes from the brokers' disks; neither shares code with us.
"""

import bisect
import contextlib
import logging
import struct
from dataclasses import dataclass

import pykafka
import pytest
from pykafka.partitioners import HashingPartitioner
from witnesses import Reader, Writer, independently_read

PARTITIONS = 3


@dataclass(frozen=True)
class Round:
    """What every broker has after a round: its version, and the versions of its protocol and its log."""

    version: str
    protocol: str
    message_format: str

    @property
    def settings(self):
        names = ("inter.broker.protocol.version", "log.message.format.version")
        return dict(zip(names, (self.protocol, self.message_format), strict=True))


#: The log has producer ids and sequence numbers from the format of Kafka 0.11 on.
OLD_FORMAT = "0.10.2"

UP_AND_BACK = [
    Round("1.1.1", "1.1", "1.1"),
    Round("2.8.2", "1.1", "1.1"),
    Round("1.1.1", "1.1", "1.1"),
]

FROM_BEFORE_IDEMPOTENCE = [
    Round("0.10.2.2", "0.10.2", OLD_FORMAT),
    Round("1.1.1", "0.10.2", OLD_FORMAT),
    Round("1.1.1", "1.1", OLD_FORMAT),
    *UP_AND_BACK,
]


class Traffic:
    """A writer, a reader and a group in a topic of their own."""

    def __init__(self, kafka, name, **options):
        kafka.create_topic(name, partitions=PARTITIONS, replication_factor=3)
        self.name = name
        self.writer = Writer(self._topic(kafka), at_least=0, burst=20, linger_ms=5, **options)
        simple = self._topic(kafka).get_simple_consumer(consumer_timeout_ms=500)
        member = self._topic(kafka).get_balanced_consumer(
            b"group-" + name.encode(), managed=True, consumer_timeout_ms=500, auto_commit_enable=True
        )
        self.reader, self.group = Reader(simple), Reader(member)
        for thread in (self.reader, self.group, self.writer):
            thread.start()

    def _topic(self, kafka):
        return pykafka.KafkaClient(kafka.bootstrap).topics[self.name]

    def stop(self):
        """Ends all threads, whatever is read."""
        self.writer.finish()
        self.reader.finish(0)
        self.group.finish(0)

    def finish(self, kafka):
        """Stops writing, and returns the whole log when everything is read: {(partition, offset): number}."""
        self.writer.finish()
        log = independently_read(kafka.bootstrap, self.name, PARTITIONS)
        self.reader.finish(len(log))
        self.group.finish(len(log))
        return log


def batches_on_disk(kafka, topic, partition):
    """The last offset, the magic and the producer id (or -1) of each batch in the log of a partition's leader."""
    folder = kafka.log_dir(kafka.leader(topic, partition)) / f"{topic}-{partition}"
    for segment in sorted(folder.glob("*.log")):
        data, at = segment.read_bytes(), 0
        while at < len(data):
            offset, size = struct.unpack_from(">qi", data, at)
            magic, last_offset_delta, producer_id = data[at + 16], 0, -1
            if magic == 2:
                (last_offset_delta,) = struct.unpack_from(">i", data, at + 23)
                (producer_id,) = struct.unpack_from(">q", data, at + 43)
            yield offset + last_offset_delta, magic, producer_id
            at += 12 + size


def check(kafka, traffic, log, idempotent_from):
    """None lost, all in order, every report true, everything read; no duplicate since the log has sequence numbers.

    :param idempotent_from: the number of the first message that was written after every broker had the new format.
    """
    writer = traffic.writer
    assert [thread.error for thread in (writer, traffic.reader, traffic.group)] == [None] * 3
    assert writer.failed == []
    assert [number for number, _, _ in sorted(writer.delivered)] == list(range(writer.count)), "one report for each"
    assert set(log.values()) == set(range(writer.count)), "nothing lost"
    assert all(log[partition, offset] == number for number, partition, offset in writer.delivered)
    for partition in range(PARTITIONS):
        stored = [number for (where, _), number in sorted(log.items()) if where == partition]
        assert list(dict.fromkeys(stored)) == sorted(set(stored)), f"the order of partition {partition}"
        since = [number for number in stored if number >= idempotent_from]
        assert since == sorted(set(since)), f"no duplicate, and the order of partition {partition}"
        reported = [number for number, where, _ in writer.delivered if where == partition]
        assert reported == sorted(set(stored)), f"the order of the reports of partition {partition}"
        batches = list(batches_on_disk(kafka, traffic.name, partition))
        ends = [last_offset for last_offset, _, _ in batches]
        for offset in (offset for (where, offset), number in log.items() if where == partition):
            _, magic, producer_id = batches[bisect.bisect_left(ends, offset)]
            if log[partition, offset] >= idempotent_from:
                assert (magic, producer_id >= 0) == (2, True), f"{partition}, {offset} has no sequence number"
    assert traffic.reader.repeated == []
    assert traffic.reader.read == log
    # A member reads again what it had not committed when it lost its session.
    assert traffic.group.read == log


def roll(kafka, target, traffics):
    """Restarts one broker after the other; each time everybody goes on before the next one stops."""
    for broker_id in kafka.brokers:
        kafka.stop(broker_id)
        kafka.start(broker_id, version=target.version, settings=target.settings)
        kafka.wait_in_sync()
        for traffic in traffics:
            traffic.writer.wait_for_more(500)


def run(start_kafka, first, *rounds):
    kafka = start_kafka(first.version, brokers=3, settings=first.settings)
    keyed = {"key_of": lambda number: b"%d" % (number % 100), "partitioner": HashingPartitioner()}
    idempotent_from = None
    with contextlib.ExitStack() as stack:
        traffics = []
        for name, options in (("unkeyed", {}), ("keyed", keyed)):
            traffics.append(Traffic(kafka, name, **options))
            stack.callback(traffics[-1].stop)
        for target in [first, *rounds]:
            if target is not first:
                roll(kafka, target, traffics)
            if idempotent_from is None and target.message_format != OLD_FORMAT:
                idempotent_from = [traffic.writer.count for traffic in traffics]
        logs = [traffic.finish(kafka) for traffic in traffics]
    for traffic, log, since in zip(traffics, logs, idempotent_from, strict=True):
        check(kafka, traffic, log, since)


def test_an_upgrade_and_a_step_back_under_load_lose_and_repeat_nothing(start_kafka):
    run(start_kafka, *UP_AND_BACK)


@pytest.mark.long
def test_an_upgrade_from_before_idempotence_and_a_step_back_lose_nothing_and_repeat_nothing_since(start_kafka, caplog):
    with caplog.at_level(logging.INFO, "pykafka"):
        run(start_kafka, *FROM_BEFORE_IDEMPOTENCE)
    told = [record.getMessage() for record in caplog.records]
    for weaker in ("is older than Kafka 0.11", "the topic unkeyed is kept in a format", "the topic keyed is kept in"):
        assert any(weaker in line for line in told), f"{weaker!r} in {told}"
