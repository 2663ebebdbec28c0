"""The message of producers and consumers."""

from .._engine import Message
from . import _gone

__all__ = ["Message"]

__getattr__ = _gone.names_of(__name__)
