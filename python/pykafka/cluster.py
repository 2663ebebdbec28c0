"""Brokers and topics, as the engine knows them now.

The engine refreshes its metadata by itself. The objects here follow: reading `brokers`, `topics` or a partition's
`leader` first applies what has changed. An object stays the same while its broker or topic exists.
"""

import logging
import sys
import weakref
from collections.abc import Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from . import _engine, _forks, _greenlets, _logs, handlers
from .broker import Broker
from .connection import SslConfig, _tls
from .exceptions import (
    GroupCoordinatorNotAvailable,
    NoBrokersAvailableError,
    SocketDisconnectedError,
    error_for_code,
)
from .protocol import ApiVersionsSpec, DescribeGroupResponse
from .sasl import Mechanism
from .sasl_authenticators import BaseAuthenticator, _mechanism
from .utils.error_handlers import valid_int
from .utils.live_dict import LiveDict
from .utils.names import parse_hosts, parse_source_address, to_bytes

if TYPE_CHECKING:
    from .topic import Topic

log = logging.getLogger(__name__)

#: The limit for connecting to a broker, including the name look-up and handshakes, in milliseconds.
CONNECT_TIMEOUT_MS = 10_000

#: How many bytes all producers of a client together may buffer. Kafka: `buffer.memory`.
BUFFER_MEMORY = 32 << 20

#: How long calls wait for buffer memory or a leader, in milliseconds. Kafka: `max.block.ms`.
MAX_BLOCK_MS = 60_000

#: A longer response is refused before it is read, in bytes.
MAX_RESPONSE_BYTES = 100_000_000


class _Stoppable(Protocol):
    def stop(self) -> None: ...

    def _drop(self) -> None: ...


class TopicDict(LiveDict[bytes, "Topic"]):
    """The topics of a cluster by name, which may be str or bytes.

    As in pykafka 2, `topics[name]` creates a topic that does not exist, if the cluster allows that, and raises
    `NoBrokersAvailableError` if no broker answers. No other method asks the cluster: `update_cluster` refreshes the
    dictionary.
    """

    def __init__(self, cluster: "Cluster", exclude_internal: bool) -> None:
        super().__init__()
        self._cluster = cluster
        self._exclude_internal = exclude_internal
        # Held while topics are added and removed, never while waiting for the cluster.
        self._changing = _forks.Lock()

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
        """The topic, or `default` if the last update did not find it; never creates one."""
        return super().get(_key(name), default)

    def _is_excluded(self, name: bytes) -> bool:
        return self._exclude_internal and name.startswith(b"__")

    def _add(self, name: bytes) -> "Topic":
        from .topic import Topic

        return self.setdefault(name, Topic(self._cluster, name))

    def _follow(self, names: set[bytes]) -> None:
        """Removes topics that no longer exist, and adds new ones."""
        with self._changing:
            for name in set(self) - names:
                self.pop(name, None)
            for name in sorted(names - set(self)):
                if not self._is_excluded(name):
                    self._add(name)


def _key(name: Any) -> Any:
    """The key for a name. Something that cannot be a name stays as it is, and is not found."""
    return name.encode("ascii") if isinstance(name, str) and name.isascii() else name


def _is_gevents(handler: object) -> bool:
    gevents = sys.modules.get("pykafka._gevent")
    return gevents is not None and isinstance(handler, gevents.GEventHandler)


