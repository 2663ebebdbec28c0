"""Consumers that share a topic's partitions through a real ZooKeeper, also with members like those of pykafka 2.8."""

import contextlib
import itertools
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

import kazoo.client
import pykafka
import pytest
from pykafka.exceptions import (
    ConsumerStoppedException,
    KafkaException,
    PartitionOwnedError,
    UnknownTopicOrPartition,
    ZooKeeperError,
)

_numbers = itertools.count()

#: The session of a member that is to vanish, and of one that must stay however busy the machine is: the longest that
#: ZooKeeper allows.
SHORT_SESSION_MS, LONG_SESSION_MS = 4_000, 20_000

MEMBER = """
import sys, pykafka
hosts, zookeeper, topic, group = sys.argv[1:]
consumer = pykafka.KafkaClient(hosts).topics[topic].get_balanced_consumer(
    group, zookeeper_hosts=zookeeper, zookeeper_connection_timeout_ms=4_000, consumer_timeout_ms=1000
)
print(sorted(consumer.partitions), flush=True)
for command in sys.stdin:
    try:
        print(eval(command), flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""


@pytest.fixture
def topic(zookeeper_kafka):
    """A new topic of four partitions with 400 messages in it."""
    name = f"balanced-{next(_numbers)}"
    zookeeper_kafka.create_topic(name, partitions=4)
    topic = pykafka.KafkaClient(zookeeper_kafka.bootstrap).topics[name]
    produce(topic, range(400))
    return topic


def produce(topic, numbers):
    with topic.get_producer(partitioner=lambda partitions, key: partitions[int(key) % 4]) as producer:
        for number in numbers:
            producer.produce(b"%d" % number, partition_key=b"%d" % number)


@pytest.fixture
def start(zookeeper_kafka, topic, group, rebalances):
    """Starts members, and stops them at the end."""
    members = []

    def start(**kwargs):
        settings = {
            "zookeeper_hosts": zookeeper_kafka.zookeeper,
            "zookeeper_connection_timeout_ms": LONG_SESSION_MS,
            "consumer_timeout_ms": 1000,
            "post_rebalance_callback": rebalances.note,
        }
        members.append(topic.get_balanced_consumer(group, **settings | kwargs))
        return members[-1]

    yield start
    for member in members:
        member.stop()


@pytest.fixture
def zookeeper(zookeeper_kafka):
    """A ZooKeeper client that is not a member."""
    client = kazoo.client.KazooClient(zookeeper_kafka.zookeeper)
    client.start()
    yield client
    client.stop()
    client.close()


@pytest.fixture
def member_process(zookeeper_kafka, topic, group):
    """A member in a separate process, which evaluates each line of its stdin and prints the result."""
    command = [sys.executable, "-c", MEMBER, zookeeper_kafka.bootstrap, zookeeper_kafka.zookeeper]
    command += [topic.name.decode(), group]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


class Relay:
    """A proxy between a member and ZooKeeper that can stop forwarding."""

    def __init__(self, address):
        self._to = address.rsplit(":", 1)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._speaks = threading.Event()
        self._speaks.set()
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(self._to)
                self._sockets += [ours, theirs]
                for way in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._forward, args=way, daemon=True).start()

    def _forward(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._speaks.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)

    def silence(self):
        self._speaks.clear()

    def heal(self):
        self._speaks.set()

    def close(self):
        self.heal()
        for each in self._sockets:
            each.close()


@pytest.fixture
def relay(zookeeper_kafka):
    relay = Relay(zookeeper_kafka.zookeeper)
    yield relay
    relay.close()


def ask(process, expression):
    process.stdin.write(expression + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def values(messages):
    return {int(message.value) for message in messages}


class OldMember:
    """A member like that of pykafka 2.8 on Python 3: its nodes in ZooKeeper, without a consumer."""

    def __init__(self, client, topic, group):
        self.name = f"an-old-host:{uuid.uuid4()}"
        self.client = client
        self.ids = f"/consumers/{group}/ids"
        self.owners = f"/consumers/{group}/owners/{topic.name!r}"
        client.ensure_path(self.owners)
        client.create(f"{self.ids}/{self.name}", topic.name, ephemeral=True, makepath=True)

    def claim(self, partition):
        self.client.create(f"{self.owners}/1-{partition}", self.name.encode(), ephemeral=True)

    def release(self, partition):
        self.client.delete(f"{self.owners}/1-{partition}")

    def leave(self):
        self.client.delete(f"{self.ids}/{self.name}")


def test_two_members_have_half_of_a_topic_each_and_one_has_all_when_the_other_stops(start, rebalances, topic, take):
    first = start(auto_commit_enable=True)
    assert rebalances.until(first, 4) == ({}, dict.fromkeys(range(4), -2))
    read = [int(message.value) for message in take(first, 350)]
    second = start(auto_commit_enable=True)
    rebalances.until(first, 2)
    assert sorted([*first.partitions, *second.partitions]) == [0, 1, 2, 3]
    while set(read) != set(range(400)):
        read += [int(message.value) for consumer in (first, second) for message in consumer]
    # Finished messages are committed before a partition is given up, except for the one being processed just then.
    assert len(read) <= 401
    second.stop()
    rebalances.until(first, 4)
    produce(topic, range(400, 800))
    # Everything that was read is committed, so nothing comes twice.
    assert sorted(int(message.value) for message in take(first, 400)) == list(range(400, 800))
    assert first.consume() is None


def test_the_partitions_of_a_member_that_is_killed_come_back_when_its_session_ends(
    start, rebalances, member_process, take
):
    assert member_process.stdout.readline() == "[0, 1, 2, 3]\n"
    survivor = start()
    assert sorted(rebalances.until(survivor, 2)[1]) in ([0, 1], [2, 3])
    assert len(values(take(survivor, 200))) == 200
    assert survivor.consume() is None
    member_process.kill()
    rebalances.until(survivor, 4)
    assert len(values(take(survivor, 200))) == 200
    assert survivor.consume() is None


def test_a_member_that_was_frozen_beyond_its_session_commits_nothing_and_reads_only_what_it_is_given_anew(
    start, rebalances, member_process, topic, group, take
):
    member_process.stdout.readline()
    ask(member_process, "[consumer.consume().offset for _ in range(10)]")
    other = start(auto_commit_enable=True)
    rebalances.until(other, 2)
    # From here on the frozen one has only what the other has not taken.
    assert len(eval(ask(member_process, "sorted(consumer.partitions)"))) == 2
    member_process.send_signal(signal.SIGSTOP)
    rebalances.until(other, 4)
    assert len(values(take(other, 400))) == 400
    other.commit_offsets()
    member_process.send_signal(signal.SIGCONT)
    # Either it has joined again before it can find out, or the commit is refused.
    answer = ask(member_process, "consumer.commit_offsets()")
    assert answer == "None" or "nothing was committed: this member of group" in answer
    rebalances.until(other, 2)
    assert ask(member_process, "consumer.consume()") == "None"
    committed = topic.get_simple_consumer(group, auto_start=False, reset_offset_on_fetch=False).fetch_offsets()
    assert [answer.offset for _, answer in committed] == [100] * 4


def test_nothing_is_handed_out_or_committed_while_zookeeper_is_silent_for_longer_than_a_session(
    start, rebalances, relay
):
    consumer = start(zookeeper_hosts=relay.address, zookeeper_connection_timeout_ms=SHORT_SESSION_MS)
    rebalances.until(consumer, 4)
    assert consumer.consume() is not None
    relay.silence()
    silent, read = time.monotonic(), 0
    with pytest.raises(KafkaException, match="cut off from ZooKeeper"):
        while True:
            called = time.monotonic()
            if consumer.consume(block=False) is not None:
                assert called - silent < SHORT_SESSION_MS / 1000 + 0.2
                read += 1
            # Slowly, so that something is left when the session may have ended.
            time.sleep(0.05)
            consumer.commit_offsets()
    with pytest.raises(KafkaException, match="cut off from ZooKeeper"):
        consumer.reset_offsets()
    assert read < 399
    relay.heal()
    rest = set()
    while len(rest) < 399 - read:
        rest |= values(consumer)


def test_a_member_whose_session_is_ended_hands_out_nothing_until_it_has_joined_again(
    zookeeper_kafka, start, rebalances, zookeeper, topic, group, take
):
    consumer = start(auto_commit_enable=True)
    rebalances.until(consumer, 4)
    read = values(take(consumer, 100))
    # An old member holds what it has taken from us until the test gives it back.
    old = OldMember(zookeeper, topic, group)
    rebalances.until(consumer, 2)
    for partition in set(range(4)) - set(consumer.partitions):
        old.claim(partition)
    session = consumer._member._nodes.client.client_id
    thief = kazoo.client.KazooClient(zookeeper_kafka.zookeeper, client_id=session)
    thief.start()
    thief.stop()
    thief.close()
    assert rebalances.until(consumer, 2)[0].keys() == consumer.partitions.keys()
    old.leave()
    for partition in set(range(4)) - set(consumer.partitions):
        old.release(partition)
    rebalances.until(consumer, 4)
    while read != set(range(400)):
        read |= values(consumer)


def test_a_member_of_2_8_and_one_of_3_never_own_one_partition(start, rebalances, zookeeper, topic, group):
    old = OldMember(zookeeper, topic, group)
    for partition in range(4):
        old.claim(partition)
    # The old member has all partitions, and gives up half of them slowly.
    is_releasing = threading.Event()

    def release():
        is_releasing.set()
        for partition in range(4):
            old.release(partition)

    released = threading.Timer(1.0, release)
    released.start()
    new = start()
    assert is_releasing.is_set()
    released.join()
    assert len(new.partitions) == 2
    for partition in new.partitions:
        with pytest.raises(kazoo.exceptions.NodeExistsError):
            old.claim(partition)
        plain = f"/consumers/{group}/owners/{topic.name.decode()}/1-{partition}"
        assert zookeeper.get(plain)[0] == new.consumer_id
    old.leave()
    rebalances.until(new, 4)
    new.stop()
    assert zookeeper.get_children(old.owners) == []
    assert zookeeper.get_children(f"/consumers/{group}/owners/{topic.name.decode()}") == []
    assert zookeeper.get_children(old.ids) == []


def test_a_partition_is_claimed_by_its_number_whatever_leader_the_claim_names(start, zookeeper, topic, group):
    old = OldMember(zookeeper, topic, group)
    for partition in range(4):
        zookeeper.create(f"{old.owners}/7-{partition}", old.name.encode(), ephemeral=True)
    with pytest.raises(PartitionOwnedError) as raised:
        start(rebalance_max_retries=2, rebalance_backoff_ms=100)
    assert raised.value.partition.id in range(4)
    # Nothing stays behind.
    assert zookeeper.get_children(old.ids) == [old.name]


def test_a_claim_that_is_not_given_up_is_told_by_consume_and_the_rest_is_read(
    start, rebalances, zookeeper, topic, group
):
    consumer = start(rebalance_max_retries=3, rebalance_backoff_ms=50)
    old = OldMember(zookeeper, topic, group)
    rebalances.until(consumer, 2)
    mine = set(consumer.partitions)
    theirs = set(range(4)) - mine
    for partition in theirs:
        old.claim(partition)
    old.leave()
    with pytest.raises(PartitionOwnedError, match="has not given .* up; it goes on trying"):
        while True:
            consumer.consume()
    assert set(consumer.partitions) == mine
    for partition in theirs:
        old.release(partition)
    rebalances.until(consumer, 4)


def test_a_client_of_zookeeper_that_was_given_is_kept_and_the_nodes_are_removed(start, zookeeper, topic, group, take):
    consumer = start(zookeeper=zookeeper)
    assert len(values(take(consumer, 400))) == 400
    assert zookeeper.get_children(f"/consumers/{group}/ids") == [consumer.consumer_id.decode()]
    consumer.stop()
    assert zookeeper.connected
    assert zookeeper.get_children(f"/consumers/{group}/ids") == []
    assert zookeeper.get_children(f"/consumers/{group}/owners/{topic.name.decode()}") == []
    # Again, with the same objects.
    consumer.start()
    assert consumer.consume() is not None


def test_the_callback_says_where_to_go_on_and_nothing_is_handed_out_before(start, take):
    meanwhile = []

    def go_on_at_89(consumer, old, new):
        meanwhile.append(consumer.consume(block=False))
        return dict.fromkeys(new, 89)

    consumer = start(post_rebalance_callback=go_on_at_89)
    assert {message.offset for message in take(consumer, 40)} == set(range(90, 100))
    assert consumer.consume() is None
    assert meanwhile == [None]


@pytest.mark.parametrize("error", [LookupError, SystemExit])
def test_what_the_callback_raises_comes_out_of_start_and_later_out_of_consume(start, zookeeper, topic, group, error):
    def fail(consumer, old, new):
        raise error(sorted(new))

    with pytest.raises(error, match=r"\[0, 1, 2, 3\]"):
        start(post_rebalance_callback=fail)
    consumer = start(post_rebalance_callback=None)
    consumer._post_rebalance_callback = fail
    OldMember(zookeeper, topic, group)
    with pytest.raises(error):
        while True:
            consumer.consume()
    assert len(consumer.partitions) == 2


def test_a_stopped_member_refuses_to_commit(start):
    consumer = start()
    consumer.consume()
    consumer.stop()
    with pytest.raises(ConsumerStoppedException, match="nothing was committed"):
        consumer.commit_offsets()
    with pytest.raises(ConsumerStoppedException):
        consumer.consume()


def test_a_member_leaves_when_its_consumer_is_dropped(start, rebalances, zookeeper_kafka, topic, group):
    stays = start()
    rebalances.until(stays, 4)
    left = topic.get_balanced_consumer(group, zookeeper_hosts=zookeeper_kafka.zookeeper)
    rebalances.until(stays, 2)
    del left
    rebalances.until(stays, 4)


def test_partitions_that_are_added_to_the_topic_are_shared_out(start, rebalances, zookeeper_kafka, topic):
    consumer = start()
    rebalances.until(consumer, 4)
    zookeeper_kafka.tool("topics", "--alter", "--topic", topic.name.decode(), "--partitions", 6)
    rebalances.until(consumer, 6)


def test_round_robin_and_a_rule_of_the_program_decide(start, rebalances):
    first = start(membership_protocol=pykafka.RoundRobinProtocol)
    second = start(membership_protocol=pykafka.RoundRobinProtocol)
    rebalances.until(first, 2)
    assert sorted(map(sorted, (first.partitions, second.partitions))) == [[0, 2], [1, 3]]
    second.stop()
    first.stop()

    def all_to_the_last(participants, partitions, consumer_id):
        return set(partitions.values()) if consumer_id == sorted(participants)[-1] else set()

    rule = pykafka.membershipprotocol.GroupMembershipProtocol(b"consumer", b"last", None, all_to_the_last)
    one, other = start(membership_protocol=rule), start(membership_protocol=rule)
    last = max(one, other, key=lambda consumer: consumer.consumer_id)
    rebalances.until(last, 4)
    assert [one.partitions, other.partitions][last is one] == {}


def test_members_of_a_client_with_zookeeper_share_through_it(zookeeper_kafka, topic, zookeeper, group, take):
    client = pykafka.KafkaClient(zookeeper_hosts=zookeeper_kafka.zookeeper)
    consumer = client.topics[topic.name].get_balanced_consumer(group, consumer_timeout_ms=1000, auto_start=False)
    consumer.consumer_id = b"worker-7"
    consumer.start()
    assert zookeeper.get_children(f"/consumers/{group}/ids") == ["worker-7"]
    # From here on it appears only in the metadata of commits.
    consumer.consumer_id = b"worker-8"
    produce(topic, range(4))
    assert len(values(take(consumer, 404))) == 400
    consumer.commit_offsets()
    assert b"worker-8" in topic.get_simple_consumer(group, auto_start=False).fetch_offsets()[0][1].metadata
    # In another rebalance the group still knows it by the name with which it joined.
    other = topic.get_balanced_consumer(group, zookeeper_hosts=zookeeper_kafka.zookeeper)
    assert len(other.partitions) == 2
    other.stop()
    consumer.stop()


def test_start_says_that_zookeeper_does_not_answer(topic, group):
    with pytest.raises(ZooKeeperError, match=r"ZooKeeper at 127.0.0.1:1 did not answer .* \(300 ms\)"):
        topic.get_balanced_consumer(group, zookeeper_connect="127.0.0.1:1", zookeeper_connection_timeout_ms=300)


def test_start_says_that_the_chroot_does_not_exist(zookeeper_kafka, topic, group):
    hosts = f"{zookeeper_kafka.zookeeper}/no/such"
    with pytest.warns(UserWarning, match="chroot"), pytest.raises(ZooKeeperError, match="has no node '/no/such'"):
        topic.get_balanced_consumer(group, zookeeper_connect=hosts)


def test_start_says_that_the_topic_is_gone_without_trying_again(start, topic):
    # Longer than the test may take.
    patience = {"rebalance_max_retries": 100, "rebalance_backoff_ms": 60_000}
    topic.partitions[0].leader.delete_topics([topic.name], 60_000)
    with pytest.raises(UnknownTopicOrPartition, match=f"topic '{topic.name.decode()}' does not exist"):
        start(**patience)


def test_a_stop_without_a_topic_logs_that_nothing_was_committed(start, topic, take, caplog):
    consumer = start(auto_commit_enable=True)
    take(consumer, 1)
    topic.partitions[0].leader.delete_topics([topic.name], 60_000)
    consumer.stop()
    assert f"topic '{topic.name.decode()}' does not exist any more, so its offsets were not committed" in caplog.text


def test_a_callback_that_waits_for_a_message_of_its_own_consumer_is_refused(start):
    with pytest.raises(KafkaException, match="post_rebalance_callback has returned"):
        start(post_rebalance_callback=lambda consumer, old, new: consumer.consume(), consumer_timeout_ms=-1)


def test_start_says_what_zookeeper_refuses(zookeeper_kafka, topic):
    # ZooKeeper allows no such name.
    with pytest.raises(ZooKeeperError, match="BadArgumentsError"):
        topic.get_balanced_consumer("a\0b", zookeeper_hosts=zookeeper_kafka.zookeeper, rebalance_max_retries=0)
