"""Fixtures with real Apache Kafka. A test that needs Kafka and does not get it fails."""

import contextlib
import importlib.util
import subprocess
from pathlib import Path

import churning
import pytest

_FILE = Path(__file__).resolve().parents[2] / "kafka" / "kafka_cluster.py"


def _kafka_cluster():
    # Not through sys.path: that folder has a kafka.py, which would hide the kafka-python package.
    spec = importlib.util.spec_from_file_location("kafka_cluster", _FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_MODULE = _kafka_cluster()


def pytest_configure(config):
    """Declares the markers of the tests that only `make test-long` runs, and of those that make a page."""
    config.addinivalue_line("markers", "long: takes minutes; not part of `make test`")
    config.addinivalue_line("markers", "capability(title): the test is a row of docs/compatibility.md")


def pytest_collection_modifyitems(items):
    """Gives these tests enough time to fetch and start Kafka, unless they say themselves how much they need."""
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800 if item.get_closest_marker("long") else 900))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Tells docs/compatibility.md which cell the test is, before the brokers start, because they may fail, too."""
    if marker := item.get_closest_marker("capability"):
        parameters = item.callspec.params
        capability = marker.args[0].format(**parameters)
        item.user_properties += [("capability", capability), ("version", parameters["cluster"])]


@pytest.fixture(scope="session")
def kafka():
    """Three brokers of the newest Kafka, shared by all tests: use your own topics, and leave all brokers running."""
    with _MODULE.Cluster(brokers=3) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def zookeeper_kafka():
    """A broker of the last Kafka with ZooKeeper, shared by all tests: use your own topics and groups."""
    with _MODULE.Cluster(_MODULE.LATEST_3, zookeeper=True) as cluster:
        yield cluster


@pytest.fixture(scope="session", params=["LATEST", "LATEST_3"])
def secure_kafka(request):
    """A broker with listeners of every kind, shared by all tests: use your own topics, and users to change."""
    with _MODULE.Cluster(getattr(_MODULE, request.param), gssapi=True) as cluster:
        yield cluster


@contextlib.contextmanager
def _starter():
    with contextlib.ExitStack() as clusters:

        def start(version, **kwargs):
            return clusters.enter_context(_MODULE.Cluster(getattr(_MODULE, version, version), **kwargs))

        yield start


@pytest.fixture
def start_kafka():
    """Starts clusters for one test: `start_kafka("1.1.1", brokers=3, settings={...})`, see `Cluster`.

    The version may also be `LATEST` or `LATEST_3`: the two on which most tests run.
    """
    with _starter() as start:
        yield start


@pytest.fixture(scope="module")
def start_kafka_for_module():
    """As `start_kafka`, for clusters that the tests of one file share."""
    with _starter() as start:
        yield start


@pytest.fixture(scope="module")
def churn_kafka(start_kafka_for_module):
    """Three brokers with short sessions, any of which a test may kill and start again."""
    return start_kafka_for_module("LATEST", brokers=3, settings=churning.BROKER_SETTINGS)


@pytest.fixture(scope="session")
def built():
    """The folder of the programs that are built from this source."""
    root = Path(__file__).resolve().parents[3]
    # Both at once and from the whole workspace, as `cargo test` builds them: otherwise the features of their
    # dependencies differ, and everything is built again.
    subprocess.run(["cargo", "build", "--quiet", "--bin=kavka", "--example=member"], cwd=root, check=True)
    return root / "target" / "debug"


@pytest.fixture(scope="session")
def kavka(built):
    """The command `kavka`."""
    return str(built / "kavka")


@pytest.fixture(scope="session")
def member_program(built):
    """The example program `member`."""
    return str(built / "examples" / "member")


@pytest.fixture
def kafka_error():
    """The exception for a command that Kafka or the harness refused."""
    return _MODULE.KafkaError
