#!/usr/bin/env python3
"""Captures what brokers before Kafka 0.11 store after compaction, and what they answer to fetches; see README.md.

    python3 crates/core/tests/data/message_sets/capture.py

Overwrites `VERSION-compacted-CODEC.log` and `VERSION-fetch-CASE.answer` in this folder. It speaks to the brokers in raw
bytes, and no client of ours takes part.
"""

import socket
import struct
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[4] / "tests" / "kafka"))

from kafka_cluster import Cluster  # noqa: E402 - found by the line above

#: The versions, and the version of Fetch that each of them has.
VERSIONS = {"0.8.2.2": 0, "0.9.0.1": 1, "0.10.0.1": 2}
#: How many bytes each case asks for. The first three messages have about 90 bytes each.
CASES = {"whole": 100_000, "partial": 200, "oversized": 50}
LIMIT_SECONDS = 120


def main():
    """Captures everything from one version after the other."""
    for version, fetch_version in VERSIONS.items():
        settings = {"log.cleaner.enable": "true", "log.cleaner.backoff.ms": 500}
        with Cluster(version, settings=settings) as cluster:
            for codec in ("none", "gzip"):
                (HERE / f"{version}-compacted-{codec}.log").write_bytes(compact(cluster, codec))
            capture_fetches(cluster, fetch_version)


def capture_fetches(cluster, fetch_version):
    """Writes the answers to all cases."""
    cluster.create_topic("fetched")
    plain = [f"key-{number}:message {number} of a log that is fetched in parts, 1 of 3" for number in range(3)]
    write(cluster, "fetched", "none", plain)
    again = [f"key-{number}:a compressed message, a compressed message" for number in (3, 4)]
    write(cluster, "fetched", "gzip", again)
    for case, max_bytes in CASES.items():
        answer = fetch(cluster, fetch_version, "fetched", max_bytes)
        (HERE / f"{cluster.version}-fetch-{case}.answer").write_bytes(answer)


def compact(cluster, codec):
    """The first segment of a log in which compaction has left gaps, also inside compressed messages."""
    topic = f"compacted-{codec}"
    settings = {"cleanup.policy": "compact", "segment.bytes": 1_000, "min.cleanable.dirty.ratio": 0.01}
    cluster.create_topic(topic, settings=settings)
    segment = cluster.log_dir(1) / f"{topic}-0" / f"{0:020}.log"
    # Keys 1 and 3 come again, so their first messages go; those of 0, 2 and 4 stay.
    write(cluster, topic, codec, [f"key-{number}:first value of key {number}, well well well" for number in range(5)])
    write(cluster, topic, codec, [f"key-{number}:second value of key {number}" for number in (1, 3)])
    before = segment.read_bytes()
    # Only segments that are full are compacted.
    deadline = time.monotonic() + LIMIT_SECONDS
    filler = 0
    while segment.read_bytes()[: len(before)] == before:
        if time.monotonic() > deadline:
            sys.exit(f"{topic} was not compacted within {LIMIT_SECONDS} s")
        write(cluster, topic, "none", [f"filler-{filler}:{'x' * 900}"])
        filler += 1
    return segment.read_bytes()


def write(cluster, topic, codec, lines):
    """Writes lines of key and value with the console producer."""
    options = ["--property", "parse.key=true", "--property", "key.separator=:", "--request-required-acks", "-1"]
    text = "".join(line + "\n" for line in lines).encode()
    cluster.tool("console-producer", "--topic", topic, "--compression-codec", codec, *options, input=text)


def fetch(cluster, version, topic, max_bytes):
    """The body of the answer to a Fetch of partition 0 from its beginning."""
    name = struct.pack(">h", len(topic)) + topic.encode()
    body = struct.pack(">iiii", -1, 1_000, 1, 1) + name + struct.pack(">iiqi", 1, 0, 0, max_bytes)
    # Without a client id, Kafka 0.9 answers with an error, because its quotas need one.
    frame = struct.pack(">hhih", 1, version, 1, len("capture")) + b"capture" + body
    host, port = cluster.bootstrap.split(":")
    with socket.create_connection((host, int(port)), LIMIT_SECONDS) as connection:
        connection.sendall(struct.pack(">i", len(frame)) + frame)
        (size,) = struct.unpack(">i", read(connection, 4))
        return read(connection, size)[4:]


def read(connection, size):
    """So many bytes of a connection."""
    data = b""
    while len(data) < size:
        if not (chunk := connection.recv(size - len(data))):
            sys.exit("the broker closed the connection in the middle of its answer")
        data += chunk
    return data


if __name__ == "__main__":
    main()
