"""Consuming from the in-memory broker."""

import itertools
import threading
import time
from datetime import datetime, timedelta

import pytest
from consuming import AUTO_COMMIT, committed, consumer_of, fill, in_turns, messages_of, values
from pykafka import KafkaClient
from pykafka.common import EPOCH, OffsetType
from pykafka.exceptions import (
    ConsumerStoppedException,
    GroupLoadInProgress,
    KafkaException,
    OffsetRequestFailedError,
    SocketDisconnectedError,
    UnicodeException,
)


def quiet_topic(broker, commit_limit_ms=2_000):
    """A topic with five messages, on a broker that can be silenced; its client retries a commit for two seconds."""
    broker.create_topic("quiet")
    client = KafkaClient(broker.bootstrap_servers, offsets_channel_socket_timeout_ms=commit_limit_ms)
    fill(client.topics["quiet"], 5)
    return client.topics["quiet"]


def test_iteration_ends_when_the_timeout_passes(lone_topic):
    fill(lone_topic, 100)
    with consumer_of(lone_topic, consumer_timeout_ms=200) as consumer:
        read = []
        # On a busy machine the next message may be later than that, and the iteration ends before it.
        while len(read) < 100:
            read += [int(message.value) for message in consumer]
        assert read == list(range(100))
        assert list(consumer) == []
        assert consumer.consume() is None


def test_every_partition_is_read_in_its_order(topic):
    fill(topic, 900, partitioner=in_turns)
    with consumer_of(topic) as consumer:
        by_partition = {}
        for message in messages_of(consumer):
            assert message.partition is topic.partitions[message.partition_id]
            by_partition.setdefault(message.partition_id, []).append((message.offset, int(message.value)))
    assert sorted(by_partition) == [0, 1, 2]
    for messages in by_partition.values():
        assert messages == sorted(messages)
        assert [offset for offset, _ in messages] == list(range(300))


def test_only_the_given_partitions_are_read(topic):
    fill(topic, 300, partitioner=in_turns)
    with consumer_of(topic, partitions=[topic.partitions[1]]) as consumer:
        assert [message.partition_id for message in messages_of(consumer)] == [1] * 100
        assert consumer.consume_batch(1, timeout=0.2) == []
        assert consumer.partitions == {1: topic.partitions[1]}


def test_a_call_that_does_not_block_returns_at_once(lone_topic):
    # A call that waits would wait for ever.
    with consumer_of(lone_topic, consumer_timeout_ms=-1) as consumer:
        assert consumer.consume(block=False) is None


def test_an_event_unblocks_a_waiting_call(lone_topic):
    event = threading.Event()
    threading.Timer(0.2, event.set).start()
    with consumer_of(lone_topic, consumer_timeout_ms=-1) as consumer:
        assert consumer.consume(unblock_event=event) is None


def test_a_message_wakes_a_waiting_call(lone_topic):
    threading.Timer(0.2, fill, (lone_topic, 1)).start()
    with consumer_of(lone_topic, consumer_timeout_ms=-1) as consumer:
        assert consumer.consume().value == b"0"


def test_a_stop_on_another_thread_ends_a_waiting_call(lone_topic):
    consumer = consumer_of(lone_topic, consumer_timeout_ms=-1)
    threading.Timer(0.2, consumer.stop).start()
    with pytest.raises(ConsumerStoppedException):
        consumer.consume()


def test_a_stopped_consumer_refuses_and_goes_on_where_it_was_when_it_is_started_again(lone_topic):
    fill(lone_topic, 3)
    consumer = consumer_of(lone_topic)
    assert values(consumer, 2) == [0, 1]
    consumer.stop()
    consumer.stop()
    assert consumer.held_offsets == {0: 1}
    with pytest.raises(ConsumerStoppedException):
        consumer.consume()
    consumer.start()
    consumer.start()
    assert values(consumer) == [2]


def test_without_a_group_it_starts_with_the_oldest_message_whatever_the_reset_says(lone_topic):
    fill(lone_topic, 3)
    with consumer_of(lone_topic, auto_offset_reset=OffsetType.LATEST) as consumer:
        assert values(consumer) == [0, 1, 2]


def test_a_reset_on_start_goes_to_the_end(lone_topic):
    fill(lone_topic, 3)
    with consumer_of(lone_topic, auto_offset_reset=OffsetType.LATEST, reset_offset_on_start=True) as consumer:
        fill(lone_topic, 1)
        assert consumer.consume().offset == 3
        assert consumer.consume_batch(1, timeout=0.2) == []


