"""Peers that are not a Kafka broker."""

import contextlib
import socket
import threading

import pytest


class Peer:
    """Listens, counts connections, and handles each one in a thread of its own."""

    def __init__(self, serve):
        self.connections = 0
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = []
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self):
        workers = []
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            self.connections += 1
            self._open.append(connection)
            worker = threading.Thread(target=self._work, args=(connection,))
            worker.start()
            workers.append(worker)
        for worker in workers:
            worker.join()

    def _work(self, connection):
        # The client may close the connection at any moment.
        with contextlib.suppress(OSError):
            self._serve(connection)

    def close(self):
        """Ends all threads."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(0.1)
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for connection in self._open:
            connection.close()


@pytest.fixture
def peer():
    """Starts peers: `peer(serve)`, where `serve(connection)` is called for each connection."""
    with contextlib.ExitStack() as peers:
        yield lambda serve: peers.enter_context(contextlib.closing(Peer(serve)))
