"""Consuming columns from the in-memory broker, with every library that the guide names."""

import contextlib
import signal
import threading
import time

import duckdb
import pandas
import polars
import pyarrow
import pyarrow.parquet
import pytest
from consuming import AUTO_COMMIT, committed, consumer_of, fill, in_turns, values
from pykafka.common import CompressionType, OffsetType
from pykafka.exceptions import ConsumerStoppedException, MessageSetDecodeFailure

SCHEMA = pyarrow.schema(
    [
        pyarrow.field("topic", pyarrow.dictionary(pyarrow.int32(), pyarrow.utf8()), nullable=False),
        pyarrow.field("partition", pyarrow.int32(), nullable=False),
        pyarrow.field("offset", pyarrow.int64(), nullable=False),
        pyarrow.field("timestamp", pyarrow.timestamp("ms", "UTC")),
        pyarrow.field("key", pyarrow.binary_view()),
        pyarrow.field("value", pyarrow.binary_view()),
        pyarrow.field(
            "headers",
            pyarrow.list_(
                pyarrow.field(
                    "item",
                    pyarrow.struct(
                        [
                            pyarrow.field("key", pyarrow.utf8(), nullable=False),
                            pyarrow.field("value", pyarrow.binary()),
                        ]
                    ),
                    nullable=False,
                )
            ),
            nullable=False,
        ),
    ]
)


def rows_of(consumer, count, **options):
    """So many rows, from one batch or more: how they were fetched decides that."""
    rows = []
    while len(rows) < count:
        batch = consumer.consume_arrow(count - len(rows), **options)
        assert 0 < len(batch) <= count - len(rows)
        rows += pyarrow.record_batch(batch).to_pylist()
    return rows


def all_rows(consumer, count):
    """Checks that each batch is valid Arrow data, and returns all of them as one table."""
    batches = []
    while sum(map(len, batches)) < count:
        batch = pyarrow.record_batch(consumer.consume_arrow(count))
        batch.validate(full=True)
        batches.append(batch)
    return pyarrow.Table.from_batches(batches)


@pytest.mark.parametrize("compression", [CompressionType.NONE, CompressionType.LZ4])
def test_every_part_of_a_message_comes_in_its_column(lone_topic, compression):
    long = bytes(range(256)) * 20
    headers = [("trace", b"1"), ("trace", None), ("größe", b"")]
    with lone_topic.get_producer(compression=compression) as producer:
        producer.produce(b"short", b"k", timestamp=1_000)
        producer.produce(None, b"a key of more than twelve bytes", timestamp=2_000, headers=headers)
        producer.produce(long, None, timestamp=3_000)
        producer.produce(b"", b"", timestamp=4_000, headers=[(b"\xff", b"v")])
    with consumer_of(lone_topic) as consumer:
        table = all_rows(consumer, 4)
    assert table.schema == SCHEMA
    name = lone_topic.name.decode()
    assert table["topic"].to_pylist() == [name] * 4
    assert table["partition"].to_pylist() == [0] * 4
    assert table["offset"].to_pylist() == [0, 1, 2, 3]
    assert table["timestamp"].cast(pyarrow.int64()).to_pylist() == [1_000, 2_000, 3_000, 4_000]
    assert table["key"].to_pylist() == [b"k", b"a key of more than twelve bytes", None, b""]
    assert table["value"].to_pylist() == [b"short", None, long, b""]
    assert table["headers"].to_pylist() == [
        [],
        [{"key": name, "value": value} for name, value in headers],
        [],
        [{"key": "�", "value": b"v"}],
    ]


def test_batches_bring_every_partition_in_its_order_and_as_many_rows_as_asked_for(topic):
    fill(topic, 3_000, partitioner=in_turns)
    by_partition = {}
    with consumer_of(topic) as consumer:
        for row in rows_of(consumer, 3_000):
            by_partition.setdefault(row["partition"], []).append(row["offset"])
    assert by_partition == {id_: list(range(1_000)) for id_ in range(3)}


