"""Producing to the in-memory broker."""

import itertools
import logging
import queue
import threading
import time

import pytest
from pykafka import KafkaClient
from pykafka.common import CompressionType
from pykafka.exceptions import (
    KafkaException,
    MessageSizeTooLarge,
    ProduceFailureError,
    ProducerQueueFullError,
    ProducerStoppedException,
    TopicAuthorizationFailed,
)
from pykafka.partitioners import RandomPartitioner, hashing_partitioner
from pykafka.protocol import CreateTopicRequest
from pykafka.utils import deserialize_utf8, serialize_utf8


def consumed(topic, **options):
    """All messages of a topic."""
    count = sum(answer.offset[0] for answer in topic.latest_available_offsets().values())
    with topic.get_simple_consumer(**options) as consumer:
        return list(itertools.islice(consumer, count))


def reports(producer, count):
    return [producer.get_delivery_report(timeout=60) for _ in range(count)]


def test_a_sync_message_has_its_offset_when_produce_returns(lone_topic):
    with lone_topic.get_sync_producer() as producer:
        assert [producer.produce(b"v").offset for _ in range(3)] == [0, 1, 2]


def test_an_async_message_gets_its_offset_when_it_is_acknowledged(lone_topic):
    with lone_topic.get_producer() as producer:
        message = producer.produce(b"v")
    assert (message.offset, message.partition_id) == (0, 0)


def test_reports_come_in_order_with_the_message_itself(topic):
    with topic.get_producer(delivery_reports=True) as producer:
        messages = [producer.produce(b"%d" % number, b"key") for number in range(1_000)]
        got = reports(producer, 1_000)
    assert [message for message, _ in got] == messages
    assert {error for _, error in got} == {None}
    assert [message.offset for message in messages] == list(range(1_000))


def test_without_a_report_waiting_the_queue_is_empty(topic):
    with topic.get_producer(delivery_reports=True) as producer:
        with pytest.raises(queue.Empty):
            producer.get_delivery_report(block=False)
        with pytest.raises(queue.Empty):
            producer.get_delivery_report(timeout=0.05)


