"""A million messages from Python into three brokers of real Kafka and back."""

import pykafka
import pytest
from pykafka.common import CompressionType

COUNT = 1_000_000
CODECS = {
    "none": CompressionType.NONE,
    "gzip": CompressionType.GZIP,
    "snappy": CompressionType.SNAPPY,
    "lz4": CompressionType.LZ4,
    "zstd": CompressionType.ZSTD,
}


def value(number):
    """100 bytes that are unique to this number, and compress about as well as text."""
    text = b"%010d %016x the quick brown fox jumps over the lazy dog, and the dog does not mind it at all"
    return (text % (number, number * 0x9E3779B97F4A7C15 % 2**64)).ljust(100)


@pytest.mark.parametrize("codec", CODECS)
def test_a_million_messages_come_back_once_and_in_order(kafka, codec):
    name = f"million-{codec}"
    kafka.create_topic(name, partitions=3, replication_factor=3)
    topic = pykafka.KafkaClient(kafka.bootstrap).topics[name]
    with topic.get_producer(compression=CODECS[codec]) as producer:
        for number in range(COUNT):
            producer.produce(value(number))
    assert sum(answer.offset[0] for answer in topic.latest_available_offsets().values()) == COUNT

    seen = bytearray(COUNT)
    last = dict.fromkeys(topic.partitions, -1)
    with topic.get_simple_consumer(consumer_timeout_ms=30_000) as consumer:
        for _ in range(COUNT):
            message = consumer.consume()
            number = int(message.value[:10])
            assert message.value == value(number)
            assert number > last[message.partition_id], "the order of a partition is the order of produce()"
            last[message.partition_id] = number
            seen[number] += 1
    assert seen == b"\x01" * COUNT
