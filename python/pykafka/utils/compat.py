"""Functions that hide differences between Python 2 and 3, for programs that import them from pykafka."""

import builtins
import sys
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from queue import Empty, Queue
from threading import Semaphore
from typing import Any, Final, Protocol

__all__ = [
    "IS_PYPY",
    "PY3",
    "Empty",
    "Queue",
    "Semaphore",
    "buffer",
    "get_bytes",
    "get_string",
    "iteritems",
    "iterkeys",
    "itervalues",
    "range",
]

PY3: Final = True
IS_PYPY: Final = sys.implementation.name == "pypy"
range = builtins.range
buffer = memoryview


class _Dictionary(Protocol):
    def items(self) -> ItemsView[Any, Any]: ...
    def keys(self) -> KeysView[Any]: ...
    def values(self) -> ValuesView[Any]: ...


def get_bytes(value: Any) -> Any:
    """A str encoded as UTF-8; anything else, and a str that cannot be encoded, unchanged."""
    try:
        return value.encode("utf-8") if hasattr(value, "encode") else value
    except UnicodeError:
        return value


def get_string(value: Any) -> Any:
    """Bytes decoded from UTF-8, or unchanged if they are not UTF-8; `str()` of anything else."""
    try:
        return value.decode("utf-8") if hasattr(value, "decode") else str(value)
    except UnicodeError:
        return value


def iteritems(d: _Dictionary) -> Iterator[tuple[Any, Any]]:
    """Iterates over keys and values."""
    return iter(d.items())


def itervalues(d: _Dictionary) -> Iterator[Any]:
    """Iterates over values."""
    return iter(d.values())


def iterkeys(d: _Dictionary) -> Iterator[Any]:
    """Iterates over keys."""
    return iter(d.keys())
