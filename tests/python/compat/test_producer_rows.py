"""Producers behave as in PyKafka 2.8, where that was not a fault; rows.toml says which test shows which row."""

import datetime
import queue
import time

import pytest
from pykafka import KafkaClient
from pykafka.exceptions import KafkaException, ProducerStoppedException
from pykafka.partitioners import BasePartitioner


def ends(topic):
    return sum(answer.offset[0] for answer in topic.latest_available_offsets().values())


def test_settings_of_the_old_threads_and_queues_are_accepted(topic):
    settings = {
        "retry_backoff_ms": 10,
        "ack_timeout_ms": 0,
        "max_queued_messages": 10_000,
        "min_queued_messages": 1,
        "queue_empty_timeout_ms": -1,
        "linger_ms": 0.5,
        "pending_timeout_ms": -1,
        "block_on_queue_full": 1,
    }
    with topic.get_producer(**settings) as producer:
        producer.produce(b"x")
    assert ends(topic) == 1


@pytest.mark.parametrize("acks", [-2, -1, 0, 1, 2, 3])
def test_any_number_of_acknowledgements_may_be_required(topic, acks):
    with topic.get_sync_producer(required_acks=acks) as producer:
        message = producer.produce(b"x")
    assert message.offset == (-1 if acks == 0 else 0)
    consumer = topic.get_simple_consumer(consumer_timeout_ms=60_000)
    assert consumer.consume().value == b"x"
    consumer.stop()


def test_the_message_that_produce_returns_gets_its_offset_later(lone_topic):
    with lone_topic.get_producer(delivery_reports=True) as producer:
        message = producer.produce(b"value", b"key")
        assert (message.value, message.partition_key, message.partition_id) == (b"value", b"key", 0)
        reported, error = producer.get_delivery_report(timeout=60)
    assert reported is message
    assert (message.offset, error) == (0, None)
    assert message.partition is None


def test_a_message_without_a_timestamp_gets_and_shows_the_current_time(lone_topic):
    before = int(time.time() * 1000) - 100
    with lone_topic.get_sync_producer() as producer:
        produced = producer.produce(b"x")
    consumer = lone_topic.get_simple_consumer(consumer_timeout_ms=60_000)
    consumed = consumer.consume()
    consumer.stop()
    assert before <= produced.timestamp == consumed.timestamp <= time.time() * 1000
    assert produced.timestamp_dt == consumed.timestamp_dt


def test_a_time_is_the_third_argument_and_naive_utc(own_broker):
    own_broker.create_topic("t")
    topic = KafkaClient(own_broker.bootstrap_servers, broker_version="1.0.0").topics["t"]
    when = datetime.datetime(2018, 9, 25, 12, 30, 0, 123_000)
    with topic.get_sync_producer() as producer:
        producer.produce(b"x", b"key", when)
    message = topic.get_simple_consumer(consumer_timeout_ms=60_000).consume()
    assert (message.timestamp_dt, message.timestamp) == (when, 1_537_878_600_123)


def test_reports_are_ignored_when_it_is_sync(topic):
    with topic.get_producer(sync=True, delivery_reports=True) as producer:
        assert producer.produce(b"x").offset == 0
        with pytest.raises(KafkaException):
            producer.get_delivery_report(False)


def test_get_delivery_report_takes_its_arguments_by_position(topic):
    with topic.get_producer(delivery_reports=True) as producer:
        with pytest.raises(queue.Empty):
            producer.get_delivery_report(False)
        with pytest.raises(queue.Empty):
            producer.get_delivery_report(True, 0.01)


def test_without_auto_start_it_is_started_later(topic):
    producer = topic.get_producer(auto_start=False)
    with pytest.raises(ProducerStoppedException):
        producer.produce(b"x")
    producer.start()
    producer.produce(b"x")
    producer.stop()
    producer.stop()
    assert ends(topic) == 1


def test_leaving_the_block_stops_it(topic):
    with topic.get_producer() as producer:
        producer.produce(b"x")
    assert ends(topic) == 1
    with pytest.raises(ProducerStoppedException):
        producer.produce(b"x")


def test_the_partitioner_gets_the_key_that_the_serializer_made(topic):
    keys = []

    class First(BasePartitioner):
        def __call__(self, partitions, key=None):
            keys.append(key)
            return partitions[0]

    def serialize(value, key):
        return repr(value).encode(), repr(key).encode()

    with topic.get_sync_producer(serializer=serialize, partitioner=First()) as producer:
        message = producer.produce({"a": 1}, 7)
    assert (message.value, message.partition_key, keys) == (b"{'a': 1}", b"7", [b"7"])


def test_a_partitioner_is_asked_for_every_message_and_gets_the_partitions_in_their_order(topic):
    asked = []

    def last(partitions, key):
        asked.append(partitions)
        return partitions[-1]

    with topic.get_producer(partitioner=last) as producer:
        for _ in range(3):
            producer.produce(b"x")
    assert asked == [list(topic.partitions.values())] * 3
    assert topic.latest_available_offsets()[2].offset == [3]
