"""What works with every generation of Kafka, from 0.8.2 on, and what is said where a broker cannot do it.

Each test is a row of docs/compatibility.md, and each version a column: `make compat` runs them all and writes that
page. The tests of a version share a broker and use their own topics. Before Kafka 4 it runs with ZooKeeper.
"""

import contextlib
import logging
import threading
import time
from pathlib import Path

import confluent_kafka
import pytest
from peers import LIMIT, Confluent, Tools, parsed
from pykafka import KafkaClient
from pykafka.common import CompressionType, OffsetType
from pykafka.exceptions import KafkaException, UnknownTopicOrPartition
from pykafka.protocol import CreateTopicRequest

#: Each test takes seconds; fetching and starting a version may take minutes.
pytestmark = pytest.mark.timeout(420)

_VERSIONS = Path(__file__).resolve().parents[2] / "kafka" / "versions"
VERSIONS = sorted(" ".join(path.read_text() for path in _VERSIONS.iterdir()).split(), key=parsed)
#: Those that every run tries: each of them is the last of its kind in something.
ALWAYS = ["0.8.2.2", "0.9.0.1", "0.11.0.3"]
CODECS = {
    "none": CompressionType.NONE,
    "gzip": CompressionType.GZIP,
    "snappy": CompressionType.SNAPPY,
    "lz4": CompressionType.LZ4,
    "zstd": CompressionType.ZSTD,
}
#: Some time in 2020, in milliseconds.
THEN = 1_600_000_000_000
#: Of members that must stay however busy the machine is; the brokers of 0.9 allow no longer one.
SESSION_MS = 25_000


@pytest.fixture(
    scope="module", params=[pytest.param(v, marks=[] if v in ALWAYS else pytest.mark.long) for v in VERSIONS]
)
def cluster(request, start_kafka_for_module):
    """A broker of the version, with topics of one partition."""
    version = request.param
    cluster = start_kafka_for_module(version, zookeeper=parsed(version) < (4, 0))
    yield cluster
    cluster.close()


class Cell:
    """What a test tells the page about its cell."""

    def __init__(self, record, cluster):
        self._record, self.version = record, parsed(cluster.version)

    def beside(self, peer):
        """Names a client that reads or writes beside ours."""
        self._record("peer", peer.name)
        return peer

    def says(self, sentence):
        """Notes what the client says where the broker cannot do it, or can do less."""
        self._record("sentence", str(sentence))

    def notes(self, why):
        """Notes why there is less to see than in other cells."""
        self._record("note", why)

    @contextlib.contextmanager
    def refuses(self, feature, since):
        """What the broker cannot do is an error that names the feature and the version that it needs."""
        with pytest.raises(KafkaException) as told:
            yield
        assert f"{feature} a broker of Kafka {since} or newer, and this one is older" in str(told.value)
        self.says(told.value)


@pytest.fixture
def cell(record_property, cluster):
    """The cell of this test and version; conftest.py has told the page which one it is."""
    return Cell(record_property, cluster)


@pytest.fixture
def client(cell, cluster):
    """A client of the brokers."""
    with KafkaClient(cluster.bootstrap) as client:
        yield client


