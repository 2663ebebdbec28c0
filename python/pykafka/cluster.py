"""Brokers and topics, as the engine knows them at the moment.

The engine refreshes its view of the cluster by itself. The objects here follow it: each look at
`brokers`, `topics` or a partition's `leader` first takes over what has changed, and objects keep
their identity while it does.
"""

import logging
import threading
from typing import TYPE_CHECKING, Any

from . import _engine, _logs
from .broker import Broker
from .exceptions import NotInThisRelease
from .utils.error_handlers import valid_int
from .utils.names import parse_hosts, to_bytes

if TYPE_CHECKING:
    from .topic import Topic

log = logging.getLogger(__name__)

#: The limit of connecting to one broker, name look-up and handshakes included, in milliseconds.
CONNECT_TIMEOUT_MS = 10_000

#: What all producers of a client may buffer together, in bytes. Kafka: `buffer.memory`.
BUFFER_MEMORY = 32 << 20

#: How long calls wait for memory or a leader, in milliseconds. Kafka: `max.block.ms`.
MAX_BLOCK_MS = 60_000

#: An answer longer than this is refused before it is read.
MAX_RESPONSE_BYTES = 100_000_000


class TopicDict(dict[bytes, "Topic"]):
    """The topics of a cluster by name; `name` may be str or bytes.

    `topics[name]` creates a topic that does not exist, as in pykafka 2, if the broker allows that. Nothing else here
    asks the cluster: `update_cluster` brings the dictionary up to date.
    """

    def __init__(self, cluster: "Cluster", exclude_internal: bool) -> None:
        super().__init__()
        self._cluster = cluster
        self._exclude_internal = exclude_internal
        # Held while topics are added and removed, never while the cluster is asked.
        self._changing = threading.Lock()

    def __getitem__(self, name: str | bytes) -> "Topic":
        key = to_bytes(name, "a topic's name")
        if self._is_excluded(key):
            raise KeyError(f"topic {key!r} is internal; exclude_internal_topics=False shows it")
        topic = super().get(key)
        if topic is None:
            self._cluster._find_topic(key)
            with self._changing:
                topic = self._add(key)
        return topic

    def __contains__(self, name: object) -> bool:
        return super().__contains__(_key(name))

    def get(self, name: str | bytes, default: Any = None) -> Any:
        """The topic, or `default` if it is not among those that the last update found; never creates one."""
        return super().get(_key(name), default)

    def _is_excluded(self, name: bytes) -> bool:
        return self._exclude_internal and name.startswith(b"__")

    def _add(self, name: bytes) -> "Topic":
        from .topic import Topic

        return self.setdefault(name, Topic(self._cluster, name))

    def _follow(self, names: set[bytes]) -> None:
        """Drops the topics that are gone and adds those that are new."""
        with self._changing:
            for name in set(self) - names:
                self.pop(name, None)
            for name in sorted(names - set(self)):
                if not self._is_excluded(name):
                    self._add(name)


def _key(name: Any) -> Any:
    """A name as the dictionary keeps it; what cannot be a name stays what it is, and is not found."""
    return name.encode("ascii") if isinstance(name, str) and name.isascii() else name


class Cluster:
    """The brokers and topics behind a `KafkaClient`; its arguments are described there."""

    def __init__(
        self,
        hosts: str | bytes,
        handler: object = None,
        socket_timeout_ms: int = 30 * 1000,
        offsets_channel_socket_timeout_ms: int = 10 * 1000,
        exclude_internal_topics: bool = True,
        source_address: str = "",
        zookeeper_hosts: str | None = None,
        ssl_config: Any = None,
        broker_version: str = "0.9.0",
        use_greenlets: bool = False,
        *,
        buffer_memory: int = BUFFER_MEMORY,
        max_block_ms: int = MAX_BLOCK_MS,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        for name, given in {
            "zookeeper_hosts": zookeeper_hosts,
            "use_greenlets": use_greenlets,
            "source_address": source_address,
            "ssl_config": ssl_config,
        }.items():
            if given:
                raise NotInThisRelease(f"{name} is not in this release of pykafka; leave it out to connect without it")
        request_timeout_ms = valid_int(socket_timeout_ms, name="socket_timeout_ms")
        _logs.start()
        self._engine = _engine.Client(
            bootstrap_servers=parse_hosts(hosts),
            request_timeout_ms=request_timeout_ms,
            connect_timeout_ms=min(request_timeout_ms, CONNECT_TIMEOUT_MS),
            offsets_timeout_ms=valid_int(offsets_channel_socket_timeout_ms, name="offsets_channel_socket_timeout_ms"),
            buffer_memory=valid_int(buffer_memory, name="buffer_memory"),
            max_block_ms=valid_int(max_block_ms, name="max_block_ms"),
            max_response_bytes=valid_int(max_response_bytes, name="max_response_bytes"),
        )
        self.handler = handler
        # Held while `_brokers` changes, never while the cluster is asked.
        self._changing = threading.Lock()
        self._version = -1
        self._brokers: dict[int, Broker] = {}
        self._controller_id: int | None = None
        self._topics = TopicDict(self, exclude_internal_topics)
        self._engine.connect()
        self._follow()

    @property
    def brokers(self) -> dict[int, Broker]:
        """The brokers by id."""
        self._sync()
        return self._brokers

    @property
    def topics(self) -> TopicDict:
        """The topics by name."""
        return self._topics

    @property
    def controller_broker(self) -> Broker | None:
        """The broker that creates and deletes topics, if the cluster names one."""
        brokers = self.brokers
        return None if self._controller_id is None else brokers.get(self._controller_id)

    def update(self) -> None:
        """Asks the cluster anew for its brokers and all its topics."""
        self._engine.refresh()
        self._follow()

    def _follow(self) -> None:
        self._sync()
        self._topics._follow({name.encode("ascii", "replace") for name in self._engine.topic_names()})

    def get_group_coordinator(self, consumer_group: str | bytes) -> Broker:
        """The broker that keeps the group's offsets.

        :raises GroupCoordinatorNotAvailable: if there is none after several tries.
        """
        group = to_bytes(consumer_group, "consumer_group").decode("ascii")
        broker_id = self._engine.group_coordinator(group)
        if broker_id not in self.brokers:
            self.update()
        return self._brokers[broker_id]

    def _sync(self) -> None:
        """Takes over what the engine has learnt of the brokers since the last look."""
        with self._changing:
            version, controller_id, brokers = self._engine.brokers()
            if version == self._version:
                return
            self._version, self._controller_id = version, controller_id
            for broker_id in self._brokers.keys() - {broker_id for broker_id, _, _ in brokers}:
                del self._brokers[broker_id]
            for broker_id, host, port in brokers:
                known = self._brokers.get(broker_id)
                if known is None:
                    self._brokers[broker_id] = Broker(broker_id, host.encode("ascii", "replace"), port, cluster=self)
                else:
                    known._move(host.encode("ascii", "replace"), port)

    def _find_topic(self, name: bytes) -> None:
        """Waits until the cluster has a topic, creating it if the broker allows that."""
        log.info("topic %r is not known: asking the cluster for it, which creates it where that is allowed", name)
        self._engine.topic(name.decode("ascii"), True)
