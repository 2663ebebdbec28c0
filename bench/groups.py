"""How long a killed member's partitions are not read, compared with confluent-kafka: `make bench-groups`.

Two members in separate processes share a topic that gets messages all the time. One is killed with SIGKILL. The measure
is the time until the other has read a message from each of its partitions. Most of it is the session time-out, which is
the same for both clients. Rounds alternate between the clients, on the same brokers. Sharing through ZooKeeper, which
confluent-kafka does not support, is measured alone.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests" / "kafka"))

from kafka_cluster import LATEST, LATEST_3, Cluster  # noqa: E402 - found by the line above

CLIENTS = ("pykafka", "confluent")
PARTITIONS = 8
TOPIC = "orphans"
#: The shortest session that Kafka's brokers allow by default, with heartbeats that detect a rebalance soon.
SESSION_MS, HEARTBEAT_MS = 6000, 500
#: The same for members whose session and heartbeats the brokers decide.
BROKER_SETTINGS = {
    "group.consumer.min.session.timeout.ms": SESSION_MS,
    "group.consumer.session.timeout.ms": SESSION_MS,
    "group.consumer.min.heartbeat.interval.ms": HEARTBEAT_MS,
    "group.consumer.heartbeat.interval.ms": HEARTBEAT_MS,
}
#: The time between two messages to a partition, in seconds.
PERIOD = 0.02
#: How long both members must have read their partitions before one is killed, in seconds.
SETTLED = 3

_ARGUMENTS = {"session_timeout_ms": SESSION_MS, "heartbeat_interval_ms": HEARTBEAT_MS}
#: PyKafka's arguments for each kind of group.
PYKAFKA = {
    "eager": {"managed": True, "membership_protocol": "range", **_ARGUMENTS},
    "cooperative": {"managed": True, "membership_protocol": "cooperative-sticky", **_ARGUMENTS},
    "consumer": {"managed": True, "group_protocol": "consumer"},
    "zookeeper": {"zookeeper_connection_timeout_ms": SESSION_MS},
}
_SETTINGS = {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": HEARTBEAT_MS}
#: confluent-kafka's settings for them.
CONFLUENT = {
    "eager": {"partition.assignment.strategy": "range", **_SETTINGS},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky", **_SETTINGS},
    "consumer": {"group.protocol": "consumer"},
}


def run_pykafka(bootstrap, group, settings):
    """Prints the partition of each message that a PyKafka member reads."""
    import pykafka
    from pykafka.common import OffsetType

    topic = pykafka.KafkaClient(bootstrap).topics[TOPIC]
    for message in topic.get_balanced_consumer(
        group,
        auto_offset_reset=OffsetType.LATEST,
        auto_commit_enable=True,
        auto_commit_interval_ms=1000,
        **settings,
    ):
        print(message.partition_id, flush=True)


def run_confluent(bootstrap, group, settings):
    """Prints the partition of each message that a confluent-kafka member reads."""
    import confluent_kafka

    settings |= {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "latest"}
    consumer = confluent_kafka.Consumer(settings | {"auto.commit.interval.ms": 1000})
    consumer.subscribe([TOPIC])
    while True:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            print(message.partition(), flush=True)


class Member:
    """A member's process, and when it last read from each partition."""

    def __init__(self, client, bootstrap, group, settings):
        command = [sys.executable, __file__, "--member", client, bootstrap, group, json.dumps(settings)]
        self.read = {}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._note)
        self._thread.start()

    def _note(self):
        for line in self._process.stdout:
            self.read[int(line)] = time.monotonic()

    def kill(self):
        """SIGKILL: the coordinator is not told."""
        self._process.kill()
        self._process.wait()
        self._thread.join()

    def reads(self, since):
        """The partitions from which it has read since then."""
        return {partition for partition, at in list(self.read.items()) if at >= since}