def test_a_group_goes_on_where_it_committed(lone_topic, group):
    fill(lone_topic, 5)
    with consumer_of(lone_topic, consumer_group=group) as consumer:
        assert values(consumer, 2) == [0, 1]
        consumer.commit_offsets()
    with consumer_of(lone_topic, consumer_group=group) as consumer:
        assert consumer.held_offsets == {0: 1}
        assert values(consumer) == [2, 3, 4]


@pytest.mark.parametrize("reset", [OffsetType.EARLIEST, OffsetType.LATEST])
def test_looking_at_a_group_writes_nothing(lone_topic, group, reset):
    fill(lone_topic, 3)
    with consumer_of(lone_topic, consumer_group=group, reset_offset_on_fetch=False, auto_offset_reset=reset) as looker:
        looker.fetch_offsets()
    assert committed(lone_topic, group) is None


def test_a_reset_on_start_is_committed(lone_topic, group):
    fill(lone_topic, 3)
    options = {"consumer_group": group, "auto_offset_reset": OffsetType.LATEST, "reset_offset_on_start": True}
    with consumer_of(lone_topic, **options):
        assert committed(lone_topic, group) == 3


def test_with_auto_commit_the_start_without_a_committed_offset_is_committed_at_once(lone_topic, group):
    fill(lone_topic, 3)
    options = {"consumer_group": group, "auto_offset_reset": OffsetType.LATEST}
    with consumer_of(lone_topic, **options):
        assert committed(lone_topic, group) is None
    with consumer_of(lone_topic, **options, auto_commit_enable=True):
        assert committed(lone_topic, group) == 3


def test_a_start_that_cannot_be_committed_is_logged(own_broker, caplog):
    topic = quiet_topic(own_broker)
    own_broker.refuse_commits(25)
    with consumer_of(topic, consumer_group="group", auto_commit_enable=True) as consumer:
        assert "offsets of group 'group' were not committed" in caplog.text
        assert values(consumer) == list(range(5))


def test_a_consumer_that_was_never_started_has_nothing_to_commit(topic, group):
    with consumer_of(topic, consumer_group=group) as consumer:
        consumer.commit_offsets([(partition, 7) for partition in topic.partitions.values()])
    consumer = topic.get_simple_consumer(consumer_group=group, auto_start=False)
    consumer.commit_offsets()
    assert consumer.held_offsets == dict.fromkeys(range(3), -2)
    with consumer_of(topic, consumer_group=group) as consumer:
        assert [answer.offset for _, answer in consumer.fetch_offsets()] == [7, 7, 7]


def test_a_consumer_that_was_never_started_commits_what_it_is_given(lone_topic, group):
    consumer = lone_topic.get_simple_consumer(consumer_group=group, auto_start=False)
    consumer.commit_offsets([(lone_topic.partitions[0], 3)])
    assert committed(lone_topic, group) == 3


def test_a_deserializer_may_stop_the_consumer_it_belongs_to(lone_topic):
    fill(lone_topic, 3)
    consumer = consumer_of(lone_topic, deserializer=lambda value, key: (consumer.stop(), value))
    assert consumer.consume().partition_key == b"0"
    with pytest.raises(ConsumerStoppedException):
        consumer.consume()


def test_offsets_given_to_commit_are_the_next_to_read(lone_topic, group):
    fill(lone_topic, 5)
    with consumer_of(lone_topic, consumer_group=group) as consumer:
        consumer.commit_offsets([(lone_topic.partitions[0], 3)])
        ((partition, committed),) = consumer.fetch_offsets()
        assert (partition, committed.offset, committed.err) == (0, 3, 0)
        assert values(consumer) == [3, 4]


def test_fetching_offsets_can_leave_the_position_alone(lone_topic, group):
    fill(lone_topic, 5)
    with consumer_of(lone_topic, consumer_group=group, reset_offset_on_fetch=False) as consumer:
        consumer.commit_offsets([(lone_topic.partitions[0], 3)])
        consumer.fetch_offsets()
        assert values(consumer, 1) == [0]


def test_auto_commit_leaves_out_the_message_at_hand_when_the_work_on_it_failed(lone_topic, group):
    fill(lone_topic, 5)
    options = {"consumer_group": group, "auto_commit_enable": True}
    with pytest.raises(ZeroDivisionError), consumer_of(lone_topic, **options) as consumer:
        values(consumer, 3)
        raise ZeroDivisionError
    with consumer_of(lone_topic, **options) as consumer:
        assert values(consumer, 1) == [2]


def commit_of(consumer, group, offset):
    """Asks for messages, of which there are no more, until an auto-commit has come to this offset."""
    while committed(consumer.topic, group) != offset:
        assert consumer.consume(block=False) is None


