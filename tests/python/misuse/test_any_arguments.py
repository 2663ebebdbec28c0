"""Arguments of any type and value, made up by hypothesis: a call works or raises a documented exception.

Never a `PanicException`, which no `except Exception` catches, and never an exception that only says that something
inside went wrong. `KAVKA_FUZZ_CASES=20000 pytest tests/python/misuse/test_any_arguments.py` tries more, and other ones
in each run.
"""

import contextlib
import inspect
import os
from datetime import UTC, datetime
from queue import Empty

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pykafka import KafkaClient
from pykafka.exceptions import KafkaException, UnicodeException
from pykafka.producer import Producer
from pykafka.simpleconsumer import SimpleConsumer

# Hypothesis would take the limit's exception for a failure of the test, and call again what hangs.
pytestmark = pytest.mark.timeout(method="thread")

CASES = os.environ.get("KAVKA_FUZZ_CASES")

#: What the documentation names: the package's own exceptions, and those for wrong arguments.
DOCUMENTED = (KafkaException, UnicodeException, TypeError, ValueError, OverflowError)

numbers = st.one_of(
    st.integers(),
    st.sampled_from([0, -1, 1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30]),
    st.floats(),
    st.booleans(),
)
texts = st.one_of(
    st.text(), st.binary(), st.sampled_from(["", "\0", "\udcff", "a\nb", "x" * 300, b"\xff", bytearray(b"a")])
)
leaves = st.one_of(
    st.none(),
    numbers,
    texts,
    st.datetimes(),
    st.just(datetime.max.replace(tzinfo=UTC)),
    st.builds(object),
    st.just(print),
    st.complex_numbers(),
    st.just(memoryview(b"abc")),
)
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner), st.tuples(inner, inner), st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=8,
)

fuzz = settings(
    max_examples=int(CASES or 60),
    derandomize=not CASES,
    database=None,
    # A call may block for as long as it was told to; pytest's limit ends a test that hangs.
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@contextlib.contextmanager
def documented(*others):
    """Lets the body raise what the documentation names, and these; but nothing that speaks of a bug."""
    try:
        yield
    except (*DOCUMENTED, *others) as error:
        if "this is a bug" in str(error):
            raise


def is_long(timeout):
    """Whether a call would wait for more than a moment, as it was told to."""
    return isinstance(timeout, (int, float)) and timeout > 0.001


def keywords(function, *left_out):
    """Values for some of the function's named arguments."""
    names = [name for name in inspect.signature(function).parameters if name not in ("self", *left_out)]
    return st.dictionaries(st.sampled_from(names), anything, max_size=3)


@pytest.fixture(scope="module")
def any_topic(shared_broker):
    shared_broker.create_topic("anything", partitions=2)
    return KafkaClient(shared_broker.bootstrap_servers).topics["anything"]


@pytest.fixture(scope="module")
def producer(any_topic):
    with any_topic.get_producer(delivery_reports=True) as producer:
        yield producer


@pytest.fixture(scope="module")
def consumer(any_topic):
    with any_topic.get_simple_consumer(consumer_group="anybody", consumer_timeout_ms=1) as consumer:
        yield consumer


@fuzz
@given(message=anything, key=anything, timestamp=anything, headers=anything)
def test_produce(producer, message, key, timestamp, headers):
    with documented():
        producer.produce(message, key, timestamp, headers)
    with documented():
        producer.produce(b"value", timestamp=timestamp)
    with documented():
        producer.produce(b"value", headers=headers)
    with documented():
        producer.produce_many(message)


@fuzz
@given(block=st.booleans(), timeout=anything)
def test_reports(producer, block, timeout):
    producer.produce(b"value")
    with documented(Empty):
        producer.get_delivery_report(block and not is_long(timeout), timeout)


@fuzz
@given(arguments=keywords(Producer.__init__, "cluster", "topic", "max_block_ms"))
def test_settings_of_a_producer(any_topic, arguments):
    with documented():
        made = any_topic.get_producer(**{"linger_ms": 0, **arguments})
        # It may have been told to be used otherwise than to send this.
        with contextlib.suppress(Exception):
            made.produce(b"value")
        with documented():
            made.stop()


@fuzz
@given(arguments=keywords(SimpleConsumer.__init__, "cluster", "topic"))
def test_settings_of_a_consumer(any_topic, arguments):
    with documented():
        made = any_topic.get_simple_consumer(**arguments)
        with contextlib.suppress(Exception):
            made.consume(block=False)
        with documented():
            made.stop()


@fuzz
@given(arguments=keywords(KafkaClient.__init__, "zookeeper_hosts", "use_greenlets", "hosts"))
def test_settings_of_a_client(shared_broker, arguments):
    with documented():
        KafkaClient(shared_broker.bootstrap_servers, **arguments).close()


@fuzz
@given(hosts=anything)
def test_hosts(hosts):
    # Names are not looked up: whatever is a valid address belongs to this machine, and nobody listens there.
    is_address = isinstance(hosts, (str, bytes, bytearray)) and hosts.strip()
    with documented():
        KafkaClient("127.0.0.1:x" + str(hosts) if is_address else hosts, socket_timeout_ms=100)


@fuzz
@given(name=anything)
def test_names_of_topics(client, name):
    with documented(KeyError):
        client.topics[name]


@fuzz
@given(when=anything, most=anything)
def test_offsets_at_a_time(any_topic, when, most):
    with documented():
        any_topic.fetch_offset_limits(when, most)


@fuzz
@given(number=st.sampled_from([0, 1]), offset=anything, others=anything)
def test_positions(any_topic, consumer, number, offset, others):
    for call in (consumer.reset_offsets, consumer.commit_offsets):
        with documented():
            call([(any_topic.partitions[number], offset)])
        with documented():
            call(others)


@fuzz
@given(most=anything, timeout=anything, block=st.booleans())
def test_consume(consumer, most, timeout, block):
    with documented():
        consumer.consume_batch(most, 0 if is_long(timeout) else timeout)
    with documented():
        consumer.consume_arrow(most, 0 if is_long(timeout) else timeout)
    with documented():
        consumer.consume(block)
