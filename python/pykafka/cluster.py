"""Brokers and topics, as the engine knows them at the moment.

The engine refreshes its view of the cluster by itself. The objects here follow it: each look at
`brokers`, `topics` or a partition's `leader` first takes over what has changed, and objects keep
their identity while it does.
"""

import logging
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import _engine
from .broker import Broker
from .exceptions import NotInThisRelease
from .utils.error_handlers import valid_int
from .utils.names import parse_hosts, to_bytes

if TYPE_CHECKING:
    from .topic import Topic

log = logging.getLogger(__name__)

#: The limit of connecting to one broker, name look-up and handshakes included, in milliseconds.
CONNECT_TIMEOUT_MS = 10_000


class TopicDict(dict[bytes, "weakref.ref[Topic] | None"]):
    """The topics of a cluster by name. `topics[name]` is a `Topic`; `name` may be str or bytes.

    A topic that does not exist is created, as in pykafka 2, if the broker allows that.
    """

    def __init__(self, cluster: "Cluster", exclude_internal: bool) -> None:
        super().__init__()
        self._cluster = cluster
        self._exclude_internal = exclude_internal

    def __getitem__(self, name: str | bytes) -> "Topic":  # type: ignore[override]
        key = to_bytes(name, "a topic's name")
        if self._is_excluded(key):
            raise KeyError(f"topic {key!r} is internal; exclude_internal_topics=False shows it")
        ref = self.get(key)
        topic = ref() if ref is not None else None
        if topic is None:
            topic = self._cluster._make_topic(key, create=key not in self)
            dict.__setitem__(self, key, weakref.ref(topic))
        return topic

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str):
            return name.isascii() and super().__contains__(name.encode("ascii"))
        return super().__contains__(name)

    def values(self) -> "list[Topic]":  # type: ignore[override]
        """Every topic, as `Topic` objects."""
        return [self[name] for name in list(self)]

    def _is_excluded(self, name: bytes) -> bool:
        return self._exclude_internal and name.startswith(b"__")

    def _live(self) -> "Iterator[Topic]":
        for ref in list(super().values()):
            topic = ref() if ref is not None else None
            if topic is not None:
                yield topic

    def _follow(self, names: set[bytes]) -> None:
        """Drops the topics that are gone and adds those that are new."""
        for name in set(self) - names:
            del self[name]
        for name in sorted(names - set(self)):
            if not self._is_excluded(name):
                dict.__setitem__(self, name, None)


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
        self._engine = _engine.Client(
            parse_hosts(hosts),
            request_timeout_ms,
            min(request_timeout_ms, CONNECT_TIMEOUT_MS),
            valid_int(offsets_channel_socket_timeout_ms, name="offsets_channel_socket_timeout_ms"),
        )
        self.handler = handler
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
        version, controller_id, brokers = self._engine.brokers()
        if version == self._version:
            return
        self._version, self._controller_id = version, controller_id
        for broker_id in self._brokers.keys() - {broker_id for broker_id, _, _ in brokers}:
            self._brokers.pop(broker_id, None)
        for broker_id, host, port in brokers:
            known = self._brokers.get(broker_id)
            if known is None:
                self._brokers[broker_id] = Broker(broker_id, host.encode("ascii", "replace"), port, cluster=self)
            else:
                known._move(host.encode("ascii", "replace"), port)

    def _make_topic(self, name: bytes, create: bool) -> "Topic":
        from .topic import Topic

        if create:
            log.info("topic %r is not known: asking the cluster for it, which creates it where that is allowed", name)
        self._engine.topic(name.decode("ascii"), create)
        return Topic(self, name)
