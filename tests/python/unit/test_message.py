"""`Message`, as producers and consumers see it."""

import copy
import gc
import pickle
from datetime import datetime

import pytest
from pykafka import common, protocol
from pykafka.protocol import Message


def test_both_modules_name_the_same_class():
    assert common.Message is protocol.Message


def test_a_message_made_by_hand_has_what_it_was_given():
    message = Message(b"v", b"k", compression_type=1, offset=7, partition_id=3, produce_attempt=2, timestamp=5)
    assert (message.value, message.partition_key, message.offset, message.partition_id) == (b"v", b"k", 7, 3)
    assert (message.compression_type, message.produce_attempt, message.timestamp) == (1, 2, 5)
    assert message.protocol_version == 0
    assert message.delivery_report_q is None


def test_an_attribute_that_it_does_not_have_is_refused():
    with pytest.raises(AttributeError):
        Message(b"v").colour = "red"


@pytest.mark.parametrize("name", ["value", "partition_key", "partition", "delivery_report_q"])
@pytest.mark.parametrize("value", [b"new", {"a": 1}, None])
def test_a_program_may_set_what_a_message_carries(name, value):
    message = Message(b"v", b"k")
    setattr(message, name, value)
    assert getattr(message, name) is value
    assert getattr(copy.copy(message), name) is (value if name in ("value", "partition_key") else None)


@pytest.mark.parametrize("name", ["offset", "partition_id", "compression_type", "produce_attempt", "protocol_version"])
def test_a_program_may_set_the_numbers_of_a_message(name):
    message = Message(b"v", b"k")
    setattr(message, name, 7)
    assert getattr(message, name) == getattr(pickle.loads(pickle.dumps(message)), name) == 7
    with pytest.raises(TypeError):
        setattr(message, name, "seven")
    assert getattr(message, name) == 7


def test_what_is_set_on_a_message_is_not_what_is_stored_or_committed(lone_topic, group):
    with lone_topic.get_producer() as producer:
        produced = producer.produce(b"stored", b"k")
        produced.value, produced.offset, produced.timestamp = b"changed", 99, 5
    assert (produced.value, produced.offset, produced.timestamp) == (b"changed", 99, 5)
    with lone_topic.get_simple_consumer(group, consumer_timeout_ms=60_000) as consumer:
        consumed = consumer.consume()
        assert (consumed.value, consumed.partition) == (b"stored", lone_topic.partitions[0])
        consumed.value, consumed.offset = consumed.value.decode(), 99
        assert (consumed.value, consumed.offset) == ("stored", 99)
        assert consumer.held_offsets == {0: 0}
        consumer.commit_offsets()
        assert consumer.fetch_offsets()[0][1].offset == 1


def test_a_message_is_true_even_if_it_is_empty():
    assert Message(None)
    assert Message(b"")


def test_its_length_is_that_of_the_old_format():
    assert len(Message(None)) == len(Message(b"", b"")) == 14
    message = Message(b"12345", b"123")
    assert len(message) == 14 + 8
    message.value = b"1234567"
    assert len(message) == 14 + 10
    assert len(Message(b"12345", b"123", protocol_version=1, timestamp=5)) == 14 + 8 + 8
    assert len(Message(b"12345", b"123", timestamp=5)) == 14 + 8


def test_a_time_reads_as_naive_utc():
    assert Message(b"", timestamp=1_500).timestamp_dt == datetime(1970, 1, 1, 0, 0, 1, 500_000)
    assert Message(b"", timestamp=0).timestamp_dt is None


@pytest.mark.parametrize("timestamp", [None, 253_402_300_800_000, (1 << 63) - 1, -(10**17), -(1 << 63) + 1])
def test_a_time_that_no_datetime_can_hold_reads_as_none(timestamp):
    message = Message(b"", timestamp=timestamp)
    assert message.timestamp_dt is None
    assert message.timestamp == timestamp


def test_a_message_can_be_pickled_and_copied():
    message = Message({"a": [1]}, b"k", 1, 7, 3, 2, 1, 5, headers=[("h", b"1"), ("\udcff", None)])
    for again in (pickle.loads(pickle.dumps(message)), copy.copy(message), copy.deepcopy(message)):
        assert attributes(again) == attributes(message)
    assert copy.copy(message).value is message.value
    assert copy.deepcopy(message).value is not message.value


def test_a_delivered_and_a_consumed_message_can_be_pickled_and_leave_their_batch_behind(lone_topic):
    with lone_topic.get_producer() as producer:
        produced = producer.produce(b"v" * 2_000, b"k", timestamp=5, headers=[("h", b"1")])
    with lone_topic.get_simple_consumer(consumer_timeout_ms=60_000) as consumer:
        consumed = consumer.consume()
    for message in (produced, consumed):
        again = pickle.loads(pickle.dumps(message))
        assert attributes(again) == attributes(message)
        assert again.offset == 0
        assert again.partition is None


def test_the_garbage_collector_has_no_work_with_messages(lone_topic):
    with lone_topic.get_producer() as producer:
        produced = producer.produce(b"value")
    consumer = lone_topic.get_simple_consumer(consumer_timeout_ms=10_000)
    (read,) = consumer.consume_batch(1)
    consumer.stop()
    assert (gc.is_tracked(produced), gc.is_tracked(read)) == (False, False)


def attributes(message):
    names = ("value", "partition_key", "compression_type", "offset", "partition_id", "produce_attempt")
    names += ("protocol_version", "timestamp", "headers")
    return [getattr(message, name) for name in names]


@pytest.mark.parametrize(("given", "kept"), [(datetime(1970, 1, 2), 86_400_000), (12, 12), (None, None)])
def test_a_time_can_be_set_as_datetime_number_or_none(given, kept):
    message = Message(b"", timestamp=1)
    message.set_timestamp(given)
    assert message.timestamp == kept


def test_a_timestamp_that_is_neither_number_nor_datetime_is_a_runtime_error():
    with pytest.raises(RuntimeError):
        Message(b"").set_timestamp("yesterday")


def test_a_float_of_seconds_is_not_taken_for_milliseconds():
    message = Message(b"", timestamp=1)
    with pytest.raises(RuntimeError, match=r"int\(time.time\(\) \* 1000\)"):
        message.set_timestamp(1_800_000_000.5)
    with pytest.raises(RuntimeError):
        message.timestamp_dt = 1_800_000_000.5
    assert message.timestamp == 1
