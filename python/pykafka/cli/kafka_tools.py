"""`kafka-tools`: shows topics, offsets and groups, and changes them.

Exit codes, for scripts: 0 success; 1 failure, described in one line on standard error; 2 wrong usage; 130 after
Ctrl-C.
"""

import argparse
import contextlib
import datetime
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import pykafka
from pykafka import _engine
from pykafka.cli import connecting
from pykafka.common import OffsetType
from pykafka.exceptions import KafkaException, ProtocolClientError, UnicodeException
from pykafka.protocol import CreateTopicRequest, OffsetPartitionResponse
from pykafka.topic import Topic

#: The format of times: UTC, to the second.
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"

#: Kafka's error code for a group that its coordinator does not know.
GROUP_ID_NOT_FOUND = 69

OFFSET_HELP = "earliest, latest, or a time in UTC as YYYY-MM-DDTHH:MM:SS"


class Failure(Exception):
    """A command failed; the text is one sentence."""


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in plain text: numbers right-aligned, a rule below the header. Cells are escaped, because other clients
    choose their names.
    """
    cells = [list(headers), *([_printable(str("-" if cell is None else cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    are_numbers = [
        len(cells) > 1 and all(row[column].lstrip("-").isdigit() or row[column] == "-" for row in cells[1:])
        for column in range(len(headers))
    ]

    def line(row: Sequence[str]) -> str:
        aligned = (
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, are_numbers, strict=True)
        )
        return "  ".join(aligned).rstrip()

    return "\n".join([line(cells[0]), line(["-" * width for width in widths]), *map(line, cells[1:])])


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def find_topic(client: pykafka.KafkaClient, name: str) -> Topic:
    """The topic; it must exist, because looking at it must not create it."""
    topic: Topic | None = client.topics.get(name)
    if topic is None:
        raise Failure(f"there is no topic {name!r}; `kafka-tools print_topics` lists those that exist")
    return topic


def fetch_offsets(
    client: pykafka.KafkaClient, topic: Topic, offset: "str | int | datetime.datetime"
) -> dict[int, OffsetPartitionResponse]:
    """For each partition the offset for `earliest`, `latest` or a time, as in PyKafka 2.8.

    :param offset: as on the command line, or as `Topic.fetch_offset_limits` takes it.
    """
    return topic.fetch_offset_limits(_offset(offset) if isinstance(offset, str) else offset)


def fetch_consumer_lag(client: pykafka.KafkaClient, topic: Topic, consumer_group: str) -> dict[int, tuple[int, int]]:
    """For each partition its end and what the group has committed (-1: nothing), as in PyKafka 2.8."""
    committed = topic.get_simple_consumer(consumer_group, auto_start=False).fetch_offsets()
    ends = topic.latest_available_offsets()
    return {partition: (ends[partition].offset[0], answer.offset) for partition, answer in committed}


def _find_offsets(topic: Topic, offset: "int | datetime.datetime") -> dict[int, int]:
    """For each partition the offset for `earliest`, `latest` or a time; its end if no message is that new."""
    found = topic.fetch_offset_limits(offset)
    if all(answer.offset for answer in found.values()):
        return {partition: answer.offset[0] for partition, answer in found.items()}
    ends = topic.latest_available_offsets()
    return {partition: (answer.offset or ends[partition].offset)[0] for partition, answer in found.items()}


def consume_topic(client: pykafka.KafkaClient, args: argparse.Namespace) -> None:
    """Prints a topic's new messages as text, until the limit is reached."""
    # Standard output is not ours to close.
    with contextlib.nullcontext() if args.outfile is sys.stdout else args.outfile:
        _write_messages(find_topic(client, args.topic), args.limit, args.outfile)


def _write_messages(topic: Topic, limit: int, outfile: TextIO) -> None:
    consumer = topic.get_simple_consumer(
        "pykafka_cli",
        auto_offset_reset=OffsetType.LATEST,
        reset_offset_on_start=True,
        auto_commit_enable=True,
        auto_commit_interval_ms=3000,
    )
    with consumer:
        printed = 0
        while printed < limit:
            message = consumer.consume()
            # As in 2.8, a message without a value is neither printed nor counted.
            if message is not None and message.value:
                outfile.write(message.value.decode("utf-8", errors="replace") + "\n")
                outfile.flush()
                printed += 1


def desc_topic(client: pykafka.KafkaClient, args: argparse.Namespace) -> None:
    """Prints the partitions of a topic, with leaders and replicas."""
    topic = find_topic(client, args.topic)
    partitions = sorted(topic.partitions.values())

    def ids(brokers: list[pykafka.Broker]) -> str:
        return ", ".join(str(broker.id) for broker in brokers)

    print(f"Topic: {topic.name.decode()}")
    print(f"Partitions: {len(partitions)}")
    print(f"Replicas: {len(partitions[0].replicas)}")
    rows = [
        (partition.id, partition.leader.id, ids(partition.replicas), ids(partition.isr)) for partition in partitions
    ]
    print(table(["Partition", "Leader", "Replicas", "ISR"], rows))


