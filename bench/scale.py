"""The cost of many topics and many partitions, and of a flood of large messages, compared with confluent-kafka.

`make bench-topics`, `make bench-partitions`, `make bench-flood` and `make bench-objects` run it.

`topics`: one client writes messages of 100 bytes with one PyKafka producer for each topic, message by message in turn
as programs do, and 10 and 100 messages at a time. All rows but the first have the same number of partitions, and write
to them in the same order, so they have equal batches, and only the number of topics differs. The first row has a single
partition, so its batches are as large as they can be. The last rows do the same with delivery reports, which are read.
Runs on Apache Kafka. Both clients write to the same topics, to every partition of which a process that is not measured
has written once: the broker needs several times as long for its first write to a partition. The last row, `cold`, shows
that: each run of it has new topics. The clients take turns in being first, and a row shows the best run of each.

`partitions`: one consumer reads the same number of messages from 10, 1,000 and 10,000 partitions of one topic, in
batches of 100; then it waits for 10 seconds, and its CPU time is measured. Runs on three embedded brokers, whose cost
per partition is small: this measures the client, not Kafka.

`flood`: synchronous `produce` calls, one after the other, while another producer of the same client writes messages of
1 MB compressed with gzip as fast as it can (with confluent-kafka: another `Producer`, because all topics of one share
their codec). Shows how long a call takes. Client and broker may use every CPU.

`objects`: one client has a producer for each of 1,000 topics and then 100 consumers, too; all have worked, and idle for
10 seconds. Shows the threads, descriptors and memory of the process, and its CPU time while it idles. The broker is
embedded.

As in `bench/quick.py`, every run is a separate process, with clients on the first CPU and brokers on the last, and only
ratios within one run of this program are meaningful.
"""

import argparse
import os
import platform
import sys

from quick import BROKER_CPU, CLIENT_CPU, CLIENTS, CPUS, LATEST_3, embedded_broker, measure, real_kafka

ROW = "| {:>9} | {:>10} | {:>9} | {:>9} | {:>6} | {:>8} | {:>9} | {:>6} |"
RULE = "|---:|---|---:|---:|---:|---:|---:|---:|"


def create_topics(bootstrap, partitions_by_name):
    """Creates topics with one request, and waits until they exist."""
    from confluent_kafka.admin import AdminClient, NewTopic

    topics = [NewTopic(name, partitions, 1) for name, partitions in partitions_by_name.items()]
    # The futures end with their client.
    client = AdminClient({"bootstrap.servers": bootstrap})
    for future in client.create_topics(topics, operation_timeout=60).values():
        future.result()


def row(count, what, results, per):
    """Prints what the clients used for one piece of work, `per` this many messages or seconds."""
    ours, theirs = (results[client] for client in CLIENTS)
    seconds = [result["seconds"] for result in (ours, theirs)]
    cpus = [result["cpu_seconds"] / per * 1e6 for result in (ours, theirs)]
    figures = [f"{seconds[0]:.2f}", f"{seconds[1]:.2f}", f"{seconds[1] / seconds[0]:.2f}"]
    figures += [f"{cpus[0]:.2f}", f"{cpus[1]:.2f}", f"{cpus[1] / cpus[0]:.2f}"]
    print(ROW.format(count, what, *figures), flush=True)
    return cpus


def head(what):
    """Prints the header of a table."""
    print(ROW.format(what, "", "s", "confluent", "ratio", "us CPU", "confluent", "ratio"))
    print(RULE)


def growth(cpus):
    """Prints the cost of the largest number relative to the smallest."""
    for index, client in enumerate(CLIENTS):
        print(f"{client}: {cpus[-1][index] / cpus[0][index]:.2f} times the CPU time per message of the first of these")


