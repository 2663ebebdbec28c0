"""What a message costs this client on an old Kafka, compared with a new one: `make bench-versions`.

Old brokers need message sets: the producer converts its batches, and the consumer checks a CRC for each message. Rounds
alternate between the versions, and every run is a separate process (`bench/one.py`), pinned to the first CPU, with the
brokers on the last one. Only ratios within one round are meaningful.
"""

import argparse
import os
import statistics
from contextlib import ExitStack

from quick import BROKER_CPU, LATEST_3, measure, real_kafka


def main():
    """Prints the table, and the median of the ratios for each action."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="messages per run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--old", default="0.9.0.1", help="the old version of Apache Kafka")
    parser.add_argument("--new", default=LATEST_3, help="the new one")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {BROKER_CPU})
    versions = (arguments.old, arguments.new)
    print(f"{arguments.count:,} messages of 100 bytes, 3 partitions, acks=all, no compression.")
    print("CPU: user and system time of the client process, in microseconds per message.\n")
    row = "| {:8} | {:>5} | {:>8} | {:>8} | {:>5} |"
    print(row.format("", "round", *versions, "ratio"))
    print("|---|---:|---:|---:|---:|")
    ratios = {"produce": [], "consume": []}
    with ExitStack() as stack:
        brokers = {version: stack.enter_context(real_kafka(version)) for version in versions}
        for number in range(1, arguments.rounds + 1):
            for action, known in ratios.items():
                cpu = {}
                for version in versions if number % 2 else versions[::-1]:
                    bootstrap, create_topic = brokers[version]
                    if action == "produce":
                        create_topic(f"round-{number}")
                    run = measure("pykafka", action, bootstrap, f"round-{number}", arguments.count)
                    cpu[version] = run["cpu_seconds"] / arguments.count * 1e6
                known.append(cpu[arguments.old] / cpu[arguments.new])
                figures = [f"{cpu[version]:.3f}" for version in versions]
                print(row.format(action, number, *figures, f"{known[-1]:.2f}"), flush=True)
    for action, known in ratios.items():
        print(f"\n{action}: {statistics.median(known):.2f} times the CPU time of {arguments.new} (median)", end="")
    print()


if __name__ == "__main__":
    main()