def print_managed_consumer_groups(client: pykafka.KafkaClient, args: argparse.Namespace) -> None:
    """Prints the groups that read a topic or have committed offsets for it."""
    topic = find_topic(client, args.topic)
    engine, rows = client.cluster._engine, []
    for group, protocol_type, state, _, _ in _engine.list_groups(engine):
        # The group may be deleted or expire meanwhile.
        lag = _of_group(_engine.group_lag, engine, group) or []
        if any(name == args.topic for name, *_others in lag):
            described = _of_group(_engine.describe_group, engine, group)
            known_state, _, protocol, *_rest = described or (state, None, None)
            rows.append((group, known_state, protocol or None, protocol_type or None))
    print(f"Topic: {topic.name.decode()}")
    print(table(["GroupId", "State", "Protocol", "ProtocolType"], rows))


def _of_group(ask: Any, engine: _engine.Client, group: str) -> Any:
    """The result for a group; None if its coordinator does not know it, or not as a classic group."""
    try:
        return ask(engine, group)
    except ProtocolClientError as error:
        if error.ERROR_CODE != GROUP_ID_NOT_FOUND:
            raise
        return None


def print_consumer_lag(client: pykafka.KafkaClient, args: argparse.Namespace) -> None:
    """Prints the lag of a group in each partition of a topic, and in total."""
    topic = find_topic(client, args.topic)
    ends = topic.latest_available_offsets()
    known = {
        partition: (committed, end, member)
        for name, partition, committed, end, member in _engine.group_lag(client.cluster._engine, args.consumer_group)
        if name == args.topic
    }
    rows: list[tuple[int, int | None, int | None, int | None, str | None, str | None]] = []
    for partition in sorted(topic.partitions):
        committed, end, member = known.get(partition, (None, ends[partition].offset[0], None))
        lag = None if committed is None or end is None else max(end - committed, 0)
        rows.append((partition, lag, end, committed, *(member or (None, None))))
    headers = ["Partition", "Lag", "Latest Offset", "Current Offset", "Consumer_ID", "Client_ID"]
    print(table(headers, rows))
    print(f"Total lag: {sum(row[1] or 0 for row in rows)} messages.")


def print_offsets(client: pykafka.KafkaClient, args: argparse.Namespace) -> None:
    """Prints an offset of each partition of a topic."""
    offsets = _find_offsets(find_topic(client, args.topic), args.offset)
    print(table(["Partition", "Offset"], sorted(offsets.items())))


def print_topics(client: pykafka.KafkaClient, args: argparse.Namespace) -> None:
    """Prints all topics with their number of partitions and replicas."""
    topics = sorted(client.topics.values(), key=lambda topic: topic.name)
    rows = [
        (topic.name.decode(), len(topic.partitions), len(topic.partitions[0].replicas))
        for topic in topics
        if topic.partitions
    ]
    print(table(["Topic", "Partitions", "Replication"], rows))


def reset_offsets(client: pykafka.KafkaClient, args: argparse.Namespace) -> None:
    """Moves the committed offsets of a group for a topic; the group must have no live members."""
    offsets = _find_offsets(find_topic(client, args.topic), args.offset)
    client.cluster._engine.commit_offsets(
        args.consumer_group, args.topic, [(partition, offset, "") for partition, offset in offsets.items()]
    )
    print(table(["Partition", "Offset"], sorted(offsets.items())))


def create_topic(client: pykafka.KafkaClient, args: argparse.Namespace) -> None:
    """Creates a topic."""
    assigned = sorted(args.replica_assignment.items())
    request = CreateTopicRequest(
        args.topic.encode(),
        -1 if assigned else args.num_partitions,
        -1 if assigned else args.replication_factor,
        assigned,
        args.config_entries,
    )
    _any_broker(client).create_topics([request], args.timeout)
    _wait_until_known(client, args.topic, args.timeout / 1e3)


def _wait_until_known(client: pykafka.KafkaClient, name: str, seconds: float) -> None:
    """Waits until every broker lists a new topic, so that the next command finds it, whichever broker it asks."""
    ends = time.monotonic() + seconds
    # A broker that cannot be asked does not undo the creation.
    with contextlib.suppress(KafkaException):
        while time.monotonic() < ends:
            if all(name.encode() in broker.request_metadata().topics for broker in client.brokers.values()):
                return
            time.sleep(0.05)


def delete_topic(client: pykafka.KafkaClient, args: argparse.Namespace) -> None:
    """Deletes a topic and all its messages."""
    find_topic(client, args.topic)
    _any_broker(client).delete_topics([args.topic], args.timeout)