def test_auto_commit_happens_while_consuming(lone_topic, group):
    fill(lone_topic, 5)
    options = {"consumer_group": group, "auto_commit_enable": True, "auto_commit_interval_ms": 100}
    consumer = consumer_of(lone_topic, **options)
    values(consumer)
    commit_of(consumer, group, 5)
    with consumer_of(lone_topic, consumer_group=group) as other:
        assert other.held_offsets == {0: 4}
    consumer.stop()


def test_auto_commit_at_the_shortest_interval_keeps_nothing_from_being_read(lone_topic, group):
    fill(lone_topic, 50)
    options = {"consumer_group": group, "auto_commit_enable": True, "auto_commit_interval_ms": 1}
    with consumer_of(lone_topic, **options) as consumer:
        assert values(consumer) == list(range(50))
    assert committed(lone_topic, group) == 50


def test_auto_commit_never_makes_a_call_wait_for_the_coordinator(own_broker, group):
    # Whoever waits for the coordinator waits longer than this test may last.
    topic = quiet_topic(own_broker, commit_limit_ms=600_000)
    consumer = topic.get_simple_consumer(**AUTO_COMMIT, consumer_group=group)
    assert consumer.consume() is not None
    own_broker.silence()
    begun = time.monotonic()
    while time.monotonic() - begun < 1:
        consumer.consume(block=False)
    own_broker.heal()


def test_an_auto_commit_that_fails_is_told_however_often_the_next_one_is_due(own_broker, group, caplog):
    topic = quiet_topic(own_broker)
    consumer = topic.get_simple_consumer(**AUTO_COMMIT, consumer_group=group)
    assert consumer.consume() is not None
    own_broker.silence()
    give_up = time.monotonic() + 60
    while "were not committed" not in caplog.text and time.monotonic() < give_up:
        consumer.consume(block=False)
        time.sleep(0.01)
    own_broker.heal()
    assert "were not committed" in caplog.text


def test_an_auto_commit_that_is_tried_again_does_not_undo_the_commit_of_stop(own_broker, group):
    topic = quiet_topic(own_broker)
    consumer = topic.get_simple_consumer(**AUTO_COMMIT, consumer_group=group)
    assert values(consumer, 1) == [0]
    own_broker.refuse_commits(14)
    time.sleep(0.1)
    # The first call starts an auto-commit of what was returned before.
    assert values(consumer, 4) == [1, 2, 3, 4]
    consumer.stop()
    time.sleep(0.5)
    with consumer_of(topic, consumer_group=group) as other:
        assert other.held_offsets == {0: 4}


def test_a_stop_that_is_refused_says_why_within_its_time(own_broker, group):
    consumer = quiet_topic(own_broker).get_simple_consumer(group, auto_commit_enable=True)
    assert values(consumer, 1) == [0]
    own_broker.refuse_commits(GroupLoadInProgress.ERROR_CODE, times=1_000)
    begun = time.monotonic()
    with pytest.raises(GroupLoadInProgress):
        consumer.stop()
    # The limit is two seconds; the broker refuses for far longer than a minute.
    assert 1 < time.monotonic() - begun < 60
    with pytest.raises(ConsumerStoppedException):
        consumer.consume()


@pytest.mark.parametrize("kind", [{}, {"managed": True}])
def test_a_stop_without_a_topic_logs_that_nothing_was_committed(own_broker, group, kind, caplog):
    own_broker.create_topic("letters")
    client = KafkaClient(own_broker.bootstrap_servers, broker_version="2.0.0")
    topic = client.topics["letters"]
    make = topic.get_balanced_consumer if kind else topic.get_simple_consumer
    with topic.get_sync_producer() as producer, make(group, auto_commit_enable=True, **kind) as consumer:
        producer.produce(b"v")
        assert consumer.consume().value == b"v"
        producer.stop()
        client.cluster.controller_broker.delete_topics([b"letters"], 60_000)
    assert "topic 'letters' does not exist any more, so its offsets were not committed" in caplog.text


def test_a_stop_whose_coordinator_is_gone_says_so(own_broker, group):
    consumer = quiet_topic(own_broker).get_simple_consumer(group, auto_commit_enable=True)
    assert values(consumer, 1) == [0]
    own_broker.stop()
    with pytest.raises(SocketDisconnectedError, match=group):
        consumer.stop()