@pytest.fixture
def topic(request, client):
    """A new topic of one partition. A broker that has just started may take longer to create it than a client waits."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:200]
    for _ in range(5):
        with contextlib.suppress(UnknownTopicOrPartition):
            return client.topics[name]
    return client.topics[name]


def name_of(topic):
    return topic.name.decode()


def numbered(word, count=200):
    """Records whose values are long enough to be worth compressing in a batch of many."""
    return [
        (b"%s-%d" % (word, i), b"value %d, well well well, of a log that compresses well" % i) for i in range(count)
    ]


def write(topic, records, **settings):
    with topic.get_producer(**settings) as producer:
        for key, value in records:
            producer.produce(value, partition_key=key)


@pytest.fixture
def read(take):
    """Reads the first records of a topic."""

    def read(topic, count):
        with topic.get_simple_consumer(consumer_timeout_ms=500) as consumer:
            return [(message.partition_key, message.value) for message in take(consumer, count)]

    return read


@pytest.mark.capability("produce and consume, codec {codec}")
@pytest.mark.parametrize("codec", CODECS)
def test_each_codec_goes_both_ways(cell, cluster, topic, read, codec):
    if codec == "zstd" and cell.version < (2, 1):
        producer = topic.get_producer(sync=True, compression=CODECS[codec])
        with producer, cell.refuses("zstd compression needs", "2.1"):
            producer.produce(b"value" * 100)
        return
    ours, theirs, also = numbered(b"ours"), numbered(b"tools"), numbered(b"confluent")
    tools, confluent = cell.beside(Tools(cluster)), cell.beside(Confluent(cluster))
    write(topic, ours, compression=CODECS[codec])
    assert tools.read(name_of(topic), len(ours)) == ours
    assert confluent.read(name_of(topic), len(ours)) == ours
    tools.write(name_of(topic), theirs, codec)
    confluent.write(name_of(topic), also, codec)
    assert read(topic, 600) == ours + theirs + also


@pytest.mark.capability("keys, null values (tombstones), empty ones")
def test_keys_and_nulls_go_both_ways(cell, cluster, topic, read):
    records = [(b"key", b"value"), (None, b"without a key"), (b"key", None), (b"", b""), (None, None)]
    tools, confluent = cell.beside(Tools(cluster)), cell.beside(Confluent(cluster))
    write(topic, records)
    assert confluent.read(name_of(topic), len(records)) == records
    confluent.write(name_of(topic), records)
    assert tools.read(name_of(topic), 2 * len(records)) == 2 * records
    assert read(topic, 2 * len(records)) == 2 * records


@pytest.mark.capability("delivery reports of keyed messages, three partitions")
def test_reports_say_where_each_message_is(cell, cluster, client, take):
    cluster.create_topic("reports", partitions=3)
    topic = client.topics["reports"]
    sent = {b"%d" % number for number in range(5_000)}
    with topic.get_producer(delivery_reports=True) as producer:
        for value in sent:
            producer.produce(value, partition_key=value[-1:])
        reports = [producer.get_delivery_report(timeout=LIMIT) for _ in sent]
    assert [error for _, error in reports if error is not None] == []
    stored = {(message.partition_id, message.offset): message.value for message, _ in reports}
    with topic.get_simple_consumer(consumer_timeout_ms=500) as consumer:
        read = {(message.partition_id, message.offset): message.value for message in take(consumer, len(sent))}
    assert read == stored
    assert set(read.values()) == sent
    first = {offset: value for (partition, offset), value in stored.items() if partition == 0}
    assert [value for _, value in cell.beside(Confluent(cluster)).read("reports", len(first))] == [
        first[offset] for offset in range(len(first))
    ]


@pytest.mark.capability("record headers")
def test_headers_go_both_ways_or_are_refused(cell, cluster, topic, take):
    headers = [("name", b"one"), ("other", b""), ("name", None)]
    if cell.version < (0, 11):
        with topic.get_producer(sync=True) as producer:
            for _ in range(2):
                with cell.refuses("record headers need", "0.11"):
                    producer.produce(b"value", headers=headers)
                producer.produce(b"still usable")
        return
    confluent = cell.beside(Confluent(cluster))
    with topic.get_producer() as producer:
        producer.produce(b"value", headers=headers)
    confluent.write(name_of(topic), [(None, b"value")], headers=headers)
    assert [message.headers() for message in confluent.messages(name_of(topic), 2)] == [headers] * 2
    with topic.get_simple_consumer(consumer_timeout_ms=500) as consumer:
        assert [message.headers for message in take(consumer, 2)] == [headers] * 2


@pytest.mark.capability("timestamps of the program's choice")
def test_timestamps_go_both_ways_or_are_refused(cell, cluster, topic, take):
    if cell.version < (0, 10):
        with topic.get_producer(sync=True) as producer:
            for _ in range(2):
                with cell.refuses("timestamps need", "0.10"):
                    producer.produce(b"value", timestamp=THEN)
                producer.produce(b"still usable")
        return
    confluent = cell.beside(Confluent(cluster))
    with topic.get_producer() as producer:
        producer.produce(b"value", timestamp=THEN)
    confluent.write(name_of(topic), [(None, b"value")], timestamp=THEN + 1)
    expected = [THEN, THEN + 1]
    assert [message.timestamp()[1] for message in confluent.messages(name_of(topic), 2)] == expected
    with topic.get_simple_consumer(consumer_timeout_ms=500) as consumer:
        assert [message.timestamp for message in take(consumer, 2)] == expected


@pytest.mark.capability("offsets by time, beginning and end")
def test_offsets_by_time_are_those_that_others_find(cell, cluster, topic):
    is_exact = cell.version >= (0, 10, 1)
    with topic.get_producer(sync=True) as producer:
        for second in range(3):
            producer.produce(b"value", timestamp=THEN + 1_000 * second if cell.version >= (0, 10) else None)
    # GetOffsetShell of the first of these versions still asks as before.
    other = cell.beside((Confluent if is_exact else Tools)(cluster))
    times = [OffsetType.EARLIEST, OffsetType.LATEST]
    # Before 0.10.1 the time when a segment was written counts; this one is later.
    times += [THEN, THEN + 1, THEN + 2_000] if is_exact else [10**13]
    found = [topic.fetch_offset_limits(time)[0].offset for time in times]
    assert found == ([[0], [3], [0], [1], [2]] if is_exact else [[0], [3], [3]])
    assert found == [[other.offset(name_of(topic), time)] for time in times]
    if not is_exact:
        cell.notes("brokers before 0.10.1 know only when each segment of the log was last written")


@pytest.mark.capability("offsets of a group, of a simple consumer")
def test_committed_offsets_are_shared_with_other_clients(cell, cluster, topic, take):
    write(topic, numbered(b"key", 10))
    with topic.get_simple_consumer(consumer_group="offsets", consumer_timeout_ms=500) as consumer:
        take(consumer, 3)
        consumer.commit_offsets()
    other = cell.beside(Confluent(cluster)).consumer("offsets")
    place = confluent_kafka.TopicPartition(name_of(topic), 0)
    assert other.committed([place], LIMIT)[0].offset == 3
    place.offset = 7
    other.commit(offsets=[place], asynchronous=False)
    other.close()
    with topic.get_simple_consumer(consumer_group="offsets", consumer_timeout_ms=500) as consumer:
        assert [message.offset for message in take(consumer, 3)] == [7, 8, 9]


@pytest.mark.capability("simple consumer: start, seek, messages larger than a fetch")
def test_a_simple_consumer_reads_from_anywhere(cell, cluster, topic, take):
    large = [(b"small", b"small"), (b"large", b"x" * 300_000), (b"behind", b"behind")]
    confluent = cell.beside(Confluent(cluster))
    write(topic, large)
    confluent.write(name_of(topic), large)
    with topic.get_simple_consumer(consumer_timeout_ms=500, fetch_message_max_bytes=1_000) as consumer:
        assert [(message.partition_key, message.value) for message in take(consumer, 6)] == 2 * large
        consumer.reset_offsets([(topic.partitions[0], 3)])
        assert [message.offset for message in take(consumer, 2)] == [4, 5]
    with topic.get_simple_consumer(
        consumer_timeout_ms=500, auto_offset_reset=OffsetType.LATEST, reset_offset_on_start=True
    ) as consumer:
        confluent.write(name_of(topic), [(b"last", b"last")])
        assert [message.value for message in take(consumer, 1)] == [b"last"]


def read_by(readers, count):
    """Reads so many messages, in turn by all readers, which return a message's value or None."""
    found = []
    while len(found) < count:
        found += filter(None, (reader() for reader in readers))
    return sorted(found, key=int)


