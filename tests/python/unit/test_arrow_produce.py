"""Producing tables of other libraries to the in-memory broker."""

import ctypes
import random
from datetime import UTC, datetime
from queue import Empty

import duckdb
import pandas
import polars
import pyarrow
import pytest
from consuming import consumer_of, messages_of
from pykafka import KafkaClient
from pykafka.exceptions import (
    ConsumerStoppedException,
    MessageSizeTooLarge,
    ProducerQueueFullError,
    ProducerStoppedException,
)
from pykafka.testing import Broker


def produced(topic, table, count=None, producer_options=None, **columns):
    """Sends a table, and returns what the topic then has, as tuples of value, key, timestamp and headers."""
    with topic.get_producer(**producer_options or {}) as producer:
        assert producer.produce_arrow(table, **columns) == (table.num_rows if count is None else count)
    with consumer_of(topic) as consumer:
        return [
            (message.value, message.partition_key, message.timestamp, message.headers)
            for message in messages_of(consumer)
        ]


@pytest.mark.parametrize("value", ["binary", "large_binary", "binary_view", "utf8", "large_utf8", "string_view"])
def test_bytes_and_text_of_every_kind_are_values_and_keys(lone_topic, value):
    texts = ["a", None, "", "more than twelve bytes", "größer"]
    column = pyarrow.array(texts, getattr(pyarrow, value)())
    keys = pyarrow.array(texts[::-1], getattr(pyarrow, value)())
    found = produced(lone_topic, pyarrow.table({"value": column, "key": keys}), key="key")
    encoded = [None if text is None else text.encode() for text in texts]
    assert [row[:2] for row in found] == list(zip(encoded, encoded[::-1], strict=True))


@pytest.mark.parametrize("kind", ["binary", "large_binary", "binary_view"])
def test_of_a_slice_only_its_rows_are_sent(lone_topic, kind):
    values = [None if number % 7 == 0 else b"%d" % number * (number % 20) for number in range(1_000)]
    headers = [[("n", b"%d" % number)] * (number % 3) for number in range(1_000)]
    table = pyarrow.table(
        {
            "v": pyarrow.array(values, getattr(pyarrow, kind)()),
            "p": pyarrow.array([0] * 1_000, pyarrow.int32()),
            "t": pyarrow.array(range(1_000), pyarrow.int64()),
            "h": pyarrow.array(headers, pyarrow.map_(pyarrow.utf8(), pyarrow.binary())),
        }
    )
    columns = {"value": "v", "partition": "p", "timestamp": "t", "headers": "h"}
    found = produced(lone_topic, table.slice(333, 400), **columns)
    assert [row[0] for row in found] == values[333:733]
    assert [row[2] for row in found] == list(range(333, 733))
    assert [row[3] for row in found] == headers[333:733]


def test_the_rows_of_a_batch_that_is_a_slice_itself_are_those_of_its_columns(lone_topic):
    kind = pyarrow.list_(pyarrow.struct([("key", pyarrow.binary()), ("value", pyarrow.binary())]))
    rows = [{"value": b"%d" % number, "h": [{"key": b"k", "value": b"%d" % number}]} for number in range(9)]
    structs = pyarrow.array(rows, pyarrow.struct([("value", pyarrow.binary()), ("h", kind)]))

    class Sliced:
        """Exports structs whose offset is not 0, which pyarrow's own batches never have."""

        num_rows = 4

        def __arrow_c_array__(self, requested_schema=None):
            return structs.slice(3, 4).__arrow_c_array__()

    found = produced(lone_topic, Sliced(), headers="h")
    assert [(row[0], row[3]) for row in found] == [(b"%d" % number, [("k", b"%d" % number)]) for number in range(3, 7)]


