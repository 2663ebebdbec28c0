"""A topic: its partitions, and its producers and consumers."""

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .balancedconsumer import BalancedConsumer
from .common import OffsetType
from .exceptions import LeaderNotFoundError
from .managedbalancedconsumer import ManagedBalancedConsumer
from .partition import Partition
from .producer import Producer
from .protocol import OffsetPartitionResponse
from .simpleconsumer import SimpleConsumer
from .utils.live_dict import LiveDict
from .utils.times import to_timestamp_ms

if TYPE_CHECKING:
    from .cluster import Cluster

log = logging.getLogger(__name__)


class Topic:
    """A topic of the cluster, from `client.topics[name]`."""

    def __init__(self, cluster: "Cluster", name: bytes) -> None:
        self._cluster = cluster
        self._name = name
        self._partitions: LiveDict[int, Partition] = LiveDict()

    @property
    def name(self) -> bytes:
        """The topic's name."""
        return self._name

    @property
    def partitions(self) -> dict[int, Partition]:
        """The partitions by number."""
        self._sync()
        return self._partitions

    def get_producer(self, use_rdkafka: bool = False, **kwargs: Any) -> Producer:
        """A producer for this topic; the arguments are those of `Producer`.

        :param use_rdkafka: accepted and ignored: there is only one engine.
        """
        return Producer(self._cluster, self, **kwargs)

    def get_sync_producer(self, **kwargs: Any) -> Producer:
        """A producer whose `produce()` returns when the message is stored."""
        return self.get_producer(sync=True, **kwargs)

    def get_simple_consumer(
        self, consumer_group: str | bytes | None = None, use_rdkafka: bool = False, **kwargs: Any
    ) -> SimpleConsumer:
        """A consumer of this topic's partitions; the arguments are those of `SimpleConsumer`.

        :param use_rdkafka: accepted and ignored: there is only one engine.
        """
        return SimpleConsumer(self, self._cluster, consumer_group=consumer_group, **kwargs)

    def get_balanced_consumer(
        self, consumer_group: str | bytes, managed: bool = False, **kwargs: Any
    ) -> BalancedConsumer:
        """A consumer that shares the topic's partitions with the other members of its group.

        If a ZooKeeper is given, here or to the client, they share through it; otherwise, or with `managed`, through
        Kafka. The arguments are those of `BalancedConsumer` and `ManagedBalancedConsumer`.
        """
        is_given = any(kwargs.get(name) is not None for name in ("zookeeper", "zookeeper_connect", "zookeeper_hosts"))
        if not managed and (is_given or self._cluster._zookeeper_connect):
            if not is_given:
                kwargs["zookeeper_connect"] = self._cluster._zookeeper_connect
            return BalancedConsumer(self, self._cluster, consumer_group, **kwargs)
        if not managed:
            log.info("no ZooKeeper is given: group %r shares topic %r through Kafka", consumer_group, self._name)
            for name in ("zookeeper", "zookeeper_connect", "zookeeper_hosts", "zookeeper_connection_timeout_ms"):
                kwargs.pop(name, None)
            # There is only one engine.
            kwargs.pop("use_rdkafka", None)
        return ManagedBalancedConsumer(self, self._cluster, consumer_group, **kwargs)

    def update(self, metadata: object = None) -> None:
        """Refreshes the cluster. Optional: topics and partitions follow the cluster by themselves.

        :param metadata: ignored.
        """
        self._cluster.update()

    def earliest_available_offsets(self) -> dict[int, OffsetPartitionResponse]:
        """For each partition the offset of the oldest message in the log."""
        return self.fetch_offset_limits(OffsetType.EARLIEST)

    def latest_available_offsets(self) -> dict[int, OffsetPartitionResponse]:
        """For each partition the offset of the next message to be written."""
        return self.fetch_offset_limits(OffsetType.LATEST)

    def fetch_offset_limits(
        self, offsets_before: datetime | int, max_offsets: int = 1
    ) -> dict[int, OffsetPartitionResponse]:
        """For each partition the offset of the first message at or after a time.

        :param offsets_before: a datetime (naive: UTC), milliseconds since 1970, or an `OffsetType`.
        :param max_offsets: 0 for none; at most one offset is returned for each partition.
        """
        answers = self._list_offsets(self.partitions, offsets_before)
        return {id_: answer._replace(offset=answer.offset[:max_offsets]) for id_, answer in answers.items()}

    def _list_offsets(self, partitions: Iterable[int], when: datetime | int) -> dict[int, OffsetPartitionResponse]:
        timestamps = dict.fromkeys(partitions, to_timestamp_ms(when))
        found = self._cluster._engine.list_offsets(self._name.decode("ascii"), timestamps, False)
        return {
            partition: OffsetPartitionResponse([] if offset is None else [offset], 0)
            for partition, offset in found.items()
        }

    def _describe(self, partition: int) -> tuple[int | None, list[int], list[int]]:
        """The leader, replicas and in-sync replicas of a partition, as broker ids."""
        partitions = self._cluster._engine.partitions(self._name.decode("ascii"))
        if partition >= len(partitions):
            raise LeaderNotFoundError(f"partition {self._name!r}-{partition} is not known to the cluster any more")
        return partitions[partition]

    def _sync(self) -> None:
        engine, name = self._cluster._engine, self._name.decode("ascii")
        count = engine.partition_count(name)
        if count == 0 and not self._partitions:
            engine.topic(name, False)
            count = engine.partition_count(name)
        for partition in range(len(self._partitions), count):
            self._partitions.setdefault(partition, Partition(self, partition))
        if count > 0:
            # A topic that was deleted and created again may have fewer partitions.
            for partition in [partition for partition in self._partitions if partition >= count]:
                self._partitions.pop(partition, None)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} (name={self._name!r})>"