class Cluster:
    """The brokers and topics of a `KafkaClient`, which documents the arguments."""

    def __init__(
        self,
        hosts: str | bytes,
        handler: object = None,
        socket_timeout_ms: int = 30 * 1000,
        offsets_channel_socket_timeout_ms: int = 10 * 1000,
        exclude_internal_topics: bool = True,
        source_address: str | None = "",
        zookeeper_hosts: str | None = None,
        ssl_config: SslConfig | None = None,
        broker_version: str = "0.9.0",
        use_greenlets: bool = False,
        *,
        buffer_memory: int = BUFFER_MEMORY,
        max_block_ms: int = MAX_BLOCK_MS,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        sasl: Mechanism | None = None,
        sasl_authenticator: BaseAuthenticator | None = None,
    ) -> None:
        try:
            tls = _tls(ssl_config)
            mechanism = _mechanism(sasl, sasl_authenticator, ssl_config)
        finally:
            # They may be wrong ones, such as a password, which a traceback that shows local variables must not show.
            del ssl_config, sasl, sasl_authenticator
        use_greenlets = use_greenlets or _is_gevents(handler)
        _greenlets.use(use_greenlets)
        request_timeout_ms = valid_int(socket_timeout_ms, name="socket_timeout_ms")
        _logs.start()
        if zookeeper_hosts is None:
            servers = parse_hosts(hosts)
        else:
            from ._discovery import brokers_in_zookeeper

            servers = brokers_in_zookeeper(zookeeper_hosts, request_timeout_ms)
        self._engine = _engine.Client(
            bootstrap_servers=servers,
            request_timeout_ms=request_timeout_ms,
            connect_timeout_ms=min(request_timeout_ms, CONNECT_TIMEOUT_MS),
            offsets_timeout_ms=valid_int(offsets_channel_socket_timeout_ms, name="offsets_channel_socket_timeout_ms"),
            buffer_memory=valid_int(buffer_memory, name="buffer_memory"),
            max_block_ms=valid_int(max_block_ms, name="max_block_ms"),
            max_response_bytes=valid_int(max_response_bytes, name="max_response_bytes"),
            source_address=parse_source_address(source_address),
            tls=tls,
            sasl=mechanism,
        )
        if handler is None:
            handler = handlers.GEventHandler() if use_greenlets else handlers.ThreadingHandler()
        self._handler = handler
        # The producers and consumers that were started, for `close`.
        self._users: weakref.WeakSet[_Stoppable] = weakref.WeakSet()
        self._zookeeper_connect = zookeeper_hosts
        # The connections of members that a program runs itself, by the id that it gave them.
        self._connections: dict[Hashable, int] = {}
        # Held while `_brokers` changes, never while waiting for the cluster.
        self._changing = _forks.Lock()
        self._version = -1
        self._brokers: LiveDict[int, Broker] = LiveDict()
        self._controller_id: int | None = None
        self._topics = TopicDict(self, exclude_internal_topics)
        self._engine.connect()
        self._follow()

    @property
    def handler(self) -> Any:
        """The client's way of starting and waiting, for use by the program: see `pykafka.handlers`."""
        return self._handler

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
        """The broker that creates and deletes topics, if the cluster has one."""
        brokers = self.brokers
        return None if self._controller_id is None else brokers.get(self._controller_id)

    def update(self) -> None:
        """Refreshes the brokers and all topics from the cluster. While a broker fails, others are asked.

        :raises NoBrokersAvailableError: if no known broker and none of the hosts answers; the text says why.
        :raises KafkaException: if the client is closed.
        """
        self._engine.refresh()
        self._follow()

    def _follow(self) -> None:
        self._sync()
        self._topics._follow({name.encode("ascii", "replace") for name in self._engine.topic_names()})

    def get_group_coordinator(self, consumer_group: str | bytes) -> Broker:
        """The broker that coordinates a group and stores its offsets.

        :raises GroupCoordinatorNotAvailable: if there is none after several tries.
        """
        group = to_bytes(consumer_group, "consumer_group").decode("ascii")
        broker_id = self._engine.group_coordinator(group)
        if broker_id not in self.brokers:
            self.update()
        broker = self._brokers.get(broker_id)
        if broker is None:
            raise GroupCoordinatorNotAvailable(
                f"broker {broker_id} coordinates the group {group!r}, but the metadata has no address for it"
            )
        return broker

    def get_offset_manager(self, consumer_group: str | bytes) -> Broker:
        """An old name of `get_group_coordinator`."""
        log.warning("Cluster.get_offset_manager is deprecated since pykafka 2.3: use Cluster.get_group_coordinator")
        return self.get_group_coordinator(consumer_group)

    def get_managed_group_descriptions(self) -> dict[bytes, DescribeGroupResponse]:
        """The state and members of all groups that Kafka coordinates, by id.

        :raises SocketDisconnectedError: if a broker cannot be reached, because its groups would be missing.
        :raises ProtocolClientError: if a broker refuses to list its groups.
        """
        descriptions: dict[bytes, DescribeGroupResponse] = {}
        for broker in list(self.brokers.values()):
            listed = broker.list_groups()
            if listed.error != 0:
                raise error_for_code(listed.error, f"broker {broker.id} does not list its groups")
            if listed.groups:
                descriptions.update(broker.describe_groups(listed.groups).groups)
        return descriptions

    def fetch_api_versions(self) -> dict[int, ApiVersionsSpec]:
        """The versions of each API that one of the brokers supports, by API number.

        For information only: the engine negotiates versions with each broker.

        :raises SocketDisconnectedError: if no broker could be reached.
        """
        brokers = list(self.brokers.values())
        for broker in brokers[:-1]:
            try:
                return broker.fetch_api_versions().api_versions
            except SocketDisconnectedError as error:
                log.info("broker %s does not answer, asking the next one: %s", broker.id, error)
        if not brokers:
            raise NoBrokersAvailableError("the cluster names no broker")
        return brokers[-1].fetch_api_versions().api_versions

    def close(self) -> None:
        """Stops the running producers and consumers of this cluster, and closes its connections. New in version 3.

        Does nothing if the cluster is closed. Later calls raise `KafkaException`, and so do calls in other threads that
        wait for a topic. Ctrl-C ends the waiting: the rest is closed without it, as by the garbage collector.

        :raises KafkaException: the error of the first `stop` that failed, after everything was closed.
        """
        failure: Exception | None = None
        self._engine.end_lookups()
        with self._changing:
            users = list(self._users)
        try:
            for user in users:
                try:
                    user.stop()
                except Exception as error:
                    log.warning("while the client was closed, %r did not stop cleanly: %s", user, error)
                    failure = failure or error
        except BaseException:
            for user in users:
                user._drop()
            raise
        finally:
            self._engine.close()
        if failure is not None:
            raise failure

    def _register(self, user: _Stoppable) -> None:
        """Registers something that `close` must stop, without keeping it alive."""
        with self._changing:
            self._users.add(user)

    def _connection(self, connection_id: Hashable) -> int:
        """The number of the connection for the requests with this id."""
        with self._changing:
            if connection_id not in self._connections:
                self._connections[connection_id] = _engine.new_connection(self._engine)
            return self._connections[connection_id]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _sync(self) -> None:
        """Applies what the engine has learnt about brokers since the last call."""
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
        """Waits until the cluster has a topic; creates it if the cluster allows that."""
        log.info("topic %r is not known: asking the cluster for it, which creates it if that is allowed", name)
        self._engine.topic(name.decode("ascii"), True)
