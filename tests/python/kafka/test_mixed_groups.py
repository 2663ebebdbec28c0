"""One group with members of ours, librdkafka's and Java's: they agree on the assignment, whoever joins and leaves."""

import itertools
import signal
import subprocess
import threading
import time

import confluent_kafka
import pykafka
import pytest
from confluent_kafka.admin import AdminClient
from pykafka.membershipprotocol import RangeProtocol, RoundRobinProtocol

PARTITIONS = 9
#: How many messages each partition gets whenever the group is stable.
ROUND = 50
KINDS = ("kavka", "pykafka", "confluent", "java")
#: The name of the same assignor in our API and Java's; the other two use its protocol name.
ASSIGNORS = {
    "range": (RangeProtocol, "org.apache.kafka.clients.consumer.RangeAssignor"),
    "roundrobin": (RoundRobinProtocol, "org.apache.kafka.clients.consumer.RoundRobinAssignor"),
}


class Printer:
    """A member in a separate process, which prints the partition and offset of each message."""

    def __init__(self, command, place, read):
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=lambda: read.extend(map(place, self._process.stdout)))
        self._thread.start()

    def leave(self):
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        self._thread.join()
        self._process.stdout.close()


class Poller:
    """A member in a thread of this process: `poll` returns the partition and offset of a message, or None."""

    def __init__(self, poll, leave, read):
        self._leave, self._is_leaving = leave, threading.Event()
        self._thread = threading.Thread(target=self._run, args=(poll, read))
        self._thread.start()

    def _run(self, poll, read):
        while not self._is_leaving.is_set():
            place = poll()
            if place is not None:
                read.append(place)

    def leave(self):
        self._is_leaving.set()
        self._thread.join()
        self._leave()


class Group:
    """The group under test. `read` holds what each kind of member has read, as (partition, offset)."""

    def __init__(self, cluster, kavka, assignor):
        self.topic = self.name = f"mixed-{assignor}"
        self._cluster, self._program, self._assignor = cluster, kavka, assignor
        self._ours, self._java_name = ASSIGNORS[assignor]
        self._admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        self.members = {}
        self.read = {kind: [] for kind in KINDS}
        self.written = 0
        cluster.create_topic(self.topic, PARTITIONS, 3)

    def join(self, kind):
        self.members[kind] = getattr(self, f"_{kind}")(self.read[kind])

    def leave(self, kind):
        self.members.pop(kind).leave()

    def _kavka(self, read):
        command = [self._program, "consume", self.topic, "-b", self._cluster.bootstrap, "-G", self.name]
        command += ["-X", f"partition.assignment.strategy={self._assignor}", "-X", "client.id=kavka"]
        return Printer([*command, "--format", "%p %o"], lambda line: tuple(map(int, line.split())), read)

    def _java(self, read):
        command = [*self._cluster.tool_command("console-consumer"), "--topic", self.topic, "--group", self.name]
        for option in (
            "client.id=java",
            "auto.offset.reset=earliest",
            "partition.assignment.strategy=" + self._java_name,
        ):
            command += ["--command-property", option]
        command += ["--formatter-property", "print.partition=true", "--formatter-property", "print.offset=true"]

        def place(line):
            partition, offset, _ = line.split("\t")
            return int(partition.removeprefix("Partition:")), int(offset.removeprefix("Offset:"))

        return Printer(command, place, read)

    def _confluent(self, read):
        settings = {"partition.assignment.strategy": self._assignor, "auto.offset.reset": "earliest"}
        settings |= {"bootstrap.servers": self._cluster.bootstrap, "group.id": self.name, "client.id": "confluent"}
        consumer = confluent_kafka.Consumer(settings)
        consumer.subscribe([self.topic])

        def poll():
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                return message.partition(), message.offset()
            return None

        return Poller(poll, consumer.close, read)

    def _pykafka(self, read):
        consumer = (
            pykafka.KafkaClient(self._cluster.bootstrap)
            .topics[self.topic]
            .get_balanced_consumer(
                self.name,
                managed=True,
                membership_protocol=self._ours,
                auto_commit_enable=True,
                consumer_timeout_ms=100,
            )
        )

        def poll():
            message = consumer.consume()
            return None if message is None else (message.partition_id, message.offset)

        return Poller(poll, consumer.stop, read)

    def _owners(self):
        """{partition: kind}, as the coordinator reports it; None unless the group is stable with just our members."""
        try:
            group = self._admin.describe_consumer_groups([self.name], request_timeout=5)[self.name].result()
        except confluent_kafka.KafkaException:
            # The group is new, and its coordinator is not ready yet.
            return None
        if group.state != confluent_kafka.ConsumerGroupState.STABLE or len(group.members) != len(self.members):
            return None
        kind = {member: next((kind for kind in KINDS if kind in member.client_id), None) for member in group.members}
        given = [
            (place.partition, kind[member]) for member in group.members for place in member.assignment.topic_partitions
        ]
        assert sorted(partition for partition, _ in given) == list(range(PARTITIONS)), "each partition has one member"
        return dict(given)

    def settle(self):
        """Waits until each member has a share."""
        deadline = time.monotonic() + 60
        while (owners := self._owners()) is None:
            assert time.monotonic() < deadline, f"{self.name} does not settle on {list(self.members)}"
            time.sleep(0.2)
        assert set(owners.values()) == set(self.members)
        return owners

    def write(self):
        """Writes a round of messages to each partition."""
        producer = confluent_kafka.Producer({"bootstrap.servers": self._cluster.bootstrap})
        for partition, number in itertools.product(range(PARTITIONS), range(ROUND)):
            producer.produce(self.topic, b"%d" % number, partition=partition)
        assert producer.flush(60) == 0
        self.written += ROUND

    def await_round(self):
        """Waits until the last round is read; returns which kinds of member have read from each partition."""
        begin, deadline = self.written - ROUND, time.monotonic() + 60
        while True:
            seen = {(place, kind) for kind in KINDS for place in list(self.read[kind]) if place[1] >= begin}
            if len({place for place, _ in seen}) == PARTITIONS * ROUND:
                return {
                    partition: {kind for place, kind in seen if place[0] == partition}
                    for partition in range(PARTITIONS)
                }
            assert time.monotonic() < deadline, f"{len(seen)} of {PARTITIONS * ROUND} messages were read"
            time.sleep(0.1)

    def check(self):
        """The group becomes stable, and each member reads its own partitions."""
        owners = self.settle()
        self.write()
        assert self.await_round() == {partition: {kind} for partition, kind in owners.items()}
        assert self.settle() == owners


@pytest.mark.parametrize("assignor", list(ASSIGNORS))
def test_members_of_all_clients_share_a_group_and_take_over_from_each_other(assignor, kafka, kavka):
    group = Group(kafka, kavka, assignor)
    try:
        for kind in KINDS:
            group.join(kind)
            group.check()
        for kind in KINDS:
            group.leave(kind)
            group.check()
            group.join(kind)
            group.check()
    finally:
        for kind in list(group.members):
            group.leave(kind)
    places = {place for read in group.read.values() for place in read}
    assert places == set(itertools.product(range(PARTITIONS), range(group.written)))
