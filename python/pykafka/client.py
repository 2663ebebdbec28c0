"""`KafkaClient`, where every program starts."""

from types import TracebackType
from typing import Self

from .broker import Broker
from .cluster import BUFFER_MEMORY, MAX_BLOCK_MS, MAX_RESPONSE_BYTES, Cluster, TopicDict
from .connection import SslConfig
from .sasl import Mechanism
from .sasl_authenticators import BaseAuthenticator


class KafkaClient:
    """A connection to a Kafka cluster.

    Connects at once, and returns when the cluster has answered. You need not keep the client: topics, producers and
    consumers keep alive what they use.

    :param hosts: one or more `host:port`, separated by commas; they name the rest of the cluster.
    :param zookeeper_hosts: ZooKeeper's addresses (`host:port,host:port/chroot`). If given, the client starts from the
        brokers registered there, and ignores `hosts`. Needs `pykafka[zookeeper]`.
    :param socket_timeout_ms: the limit of one request; also of connecting, which never takes longer than 10 s.
    :param offsets_channel_socket_timeout_ms: the limit of one commit or fetch of offsets.
    :param use_greenlets: for gevent programs: every call that waits lets other greenlets of its thread run, even if
        gevent has patched nothing. It applies to all clients of the process from then on. If gevent has patched
        threads, it is always on.
    :param exclude_internal_topics: hides topics whose names begin with two underscores.
    :param source_address: the local address to connect from; if it is empty or None, the system chooses. A port other
        than 0 is refused.
    :param ssl_config: an `SslConfig`: connections use TLS, to all brokers. An `ssl.SSLContext` is refused.
    :param broker_version: accepted and ignored: versions are negotiated with each broker.
    :param buffer_memory: how many bytes all producers of the client together may buffer. New in version 3.
    :param max_block_ms: how long `produce` waits for buffer memory, and how long a new topic is waited for. New in
        version 3.
    :param max_response_bytes: the longest response accepted from a broker. New in version 3.
    :param sasl: who the client is: `pykafka.sasl.Plain`, `Scram`, `OAuthBearer` or `Gssapi`. New in version 3.
    :param sasl_authenticator: the same by the names of `pykafka.sasl_authenticators`.
    :raises NoBrokersAvailableError: if none of the hosts answers; the text says why.
    :raises AuthenticationException: if the client does not trust a broker, or a broker does not trust the client.
    :raises ZooKeeperError: if ZooKeeper does not answer.
    :raises ImportError: with `use_greenlets` or `zookeeper_hosts`, if gevent or kazoo is not installed.
    :raises ValueError: if `hosts`, a number, `ssl_config` or `sasl` is invalid.
    """

    def __init__(
        self,
        hosts: str | bytes = "127.0.0.1:9092",
        zookeeper_hosts: str | None = None,
        socket_timeout_ms: int = 30 * 1000,
        offsets_channel_socket_timeout_ms: int = 10 * 1000,
        use_greenlets: bool = False,
        exclude_internal_topics: bool = True,
        source_address: str | None = "",
        ssl_config: SslConfig | None = None,
        broker_version: str = "0.9.0",
        *,
        buffer_memory: int = BUFFER_MEMORY,
        max_block_ms: int = MAX_BLOCK_MS,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        sasl: Mechanism | None = None,
        sasl_authenticator: BaseAuthenticator | None = None,
    ) -> None:
        # First, because a debugger shows also a client whose constructor fails.
        self._hosts = f"{hosts=}" if zookeeper_hosts is None else f"{zookeeper_hosts=}"
        try:
            self.cluster = Cluster(
                hosts,
                None,
                socket_timeout_ms=socket_timeout_ms,
                offsets_channel_socket_timeout_ms=offsets_channel_socket_timeout_ms,
                exclude_internal_topics=exclude_internal_topics,
                source_address=source_address,
                zookeeper_hosts=zookeeper_hosts,
                ssl_config=ssl_config,
                broker_version=broker_version,
                use_greenlets=use_greenlets,
                buffer_memory=buffer_memory,
                max_block_ms=max_block_ms,
                max_response_bytes=max_response_bytes,
                sasl=sasl,
                sasl_authenticator=sasl_authenticator,
            )
        finally:
            # They may be wrong ones, such as a password, which a traceback that shows local variables must not show.
            del ssl_config, sasl, sasl_authenticator

    @property
    def brokers(self) -> dict[int, Broker]:
        """The brokers by id: always the same dict, updated each time it is read."""
        return self.cluster.brokers

    @property
    def topics(self) -> TopicDict:
        """The cluster's topics by name; asking for one that does not exist creates it."""
        return self.cluster.topics

    def update_cluster(self) -> None:
        """Refreshes brokers and topics from the cluster."""
        self.cluster.update()

    def close(self) -> None:
        """Stops the client's producers and consumers, and closes its connections. New in version 3.

        Optional: a client that is no longer used closes by itself. Does nothing if the client is closed. Calls in other
        threads that wait for a topic raise `KafkaException`. Ctrl-C ends the waiting: the rest is closed without it, as
        by the garbage collector.

        :raises KafkaException: the error of the first `stop` that failed, after everything was closed.
        """
        self.cluster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} ({self._hosts})>"
