"""Where the members of a group start and go on, and what they commit."""

import re
import threading
import time

import pykafka
import pytest
from pykafka.exceptions import ConsumerStoppedException, IllegalGeneration, KafkaException
from pykafka.membershipprotocol import GroupMembershipProtocol
from sharing import BY_BROKERS, COOPERATIVE, produce, values


def test_partitions_that_return_after_a_rebalance_continue_although_nothing_was_committed(start, rebalances, take):
    first = start()
    assert len(values(take(first, 400))) == 400
    second = start()
    rebalances.until(first, 2)
    assert first.consume() is None
    second.stop()
    rebalances.until(first, 4)
    # Only the other member's partitions, in which that member had committed nothing new.
    assert len(values(take(first, 200))) == 200
    assert first.consume() is None


def test_a_look_up_that_fails_in_a_rebalance_makes_no_returning_partition_skip_messages(
    start, rebalances, topic, monkeypatch
):
    latest = {"auto_offset_reset": pykafka.common.OffsetType.LATEST}
    first, second = start(**latest), start(**latest)
    rebalances.until(first, 2)
    stays = set(first.partitions)
    produce(topic, range(4))
    looked_up = threading.Event()

    def fail(timestamps):
        if timestamps:
            had.append((set(timestamps), set(first.partitions)))
            looked_up.set()
            raise LookupError("no broker answers")
        return {}

    had, read = [], set()
    monkeypatch.setattr(first, "_offsets_at", fail)
    second.stop()
    assert looked_up.wait(60)
    with pytest.raises(LookupError):
        while True:
            read.add(place(first.consume()))
    while not stays <= {partition for partition, _ in read}:
        produce(topic, range(4))
        read.add(place(first.consume()))
    assert {(partition, 100) for partition in stays} <= read
    # Until it is known where they start, they must not be committed.
    assert had[0] == ({0, 1, 2, 3} - stays, set())
    assert set(first.partitions) == {0, 1, 2, 3}


def place(message):
    return (-1, -1) if message is None else (message.partition_id, message.offset)


def test_offsets_are_committed_and_a_restart_goes_on_behind_them(start, topic, group, take):
    consumer = start()
    read = values(take(consumer, 150))
    assert consumer.held_offsets.keys() == {0, 1, 2, 3}
    consumer.commit_offsets()
    consumer.commit_offsets([(topic.partitions[3], 90)])
    consumer.stop()
    assert {id_: answer.offset for id_, answer in topic.get_simple_consumer(group).fetch_offsets()}[3] == 90
    consumer.start()
    others = 300 - sum(number % 4 != 3 for number in read)
    again = values(take(consumer, others + 10))
    assert again & read <= {number for number in read if number % 4 == 3}
    assert len([number for number in again if number % 4 == 3]) == 10


def test_reset_offset_on_start_begins_where_it_says_and_commits_that(start, topic, group, take):
    consumer = start(reset_offset_on_start=True, auto_offset_reset=pykafka.common.OffsetType.LATEST)
    assert consumer.held_offsets == dict.fromkeys(range(4), 99)
    assert [answer.offset for _, answer in topic.get_simple_consumer(group).fetch_offsets()] == [100] * 4
    produce(topic, range(4))
    assert values(take(consumer, 4)) == {0, 1, 2, 3}


def test_reset_offsets_moves_and_commits(start, topic, group, take):
    consumer = start()
    consumer.reset_offsets([(partition, 97) for partition in topic.partitions.values()])
    assert {message.offset for message in take(consumer, 8)} == {98, 99}
    assert consumer.consume() is None
    assert [answer.offset for _, answer in topic.get_simple_consumer(group).fetch_offsets()] == [98] * 4
    with pytest.raises(KafkaException, match="not one of this consumer's partitions"):
        start().commit_offsets([(partition, 0) for partition in topic.partitions.values()])


def test_a_stopped_member_refuses_to_commit(start):
    consumer = start()
    consumer.consume()
    consumer.stop()
    with pytest.raises(ConsumerStoppedException, match="nothing was committed"):
        consumer.commit_offsets()
    with pytest.raises(ConsumerStoppedException):
        consumer.consume()


@pytest.mark.parametrize("settings", [{}, COOPERATIVE, BY_BROKERS], ids=["range", "cooperative", "consumer"])
def test_a_partition_that_another_member_had_continues_where_that_member_committed(start, rebalances, take, settings):
    first = start(**settings)
    assert len(values(take(first, 400))) == 400
    second = start(**settings)
    rebalances.until(first, 2)
    # A cooperative member may get its partitions a moment after it has started.
    while len(second.partitions) < 2:
        time.sleep(0.01)
    take(second, 5)
    second.commit_offsets()
    second.stop()
    rebalances.until(first, 4)
    assert len(values(take(first, 195))) == 195
    assert first.consume() is None