@pytest.mark.parametrize("kind", [pyarrow.int32(), pyarrow.int64()])
def test_a_column_of_partitions_decides_and_a_null_leaves_it_to_the_key(topic, kind):
    table = pyarrow.table(
        {
            "value": [b"%d" % number for number in range(300)] + [b"keyed"] * 2,
            "key": pyarrow.array([None] * 300 + [b"k"] * 2, pyarrow.binary()),
            "partition": pyarrow.array([number % 3 for number in range(300)] + [None, None], kind),
        }
    )
    with topic.get_producer() as producer:
        producer.produce_arrow(table, key="key", partition="partition")
    with consumer_of(topic) as consumer:
        messages = messages_of(consumer)
    numbered = [message for message in messages if message.partition_key is None]
    assert len(numbered) == 300
    assert all(int(message.value) % 3 == message.partition_id for message in numbered)
    assert len({message.partition_id for message in messages if message.partition_key}) == 1


def test_a_partitioner_gets_the_keys_of_rows_without_a_partition(topic):
    asked = []

    def last(partitions, key):
        asked.append(key)
        return partitions[2]

    table = pyarrow.table({"value": [b"a", b"b", b"c"], "key": [b"k", None, b"l"], "partition": [None, None, 1]})
    with topic.get_producer(partitioner=last) as producer:
        producer.produce_arrow(table, key="key", partition="partition")
    with consumer_of(topic) as consumer:
        assert {m.value: m.partition_id for m in messages_of(consumer)} == {b"a": 2, b"b": 2, b"c": 1}
    assert asked == [b"k", None]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_of_every_unit_become_milliseconds(lone_topic, unit):
    times = [datetime(2026, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), None]
    table = pyarrow.table({"value": ["v"] * 3, "time": pyarrow.array(times, pyarrow.timestamp(unit, "UTC"))})
    before = datetime.now(UTC).timestamp() * 1000 - 1_000
    first, second, now = (row[2] for row in produced(lone_topic, table, timestamp="time"))
    assert (first, second) == (times[0].timestamp() * 1000, 1_000)
    assert before < now < before + 600_000


def test_what_is_finer_than_a_millisecond_is_rounded_down(lone_topic):
    table = pyarrow.table({"value": ["v"], "time": pyarrow.array([1_999_999], pyarrow.timestamp("ns"))})
    assert produced(lone_topic, table, timestamp="time")[0][2] == 1


def test_a_time_out_of_range_is_refused(lone_topic):
    table = pyarrow.table({"value": ["v"], "time": pyarrow.array([2**62], pyarrow.timestamp("s"))})
    with lone_topic.get_producer() as producer, pytest.raises(ValueError, match="column time is malformed: a time is"):
        producer.produce_arrow(table, timestamp="time")


@pytest.mark.parametrize("of", [pyarrow.list_, pyarrow.large_list])
def test_headers_are_lists_of_structs(lone_topic, of):
    headers = [[{"key": "a", "value": b"1"}, {"key": "a", "value": None}], None, []]
    kind = of(pyarrow.struct([("key", pyarrow.utf8()), ("value", pyarrow.binary())]))
    table = pyarrow.table({"value": ["v"] * 3, "headers": pyarrow.array(headers, kind)})
    found = produced(lone_topic, table, headers="headers")
    assert [row[3] for row in found] == [[("a", b"1"), ("a", None)], [], []]


def test_what_was_consumed_can_be_produced_as_it_is(topic, lone_topic):
    with topic.get_producer() as producer:
        for number in range(500):
            producer.produce(b"%d" % number * (number % 9), b"%d" % number, timestamp=number, headers=[("h", None)])
    with consumer_of(topic, consumer_timeout_ms=2_000) as consumer, lone_topic.get_producer() as producer:
        columns = {"key": "key", "timestamp": "timestamp", "headers": "headers"}
        assert producer.produce_arrow(consumer.record_batches(100), **columns) == 500
    with consumer_of(lone_topic) as consumer:
        found = sorted((int(m.partition_key), m.value, m.timestamp, m.headers) for m in messages_of(consumer))
    assert found == [(number, b"%d" % number * (number % 9), number, [("h", None)]) for number in range(500)]


