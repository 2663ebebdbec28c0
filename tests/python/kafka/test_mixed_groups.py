"""One group with members of ours, librdkafka's and Java's: they agree on the assignment, whoever joins and leaves.

librdkafka has no sticky assignor, and no member of its own can offer eager and cooperative assignors together; so it
takes no part in those groups.
"""

import itertools
import signal
import subprocess
import threading
import time

import confluent_kafka
import pykafka
import pytest

PARTITIONS = 9
#: How many messages each partition gets whenever the group is stable.
ROUND = 50
KINDS = ("kavka", "pykafka", "confluent", "java")
#: Java's names of the assignors; all others use the names of the protocol.
JAVA_NAMES = {
    "range": "org.apache.kafka.clients.consumer.RangeAssignor",
    "roundrobin": "org.apache.kafka.clients.consumer.RoundRobinAssignor",
    "sticky": "org.apache.kafka.clients.consumer.StickyAssignor",
    "cooperative-sticky": "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
}
#: So that members soon notice that the group rebalances, in milliseconds.
HEARTBEAT_MS = 500
#: How long anything may take, in seconds; more than ten times of what it takes on a machine with two processors.
LIMIT = 180


class Printer:
    """A member in a separate process, which prints the partition and offset of each message."""

    def __init__(self, command, place, read):
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=lambda: read.extend(map(place, self._process.stdout)))
        self._thread.start()

    def leave(self):
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(LIMIT)
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

    def __init__(self, cluster, kavka, name, assignors):
        self.topic = self.name = f"mixed-{name}"
        self._cluster, self._program = cluster, kavka
        #: Those that members offer which join from now on.
        self.assignors = assignors
        self._client = pykafka.KafkaClient(cluster.bootstrap)
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
        command += ["-X", f"partition.assignment.strategy={','.join(self.assignors)}", "-X", "client.id=kavka"]
        command += ["-X", f"heartbeat.interval.ms={HEARTBEAT_MS}"]
        return Printer([*command, "--format", "%p %o"], lambda line: tuple(map(int, line.split())), read)

    def _java(self, read):
        command = [*self._cluster.tool_command("console-consumer"), "--topic", self.topic, "--group", self.name]
        for option in (
            "client.id=java",
            f"heartbeat.interval.ms={HEARTBEAT_MS}",
            "auto.offset.reset=earliest",
            "partition.assignment.strategy=" + ",".join(JAVA_NAMES[name] for name in self.assignors),
        ):
            command += ["--command-property", option]
        command += ["--formatter-property", "print.partition=true", "--formatter-property", "print.offset=true"]

        def place(line):
            partition, offset, _ = line.split("\t")
            return int(partition.removeprefix("Partition:")), int(offset.removeprefix("Offset:"))

        return Printer(command, place, read)

    def _confluent(self, read):
        settings = {"partition.assignment.strategy": ",".join(self.assignors), "auto.offset.reset": "earliest"}
        settings |= {"bootstrap.servers": self._cluster.bootstrap, "group.id": self.name, "client.id": "confluent"}
        consumer = confluent_kafka.Consumer(settings | {"heartbeat.interval.ms": HEARTBEAT_MS})
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
                heartbeat_interval_ms=HEARTBEAT_MS,
                membership_protocol=",".join(self.assignors),
                auto_commit_enable=True,
                consumer_timeout_ms=100,
            )
        )

        def poll():
            message = consumer.consume()
            return None if message is None else (message.partition_id, message.offset)

        return Poller(poll, consumer.stop, read)

    def _described(self):
        # librdkafka's admin client aborts the process if it asks while the group's coordinator is not ready.
        coordinator = self._client.cluster.get_group_coordinator(self.name)
        return coordinator.describe_groups([self.name]).groups[self.name.encode()]

    def _owners(self):
        """{partition: kind}, as the coordinator reports it; None unless the group is stable with just our members.

        A cooperative group is stable for a moment when members have given partitions up that nobody has yet.
        """
        group = self._described()
        if group.state != b"Stable" or len(group.members) != len(self.members):
            return None
        given = [
            (partition, next((kind for kind in KINDS if kind in member.client_id.decode()), None))
            for member in group.members.values()
            for _, partitions in member.member_assignment.partition_assignment
            for partition in partitions
        ]
        assert len(dict(given)) == len(given), f"a partition has two members: {given}"
        return dict(given) if len(given) == PARTITIONS else None

    def settle(self):
        """Waits until each member has a share."""
        deadline = time.monotonic() + LIMIT
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
        assert producer.flush(LIMIT) == 0
        self.written += ROUND

    def await_round(self):
        """Waits until the last round is read; returns which kinds of member have read from each partition."""
        begin, deadline = self.written - ROUND, time.monotonic() + LIMIT
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

    def protocol(self):
        """The assignor that the group uses."""
        return self._described().protocol.decode()

    def finish(self):
        """All members leave; together they have read everything."""
        for kind in list(self.members):
            self.leave(kind)
        places = {place for read in self.read.values() for place in read}
        assert places == set(itertools.product(range(PARTITIONS), range(self.written)))


@pytest.fixture
def make_group(kafka, kavka):
    """Makes groups without members, and ends what is left of them."""
    groups = []

    def make_group(name, assignors):
        groups.append(Group(kafka, kavka, name, assignors))
        return groups[-1]

    yield make_group
    for group in groups:
        for kind in list(group.members):
            group.leave(kind)


@pytest.mark.parametrize("assignor", list(JAVA_NAMES))
def test_members_of_all_clients_share_a_group_and_take_over_from_each_other(assignor, make_group):
    group = make_group(assignor, [assignor])
    kinds = [kind for kind in KINDS if (kind, assignor) != ("confluent", "sticky")]
    for kind in kinds:
        group.join(kind)
        group.check()
    for kind in kinds:
        group.leave(kind)
        group.check()
        group.join(kind)
        group.check()
    assert group.protocol() == assignor
    group.finish()


def test_a_rolling_bounce_changes_a_group_of_ours_and_java_from_eager_to_cooperative(make_group):
    group = make_group("bounce", ["range"])
    kinds = ("kavka", "pykafka", "java")
    for kind in kinds:
        group.join(kind)
    group.check()
    assert group.protocol() == "range"
    for assignors in (["cooperative-sticky", "range"], ["cooperative-sticky"]):
        group.assignors = assignors
        for kind in kinds:
            group.leave(kind)
            group.join(kind)
            group.check()
    assert group.protocol() == "cooperative-sticky"
    group.finish()
