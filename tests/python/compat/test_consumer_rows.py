"""Simple consumers behave as in PyKafka 2.8, where that was not a fault; rows.toml says which test shows which row."""

import datetime
import json
import socket
import threading

import pytest
from pykafka import SimpleConsumer
from pykafka.common import OffsetType
from pykafka.exceptions import ConsumerStoppedException, KafkaException
from pykafka.protocol import OffsetFetchPartitionResponse


@pytest.fixture
def topic(topic):
    """A topic of three partitions with ten messages in each."""
    turns = iter(sorted(topic.partitions.values()) * 10)
    with topic.get_producer(partitioner=lambda partitions, key: next(turns)) as producer:
        for number in range(30):
            producer.produce(b"%d" % number)
    return topic


@pytest.fixture
def start(topic):
    """Starts consumers, and stops them at the end."""
    consumers = []

    def start(**settings):
        consumers.append(topic.get_simple_consumer(**{"consumer_timeout_ms": 60_000} | settings))
        return consumers[-1]

    yield start
    for consumer in consumers:
        consumer.stop()


def metadata_of(consumer):
    """The metadata stored with the group's committed offsets."""
    return [json.loads(answer.metadata) for _, answer in consumer.fetch_offsets()]


def test_every_setting_is_taken_by_position(topic, client, group):
    settings = (1 << 20, 2, True, 60_000, 2000, 1, 500, 100, 1000, 5, OffsetType.EARLIEST, 60_000, True, False, True)
    consumer = SimpleConsumer(topic, client.cluster, group, [topic.partitions[1]], *settings, -1, b"", None, False)
    assert consumer.consume().partition_id == 1
    consumer.stop()


def test_an_empty_name_is_no_group(start):
    for name in ("", b""):
        with pytest.raises(KafkaException, match="consumer_group"):
            start(consumer_group=name).commit_offsets()


def test_auto_commit_without_a_group_is_nothing(start, take):
    consumer = start(auto_commit_enable=True, auto_commit_interval_ms=1)
    assert len(take(consumer, 30)) == 30
    consumer.stop()


def test_a_timeout_of_zero_waits_for_ever(start, topic):
    consumer = start(consumer_timeout_ms=0)
    assert len([consumer.consume() for _ in range(30)]) == 30
    event = threading.Event()
    threading.Timer(0.1, event.set).start()
    assert consumer.consume(True, event) is None
    assert event.is_set()


def test_held_offsets_are_those_of_the_last_message_and_minus_two_before_the_first(start, take):
    consumer = start()
    assert consumer.held_offsets == {0: -2, 1: -2, 2: -2}
    assert len(take(consumer, 30)) == 30
    assert consumer.held_offsets == {0: 9, 1: 9, 2: 9}


def test_committed_is_the_offset_behind_the_last_message_of_every_partition(start, group):
    consumer = start(consumer_group=group)
    for _ in range(30):
        consumer.consume()
    consumer.commit_offsets()
    assert [(id_, answer.offset) for id_, answer in consumer.fetch_offsets()] == [(0, 10), (1, 10), (2, 10)]
    assert consumer.consume_batch(1, timeout=0.2) == []


def test_the_consumer_id_is_stored_with_the_offsets_whenever_it_was_set(start, group):
    consumer = start(consumer_group=group)
    consumer.consume()
    consumer.commit_offsets()
    assert metadata_of(consumer) == [{"consumer_id": "", "hostname": socket.gethostname()}] * 3
    consumer.consumer_id = b"worker-7"
    assert consumer.consumer_id == b"worker-7"
    consumer.commit_offsets()
    assert {metadata["consumer_id"] for metadata in metadata_of(consumer)} == {"worker-7"}
    consumer.stop()
    consumer.consumer_id = "worker-8"
    consumer.commit_offsets()
    assert {metadata["consumer_id"] for metadata in metadata_of(start(consumer_group=group))} == {"worker-8"}


def test_auto_commit_stores_the_consumer_id_too(start, group):
    consumer = start(consumer_group=group, auto_commit_enable=True)
    consumer.consumer_id = b"worker-9"
    consumer.consume()
    consumer.stop()
    assert "worker-9" in {metadata["consumer_id"] for metadata in metadata_of(start(consumer_group=group))}


def test_the_generation_is_kept_and_is_a_number(start):
    consumer = start()
    assert consumer.generation_id == -1
    consumer.generation_id = 3
    assert consumer.generation_id == 3
    with pytest.raises(TypeError, match="generation_id"):
        consumer.generation_id = "x"


def test_fetching_offsets_goes_back_to_what_is_committed(start, topic, group, take):
    consumer = start(consumer_group=group)
    consumer.commit_offsets([(topic.partitions[0], 4), (topic.partitions[1], 10)])
    assert len(take(consumer, 30)) == 30
    answers = consumer.fetch_offsets()
    assert [id_ for id_, _ in answers] == [0, 1, 2]
    assert all(isinstance(answer, OffsetFetchPartitionResponse) for _, answer in answers)
    assert [(answer.offset, answer.err) for _, answer in answers] == [(4, 0), (10, 0), (-1, 0)]
    assert sorted((message.partition_id, message.offset) for message in take(consumer, 16)) == [
        *((0, offset) for offset in range(4, 10)),
        *((2, offset) for offset in range(10)),
    ]
    assert consumer.consume_batch(1, timeout=0.2) == []


