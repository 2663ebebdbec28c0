"""What tests may rely on when they use real Kafka from `tests/kafka`."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

HARNESS = Path(__file__).resolve().parents[2] / "kafka"
API_VERSIONS_REQUEST = struct.pack(">ihhih", 10, 18, 0, 7, -1)
VERSIONS = [version for file in sorted((HARNESS / "versions").iterdir()) for version in file.read_text().split()]


def consume(cluster, topic, count):
    arguments = ["--topic", topic, "--from-beginning", "--max-messages", count]
    return sorted(cluster.tool("console-consumer", *arguments).split())


def is_gone(process_id):
    """Whether a process has ended; one that waits to be reaped has."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until(holds, limit_seconds=120):
    deadline = time.monotonic() + limit_seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so within {limit_seconds} s"
        time.sleep(0.02)


def test_kafkas_own_tools_write_and_read(kafka):
    kafka.create_topic("console", partitions=2, replication_factor=3)
    kafka.tool("console-producer", "--topic", "console", input=b"one\ntwo\n")
    assert consume(kafka, "console", 2) == [b"one", b"two"]


def test_a_topic_gets_its_settings_and_its_replicas(kafka):
    kafka.create_topic("settings", partitions=2, replication_factor=3, settings={"max.message.bytes": 12345})
    assert {0, 1} == set(kafka.describe_topic("settings"))
    assert sorted(kafka.describe_topic("settings")[1]["replicas"]) == [1, 2, 3]
    assert b"max.message.bytes=12345" in kafka.tool("topics", "--describe", "--topic", "settings")


def test_the_log_on_disk_can_be_read(kafka):
    kafka.create_topic("log", replication_factor=3)
    kafka.tool("console-producer", "--topic", "log", input=b"on disk\n")
    assert "payload: on disk" in kafka.dump_log("log", 0)


def test_a_frozen_broker_says_nothing_until_it_is_thawed(kafka):
    host, port = kafka.brokers[2].split(":")
    kafka.freeze(2)
    with socket.create_connection((host, int(port)), 0.3) as connection:
        connection.sendall(API_VERSIONS_REQUEST)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        kafka.thaw(2)
        connection.settimeout(30)
        assert struct.unpack(">i", connection.recv(8, socket.MSG_WAITALL)[4:]) == (7,)
    kafka.wait_ready()


def test_a_killed_broker_comes_back_with_its_address_and_data(kafka):
    kafka.create_topic("killed", replication_factor=1)
    kafka.tool("console-producer", "--topic", "killed", input=b"kept\n")
    leader = kafka.leader("killed", 0)
    host, port = kafka.brokers[leader].split(":")
    kafka.kill(leader)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
    kafka.start(leader)
    assert kafka.leader("killed", 0) == leader
    assert consume(kafka, "killed", 1) == [b"kept"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("kill", 4), "no broker 4"),
        (("start", 1), "runs already"),
        (("dance",), "no such command"),
        (("kill", "x"), "cannot understand"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused_in_words(kafka, kafka_error, words, said):
    with pytest.raises(kafka_error, match=said):
        kafka._command(*words)


def test_the_oldest_kafka_runs_too(start_kafka):
    cluster = start_kafka("0.8.2.2")
    cluster.create_topic("old", partitions=2)
    cluster.tool("console-producer", "--topic", "old", input=b"one\ntwo\n")
    assert consume(cluster, "old", 2) == [b"one", b"two"]


def test_a_broker_that_does_not_start_tells_why(start_kafka, kafka_error):
    with pytest.raises(kafka_error, match="(?s)broker 1 ended by itself.*no number"):
        start_kafka("0.8.2.2", settings={"num.network.threads": "no number"})


def test_a_version_that_cannot_be_fetched_is_refused_and_leaves_nothing():
    fetch = subprocess.run(
        [sys.executable, HARNESS / "kafka.py", "fetch", "--version=9.9.9"], capture_output=True, text=True
    )
    assert fetch.returncode == 1
    assert "Maven could not fetch org.apache.kafka:kafka_2.13:9.9.9" in json.loads(fetch.stdout)["error"]
    assert not [left for left in (HARNESS.parents[1] / ".kafka").glob("*9.9.9*") if left.is_dir()]


def test_closing_ends_every_process_and_removes_every_file(start_kafka):
    cluster = start_kafka("0.8.2.2")
    cluster.close()
    assert all(map(is_gone, cluster.processes.values()))
    assert not cluster.dir.exists()


def test_nothing_is_left_when_the_test_is_killed():
    script = "import json, signal; from kafka_cluster import Cluster; c = Cluster('0.8.2.2'); c.freeze(1)\n"
    script += "print(json.dumps([str(c.dir), c.processes]), flush=True); signal.pause()"
    test = subprocess.Popen([sys.executable, "-c", script], cwd=HARNESS, stdout=subprocess.PIPE)
    folder, processes = json.loads(test.stdout.readline())
    test.kill()
    test.communicate()
    wait_until(lambda: all(map(is_gone, processes.values())) and not Path(folder).exists())


def test_brokers_die_with_a_killed_harness_and_the_next_one_removes_their_data(start_kafka):
    cluster = start_kafka("0.8.2.2")
    cluster.freeze(1)
    os.kill(cluster.processes["harness"], signal.SIGKILL)
    wait_until(lambda: all(map(is_gone, cluster.processes.values())))
    assert cluster.dir.exists()
    start_kafka("0.8.2.2")
    assert not cluster.dir.exists()


def test_a_broker_takes_new_settings_with_a_version_only(kafka):
    with pytest.raises(ValueError, match="broker 1: settings need a version"):
        kafka.start(1, settings={"log.retention.ms": "1"})


@pytest.mark.long
@pytest.mark.parametrize(
    ("version", "zookeeper"),
    # Kafka 3 can run with or without ZooKeeper.
    [(version, False) for version in VERSIONS] + [(version, True) for version in VERSIONS if version[0] == "3"],
)
def test_every_version_loses_and_regains_a_leader(start_kafka, version, zookeeper):
    cluster = start_kafka(version, brokers=3, zookeeper=zookeeper)
    cluster.create_topic("every", partitions=3, replication_factor=3)
    cluster.tool("console-producer", "--topic", "every", input=b"one\ntwo\n")
    leader = cluster.leader("every", 0)
    cluster.kill(leader)
    assert consume(cluster, "every", 2) == [b"one", b"two"]
    cluster.start(leader)
    cluster.stop(leader)
    cluster.start(leader)
    assert any("payload: one" in cluster.dump_log("every", partition) for partition in range(3))
