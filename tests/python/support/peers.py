"""Other clients beside ours on a cluster of any version: Kafka's console tools of that version, and librdkafka.

Each has `write(topic, records)` and `read(topic, count)`, where a record is a key and a value, and a name.
"""

import confluent_kafka

#: How the tools print null; no record contains it.
NULL = b"null"
#: How long anything may take, in seconds.
LIMIT = 120


def parsed(version):
    """`"0.10.2.2"` as `(0, 10, 2, 2)`."""
    return tuple(int(part) for part in version.split("."))


class Tools:
    """The console producer and consumer.

    :param version: of the tools, if not that of the brokers.
    """

    def __init__(self, cluster, version=None):
        self._cluster, self._version = cluster, version
        self.name = f"console tools {version or ''}".strip()
        # Kafka 4.2 has renamed the options; brokers of 4.4 are served by the tools of 4.3.
        renamed = parsed(version or cluster.version) >= (4, 2)
        self._reader, self._formatter, self._producer = (
            ("--reader-property", "--formatter-property", "--command-property")
            if renamed
            else ("--property", "--property", "--producer-property")
        )

    def write(self, topic, records, codec="none"):
        """Writes records with keys, neither of which is null; waits until they are acknowledged."""
        lines = b"".join(key + b"\t" + value + b"\n" for key, value in records)
        arguments = ["--topic", topic, "--compression-codec", codec, "--request-required-acks", "-1"]
        arguments += [self._reader, "parse.key=true", self._reader, "key.separator=\t"]
        if parsed(self._version or "0.8") >= (3, 0):
            # Newer than the brokers, and idempotent by default, which a topic kept in an old format refuses.
            arguments += [self._producer, "enable.idempotence=false"]
        self._cluster.tool("console-producer", *arguments, input=lines, version=self._version)

    def read(self, topic, count):
        """Reads so many records from the beginning; None for null."""
        arguments = ["--topic", topic, "--from-beginning", "--max-messages", count]
        arguments += [self._formatter, "print.key=true", self._formatter, "key.separator=\t"]
        printed = self._cluster.tool("console-consumer", *arguments, version=self._version)
        lines = [line.split(b"\t") for line in printed.splitlines()]
        return [tuple(None if field == NULL else field for field in line) for line in lines]

    def offset(self, topic, time):
        """The offset in partition 0 that GetOffsetShell finds for a time: milliseconds, -1 (end) or -2 (beginning)."""
        printed = self._cluster.tool("get-offsets", "--topic", topic, "--time", time)
        (line,) = (line for line in printed.decode().splitlines() if line.startswith(f"{topic}:"))
        return int(line.split(":")[2])


class Confluent:
    """librdkafka, through confluent-kafka."""

    name = f"confluent-kafka {confluent_kafka.version()}"

    def __init__(self, cluster):
        self._settings = {"bootstrap.servers": cluster.bootstrap}
        if parsed(cluster.version) < (0, 10):
            # It cannot ask these brokers what they can do.
            fallback = ".".join(cluster.version.split(".")[:3])
            self._settings |= {"api.version.request": False, "broker.version.fallback": fallback}

    def write(self, topic, records, codec="none", headers=None, timestamp=0):
        """Writes records to partition 0; waits until they are acknowledged."""
        producer = self._producer(codec)
        failed = []
        for key, value in records:
            producer.produce(
                topic,
                value,
                key,
                partition=0,
                headers=headers,
                timestamp=timestamp,
                on_delivery=lambda error, _: error and failed.append(error),
            )
        assert producer.flush(LIMIT) == 0
        assert failed == []

    def write_transaction(self, topic, records, commit):
        """Writes records to partition 0 in a transaction that is committed or aborted."""
        producer = confluent_kafka.Producer(self._settings | {"transactional.id": f"transactional-{topic}"})
        producer.init_transactions(LIMIT)
        producer.begin_transaction()
        for key, value in records:
            producer.produce(topic, value, key, partition=0)
        assert producer.flush(LIMIT) == 0
        (producer.commit_transaction if commit else producer.abort_transaction)(LIMIT)

    def messages(self, topic, count):
        """The first messages of partition 0."""
        consumer = self.consumer("reader")
        consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
        messages = []
        while len(messages) < count:
            message = consumer.poll(LIMIT)
            assert message is not None, f"{len(messages)} of {count} messages"
            assert message.error() is None, message.error()
            messages.append(message)
        consumer.close()
        return messages

    def read(self, topic, count):
        """Reads so many records from the beginning of partition 0."""
        return [(message.key(), message.value()) for message in self.messages(topic, count)]

    def offset(self, topic, time):
        """The offset in partition 0 that it finds for a time: milliseconds, -1 (end) or -2 (beginning)."""
        consumer = self.consumer("times")
        beginning, end = consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, 0), LIMIT)
        (found,) = consumer.offsets_for_times([confluent_kafka.TopicPartition(topic, 0, max(time, 0))], LIMIT)
        consumer.close()
        return {-1: end, -2: beginning}.get(time, found.offset)

    def consumer(self, group, **settings):
        """A consumer that commits nothing by itself."""
        own = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False, "check.crcs": True}
        return confluent_kafka.Consumer(self._settings | own | settings)

    def _producer(self, codec):
        return confluent_kafka.Producer(self._settings | {"compression.type": codec, "linger.ms": 50})
