"""`Message`, as both ends see it."""

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


def test_a_message_is_true_even_if_it_is_empty():
    assert Message(None)
    assert Message(b"")


def test_its_length_grows_with_key_and_value():
    assert len(Message(b"12345", b"123")) == len(Message(b"", b"")) + 8


def test_a_time_reads_as_naive_utc():
    assert Message(b"", timestamp=1_500).timestamp_dt == datetime(1970, 1, 1, 0, 0, 1, 500_000)
    assert Message(b"", timestamp=0).timestamp_dt is None


def test_without_a_time_there_is_no_datetime():
    with pytest.raises(TypeError):
        Message(b"").timestamp_dt  # noqa: B018


@pytest.mark.parametrize(("given", "kept"), [(datetime(1970, 1, 2), 86_400_000), (12, 12), (12.9, 12), (None, None)])
def test_a_time_can_be_set_as_datetime_number_or_none(given, kept):
    message = Message(b"", timestamp=1)
    message.set_timestamp(given)
    assert message.timestamp == kept


def test_a_time_that_is_neither_is_a_runtime_error():
    with pytest.raises(RuntimeError):
        Message(b"").set_timestamp("yesterday")
