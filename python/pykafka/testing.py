"""A Kafka inside the process, for tests and for trying things out.

It speaks the real protocol on a real port::

    with pykafka.testing.Broker() as broker:
        client = pykafka.KafkaClient(broker.bootstrap_servers)
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from . import _engine


class Broker:
    """A cluster in memory that listens on loopback ports; it is empty when it starts and forgotten when it stops.

    :param brokers: how many brokers it has; their ids begin with 1.
    :param partitions: how many partitions a topic gets that is created on demand.
    :param ports: the port of each broker; free ones are found for those that have none.
    """

    def __init__(self, brokers: int = 1, partitions: int = 1, ports: Sequence[int] = ()) -> None:
        self._broker = _engine.Broker(brokers, partitions, list(ports))

    @property
    def bootstrap_servers(self) -> str:
        """What to give to `KafkaClient(hosts=...)`."""
        return self._broker.bootstrap_servers

    def create_topic(self, name: str, partitions: int = 1, replication_factor: int = 1) -> None:
        """Creates a topic."""
        self._broker.create_topic(name, partitions, replication_factor)

    def set_broker_down(self, broker_id: int) -> None:
        """Stops one broker: its connections are closed and refused, and its leaders move."""
        self._broker.set_broker_down(broker_id)

    def set_broker_up(self, broker_id: int) -> None:
        """Starts a stopped broker again, on the port that it had."""
        self._broker.set_broker_up(broker_id)

    def refuse_produce(self, error_code: int, times: int = 1) -> None:
        """Answers the next produce requests with an error code, without carrying them out."""
        self._broker.refuse_produce(error_code, times)

    def refuse_commits(self, error_code: int, times: int = 1) -> None:
        """Answers the next commits of offsets with an error code, without carrying them out."""
        self._broker.refuse_commits(error_code, times)

    def silence(self) -> None:
        """From now on takes requests and answers none of them."""
        self._broker.silence()

    def delay(self, milliseconds: int) -> None:
        """From now on answers every request later than it could."""
        self._broker.delay(milliseconds)

    def heal(self) -> None:
        """Ends `silence`, `delay`, `refuse_produce` and `refuse_commits`."""
        self._broker.heal()

    def stop(self) -> None:
        """Closes every connection and listener; does nothing the second time."""
        self._broker.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} ({self.bootstrap_servers})>"
