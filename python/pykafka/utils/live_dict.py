"""The dictionaries of brokers, topics and partitions."""

from collections.abc import ItemsView, Iterator, KeysView
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LiveDict(dict[K, V]):
    """A dictionary that follows the cluster, also while a thread iterates over it.

    Each iteration is over the entries of the moment when it begins. A plain dictionary would raise `RuntimeError` if
    another thread's `update_cluster` added an entry meanwhile.
    """

    def _now(self) -> dict[K, V]:
        return dict(list(super().items()))

    def __iter__(self) -> Iterator[K]:
        return iter(self._now())

    def keys(self) -> KeysView[K]:  # type: ignore[override]
        """The keys of now."""
        return self._now().keys()

    def values(self) -> list[V]:  # type: ignore[override]
        """The values as a list, as in PyKafka 2.8."""
        return list(super().values())

    def items(self) -> ItemsView[K, V]:  # type: ignore[override]
        """The entries of now."""
        return self._now().items()

    def copy(self) -> dict[K, V]:
        """The entries of now; they do not change any more."""
        return self._now()

    def __repr__(self) -> str:
        return repr(self._now())
