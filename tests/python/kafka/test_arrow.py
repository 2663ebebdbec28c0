"""Tables into three brokers of real Kafka and back, and columns for the members of a group."""

import pyarrow
import pykafka
import pytest
from pykafka.common import CompressionType, OffsetType

COUNT = 200_000
CODECS = {
    "none": CompressionType.NONE,
    "gzip": CompressionType.GZIP,
    "snappy": CompressionType.SNAPPY,
    "lz4": CompressionType.LZ4,
    "zstd": CompressionType.ZSTD,
}


def rows():
    """Rows whose values are unique, of every length around that of a view, and with a null now and then."""
    numbers = range(COUNT)
    kind = pyarrow.list_(pyarrow.struct({"key": pyarrow.utf8(), "value": pyarrow.binary()}))
    return pyarrow.table(
        {
            "value": pyarrow.array(None if n % 97 == 0 else (b"%d " % n) * (n % 9 + 1) for n in numbers),
            "key": pyarrow.array((None if n % 3 == 0 else b"%d" % n for n in numbers), pyarrow.binary_view()),
            "partition": pyarrow.array((n % 3 for n in numbers), pyarrow.int32()),
            "timestamp": pyarrow.array((1_700_000_000_000 + n for n in numbers), pyarrow.timestamp("ms", "UTC")),
            "headers": pyarrow.array(([{"key": "n", "value": b"%d" % n}] * (n % 2) for n in numbers), kind),
        }
    )


@pytest.mark.parametrize("codec", CODECS)
def test_a_table_comes_back_as_it_was_and_in_order(kafka, codec):
    name = f"columns-{codec}"
    kafka.create_topic(name, partitions=3, replication_factor=3)
    topic = pykafka.KafkaClient(kafka.bootstrap).topics[name]
    table = rows()
    columns = {name: name for name in ("key", "partition", "timestamp", "headers")}
    with topic.get_producer(compression=CODECS[codec]) as producer:
        assert producer.produce_arrow(table, **columns) == COUNT
    batches = []
    with topic.get_simple_consumer(consumer_timeout_ms=30_000) as consumer:
        while sum(map(len, batches)) < COUNT:
            batches.append(pyarrow.record_batch(consumer.consume_arrow()))
    found = pyarrow.Table.from_batches(batches)
    of = found["partition"].to_pylist()
    for column in ("offset", "value", "key", "timestamp", "headers"):
        wanted = None if column == "offset" else table[column].to_pylist()
        got = {partition: [] for partition in range(3)}
        for partition, value in zip(of, found[column].to_pylist(), strict=True):
            got[partition].append(value)
        for partition, values in got.items():
            assert values == (wanted[partition::3] if wanted else list(range(len(values)))), column


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_members_of_a_group_share_a_topic_as_columns_and_commit(kafka, protocol):
    name = f"columns-group-{protocol}"
    kafka.create_topic(name, partitions=4, replication_factor=3)
    topic = pykafka.KafkaClient(kafka.bootstrap).topics[name]
    values = pyarrow.array(b"%d" % number for number in range(1_000))
    partitions = pyarrow.array((number % 4 for number in range(1_000)), pyarrow.int32())
    with topic.get_producer() as producer:
        producer.produce_arrow(pyarrow.table({"value": values, "partition": partitions}), partition="partition")

    def member(**options):
        return topic.get_balanced_consumer(
            name,
            managed=True,
            group_protocol=protocol,
            auto_offset_reset=OffsetType.EARLIEST,
            consumer_timeout_ms=1_000,
            **options,
        )

    seen = []
    with member(auto_commit_enable=True) as first, member(auto_commit_enable=True) as second:
        while len(set(seen)) < 1_000:
            for consumer in (first, second):
                seen += pyarrow.record_batch(consumer.consume_arrow(100))["value"].to_pylist()
    with member() as later:
        assert sum(len(batch) for batch in later.record_batches()) == 0
    assert {int(value) for value in seen} == set(range(1_000))