def _any_broker(client: pykafka.KafkaClient) -> pykafka.Broker:
    # The request goes to the controller, whichever broker object is used.
    return next(iter(client.brokers.values()))


def _offset(text: str) -> "int | datetime.datetime":
    ends = {"earliest": OffsetType.EARLIEST, "latest": OffsetType.LATEST}
    if text.lower() in ends:
        return ends[text.lower()]
    try:
        return datetime.datetime.strptime(text, TIME_FORMAT)
    except ValueError:
        raise argparse.ArgumentTypeError(f"give {OFFSET_HELP}, not {text!r}") from None


def _count(text: str) -> int:
    """A number of partitions or replicas; -1 leaves it to the cluster."""
    if text == "-1":
        return -1
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"give a number from 1, or -1 for the cluster's default, not {text!r}")
    return int(text)


def _milliseconds(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"give a number of milliseconds, not {text!r}")
    return int(text)


def _outfile(path: str) -> TextIO:
    if path == "-":
        return sys.stdout
    try:
        return open(path, "w", encoding="utf-8")
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write to {path}: {error.strerror}") from None


def _json_object(text: str) -> dict[str, Any]:
    try:
        made = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"this is not JSON: {error}") from None
    if not isinstance(made, dict):
        raise argparse.ArgumentTypeError("give a JSON object")
    return made


def _assignment(text: str) -> dict[int, list[int]]:
    try:
        return {
            int(partition): [int(broker) for broker in brokers] for partition, brokers in _json_object(text).items()
        }
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(
            'give the brokers of each partition, as in {"0": [1, 2], "1": [2, 3]}'
        ) from None


def _config_entries(text: str) -> list[tuple[str, str]]:
    made = _json_object(text).items()
    return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in made]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kafka-tools",
        description="Shows and changes topics, offsets and groups of a Kafka cluster.",
        epilog="Exit codes: 0 success, 1 failure, 2 wrong usage, 130 after Ctrl-C.",
    )
    connecting.add_options(parser)
    parser.add_argument("-o", "--broker_version", default="0.9.0", help="accepted and ignored: versions are negotiated")
    commands = parser.add_subparsers(title="Commands", metavar="COMMAND")

    def command(function: Any, *arguments: str) -> argparse.ArgumentParser:
        added = commands.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
        added.set_defaults(func=function)
        for name in arguments:
            if name == "offset":
                added.add_argument(name, metavar="OFFSET", type=_offset, help=OFFSET_HELP)
            else:
                added.add_argument(name, metavar=name.upper())
        return added

    added = command(consume_topic, "topic")
    added.add_argument("-l", "--limit", type=int, default=10, help="how many messages to wait for (%(default)s)")
    added.add_argument(
        "-o", "--outfile", type=_outfile, default=sys.stdout, help="where to write them (standard output)"
    )
    command(desc_topic, "topic")
    command(print_managed_consumer_groups, "topic")
    command(print_consumer_lag, "topic", "consumer_group")
    command(print_offsets, "topic", "offset")
    command(print_topics)
    command(reset_offsets, "topic", "consumer_group", "offset")
    added = command(create_topic, "topic")
    default = "-1: as the cluster is set up (%(default)s)"
    _add_timeout(added)
    added.add_argument("-p", "--num_partitions", type=_count, default=1, help=f"how many partitions; {default}")
    added.add_argument("-r", "--replication_factor", type=_count, default=1, help=f"how many replicas; {default}")
    added.add_argument(
        "-a",
        "--replica_assignment",
        type=_assignment,
        default={},
        help='the brokers of each partition, instead of -p and -r: {"0": [1, 2], "1": [2, 3]}',
    )
    added.add_argument(
        "-c", "--config_entries", type=_config_entries, default=[], help='settings: {"retention.ms": 3600000}'
    )
    _add_timeout(command(delete_topic, "topic"))
    return parser


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    text = "how long the controller may take before it answers, in milliseconds (%(default)s)"
    parser.add_argument("-t", "--timeout", type=_milliseconds, default=5000, help=text)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"kafka-tools: warning: {connecting.in_options(str(message))}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command in `argv`, or in the process's arguments, and returns the exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    if "func" not in args:
        parser.print_help()
        return 0
    try:
        connection = connecting.arguments(args)
    except ValueError as error:
        parser.error(str(error))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = _show_warning
            try:
                client = pykafka.KafkaClient(broker_version=args.broker_version, **connection)
            except ValueError as error:
                parser.error(connecting.in_options(str(error)))
        args.func(client, args)
        sys.stdout.flush()
    except (Failure, KafkaException, UnicodeException, ValueError) as error:
        print(f"kafka-tools: {connecting.in_options(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # A reader such as `head` has seen enough. Python would complain again when it closes the output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