def reader_of(member):
    """Reads a message of a member of ours."""

    def read():
        message = member.consume()
        return message and message.value

    return read


def reader_of_confluent(member):
    """Reads a message of a member of librdkafka."""

    def read():
        message = member.poll(0.1)
        return None if message is None or message.error() else message.value()

    return read


@contextlib.contextmanager
def polled(consumer):
    """Polls a consumer of librdkafka in a thread, so that it takes part in rebalances; closes it at the end.

    Meanwhile, ask the consumer nothing: it keeps the lock of the interpreter, which its callbacks wait for.
    """
    is_over = threading.Event()

    def poll():
        while not is_over.is_set():
            consumer.poll(0.1)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        consumer.close()


def write_numbers(topic, count):
    with topic.get_producer(partitioner=lambda partitions, key: partitions[int(key) % 4]) as producer:
        for number in range(count):
            producer.produce(b"%d" % number, partition_key=b"%d" % number)


def share_with_confluent(cell, cluster, topic, rebalances, ours, theirs):
    """Two members of ours and one of librdkafka's share four partitions; each message is read once."""
    ours = {"consumer_timeout_ms": 100, "post_rebalance_callback": rebalances.note} | ours
    with contextlib.ExitStack() as stack:
        members = []
        for _ in range(2):
            members.append(topic.get_balanced_consumer("shared", managed=True, **ours))
            stack.callback(members[-1].stop)
        rebalances.until(members[0], 2)
        other = cell.beside(Confluent(cluster)).consumer("shared", **theirs)
        stack.callback(other.close)
        other.subscribe([name_of(topic)])
        while not other.assignment():
            for reader in (reader_of_confluent(other), *map(reader_of, members)):
                assert reader() is None, "nothing is written yet"
        while sum(len(member.partitions) for member in members) + len(other.assignment()) != 4:
            assert other.poll(0.1) is None
        write_numbers(topic, 400)
        readers = [reader_of_confluent(other), *map(reader_of, members)]
        assert read_by(readers, 400) == [b"%d" % number for number in range(400)]


