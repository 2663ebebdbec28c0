"""Groups on real Kafka whose members join, leave, restart, are killed and frozen, and whose coordinator dies.

A member is a process, of `crates/client/examples/member.rs` or of `PYTHON_MEMBER`. It writes down what it reads before
it asks for more, so that what it has not written down cannot have been committed. A `Group` starts members, writes
messages, and does something to a member; each of its methods returns when the group reads all partitions again.
`churn` does the same to several groups at once, and judges what all members have read.
"""

import concurrent.futures
import contextlib
import itertools
import json
import operator
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import confluent_kafka
import pykafka

PARTITIONS = 8

#: How long anything may take, in seconds; more than ten times of what it takes on a machine with two processors.
LIMIT = 180

#: For each message it writes when it asked for it, when it got it, and the partition and offset. A partition that it
#: was assigned is written with a `+`. It obeys the lines `commit` and ends at the end of its input.
PYTHON_MEMBER = """
import json, logging, os, queue, sys, threading, time, pykafka
logging.basicConfig(level=logging.WARNING, format="%(message)s")
hosts, topic, settings = sys.argv[1:]
commands = queue.SimpleQueue()

def listen():
    for line in sys.stdin:
        commands.put(line.strip())
    commands.put("leave")

def tell(words):
    os.write(2, (words + chr(10)).encode())

def rebalanced(consumer, old, new):
    now = time.monotonic()
    os.write(1, b"".join(b"+ %f %d\\n" % (now, partition) for partition in new))

consumer = pykafka.KafkaClient(hosts).topics[topic].get_balanced_consumer(
    topic, consumer_timeout_ms=100, post_rebalance_callback=rebalanced, **json.loads(settings)
)
threading.Thread(target=listen, daemon=True).start()
read, command = {}, None
while command != "leave":
    try:
        command = commands.get_nowait() if not commands.empty() else None
        if command == "commit":
            consumer.commit_offsets([(consumer.topic.partitions[number], at) for number, at in read.items()])
            tell("committed")
        asked = time.monotonic()
        message = consumer.consume()
        if message is not None:
            line = b"%f %f %d %d\\n" % (asked, time.monotonic(), message.partition_id, message.offset)
            os.write(1, line)
            read[message.partition_id] = message.offset + 1
    except pykafka.exceptions.KafkaException as error:
        tell(f"{command or 'consume'}: {type(error).__name__}: {error}")
consumer.stop()
"""

#: Shorter than Kafka's default, so that a frozen or killed member soon loses its partitions.
SESSION_MS = 6000

#: The same for the protocol whose sessions the coordinator decides, and one coordinator for all groups.
BROKER_SETTINGS = {
    "group.consumer.min.session.timeout.ms": SESSION_MS,
    "group.consumer.session.timeout.ms": SESSION_MS,
    "group.consumer.min.heartbeat.interval.ms": 500,
    "group.consumer.heartbeat.interval.ms": 500,
    "offsets.topic.num.partitions": 1,
}


class RustKind:
    """Members of the engine alone.

    :param program: the example `member`.
    :param settings: its settings, by Kafka's names.
    """

    #: What a member says that has lost its partitions.
    told = "Fenced"
    #: The setting with which it commits nothing by itself.
    manual = {"enable.auto.commit": "false"}  # noqa: RUF012

    def __init__(self, program, settings, is_static=False):
        self._program, self._settings, self._is_static = program, settings, is_static

    def command(self, bootstrap, topic, name, changes):
        settings = {"auto.commit.interval.ms": 500} | self._settings | changes
        if self._is_static:
            settings["group.instance.id"] = name
        return [self._program, bootstrap, topic, topic, *(f"{key}={value}" for key, value in settings.items())]

    def offsets(self, lines):
        """`(partition, offset)` of each message that a member has read."""
        for line in lines:
            _, partition, first, last = line.split()
            yield from ((int(partition), offset) for offset in range(int(first), int(last) + 1))

    def overlaps(self, members):
        """`(generation, partition, members)` where more than one member has read."""
        owners = {}
        for member in members:
            for line in member.lines():
                generation, partition, _, _ = line.split()
                # Otherwise the generation changed while the member waited for these messages.
                if generation != "-":
                    owner = member.name if self._is_static else member.path.name
                    owners.setdefault((int(generation), int(partition)), set()).add(owner)
        return [(*place, owners) for place, owners in owners.items() if len(owners) > 1]


