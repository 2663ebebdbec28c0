"""Brings the engine's log lines to `logging`, on a thread of its own."""

import os
import threading

from . import _engine

_starting = threading.Lock()
_pid: int | None = None


def start() -> None:
    """Starts the thread, unless this process has one. A forked child starts its own."""
    global _pid
    with _starting:
        if _pid == os.getpid():
            return
        _pid = os.getpid()
        threading.Thread(target=_engine.forward_log, name="pykafka-log", daemon=True).start()


def _forget_lock_of_the_parent() -> None:
    global _starting
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_forget_lock_of_the_parent)
