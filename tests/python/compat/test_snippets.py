"""The usage snippets in pykafka 2's README and documentation; the tests have the numbers of our list of them.

Those that passed a str where 2.8 wanted bytes raised TypeError on Python 3. They still do, and the text says what to
do.
"""

import datetime
import itertools
import queue

import pykafka
import pytest
from pykafka import KafkaClient, SslConfig
from pykafka.common import OffsetType
from pykafka.exceptions import SocketDisconnectedError
from pykafka.utils import deserialize_utf8, serialize_utf8


def fill(topic, count):
    with topic.get_producer() as producer:
        for i in range(count):
            producer.produce(b"%d" % i)


def test_1_a_client_is_given_several_hosts(bootstrap):
    assert bootstrap.count(",") == 2
    client = KafkaClient(hosts=bootstrap)
    assert set(client.brokers) == {1, 2, 3}
    assert bootstrap in repr(client)


def test_2_an_ssl_config_keeps_what_it_was_given():
    config = SslConfig(cafile="/ca.pem", certfile="/cert.pem", keyfile="/key.pem", password="secret")
    assert (config.cafile, config.certfile, config.keyfile, config.password) == (
        "/ca.pem",
        "/cert.pem",
        "/key.pem",
        "secret",
    )


def test_3_topics_are_shown_and_created_by_name(own_broker):
    client = KafkaClient(own_broker.bootstrap_servers)
    topic = client.topics["my.test"]
    assert repr(client.topics) == f"{{b'my.test': {topic!r}}}"


def test_4_text_needs_a_serializer_also_when_it_is_sent_in_sync(topic):
    with topic.get_sync_producer() as producer:
        for i in range(4):
            with pytest.raises(TypeError, match="serializer") as told:
                producer.produce("test message " + str(i**2))
            assert "bytes" in str(told.value)
            producer.produce(b"test message %d" % i**2)


def test_5_reports_are_read_while_messages_are_sent(topic):
    with topic.get_producer(delivery_reports=True) as producer:
        with pytest.raises(TypeError, match="bytes"):
            producer.produce("test msg", partition_key="0")
        with pytest.raises(TypeError, match="partition_key"):
            producer.produce(b"test msg", partition_key="0")
        count = 0
        for count in range(1, 21):
            producer.produce(b"test msg", partition_key=b"%d" % count)
        keys = set()
        while len(keys) < count:
            try:
                message, error = producer.get_delivery_report(block=True, timeout=60)
            except queue.Empty:
                pytest.fail("a report is missing")
            assert error is None
            keys.add(message.partition_key)
        with pytest.raises(queue.Empty):
            producer.get_delivery_report(block=False)


def test_6_messages_are_iterated_over(topic):
    fill(topic, 5)
    consumer = topic.get_simple_consumer(consumer_timeout_ms=60_000)
    found = []
    for message in consumer:
        if message is not None:
            found.append((message.offset, message.value))
        if len(found) == 5:
            break
    assert sorted(value for _, value in found) == [b"0", b"1", b"2", b"3", b"4"]


def test_7_a_balanced_consumer_is_configured_with_a_chroot(topic):
    consumer = topic.get_balanced_consumer(
        consumer_group="testgroup",
        auto_commit_enable=True,
        zookeeper_connect="myZkClusterNode1.com:2181,myZkClusterNode2.com:2181/myZkChroot",
        auto_start=False,
    )
    assert consumer.topic is topic


def test_8_the_fast_classes_are_asked_for_on_every_factory(topic):
    with topic.get_producer(use_rdkafka=True) as producer:
        producer.produce(b"x")
    with topic.get_simple_consumer(use_rdkafka=True, consumer_timeout_ms=60_000) as consumer:
        assert consumer.consume().value == b"x"
    topic.get_balanced_consumer(
        "group",
        use_rdkafka=True,
        membership_protocol=pykafka.RoundRobinProtocol,
        zookeeper_hosts="h:1",
        auto_start=False,
    )


