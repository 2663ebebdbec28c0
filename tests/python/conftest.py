"""Fixtures of the tests that need no real Kafka: an in-memory broker, and topics on it that nobody else uses."""

import importlib.util
import io
import itertools
import logging
import os
import queue
import signal
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import canaries
import pykafka
import pykafka.testing
import pytest

_numbers = itertools.count()

# A shell ignores these signals in background jobs, and programs that a test starts would inherit that. A signal with a
# handler here has its default handling there; here it still has no effect.
for _number in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


@pytest.fixture(scope="session")
def shared_broker():
    """A cluster of three brokers, for tests that read and write only their own topics."""
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
def group():
    """The name of a group that no other test uses."""
    return f"group-{uuid.uuid4()}"


class Rebalances:
    """What the callbacks of balanced consumers were told."""

    def __init__(self):
        self._told = queue.Queue()

    def note(self, consumer, old, new):
        """The callback."""
        self._told.put((consumer, old, new))

    def until(self, consumer, count):
        """Waits until a consumer was told that it has so many partitions; returns the old and the new offsets."""
        while True:
            who, old, new = self._told.get(timeout=60)
            if who is consumer and len(new) == count:
                return old, new

    def empty(self):
        """Whether there is nothing more."""
        return self._told.empty()


@pytest.fixture
def rebalances():
    """Notes the rebalances of the test's consumers."""
    return Rebalances()


@pytest.fixture(scope="session")
def take():
    """Reads messages: `take(consumer, 5)` returns the next five, however late they come on a busy machine."""

    def take(consumer, count):
        messages = []
        while len(messages) < count:
            message = consumer.consume()
            if message is not None:
                messages.append(message)
        return messages

    return take


@pytest.fixture
def patience(monkeypatch):
    """Iteration ends only at the end of a topic, although a program's `consumer_timeout_ms` is short for a busy
    machine."""
    next_message = pykafka.SimpleConsumer.__next__

    def patient(consumer):
        while True:
            try:
                return next_message(consumer)
            except StopIteration:
                held, ends = consumer.held_offsets, consumer.topic.latest_available_offsets()
                if all(max(offset + 1, 0) >= ends[id_].offset[0] for id_, offset in held.items()):
                    raise

    monkeypatch.setattr(pykafka.SimpleConsumer, "__next__", patient)


@pytest.fixture(scope="session")
def announcement():
    """The code blocks of pykafka's announcement."""
    spec = importlib.util.spec_from_file_location("announcement", Path(__file__).parent / "compat" / "announcement.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def own_broker():
    """A broker that the test may stop, or make misbehave."""
    with pykafka.testing.Broker() as broker:
        yield broker


@pytest.fixture
def remote_broker():
    """The address of a broker in a separate process, whose threads and memory do not count as ours."""
    program = (
        "import sys; from pykafka.testing import Broker; b = Broker(); print(b.bootstrap_servers); sys.stdin.read()"
    )
    command = [sys.executable, "-u", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()


#: Begins the programs of `run_greenlets`. `beside` calls `f`, which waits for what `release` does. Another greenlet
#: calls that after ten turns, so if `f` lets no others run, it never returns.
BESIDE = """
import time, queue
import gevent
from pykafka import KafkaClient

def beside(f, release):
    released = []
    def run():
        for _ in range(10):
            gevent.sleep(0.001)
        released.append(release())
    other = gevent.spawn(run)
    result = f()
    assert released, "it did not wait"
    other.join()
    return result
"""


@pytest.fixture
def run_greenlets(run_python):
    """Runs a program that must succeed in a process with gevent, and returns what it prints."""

    def run(patch, program, *arguments):
        result = run_python("\n".join([patch, BESIDE, textwrap.dedent(program)]), *arguments)
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        return result.stdout

    return run


@pytest.fixture
def run_python():
    """Runs a program in a separate process, and returns the finished process.

    With `meanwhile`, the program prints a line when it is ready; then `meanwhile` is called, and the program gets a
    line.
    """

    def run(program, *arguments, timeout=150, meanwhile=None):
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


@pytest.fixture
def log_of_everything(monkeypatch):
    """What pykafka logs, at every level."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logger = logging.getLogger("pykafka")
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    logger.setLevel(1)
    logger.addHandler(handler)
    yield text
    logger.removeHandler(handler)


@pytest.fixture(scope="module")
def secure():
    """A broker with TLS that lets alice in."""
    with pykafka.testing.Broker(tls=True, sasl={"alice": canaries.CANARY}) as broker:
        yield broker
