"""Programs that end with this process, reserved ports, and waits that end when our user is gone.

Linux only. The kernel kills a program started here when this process ends, however it ends, even if the program is
frozen. That holds per *thread*: start programs only in the main thread.
"""

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time

from . import HarnessError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class NobodyWaits(Exception):
    """The process that started us is gone, or has closed our stdin."""


def spawn(command, log_path):
    """Starts `command`; its output is appended to the file `log_path`."""
    parent = os.getpid()

    def die_with_parent():
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    with open(log_path, "ab") as log:
        try:
            # A session of its own: Ctrl-C in a terminal must reach only us, so that we decide the order in which to
            # stop.
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # The harness has one thread.
                preexec_fn=die_with_parent,  # noqa: PLW1509
            )
        except FileNotFoundError:
            raise HarnessError(f"no program {command[0]!r}: real Kafka needs Java 17 or later, install it") from None


class ReservedPort:
    """A free port on 127.0.0.1 that stays reserved while the broker on it is down.

    The reservation is a bound socket that does not listen. The broker can bind the same port, because both allow reuse,
    and the kernel gives the port to nobody else, not even as the local port of a connection. Connections are refused
    until the broker listens.
    """

    def __init__(self):
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        # Only after bind: with it set earlier, the kernel may choose a port that another reservation holds.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.number = self._socket.getsockname()[1]


class Waiter:
    """Sleeps, reads command lines, and notices at once when our user is gone.

    :param watch_parent: also ends with the process that started us; a child that it forked may keep our stdin open.
    :param watch_stdin: reads commands from stdin, and ends with it.
    """

    def __init__(self, watch_parent, watch_stdin):
        self._poll = select.poll()
        self._parent = os.pidfd_open(os.getppid()) if watch_parent else None
        self._stdin = sys.stdin.fileno() if watch_stdin else None
        self._input = b""
        if self._parent is not None:
            self._poll.register(self._parent, select.POLLIN)
        if self._stdin is not None:
            self._poll.register(self._stdin, select.POLLIN)

    def pause(self, seconds):
        """Sleeps; commands that arrive meanwhile are kept."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._turn(left)

    def read_line(self):
        """The next command line, without its line end."""
        while b"\n" not in self._input:
            self._turn(None)
        line, self._input = self._input.split(b"\n", 1)
        return line.decode()

    def _turn(self, seconds):
        for fd, _ in self._poll.poll(None if seconds is None else seconds * 1000):
            if fd == self._parent:
                raise NobodyWaits
            chunk = os.read(fd, 65536)
            if not chunk:
                raise NobodyWaits
            self._input += chunk
