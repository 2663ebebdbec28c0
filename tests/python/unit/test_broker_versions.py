"""The embedded broker as an older Kafka."""

import pytest
from pykafka import KafkaClient
from pykafka.common import CompressionType
from pykafka.exceptions import KafkaException
from pykafka.testing import Broker

VERSIONS = ["0.8.2", "0.9", "0.10.0", "0.10.2", "0.11", "1.1", "2.1", "2.8", "3.9", "4.4"]


@pytest.mark.parametrize("version", VERSIONS)
def test_messages_keys_and_tombstones_come_back_from_every_version(version, take):
    with Broker(version=version) as broker:
        topic = KafkaClient(broker.bootstrap_servers).topics["versions"]
        sent = [(b"key", b"x" * 100), (b"key", None), (None, b"")]
        with topic.get_producer(sync=True, compression=CompressionType.GZIP) as producer:
            for key, value in sent:
                producer.produce(value, partition_key=key)
        consumer = topic.get_simple_consumer(consumer_group="versions", consumer_timeout_ms=500)
        assert [(message.partition_key, message.value) for message in take(consumer, len(sent))] == sent
        consumer.commit_offsets()
        consumer.stop()
        again = topic.get_simple_consumer(consumer_group="versions", consumer_timeout_ms=100)
        assert again.consume() is None


def test_what_a_version_lacks_is_refused():
    with Broker(version="0.10.2") as broker:
        topic = KafkaClient(broker.bootstrap_servers).topics["headers"]
        refused = pytest.raises(KafkaException, match=r"record headers need a broker of Kafka 0\.11")
        with topic.get_producer(sync=True) as producer, refused:
            producer.produce(b"value", headers=[("name", b"value")])


def test_a_patch_release_is_taken_for_its_version():
    with Broker(version="0.9.0.1") as broker:
        topic = KafkaClient(broker.bootstrap_servers).topics["patch"]
        with topic.get_producer(sync=True) as producer:
            assert producer.produce(b"value").offset == 0


@pytest.mark.parametrize("version", ["0.7", "5.0", "4", "newest", ""])
def test_an_unknown_version_is_refused_with_those_that_are_known(version):
    with pytest.raises(ValueError, match=rf'cannot be Kafka "{version}"; it can be 0\.8\.2, 0\.9, .*, 4\.4'):
        Broker(version=version)


def test_tls_and_sasl_are_refused_where_the_version_has_none():
    with pytest.raises(ValueError, match=r"Kafka 0\.8\.2 does not have TLS"):
        Broker(version="0.8.2", tls=True)
    with pytest.raises(ValueError, match=r"Kafka 0\.9 does not have these SASL mechanisms"):
        Broker(version="0.9", sasl={"alice": "alice-secret"})
