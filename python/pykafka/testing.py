"""An in-memory Kafka in this process, for tests and for trying things out.

It speaks the real protocol on a real port::

    with pykafka.testing.Broker() as broker:
        client = pykafka.KafkaClient(broker.bootstrap_servers)
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from . import _engine


class Broker:
    """An in-memory cluster that listens on loopback ports. It starts empty; when it stops, everything is lost.

    :param brokers: the number of brokers; their ids start at 1.
    :param partitions: the number of partitions of a topic that is created automatically.
    :param ports: the ports of the brokers; for missing ones, free ports are used.
    """

    def __init__(self, brokers: int = 1, partitions: int = 1, ports: Sequence[int] = ()) -> None:
        self._broker = _engine.Broker(brokers, partitions, list(ports))

    @property
    def bootstrap_servers(self) -> str:
        """The addresses, for `KafkaClient(hosts=...)`."""
        return self._broker.bootstrap_servers

    def create_topic(self, name: str, partitions: int = 1, replication_factor: int = 1) -> None:
        """Creates a topic."""
        self._broker.create_topic(name, partitions, replication_factor)

    def set_broker_down(self, broker_id: int) -> None:
        """Stops a broker: closes its connections, refuses new ones, and moves its partitions to other leaders."""
        self._broker.set_broker_down(broker_id)

    def set_broker_up(self, broker_id: int) -> None:
        """Starts a stopped broker again, on its old port."""
        self._broker.set_broker_up(broker_id)

    def refuse_produce(self, error_code: int, times: int = 1) -> None:
        """Answers the next `times` produce requests with an error code, without executing them."""
        self._broker.refuse_produce(error_code, times)

    def refuse_commits(self, error_code: int, times: int = 1) -> None:
        """Answers the next `times` offset commits with an error code, without executing them."""
        self._broker.refuse_commits(error_code, times)

    def silence(self) -> None:
        """From now on, reads requests but answers none."""
        self._broker.silence()

    def delay(self, milliseconds: int) -> None:
        """From now on, delays every response."""
        self._broker.delay(milliseconds)

    def heal(self) -> None:
        """Ends `silence`, `delay`, `refuse_produce` and `refuse_commits`.

        Connections on which a request was left without an answer are closed, so that clients send it again.
        """
        self._broker.heal()

    def stop(self) -> None:
        """Closes all connections and ports; does nothing if it is stopped."""
        self._broker.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} ({self.bootstrap_servers})>"