def test_a_consumer_of_which_a_missing_column_is_asked_for_keeps_its_messages(topic, lone_topic):
    with topic.get_producer() as producer:
        producer.produce_many([b"a", b"b"])
    with consumer_of(topic) as consumer, lone_topic.get_producer() as producer:
        with pytest.raises(ValueError, match='the table has no column "typo"') as raised:
            producer.produce_arrow(consumer.record_batches(), value="typo")
        assert raised.value.accepted == 0
        assert sorted(message.value for message in messages_of(consumer, 2)) == [b"a", b"b"]


def test_an_exception_of_a_consumer_comes_as_it_is(lone_topic):
    consumer = consumer_of(lone_topic)
    batches = consumer.record_batches()
    consumer.stop()
    with lone_topic.get_producer() as producer, pytest.raises(ConsumerStoppedException) as raised:
        producer.produce_arrow(batches)
    assert raised.value.accepted == 0


@pytest.mark.parametrize("options", [{}, {"delivery_reports": True}])
def test_a_leader_without_timestamps_takes_rows_without_them(options):
    with Broker(version="0.9") as broker:
        topic = KafkaClient(broker.bootstrap_servers).topics["t"]
        with topic.get_producer(sync=not options, **options) as producer:
            assert producer.produce_arrow(pyarrow.table({"value": [b"a", b"b"]})) == 2
            for _ in range(2 if options else 0):
                assert producer.get_delivery_report(timeout=60)[1] is None


def test_of_structs_the_names_say_which_part_of_a_header_is_which(lone_topic):
    kind = pyarrow.list_(pyarrow.struct([("value", pyarrow.binary()), ("key", pyarrow.utf8())]))
    headers = pyarrow.array([[{"key": "name", "value": b"content"}]], kind)
    (row,) = produced(lone_topic, pyarrow.table({"value": [b"v"], "headers": headers}), headers="headers")
    assert row[3] == [("name", b"content")]


def test_random_tables_come_back_as_they_were(lone_topic):
    chance = random.Random(2026)
    kinds = [pyarrow.binary(), pyarrow.large_binary(), pyarrow.binary_view()]

    def some_bytes(most):
        return (
            None
            if chance.random() < 0.2
            else chance.randbytes(chance.choice([0, 1, 11, 12, 13, chance.randrange(most)]))
        )

    expected = []
    with lone_topic.get_producer(compression=chance.choice([0, 1, 2, 3, 4])) as producer:
        for _ in range(40):
            count = chance.randrange(300)
            rows = [
                {
                    "value": some_bytes(5_000),
                    "key": some_bytes(100),
                    "timestamp": chance.choice([None, chance.randrange(2**40)]),
                    "headers": [
                        {"key": chance.choice(["", "é", "trace"]), "value": some_bytes(30)}
                        for _ in range(chance.choice([0, 0, 3]))
                    ],
                }
                for _ in range(count)
            ]
            schema = pyarrow.schema(
                {
                    "value": chance.choice(kinds),
                    "key": chance.choice(kinds),
                    "timestamp": pyarrow.timestamp("ms", "UTC"),
                    "headers": pyarrow.list_(pyarrow.struct({"key": pyarrow.utf8(), "value": pyarrow.binary()})),
                }
            )
            table = pyarrow.Table.from_pylist(rows, schema)
            start = chance.randrange(count + 1)
            table = pyarrow.concat_tables([table.slice(start), table.slice(0, start)])
            assert producer.produce_arrow(table, key="key", timestamp="timestamp", headers="headers") == count
            expected += rows[start:] + rows[:start]
    found = []
    with consumer_of(lone_topic) as consumer:
        while len(found) < len(expected):
            batch = pyarrow.record_batch(consumer.consume_arrow(chance.randrange(1, 2_000)))
            batch.validate(full=True)
            columns = batch.select(["value", "key", "timestamp", "headers"])
            columns = columns.set_column(2, "timestamp", columns["timestamp"].cast(pyarrow.int64()))
            found += columns.to_pylist()
    for row, wanted in zip(found, expected, strict=True):
        if wanted["timestamp"] is None:
            wanted["timestamp"] = row["timestamp"]
        assert row == wanted


