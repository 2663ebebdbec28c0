"""Fixtures that give a test real Apache Kafka. A test that asks for Kafka and does not get it fails."""

import contextlib
import importlib.util
from pathlib import Path

import pytest

_FILE = Path(__file__).resolve().parents[2] / "kafka" / "kafka_cluster.py"


def _kafka_cluster():
    # Not through sys.path: in that folder is a kafka.py, which would hide the kafka-python package.
    spec = importlib.util.spec_from_file_location("kafka_cluster", _FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_MODULE = _kafka_cluster()


def pytest_configure(config):
    """Names the marker of the tests that only `make test-long` runs."""
    config.addinivalue_line("markers", "long: takes minutes; not part of `make test`")


def pytest_collection_modifyitems(items):
    """Gives these tests the time that it takes to fetch and start Kafka."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1800 if item.get_closest_marker("long") else 900))


@pytest.fixture(scope="session")
def kafka():
    """Three brokers of the newest Kafka, shared by all tests: make your own topics, leave every broker running."""
    with _MODULE.Cluster(brokers=3) as cluster:
        yield cluster


@pytest.fixture
def start_kafka():
    """Starts clusters of this test's own: `start_kafka("1.1.1", brokers=3, settings={...})`, see `Cluster`.

    The version may also be `LATEST` or `LATEST_3`, which is what the harness calls the two that most tests run on.
    """
    with contextlib.ExitStack() as clusters:

        def start(version, **kwargs):
            return clusters.enter_context(_MODULE.Cluster(getattr(_MODULE, version, version), **kwargs))

        yield start


@pytest.fixture
def kafka_error():
    """The exception of a command that Kafka or the harness refused."""
    return _MODULE.KafkaError