def test_messages_and_columns_of_one_consumer_follow_each_other(lone_topic):
    fill(lone_topic, 100)
    with consumer_of(lone_topic) as consumer:
        assert values(consumer, 2) == [0, 1]
        assert [int(row["value"]) for row in rows_of(consumer, 3)] == [2, 3, 4]
        assert consumer.held_offsets == {0: 4}
        assert values(consumer, 1) == [5]
        (batch,) = consumer.consume_batch(1)
        assert int(batch.value) == 6
        assert [int(row["value"]) for row in rows_of(consumer, 93)] == list(range(7, 100))


def test_one_batch_takes_what_is_fetched_of_a_partition_although_it_was_written_in_many(lone_topic):
    with lone_topic.get_producer(sync=True) as producer:
        for number in range(30):
            producer.produce(b"%d" % number)
    with consumer_of(lone_topic) as consumer:
        # When the first one is there, so are the others: one response brought them.
        assert values(consumer, 1) == [0]
        assert len(consumer.consume_arrow()) == 29


def test_without_messages_a_batch_has_no_rows_but_all_columns(lone_topic):
    with consumer_of(lone_topic, consumer_timeout_ms=1) as consumer:
        empty = consumer.consume_arrow(10)
        assert (len(empty), repr(empty)) == (0, "<pykafka.RecordBatch (0 messages)>")
        assert len(consumer.consume_arrow(10, timeout=0)) == 0
        batch = pyarrow.record_batch(empty)
        batch.validate(full=True)
        assert batch.schema == SCHEMA
        assert polars.DataFrame(empty).shape == (0, 7)
        assert list(consumer.record_batches()) == []


@pytest.mark.parametrize("arguments", [(0,), (1, -1), (1, float("nan"))])
def test_a_batch_of_nothing_or_a_negative_timeout_is_refused(lone_topic, arguments):
    with consumer_of(lone_topic) as consumer, pytest.raises(ValueError, match="must"):
        consumer.consume_arrow(*arguments)


def test_an_iterator_of_batches_of_nothing_is_refused(lone_topic):
    with consumer_of(lone_topic) as consumer, pytest.raises(ValueError, match="max_records must be at least 1"):
        consumer.record_batches(0)


def test_a_stopped_consumer_has_no_batches(lone_topic):
    consumer = consumer_of(lone_topic)
    consumer.stop()
    with pytest.raises(ConsumerStoppedException):
        consumer.consume_arrow(1)


def test_a_deserializer_is_not_passed_over_in_silence(lone_topic):
    fill(lone_topic, 1)
    with consumer_of(lone_topic, deserializer=lambda value, key: (value, key)) as consumer:
        with pytest.raises(ValueError, match="does not call the consumer's deserializer"):
            consumer.consume_arrow(1)
        assert values(consumer, 1) == [0]


def test_a_batch_can_be_exported_again_and_outlives_its_consumer(lone_topic):
    fill(lone_topic, 5_000)
    with consumer_of(lone_topic) as consumer:
        batch = consumer.consume_arrow()
    first, second = pyarrow.record_batch(batch), pyarrow.record_batch(batch)
    count = len(batch)
    del batch, consumer
    assert first.equals(second)
    assert [int(value) for value in first["value"].to_pylist()] == list(range(count))


def test_values_are_not_copied(lone_topic):
    with lone_topic.get_producer() as producer:
        producer.produce_many([b"%04d" % number * 25 for number in range(1_000)])
    with consumer_of(lone_topic) as consumer:
        batch = consumer.consume_arrow()
    addresses = {
        export["value"].buffers()[index].address
        for export in (pyarrow.record_batch(batch), pyarrow.record_batch(batch))
        for index in (1, 3)
    }
    assert len(addresses) == 2, "views, and the buffer that they refer to, are the same in both"


def test_a_large_compressed_batch_is_one_buffer(lone_topic):
    value = b"longer than twelve bytes"
    with lone_topic.get_producer(compression=CompressionType.LZ4, linger_ms=60_000) as producer:
        producer.produce_many([value] * 40_000)
    buffers = []
    with consumer_of(lone_topic) as consumer:
        while (left := 40_000 - consumer.held_offsets[0] - 1) > 0:
            table = pyarrow.record_batch(consumer.consume_arrow(left))
            assert set(table["value"].to_pylist()) == {value}
            buffers.append([buffer for buffer in table["value"].buffers()[2:] if buffer.size])
    assert max(buffer.size for few in buffers for buffer in few) > 16_384 * len(value), "it comes in several parts"
    for few in buffers:
        assert len({buffer.address for buffer in few}) == len(few)