def test_polars_pandas_and_duckdb_give_tables(lone_topic):
    values = [b"one", None, b"more than twelve bytes"]
    text = ["one", None, "more than twelve bytes"]
    with duckdb.connect() as database, lone_topic.get_producer() as producer:
        rows = "(VALUES ('one'::BLOB, 1), (NULL, 2), ('more than twelve bytes'::BLOB, 3))"
        relation = database.sql(f"SELECT value FROM {rows} AS t(value, number) ORDER BY number")
        for table in (polars.DataFrame({"value": values}), polars.DataFrame({"value": text}), relation):
            assert producer.produce_arrow(table) == 3
        assert producer.produce_arrow(pandas.DataFrame({"value": text})) == 3
    with consumer_of(lone_topic) as consumer:
        assert [message.value for message in messages_of(consumer)] == values * 4


def test_a_table_without_rows_and_one_of_many_chunks(lone_topic):
    empty = pyarrow.table({"value": pyarrow.array([], pyarrow.binary())})
    chunks = pyarrow.chunked_array([[b"a"], [], [b"b", b"c"]], pyarrow.binary())
    with lone_topic.get_producer() as producer:
        assert producer.produce_arrow(empty) == 0
        assert producer.produce_arrow(pyarrow.table({"value": chunks})) == 3
        assert producer.produce_arrow(pyarrow.record_batch({"value": [b"d"]})) == 1
    with consumer_of(lone_topic) as consumer:
        assert [message.value for message in messages_of(consumer)] == [b"a", b"b", b"c", b"d"]


def test_every_row_has_its_report(lone_topic):
    table = pyarrow.table({"value": [b"a", None], "key": ["k", None]})
    with lone_topic.get_producer(delivery_reports=True) as producer:
        assert producer.produce_arrow(table, key="key") == 2
        reports = [producer.get_delivery_report(timeout=60) for _ in range(2)]
        with pytest.raises(Empty):
            producer.get_delivery_report(block=False)
    found = [(message.value, message.partition_key, message.offset, error) for message, error in reports]
    assert found == [(b"a", b"k", 0, None), (None, None, 1, None)]


def test_a_sync_producer_waits_until_all_rows_are_stored(lone_topic):
    with lone_topic.get_sync_producer() as producer:
        assert producer.produce_arrow(pyarrow.table({"value": [b"v"] * 1_000})) == 1_000
        assert lone_topic.latest_available_offsets()[0].offset == [1_000]


def test_a_row_that_is_too_large_is_refused_behind_what_was_accepted(lone_topic):
    with lone_topic.get_producer() as producer, pytest.raises(MessageSizeTooLarge) as raised:
        producer.produce_arrow(pyarrow.table({"value": [b"fine", bytes(2 << 20), b"never"]}))
    assert raised.value.accepted == 1
    with consumer_of(lone_topic) as consumer:
        assert [message.value for message in messages_of(consumer)] == [b"fine"]


