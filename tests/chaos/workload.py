"""Producers and a group of consumers as processes, which write what they are told to files."""

import contextlib
import json
import resource
import signal
import subprocess
import threading
import time

#: How many producers and members of the group run.
PRODUCERS, MEMBERS = 2, 3

#: How long anything may take at the end: what is not there by then is missing.
LIMIT_SECONDS = 120


class Program:
    """A verifiable program. Its lines go to a file."""

    def __init__(self, command, path):
        self.path = path
        with path.open("wb") as output, path.with_suffix(".errors").open("wb") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)

    def lines(self):
        with self.path.open("rb") as file:
            yield from file

    def signal(self, number):
        self.process.send_signal(number)

    def memory(self):
        """How much memory it uses now, in MiB; 0 if it has ended."""
        try:
            with open(f"/proc/{self.process.pid}/statm") as file:
                return int(file.read().split()[1]) * resource.getpagesize() >> 20
        except (OSError, IndexError):
            return 0

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


def _end(programs):
    """Ends all in order; returns whether they did so in time, with exit code 0."""
    for program in programs:
        program.signal(signal.SIGTERM)
    ended = True
    for program in programs:
        try:
            ended &= program.process.wait(LIMIT_SECONDS + 60) == 0
        except subprocess.TimeoutExpired:
            program.kill()
            ended = False
    return ended


class Workload:
    """The programs of one run.

    :param kavka: the command `kavka`.
    :param folder: where they write.
    :param protocol: of the group: `classic` or `consumer`.
    :param rate: how many messages a second each producer sends; -1: as many as possible.
    :param keys: how many keys the producers repeat; 0: none.
    :param delivery_timeout: of the producers, in milliseconds.
    """

    def __init__(self, kavka, bootstrap, topic, folder, protocol, rate, keys=0, delivery_timeout=120_000):
        self.topic, self.keys, self.protocol, self.delivery_timeout = topic, keys, protocol, delivery_timeout
        self._kavka, self._bootstrap, self._folder, self._rate = kavka, bootstrap, folder, rate
        self.producers, self.members, self.gone = {}, [], []
        self._started = 0

    def start(self):
        for _ in range(MEMBERS):
            self.join()
        for prefix in range(1, PRODUCERS + 1):
            options = ["--value-prefix", prefix, "--throughput", self._rate, "-X", "linger.ms=5"]
            options += ["-X", f"delivery.timeout.ms={self.delivery_timeout}"]
            options += ["-X", f"request.timeout.ms={min(30_000, self.delivery_timeout // 2)}"]
            options += ["--repeating-keys", self.keys] if self.keys else []
            self.producers[prefix] = self._program("producer", prefix, *options)

    def join(self):
        """Starts a member of the group."""
        self._started += 1
        options = ["--group-id", self.topic, "--group-protocol", self.protocol, "--session-timeout", 6000]
        options += ["--assignment-strategy", "cooperative-sticky", "-X", "metadata.max.age.ms=2000"]
        if self.protocol == "consumer":
            del options[6:8]
        self.members.append(self._program("consumer", self._started, *options))
        return self.members[-1]

    def _program(self, kind, number, *options):
        command = [self._kavka, f"verifiable-{kind}", "-b", self._bootstrap, "--topic", self.topic, *options]
        return Program([*map(str, command)], self._folder / f"{kind}-{number}")

    def take_member(self):
        """A member that is about to be killed."""
        self.gone.append(self.members.pop(0))
        return self.gone[-1]

    def end_producers(self):
        """Whether all ended in order."""
        return _end(self.producers.values())

    def end_members(self):
        """Whether all ended in order."""
        return _end(self.members)

    def close(self):
        for program in [*self.producers.values(), *self.members, *self.gone]:
            if program.process.poll() is None:
                program.kill()


class Follower(threading.Thread):
    """Follows the lines of programs while they write them: how much is reported, and how far the group has read."""

    def __init__(self, workload):
        super().__init__(daemon=True)
        self._workload = workload
        self._at = {}
        self._is_ending = threading.Event()
        self._progress = threading.Condition()
        self.reported = 0
        #: By partition, the offset behind the last record that a member has read.
        self.read = {}
        #: By partition, when a member last read its first record.
        self.begun = {}
        self._read_at = {}
        #: The members that have read.
        self.readers = set()
        #: The most memory that each program has used, in MiB.
        self.memory = {}

    def run(self):
        while not self._is_ending.wait(0.2):
            self.look()

    def look(self):
        """Reads what is new."""
        for program in [*self._workload.producers.values(), *self._workload.members]:
            name = program.path.name
            self.memory[name] = max(self.memory.get(name, 0), program.memory())
        for program in self._workload.producers.values():
            self.reported += self._new(program).count(b"producer_send_success")
        for program in [*self._workload.members, *self._workload.gone]:
            for line in self._new(program).splitlines():
                if b"records_consumed" in line:
                    self.readers.add(program.path.name)
                    self._note(json.loads(line))
        with self._progress:
            self._progress.notify_all()

    def _note(self, event):
        for place in event["partitions"]:
            partition, time = place["partition"], event["timestamp"]
            if place["minOffset"] == 0:
                self.begun[partition] = max(time, self.begun.get(partition, 0))
            # The lines of several members are read one after the other.
            if time >= self._read_at.get(partition, 0):
                self._read_at[partition], self.read[partition] = time, place["maxOffset"] + 1

    def _new(self, program):
        """Whole lines."""
        with program.path.open("rb") as file:
            file.seek(self._at.get(program.path, 0))
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self._at[program.path] = self._at.get(program.path, 0) + len(data)
        return data

    def wait_for(self, condition, seconds=LIMIT_SECONDS):
        """Waits until the condition holds; returns whether it does."""
        with self._progress:
            return self._progress.wait_for(condition, seconds)

    def wait_for_more(self, count, seconds=LIMIT_SECONDS):
        """Waits until so many more messages are delivered."""
        goal = self.reported + count
        return self.wait_for(lambda: self.reported >= goal, seconds)

    def end(self):
        self._is_ending.set()
        self.join()


def now_ms():
    """The time as the programs write it."""
    return time.time_ns() // 1_000_000