def test_a_thread_gets_only_the_reports_of_what_it_produced(lone_topic):
    got = {}

    def work(name):
        for _ in range(100):
            producer.produce(name)
        got[name] = {message.value for message, _ in reports(producer, 100)}

    with lone_topic.get_producer(delivery_reports=True) as producer:
        threads = [threading.Thread(target=work, args=(name,)) for name in (b"a", b"b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with pytest.raises(queue.Empty):
            producer.get_delivery_report(block=False)
    assert got == {b"a": {b"a"}, b"b": {b"b"}}


def test_reports_can_be_read_after_stop(lone_topic):
    producer = lone_topic.get_producer(delivery_reports=True)
    producer.produce(b"v")
    producer.stop()
    message, error = producer.get_delivery_report(block=False)
    assert (message.offset, error) == (0, None)


def test_reports_that_are_off_are_refused(topic):
    with topic.get_producer() as producer, pytest.raises(KafkaException, match="delivery_reports"):
        producer.get_delivery_report()


@pytest.mark.parametrize("compression", [0, 1, 2, 3, CompressionType.ZSTD])
def test_values_keys_headers_and_times_come_back(lone_topic, compression):
    headers = [("name", b"value"), ("name", None), ("", b"")]
    with lone_topic.get_producer(compression=compression) as producer:
        producer.produce(b"v", b"k", timestamp=1_500, headers=headers)
        producer.produce(None, b"tombstone")
        producer.produce(b"")
    first, tombstone, empty = consumed(lone_topic)
    assert (first.value, first.partition_key, first.timestamp, first.headers) == (b"v", b"k", 1_500, headers)
    assert (tombstone.value, tombstone.partition_key) == (None, b"tombstone")
    assert (empty.value, empty.partition_key, empty.headers) == (b"", None, [])


def test_large_values_come_back(lone_topic):
    values = [bytes([number]) * 200_000 for number in range(50)]
    with lone_topic.get_producer() as producer:
        for value in values:
            producer.produce(value)
    assert [message.value for message in consumed(lone_topic)] == values


def test_a_serializer_makes_bytes_of_anything(lone_topic):
    assert serialize_utf8(b"bytes", None) == (b"bytes", None)
    with lone_topic.get_producer(serializer=serialize_utf8) as producer:
        assert producer.produce("gr\u00fcn", "k").value == "gr\u00fcn".encode()
    (message,) = consumed(lone_topic, deserializer=deserialize_utf8)
    assert (message.value, message.partition_key) == ("gr\u00fcn", "k")


@pytest.mark.parametrize("wrong", ["text", bytearray(b"x"), memoryview(b"x"), 1, type("Sub", (bytes,), {})(b"x")])
def test_only_bytes_are_messages_and_keys(topic, wrong):
    with topic.get_producer() as producer:
        with pytest.raises(TypeError, match="bytes"):
            producer.produce(wrong)
        with pytest.raises(TypeError, match="partition_key"):
            producer.produce(b"", wrong)


def test_messages_with_a_key_go_where_java_puts_them(topic):
    with topic.get_producer() as producer:
        chosen = {key: producer.produce(b"", key).partition_id for key in (b"", b"1", b"kafka", b"21")}
    # Computed with Java's Utils.murmur2, which KafkaProducer uses.
    assert len(set(chosen.values())) > 1
    with topic.get_producer() as producer:
        assert {key: producer.produce(b"", key).partition_id for key in chosen} == chosen


def test_a_partitioner_of_pykafka_2_decides_as_it_did(topic):
    with topic.get_producer(partitioner=RandomPartitioner()) as producer:
        assert [producer.produce(b"").partition_id for _ in range(4)] == [1, 2, 0, 1]
    with topic.get_producer(partitioner=hashing_partitioner) as producer:
        expected = hashing_partitioner(list(topic.partitions.values()), b"key").id
        assert producer.produce(b"", b"key").partition_id == expected


def test_a_partitioner_gets_the_partitions_and_the_key(topic):
    seen = []

    def first(partitions, key):
        seen.append((sorted(partition.id for partition in partitions), key))
        return partitions[0]

    with topic.get_producer(partitioner=first) as producer:
        producer.produce(b"", b"k")
        producer.produce(b"")
    assert seen == [([0, 1, 2], b"k"), ([0, 1, 2], None)]


def test_a_stopped_producer_refuses_messages_and_can_be_started_again(lone_topic):
    producer = lone_topic.get_producer()
    producer.stop()
    producer.stop()
    with pytest.raises(ProducerStoppedException):
        producer.produce(b"late")
    producer.start()
    producer.start()
    message = producer.produce(b"again")
    producer.stop()
    assert message.offset == 0


def test_nothing_but_the_producer_needs_to_be_kept(bootstrap):
    message = KafkaClient(bootstrap).topics["kept-by-nobody"].get_sync_producer().produce(b"v")
    assert message.offset == 0


def test_a_dropped_producer_delivers_what_it_accepted(lone_topic):
    message = lone_topic.get_producer(linger_ms=200).produce(b"v")
    assert [message.value for message in consumed(lone_topic, auto_offset_reset=-2)] in ([b"v"], [])
    with lone_topic.get_simple_consumer(consumer_timeout_ms=60_000) as consumer:
        assert consumer.consume().value == b"v"
    assert message.offset == 0


def test_a_message_over_the_limit_is_refused_and_its_neighbours_go(lone_topic):
    with lone_topic.get_producer(max_request_size=1_000) as producer:
        before = producer.produce(b"before")
        with pytest.raises(MessageSizeTooLarge) as raised:
            producer.produce(b"x" * 1_001)
        after = producer.produce(b"after")
    assert raised.value.written == "no"
    assert (before.offset, after.offset) == (0, 1)


def test_a_message_the_broker_finds_too_large_fails_alone(lone_topic):
    with lone_topic.get_producer(max_request_size=2_000_000, delivery_reports=True) as producer:
        for value in (b"before", b"x" * 1_100_000, b"after"):
            producer.produce(value)
        errors = {len(message.value): error for message, error in reports(producer, 3)}
    assert (errors[6], errors[5]) == (None, None)
    assert isinstance(errors[1_100_000], MessageSizeTooLarge)
    assert errors[1_100_000].written == "no"


def test_a_delivered_message_has_the_time_that_the_broker_gave_it(client):
    settings = [("message.timestamp.type", "LogAppendTime")]
    client.brokers[1].create_topics([CreateTopicRequest("log-append-time", 1, 1, [], settings)])
    topic = client.topics["log-append-time"]
    with topic.get_producer() as producer:
        messages = [producer.produce(b"v", timestamp=5), producer.produce(b"v")]
    assert [message.timestamp for message in messages] == [message.timestamp for message in consumed(topic)]
    assert messages[0].timestamp > 1_000_000_000_000


def test_an_error_names_what_can_be_typed(own_broker):
    client = KafkaClient(own_broker.bootstrap_servers, buffer_memory=100_000, max_block_ms=500)
    topic = client.topics["typed"]
    with topic.get_producer() as producer, pytest.raises(MessageSizeTooLarge, match=r"max_request_size \(1048576\)"):
        producer.produce(bytes(2_000_000))
    own_broker.silence()
    producer = topic.get_producer(delivery_timeout_ms=3_000, delivery_reports=True)
    begun = time.monotonic()
    with pytest.raises(ProducerQueueFullError, match="raise buffer_memory"):
        for _ in range(1_000):
            producer.produce(bytes(1_000))
    assert 0.5 <= time.monotonic() - begun < 60
    _, error = producer.get_delivery_report()
    assert "within delivery_timeout_ms" in str(error)
    own_broker.heal()
    producer.stop()


def test_max_queued_messages_is_a_limit_that_is_waited_for_no_longer_than_asked(own_broker):
    topic = KafkaClient(own_broker.bootstrap_servers).topics["bounded"]
    producer = topic.get_producer(max_queued_messages=10, block_on_queue_full=False)
    own_broker.silence()
    with pytest.raises(ProducerQueueFullError):
        for _ in range(11):
            producer.produce(b"v")
    own_broker.heal()
    # What had no answer gets one over a new connection.
    own_broker.set_broker_down(1)
    own_broker.set_broker_up(1)
    producer.stop()


def test_failed_messages_without_a_report_are_raised_by_stop(own_broker):
    topic = KafkaClient(own_broker.bootstrap_servers).topics["failing"]
    producer = topic.get_producer()
    own_broker.refuse_produce(29)
    producer.produce(b"v")
    with pytest.raises(ProduceFailureError, match="TOPIC_AUTHORIZATION_FAILED") as raised:
        producer.stop()
    assert "1 message was not delivered to topic failing" in str(raised.value)
    producer.stop()


def test_a_stop_that_gives_up_says_that_messages_may_have_been_written(own_broker):
    producer = KafkaClient(own_broker.bootstrap_servers).topics["given-up"].get_producer(pending_timeout_ms=2_000)
    first = producer.produce(b"stored")
    while first.offset < 0:
        time.sleep(0.01)
    own_broker.silence()
    producer.produce(b"sent")
    with pytest.raises(ProduceFailureError, match="1 record was not acknowledged") as raised:
        producer.stop()
    assert raised.value.written == "maybe"


def test_failed_messages_without_a_report_are_logged_by_the_next_call(own_broker, caplog):
    topic = KafkaClient(own_broker.bootstrap_servers).topics["logged"]
    producer = topic.get_producer()
    own_broker.refuse_produce(29)
    message = producer.produce(b"v")
    give_up = time.monotonic() + 60
    with caplog.at_level(logging.ERROR, "pykafka.producer"):
        while "were not delivered" not in caplog.text and time.monotonic() < give_up:
            producer.produce(b"w")
            time.sleep(0.01)
    assert "were not delivered" in caplog.text
    assert message.offset == -1
    with pytest.raises(ProduceFailureError):
        producer.stop()


def test_a_sync_message_raises_the_broker_s_error(own_broker):
    topic = KafkaClient(own_broker.bootstrap_servers).topics["refused"]
    with topic.get_sync_producer() as producer:
        own_broker.refuse_produce(29)
        with pytest.raises(KafkaException) as raised:
            producer.produce(b"v")
        assert raised.value.ERROR_CODE == 29
        assert producer.produce(b"w").offset == 0


def test_a_sync_message_that_is_not_answered_in_time_may_have_been_written(own_broker):
    topic = KafkaClient(own_broker.bootstrap_servers).topics["silent"]
    producer = topic.get_sync_producer(pending_timeout_ms=2_000)
    own_broker.silence()
    with pytest.raises(ProduceFailureError, match="pending_timeout_ms") as raised:
        producer.produce(b"v")
    assert raised.value.written == "maybe"
    with pytest.raises(ProduceFailureError):
        producer.stop()


def test_produce_many_writes_values_and_pairs_in_order_and_returns_how_many(lone_topic):
    with lone_topic.get_producer() as producer:
        assert producer.produce_many(message for message in [b"a", (b"b", b"key"), None, (None, b"gone")]) == 4
        assert producer.produce_many([]) == 0
    pairs = [(message.value, message.partition_key) for message in consumed(lone_topic)]
    assert pairs == [(b"a", None), (b"b", b"key"), (None, None), (None, b"gone")]


def test_produce_many_goes_through_serializer_and_partitioner(topic):
    options = {"serializer": serialize_utf8, "partitioner": hashing_partitioner}
    with topic.get_producer(**options) as producer:
        producer.produce_many([("ä", "one"), ("b", "one")])
    one, other = consumed(topic)
    assert [one.value, other.value] == ["ä".encode(), b"b"]
    assert one.partition_id == hashing_partitioner(list(topic.partitions.values()), b"one").id == other.partition_id


def test_produce_many_has_a_report_of_each_message(lone_topic):
    with lone_topic.get_producer(delivery_reports=True) as producer:
        producer.produce_many([b"0", b"1", b"2"])
        got = reports(producer, 3)
    assert [(message.value, message.offset, error) for message, error in got] == [
        (b"0", 0, None),
        (b"1", 1, None),
        (b"2", 2, None),
    ]


def test_a_sync_produce_many_returns_when_all_are_written(lone_topic):
    with lone_topic.get_sync_producer() as producer:
        producer.produce_many(b"%d" % number for number in range(3_000))
        (latest,) = lone_topic.latest_available_offsets()[0].offset
    assert latest == 3_000


def test_a_sync_produce_many_raises_what_was_not_written(own_broker):
    own_broker.create_topic("refused")
    topic = KafkaClient(own_broker.bootstrap_servers).topics["refused"]
    own_broker.refuse_produce(TopicAuthorizationFailed.ERROR_CODE)
    with topic.get_sync_producer() as producer, pytest.raises(TopicAuthorizationFailed) as caught:
        producer.produce_many([b"0", b"1"])
    assert caught.value.accepted == 2


@pytest.mark.parametrize(
    ("third", "error"),
    [("text", TypeError), ((b"v",), TypeError), ((b"v", b"k", 0), TypeError), ((b"v", "k"), TypeError)],
)
def test_what_produce_many_does_not_take_says_how_many_went_before(lone_topic, third, error):
    with lone_topic.get_producer() as producer, pytest.raises(error) as caught:
        producer.produce_many([b"0", b"1", third, b"3"])
    assert caught.value.accepted == 2
    assert "accepted 2 messages before" in caught.value.__notes__[0]
    assert [message.value for message in consumed(lone_topic)] == [b"0", b"1"]


def test_an_error_of_the_iterable_itself_says_how_many_went_before(lone_topic):
    def lines():
        yield b"0"
        raise OSError("the file is gone")

    with lone_topic.get_producer() as producer, pytest.raises(OSError, match="the file is gone") as caught:
        producer.produce_many(lines())
    assert caught.value.accepted == 1


@pytest.mark.parametrize("wrong", [b"bytes", "text", 5, None])
def test_produce_many_takes_nothing_but_an_iterable_of_messages(lone_topic, wrong):
    with lone_topic.get_producer() as producer, pytest.raises(TypeError):
        producer.produce_many(wrong)


def test_produce_many_lets_other_threads_run(lone_topic):
    # No Python code runs while this is iterated: the last message is what the other thread has counted by then.
    turns, stop, begun = [b"0"], threading.Event(), threading.Event()
    messages = itertools.chain([b"v"] * 200_000, map(turns.__getitem__, [0]))

    def take_turns():
        for number in itertools.count(1):
            turns[0] = b"%d" % number
            begun.set()
            if stop.is_set():
                break

    other = threading.Thread(target=take_turns)
    with lone_topic.get_producer() as producer:
        other.start()
        begun.wait()
        turns_before = int(turns[0])
        producer.produce_many(messages)
        stop.set()
        other.join()
    assert int(consumed(lone_topic)[-1].value) > turns_before + 1_000


def test_a_stopped_producer_refuses_many_messages(lone_topic):
    producer = lone_topic.get_producer()
    producer.stop()
    with pytest.raises(ProducerStoppedException) as caught:
        producer.produce_many([b"late"])
    assert caught.value.accepted == 0