@pytest.mark.capability("balanced consumer, managed by Kafka (classic protocol)")
def test_a_group_is_shared_with_other_clients(cell, cluster, client, rebalances):
    if cell.version < (0, 9):
        with cell.refuses("consumer groups need", "0.9"):
            client.topics["alone"].get_balanced_consumer("shared", managed=True)
        return
    cluster.create_topic("classic", partitions=4)
    theirs = {"partition.assignment.strategy": "range", "session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 500}
    ours = {"session_timeout_ms": SESSION_MS, "heartbeat_interval_ms": 500}
    share_with_confluent(cell, cluster, client.topics["classic"], rebalances, ours, theirs)


@pytest.mark.capability("balanced consumer, assigned by the brokers (KIP-848)")
def test_the_new_protocol_of_groups_is_used_or_refused(cell, cluster, client, rebalances):
    if cell.version < (4, 0):
        with pytest.raises(KafkaException) as told:
            client.topics["not-new"].get_balanced_consumer("shared", managed=True, group_protocol="consumer")
        # Kafka 3.7 to 3.9 know the protocol, and have it switched off.
        is_off = "only the classic protocol: set group_protocol to auto or classic"
        is_older = "group_protocol=consumer needs a broker of Kafka 4.0 or newer"
        assert (is_off if cell.version >= (3, 7) else is_older) in str(told.value)
        cell.says(told.value)
        return
    cluster.create_topic("new", partitions=4)
    ours, theirs = {"group_protocol": "consumer"}, {"group.protocol": "consumer"}
    share_with_confluent(cell, cluster, client.topics["new"], rebalances, ours, theirs)


@pytest.mark.capability("static members of a group")
def test_a_static_member_gets_its_partitions_back_or_is_refused(cell, cluster, client):
    def join(topic):
        settings = {"group_instance_id": "this-one", "session_timeout_ms": SESSION_MS}
        return topic.get_balanced_consumer("static", managed=True, **settings)

    if cell.version < (2, 3):
        with cell.refuses("group_instance_id needs", "2.3"):
            join(client.topics["not-static"])
        return
    cluster.create_topic("static", partitions=4)
    theirs = []
    settings = {"group.instance.id": "other", "partition.assignment.strategy": "range"}
    settings |= {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 500}
    other = cell.beside(Confluent(cluster)).consumer("static", **settings)
    other.subscribe(["static"], on_assign=lambda _, places: theirs.append([place.partition for place in places]))
    with polled(other):
        with join(client.topics["static"]) as member:
            deadline = time.monotonic() + LIMIT
            while not theirs or len(theirs[-1]) != 2 or len(member.partitions) != 2:
                assert time.monotonic() < deadline, f"{len(member.partitions)} partitions are ours, not 2; {theirs}"
                time.sleep(0.05)
            ours, before = sorted(member.partitions), list(theirs)
            assert sorted(ours + before[-1]) == [0, 1, 2, 3]
        # If the group had let it go, it could join only when the other one had got other partitions.
        with join(client.topics["static"]) as member:
            assert (sorted(member.partitions), theirs) == (ours, before)


@pytest.mark.capability("balanced consumer through ZooKeeper")
def test_members_share_through_zookeeper(cell, cluster, client, rebalances):
    if cluster.zookeeper is None:
        cell.notes("Kafka 4 runs without ZooKeeper; with one of their own, consumers can share through that")
        return
    cluster.create_topic("zookeeper", partitions=4)
    topic = client.topics["zookeeper"]
    settings = {"consumer_timeout_ms": 100, "post_rebalance_callback": rebalances.note}
    with contextlib.ExitStack() as stack:
        members = []
        for _ in range(2):
            members.append(topic.get_balanced_consumer("zookeeper", zookeeper_connect=cluster.zookeeper, **settings))
            stack.callback(members[-1].stop)
        rebalances.until(members[0], 2)
        cell.beside(Confluent(cluster)).write("zookeeper", [(None, b"0")])
        write_numbers(topic, 400)
        expected = sorted([b"0", *(b"%d" % number for number in range(400))], key=int)
        assert read_by([reader_of(member) for member in members], 401) == expected
        for member in members:
            member.commit_offsets()
    committed = topic.get_simple_consumer(consumer_group="zookeeper", auto_start=False).fetch_offsets()
    assert sum(answer.offset for _, answer in committed) == 401


@pytest.mark.capability("create topics by first use")
def test_a_topic_is_created_by_asking_for_it(cell, cluster, client):
    assert list(client.topics["by-use"].partitions) == [0]
    records = numbered(b"use", 3)
    write(client.topics["by-use"], records)
    assert cell.beside(Tools(cluster)).read("by-use", 3) == records


@pytest.mark.capability("create and delete topics by request")
def test_a_topic_is_created_by_request_or_refused(cell, cluster, client):
    def create():
        next(iter(client.brokers.values())).create_topics([CreateTopicRequest(b"by-request", 3, 1, [], [])], 10_000)

    if cell.version < (0, 10, 1):
        with cell.refuses("creating topics needs", "0.10.1"):
            create()
        return
    create()
    assert list(client.topics["by-request"].partitions) == [0, 1, 2]
    other = cell.beside(Confluent(cluster)).consumer("lists")
    assert len(other.list_topics("by-request", LIMIT).topics["by-request"].partitions) == 3
    next(iter(client.brokers.values())).delete_topics([b"by-request"], 10_000)
    deadline = time.monotonic() + LIMIT
    # Not by name: asking for a topic by name may create it.
    while "by-request" in other.list_topics(timeout=LIMIT).topics:
        assert time.monotonic() < deadline, "the topic is still there"
        time.sleep(0.05)
    other.close()


@pytest.mark.capability("the broker is killed and started again mid-stream")
def test_nothing_is_lost_when_the_broker_is_killed(cell, cluster, topic, take):
    count, read = 3_000, []
    with topic.get_simple_consumer(consumer_timeout_ms=500) as consumer:
        with topic.get_producer() as producer:
            for number in range(count):
                if number == count // 3:
                    read += take(consumer, 1)
                    cluster.kill(1)
                if number == 2 * count // 3:
                    restart = threading.Thread(target=cluster.start, args=(1,))
                    restart.start()
                producer.produce(b"%d" % number)
            restart.join()
        confluent = cell.beside(Confluent(cluster))
        (partition,) = topic.latest_available_offsets().values()
        read += take(consumer, partition.offset[0] - 1)
    numbers = [int(message.value) for message in read]
    assert list(dict.fromkeys(numbers)) == list(range(count)), "nothing is lost, and first copies are in order"
    if cell.version >= (0, 11):
        assert len(numbers) == count, "nothing is stored twice"
    assert [int(value) for _, value in confluent.read(name_of(topic), len(numbers))] == numbers


def other_writers(cluster, version):
    """A producer older than the broker, and one that is newer, if there is any."""
    if version >= (4, 0):
        yield Tools(cluster, "2.1.1")
    elif version >= (0, 9):
        yield Tools(cluster, "0.8.2.2")
    if (0, 10) <= version < (3, 9):
        # Java clients of Kafka 4 need brokers of 2.1.
        yield Tools(cluster, "3.9.2" if version < (2, 1) else "4.3.1")
    yield Confluent(cluster)


@pytest.mark.capability("a log written by an older and a newer producer, and by ours")
def test_a_log_of_older_and_newer_producers_is_read(cell, cluster, client, read):
    # Kafka 3 ignores the setting, and before 0.10 there is none.
    in_old_format = (0, 10) <= cell.version < (3, 0)
    cluster.create_topic("mixed", settings={"message.format.version": "0.9.0"} if in_old_format else {})
    topic, expected = client.topics["mixed"], []
    for writer in other_writers(cluster, cell.version):
        theirs, ours = numbered(writer.name.encode()), numbered(b"ours")
        cell.beside(writer).write("mixed", theirs, "gzip")
        write(topic, ours, compression=CompressionType.GZIP)
        expected += theirs + ours
    assert read(topic, len(expected)) == expected
    assert Confluent(cluster).read("mixed", len(expected)) == expected


@pytest.mark.capability("transactions of other producers are read whole")
def test_transactions_of_others_are_read_when_they_are_committed(cell, cluster, topic, read):
    if cell.version < (0, 11):
        cell.notes("brokers before 0.11 have no transactions")
        return
    confluent = cell.beside(Confluent(cluster))
    for word, commit in ((b"aborted", False), (b"committed", True), (b"again", False)):
        confluent.write_transaction(name_of(topic), numbered(word, 10), commit)
    write(topic, numbered(b"ours", 10))
    assert read(topic, 20) == numbered(b"committed", 10) + numbered(b"ours", 10)


@pytest.mark.capability("what is weaker is said once, at level info")
def test_what_an_old_broker_lacks_is_said_once(cell, cluster, caplog, take):
    caplog.set_level(logging.INFO, "pykafka")
    with KafkaClient(cluster.bootstrap) as client:
        for name in ("said-once", "said-twice"):
            write(client.topics[name], numbered(b"key", 3))
            with client.topics[name].get_simple_consumer(consumer_timeout_ms=500) as consumer:
                take(consumer, 1)
    said = [record.getMessage() for record in caplog.records if "is older than Kafka" in record.getMessage()]
    assert len(said) == (1 if cell.version < (0, 11) else 0)
    for sentence in said:
        cell.says(sentence)