def test_offsets_may_come_from_any_iterable(start, topic, group, take):
    consumer = start(consumer_group=group)
    parts = topic.partitions
    consumer.reset_offsets({parts[0]: 7, parts[1]: OffsetType.LATEST, parts[2]: 9}.items())
    assert [(message.partition_id, message.offset) for message in take(consumer, 2)] == [(0, 8), (0, 9)]
    assert consumer.consume_batch(1, timeout=0.2) == []
    consumer.reset_offsets((partition, 8) for partition in parts.values())
    assert [message.offset for message in take(consumer, 3)] == [9, 9, 9]
    consumer.commit_offsets(dict.fromkeys(parts.values(), 5).items())
    assert [answer.offset for _, answer in consumer.fetch_offsets()] == [5, 5, 5]


def test_a_reset_to_a_time_goes_to_the_first_message_of_then_and_to_the_oldest_if_there_is_none(start, topic, take):
    consumer = start()
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    for when in (now - datetime.timedelta(days=1), now + datetime.timedelta(days=1)):
        consumer.reset_offsets([(partition, when) for partition in topic.partitions.values()])
        assert [message.value for message in take(consumer, 30)].count(b"0") == 1


def test_an_offset_out_of_range_is_replaced_as_auto_offset_reset_says(start, topic):
    consumer = start(partitions=[topic.partitions[0]])
    assert consumer.consume().offset == 0
    consumer.reset_offsets([(topic.partitions[0], 1000)])
    assert consumer.consume().offset == 0
    latest = start(partitions=[topic.partitions[0]], auto_offset_reset=OffsetType.LATEST)
    latest.reset_offsets([(topic.partitions[0], 1000)])
    while latest.held_offsets != {0: 9}:
        assert latest.consume_batch(1, timeout=0.1) == []


def test_a_reset_with_a_group_is_committed(start, topic, group):
    consumer = start(consumer_group=group)
    consumer.reset_offsets([(partition, 4) for partition in topic.partitions.values()])
    looker = start(consumer_group=group, reset_offset_on_fetch=False)
    assert [answer.offset for _, answer in looker.fetch_offsets()] == [5, 5, 5]


def test_stop_commits_only_if_auto_commit_is_on(start, topic, group, take):
    for enabled, committed in ((False, 0), (True, 30)):
        consumer = start(consumer_group=group, auto_commit_enable=enabled)
        assert len(take(consumer, 30)) == 30
        consumer.stop()
        looker = start(consumer_group=group, reset_offset_on_fetch=False)
        assert sum(max(answer.offset, 0) for _, answer in looker.fetch_offsets()) == committed


def test_a_consumer_that_is_not_started_knows_its_partitions_and_hands_out_nothing(start, topic):
    consumer = start(auto_start=False)
    assert consumer.topic is topic
    assert consumer.partitions == topic.partitions
    with pytest.raises(ConsumerStoppedException):
        consumer.consume()
    consumer.start()
    assert consumer.consume() is not None


def test_it_goes_on_where_it_was_when_it_is_started_again(start, take):
    consumer = start()
    first = [consumer.consume() for _ in range(12)]
    consumer.stop()
    held = consumer.held_offsets
    consumer.start()
    assert consumer.held_offsets == held
    assert {message.value for message in [*first, *take(consumer, 18)]} == {b"%d" % number for number in range(30)}
    assert sum(offset + 1 for offset in held.values() if offset >= 0) == 12
    assert consumer.held_offsets == {0: 9, 1: 9, 2: 9}


def test_offsets_can_be_moved_and_fetched_before_it_is_started(start, topic, group, take):
    consumer = start(auto_start=False)
    consumer.reset_offsets([(topic.partitions[0], 7), (topic.partitions[1], OffsetType.LATEST)])
    assert consumer.held_offsets == {0: 7, 1: 9, 2: -2}
    consumer.start()
    messages = [(message.partition_id, message.offset) for message in take(consumer, 12)]
    assert sorted(messages) == [(0, 8), (0, 9), *((2, offset) for offset in range(10))]
    grouped = start(auto_start=False, consumer_group=group)
    grouped.commit_offsets([(topic.partitions[0], 4)])
    assert [answer.offset for _, answer in grouped.fetch_offsets()] == [4, -1, -1]
    assert grouped.held_offsets == {0: 3, 1: -2, 2: -2}


def test_fetch_and_cleanup_can_be_called(start):
    consumer = start()
    consumer.fetch()
    consumer.cleanup()
    assert consumer.consume(block=True) is not None


def test_a_deserializer_gets_value_and_key_and_is_not_called_at_a_timeout(start, topic, take):
    consumer = start(deserializer=lambda value, key: (int(value), key is None), consumer_timeout_ms=300)
    messages = take(consumer, 30)
    assert sorted(message.value for message in messages) == list(range(30))
    assert {message.partition_key for message in messages} == {True}
    assert consumer.consume() is None
