"""Groups whose members join, leave, restart, are killed and frozen, and whose coordinator dies."""

import contextlib
import itertools
import signal
import subprocess
import threading
import time
import uuid
from pathlib import Path

import confluent_kafka
import pykafka
import pytest

ROOT = Path(__file__).resolve().parents[3]
PARTITIONS = 8
#: Shorter than Kafka's defaults: a frozen or killed member must be seen to lose its partitions.
CLASSIC = {"group.protocol": "classic", "session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
#: The settings of each kind of group's members.
KINDS = {
    "range": CLASSIC | {"partition.assignment.strategy": "range"},
    "cooperative": CLASSIC | {"partition.assignment.strategy": "cooperative-sticky"},
    "static": CLASSIC | {"partition.assignment.strategy": "range"},
    "consumer": {"group.protocol": "consumer"},
}
#: The same times for the protocol in which the coordinator decides them.
BROKER_SETTINGS = {
    "group.consumer.min.session.timeout.ms": 6000,
    "group.consumer.session.timeout.ms": 6000,
    "group.consumer.min.heartbeat.interval.ms": 500,
    "group.consumer.heartbeat.interval.ms": 500,
}
#: What happens to a group that begins with three members, by the names of `Group`'s methods.
SHORT = ["freeze", "join", "kill", "lose_coordinator", "restart", "leave"]
LONG = [
    *("kill", "freeze", "join", "lose_coordinator", "leave", "restart"),
    *("join", "join", "freeze", "kill", "lose_coordinator", "restart", "leave"),
]


class Member:
    """A process of `crates/client/examples/member.rs`, which writes down what it reads."""

    def __init__(self, command, path, name):
        self.path, self.name = path, name
        with path.open("wb") as output, path.with_suffix(".errors").open("wb") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=errors)

    def has_read(self):
        return self.path.stat().st_size > 0

    def said(self):
        return self.path.with_suffix(".errors").read_text()

    def leave(self):
        self.process.stdin.close()
        assert self.process.wait(120) == 0, self.said()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()

    def notes(self):
        """`(generation, partition, offsets)`; the generation is "-" where the member could not tell it."""
        for line in self.path.read_text().splitlines():
            generation, partition, first, last = line.split()
            yield generation, int(partition), range(int(first), int(last) + 1)


class Watcher(threading.Thread):
    """Looks at the group's committed offsets again and again."""

    def __init__(self, client, name):
        super().__init__()
        self._consumer = client.topics[name].get_simple_consumer(name, auto_start=False, reset_offset_on_fetch=False)
        self._is_ending = threading.Event()
        self.committed = dict.fromkeys(range(PARTITIONS), 0)
        self.looks = 0
        self.backwards = []

    def run(self):
        while not self._is_ending.wait(0.1):
            # The coordinator may be away.
            with contextlib.suppress(pykafka.exceptions.KafkaException):
                self._look()

    def _look(self):
        # Where nothing is committed the members begin at 0.
        found = {partition: max(answer.offset, 0) for partition, answer in self._consumer.fetch_offsets()}
        self.looks += 1
        for partition, offset in found.items():
            if offset < self.committed[partition]:
                self.backwards.append((partition, self.committed[partition], offset))
        self.committed = found

    def end(self):
        self._is_ending.set()
        self.join()


