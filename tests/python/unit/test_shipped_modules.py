"""Modules that pykafka 2 shipped in addition to its API: `pykafka.rdkafka` and `pykafka.test`."""

import inspect

import pykafka
import pykafka.test.kafka_instance
import pykafka.test.utils
import pytest
from pykafka.exceptions import ProtocolClientError
from pykafka.rdkafka import RdKafkaProducer, RdKafkaSimpleConsumer


def test_the_classes_of_librdkafka_write_and_read(client, topic):
    with RdKafkaProducer(client.cluster, topic, delivery_reports=True, linger_ms=0) as producer:
        producer.produce(b"value", partition_key=b"key")
        message, error = producer.get_delivery_report(timeout=60)
    assert (message.value, error) == (b"value", None)
    with RdKafkaSimpleConsumer(topic, client.cluster, b"group", consumer_timeout_ms=60_000) as consumer:
        assert consumer.consume().value == b"value"
    assert isinstance(producer, pykafka.Producer)
    assert isinstance(consumer, pykafka.SimpleConsumer)


def test_their_arguments_are_those_they_had():
    producer = inspect.signature(RdKafkaProducer).parameters
    assert list(producer)[8:13] == [
        "max_queued_messages",
        "min_queued_messages",
        "linger_ms",
        "max_request_size",
        "sync",
    ]
    assert producer["min_queued_messages"].default == 2000
    assert not {"block_on_queue_full", "queue_empty_timeout_ms", "pending_timeout_ms"} & set(producer)
    assert inspect.signature(RdKafkaSimpleConsumer).parameters["queued_max_messages"].default == 100_000


@pytest.mark.parametrize("cls", [RdKafkaProducer, RdKafkaSimpleConsumer])
def test_the_other_defaults_are_those_of_the_classes_they_are(cls):
    own, base = (inspect.signature(each).parameters for each in (cls, cls.__mro__[1]))
    another = {name for name, parameter in own.items() if parameter.default != base[name].default}
    assert another == {"min_queued_messages" if cls is RdKafkaProducer else "queued_max_messages"}


def test_every_factory_takes_use_rdkafka(topic):
    topic.get_producer(use_rdkafka=True).stop()
    topic.get_sync_producer(use_rdkafka=True).stop()
    topic.get_simple_consumer(use_rdkafka=True).stop()


def test_a_cluster_for_tests_has_three_brokers_and_topics_of_the_tests_own(monkeypatch):
    monkeypatch.delenv("BROKERS", raising=False)
    cluster = pykafka.test.utils.get_cluster()
    cluster.create_topic("made", 2, 3)
    client = pykafka.KafkaClient(cluster.brokers)
    assert (len(client.brokers), len(client.topics["made"].partitions)) == (3, 2)
    with pytest.raises(ProtocolClientError):
        cluster.create_topic("made", 2, 3)
    cluster.delete_topic("made")
    client.update_cluster()
    assert "made" not in client.topics
    pykafka.test.utils.stop_cluster(cluster)


def test_a_cluster_that_ran_before_is_left_running_without_the_topics(monkeypatch, own_broker):
    monkeypatch.setenv("BROKERS", own_broker.bootstrap_servers)
    own_broker.create_topic("before", partitions=1)
    cluster = pykafka.test.utils.get_cluster()
    cluster.create_topic("made", 1, 1)
    pykafka.test.utils.stop_cluster(cluster)
    assert set(pykafka.KafkaClient(own_broker.bootstrap_servers).topics) == {b"before"}
    assert pykafka.test.kafka_instance.KafkaConnection is type(cluster)


def test_an_assertion_is_tried_again_until_it_holds_or_the_time_is_over():
    tries = []

    def third():
        tries.append(None)
        assert len(tries) == 3
        return "held"

    assert pykafka.test.utils.retry(third, wait_between_tries=0) == "held"
    with pytest.raises(AssertionError):
        pykafka.test.utils.retry(third, retry_time=0)
    with pytest.raises(ZeroDivisionError):
        pykafka.test.utils.retry(lambda: 1 / 0)


def test_the_import_loads_no_module_that_few_programs_need(run_python):
    program = """
        import sys
        import pykafka
        print({"json", "uuid", "random", "hashlib", "platform", "ssl", "asyncio"} & sys.modules.keys())
    """
    assert run_python(program).stdout == "set()\n"