@pytest.mark.parametrize(
    ("table", "columns", "error", "text"),
    [
        (pyarrow.table({"other": ["a"]}), {}, ValueError, 'the table has no column "value"; it has: other'),
        (pyarrow.table([["a"], ["b"]], ["value", "value"]), {}, ValueError, 'several columns "value"'),
        (pyarrow.table({"value": [1]}), {}, TypeError, "column value must be binary, utf8"),
        (
            pyarrow.table({"value": pyarrow.array(["a"]).dictionary_encode()}),
            {},
            TypeError,
            "column value is encoded with a dictionary; cast it",
        ),
        (pyarrow.table({"value": ["a"], "n": ["b"]}), {"partition": "n"}, TypeError, "column n must be int32 or int64"),
        (pyarrow.table({"value": ["a"], "n": ["b"]}), {"timestamp": "n"}, TypeError, "column n must be a timestamp"),
        (
            pyarrow.table({"value": ["a"], "n": ["b"]}),
            {"headers": "n"},
            TypeError,
            "column n must be a list of structs",
        ),
        (
            pyarrow.table({"value": ["a"], "n": [["b"]]}),
            {"headers": "n"},
            TypeError,
            "column n must be a list of struct",
        ),
        (
            pyarrow.table({"value": ["a"], "n": [2**40]}),
            {"partition": "n"},
            ValueError,
            "column n has 1099511627776, which is no number of a partition",
        ),
        (pyarrow.table({"value": ["a"], "n": [77]}), {"partition": "n"}, ValueError, "77"),
        (pyarrow.array(["a"]), {}, TypeError, "table must have columns"),
        ([b"a"], {}, TypeError, "table must be a table with __arrow_c_stream__ or __arrow_c_array__"),
        (None, {}, TypeError, "table must be a table"),
    ],
)
def test_what_is_no_table_or_no_column_is_refused_in_words(topic, table, columns, error, text):
    with topic.get_producer() as producer:
        with pytest.raises(error, match=text) as raised:
            producer.produce_arrow(table, **columns)
        assert raised.value.accepted == 0


def test_a_null_name_of_a_header_is_refused_behind_what_was_accepted(lone_topic):
    kind = pyarrow.list_(pyarrow.struct([("key", pyarrow.utf8()), ("value", pyarrow.binary())]))
    headers = pyarrow.array([[], [{"key": None, "value": b"v"}]], kind)
    with lone_topic.get_producer() as producer, pytest.raises(ValueError, match="key of a header is null") as raised:
        producer.produce_arrow(pyarrow.table({"value": ["a", "b"], "headers": headers}), headers="headers")
    assert raised.value.accepted == 1
    assert "produce_arrow had accepted 1 messages" in raised.value.__notes__[0]


def test_an_error_of_a_stream_says_what_was_accepted(lone_topic):
    schema = pyarrow.schema({"value": pyarrow.binary()})

    def batches():
        yield pyarrow.record_batch({"value": [b"a", b"b"]}, schema)
        raise RuntimeError("the disk is gone")

    with lone_topic.get_producer() as producer:
        with pytest.raises(OSError, match="the table cannot be read: .*the disk is gone") as raised:
            producer.produce_arrow(pyarrow.RecordBatchReader.from_batches(schema, batches()))
        assert raised.value.accepted == 2


def test_a_capsule_that_was_read_before_is_refused(lone_topic):
    class Used:
        def __init__(self, table):
            self.capsule = table.__arrow_c_stream__()

        def __arrow_c_stream__(self, requested_schema=None):
            return self.capsule

    used = Used(pyarrow.table({"value": ["a"]}))
    with lone_topic.get_producer() as producer:
        assert producer.produce_arrow(used) == 1
        with pytest.raises(ValueError, match="what __arrow_c_stream__ returns is empty: it was read before"):
            producer.produce_arrow(used)


def test_a_stopped_producer_refuses_a_table(lone_topic):
    producer = lone_topic.get_producer()
    producer.stop()
    with pytest.raises(ProducerStoppedException):
        producer.produce_arrow(pyarrow.table({"value": ["late"]}))


def test_a_serializer_is_not_passed_over_in_silence(lone_topic):
    refused = pytest.raises(ValueError, match="does not call the producer's serializer")
    with lone_topic.get_producer(serializer=lambda value, key: (value, key)) as producer, refused:
        producer.produce_arrow(pyarrow.table({"value": ["a"]}))


