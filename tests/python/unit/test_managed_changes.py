"""What a member of a group does when its own callback stops it, and when its topic disappears."""

import threading

import pykafka
import pytest
from pykafka.exceptions import ConsumerStoppedException, UnknownTopicOrPartition


@pytest.fixture
def topic(own_broker):
    """A topic of two partitions."""
    own_broker.create_topic("changing", partitions=2)
    with pykafka.KafkaClient(own_broker.bootstrap_servers) as client:
        yield client.topics["changing"]


def test_a_callback_that_stops_its_consumer_does_not_wait_and_the_member_leaves(topic, group, rebalances, caplog):
    stopped = threading.Event()

    def stop(consumer, old, new):
        if old:
            consumer.stop()
            stopped.set()
        rebalances.note(consumer, old, new)

    first = topic.get_balanced_consumer(
        group, managed=True, heartbeat_interval_ms=50, consumer_timeout_ms=100, post_rebalance_callback=stop
    )
    with topic.get_balanced_consumer(
        group, managed=True, heartbeat_interval_ms=50, consumer_timeout_ms=100, post_rebalance_callback=rebalances.note
    ) as second:
        while not stopped.is_set():
            with pytest.raises(ConsumerStoppedException):
                while True:
                    first.consume()
        rebalances.until(second, 2)
    assert not [record for record in caplog.records if "could not leave" in record.getMessage()]


def test_a_callback_that_stops_its_consumer_at_once_lets_start_raise(topic, group):
    def stop(consumer, old, new):
        consumer.stop()

    with pytest.raises(ConsumerStoppedException):
        topic.get_balanced_consumer(group, managed=True, post_rebalance_callback=stop)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_callback_may_end_the_program(topic, group, error):
    def fail(consumer, old, new):
        raise error

    with pytest.raises(error):
        topic.get_balanced_consumer(group, managed=True, post_rebalance_callback=fail)
    with topic.get_balanced_consumer(group, managed=True, heartbeat_interval_ms=50, consumer_timeout_ms=100) as first:
        first._post_rebalance_callback = fail
        with topic.get_balanced_consumer(group, managed=True), pytest.raises(error):
            while True:
                first.consume()


def test_a_deleted_topic_is_told_once_and_read_again_when_it_returns(topic, own_broker, group):
    with topic.get_balanced_consumer(group, managed=True, consumer_timeout_ms=100) as consumer:
        broker = next(iter(topic._cluster.brokers.values()))
        broker.delete_topics([b"changing"], timeout=10_000)
        with pytest.raises(UnknownTopicOrPartition, match="'changing' does not exist"):
            while True:
                consumer.consume()
        assert consumer.consume() is None
        own_broker.create_topic("changing", partitions=1)
        with topic.get_producer() as producer:
            producer.produce(b"new")
        while (message := consumer.consume()) is None:
            pass
        assert message.value == b"new"


@pytest.mark.parametrize(("name", "error"), [("", ValueError), (b"", ValueError), (3, TypeError)])
def test_the_name_of_a_static_member_is_checked(topic, group, name, error):
    with pytest.raises(error, match="group_instance_id"):
        topic.get_balanced_consumer(group, managed=True, auto_start=False, group_instance_id=name)


def test_the_name_of_a_static_member_may_be_bytes(topic, group):
    with topic.get_balanced_consumer(group, managed=True, group_instance_id=b"seat-1"):
        members = topic._cluster.get_managed_group_descriptions()[group.encode()].members
    assert len(members) == 1
