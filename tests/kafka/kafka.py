#!/usr/bin/env python3
"""Real Apache Kafka for tests: fetches any version from 0.8.2.2 on, starts and breaks brokers, and removes everything.

    python3 tests/kafka/kafka.py run --brokers 3
    python3 tests/kafka/kafka.py fetch --version 3.9.2

`run` prints one line of JSON when the cluster is ready (or `{"error": ...}`), then obeys the commands on its stdin.
It ends, and removes processes and data, at the end of its stdin, when the process that started it ends, and on
SIGTERM, SIGINT and SIGHUP. From Python use `kafka_cluster.Cluster`, from Rust the crate `kavka-test-kafka`.
"""

import argparse
import json
import os
import signal
import sys

from harness import HarnessError, artifacts, commands
from harness.cluster import Cluster, Options
from harness.processes import NobodyWaits, Waiter


def main():
    """Returns the exit code."""
    arguments = _arguments()
    try:
        if arguments.do == "fetch":
            print(artifacts.broker_jars(arguments.version))
            if artifacts.parse_version(arguments.version) >= (3, 0):
                artifacts.tool_jars(artifacts.tools_version(arguments.version))
            return 0
        return _run(arguments)
    except HarnessError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    except (NobodyWaits, BrokenPipeError, KeyboardInterrupt):
        # Nobody reads stdout any more: keep Python from flushing it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments):
    by_hand = sys.stdin.isatty()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    waiter = Waiter(watch_parent=not by_hand and not arguments.detached, watch_stdin=not arguments.detached)
    settings = dict(setting.split("=", 1) for setting in arguments.set)
    options = Options(
        version=arguments.version,
        brokers=arguments.brokers,
        zookeeper=arguments.zookeeper,
        settings=settings,
        heap_mib=arguments.heap,
        java_options=arguments.java_option,
        limit_seconds=arguments.limit,
        secure=arguments.secure,
        gssapi=arguments.gssapi,
        proxied=arguments.proxied,
    )
    cluster = Cluster(options, waiter)
    try:
        cluster.start()
        print(json.dumps(commands.describe(cluster)), flush=True)
        if by_hand:
            print(f"\nbootstrap: {cluster.bootstrap}\nCtrl-C ends it. {commands.USAGE}", file=sys.stderr, flush=True)
        while True:
            print(json.dumps(commands.answer(cluster, waiter.read_line())), flush=True)
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        cluster.close()


def _arguments():
    parser = argparse.ArgumentParser(description="Real Apache Kafka for tests.")
    verbs = parser.add_subparsers(dest="do", required=True)
    fetch = verbs.add_parser(
        "fetch", help="fetch the jars of a version and of its tools, and print the folder of the former"
    )
    run = verbs.add_parser(
        "run", help="run a cluster", epilog=commands.USAGE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for verb in (fetch, run):
        verb.add_argument("--version", default=artifacts.LATEST, help="0.8.2.2 or newer (default: %(default)s)")
    run.add_argument("--brokers", type=int, default=1, help="how many (default: %(default)s)")
    run.add_argument(
        "--zookeeper", action="store_true", help="ZooKeeper mode where both exist, 3.3 to 3.9; older ones always use it"
    )
    run.add_argument(
        "--secure",
        action="store_true",
        help="add listeners with TLS and SASL; the line of JSON has their addresses, certificates and users",
    )
    run.add_argument("--gssapi", action="store_true", help="as --secure, and a Kerberos server for GSSAPI")
    run.add_argument(
        "--proxied",
        action="store_true",
        help="add a listener that advertises another port, for a proxy; not together with --secure",
    )
    run.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a broker setting, over the harness's own"
    )
    run.add_argument("--heap", type=int, default=256, metavar="MIB", help="heap of each broker (default: %(default)s)")
    run.add_argument(
        "--java-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="for the brokers' Java, like -XX:TieredStopAtLevel=4 for measurements",
    )
    run.add_argument(
        "--limit", type=float, default=120, metavar="SECONDS", help="longest wait for anything (default: %(default)s)"
    )
    run.add_argument("--detached", action="store_true", help="take no commands and run until a signal comes")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