def test_more_than_the_buffer_holds_waits_for_room(lone_topic):
    table = pyarrow.table({"value": [bytes(500_000)] * 200})
    with lone_topic.get_producer() as producer:
        assert producer.produce_arrow(table) == 200
    assert lone_topic.latest_available_offsets()[0].offset == [200]


def test_a_full_buffer_says_how_many_rows_it_took(own_broker):
    own_broker.create_topic("silent", partitions=1)
    topic = KafkaClient(own_broker.bootstrap_servers).topics["silent"]
    producer = topic.get_producer(block_on_queue_full=False)
    own_broker.silence()
    with pytest.raises(ProducerQueueFullError) as raised:
        producer.produce_arrow(pyarrow.table({"value": [bytes(500_000)] * 200}))
    assert 40 < raised.value.accepted < 80
    own_broker.heal()
    # Requests that had no answer get one over a new connection.
    own_broker.set_broker_down(1)
    own_broker.set_broker_up(1)
    producer.stop()
    assert topic.latest_available_offsets()[0].offset == [raised.value.accepted]


class Array(ctypes.Structure):
    """`struct ArrowArray`."""


Array._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(Array))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]

pointer_in = ctypes.pythonapi.PyCapsule_GetPointer
pointer_in.restype, pointer_in.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


class Changed:
    """A table of two rows with a long and a short value, whose structures a test has changed."""

    def __init__(self, kind, change):
        column = pyarrow.array([b"longer than twelve bytes", b"short"], kind)
        self.capsules = pyarrow.record_batch({"value": column}).__arrow_c_array__()
        array = Array.from_address(pointer_in(self.capsules[1], b"arrow_array"))
        change(array, array.children[0].contents)

    def __arrow_c_array__(self, requested_schema=None):
        return self.capsules


def set_to(address, number, size):
    ctypes.memmove(address, number.to_bytes(size, "little", signed=True), size)


@pytest.mark.parametrize(
    ("kind", "change", "text"),
    [
        ("binary", lambda table, column: setattr(column, "length", 1), "column value is malformed: it is shorter"),
        ("binary", lambda table, column: setattr(column, "length", -1), "its length is negative"),
        ("binary", lambda table, column: setattr(column, "offset", -1), "its offset is negative"),
        ("binary", lambda table, column: setattr(column, "n_buffers", 2), "it lacks a buffer"),
        ("binary", lambda table, column: column.buffers.__setitem__(1, None), "a buffer is null"),
        ("binary", lambda table, column: column.buffers.__setitem__(2, None), "a buffer is null"),
        ("large_binary", lambda table, column: column.buffers.__setitem__(2, None), "a buffer is null"),
        ("binary", lambda table, column: set_to(column.buffers[1] + 4, -5, 4), "its offsets go back"),
        ("large_binary", lambda table, column: set_to(column.buffers[1] + 8, -5, 8), "its offsets go back"),
        ("binary_view", lambda table, column: setattr(column, "n_buffers", 2), "it lacks a buffer"),
        ("binary_view", lambda table, column: set_to(column.buffers[1], -1, 4), "a view has a negative length"),
        ("binary_view", lambda table, column: set_to(column.buffers[1], 10_000, 4), "points outside of its buffer"),
        ("binary_view", lambda table, column: set_to(column.buffers[1] + 8, 3, 4), "points outside of its buffer"),
        ("binary_view", lambda table, column: set_to(column.buffers[1] + 12, -1, 4), "points outside of its buffer"),
        ("binary", lambda table, column: setattr(table, "n_children", 0), "fewer or more columns than its schema"),
        (
            "binary",
            lambda table, column: setattr(table, "length", -1),
            "the table is malformed: its length is negative",
        ),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(lone_topic, kind, change, text):
    with lone_topic.get_producer() as producer, pytest.raises(ValueError, match=text):
        producer.produce_arrow(Changed(getattr(pyarrow, kind)(), change))
