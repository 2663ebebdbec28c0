"""One partition of a topic."""

from datetime import datetime
from typing import TYPE_CHECKING

from .broker import Broker
from .common import OffsetType
from .exceptions import LeaderNotFoundError

if TYPE_CHECKING:
    from .topic import Topic


class Partition:
    """A partition: its leader, its replicas and its offsets. Sorts by id and can be a key of a dict."""

    def __init__(self, topic: "Topic", id_: int) -> None:
        self._topic = topic
        self._id = id_

    @property
    def id(self) -> int:
        """The partition number."""
        return self._id

    @property
    def topic(self) -> "Topic":
        """The partition's topic."""
        return self._topic

    @property
    def leader(self) -> Broker:
        """The broker that leads it now.

        :raises LeaderNotFoundError: if it has no leader.
        """
        leader, _, _ = self._topic._describe(self._id)
        broker = self._topic._cluster.brokers.get(leader) if leader is not None else None
        if broker is None:
            raise LeaderNotFoundError(f"partition {self._topic.name!r}-{self._id} has no leader at the moment")
        return broker

    @property
    def replicas(self) -> list[Broker]:
        """The brokers that hold a replica."""
        return self._brokers(self._topic._describe(self._id)[1])

    @property
    def isr(self) -> list[Broker]:
        """The brokers whose replica is in sync."""
        return self._brokers(self._topic._describe(self._id)[2])

    def fetch_offset_limit(self, offsets_before: datetime | int, max_offsets: int = 1) -> list[int]:
        """The first offset at or after a time: see `Topic.fetch_offset_limits`."""
        return self._topic._list_offsets([self._id], offsets_before)[self._id].offset[:max_offsets]

    def latest_available_offset(self) -> int:
        """The offset of the next message to be written."""
        return self.fetch_offset_limit(OffsetType.LATEST)[0]

    def earliest_available_offset(self) -> int:
        """The offset of the oldest message in the log."""
        return self.fetch_offset_limit(OffsetType.EARLIEST)[0]

    def update(self, brokers: object = None, metadata: object = None) -> None:
        """Refreshes the cluster. Optional: partitions follow the cluster by themselves.

        :param brokers: ignored.
        :param metadata: ignored.
        """
        self._topic._cluster.update()

    def _brokers(self, ids: list[int]) -> list[Broker]:
        brokers = self._topic._cluster.brokers
        return [brokers[broker_id] for broker_id in ids if broker_id in brokers]

    def __lt__(self, other: "Partition") -> bool:
        return self._id < other._id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Partition) and self._topic is other._topic and self._id == other._id

    def __hash__(self) -> int:
        return hash((id(self._topic), self._id))

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} (id={self._id}, topic={self._topic.name!r})>"