def test_9_where_a_consumer_starts(lone_topic):
    fill(lone_topic, 5)
    latest = lone_topic.get_simple_consumer(
        consumer_group="mygroup",
        auto_offset_reset=OffsetType.LATEST,
        reset_offset_on_start=False,
        consumer_timeout_ms=100,
    )
    assert latest.consume() is None
    fill(lone_topic, 2)
    latest.stop()
    latest = lone_topic.get_simple_consumer(
        consumer_group="mygroup",
        auto_offset_reset=OffsetType.LATEST,
        reset_offset_on_start=True,
        consumer_timeout_ms=60_000,
    )
    latest.commit_offsets()
    latest.stop()
    fill(lone_topic, 1)
    resumed = lone_topic.get_simple_consumer(consumer_group="mygroup", consumer_timeout_ms=60_000)
    assert resumed.consume().offset == 7
    resumed.stop()
    forced = lone_topic.get_simple_consumer(
        consumer_group="mygroup",
        auto_offset_reset=OffsetType.EARLIEST,
        reset_offset_on_start=True,
        consumer_timeout_ms=60_000,
    )
    assert forced.consume().offset == 0


def test_10_the_last_messages_are_read_by_way_of_the_consumer_s_partitions(topic):
    fill(topic, 30)
    consumer = topic.get_simple_consumer(
        auto_offset_reset=OffsetType.LATEST, reset_offset_on_start=True, consumer_timeout_ms=2000
    )
    last = 10
    most = -(-last // len(consumer._partitions))
    offsets = [(p, op.last_offset_consumed - most) for p, op in consumer._partitions.items()]
    offsets = [(p, (o if o > -1 else -2)) for p, o in offsets]
    consumer.reset_offsets(offsets)
    found = list(itertools.islice(consumer, last))
    ends = {number: answer.offset[0] for number, answer in topic.latest_available_offsets().items()}
    assert found
    for message in found:
        assert message.offset >= ends[message.partition_id] - most - 1 or ends[message.partition_id] <= most


def test_11_one_producer_for_each_topic(client, topic, lone_topic):
    producers = {each.name: each.get_producer() for each in (topic, lone_topic)}
    for name in (topic.name, lone_topic.name):
        producers[name].produce(b"for " + name)
    for producer in producers.values():
        producer.stop()
    assert lone_topic.latest_available_offsets()[0].offset == [1]


def test_12_consumer_and_producer_are_started_again_after_a_connection_was_lost(own_broker):
    own_broker.create_topic("t")
    topic = KafkaClient(own_broker.bootstrap_servers).topics["t"]
    consumer, producer = topic.get_simple_consumer(consumer_timeout_ms=60_000), topic.get_sync_producer()
    own_broker.set_broker_down(1)
    own_broker.set_broker_up(1)
    try:
        producer.produce(b"x")
    except SocketDisconnectedError:
        producer.stop()
        producer.start()
        producer.produce(b"x")
    with pytest.raises(TypeError, match="bytes"):
        producer.produce("x")
    for _ in range(2):
        consumer.stop()
        consumer.start()
        producer.stop()
        producer.start()
    producer.produce(b"y")
    assert consumer.consume() is not None


def test_13_text_goes_in_and_comes_out_with_the_stock_pair(topic):
    with topic.get_sync_producer(serializer=serialize_utf8) as producer:
        producer.produce("gr\u00fcn", partition_key="k")
    consumer = topic.get_simple_consumer(deserializer=deserialize_utf8, consumer_timeout_ms=60_000)
    message = consumer.consume()
    assert (message.value, message.partition_key) == ("gr\u00fcn", "k")
    config = SslConfig(cafile=None)
    config._wrap_socket = lambda sock: sock
    with pytest.raises(NotImplementedError):
        config.wrap_socket(None)


def test_13_offsets_are_looked_up_by_time(lone_topic):
    begun = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - datetime.timedelta(seconds=10)
    fill(lone_topic, 3)
    later = begun + datetime.timedelta(days=1)
    assert lone_topic.fetch_offset_limits(begun)[0].offset == [0]
    assert lone_topic.fetch_offset_limits(later)[0] == ([], 0)
    assert lone_topic.partitions[0].fetch_offset_limit(begun) == [0]
