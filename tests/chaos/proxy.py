"""A TCP proxy in front of brokers that delays, resets, cuts off and swallows what passes.

One thread serves all connections. A mischief is what it does to them from `begin` until `heal`, to those that are open
and to new ones.
"""

import collections
import contextlib
import heapq
import itertools
import random
import selectors
import socket
import struct
import threading
import time

_CHUNK = 65_536


class _Pipe:
    """One direction of a connection."""

    def __init__(self, source, target, is_answer):
        self.source, self.target, self.is_answer = source, target, is_answer
        self.waiting = bytearray()
        #: When the newest delayed bytes go out: bytes keep their order.
        self.due = 0.0


class _Connection:
    def __init__(self, client, server):
        self.client, self.server, self.opened = client, server, time.monotonic()
        self.pipes = [_Pipe(client, server, False), _Pipe(server, client, True)]
        self.answered = 0
        self.is_closed = False


class Proxy(threading.Thread):
    """Forwards connections.

    :param routes: `{port: target_port}` on 127.0.0.1.
    """

    def __init__(self, routes):
        super().__init__(daemon=True)
        self._selector = selectors.DefaultSelector()
        self._random = random.Random(0)
        self._connections = {}
        self._delayed, self._numbers = [], itertools.count()
        self._is_ending = False
        self._mischiefs, self._mischief = [], {}
        #: How many bytes and connections have met each piece of mischief.
        self._met = collections.Counter()
        for port, target in routes.items():
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(128)
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, target)

    def begin(self, mischief):
        """Adds a mischief; returns how often it was met before."""
        self._mischiefs.append(mischief)
        self._mischief = dict(collections.ChainMap(*self._mischiefs))
        return self.met_by(mischief)

    def heal(self, mischief):
        """Ends a mischief. What was swallowed is gone, so those connections end."""
        self._mischiefs.remove(mischief)
        left = dict(collections.ChainMap(*self._mischiefs))
        if "hole" in mischief:
            self._mischief = left | {"reset_after": 0.0}
            time.sleep(0.3)
        self._mischief = left

    def met_by(self, mischief):
        """How many bytes and connections have met a mischief."""
        return sum(self._met[piece] for piece in mischief)

    def end(self):
        self._is_ending = True
        self.join()

    def run(self):
        while not self._is_ending:
            for key, _ in self._selector.select(self._patience()):
                if isinstance(key.data, int):
                    self._accept(key.fileobj, key.data)
                else:
                    self._read(*key.data)
            self._send_delayed()
            self._reset_old()
        for connection in [*self._connections.values()]:
            self._close(connection)
        for key in [*self._selector.get_map().values()]:
            key.fileobj.close()

    def _patience(self):
        return min(0.05, max(0.0, self._delayed[0][0] - time.monotonic())) if self._delayed else 0.05

    def _accept(self, listener, target):
        client, _ = listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", target), 1)
        except OSError:
            client.close()
            return
        connection = _Connection(client, server)
        self._connections[client] = connection
        for pipe in connection.pipes:
            pipe.source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pipe.source.settimeout(2)
            self._selector.register(pipe.source, selectors.EVENT_READ, (connection, pipe))

    def _read(self, connection, pipe):
        if connection.is_closed:
            return
        try:
            data = pipe.source.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        mischief = self._mischief
        hole = mischief.get("hole")
        if hole in ("both", "answers" if pipe.is_answer else "requests"):
            self._met["hole"] += 1
        elif "cut_after" in mischief and pipe.is_answer:
            self._cut(connection, pipe, data, mischief["cut_after"])
        elif "delay" in mischief or pipe.due > time.monotonic():
            self._met["delay"] += 1
            pipe.due = max(pipe.due, time.monotonic() + self._random.uniform(*mischief.get("delay", (0, 0))))
            heapq.heappush(self._delayed, (pipe.due, next(self._numbers), connection, pipe, data))
        elif "one_byte" in mischief and len(data) < 2000:
            self._met["one_byte"] += 1
            for byte in data:
                self._send(connection, pipe, bytes([byte]))
        else:
            self._send(connection, pipe, data)

    def _cut(self, connection, pipe, data, limit):
        room = limit - connection.answered
        connection.answered += len(data)
        self._send(connection, pipe, data[: max(room, 0)])
        if connection.answered >= limit:
            self._met["cut_after"] += 1
            self._close(connection)

    def _send(self, connection, pipe, data):
        if not connection.is_closed:
            try:
                pipe.target.sendall(data)
            except OSError:
                self._close(connection)

    def _send_delayed(self):
        while self._delayed and self._delayed[0][0] <= time.monotonic():
            _, _, connection, pipe, data = heapq.heappop(self._delayed)
            self._send(connection, pipe, data)

    def _reset_old(self):
        limit = self._mischief.get("reset_after")
        if limit is not None:
            now = time.monotonic()
            for connection in [*self._connections.values()]:
                if now - connection.opened >= limit:
                    self._met["reset_after"] += 1
                    self._close(connection, reset=True)

    def _close(self, connection, reset=False):
        if connection.is_closed:
            return
        connection.is_closed = True
        self._connections.pop(connection.client, None)
        for end in (connection.client, connection.server):
            self._selector.unregister(end)
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.close()