@pytest.mark.parametrize("settings", [{}, COOPERATIVE, BY_BROKERS], ids=["range", "cooperative", "consumer"])
def test_after_a_rebalance_a_commit_names_what_was_taken_and_commits_the_rest(
    start, rebalances, take, offsets, topic, settings
):
    first = start(**settings)
    take(first, 400)
    start(**settings)
    rebalances.until(first, 2)
    kept = set(first.partitions)
    taken = re.escape(str(sorted({0, 1, 2, 3} - kept)))
    with pytest.raises(IllegalGeneration, match=rf"not committed were partitions {taken}, because a rebalance took"):
        first.commit_offsets()
    assert offsets() == {number: 100 if number in kept else -1 for number in range(4)}
    # It is told once, unless the program names them again.
    first.commit_offsets()
    with pytest.raises(IllegalGeneration, match=rf"not committed were partitions {taken}, because"):
        first.commit_offsets([(partition, 50) for partition in topic.partitions.values()])
    assert offsets() == {number: 50 if number in kept else -1 for number in range(4)}
    with pytest.raises(IllegalGeneration, match=rf"not moved were partitions {taken}, because"):
        first.reset_offsets([(partition, 60) for partition in topic.partitions.values()])
    assert offsets() == {number: 61 if number in kept else -1 for number in range(4)}
    assert first.held_offsets == dict.fromkeys(kept, 60)


def test_during_a_rebalance_commits_and_resets_say_that_nothing_was_done(start, rebalances, take, offsets):
    asked, go_on = threading.Event(), threading.Event()

    def rule(participants, partitions, consumer_id):
        if len(participants) > 1:
            asked.set()
            go_on.wait(60)
        return set(partitions.values()) if consumer_id == participants[0] else set()

    protocol = GroupMembershipProtocol(b"consumer", b"first", None, rule)
    first = start(membership_protocol=protocol)
    take(first, 400)
    other = threading.Thread(target=start, kwargs={"membership_protocol": protocol})
    other.start()
    try:
        assert asked.wait(60)
        with pytest.raises(IllegalGeneration, match=r"not committed were partitions \[0, 1, 2, 3\]"):
            first.commit_offsets()
        with pytest.raises(IllegalGeneration, match=r"not moved were partitions \[0, 1, 2, 3\]"):
            first.reset_offsets()
    finally:
        go_on.set()
        other.join()
    assert offsets() == dict.fromkeys(range(4), -1)


class Favourite:
    """A rule that gives all partitions to one member: the first one that it sees, or with `newest` the last one."""

    def __init__(self, newest):
        self._seen, self._newest = [], newest

    def protocol(self):
        return GroupMembershipProtocol(b"consumer", b"favourite", None, self._decide)

    def _decide(self, participants, partitions, consumer_id):
        self._seen += [member for member in sorted(participants) if member not in self._seen]
        present = [member for member in self._seen if member in participants]
        return set(partitions.values()) if consumer_id == present[-1 if self._newest else 0] else set()


@pytest.fixture
def work(take):
    """Has another thread take one message and work on it, until the end of the test."""
    done, threads = threading.Event(), []

    def work(consumer):
        taken = []
        is_taken = threading.Event()

        def run():
            taken.extend(take(consumer, 1))
            is_taken.set()
            done.wait(120)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        assert is_taken.wait(60)
        return taken[0]

    yield work
    done.set()
    for thread in threads:
        thread.join()


def test_what_a_thread_works_on_over_a_rebalance_is_not_committed(start, rebalances, take, offsets, work):
    settings = {"membership_protocol": Favourite(newest=False).protocol(), "auto_commit_enable": True}
    first = start(**settings)
    rebalances.until(first, 4)
    message = work(first)
    start(**settings)
    # Its partitions were taken, and came straight back.
    rebalances.until(first, 4)
    take(first, 399)
    first.stop()
    assert offsets() == dict.fromkeys(range(4), 100) | {message.partition_id: message.offset}


def test_what_a_thread_works_on_does_not_hold_back_what_another_member_has_committed(
    start, rebalances, take, topic, offsets, work
):
    settings = {"membership_protocol": Favourite(newest=True).protocol(), "auto_commit_enable": True}
    first = start(**settings)
    rebalances.until(first, 4)
    work(first)
    second = start(**settings)
    rebalances.until(second, 4)
    take(second, 400)
    second.stop()
    rebalances.until(first, 4)
    produce(topic, range(4))
    take(first, 4)
    first.stop()
    assert offsets() == dict.fromkeys(range(4), 101)


@pytest.mark.parametrize("settings", [{}, COOPERATIVE, BY_BROKERS], ids=["range", "cooperative", "consumer"])
def test_with_auto_commit_the_start_is_committed_at_once(start, rebalances, offsets, settings):
    latest = {"auto_offset_reset": pykafka.common.OffsetType.LATEST}
    consumer = start(**settings, **latest, auto_commit_enable=True)
    rebalances.until(consumer, 4)
    assert offsets() == dict.fromkeys(range(4), 100)


def test_reset_offsets_says_what_a_rebalance_has_moved_elsewhere_meanwhile(start, topic, monkeypatch):
    consumer = start()
    seek = consumer._seek

    def seek_before_a_rebalance(positions):
        left_out = seek(positions)
        monkeypatch.undo()
        consumer._on_revoked([0, 1])
        consumer._on_assigned([0], {0: 20})
        return left_out

    monkeypatch.setattr(consumer, "_seek", seek_before_a_rebalance)
    with pytest.raises(IllegalGeneration, match=r"not moved were partitions \[0, 1\], because"):
        consumer.reset_offsets([(partition, 50) for partition in topic.partitions.values()])
    assert consumer.held_offsets.keys() == {0, 2, 3}
