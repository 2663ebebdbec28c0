"""A consumer group's nodes in ZooKeeper, without consumers and threads.

- `/consumers/<group>/ids/<member>` exists while the member lives, and holds the name of its topic.
- `/consumers/<group>/owners/<topic>/<leader>-<partition>` claims a partition, and holds the owner's member id.

All of them vanish with the session of the member that created them. Under Python 3, pykafka 2.8 wrote the topic in the
second path as `b'topic'`, and sees no nodes but those. A claim therefore creates a node under both names, in one
transaction: members of either version see it, and of two members that claim at the same moment only one succeeds.

Every call here waits for ZooKeeper, up to a limit, and may raise any `KazooException`.
"""

import contextlib
import json
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from .exceptions import ZooKeeperError

try:
    from kazoo.client import KazooClient
    from kazoo.exceptions import KazooException, NodeExistsError, NoNodeError
    from kazoo.protocol.serialization import Connect
    from kazoo.protocol.states import KazooState
except ImportError as error:
    raise ImportError(
        "sharing partitions through ZooKeeper needs the package kazoo: pip install 'pykafka[zookeeper]'; "
        "get_balanced_consumer(group, managed=True) shares them through Kafka and needs neither"
    ) from error

#: Nodes whose children change when the cluster does. A cluster without ZooKeeper has none.
_CLUSTER = ("/brokers/ids", "/brokers/topics")

#: The longest session that a ZooKeeper with the usual `tickTime` of 2 s grants, in milliseconds.
_LONGEST_SESSION_MS = 40_000

#: The session times that ZooKeeper granted, in milliseconds.
_granted_ms: "weakref.WeakKeyDictionary[Any, int]" = weakref.WeakKeyDictionary()


def _note_grants(client: Any) -> None:
    """Notes the session time that ZooKeeper grants whenever the client connects; kazoo does not keep it."""
    connection, this = getattr(client, "_connection", None), weakref.ref(client)
    if connection is None or not hasattr(connection, "_invoke") or client in _granted_ms:
        return
    _granted_ms[client] = 0
    invoke = connection._invoke

    def invoke_and_note(timeout: float, request: Any, *rest: Any, **named: Any) -> Any:
        answer = invoke(timeout, request, *rest, **named)
        client = this()
        if isinstance(request, Connect) and client is not None:
            _granted_ms[client] = answer[0].time_out
        return answer

    connection._invoke = invoke_and_note


def connect(hosts: Any, timeout_ms: int) -> Any:
    """A started `KazooClient`.

    :raises ZooKeeperError: if no host answers in time, or if the chroot does not exist.
    """
    if not isinstance(hosts, str):
        raise TypeError(f"zookeeper_hosts must be a str of host:port, separated by commas, not {type(hosts).__name__}")
    client = KazooClient(hosts, timeout=timeout_ms / 1000)
    _note_grants(client)
    try:
        client.start(timeout=timeout_ms / 1000)
    except client.handler.timeout_exception as error:
        client.close()
        raise ZooKeeperError(
            f"ZooKeeper at {hosts} did not answer within zookeeper_connection_timeout_ms ({timeout_ms} ms); "
            "check the address, or raise the limit"
        ) from error
    if client.chroot and client.exists("/") is None:
        client.stop()
        client.close()
        raise ZooKeeperError(
            f"ZooKeeper at {hosts} has no node {client.chroot!r}, the chroot after the ports; create it, or correct it"
        )
    return client


def check_group(group: str) -> None:
    """Checks that a group's name can be part of a node's path.

    :raises ValueError: if it cannot.
    """
    if not {".", ".."}.isdisjoint(group.split("/")):
        raise ValueError(f"consumer_group {group!r} cannot be in ZooKeeper, where . and .. are no names of nodes")


