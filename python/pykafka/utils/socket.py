"""Reads from a socket of the program; the engine's sockets are not visible to Python."""

import socket as sockets

from ..exceptions import SocketDisconnectedError

__all__ = ["recvall_into"]


def recvall_into(socket: sockets.socket, bytea: bytearray, size: int) -> bytearray:
    """Reads `size` bytes from a socket into the beginning of `bytea`, and returns it.

    :raises SocketDisconnectedError: if the connection ends early.
    """
    view = memoryview(bytea)[:size]
    while view:
        try:
            received = socket.recv_into(view)
        except OSError as error:
            raise SocketDisconnectedError(f"the connection was lost with {len(view)} bytes to come: {error}") from error
        if received == 0:
            raise SocketDisconnectedError(f"the connection was closed with {len(view)} bytes to come")
        view = view[received:]
    return bytea