class PythonKind:
    """Members that use `pykafka.BalancedConsumer`.

    :param told: what a member says that has lost its partitions.
    :param settings: its arguments.
    """

    manual = {"auto_commit_enable": False}  # noqa: RUF012

    def __init__(self, told, settings):
        self.told, self._settings = told, settings

    def command(self, bootstrap, topic, name, changes):
        settings = {"auto_commit_enable": True, "auto_commit_interval_ms": 500} | self._settings | changes
        return [sys.executable, "-c", PYTHON_MEMBER, bootstrap, topic, json.dumps(settings)]

    def offsets(self, lines):
        """`(partition, offset)` of each message that a member has read."""
        for line in lines:
            if not line.startswith("+"):
                _, _, partition, offset = line.split()
                yield int(partition), int(offset)

    def overlaps(self, members):
        """`(member, partition, offset, time)` of messages that a member asked for when another was the owner.

        A member becomes the owner with the first message that it reads after it was assigned the partition.
        """
        taken, read = [], []
        for member in members:
            assigned = set()
            for line in member.lines():
                if line.startswith("+"):
                    assigned.add(int(line.split()[2]))
                    continue
                asked, got, partition, offset = map(float, line.split())
                if partition in assigned:
                    assigned.discard(partition)
                    taken.append((got, asked, partition, member.path.name, offset))
                else:
                    read.append((asked, None, partition, member.path.name, offset))
        return list(_strays(sorted(taken + read, key=operator.itemgetter(0))))


def _strays(events):
    """The reads of members that were no longer the owner."""
    owners, since = {}, {}
    for when, asked, partition, name, offset in events:
        if asked is not None:
            # If another one became the owner between asking and getting, nobody can tell who was first.
            is_certain = since.get(partition, 0) < asked
            owners[partition], since[partition] = (name if is_certain else None), when
        elif owners.get(partition) is None:
            owners[partition] = name
        elif owners[partition] != name:
            yield name, int(partition), int(offset), when


class Member:
    """A process whose output is in files."""

    def __init__(self, command, path, name):
        self.path, self.name = path, name
        with path.open("wb") as output, path.with_suffix(".errors").open("wb") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=errors)

    def lines(self):
        """What it has written down."""
        return self.path.read_text().splitlines()

    def has_begun(self):
        """Whether it has written something down."""
        return self.path.stat().st_size > 0

    def said(self):
        """Its standard error: the errors that it survived, and the outcome of commits."""
        return self.path.with_suffix(".errors").read_text()

    def ask(self, command):
        """Gives it a line of input."""
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def leave(self):
        self.process.stdin.close()
        assert self.process.wait(LIMIT) == 0, f"{self.path}: {self.said()}"

    def kill(self):
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


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
    """The members, and the messages that they have to read.

    :param folder: where the members write.
    """

    def __init__(self, cluster, kind, name, folder):
        self.name = f"churn-{name}-{uuid.uuid4()}"
        self.kind = kind
        self.bootstrap = cluster.bootstrap
        self._folder = Path(folder) / self.name
        self._folder.mkdir()
        self._numbers = itertools.count()
        self.members, self.gone = [], []
        self.ends = dict.fromkeys(range(PARTITIONS), 0)
        cluster.create_topic(self.name, PARTITIONS, len(cluster.brokers))
        self.client = pykafka.KafkaClient(cluster.bootstrap)
        self._producer = confluent_kafka.Producer(
            {"bootstrap.servers": cluster.bootstrap, "enable.idempotence": True, "linger.ms": 20, "log_level": 0}
        )
        self.watcher = Watcher(self.client, self.name)
        self.watcher.start()

    def start(self, name=None, **changes):
        """Starts a member, and returns it when it reads."""
        taken = {member.name for member in self.members}
        name = name or next(name for name in map("member-{}".format, itertools.count()) if name not in taken)
        command = self.kind.command(self.bootstrap, self.name, name, changes)
        member = Member(command, self._folder / f"{next(self._numbers)}-{name}", name)
        self.members.append(member)
        self.feed(member.has_begun, f"{member.path} reads nothing")
        return member

    def join(self):
        self.start()

    def _take(self):
        self.gone.append(self.members.pop(0))
        return self.gone[-1]

    def leave(self):
        self._take().leave()

    def kill(self):
        self._take().kill()

    def restart(self):
        """A static member comes back under its name before its session ends; others as new members."""
        member = self._take()
        member.kill()
        self.start(member.name)

    def bounce(self, **changes):
        """A member leaves, and comes back with other settings."""
        member = self._take()
        member.leave()
        self.start(member.name, **changes)
        self.flow()

    def freeze(self):
        """The others take over; then the member goes on as if nothing had been, is told, and comes back."""
        member = self.members[0]
        said = len(member.said())
        member.freeze()
        try:
            self.flow()
        finally:
            member.thaw()
        self.feed(
            lambda: self.kind.told in member.said()[said:], f"{member.path} was not told that it lost its partitions"
        )

    def has_read(self, member):
        """Whether the member has read all messages."""
        return len(set(self.kind.offsets(member.lines()))) == sum(self.ends.values())

    def write(self, count):
        """Appends as many messages to each partition."""
        for _, partition in itertools.product(range(count), range(PARTITIONS)):
            while True:
                try:
                    self._producer.produce(self.name, b"message", partition=partition)
                    break
                except BufferError:
                    self._producer.poll(0.1)
        assert self._producer.flush(LIMIT) == 0, f"{self.name}: not all messages are delivered"
        for partition in range(PARTITIONS):
            self.ends[partition] += count

    def feed(self, condition, otherwise):
        """Writes now and then, until the condition holds."""

        def write_and_look():
            self.write(1)
            return condition()

        await_that(write_and_look, otherwise)

    def flow(self):
        """Some messages are written; those and all before are read and committed by the members."""
        self.write(10)
        await_that(
            lambda: all(self.watcher.committed[partition] >= end for partition, end in self.ends.items()),
            lambda: f"{self.name}: {self.watcher.committed} committed of {self.ends}",
        )
        # Those that an earlier generation or a dead member has read.
        assert [member.said() for member in self.members if member.process.poll() is not None] == []

    def finish(self):
        """When the members have committed all that is in the log, they leave."""
        answers = self.client.topics[self.name].latest_available_offsets()
        acknowledged, self.ends = self.ends, {partition: answer.offset[0] for partition, answer in answers.items()}
        assert all(self.ends[partition] >= end for partition, end in acknowledged.items()), f"{self.name}: {self.ends}"
        if self.ends != acknowledged:
            # Not a fault of the members. The writer is librdkafka.
            print(f"{self.name}: the log ends at {self.ends}, the writer knows of {acknowledged}")
        await_that(lambda: self.watcher.committed == self.ends, lambda: f"{self.name}: {self.watcher.committed}")
        while self.members:
            self.leave()
        self.watcher.end()

    def judge(self):
        """Checks what the members have read and committed."""
        read = {partition: bytearray(end) for partition, end in self.ends.items()}
        count = 0
        for member in self.gone:
            for partition, offset in self.kind.offsets(member.lines()):
                read[partition][offset] = 1
                count += 1
        expected, found = sum(self.ends.values()), sum(map(sum, read.values()))
        print(
            f"{self.name[:-37]}: {expected} messages, {count - found} read again, {self.watcher.looks} looks at offsets"
        )
        faults = {
            "messages that were not read": expected - found,
            "committed offsets that went back": self.watcher.backwards[:9],
            "partitions that two members had at once": self.kind.overlaps(self.gone)[:9],
        }
        assert not any(faults.values()), f"{self.name}: {faults}"

    def close(self):
        self.watcher.end()
        for member in self.members:
            member.kill()


