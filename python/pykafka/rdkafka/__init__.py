"""The classes that used librdkafka in pykafka 2; here they use the same engine as all others.

They exist for programs that import them; `use_rdkafka=True` does not need them.
"""

from .producer import RdKafkaProducer
from .simple_consumer import RdKafkaSimpleConsumer

__all__ = ["RdKafkaProducer", "RdKafkaSimpleConsumer"]