def test_short_values_keep_no_buffer(lone_topic):
    with lone_topic.get_producer() as producer:
        producer.produce_many([b"short"] * 5_000)
    with consumer_of(lone_topic) as consumer:
        table = pyarrow.record_batch(consumer.consume_arrow())
    assert set(table["value"].to_pylist()) == {b"short"}
    assert sum(buffer.size for buffer in table["value"].buffers()[2:]) == 0


def test_a_column_may_outlive_its_table(lone_topic):
    fill(lone_topic, 2_000)
    with consumer_of(lone_topic) as consumer:
        table = pyarrow.record_batch(consumer.consume_arrow())
    value, headers, offset = table["value"], table["headers"], table["offset"]
    count = len(table)
    del table
    assert [int(number) for number in value.to_pylist()] == offset.to_pylist() == list(range(count))
    assert headers.to_pylist() == [[]] * count


def test_columns_are_released_by_threads_that_do_not_have_the_gil(lone_topic):
    fill(lone_topic, 50_000)
    with consumer_of(lone_topic, consumer_timeout_ms=2_000) as consumer:
        reader = pyarrow.RecordBatchReader.from_stream(consumer.record_batches(500))
        table = reader.read_all()
        assert table.num_rows == 50_000
        sums = []

        def read(part):
            sums.append(sum(int(value) for value in part["value"].to_pylist()))

        threads = [
            threading.Thread(target=read, args=(table.slice(start, 5_000),)) for start in range(0, 50_000, 5_000)
        ]
        del table, reader
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(sums) == sum(range(50_000))


def test_a_stream_reads_until_no_message_comes(topic):
    fill(topic, 1_000, partitioner=in_turns)
    with consumer_of(topic, consumer_timeout_ms=2_000) as consumer:
        reader = pyarrow.RecordBatchReader.from_stream(consumer.record_batches(max_records=300))
        assert reader.schema == SCHEMA
        batches = list(reader)
    assert sum(map(len, batches)) == 1_000
    assert max(map(len, batches)) <= 300
    assert sorted(int(value) for batch in batches for value in batch["value"].to_pylist()) == list(range(1_000))


def test_an_error_of_a_stream_has_our_text(lone_topic):
    consumer = consumer_of(lone_topic)
    reader = pyarrow.RecordBatchReader.from_stream(consumer.record_batches())
    consumer.stop()
    with pytest.raises(OSError, match="ConsumerStoppedException: the consumer is stopped"):
        reader.read_next_batch()


def test_a_stream_may_be_read_from_within_a_call_of_ours(topic, lone_topic):
    fill(topic, 1_000, partitioner=in_turns)
    with consumer_of(topic, consumer_timeout_ms=2_000) as consumer, lone_topic.get_producer() as producer:
        reader = pyarrow.RecordBatchReader.from_stream(consumer.record_batches(50))
        assert producer.produce_many(value for batch in reader for value in batch["value"].to_pylist()) == 1_000
        # Its release comes without the GIL, too.
        producer.produce_many(
            value
            for value in [b"1000"]
            if pyarrow.RecordBatchReader.from_stream(consumer.record_batches()).close() is None
        )
    with consumer_of(lone_topic) as consumer:
        assert sorted(values(consumer)) == list(range(1_001))


@pytest.mark.parametrize("interruption", [SystemExit, KeyboardInterrupt])
def test_an_interruption_of_a_reader_is_no_error_of_the_reader_only(lone_topic, interruption):
    def interrupt(number, frame):
        raise interruption

    consumer = consumer_of(lone_topic)
    reader = pyarrow.RecordBatchReader.from_stream(consumer.record_batches())
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGALRM, signal.SIGINT)}
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(interruption):
            with contextlib.suppress(OSError):
                reader.read_next_batch()
            consumer.consume()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    consumer.stop()