def topics(arguments):
    """Many producers of one client."""
    print(f"Apache Kafka {arguments.version}, {arguments.count:,} messages of 100 bytes, acks=all\n")
    most = max(arguments.topics)
    shapes = [(1, 1), *((count, most // count) for count in arguments.topics)]
    with real_kafka(arguments.version) as (bootstrap, _):
        for count, partitions in shapes:
            name = create_shape(bootstrap, "warm", count, partitions)
            measure("confluent", "produce_topics", bootstrap, name, most, count, partitions, 1, 0)
        for burst in arguments.bursts:
            head("topics")
            what = f"by {burst}" if burst > 1 else "in turn"
            cpus = [cost(bootstrap, arguments, shape, what, burst) for shape in shapes]
            growth(cpus[1:])
            for shape in (shapes[0], shapes[-1]):
                cost(bootstrap, arguments, shape, f"r. {what}", burst, reports=True)
            print()
        head("topics")
        cost(bootstrap, arguments, shapes[-1], "cold", 1, is_cold=True)


def create_shape(bootstrap, prefix, count, partitions):
    """Creates `count` topics; returns what their names begin with."""
    name = f"{prefix}-{count}-{partitions}"
    create_topics(bootstrap, {f"{name}-{number}": partitions for number in range(count)})
    return name


def cost(bootstrap, arguments, shape, what, burst, reports=False, is_cold=False):
    """Measures one row; returns the CPU time per message of each client."""
    (count, partitions), results = shape, {}
    for number in range(arguments.rounds):
        for client in CLIENTS[::-1] if number % 2 else CLIENTS:
            name = f"warm-{count}-{partitions}"
            if is_cold:
                name = create_shape(bootstrap, f"cold-{number}-{client}", count, partitions)
            work = (name, arguments.count, count, partitions, burst, int(reports))
            result = measure(client, "produce_topics", bootstrap, *work)
            best = results.setdefault(client, result)
            results[client] = {figure: min(best[figure], result[figure]) for figure in best}
    return row(f"{count:,}x{partitions:,}", what, results, arguments.count)


def flood(arguments):
    """Synchronous calls beside a flood of large messages."""
    line = "| {:9} | {:>9} | {:>9} | {:>9} |"
    print(f"Apache Kafka {arguments.version}, {arguments.count:,} synchronous calls\n")
    print(line.format("ms", "median", "99 %", "longest"))
    print("|---|---:|---:|---:|")
    with real_kafka(arguments.version) as (bootstrap, _):
        create_topics(bootstrap, {f"{client}{suffix}": 1 for client in CLIENTS for suffix in ("", "-flood")})
        for client in CLIENTS:
            result = measure(client, "flood", bootstrap, client, arguments.count, cpus=CPUS)
            print(line.format(client, *(f"{result[name]:.1f}" for name in ("median", "p99", "max"))), flush=True)


def partitions(arguments):
    """One consumer of many partitions."""
    print(f"three embedded brokers, {arguments.count:,} messages of 100 bytes in batches of 100\n")
    with embedded_broker(brokers=3) as (bootstrap, _):
        head("partitions")
        cpus = []
        for number, count in enumerate(arguments.partitions):
            topic = f"p-{count}"
            create_topics(bootstrap, {topic: count})
            measure("confluent", "fill", bootstrap, topic, arguments.count, count)
            order = CLIENTS if number % 2 else CLIENTS[::-1]
            results = {client: measure(client, "consume", bootstrap, topic, arguments.count) for client in order}
            cpus.append(row(f"{count:,}", "read", results, arguments.count))
        growth(cpus)
        for count in arguments.partitions:
            topic = f"e-{count}"
            create_topics(bootstrap, {topic: count})
            for client in CLIENTS:
                result = measure(client, "idle", bootstrap, topic, 10)
                share = result["cpu_seconds"] / result["seconds"] * 100
                print(f"{client}: {share:.2f} % of a core while nothing comes from {count:,} partitions", flush=True)


def objects(arguments):
    """Many producers and consumers of one client, which idle."""
    import pykafka.testing

    line = "| {:>9} | {:>9} | {:>7} | {:>11} | {:>8} | {:>10} |"
    print(line.format("producers", "consumers", "threads", "descriptors", "peak MiB", "idle CPU %"))
    print("|---:|---:|---:|---:|---:|---:|")
    seconds, (producers, consumers) = 10, (arguments.producers, arguments.consumers)
    with pykafka.testing.Broker() as broker:
        for shape in ((1, 0), (producers, 0), (producers, consumers)):
            result = measure("pykafka", "objects", broker.bootstrap_servers, "o", seconds, *shape)
            idle = result["cpu_seconds"] / result["seconds"] * 100
            counts = (result["threads"], result["descriptors"], f"{result['peak_mib']:.0f}", f"{idle:.2f}")
            print(line.format(*shape, *counts), flush=True)


def main():
    """Measures one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("topics")
    verb.set_defaults(run=topics)
    verb.add_argument("--count", type=int, default=400_000, help="messages per run")
    verb.add_argument("--topics", type=int, nargs="+", default=[1, 100, 1000])
    verb.add_argument("--bursts", type=int, nargs="+", default=[1, 10, 100], help="messages to a topic at a time")
    verb.add_argument("--rounds", type=int, default=2, help="runs of each client")
    verb.add_argument("--version", default=LATEST_3, help="of Apache Kafka")
    verb = verbs.add_parser("flood")
    verb.set_defaults(run=flood)
    verb.add_argument("--count", type=int, default=300, help="synchronous calls")
    verb.add_argument("--version", default=LATEST_3, help="of Apache Kafka")
    verb = verbs.add_parser("partitions")
    verb.set_defaults(run=partitions)
    verb.add_argument("--count", type=int, default=1_000_000, help="messages per run")
    verb.add_argument("--partitions", type=int, nargs="+", default=[10, 1000, 10_000])
    verb = verbs.add_parser("objects")
    verb.set_defaults(run=objects)
    verb.add_argument("--producers", type=int, default=1_000)
    verb.add_argument("--consumers", type=int, default=100)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, CPUS if arguments.run is flood else {BROKER_CPU})
    print(
        f"Python {platform.python_version()}, {platform.machine()}, clients on CPU {CLIENT_CPU}, broker on {BROKER_CPU}"
    )
    if arguments.run is not objects:
        print("A ratio above 1 is in favour of pykafka. CPU: user and system time of the client process per message.")
    arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
