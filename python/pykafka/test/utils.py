"""A cluster for a test, and retries."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

from ..broker import Broker
from ..client import KafkaClient
from ..protocol import CreateTopicRequest
from ..testing import Broker as EmbeddedBroker

__all__ = ["KafkaConnection", "KafkaInstance", "get_cluster", "retry", "stop_cluster"]

Result = TypeVar("Result")

#: How long the cluster may take to create or delete a topic, in milliseconds.
TIMEOUT_MS = 10_000


class KafkaConnection:
    """An existing cluster.

    :param brokers: one or more `host:port`, separated by commas.
    """

    def __init__(self, brokers: str) -> None:
        self.brokers = brokers
        #: Always empty; kept for programs that pass it on.
        self.zookeeper: str | None = None
        self._made: list[str] = []

    def create_topic(self, topic_name: str, num_partitions: int, replication_factor: int) -> None:
        """Creates a topic, which `flush` deletes.

        :raises ProtocolClientError: if the cluster refuses.
        """
        request = CreateTopicRequest(topic_name.encode(), num_partitions, replication_factor, [], [])
        self._broker().create_topics([request], TIMEOUT_MS)
        self._made.append(topic_name)

    def delete_topic(self, topic_name: str) -> None:
        """Deletes a topic and all its messages.

        :raises ProtocolClientError: if the cluster refuses.
        """
        self._broker().delete_topics([topic_name], TIMEOUT_MS)
        self._made = [made for made in self._made if made != topic_name]

    def flush(self) -> None:
        """Deletes the topics that were created here."""
        for topic_name in list(self._made):
            self.delete_topic(topic_name)

    def _broker(self) -> Broker:
        return next(iter(KafkaClient(self.brokers).brokers.values()))


class KafkaInstance(KafkaConnection):
    """An in-memory cluster in this process.

    :param num_instances: the number of brokers.
    """

    def __init__(self, num_instances: int = 1) -> None:
        self._cluster = EmbeddedBroker(brokers=num_instances)
        super().__init__(self._cluster.bootstrap_servers)

    def terminate(self) -> None:
        """Stops it; everything in it is lost."""
        self._cluster.stop()


def get_cluster() -> KafkaConnection:
    """The cluster named by the environment variable `BROKERS`; otherwise an in-memory cluster of three brokers."""
    brokers = os.environ.get("BROKERS")
    return KafkaConnection(brokers) if brokers else KafkaInstance(num_instances=3)


def stop_cluster(cluster: KafkaConnection) -> None:
    """Stops an in-memory cluster; for another cluster, deletes the topics that the test has created."""
    if isinstance(cluster, KafkaInstance):
        cluster.terminate()
    else:
        cluster.flush()


def retry(
    assertion_callable: Callable[[], Result],
    retry_time: float = 10,
    wait_between_tries: float = 0.1,
    exception_to_retry: type[BaseException] | tuple[type[BaseException], ...] = AssertionError,
) -> Result:
    """Calls `assertion_callable` until it no longer raises, and returns its result.

    :param retry_time: for how many seconds to retry; then the last exception is raised.
    :param wait_between_tries: how many seconds to wait between two calls.
    :param exception_to_retry: the exception to retry after; others are raised at once.
    """
    begun = time.monotonic()
    while True:
        try:
            return assertion_callable()
        except exception_to_retry:
            if time.monotonic() - begun >= retry_time:
                raise
            time.sleep(wait_between_tries)