def test_what_a_library_requests_comes_in_other_types(lone_topic):
    long = b"longer than twelve bytes"
    with lone_topic.get_producer() as producer:
        producer.produce_many([(b"a", b"k"), (None, None), (long, long)])
    wanted = SCHEMA.set(0, pyarrow.field("topic", pyarrow.utf8(), nullable=False))
    wanted = wanted.set(4, pyarrow.field("key", pyarrow.large_binary()))
    wanted = wanted.set(5, pyarrow.field("value", pyarrow.binary()))
    with consumer_of(lone_topic) as consumer:
        table = all_rows(consumer, 1)
        rows = len(table)
        consumer.reset_offsets([(lone_topic.partitions[0], OffsetType.EARLIEST)])
        batch = consumer.consume_arrow(rows)
    schema, array = batch.__arrow_c_array__(wanted.__arrow_c_schema__())
    exported = pyarrow.RecordBatch._import_from_c_capsule(schema, array)
    exported.validate(full=True)
    assert exported.schema == wanted
    assert exported.cast(SCHEMA).to_pylist() == table.to_pylist()
    streamed = pyarrow.RecordBatchReader.from_stream(batch, wanted).read_all()
    assert streamed.schema == wanted
    assert streamed.to_pylist() == table.to_pylist()


@pytest.mark.parametrize(
    "wanted",
    [
        pyarrow.schema([]),
        pyarrow.schema([("value", pyarrow.binary())]),
        SCHEMA.set(5, pyarrow.field("value", pyarrow.int64())),
        SCHEMA.set(6, pyarrow.field("others", pyarrow.int64())),
    ],
)
def test_what_cannot_be_given_as_requested_comes_as_usual(lone_topic, wanted):
    fill(lone_topic, 1)
    with consumer_of(lone_topic) as consumer:
        batch = consumer.consume_arrow()
    capsule = wanted.__arrow_c_schema__()
    for _ in range(2):
        exported = pyarrow.RecordBatch._import_from_c_capsule(*batch.__arrow_c_array__(capsule))
        assert exported.schema == SCHEMA
        assert exported["value"].to_pylist() == [b"0"]


def test_a_requested_schema_that_is_none_is_refused(lone_topic):
    with consumer_of(lone_topic, consumer_timeout_ms=1) as consumer:
        batch = consumer.consume_arrow()
    with pytest.raises(TypeError, match="requested_schema must be a capsule named arrow_schema, not int"):
        batch.__arrow_c_array__(5)


def test_polars_pandas_and_duckdb_take_a_batch(lone_topic):
    with lone_topic.get_producer() as producer:
        producer.produce(b"one", b"k", timestamp=0, headers=[("h", b"v")])
        producer.produce(None, timestamp=1_500)
        producer.produce(b"more than twelve bytes", b"another key of more", timestamp=2_000)
    with consumer_of(lone_topic) as consumer:
        batches, count = [], 0
        while count < 3:
            batches.append(consumer.consume_arrow())
            count += len(batches[-1])
    expected = [b"one", None, b"more than twelve bytes"]
    frame = polars.concat([polars.DataFrame(batch) for batch in batches])
    assert frame["value"].to_list() == expected
    assert frame["headers"].to_list() == [[{"key": "h", "value": b"v"}], [], []]
    assert frame["timestamp"].dt.epoch("ms").to_list() == [0, 1_500, 2_000]
    frames = [pandas.DataFrame.from_arrow(batch) for batch in batches]
    assert [None if value is None else bytes(value) for frame in frames for value in frame["value"]] == expected
    found = []
    with duckdb.connect() as database:
        for batch in batches:
            database.register("batch", batch)
            found += database.sql('SELECT value, "offset" FROM batch').fetchall()
    assert found == list(zip(expected, range(3), strict=True))


