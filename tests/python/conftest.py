"""Fixtures of the tests that need no real Kafka: a broker in memory, and topics on it that nobody else uses."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pykafka
import pykafka.testing
import pytest

_numbers = itertools.count()

# A shell ignores these in the jobs it runs in the background, and so would every program that a test starts and
# interrupts. A signal that has a handler here has the default handling there; here it stays without effect.
for _number in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


@pytest.fixture(scope="session")
def shared_broker():
    """A cluster of three brokers for tests that only read and write their own topics."""
    with pykafka.testing.Broker(brokers=3, partitions=3) as broker:
        yield broker


@pytest.fixture
def bootstrap(shared_broker):
    """Its addresses."""
    return shared_broker.bootstrap_servers


@pytest.fixture
def client(bootstrap):
    """A client of the shared broker."""
    return pykafka.KafkaClient(bootstrap)


@pytest.fixture
def topic(client, shared_broker):
    """A new topic of three partitions."""
    name = f"topic-{next(_numbers)}"
    shared_broker.create_topic(name, partitions=3, replication_factor=3)
    return client.topics[name]


@pytest.fixture
def lone_topic(client, shared_broker):
    """A new topic of one partition."""
    name = f"topic-{next(_numbers)}"
    shared_broker.create_topic(name, partitions=1)
    return client.topics[name]


@pytest.fixture
def own_broker():
    """A broker that the test may stop or make misbehave."""
    with pykafka.testing.Broker() as broker:
        yield broker


@pytest.fixture
def remote_broker():
    """The address of a broker in a process of its own, whose threads and memory are not ours."""
    program = (
        "import sys; from pykafka.testing import Broker; b = Broker(); print(b.bootstrap_servers); sys.stdin.read()"
    )
    command = [sys.executable, "-u", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()


@pytest.fixture
def run_python():
    """Runs a program in a process of its own and returns what became of it.

    With `meanwhile` the program says that it is ready by a line; then that is called, and the program gets a line.
    """

    def run(program, *arguments, timeout=60, meanwhile=None):
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *map(str, arguments)]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        environment = os.environ | {"PYTHONFAULTHANDLER": "1"}
        folder = Path(__file__).parent
        with subprocess.Popen(command, **pipes, text=True, cwd=folder, env=environment) as process:
            try:
                if meanwhile is not None:
                    process.stdout.readline()
                    meanwhile()
                stdout, stderr = process.communicate("\n", timeout)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    return run
