"""Helpers of the tests that consume from the in-memory broker."""

import itertools

from pykafka.common import OffsetType

_turns = itertools.count()


def in_turns(partitions, key):
    """A partitioner that takes the partitions in turns."""
    return partitions[next(_turns) % len(partitions)]


def fill(topic, count, **options):
    with topic.get_producer(**options) as producer:
        for number in range(count):
            producer.produce(b"%d" % number, timestamp=1_000 + number)


def messages_of(consumer, count=None):
    """The next messages: so many, or all that the topic has."""
    if count is None:
        ends = consumer.topic.latest_available_offsets()
        held = consumer.held_offsets
        count = sum(ends[id_].offset[0] - max(offset + 1, 0) for id_, offset in held.items())
    return list(itertools.islice(consumer, count))


def values(consumer, count=None):
    return [int(message.value) for message in messages_of(consumer, count)]


def consumer_of(topic, **options):
    """A consumer that waits so long that only a missing message ends the wait, however busy the machine is."""
    return topic.get_simple_consumer(**{"consumer_timeout_ms": 60_000} | options)


#: Settings with which auto-commits are due at once and fail soon.
AUTO_COMMIT = {
    "auto_commit_enable": True,
    "auto_commit_interval_ms": 50,
    "auto_offset_reset": OffsetType.EARLIEST,
    "reset_offset_on_start": True,
}


def committed(topic, group):
    """The group's committed offset for the first partition, or None."""
    with topic.get_simple_consumer(consumer_group=group, reset_offset_on_fetch=False) as looker:
        ((_, answer),) = looker.fetch_offsets()
    return answer.offset if answer.offset >= 0 else None
