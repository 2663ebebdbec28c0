"""How long a killed member's partitions are not read, compared with confluent-kafka: `make bench-groups`.

Two members in separate processes share a topic that gets messages all the time. One is killed with SIGKILL. The measure
is the time until the other has read a message from each of its partitions. Most of it is the session time-out, which is
the same for both clients. Rounds alternate between the clients, on the same brokers.
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests" / "kafka"))

from kafka_cluster import LATEST, Cluster  # noqa: E402 - found by the line above

CLIENTS = ("pykafka", "confluent")
PARTITIONS = 8
TOPIC = "orphans"
#: The shortest session that Kafka's brokers allow by default, with heartbeats that detect a rebalance soon.
SESSION_MS, HEARTBEAT_MS = 6000, 500
#: The time between two messages to a partition, in seconds.
PERIOD = 0.02
#: How long both members must have read their partitions before one is killed, in seconds.
SETTLED = 3


def run_pykafka(bootstrap, group):
    """Prints the partition of each message that a PyKafka member reads."""
    import pykafka
    from pykafka.common import OffsetType

    topic = pykafka.KafkaClient(bootstrap).topics[TOPIC]
    for message in topic.get_balanced_consumer(
        group,
        managed=True,
        auto_offset_reset=OffsetType.LATEST,
        auto_commit_enable=True,
        auto_commit_interval_ms=1000,
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
    ):
        print(message.partition_id, flush=True)


def run_confluent(bootstrap, group):
    """Prints the partition of each message that a confluent-kafka member reads."""
    import confluent_kafka

    settings = {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "latest"}
    settings |= {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": HEARTBEAT_MS}
    settings |= {"auto.commit.interval.ms": 1000, "partition.assignment.strategy": "range"}
    consumer = confluent_kafka.Consumer(settings)
    consumer.subscribe([TOPIC])
    while True:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            print(message.partition(), flush=True)


class Member:
    """A member's process, and when it last read from each partition."""

    def __init__(self, client, bootstrap, group):
        command = [sys.executable, __file__, "--member", client, bootstrap, group]
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


def measure(client, bootstrap, group):
    """The seconds from the kill to the first messages from all partitions of the killed member."""
    victim, survivor = (Member(client, bootstrap, group) for _ in range(2))
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


def main():
    """Measures both clients in turn, and prints the ratio of each round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--member", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.member:
        client, *rest = arguments.member
        return {"pykafka": run_pykafka, "confluent": run_confluent}[client](*rest)
    print(f"Apache Kafka {LATEST}, {PARTITIONS} partitions, 2 members, session.timeout.ms={SESSION_MS}")
    print("Seconds from SIGKILL until all partitions of the killed member flow again; above 1 is in our favour.\n")
    print("| round | pykafka | confluent | ratio |\n|---:|---:|---:|---:|")
    is_ending, ratios = threading.Event(), []
    with Cluster(LATEST, brokers=1) as cluster:
        cluster.create_topic(TOPIC, PARTITIONS)
        writer = threading.Thread(target=write, args=(cluster.bootstrap, is_ending))
        writer.start()
        try:
            for number in range(1, arguments.rounds + 1):
                order = CLIENTS if number % 2 else CLIENTS[::-1]
                took = {client: measure(client, cluster.bootstrap, f"{client}-{number}") for client in order}
                ratios.append(took["confluent"] / took["pykafka"])
                print(f"| {number} | {took['pykafka']:.2f} | {took['confluent']:.2f} | {ratios[-1]:.2f} |", flush=True)
        finally:
            is_ending.set()
            writer.join()
    print(f"\nmedian ratio {statistics.median(ratios):.2f}")
    return None


if __name__ == "__main__":
    main()