class Znodes:
    """One member's view of its group's nodes.

    :param client: a connected `KazooClient`.
    :param changed: called in ZooKeeper's thread when something that was read has changed; it must not block.
    :param lost: called in that thread when the session has ended, and with it all nodes of the member.
    """

    def __init__(
        self,
        client: Any,
        group: str,
        topic: bytes,
        member: bytes,
        timeout_ms: int,
        changed: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self.client = client
        self.member = member
        self._topic = topic
        self._changed = changed
        self._lost = lost
        self._ids = f"/consumers/{group}/ids"
        owners = f"/consumers/{group}/owners"
        self._owners = (f"{owners}/{topic.decode('ascii')}", f"{owners}/{topic!r}")
        # A client that was passed in has its own session timeout.
        self._asked_ms = min(getattr(client, "_session_timeout", timeout_ms), _LONGEST_SESSION_MS)
        _note_grants(client)
        client.add_listener(self._state_changed)

    @property
    def session_ms(self) -> int:
        """How long the session lives after the last request to ZooKeeper, in milliseconds.

        That is what ZooKeeper granted. Of a client that was passed in it is not known before the client connects again:
        until then, what the client asked for counts, as far as a ZooKeeper with the usual settings grants it.
        """
        return _granted_ms.get(self.client) or self._asked_ms

    def _state_changed(self, state: str) -> None:
        if state == KazooState.LOST:
            self._lost()
        self._changed()

    def _woken(self, _event: Any) -> None:
        self._changed()

    def _answer(self, asked: Any) -> Any:
        try:
            return asked.get(timeout=self.session_ms / 1000)
        except self.client.handler.timeout_exception as error:
            raise ZooKeeperError(f"ZooKeeper did not answer within {self.session_ms} ms") from error
        except KazooException as error:
            # kazoo keeps the exception, and with its traceback our callers' frames and the consumer.
            error.__traceback__ = None
            raise type(error)(*error.args) from None

    def is_member(self) -> bool:
        """Whether the member's node exists and belongs to the client's current session."""
        found = self._answer(self.client.exists_async(f"{self._ids}/{self.member.decode('ascii')}"))
        return found is not None and found.ephemeralOwner == (self.client.client_id or (None,))[0]

    def join(self) -> None:
        """Creates the member's node."""
        for path in self._owners:
            self._answer(self.client.ensure_path_async(path))
        path = f"{self._ids}/{self.member.decode('ascii')}"
        try:
            self._answer(self.client.create_async(path, self._topic, ephemeral=True, makepath=True))
        except NodeExistsError:
            if self.is_member():
                return
            # The node of an expired session: it will vanish, so it must be replaced.
            self._answer(self.client.delete_async(path))
            self._answer(self.client.create_async(path, self._topic, ephemeral=True))

    def members(self) -> list[bytes]:
        """The ids of the members that read the topic. `changed` is called when they change."""
        names = self._answer(self.client.get_children_async(self._ids, watch=self._woken))
        contents = self._contents(f"{self._ids}/{name}" for name in names)
        return sorted(path.rpartition("/")[2].encode() for path, topic in contents.items() if topic == self._topic)

    def watch_cluster(self) -> int:
        """Makes `changed` be called when a broker or topic comes or goes, or the topic gets partitions.

        Returns the topic's number of partitions; 0 if Kafka does not keep its topics in ZooKeeper.
        """
        for asked in [self.client.get_children_async(path, watch=self._woken) for path in _CLUSTER]:
            with contextlib.suppress(NoNodeError):
                self._answer(asked)
        try:
            path = f"{_CLUSTER[1]}/{self._topic.decode('ascii')}"
            content, _ = self._answer(self.client.get_async(path, watch=self._woken))
            return len(json.loads(content)["partitions"])
        except (NoNodeError, ValueError, KeyError, TypeError):
            return 0

    def claims(self) -> dict[int, dict[str, bytes]]:
        """The claims, as `{partition: {path: member}}`, including everything written before this call."""
        self._answer(self.client.sync_async(self._owners[0]))
        paths = [
            f"{directory}/{name}"
            for directory in self._owners
            for name in self._answer(self.client.get_children_async(directory))
            if name.rpartition("-")[2].isdigit()
        ]
        claims: dict[int, dict[str, bytes]] = {}
        for path, owner in self._contents(paths).items():
            claims.setdefault(int(path.rpartition("-")[2]), {})[path] = owner
        return claims

    def _contents(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The content of these nodes; nodes that do not exist are left out."""
        contents = {}
        for path, asked in [(path, self.client.get_async(path)) for path in paths]:
            with contextlib.suppress(NoNodeError):
                contents[path], _ = self._answer(asked)
        return contents

    def claim(self, partition: int, leader: int, claimed: Iterable[str]) -> bool:
        """Claims a partition, replacing this member's nodes for it. False if another member has claimed it."""
        wanted = {f"{directory}/{leader}-{partition}" for directory in self._owners}
        transaction = self.client.transaction()
        for path in set(claimed) - wanted:
            transaction.delete(path)
        for path in wanted - set(claimed):
            transaction.create(path, self.member, ephemeral=True)
        outcomes = self._answer(transaction.commit_async()) if transaction.operations else []
        errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if any(isinstance(error, NodeExistsError) for error in errors):
            return False
        if errors:
            raise errors[0]
        return True

    def watch_claim(self, path: str) -> None:
        """Makes `changed` be called when this claim is given up."""
        if self._answer(self.client.exists_async(path, watch=self._woken)) is None:
            self._changed()

    def release(self, paths: Iterable[str]) -> None:
        """Gives up claims."""
        for asked in [self.client.delete_async(path) for path in paths]:
            with contextlib.suppress(NoNodeError):
                self._answer(asked)

    def close(self, keep_client: bool) -> None:
        """Removes all nodes of the member: by ending the session or, if the client is kept, one by one."""
        self.client.remove_listener(self._state_changed)
        if not keep_client:
            self.client.stop()
            self.client.close()
            return
        claims = self.claims()
        own = [path for owners in claims.values() for path, owner in owners.items() if owner == self.member]
        self.release([*own, f"{self._ids}/{self.member.decode('ascii')}"])


__all__ = ["KazooException", "Znodes", "check_group", "connect"]