def test_auto_commit_leaves_out_what_other_threads_work_on_until_they_end(lone_topic, group):
    fill(lone_topic, 5)
    options = {"consumer_group": group, "auto_commit_enable": True, "auto_commit_interval_ms": 100}
    consumer = consumer_of(lone_topic, **options)
    is_taken, is_done = threading.Event(), threading.Event()

    def work():
        consumer.consume()
        is_taken.set()
        is_done.wait()

    worker = threading.Thread(target=work)
    worker.start()
    is_taken.wait()
    assert values(consumer) == [1, 2, 3, 4]
    with consumer_of(lone_topic, consumer_group=group) as other:
        assert values(other, 1) == [0]
    is_done.set()
    worker.join()
    commit_of(consumer, group, 5)
    with consumer_of(lone_topic, consumer_group=group) as other:
        assert other.held_offsets == {0: 4}
    consumer.stop()


def test_stop_leaves_out_what_another_thread_works_on(lone_topic, group):
    fill(lone_topic, 5)
    consumer = consumer_of(lone_topic, consumer_group=group, auto_commit_enable=True)
    is_taken, is_done = threading.Event(), threading.Event()

    def work():
        consumer.consume()
        consumer.consume()
        is_taken.set()
        is_done.wait()

    worker = threading.Thread(target=work)
    worker.start()
    is_taken.wait()
    assert values(consumer) == [2, 3, 4]
    consumer.stop()
    with consumer_of(lone_topic, consumer_group=group) as other:
        assert values(other, 1) == [1]
    is_done.set()
    worker.join()


def test_leaving_by_an_exception_does_not_take_back_what_was_committed(lone_topic, group):
    fill(lone_topic, 5)
    options = {"consumer_group": group, "auto_commit_enable": True}
    with pytest.raises(ZeroDivisionError), consumer_of(lone_topic, **options) as consumer:
        values(consumer, 3)
        consumer.commit_offsets()
        raise ZeroDivisionError
    with consumer_of(lone_topic, **options) as consumer:
        assert values(consumer, 1) == [3]


def test_leaving_by_an_exception_commits_nothing_that_a_thread_works_on(topic, group):
    fill(topic, 900, partitioner=in_turns)
    with (
        pytest.raises(ZeroDivisionError),
        consumer_of(topic, consumer_group=group, auto_commit_enable=True) as consumer,
    ):
        first = consumer.consume()
        worker = threading.Thread(target=values, args=(consumer, 350))
        worker.start()
        worker.join()
        raise ZeroDivisionError
    with consumer_of(topic, consumer_group=group) as consumer:
        assert (first.partition_id, first.offset) in {(m.partition_id, m.offset) for m in messages_of(consumer)}


def test_stop_commits_what_was_returned(lone_topic, group):
    fill(lone_topic, 5)
    with consumer_of(lone_topic, consumer_group=group, auto_commit_enable=True) as consumer:
        values(consumer, 3)
    with consumer_of(lone_topic, consumer_group=group) as consumer:
        assert values(consumer) == [3, 4]


@pytest.mark.parametrize(
    ("offset", "first"),
    [(1, 2), (OffsetType.EARLIEST, 0), (EPOCH + timedelta(milliseconds=1_003), 3), (-1, None)],
)
def test_a_reset_counts_the_last_consumed_message(lone_topic, offset, first):
    fill(lone_topic, 5)
    with consumer_of(lone_topic) as consumer:
        values(consumer)
        consumer.reset_offsets([(lone_topic.partitions[0], offset)])
        if first is None:
            assert consumer.consume_batch(1, timeout=0.2) == []
        else:
            assert int(consumer.consume().value) == first


def test_a_reset_without_offsets_goes_where_the_reset_says(lone_topic):
    fill(lone_topic, 3)
    with consumer_of(lone_topic) as consumer:
        values(consumer)
        consumer.reset_offsets()
        assert values(consumer) == [0, 1, 2]


def test_a_reset_takes_effect_on_the_very_next_message(lone_topic):
    fill(lone_topic, 100)
    with consumer_of(lone_topic) as consumer:
        values(consumer, 3)
        consumer.reset_offsets([(lone_topic.partitions[0], 49)])
        assert values(consumer, 1) == [50]


@pytest.mark.parametrize("offset", ["1", None, -3, 1 << 63, 1.5])
def test_a_reset_to_something_else_is_refused(lone_topic, offset):
    with consumer_of(lone_topic) as consumer, pytest.raises(ValueError):
        consumer.reset_offsets([(lone_topic.partitions[0], offset)])


