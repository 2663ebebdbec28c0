"""A million messages of 100 bytes each way, compared with confluent-kafka: `make bench-quick`, or with `TLS=1`.

Rounds alternate between the clients, and every run is a separate process (`bench/one.py`), pinned to the first CPU,
with the brokers on the last one. The speed of a machine changes between runs: only ratios within one round are
meaningful.

confluent-kafka runs with its best known settings: idempotent, `fetch.queue.backoff.ms=1`, `consume(1000)`. Both
consumers read the same topic, which confluent-kafka has written.

What was measured goes to `quick.json` or `quick-tls.json` in `bench/results/`; from both `make bench-report` writes the
section TLS of docs/performance.md.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests" / "kafka"))

import clients  # noqa: E402 - as those below, after the line that finds the first of them
import versions_of  # noqa: E402
from kafka_cluster import LATEST_3, Cluster  # noqa: E402
from plot import RESULTS  # noqa: E402
from run import machine  # noqa: E402

CLIENTS = ("pykafka", "confluent")
CPUS = sorted(os.sched_getaffinity(0))
BROKER_CPU, CLIENT_CPU = CPUS[-1], CPUS[0]


@contextmanager
def real_kafka(version, tls=False):
    """Yields the address of a single broker of Apache Kafka and a function that creates topics there."""
    # The harness is tuned for brokers that start fast; here they must run fast.
    options = {"heap_mib": 1024, "java_options": ["-XX:TieredStopAtLevel=4"]}
    with Cluster(version, brokers=1, secure=tls, **options) as cluster:
        create_topic = partial(cluster.create_topic, partitions=3, replication_factor=1)
        if tls:
            os.environ["BENCH_CA"] = cluster.security["ca"]
            yield cluster.secure_listeners["SSL"], create_topic
        else:
            yield cluster.bootstrap, create_topic


@contextmanager
def embedded_broker(brokers=1, tls=False):
    """Yields the address of the embedded broker in a separate process; it creates topics on first use."""
    kavka = ROOT / "target" / "release" / "kavka"
    subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "kavka-cli"], cwd=ROOT, check=True)
    command = [kavka, "broker", "--port", "0", "--partitions", "3", "--brokers", str(brokers)]
    folder = tempfile.TemporaryDirectory()
    if tls:
        os.environ["BENCH_CA"] = str(Path(folder.name) / "ca.pem")
        command += ["--tls", os.environ["BENCH_CA"]]
    with folder, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()[-1], lambda topic: None
        finally:
            process.terminate()


def measure(client, action, bootstrap, topic, *numbers, cpus=(CLIENT_CPU,)):
    """Runs one client once, and returns its measurements."""
    command = [sys.executable, ROOT / "bench" / "one.py", client, action, bootstrap, topic, *map(str, numbers)]
    pin = partial(os.sched_setaffinity, 0, cpus)
    run = subprocess.run(command, check=False, capture_output=True, text=True, preexec_fn=pin)
    if run.returncode:
        sys.exit(f"{client} {action} failed:\n{run.stderr}")
    return json.loads(run.stdout)


def compare(bootstrap, create_topic, rounds, count):
    """Prints the table for one broker, and returns what each client needed for each action, by round."""
    measured = []
    row = "| {:8} | {:5} | {:>9} | {:>9} | {:>5} | {:>7} | {:>7} | {:>5} | {:>6} | {:>6} |"
    print(row.format("", "round", "k msg/s", "confluent", "ratio", "CPU us", "confl.", "ratio", "MiB", "confl."))
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for number in range(1, rounds + 1):
        measured.append({})
        for action in ("produce", "consume"):
            order = CLIENTS if number % 2 else CLIENTS[::-1]
            results = {}
            for client in order:
                topic = f"{client if action == 'produce' else 'confluent'}-{number}"
                if action == "produce":
                    create_topic(topic)
                results[client] = measure(client, action, bootstrap, topic, count)
            measured[-1][action] = results
            ours, theirs = (results[client] for client in CLIENTS)
            rates = [count / result["seconds"] / 1e3 for result in (ours, theirs)]
            cpus = [result["cpu_seconds"] / count * 1e6 for result in (ours, theirs)]
            memory = [result["peak_mib"] for result in (ours, theirs)]
            rate_ratio, cpu_ratio = f"{rates[0] / rates[1]:.2f}", f"{cpus[1] / cpus[0]:.2f}"
            figures = [f"{rates[0]:.0f}", f"{rates[1]:.0f}", rate_ratio, f"{cpus[0]:.3f}", f"{cpus[1]:.3f}", cpu_ratio]
            print(row.format(action, number, *figures, *(f"{mib:.0f}" for mib in memory)), flush=True)
    return measured


def main():
    """Measures on real Kafka, then on the embedded broker."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="messages per run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--version", default=LATEST_3, help="of Apache Kafka")
    parser.add_argument("--tls", action="store_true", help="let all brokers speak TLS")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder for the JSON file")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {BROKER_CPU})
    print(
        f"Python {platform.python_version()}, {platform.machine()}, clients on CPU {CLIENT_CPU}, broker on {BROKER_CPU}"
    )
    print("A ratio above 1 is in favour of pykafka. CPU: user and system time of the client process per message.")
    brokers = {
        f"Apache Kafka {arguments.version}": real_kafka(arguments.version, arguments.tls),
        "embedded broker": embedded_broker(tls=arguments.tls),
    }
    suffix = ", TLS" if arguments.tls else ""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    versions = versions_of.clients([clients.CLIENTS[name] for name in CLIENTS])
    result = {"date": now, "machine": machine(), "versions": versions, "count": arguments.count, "brokers": {}}
    for name, broker in brokers.items():
        print(f"\n{name}, {arguments.count:,} messages of 100 bytes, 3 partitions, acks=all{suffix}\n")
        with broker as (bootstrap, create_topic):
            result["brokers"][name] = compare(bootstrap, create_topic, arguments.rounds, arguments.count)
    arguments.results.mkdir(exist_ok=True, parents=True)
    file = arguments.results / f"quick{'-tls' if arguments.tls else ''}.json"
    file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
