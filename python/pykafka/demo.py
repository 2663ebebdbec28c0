"""The quick start: a few messages with their reports, then a million with a progress bar.

Two ways to run it::

    python -m pykafka.demo                        # with an in-memory broker in a separate process
    python -m pykafka.demo --bootstrap host:9092  # with any Kafka
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pykafka import KafkaClient, Topic
from pykafka.exceptions import KafkaException

MESSAGES = 1_000_000
VALUE = b"x" * 100

#: Runs the embedded broker until its standard input is closed, however the demo ends.
_BROKER = """
import sys
from pykafka.testing import Broker
with Broker(partitions=3) as broker:
    print(broker.bootstrap_servers, flush=True)
    sys.stdin.read()
"""


class Progress:
    """A progress bar in one line of a terminal; silent elsewhere. `done` prints the rate."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._shown = sys.stdout.isatty()
        self._begun = time.perf_counter()

    def at(self, count: int) -> None:
        """Shows the progress."""
        if self._shown:
            filled = 40 * count // self._total
            print(
                f"\r{self._what} [{'#' * filled}{'.' * (40 - filled)}] {100 * count // self._total:3d} %",
                end="",
                flush=True,
            )

    def done(self) -> None:
        """Shows the end, and the rate."""
        seconds = time.perf_counter() - self._begun
        start = "\r\033[K" if self._shown else ""
        print(
            f"{start}{self._what} {self._total:,} messages in {seconds:.2f} s: {self._total / seconds:,.0f} messages/s"
        )


def greet(topic: Topic) -> None:
    """Produces three messages, reads their reports and consumes them back."""
    print(f"Three messages to topic {topic.name.decode()}, with reports:")
    with topic.get_producer(delivery_reports=True) as producer:
        for word in (b"hello", b"from", b"pykafka"):
            producer.produce(word, partition_key=b"greeting")
        for _ in range(3):
            message, error = producer.get_delivery_report()
            print(f"  {message.value!r}: partition {message.partition_id}, offset {message.offset}, error {error}")
    print("and back:")
    with topic.get_simple_consumer(consumer_timeout_ms=1000) as consumer:
        for _, message in zip(range(3), consumer, strict=False):
            print(f"  {message.value!r}: partition {message.partition_id}, offset {message.offset}")


def produce_many(topic: Topic) -> None:
    """Produces a million messages; returns when all are acknowledged."""
    progress = Progress("produced", MESSAGES)
    with topic.get_producer() as producer:
        for count in range(0, MESSAGES, 10_000):
            for _ in range(10_000):
                producer.produce(VALUE)
            progress.at(count + 10_000)
    progress.done()


def consume_many(topic: Topic) -> None:
    """Consumes a million messages.

    :raises SystemExit: if some are missing.
    """
    progress = Progress("consumed", MESSAGES)
    count = 0
    with topic.get_simple_consumer(consumer_timeout_ms=10_000) as consumer:
        for message in consumer:
            count += message.value == VALUE
            if count % 10_000 == 0:
                progress.at(count)
            if count == MESSAGES:
                break
    if count < MESSAGES:
        sys.exit(f"only {count:,} of {MESSAGES:,} messages came back")
    progress.done()


@contextmanager
def embedded_broker() -> Iterator[str]:
    """The address of a broker in a separate process, so that it does not compete for the interpreter."""
    command = [sys.executable, "-c", _BROKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


def run(bootstrap: str) -> None:
    """Runs the demo on the cluster at this address."""
    client = KafkaClient(hosts=bootstrap)
    print(f"Connected to {bootstrap}: brokers {sorted(client.brokers)}")
    name = f"pykafka.demo.{time.time_ns() // 1_000_000}"
    greet(client.topics[f"{name}.greetings"])
    topic = client.topics[name]
    produce_many(topic)
    consume_many(topic)


def main() -> None:
    """Parses the command line, and runs the demo."""
    parser = argparse.ArgumentParser(
        prog="python -m pykafka.demo", description="Produces and consumes a million messages."
    )
    parser.add_argument(
        "--bootstrap", metavar="HOST:PORT", help="the Kafka to use; without it, one in memory is started"
    )
    bootstrap = parser.parse_args().bootstrap
    try:
        if bootstrap:
            run(bootstrap)
            return
        with embedded_broker() as address:
            run(address)
    except (KafkaException, ValueError) as error:
        sys.exit(f"pykafka.demo: {error}")
    except KeyboardInterrupt:
        sys.exit("pykafka.demo: interrupted")


if __name__ == "__main__":
    main()
