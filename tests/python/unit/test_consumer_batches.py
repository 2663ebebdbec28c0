"""Consuming in batches from the in-memory broker."""

import threading
import time

import pytest
from consuming import AUTO_COMMIT, committed, consumer_of, fill, in_turns, values
from pykafka.exceptions import ConsumerStoppedException


def batch_of(consumer, count):
    """This many messages, in one batch or more: how they were fetched decides that."""
    messages = []
    while len(messages) < count:
        batch = consumer.consume_batch(count - len(messages))
        assert 0 < len(batch) <= count - len(messages)
        messages += batch
    return messages


def test_a_batch_holds_the_fetched_messages_up_to_max_messages_in_order(lone_topic):
    fill(lone_topic, 100)
    with consumer_of(lone_topic) as consumer:
        assert len(consumer.consume_batch(1)) == 1
        first = batch_of(consumer, 29)
        assert [int(message.value) for message in first] == list(range(1, 30))
        assert consumer.held_offsets == {0: 29}
        assert int(consumer.consume().value) == 30
        rest = batch_of(consumer, 69)
        assert [int(message.value) for message in rest] == list(range(31, 100))
        assert consumer.consume_batch(1_000, timeout=0.2) == []


def test_batches_bring_every_partition_in_its_order(topic):
    fill(topic, 900, partitioner=in_turns)
    with consumer_of(topic) as consumer:
        by_partition, read = {}, 0
        while read < 900:
            for message in consumer.consume_batch(250):
                read += 1
                assert message.partition is topic.partitions[message.partition_id]
                by_partition.setdefault(message.partition_id, []).append(message.offset)
    assert by_partition == {id_: list(range(300)) for id_ in range(3)}


def test_without_messages_a_batch_is_empty_after_its_own_timeout_or_the_consumers(lone_topic):
    with consumer_of(lone_topic, consumer_timeout_ms=1) as consumer:
        assert consumer.consume_batch(10) == []
    with consumer_of(lone_topic, consumer_timeout_ms=-1) as consumer:
        assert consumer.consume_batch(10, timeout=0) == []
        assert consumer.consume_batch(10, timeout=0.05) == []


@pytest.mark.parametrize("arguments", [(0,), (1, -1), (1, float("nan"))])
def test_a_batch_of_nothing_or_a_negative_timeout_is_refused(lone_topic, arguments):
    with consumer_of(lone_topic) as consumer, pytest.raises(ValueError, match="must"):
        consumer.consume_batch(*arguments)


def test_a_stopped_consumer_has_no_batches(lone_topic):
    consumer = consumer_of(lone_topic)
    consumer.stop()
    with pytest.raises(ConsumerStoppedException):
        consumer.consume_batch(1)


def test_while_a_batch_is_worked_on_nothing_of_it_is_committed_in_any_partition(topic, group):
    messages, done = [], {}
    with (
        pytest.raises(ZeroDivisionError),
        consumer_of(topic, **AUTO_COMMIT, consumer_group=group) as consumer,
    ):
        # Until the fetched messages were of several partitions.
        while len({message.partition_id for message in messages}) < 2:
            fill(topic, 300, partitioner=in_turns)
            done = {id_: max(offset + 1, 0) for id_, offset in consumer.held_offsets.items()}
            messages = consumer.consume_batch(300)
        time.sleep(0.1)
        # By now an auto-commit is due, and this thread starts it.
        other = threading.Thread(target=consumer.consume, args=(False,))
        other.start()
        other.join()
        raise ZeroDivisionError
    touched = {message.partition_id for message in messages}
    with consumer_of(topic, consumer_group=group, reset_offset_on_fetch=False) as looker:
        committed = {id_: answer.offset for id_, answer in looker.fetch_offsets()}
    assert {id_: committed[id_] for id_ in touched} == {id_: done[id_] for id_ in touched}


def test_a_single_message_after_a_batch_leaves_nothing_of_the_batch_held_back(lone_topic, group):
    fill(lone_topic, 20)
    consumer = consumer_of(lone_topic, **AUTO_COMMIT, consumer_group=group)
    assert len(batch_of(consumer, 10)) == 10
    assert values(consumer, 1) == [10]
    with pytest.raises(ZeroDivisionError), consumer:
        raise ZeroDivisionError
    assert committed(lone_topic, group) == 10


def test_leaving_with_an_exception_does_not_commit_the_batch_at_hand(lone_topic, group):
    fill(lone_topic, 20)
    with pytest.raises(ZeroDivisionError), consumer_of(lone_topic, **AUTO_COMMIT, consumer_group=group) as consumer:
        done = consumer.consume_batch(5)
        assert consumer.consume_batch(5)
        raise ZeroDivisionError
    assert committed(lone_topic, group) == len(done)


def test_what_a_deserializer_refuses_behind_the_first_is_raised_by_the_next_batch(lone_topic):
    fill(lone_topic, 5)

    def refuse_two(value, key):
        if value == b"2":
            raise ValueError("two is refused")
        return int(value), key

    got = []
    with consumer_of(lone_topic, deserializer=refuse_two) as consumer:
        while len(got) < 2:
            got += [message.value for message in consumer.consume_batch(5)]
        with pytest.raises(ValueError, match="two is refused"):
            consumer.consume_batch(5)
        while len(got) < 4:
            got += [message.value for message in consumer.consume_batch(5)]
    assert got == [0, 1, 3, 4]


@pytest.fixture
def error(request):
    """What the deserializer raises."""
    return getattr(request, "param", ValueError)


@pytest.fixture
def refusal(lone_topic, group, error):
    """A consumer whose deserializer has refused the second message of a batch, and the offset of that message."""
    fill(lone_topic, 100)
    asked, refused = [], []

    def refuse_the_second(value, key):
        asked.append(int(value))
        if len(asked) == 2 and not refused:
            refused.append(int(value))
            raise error("refused")
        return value, key

    settings = {"consumer_group": group, "auto_commit_enable": True, "auto_commit_interval_ms": 50}
    consumer = consumer_of(lone_topic, **settings, deserializer=refuse_the_second)
    while not refused:
        asked.clear()
        assert consumer.consume_batch(5)
    yield consumer, refused[0]
    consumer.stop()


def test_what_was_refused_is_not_committed_before_its_error_is_raised(lone_topic, group, refusal):
    consumer, refused = refusal
    assert consumer.held_offsets == {0: refused - 1}
    consumer.commit_offsets()
    assert committed(lone_topic, group) == refused
    consumer.stop()
    assert committed(lone_topic, group) == refused
    consumer.start()
    assert values(consumer, 1) == [refused]


@pytest.mark.parametrize("error", [KeyboardInterrupt], indirect=True)
def test_a_key_press_while_a_batch_is_deserialized_comes_out_of_stop(lone_topic, group, refusal):
    consumer, refused = refusal
    with pytest.raises(KeyboardInterrupt):
        consumer.stop()
    assert committed(lone_topic, group) == refused
    consumer.stop()


def test_the_error_of_what_was_refused_comes_next_and_no_other_error_replaces_it(lone_topic, group, refusal):
    consumer, refused = refusal
    consumer._raise_later(LookupError("another one"))
    with pytest.raises(ValueError, match="refused"):
        consumer.consume()
    with pytest.raises(LookupError):
        consumer.consume_batch(5)
    assert values(consumer, 1) == [refused + 1]
    consumer.stop()
    assert committed(lone_topic, group) == refused + 2