@pytest.mark.parametrize("offset", ["1", None, -1, -3, 1 << 63, 1.5])
def test_a_commit_of_something_else_is_refused(lone_topic, group, offset):
    with consumer_of(lone_topic, consumer_group=group) as consumer:
        with pytest.raises(ValueError, match="offset"):
            consumer.commit_offsets([(lone_topic.partitions[0], offset)])
        assert [answer.offset for _, answer in consumer.fetch_offsets()] == [-1]


def test_the_last_n_messages_are_found_as_the_old_manual_shows(lone_topic):
    fill(lone_topic, 20)
    with consumer_of(lone_topic, auto_offset_reset=OffsetType.LATEST, reset_offset_on_start=True) as consumer:
        offsets = [(p, op.last_offset_consumed - 5) for p, op in consumer._partitions.items()]
        offsets = [(p, o if o > -1 else -2) for p, o in offsets]
        consumer.reset_offsets(offsets)
        assert values(consumer) == list(range(15, 20))


def test_foreign_partitions_are_refused(topic, lone_topic, group):
    foreign = lone_topic.partitions[0]
    with pytest.raises(KafkaException):
        topic.get_simple_consumer(partitions=[foreign])
    with consumer_of(topic, consumer_group=group) as consumer:
        with pytest.raises(KafkaException):
            consumer.commit_offsets([(foreign, 1)])
        with pytest.raises(KafkaException):
            consumer.reset_offsets([(foreign, 1)])


def test_offsets_of_a_group_need_a_group(lone_topic):
    with consumer_of(lone_topic) as consumer:
        with pytest.raises(KafkaException, match="consumer_group"):
            consumer.commit_offsets()
        with pytest.raises(KafkaException, match="consumer_group"):
            consumer.fetch_offsets()


def test_a_group_s_name_is_ascii(lone_topic):
    with pytest.raises(UnicodeException):
        lone_topic.get_simple_consumer(consumer_group="gr\u00fcn")


def test_a_deserializer_that_raises_says_so_and_the_next_message_comes(lone_topic):
    fill(lone_topic, 2)

    def fussy(value, key):
        if value == b"0":
            raise LookupError("no schema")
        return value, key

    with consumer_of(lone_topic, deserializer=fussy) as consumer:
        with pytest.raises(LookupError, match="no schema"):
            consumer.consume()
        assert consumer.consume().value == b"1"
        assert consumer.consume(block=False) is None


def test_small_and_large_values_outlive_the_consumer(lone_topic):
    with lone_topic.get_producer() as producer:
        for size in (0, 10, 1_023, 1_024, 100_000):
            producer.produce(b"x" * size)
    with consumer_of(lone_topic) as consumer:
        messages = messages_of(consumer)
    assert [len(message.value) for message in messages] == [0, 10, 1_023, 1_024, 100_000]
    assert messages[4].value is messages[4].value


def test_offsets_of_a_topic_are_found_by_end_and_by_time(lone_topic):
    fill(lone_topic, 5)
    assert lone_topic.earliest_available_offsets() == {0: ([0], 0)}
    assert lone_topic.latest_available_offsets() == {0: ([5], 0)}
    assert lone_topic.fetch_offset_limits(datetime(1970, 1, 1, 0, 0, 1, 2_000)) == {0: ([2], 0)}
    assert lone_topic.fetch_offset_limits(datetime(2100, 1, 1)) == {0: ([], 0)}
    assert lone_topic.partitions[0].latest_available_offset() == 5
    assert lone_topic.partitions[0].earliest_available_offset() == 0


def test_a_broker_that_stays_away_is_named_by_every_call(own_broker):
    from pykafka import KafkaClient

    client = KafkaClient(own_broker.bootstrap_servers, socket_timeout_ms=500)
    topic = client.topics["away"]
    own_broker.stop()
    # The wait before the next dial grows beyond the limit of a call.
    for _ in range(4):
        for call in (topic.latest_available_offsets, client.update_cluster):
            with pytest.raises(KafkaException, match="refused"):
                call()


def test_offsets_that_cannot_be_had_are_one_exception(own_broker):
    from pykafka import KafkaClient

    topic = KafkaClient(own_broker.bootstrap_servers, socket_timeout_ms=500).topics["gone"]
    own_broker.stop()
    with pytest.raises(OffsetRequestFailedError):
        topic.get_simple_consumer()


def test_partition_cycle_goes_round_the_owned_partitions(topic):
    with consumer_of(topic, partitions=[topic.partitions[0], topic.partitions[2]]) as consumer:
        owned = itertools.islice(consumer.partition_cycle, 4)
        assert [(partition.partition.id, partition.last_offset_consumed) for partition in owned] == [
            (0, -1),
            (2, -1),
            (0, -1),
            (2, -1),
        ]
