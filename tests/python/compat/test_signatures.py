"""Names, module paths, arguments and defaults of PyKafka 2.8, and the defaults that are better now."""

import importlib
import inspect

import pykafka
import pytest

NAMES = {
    "pykafka": ["Broker", "SimpleConsumer", "Cluster", "Partition", "Producer", "Topic", "KafkaClient"],
    "pykafka.broker": ["Broker"],
    "pykafka.client": ["KafkaClient"],
    "pykafka.cluster": ["Cluster", "TopicDict"],
    "pykafka.common": ["OffsetType", "CompressionType", "Message", "EPOCH"],
    "pykafka.exceptions": ["KafkaException", "ERROR_CODES"],
    "pykafka.partition": ["Partition"],
    "pykafka.partitioners": [
        "BasePartitioner",
        "RandomPartitioner",
        "HashingPartitioner",
        "GroupHashingPartitioner",
        "hashing_partitioner",
    ],
    "pykafka.producer": ["Producer"],
    "pykafka.protocol": ["Message", "OffsetPartitionResponse", "OffsetFetchPartitionResponse", "CreateTopicRequest"],
    "pykafka.simpleconsumer": ["SimpleConsumer", "OwnedPartition"],
    "pykafka.topic": ["Topic"],
    "pykafka.utils": ["serialize_utf8", "deserialize_utf8"],
    "pykafka.utils.error_handlers": ["valid_int"],
}

CLIENT = {
    "hosts": "127.0.0.1:9092",
    "zookeeper_hosts": None,
    "socket_timeout_ms": 30000,
    "offsets_channel_socket_timeout_ms": 10000,
    "use_greenlets": False,
    "exclude_internal_topics": True,
    "source_address": "",
    "ssl_config": None,
    "broker_version": "0.9.0",
}

PRODUCER = {
    "cluster": inspect.Parameter.empty,
    "topic": inspect.Parameter.empty,
    "partitioner": None,
    "compression": 0,
    "max_retries": None,
    "retry_backoff_ms": 100,
    "required_acks": -1,
    "ack_timeout_ms": 10000,
    "max_queued_messages": None,
    "min_queued_messages": 70000,
    "linger_ms": 5,
    "queue_empty_timeout_ms": 0,
    "block_on_queue_full": True,
    "max_request_size": 1_048_576,
    "sync": False,
    "delivery_reports": False,
    "pending_timeout_ms": None,
    "auto_start": True,
    "serializer": None,
}

CONSUMER = {
    "topic": inspect.Parameter.empty,
    "cluster": inspect.Parameter.empty,
    "consumer_group": None,
    "partitions": None,
    "fetch_message_max_bytes": 1 << 20,
    "num_consumer_fetchers": 1,
    "auto_commit_enable": False,
    "auto_commit_interval_ms": 60000,
    "queued_max_messages": 2000,
    "fetch_min_bytes": 1,
    "fetch_error_backoff_ms": 500,
    "fetch_wait_max_ms": 100,
    "offsets_channel_backoff_ms": 1000,
    "offsets_commit_max_retries": 5,
    "auto_offset_reset": -2,
    "consumer_timeout_ms": -1,
    "auto_start": True,
    "reset_offset_on_start": False,
    "compacted_topic": False,
    "generation_id": -1,
    "consumer_id": b"",
    "deserializer": None,
    "reset_offset_on_fetch": True,
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in NAMES.items() for name in names])
def test_a_name_is_where_it_was(module, name):
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("owner", "defaults"),
    [(pykafka.KafkaClient, CLIENT), (pykafka.Producer, PRODUCER), (pykafka.SimpleConsumer, CONSUMER)],
)
def test_arguments_have_their_names_their_order_and_their_defaults(owner, defaults):
    parameters = list(inspect.signature(owner.__init__).parameters.values())[1:]
    positional = [parameter for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]
    assert [(parameter.name, parameter.default) for parameter in positional] == list(defaults.items())


@pytest.mark.parametrize(
    ("method", "signature"),
    [
        (pykafka.Producer.produce, "(self, /, message, partition_key=None, timestamp=None, headers=None)"),
        (pykafka.Producer.get_delivery_report, "(self, /, block=True, timeout=None)"),
        (pykafka.SimpleConsumer.consume, "(self, /, block=True, unblock_event=None)"),
    ],
)
def test_the_engine_s_methods_take_the_arguments_they_took(method, signature):
    assert str(inspect.signature(method)) == signature


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert pykafka.__version__ == version("pykafka")
