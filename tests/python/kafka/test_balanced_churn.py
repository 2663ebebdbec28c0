"""A million messages, read by a group whose members join, leave, are killed, and are frozen beyond their session."""

import itertools
import json
import random
import signal
import struct
import subprocess
import sys
import threading
import time
import uuid

import pykafka
import pytest

MESSAGES = 1_000_000
PARTITIONS = 8

#: Longer than a frozen member's session, so that others have taken its partitions.
FREEZE_SECONDS = 10

#: A member writes down each event before it asks for the next message.
NOTE = struct.Struct("<ciqd")

MEMBER = """
import json, os, struct, sys, threading, time, pykafka
hosts, topic, path, settings = sys.argv[1:]
notes, note = os.open(path, os.O_WRONLY | os.O_CREAT), struct.Struct("<ciqd")

def rebalanced(consumer, old, new):
    for partition in new:
        os.write(notes, note.pack(b"+", partition, new[partition], time.monotonic()))

consumer = pykafka.KafkaClient(hosts).topics[topic].get_balanced_consumer(
    topic, auto_commit_enable=True, auto_commit_interval_ms=200, consumer_timeout_ms=200,
    post_rebalance_callback=rebalanced, **json.loads(settings)
)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
while not ended.is_set():
    try:
        message = consumer.consume()
    except pykafka.exceptions.KafkaException as error:
        print(error, file=sys.stderr)
        continue
    if message is not None:
        os.write(notes, note.pack(b"m", message.partition_id, message.offset, time.monotonic()))
consumer.stop()
"""


class Group:
    """The members' processes, and what they have written down."""

    def __init__(self, folder, arguments, settings):
        self._folder, self._arguments, self._settings = folder, arguments, settings
        self._numbers = itertools.count()
        self.members = []

    def start(self):
        path = self._folder / f"notes-{next(self._numbers)}"
        command = [sys.executable, "-c", MEMBER, *self._arguments, str(path), self._settings]
        self.members.append(subprocess.Popen(command, stdin=subprocess.PIPE))

    def take(self):
        return self.members.pop(random.randrange(len(self.members)))

    def leave(self):
        end(self.take())

    def kill(self):
        member = self.take()
        member.kill()
        member.wait()
        member.stdin.close()

    def freeze(self):
        member = random.choice(self.members)
        member.send_signal(signal.SIGSTOP)
        time.sleep(FREEZE_SECONDS)
        member.send_signal(signal.SIGCONT)

    def notes(self):
        """`(time, member, what, partition, offset)`, by time."""
        for path in self._folder.glob("notes-*"):
            content = path.read_bytes()
            whole = content[: len(content) - len(content) % NOTE.size]
            for what, partition, offset, when in NOTE.iter_unpack(whole):
                yield when, path.name, what, partition, offset

    def close(self):
        for member in self.members:
            member.kill()
            member.wait()
            member.stdin.close()


def end(member):
    member.stdin.close()
    assert member.wait(60) == 0


class Watcher(threading.Thread):
    """Reads the group's committed offsets again and again."""

    def __init__(self, topic):
        super().__init__()
        self._consumer = topic.get_simple_consumer(topic.name, auto_start=False, reset_offset_on_fetch=False)
        self._is_ending = threading.Event()
        self.committed = dict.fromkeys(range(PARTITIONS), -1)
        self.backwards = []

    def run(self):
        while not self._is_ending.wait(0.1):
            for partition, answer in self._consumer.fetch_offsets():
                if answer.offset < self.committed[partition]:
                    self.backwards.append((partition, self.committed[partition], answer.offset))
                self.committed[partition] = max(self.committed[partition], answer.offset)

    def end(self):
        self._is_ending.set()
        self.join()


def strays(notes):
    """Messages that a member got after another one was assigned the partition."""
    owner, found = {}, []
    for when, member, what, partition, offset in sorted(notes):
        if what == b"+":
            owner[partition] = member
        elif owner.get(partition) != member:
            found.append((when, member, partition, offset))
    return found


@pytest.fixture
def settings(request, zookeeper_kafka):
    """The command-line arguments of a member, by its kind."""
    kinds = {
        "zookeeper": {"zookeeper_hosts": zookeeper_kafka.zookeeper, "zookeeper_connection_timeout_ms": 4000},
        "managed": {"managed": True, "session_timeout_ms": 6000, "heartbeat_interval_ms": 500},
    }
    return json.dumps(kinds[request.param])


@pytest.mark.long
@pytest.mark.parametrize("settings", ["zookeeper", "managed"], indirect=True)
def test_whatever_happens_to_members_each_message_is_read_and_no_partition_by_two_at_once(
    settings, zookeeper_kafka, tmp_path
):
    name = f"churn-{uuid.uuid4()}"
    zookeeper_kafka.create_topic(name, partitions=PARTITIONS)
    topic = pykafka.KafkaClient(zookeeper_kafka.bootstrap).topics[name]
    group = Group(tmp_path, [zookeeper_kafka.bootstrap, name], settings)
    watcher = Watcher(topic)
    watcher.start()
    try:
        for _ in range(3):
            group.start()
        happenings = itertools.cycle([group.start, group.kill, group.freeze, group.start, group.leave, group.freeze])
        with topic.get_producer() as producer:
            for number in range(MESSAGES):
                producer.produce(b"%d" % number)
                if number % (MESSAGES // 12) == 0:
                    time.sleep(2)
                    next(happenings)()
        wanted = {id_: answer.offset[0] for id_, answer in topic.latest_available_offsets().items()}
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and watcher.committed != wanted:
            time.sleep(0.5)
        for member in group.members:
            end(member)
        watcher.end()
        notes = list(group.notes())
        read = {(partition, offset) for _, _, what, partition, offset in notes if what == b"m"}
        assert sum(wanted.values()) == len(read) == MESSAGES
        assert watcher.backwards == []
        assert strays(notes) == []
        assert watcher.committed == wanted
    finally:
        watcher.end()
        group.close()
