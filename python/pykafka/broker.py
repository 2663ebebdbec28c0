"""One broker of the cluster."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .exceptions import error_for_code
from .protocol import CreateTopicRequest
from .utils.names import to_bytes

if TYPE_CHECKING:
    from .cluster import Cluster


class Broker:
    """A broker, as the cluster names it. Connections belong to the engine, which opens them when they are needed."""

    def __init__(self, id_: int, host: bytes, port: int, *, cluster: "Cluster") -> None:
        self._id = id_
        self._host = host
        self._port = port
        self._cluster = cluster

    @property
    def id(self) -> int:
        """The broker's id."""
        return self._id

    @property
    def host(self) -> bytes:
        """The host it advertises."""
        return self._host

    @property
    def port(self) -> int:
        """The port it advertises."""
        return self._port

    def create_topics(self, topic_reqs: Iterable[CreateTopicRequest], timeout: int = 0) -> None:
        """Creates topics; the request goes to the cluster's controller, whichever broker this is.

        :param timeout: how long the controller may take before it answers, in milliseconds.
        :raises ProtocolClientError: the first topic's error, after all were tried.
        """
        requests = [
            (
                to_bytes(request.topic_name, "a topic's name").decode("ascii"),
                request.num_partitions,
                request.replication_factor,
                [(partition, list(replicas)) for partition, replicas in request.replica_assignment],
                [(name, value) for name, value in request.config_entries],
            )
            for request in topic_reqs
        ]
        self._raise_first(self._cluster._engine.create_topics(requests, timeout), "create")

    def delete_topics(self, topics: Iterable[str | bytes], timeout: int = 0) -> None:
        """Deletes topics; the request goes to the cluster's controller, whichever broker this is.

        :param timeout: how long the controller may take before it answers, in milliseconds.
        :raises ProtocolClientError: the first topic's error, after all were tried.
        """
        names = [to_bytes(name, "a topic's name").decode("ascii") for name in topics]
        self._raise_first(self._cluster._engine.delete_topics(names, timeout), "delete")

    @staticmethod
    def _raise_first(answers: list[tuple[str, int, str]], verb: str) -> None:
        for topic, code, text in answers:
            if code != 0:
                raise error_for_code(code, f"the broker did not {verb} topic {topic!r}: {text}")

    def _move(self, host: bytes, port: int) -> None:
        self._host, self._port = host, port

    def __repr__(self) -> str:
        return (
            f"<{type(self).__module__}.{type(self).__name__} (id={self._id}, host={self._host!r}, port={self._port})>"
        )
