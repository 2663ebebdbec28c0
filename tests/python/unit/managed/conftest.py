"""Members of a group that share a topic through the embedded broker."""

import itertools

import pytest
from sharing import produce

_numbers = itertools.count()


@pytest.fixture
def topic(client, shared_broker):
    """A new topic of four partitions with 100 messages in each."""
    name = f"managed-{next(_numbers)}"
    shared_broker.create_topic(name, partitions=4)
    topic = client.topics[name]
    produce(topic, range(400))
    return topic


@pytest.fixture
def start(topic, group, rebalances):
    """Starts members, and stops them at the end."""
    members = []

    def start(**kwargs):
        settings = {
            "heartbeat_interval_ms": 50,
            "consumer_timeout_ms": 1000,
            "post_rebalance_callback": rebalances.note,
        }
        members.append(topic.get_balanced_consumer(group, managed=True, **settings | kwargs))
        return members[-1]

    yield start
    for member in members:
        member.stop()


@pytest.fixture
def offsets(topic, group):
    """The group's committed offsets, by partition; -1 if there is none."""

    def offsets():
        answers = topic.get_simple_consumer(group, auto_start=False, reset_offset_on_fetch=False).fetch_offsets()
        return {number: answer.offset for number, answer in answers}

    return offsets
