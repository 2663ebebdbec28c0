"""Partitioners, for programs that do not want the engine's own rule.

Without a partitioner, a message with a key goes to the partition that Kafka's Java client would choose (murmur2);
messages without a key go to one partition per batch.

A partitioner is any callable that takes the topic's partitions and the message's key, and returns one of the
partitions. It is called in the thread that produces.
"""

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypeVar

P = TypeVar("P")


class BasePartitioner:
    """The interface of a partitioner."""

    def __call__(self, partitions: Sequence[P], key: bytes | None = None) -> P:
        """Returns the partition for a message with this key."""
        raise NotImplementedError("a partitioner must define __call__(partitions, key)")


class RandomPartitioner(BasePartitioner):
    """Each partition in turn, whatever the key. It was never random; the name is pykafka's."""

    def __init__(self) -> None:
        self.idx = 0

    def __call__(self, partitions: Sequence[P], key: bytes | None = None) -> P:
        """Returns the next partition."""
        self.idx = (self.idx + 1) % len(partitions)
        return partitions[self.idx]


@functools.cache
def _hashlib() -> ModuleType:
    # It loads OpenSSL, so programs that hash nothing start faster without it.
    import hashlib

    return hashlib


def _sha1(key: bytes) -> int:
    # Not for security: pykafka 2 placed messages by this number, and existing topics rely on it.
    return int(_hashlib().sha1(key, usedforsecurity=False).hexdigest(), 16)


class HashingPartitioner(BasePartitioner):
    """The same partition for the same key, by the rule of pykafka 2: SHA-1 of the key, not Java's murmur2.

    :param hash_func: a hash of the key to use instead of SHA-1.
    """

    def __init__(self, hash_func: Callable[[bytes], int] | None = None) -> None:
        self.hash_func = hash_func or _sha1

    def __call__(self, partitions: Sequence[Any], key: bytes | None = None) -> Any:
        """Returns the partition for `key`.

        :raises ValueError: if the key is None.
        """
        if key is None:
            raise ValueError("a HashingPartitioner needs a partition_key for every message")
        return sorted(partitions)[abs(self.hash_func(key)) % len(partitions)]


class GroupHashingPartitioner(BasePartitioner):
    """A random one of `group_size` adjacent partitions, of which the key determines the first.

    :param hash_func: the hash of the key.
    :param group_size: over how many partitions the messages of one key are spread; at least 1.
    """

    def __init__(self, hash_func: Callable[[bytes], int], group_size: int = 1) -> None:
        if hash_func is None:
            raise ValueError("hash_func must be given")
        if group_size < 1:
            raise ValueError(f"group_size must be at least 1, not {group_size}")
        self.hash_func = hash_func
        self.group_size = group_size

    def __call__(self, partitions: Sequence[Any], key: bytes | None = None) -> Any:
        """Returns a partition of the key's group.

        :raises ValueError: if the key is None or the group is larger than the topic.
        """
        if key is None:
            raise ValueError("a GroupHashingPartitioner needs a partition_key for every message")
        if self.group_size > len(partitions):
            raise ValueError(f"group_size is {self.group_size}, but the topic has {len(partitions)} partitions")
        import random

        offset = random.randrange(self.group_size)
        return sorted(partitions)[abs(self.hash_func(key) + offset) % len(partitions)]


#: A `HashingPartitioner` ready to use.
hashing_partitioner = HashingPartitioner()