def await_that(condition, otherwise):
    """Looks again and again whether it holds, for `LIMIT` seconds."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, otherwise() if callable(otherwise) else otherwise
        time.sleep(0.05)


def thaw_a_zombie(group):
    """A member is frozen until others have its partitions; then its commit is refused, it is told, and comes back."""
    zombie = group.start(**group.kind.manual)
    group.write(10)
    await_that(lambda: group.has_read(zombie), f"{zombie.path} does not read everything")
    zombie.freeze()
    survivor = group.start()
    group.flow()
    committed = dict(group.watcher.committed)
    # So that the zombie cannot have partitions again before it commits.
    survivor.freeze()
    zombie.ask("commit")
    zombie.thaw()

    def outcome():
        return next((line for line in zombie.said().splitlines() if line.startswith("commit")), None)

    await_that(outcome, f"{zombie.path} does not say how its commit went")
    refusals = ("commit: Fenced", "commit: IllegalGeneration", "commit: KafkaException")
    assert outcome().startswith(refusals), outcome()
    await_that(lambda: group.kind.told in zombie.said(), f"{zombie.path} was not told that it lost its partitions")
    looks = group.watcher.looks
    await_that(lambda: group.watcher.looks > looks + 1, "nobody looks at the offsets")
    assert group.watcher.committed == committed
    survivor.thaw()
    lines = len(zombie.lines())
    group.feed(lambda: len(zombie.lines()) > lines, f"{zombie.path} does not come back")
    assert group.watcher.backwards == []


@contextlib.contextmanager
def at_once(groups):
    """Yields a function that calls a function with each group, in threads, and waits for all of them."""
    with concurrent.futures.ThreadPoolExecutor(len(groups)) as pool:

        def everywhere(action):
            for future in [pool.submit(action, group) for group in groups]:
                future.result()

        yield everywhere


def lose_coordinator(cluster, groups, everywhere):
    """The groups' coordinator is killed, and comes back; where there are other brokers, after the groups have moved."""
    coordinator = groups[0].client.cluster.get_group_coordinator(groups[0].name).id
    cluster.kill(coordinator)
    if len(cluster.brokers) > 1:
        everywhere(Group.flow)
    cluster.start(coordinator)
    # Whichever broker dies next, the others have all that was committed.
    cluster.wait_in_sync()


def churn(cluster, groups, happenings, count):
    """Carries out the happenings in all groups while messages are written, and judges what the members have read.

    :param happenings: names of methods of `Group`, and `lose_coordinator`.
    :param count: how many messages each group reads, at least.
    """
    with at_once(groups) as everywhere:
        for _ in range(3):
            everywhere(Group.join)
        for happening in happenings:
            started = time.monotonic()
            everywhere(lambda group: group.write(count // len(happenings) // PARTITIONS + 1))
            if happening == "lose_coordinator":
                lose_coordinator(cluster, groups, everywhere)
            else:
                everywhere(lambda group, happening=happening: getattr(group, happening)())
            everywhere(Group.flow)
            print(f"{happening}: {time.monotonic() - started:.1f} s")
        everywhere(Group.finish)
    for group in groups:
        group.judge()
