"""A Kafka client for Python, on an engine written in Rust.

From nothing to a message and back::

    client = pykafka.KafkaClient("127.0.0.1:9092")
    topic = client.topics["greetings"]
    with topic.get_sync_producer() as producer:
        producer.produce(b"hello")
    for message in topic.get_simple_consumer(consumer_timeout_ms=1000):
        print(message.offset, message.value)
"""

import logging

from . import partitioners as partitioners
from . import sasl as sasl
from ._engine import __version__
from .balancedconsumer import BalancedConsumer
from .broker import Broker
from .client import KafkaClient
from .cluster import Cluster
from .connection import SslConfig
from .managedbalancedconsumer import ManagedBalancedConsumer
from .membershipprotocol import RangeProtocol, RoundRobinProtocol
from .partition import Partition
from .producer import Producer
from .sasl_authenticators import OauthBearerAuthenticator, PlainAuthenticator, ScramAuthenticator
from .simpleconsumer import SimpleConsumer
from .topic import Topic

__all__ = [
    "BalancedConsumer",
    "Broker",
    "Cluster",
    "KafkaClient",
    "ManagedBalancedConsumer",
    "OauthBearerAuthenticator",
    "Partition",
    "PlainAuthenticator",
    "Producer",
    "RangeProtocol",
    "RoundRobinProtocol",
    "ScramAuthenticator",
    "SimpleConsumer",
    "SslConfig",
    "Topic",
    "__version__",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
