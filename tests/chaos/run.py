"""Runs one kind of fault after the other on one cluster, and judges each run."""

import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from .consumers import Group
from .faults import KINDS, MIX, make, mix
from .logs import read_dump
from .producers import Producer, ProducerCheck
from .proxy import Proxy
from .verdict import Pauses, Verdict
from .workload import LIMIT_SECONDS, Follower, Workload, now_ms

_ROOT = Path(__file__).resolve().parents[2]

PARTITIONS = 4

#: How much memory a program may use, in MiB: its buffers (guarantee R8), and itself. A producer notes each record that
#: is not acknowledged, and prints the reports of millions when a broker answers at last.
MEMORY = {"producer": 32 + 224, "consumer": 64 + 64 + 48}

#: So that members which are killed or frozen soon lose their partitions, and one coordinator serves all groups.
SETTINGS = {
    "group.consumer.min.session.timeout.ms": 6000,
    "group.consumer.session.timeout.ms": 6000,
    "group.consumer.min.heartbeat.interval.ms": 500,
    "group.consumer.heartbeat.interval.ms": 500,
    "offsets.topic.num.partitions": 1,
    "auto.create.topics.enable": "false",
}


def _kafka_cluster():
    # Not through sys.path: that folder has a kafka.py, which would hide the kafka-python package.
    spec = importlib.util.spec_from_file_location("kafka_cluster", _ROOT / "tests" / "kafka" / "kafka_cluster.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start_kafka():
    """Three brokers of the newest Kafka, to be closed."""
    return _kafka_cluster().Cluster(brokers=3, settings=SETTINGS, proxied=True)


class Run:
    """One topic, its programs, and the faults of one kind.

    :param kavka: the command `kavka`.
    :param seed: decides which broker, how long and so on.
    :param netns: whether a mix may have kinds that need a network namespace.
    """

    def __init__(self, kafka, kavka, kind, seed, rate, folder, netns=False):
        self.kafka, self.kind, self.netns = kafka, kind, netns
        self.random = random.Random(f"{kind} {seed}")
        self.partitions = PARTITIONS
        self.partition_counts = [PARTITIONS]
        self.faults, self.mixes = 0, []
        self.verdict = Verdict()
        self._stable_since, self._frozen = None, []
        topic = f"chaos-{uuid.uuid4().hex[:8]}"
        kafka.create_topic(topic, PARTITIONS, 2 if kind == "reassign replicas" else len(kafka.brokers))
        #: The logs of the topics of this name that were deleted: a list of files for each.
        self._deleted, self._deleted_at = [], 0
        self.proxy = None
        ports = self.broker_ports = [int(address.rpartition(":")[2]) for address in kafka.brokers.values()]
        if kind == MIX or KINDS[kind].is_proxied:
            self.proxy = Proxy({proxy_port: port for port, proxy_port in kafka.proxied.values()})
            self.proxy.start()
            ports = [proxy_port for _, proxy_port in kafka.proxied.values()]
        bootstrap = ",".join(f"127.0.0.1:{port}" for port in ports)
        keys = self.random.choice([0, 97])
        protocol = self.random.choice(["classic", "consumer"])
        delivery_timeout = self.random.choice([10_000, 120_000])
        self.workload = Workload(kavka, bootstrap, topic, folder, protocol, rate, keys, delivery_timeout)
        self.follower = Follower(self.workload)

    def run(self, seconds, at_least=1):
        """Makes faults for so long, heals, and judges; returns the verdict.

        :param at_least: how many faults to make, however long that takes.
        """
        try:
            self.workload.start()
            self.follower.start()
            self._await_flow()
            deadline = time.monotonic() + seconds
            while self.faults < at_least or time.monotonic() < deadline:
                names = mix(self.random, self.netns) if self.kind == MIX else [self.kind]
                if self.kind == MIX:
                    self.mixes.append(" + ".join(names))
                make(self, names)
                self.faults += len(names)
                self._await_flow()
            self._finish()
        finally:
            self.follower.end()
            self.workload.close()
            if self.proxy:
                self.proxy.end()
        return self.verdict

    def expect_met(self, name, is_met):
        """A fault that met nothing shows nothing. In a mix another one may have left it nothing to meet."""
        assert is_met or self.kind == MIX, f"{name} has met nothing"
        self.faults -= not is_met

    def note_frozen(self, member):
        """A member is frozen from now on, beyond its session."""
        self._frozen.append((member.path.name, now_ms()))

    def delete_topic(self):
        """Deletes the topic, and keeps the logs of its leaders."""
        topic, self._deleted_at = self.workload.topic, now_ms()
        leaders = {partition: about["leader"] for partition, about in self.kafka.describe_topic(topic).items()}

        def renamed(partition):
            # A broker renames the folder, and removes it after a minute.
            return {*self.kafka.log_dir(leaders[partition]).glob(f"{topic}-{partition}.*-delete")}

        before = {partition: renamed(partition) for partition in leaders}
        self.kafka.tool("topics", "--delete", "--topic", topic)
        files = []
        for partition, broker_id in leaders.items():
            deadline = time.monotonic() + LIMIT_SECONDS
            while not (new := renamed(partition) - before[partition]):
                assert time.monotonic() < deadline, f"broker {broker_id} has not deleted {topic}-{partition}"
                time.sleep(0.1)
            (log,) = new
            kept = self.kafka.dir / f"deleted-{len(self._deleted)}" / log.name
            kept.mkdir(parents=True)
            for segment in sorted(log.glob("*.log")):
                os.link(segment, kept / segment.name)
                files.append(str(kept / segment.name))
        self._deleted.append(files)

    def create_topic_again(self, partitions):
        """Creates the topic that was deleted."""
        self.partitions = partitions
        self.partition_counts.append(partitions)
        self.kafka.create_topic(self.workload.topic, partitions, len(self.kafka.brokers))

    def not_begun(self):
        """The partitions of the new topic that the group has not begun to read from their beginning."""
        begun = self.follower.begun
        return [number for number in range(self.partitions) if begun.get(number, 0) <= self._deleted_at]

    def expect_no_rebalance(self):
        """From now on, no partition may change its owner."""
        if self._stable_since is None:
            if not self.follower.wait_for(lambda: len(self.follower.readers) == len(self.workload.members)):
                self.verdict.violate("stuck", f"only {sorted(self.follower.readers)} read")
            # The round of the rebalance in which the last member got its share may still go on.
            time.sleep(3)
            self._stable_since = now_ms()

    def _await_flow(self):
        """Waits until messages are delivered and each partition has been read."""
        if not self.follower.wait_for_more(200):
            self.verdict.violate("stuck", f"nothing was delivered for {LIMIT_SECONDS} s after {self.faults} faults")
        if not self.follower.wait_for(lambda: len(self.follower.read) >= min(PARTITIONS, self.partitions)):
            self.verdict.violate("stuck", f"only partitions {sorted(self.follower.read)} were read")

    def _finish(self):
        """Ends the programs when the group has read the whole log, and compares."""
        self.kafka.wait_ready()
        if not self.workload.end_producers():
            self.verdict.violate("stuck", "a producer did not end in order")
        self.kafka.wait_in_sync()
        generations = [self._dump(files) for files in [*self._deleted, self._files()]]
        logs = generations[-1]
        assert len(logs) == self.partitions, f"logs of {sorted(logs)}, not of {self.partitions} partitions"
        self.follower.wait_for(
            lambda: all(self.follower.read.get(number, 0) >= log.end for number, log in logs.items())
        )
        ended = now_ms()
        if not self.workload.end_members():
            self.verdict.violate("stuck", "a member did not end in order")
        self._judge(generations, ended)

    def _files(self):
        """The segments of the leaders' logs."""
        topic = self.workload.topic
        described = self.kafka.describe_topic(topic).items()
        folders = [self.kafka.log_dir(about["leader"]) / f"{topic}-{partition}" for partition, about in described]
        return [str(file) for folder in folders for file in sorted(folder.glob("*.log"))]

    def _dump(self, files):
        command = self.kafka.tool_command("dump-log")
        command += ["--print-data-log", "--deep-iteration", "--files", ",".join(files)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            logs = read_dump(process.stdout, self.workload.keys)
        assert process.returncode == 0, f"DumpLogSegments ended with {process.returncode}"
        return logs

    def _judge(self, generations, ended):
        acked, read = Pauses(), Pauses()
        workload = self.workload
        producers = {
            prefix: Producer(program.lines(), prefix, workload.topic, self.verdict, acked, workload.delivery_timeout)
            for prefix, program in workload.producers.items()
        }
        ProducerCheck(producers, generations, self.verdict, workload.keys, self.partition_counts).run()
        group = Group(generations, self.verdict, read, workload.keys)
        for member in [*workload.gone, *workload.members]:
            group.add(member.path.name, member.lines())
        group.finish()
        if self._stable_since is not None:
            group.rebalances(self._stable_since, ended)
        if self.kind == "freeze a member":
            group.sessions_ended(self._frozen)
        group.settled(ended, [member.path.name for member in workload.members], self.partitions)
        check_memory(self.follower.memory, self.verdict)
        self.verdict.stall, self.verdict.reading_stall = acked.longest(), read.longest()


def check_memory(memory, verdict):
    """Compares what each program used at most with its bound.

    :param memory: MiB by the names of the programs.
    """
    for name, used in memory.items():
        bound = MEMORY[name.partition("-")[0]]
        if used > bound:
            verdict.violate("too much memory", f"{name} used {used} MiB, and may use {bound}")


def run_kind(kafka, kavka, kind, seed, seconds, rate, at_least=1, keep=None, netns=False):
    """The row of a kind of faults, as a dictionary.

    :param keep: where to keep the programs' lines if there is a violation; `None`: nowhere.
    :param netns: whether a mix may have kinds that need a network namespace.
    """
    with tempfile.TemporaryDirectory(dir=_ROOT / "target", ignore_cleanup_errors=True) as folder:
        run = Run(kafka, kavka, kind, seed, rate, Path(folder), netns)
        started = time.monotonic()
        verdict = run.run(seconds, at_least)
        if verdict.violations and keep:
            target = Path(keep) / f"{kind.replace(' ', '-')}-{seed}"
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-r", folder, str(target)], check=True)
            print(f"the programs' lines are in {target}", file=sys.stderr)
    workload = run.workload
    about = {"protocol": workload.protocol, "keys": workload.keys, "delivery_timeout": workload.delivery_timeout}
    about |= {"mixes": run.mixes, "memory": run.follower.memory}
    return row(kind, run.faults, verdict, time.monotonic() - started) | about


def row(kind, faults, verdict, seconds):
    """What the table and `target/chaos.json` have of a run."""
    violations, figures = verdict.violations, verdict.figures
    return {
        "kind": kind,
        "faults": faults,
        "messages": figures["messages"],
        "lost": violations["lost"],
        "duplicated": violations["duplicated"],
        "reordered": violations["reordered"],
        "unknown": figures["maybe_written"],
        "not_written": figures["not_written"],
        "stall": verdict.stall,
        "reading_stall": verdict.reading_stall,
        "others": sum(violations.values()) - sum(violations[name] for name in ("lost", "duplicated", "reordered")),
        "violations": verdict.describe(),
        "figures": dict(figures),
        "seconds": round(seconds, 1),
    }
