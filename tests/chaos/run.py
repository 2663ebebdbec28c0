"""Runs one kind of fault after the other on one cluster, and judges each run."""

import importlib.util
import random
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from .consumers import Group
from .faults import KINDS, PROXIED
from .logs import read_dump
from .producers import Producer, ProducerCheck
from .proxy import Proxy
from .verdict import Pauses, Verdict
from .workload import LIMIT_SECONDS, Follower, Workload, now_ms

_ROOT = Path(__file__).resolve().parents[2]

PARTITIONS = 4

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
    """

    def __init__(self, kafka, kavka, kind, seed, rate, folder):
        self.kafka, self.kind = kafka, kind
        self.random = random.Random(f"{kind} {seed}")
        self.partitions = PARTITIONS
        self.partition_counts = [PARTITIONS]
        self.faults = 0
        self.verdict = Verdict()
        self._stable_since = None
        topic = f"chaos-{uuid.uuid4().hex[:8]}"
        kafka.create_topic(topic, PARTITIONS, 2 if kind == "reassign replicas" else len(kafka.brokers))
        self.proxy = None
        ports = self.broker_ports = [int(address.rpartition(":")[2]) for address in kafka.brokers.values()]
        if kind in PROXIED:
            self.proxy = Proxy({proxy_port: port for port, proxy_port in kafka.proxied.values()})
            self.proxy.start()
            ports = [proxy_port for _, proxy_port in kafka.proxied.values()]
        bootstrap = ",".join(f"127.0.0.1:{port}" for port in ports)
        keys = self.random.choice([0, 97])
        protocol = self.random.choice(["classic", "consumer"])
        self.workload = Workload(kavka, bootstrap, topic, folder, protocol, rate, keys)
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
                KINDS[self.kind](self)
                self.faults += 1
                self._await_flow()
            self._finish()
        finally:
            self.follower.end()
            self.workload.close()
            if self.proxy:
                self.proxy.end()
        return self.verdict

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
        if not self.follower.wait_for(lambda: len(self.follower.read) >= PARTITIONS):
            self.verdict.violate("stuck", f"only partitions {sorted(self.follower.read)} were read")

    def _finish(self):
        """Ends the programs when the group has read the whole log, and compares."""
        self.kafka.wait_ready()
        if not self.workload.end_producers():
            self.verdict.violate("stuck", "a producer did not end in order")
        self.kafka.wait_in_sync()
        logs = self._dump()
        self.follower.wait_for(
            lambda: all(self.follower.read.get(number, 0) >= log.end for number, log in logs.items())
        )
        ended = now_ms()
        if not self.workload.end_members():
            self.verdict.violate("stuck", "a member did not end in order")
        self._judge(logs, ended)

    def _dump(self):
        described = self.kafka.describe_topic(self.workload.topic)
        files = []
        for partition, about in described.items():
            folder = self.kafka.log_dir(about["leader"]) / f"{self.workload.topic}-{partition}"
            files += map(str, sorted(folder.glob("*.log")))
        command = self.kafka.tool_command("dump-log")
        command += ["--print-data-log", "--deep-iteration", "--files", ",".join(files)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            logs = read_dump(process.stdout, self.workload.keys)
        assert process.returncode == 0, f"DumpLogSegments ended with {process.returncode}"
        assert len(logs) == len(described), f"logs of {sorted(logs)}, not of {sorted(described)}"
        return logs

    def _judge(self, logs, ended):
        acked, read = Pauses(), Pauses()
        topic = self.workload.topic
        producers = {
            prefix: Producer(program.lines(), prefix, topic, self.verdict, acked)
            for prefix, program in self.workload.producers.items()
        }
        ProducerCheck(producers, logs, self.verdict, self.workload.keys, self.partition_counts).run()
        group = Group(logs, self.verdict, read, self.workload.keys)
        for member in [*self.workload.gone, *self.workload.members]:
            group.add(member.path.name, member.lines())
        group.finish()
        if self._stable_since is not None:
            group.rebalances(self._stable_since, ended)
        self.verdict.stall, self.verdict.reading_stall = acked.longest(), read.longest()


def run_kind(kafka, kavka, kind, seed, seconds, rate, at_least=1, keep=None):
    """The row of a kind of faults, as a dictionary.

    :param keep: where to keep the programs' lines if there is a violation; `None`: nowhere.
    """
    with tempfile.TemporaryDirectory(dir=_ROOT / "target", ignore_cleanup_errors=True) as folder:
        run = Run(kafka, kavka, kind, seed, rate, Path(folder))
        started = time.monotonic()
        verdict = run.run(seconds, at_least)
        if verdict.violations and keep:
            target = Path(keep) / f"{kind.replace(' ', '-')}-{seed}"
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-r", folder, str(target)], check=True)
            print(f"the programs' lines are in {target}", file=sys.stderr)
    about = {"protocol": run.workload._protocol, "keys": run.workload.keys}
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