def write(bootstrap, is_ending):
    """Writes a message to each partition, again and again."""
    import confluent_kafka

    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    while not is_ending.wait(PERIOD):
        for partition in range(PARTITIONS):
            producer.produce(TOPIC, b"order", partition=partition)
        producer.poll(0)
    producer.flush()


def wait_for(condition, what):
    """Checks repeatedly, for a minute at most."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"{what} within a minute")
        time.sleep(0.005)


def measure(client, bootstrap, group, settings):
    """The seconds from the kill to the first messages from all partitions of the killed member."""
    victim, survivor = (Member(client, bootstrap, group, settings) for _ in range(2))
    try:
        since = time.monotonic()

        def is_settled():
            nonlocal since
            shares = [member.reads(since) for member in (victim, survivor)]
            if shares[0] & shares[1]:
                since = time.monotonic()
            return len(shares[0] | shares[1]) == PARTITIONS and all(shares) and time.monotonic() - since > SETTLED

        wait_for(is_settled, f"two members of {client} did not share the topic")
        orphans = victim.reads(since)
        killed = time.monotonic()
        victim.kill()
        wait_for(lambda: orphans <= survivor.reads(killed), f"{client} did not go on")
        return time.monotonic() - killed
    finally:
        survivor.kill()
        victim.kill()


def measure_protocol(protocol, cluster, rounds):
    """Measures one kind of group, with both clients in turn if both have it, and prints each round."""
    found = {client: [] for client in CLIENTS if client == "pykafka" or protocol in CONFLUENT}
    for number in range(rounds):
        for client in list(found)[:: -1 if number % 2 else 1]:
            settings = {"pykafka": PYKAFKA, "confluent": CONFLUENT}[client][protocol]
            if protocol == "zookeeper":
                settings = settings | {"zookeeper_hosts": cluster.zookeeper}
            found[client].append(measure(client, cluster.bootstrap, f"{protocol}-{client}-{number}", settings))
        show(protocol, number + 1, {client: times[-1:] for client, times in found.items()})
    show(protocol, "median", found)


def show(protocol, label, found):
    """Prints the medians of a line's rounds."""
    cells = [f"{statistics.median(times):.2f}" for times in found.values()]
    if "confluent" in found:
        ratios = [theirs / ours for ours, theirs in zip(found["pykafka"], found["confluent"], strict=True)]
        cells.append(f"{statistics.median(ratios):.2f}")
    else:
        cells += ["", ""]
    print(f"| {protocol} | {label} | {' | '.join(cells)} |", flush=True)


def measure_cluster(version, protocols, rounds, **options):
    """Measures kinds of groups on a broker of this version that gets messages all the time."""
    is_ending = threading.Event()
    with Cluster(version, **options) as cluster:
        cluster.create_topic(TOPIC, PARTITIONS)
        writer = threading.Thread(target=write, args=(cluster.bootstrap, is_ending))
        writer.start()
        try:
            for protocol in protocols:
                measure_protocol(protocol, cluster, rounds)
        finally:
            is_ending.set()
            writer.join()


def main():
    """Measures each kind of group, and prints the ratio of each round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--member", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.member:
        client, bootstrap, group, settings = arguments.member
        run = {"pykafka": run_pykafka, "confluent": run_confluent}[client]
        return run(bootstrap, group, json.loads(settings))
    print(f"Apache Kafka {LATEST} and {LATEST_3}, {PARTITIONS} partitions, 2 members, sessions of {SESSION_MS} ms")
    print("Seconds from SIGKILL until all partitions of the killed member flow again; above 1 is in our favour.\n")
    print("| group | round | pykafka | confluent | ratio |\n|---|---:|---:|---:|---:|")
    measure_cluster(LATEST, CONFLUENT, arguments.rounds, settings=BROKER_SETTINGS)
    measure_cluster(LATEST_3, ["zookeeper"], arguments.rounds, zookeeper=True)
    return None


if __name__ == "__main__":
    main()
