"""Finds the brokers that are registered in ZooKeeper, for `KafkaClient(zookeeper_hosts=...)`."""

import json
from typing import Any

from .exceptions import NoBrokersAvailableError, ZooKeeperError

try:
    from kazoo.client import KazooClient
    from kazoo.exceptions import KazooException, NoNodeError
except ImportError as error:
    raise ImportError(
        "zookeeper_hosts needs the package kazoo: pip install 'pykafka[zookeeper]'; hosts= finds the cluster without it"
    ) from error

#: The parent of the brokers' nodes, which hold their addresses.
_BROKERS = "/brokers/ids"


def brokers_in_zookeeper(hosts: str, timeout_ms: int) -> list[tuple[str, int]]:
    """The host and port of each broker.

    :param timeout_ms: the limit for each response of ZooKeeper, in milliseconds.
    :raises ZooKeeperError: if ZooKeeper does not answer.
    :raises NoBrokersAvailableError: if no broker is registered there.
    """
    zookeeper = KazooClient(hosts, timeout=timeout_ms / 1000, read_only=True)
    try:
        zookeeper.start(timeout=timeout_ms / 1000)
        addresses = [_address(zookeeper, broker) for broker in zookeeper.get_children(_BROKERS)]
    except NoNodeError:
        addresses = []
    except (KazooException, zookeeper.handler.timeout_exception) as error:
        raise ZooKeeperError(f"the brokers cannot be read from ZooKeeper at {hosts}: {error}") from error
    finally:
        zookeeper.stop()
        zookeeper.close()
    found = sorted(address for address in addresses if address is not None)
    if not found:
        raise NoBrokersAvailableError(
            f"no broker is registered in ZooKeeper at {hosts}; check the chroot after the ports"
        )
    return found


def _address(zookeeper: Any, broker: str) -> tuple[str, int] | None:
    """The address of a broker's plaintext listener; None if the broker is gone or has no such listener."""
    try:
        data, _ = zookeeper.get(f"{_BROKERS}/{broker}")
    except NoNodeError:
        return None
    registered = json.loads(data)
    host, port = registered.get("host"), registered.get("port", -1)
    return (host, port) if host and port > 0 else None
