"""Instructions per message in Python: `make costs`. Counts do not depend on how busy the machine is, as seconds do.

Callgrind, a tool of valgrind, runs a program that produces and consumes on an embedded broker. What counts is what the
program's own thread executes, which includes the interpreter and all that the engine does in the caller's thread.
Each piece of work has a limit, which leaves 8 % of room; that of `consume_batch` 12 %, because what it costs to open a
batch depends on how large the batches are that happen to come.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from itertools import islice
from pathlib import Path

MESSAGES = 10_000
VALUE = bytes(range(100))
KEY = b"key"
# The instructions that a message of 100 bytes may cost.
LIMITS = {
    "produce": 2_430,
    "produce-keyed": 2_580,
    "produce-reports": 4_910,
    "produce-many": 1_240,
    "iterate": 1_670,
    "iterate-value": 2_000,
    "consume-batch": 1_420,
}
# A function that nothing else calls: callgrind begins a new file whenever it is called.
MARK = "getloadavg"


def produce(producer, messages):
    for _ in range(messages):
        producer.produce(VALUE)


def produce_keyed(producer, messages):
    for _ in range(messages):
        producer.produce(VALUE, KEY)


def produce_reports(producer, messages):
    for _ in range(messages):
        producer.produce(VALUE)
    for _ in range(messages):
        producer.get_delivery_report(timeout=60)


def produce_many(producer, messages):
    producer.produce_many([VALUE] * messages)


def iterate(consumer, messages):
    for _ in islice(consumer, messages):
        pass


def iterate_value(consumer, messages):
    for message in islice(consumer, messages):
        _ = message.value


def consume_batch(consumer, messages):
    while messages:
        messages -= len(consumer.consume_batch(1_000))


def work(messages, names):
    """Does these pieces of work once, in the order of `LIMITS`, with a mark before and after each."""
    from pykafka import KafkaClient
    from pykafka.testing import Broker

    with Broker() as broker:
        client = KafkaClient(hosts=broker.bootstrap_servers)
        with client.topics["read"].get_producer() as producer:
            produce_many(producer, messages)
        for name in names:
            action = globals()[name.replace("-", "_")]
            if name.startswith("produce"):
                with client.topics[name].get_producer(delivery_reports=name == "produce-reports") as producer:
                    measured(partial(action, producer, messages))
            else:
                # It reads the whole topic: the first message of a batch costs what opening the batch does.
                consumer = client.topics["read"].get_simple_consumer(consumer_timeout_ms=60_000)
                measured(partial(action, consumer, messages))
                consumer.stop()


def measured(action):
    os.getloadavg()
    action()
    os.getloadavg()


def count(folder):
    """Runs the work under callgrind; returns the instructions of each piece."""
    command = ["valgrind", "--tool=callgrind", "--quiet", "--separate-threads=yes", f"--dump-before={MARK}"]
    command += [f"--callgrind-out-file={folder}/costs", sys.executable, __file__, "work", str(MESSAGES), *LIMITS]
    # Hashes decide how long look-ups take.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    run = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=300)
    if run.returncode:
        sys.exit(f"the measured program failed:\n{run.stdout}{run.stderr}")
    # The first file is about the time before the first mark, the second one about the first piece, and so on.
    files = [Path(folder) / f"costs.{2 * (number + 1)}-01" for number in range(len(LIMITS))]
    return [int(re.search(r"^totals: (\d+)$", file.read_text(), re.MULTILINE)[1]) for file in files]


def main():
    """Prints the table; fails if a limit is passed."""
    match sys.argv[1:]:
        case ["work", messages, *names]:
            return work(int(messages), names)
    if not shutil.which("valgrind"):
        sys.exit("valgrind is missing: install it, on Debian with `apt-get install valgrind`")
    passed = []
    with tempfile.TemporaryDirectory() as folder:
        for (name, limit), total in zip(LIMITS.items(), count(folder), strict=True):
            cost = round(total / MESSAGES)
            print(f"{name:15} {cost:6} instructions per message, limit {limit}")
            if cost > limit:
                look = "valgrind --tool=callgrind --callgrind-out-file=target/costs " + sys.executable
                look += f" bench/costs.py work 200000 {name} && callgrind_annotate target/costs"
                passed.append(f"{name} costs {cost - limit} instructions more than its limit. To see where: {look}")
    if passed:
        sys.exit("\n".join(passed))


if __name__ == "__main__":
    main()
