"""Consumers that share a topic through real Kafka: with other clients, killed members and static ones."""

import itertools
import json
import queue
import subprocess
import sys
import threading

import confluent_kafka
import pykafka
import pytest
from pykafka.exceptions import KafkaException

_numbers = itertools.count()

#: The session of a member that is to vanish, and of one that must stay however busy the machine is.
SHORT_SESSION_MS, LONG_SESSION_MS = 6_000, 60_000

MEMBER = """
import json, sys, pykafka
hosts, topic, group, settings = sys.argv[1:]
consumer = pykafka.KafkaClient(hosts).topics[topic].get_balanced_consumer(
    group, managed=True, consumer_timeout_ms=1000, heartbeat_interval_ms=500, **json.loads(settings)
)
print(sorted(consumer.partitions), flush=True)
for command in sys.stdin:
    try:
        print(eval(command), flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""


@pytest.fixture
def topic(kafka):
    """A new topic of four partitions with 100 messages in each."""
    name = f"managed-{next(_numbers)}"
    kafka.create_topic(name, partitions=4, replication_factor=3)
    topic = pykafka.KafkaClient(kafka.bootstrap).topics[name]
    with topic.get_producer(partitioner=lambda partitions, key: partitions[int(key) % 4]) as producer:
        for number in range(400):
            producer.produce(b"%d" % number, partition_key=b"%d" % number)
    return topic


@pytest.fixture
def start(topic, group, rebalances):
    """Starts members, and stops them at the end."""
    members = []

    def start(**kwargs):
        settings = {
            "session_timeout_ms": LONG_SESSION_MS,
            "heartbeat_interval_ms": 500,
            "consumer_timeout_ms": 2000,
            "post_rebalance_callback": rebalances.note,
        }
        members.append(topic.get_balanced_consumer(group, managed=True, **settings | kwargs))
        return members[-1]

    yield start
    for member in members:
        member.stop()


@pytest.fixture
def start_process(kafka, topic, group):
    """Starts a member in a separate process, which evaluates each line of its stdin and prints the result."""
    processes = []

    def start_process(**settings):
        command = [sys.executable, "-c", MEMBER, kafka.bootstrap, topic.name.decode(), group, json.dumps(settings)]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield start_process
    for process in processes:
        process.kill()
        process.communicate()


def ask(process, expression):
    process.stdin.write(expression + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def values(messages):
    return {int(message.value) for message in messages}


class OtherClient(threading.Thread):
    """A member that uses confluent-kafka, which shares no code with us."""

    def __init__(self, kafka, topic, group, **settings):
        super().__init__()
        settings |= {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
        self._consumer = confluent_kafka.Consumer(settings)
        self._consumer.subscribe([topic.name.decode()], on_assign=self._assigned)
        self._is_ending = threading.Event()
        self.assigned = queue.Queue()
        self.values = set()
        self.start()

    def _assigned(self, consumer, partitions):
        self.assigned.put({partition.partition for partition in partitions})

    def run(self):
        while not self._is_ending.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                self.values.add(int(message.value()))
        self._consumer.close()

    def end(self):
        self._is_ending.set()
        self.join()


def test_the_partitions_of_a_member_that_is_killed_come_back_when_its_session_ends(
    start, rebalances, start_process, take
):
    process = start_process(session_timeout_ms=SHORT_SESSION_MS)
    assert process.stdout.readline() == "[0, 1, 2, 3]\n"
    survivor = start()
    rebalances.until(survivor, 2)
    assert len(values(take(survivor, 200))) == 200
    assert survivor.consume() is None
    process.kill()
    rebalances.until(survivor, 4)
    assert len(values(take(survivor, 200))) == 200
    assert survivor.consume() is None


@pytest.mark.parametrize("assignor", ["range", "roundrobin"])
def test_a_group_is_shared_with_confluent_kafka_under_the_same_protocol_name(
    start, rebalances, kafka, topic, group, assignor, take
):
    protocol = {"range": pykafka.RangeProtocol, "roundrobin": pykafka.RoundRobinProtocol}[assignor]
    ours = start(membership_protocol=protocol, auto_commit_enable=True)
    rebalances.until(ours, 4)
    other = OtherClient(
        kafka, topic, group, **{"partition.assignment.strategy": assignor, "heartbeat.interval.ms": 500}
    )
    try:
        rebalances.until(ours, 2)
        theirs = other.assigned.get(timeout=60)
        assert theirs | ours.partitions.keys() == {0, 1, 2, 3}
        together = {"range": ({0, 1}, {2, 3}), "roundrobin": ({0, 2}, {1, 3})}[assignor]
        assert theirs in together
        mine = values(take(ours, 200))
        assert {number % 4 for number in mine} == ours.partitions.keys()
        assert len(mine) == 200
        assert ours.consume() is None
    finally:
        other.end()
    rebalances.until(ours, 4)
    assert mine | values(take(ours, 200)) == set(range(400))
    assert {number % 4 for number in other.values} <= theirs


def test_a_static_member_that_comes_back_has_its_partitions_and_nobody_else_notices(
    start, rebalances, start_process, take
):
    settings = {"group_instance_id": "one", "session_timeout_ms": LONG_SESSION_MS}
    process = start_process(**settings)
    process.stdout.readline()
    other = start(group_instance_id="other")
    rebalances.until(other, 2)
    while len(before := eval(ask(process, "sorted(consumer.partitions)"))) != 2:
        ask(process, "consumer.consume(block=False)")
    process.kill()
    process.wait()
    again = start_process(**settings)
    assert eval(again.stdout.readline()) == before
    assert len(values(take(other, 200))) == 200
    assert other.consume() is None
    assert rebalances.empty()


def test_a_group_whose_partitions_the_brokers_assign_is_shared_with_confluent_kafka(
    rebalances, kafka, topic, group, take
):
    settings = {"managed": True, "group_protocol": "consumer", "auto_commit_enable": True, "consumer_timeout_ms": 2000}
    with topic.get_balanced_consumer(group, post_rebalance_callback=rebalances.note, **settings) as ours:
        rebalances.until(ours, 4)
        other = OtherClient(kafka, topic, group, **{"group.protocol": "consumer"})
        try:
            rebalances.until(ours, 2)
            theirs = set()
            while len(theirs) < 2:
                theirs |= other.assigned.get(timeout=60)
            assert theirs | ours.partitions.keys() == {0, 1, 2, 3}
            mine = values(take(ours, 200))
            assert {number % 4 for number in mine} == ours.partitions.keys()
            assert len(mine) == 200
            assert ours.consume() is None
        finally:
            other.end()
        rebalances.until(ours, 4)
        assert mine | values(take(ours, 200)) == set(range(400))
        assert {number % 4 for number in other.values} <= theirs


def test_brokers_that_cannot_assign_are_named_and_with_auto_a_member_assigns(zookeeper_kafka, group):
    name = f"managed-{next(_numbers)}"
    zookeeper_kafka.create_topic(name, partitions=2)
    topic = pykafka.KafkaClient(zookeeper_kafka.bootstrap).topics[name]
    with pytest.raises(KafkaException, match=r"only the classic protocol: set group_protocol to auto or classic"):
        topic.get_balanced_consumer(group, managed=True, group_protocol="consumer")
    with topic.get_balanced_consumer(group, managed=True, group_protocol="auto") as consumer:
        assert len(consumer.partitions) == 2