def test_parquet_is_written_from_a_stream(lone_topic, tmp_path):
    fill(lone_topic, 1_000)
    with consumer_of(lone_topic, consumer_timeout_ms=2_000) as consumer:
        reader = pyarrow.RecordBatchReader.from_stream(consumer.record_batches())
        with pyarrow.parquet.ParquetWriter(tmp_path / "file", reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
    assert [int(value) for value in pyarrow.parquet.read_table(tmp_path / "file")["value"].to_pylist()] == list(
        range(1_000)
    )


def test_a_seek_takes_effect_on_the_next_batch(lone_topic):
    fill(lone_topic, 1_000)
    with consumer_of(lone_topic) as consumer:
        assert [int(row["value"]) for row in rows_of(consumer, 10)] == list(range(10))
        consumer.reset_offsets([(lone_topic.partitions[0], 499)])
        assert int(rows_of(consumer, 1)[0]["value"]) == 500
        assert consumer.held_offsets == {0: 500}


def test_while_columns_are_worked_on_nothing_of_them_is_committed_in_any_partition(topic, group):
    touched, done = set(), {}
    with (
        pytest.raises(ZeroDivisionError),
        consumer_of(topic, **AUTO_COMMIT, consumer_group=group) as consumer,
    ):
        # Until the fetched messages were of several partitions.
        while len(touched) < 2:
            fill(topic, 300, partitioner=in_turns)
            done = {id_: max(offset + 1, 0) for id_, offset in consumer.held_offsets.items()}
            touched = set(pyarrow.record_batch(consumer.consume_arrow(300))["partition"].to_pylist())
        time.sleep(0.1)
        # By now an auto-commit is due, and this thread starts it.
        other = threading.Thread(target=consumer.consume, args=(False,))
        other.start()
        other.join()
        raise ZeroDivisionError
    with consumer_of(topic, consumer_group=group, reset_offset_on_fetch=False) as looker:
        commits = {id_: answer.offset for id_, answer in looker.fetch_offsets()}
    assert {id_: commits[id_] for id_ in touched} == {id_: done[id_] for id_ in touched}


def test_asking_for_more_says_that_the_batch_before_is_done(lone_topic, group):
    fill(lone_topic, 20)
    consumer = consumer_of(lone_topic, **AUTO_COMMIT, consumer_group=group)
    assert len(rows_of(consumer, 10)) == 10
    last = len(consumer.consume_arrow(5))
    with pytest.raises(ZeroDivisionError), consumer:
        raise ZeroDivisionError
    assert 0 < last <= 5
    assert committed(lone_topic, group) == 10


def test_stop_commits_what_was_returned(lone_topic, group):
    fill(lone_topic, 20)
    consumer = consumer_of(lone_topic, **AUTO_COMMIT, consumer_group=group)
    assert len(rows_of(consumer, 7)) == 7
    consumer.stop()
    assert committed(lone_topic, group) == 7


def test_an_error_behind_the_first_message_comes_with_the_next_call(lone_topic):
    fill(lone_topic, 5)
    with consumer_of(lone_topic) as consumer:
        assert len(rows_of(consumer, 5)) == 5
        consumer._raise_later(MessageSetDecodeFailure("damaged"))
        with pytest.raises(MessageSetDecodeFailure, match="damaged"):
            consumer.consume_arrow(timeout=0)
        assert len(consumer.consume_arrow(timeout=0)) == 0


def test_a_program_that_keeps_everything_gets_copies_and_reads_on(lone_topic):
    size, count = 100_000, 60
    with lone_topic.get_producer() as producer:
        producer.produce_many(number.to_bytes(4) * (size // 4) for number in range(count))
    with consumer_of(lone_topic, fetch_max_bytes=1 << 20, fetch_buffer=1 << 20) as consumer:
        kept, rows = [], 0
        while rows < count:
            kept.append(consumer.consume_arrow())
            rows += len(kept[-1])
    assert len(kept) > 1, "a batch ends when it has fetch_buffer bytes"
    columns = [pyarrow.record_batch(batch)["value"] for batch in kept]
    shared = {buffer.address: buffer.size for column in columns for buffer in column.buffers()[3:]}
    assert 0 < sum(shared.values()) <= 1 << 20, "the first buffer has what was copied, the others are the consumer's"
    found = [value for column in columns for value in column.to_pylist()]
    assert found == [number.to_bytes(4) * (size // 4) for number in range(count)]


def test_the_memory_of_released_columns_may_be_kept_again(lone_topic):
    with lone_topic.get_producer() as producer:
        producer.produce_many(bytes(10_000) for _ in range(500))
    with consumer_of(lone_topic, fetch_max_bytes=1 << 20, fetch_buffer=1 << 20) as consumer:
        rows, shared = 0, 0
        while rows < 500:
            batch = pyarrow.record_batch(consumer.consume_arrow())
            rows += len(batch)
            # The first buffer has what was copied.
            shared += batch["value"].buffers()[2].size == 0
            del batch
        assert shared > 3


def test_a_forked_child_reads_a_batch_and_frees_nothing(run_python, remote_broker):
    done = run_python(
        f"""
        import os, warnings
        import pyarrow
        from pykafka import KafkaClient
        topic = KafkaClient({remote_broker!r}).topics["forked"]
        with topic.get_producer() as producer:
            producer.produce_many(bytes(100) for _ in range(1000))
        consumer = topic.get_simple_consumer(consumer_timeout_ms=60_000)
        batch = consumer.consume_arrow()
        exported = pyarrow.record_batch(batch)
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if child == 0:
            read = pyarrow.record_batch(batch)
            fine = read.equals(exported) and set(read["value"].to_pylist()) == {{bytes(100)}}
            del read, exported, batch
            try:
                consumer.consume_arrow(timeout=0)
            except Exception as error:
                fine = fine and "before the process forked" in str(error)
            os._exit(0 if fine else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(exported["value"].to_pylist()) == len(batch))
        """
    )
    assert (done.stdout.split(), done.stderr) == (["0", "True"], "")


def test_columns_that_outlive_the_interpreter_are_released_in_peace(run_python, remote_broker):
    done = run_python(
        f"""
        import builtins
        import pyarrow, polars
        from pykafka import KafkaClient
        topic = KafkaClient({remote_broker!r}).topics["exit"]
        with topic.get_producer() as producer:
            producer.produce_many(bytes(100) for _ in range(1000))
        consumer = topic.get_simple_consumer(consumer_timeout_ms=60_000)
        batch = consumer.consume_arrow()
        # Nothing but the end of the process takes these away.
        builtins.kept = (
            pyarrow.record_batch(batch), polars.DataFrame(batch), batch.__arrow_c_array__(), batch.__arrow_c_stream__(),
            pyarrow.RecordBatchReader.from_stream(consumer.record_batches()),
        )
        print(len(batch) > 0)
        """
    )
    assert (done.stdout.split(), done.stderr, done.returncode) == (["True"], "", 0)


@pytest.mark.parametrize("patch", ["", "import gevent.monkey; gevent.monkey.patch_all()"], ids=["plain", "patched"])
def test_other_greenlets_run_while_one_waits_for_columns(run_greenlets, own_broker, patch):
    own_broker.create_topic("t", partitions=1)
    program = """
        import sys
        topic = KafkaClient(sys.argv[1], use_greenlets=True).topics["t"]
        producer, consumer = topic.get_producer(linger_ms=0), topic.get_simple_consumer()
        write = lambda: producer.produce(b"x")
        print(len(beside(lambda: consumer.consume_arrow(10), write)))
        print(len(beside(lambda: next(consumer.record_batches()), write)))
    """
    assert run_greenlets(patch, program, own_broker.bootstrap_servers).split() == ["1", "1"]


def test_a_reader_waits_without_other_greenlets_and_a_producer_with_them(run_greenlets, own_broker):
    own_broker.create_topic("t", partitions=1)
    program = """
        import sys, pyarrow
        client = KafkaClient(sys.argv[1], use_greenlets=True)
        topic = client.topics["t"]
        producer, copier = topic.get_producer(linger_ms=0), client.topics["copy"].get_producer()
        with topic.get_simple_consumer(consumer_timeout_ms=1_000) as consumer:
            turns = []
            def count():
                while True:
                    turns.append(0)
                    gevent.sleep(0.01)
            counter = gevent.spawn(count)
            gevent.sleep(0.05)
            before = len(turns)
            print(pyarrow.RecordBatchReader.from_stream(consumer.record_batches()).read_all().num_rows)
            print(len(turns) == before)
            counter.kill()
            copy = lambda: copier.produce_arrow(consumer.record_batches())
            print(beside(copy, lambda: producer.produce(b"x")))
    """
    assert run_greenlets("", program, own_broker.bootstrap_servers).split() == ["0", "True", "1"]
