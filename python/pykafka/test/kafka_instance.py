"""The old module for test clusters."""

from .utils import KafkaConnection, KafkaInstance

__all__ = ["KafkaConnection", "KafkaInstance"]
