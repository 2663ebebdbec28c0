"""The way in: `KafkaClient`."""

from typing import Any

from .cluster import BUFFER_MEMORY, MAX_BLOCK_MS, MAX_RESPONSE_BYTES, Cluster, TopicDict


class KafkaClient:
    """A connection to a Kafka cluster.

    Connects at once and returns when the cluster has answered. It need not be kept: topics, producers
    and consumers keep what they use alive.

    :param hosts: `host:port`, separated by commas; the rest of the cluster is found from there.
    :param zookeeper_hosts: not in this release.
    :param socket_timeout_ms: the limit of one request; connecting has the same limit, but never over 10 s.
    :param offsets_channel_socket_timeout_ms: the limit of one commit or fetch of offsets.
    :param use_greenlets: not in this release.
    :param exclude_internal_topics: hides topics whose name begins with two underscores.
    :param source_address: not in this release.
    :param ssl_config: not in this release.
    :param broker_version: accepted and not used: versions are negotiated with each broker.
    :param buffer_memory: what all producers of the client may buffer together, in bytes. New in version 3.
    :param max_block_ms: how long `produce` waits for memory, and the look for a new topic for its leader. New in
        version 3.
    :param max_response_bytes: the largest answer that is accepted from a broker. New in version 3.
    :raises NoBrokersAvailableError: when none of the hosts answers; the text says why.
    :raises ValueError: when `hosts` or a number cannot work.
    """

    def __init__(
        self,
        hosts: str | bytes = "127.0.0.1:9092",
        zookeeper_hosts: str | None = None,
        socket_timeout_ms: int = 30 * 1000,
        offsets_channel_socket_timeout_ms: int = 10 * 1000,
        use_greenlets: bool = False,
        exclude_internal_topics: bool = True,
        source_address: str = "",
        ssl_config: Any = None,
        broker_version: str = "0.9.0",
        *,
        buffer_memory: int = BUFFER_MEMORY,
        max_block_ms: int = MAX_BLOCK_MS,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
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
        )
        self.brokers = self.cluster.brokers
        self._hosts = hosts

    @property
    def topics(self) -> TopicDict:
        """The cluster's topics by name; asking for one that does not exist creates it."""
        return self.cluster.topics

    def update_cluster(self) -> None:
        """Asks the cluster anew for its brokers and topics."""
        self.cluster.update()

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} (hosts={self._hosts!r})>"