class Group:
    """The members, and the messages that they have to read."""

    def __init__(self, cluster, program, kind, folder):
        self.name = f"churn-{kind}-{uuid.uuid4()}"
        self._cluster, self._folder, self._is_static = cluster, folder, kind == "static"
        self._command = [program, cluster.bootstrap, self.name, self.name, "auto.commit.interval.ms=500"]
        self._command += [f"{name}={value}" for name, value in KINDS[kind].items()]
        self._numbers = itertools.count()
        self.members, self.gone = [], []
        self.ends = dict.fromkeys(range(PARTITIONS), 0)
        cluster.create_topic(self.name, PARTITIONS, 3)
        self._client = pykafka.KafkaClient(cluster.bootstrap)
        self._producer = confluent_kafka.Producer(
            {"bootstrap.servers": cluster.bootstrap, "enable.idempotence": True, "linger.ms": 20}
        )
        self.watcher = Watcher(self._client, self.name)
        self.watcher.start()

    def _start(self, name):
        command = [*self._command, f"group.instance.id={name}"] if self._is_static else self._command
        member = Member(command, self._folder / f"member-{next(self._numbers)}", name)
        self.members.append(member)
        self._feed(member.has_read, f"{member.path} reads nothing")

    def join(self):
        taken = {member.name for member in self.members}
        self._start(next(name for name in map("member-{}".format, itertools.count()) if name not in taken))

    def _take(self):
        self.gone.append(self.members.pop(0))
        return self.gone[-1]

    def leave(self):
        self._take().leave()

    def kill(self):
        self._take().kill()

    def restart(self):
        """A static member comes back under its name, before its session ends."""
        member = self._take()
        member.kill()
        self._start(member.name)

    def freeze(self):
        """The others take over; then the member goes on as if nothing had been, is told, and comes back."""
        member = self.members[0]
        told = len(member.said())
        member.process.send_signal(signal.SIGSTOP)
        try:
            self.flow()
        finally:
            member.process.send_signal(signal.SIGCONT)
        self._feed(lambda: "Fenced" in member.said()[told:], f"{member.path} was not told that it lost its partitions")

    def lose_coordinator(self):
        coordinator = self._client.cluster.get_group_coordinator(self.name).id
        self._cluster.kill(coordinator)
        self.flow()
        self._cluster.start(coordinator)
        # Whichever broker dies next, the others have all that was committed.
        self._cluster.wait_in_sync()

    def write(self, count):
        """Appends as many messages to each partition."""
        for _, partition in itertools.product(range(count), range(PARTITIONS)):
            while True:
                try:
                    self._producer.produce(self.name, b"message", partition=partition)
                    break
                except BufferError:
                    self._producer.poll(0.1)
        assert self._producer.flush(120) == 0
        for partition in range(PARTITIONS):
            self.ends[partition] += count

    def _feed(self, condition, otherwise):
        """Writes now and then, until the condition holds."""

        def write_and_look():
            self.write(1)
            return condition()

        await_that(write_and_look, otherwise)

    def flow(self):
        """Some messages are written; those and all before are read and committed by the members."""
        self.write(10)
        await_that(lambda: self.watcher.committed == self.ends, lambda: f"{self.watcher.committed} of {self.ends}")
        self.check_alive()

    def check_alive(self):
        assert [member.said() for member in self.members if member.process.poll() is not None] == []

    def owners(self):
        """Who has read from each partition in each generation."""
        found = {}
        for member in self.members + self.gone:
            for generation, partition, _ in member.notes():
                if generation != "-":
                    found.setdefault((int(generation), partition), set()).add(
                        member.name if self._is_static else member.path.name
                    )
        return found

    def read(self):
        """Each message that was read, as partition and offset; again for each time that it was."""
        for member in self.members + self.gone:
            for _, partition, offsets in member.notes():
                yield from ((partition, offset) for offset in offsets)

    def close(self):
        self.watcher.end()
        for member in self.members:
            member.kill()


def await_that(condition, otherwise):
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline, otherwise() if callable(otherwise) else otherwise
        time.sleep(0.05)


@pytest.fixture(scope="module")
def member_program():
    """The example program `member`, built from this source."""
    subprocess.run(["cargo", "build", "--quiet", "-p", "kavka", "--example", "member"], cwd=ROOT, check=True)
    return str(ROOT / "target" / "debug" / "examples" / "member")


@pytest.fixture(scope="module")
def three_brokers(start_kafka_for_module):
    """Brokers with short sessions, any of which a test may kill and start again."""
    return start_kafka_for_module("LATEST", brokers=3, settings=BROKER_SETTINGS)


def churn(group, happenings, count):
    """Carries out the happenings while messages are written, and checks what the members have read."""
    for _ in range(3):
        group.join()
    for happening in happenings:
        started = time.monotonic()
        group.write(count // len(happenings) // PARTITIONS + 1)
        getattr(group, happening)()
        group.flow()
        print(f"{happening}: {time.monotonic() - started:.1f} s, {len(group.members)} members")
    while group.members:
        group.leave()
    group.watcher.end()
    read = list(group.read())
    expected = {(partition, offset) for partition in range(PARTITIONS) for offset in range(group.ends[partition])}
    print(f"{len(expected)} messages, {len(read) - len(expected)} read again, {group.watcher.looks} looks at offsets")
    assert len(expected) >= count
    assert set(read) == expected
    assert group.watcher.backwards == []
    assert {place: owners for place, owners in group.owners().items() if len(owners) > 1} == {}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize(
    ("happenings", "count"),
    [
        pytest.param(SHORT, 50_000, id="short"),
        pytest.param(LONG, 1_000_000, id="long", marks=pytest.mark.long),
    ],
)
def test_whatever_happens_to_members_and_coordinator_each_message_is_read_by_one_owner_at_a_time(
    happenings, count, kind, three_brokers, member_program, tmp_path
):
    group = Group(three_brokers, member_program, kind, tmp_path)
    try:
        churn(group, happenings, count)
    finally:
        group.close()
