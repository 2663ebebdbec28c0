"""Locks that never hang a forked child.

A child has only the thread that forked. A lock that another thread of the parent held at that moment is never released
in the child, so it is replaced there. What the lock protects may be half-changed, but that thread will not go on.
"""

import os
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any


class Lock:
    """Like `threading.Lock`, but free in a forked child.

    :param make: returns the lock to use.
    """

    def __init__(self, make: Callable[[], Any] = threading.Lock) -> None:
        self._make = make
        self._lock = make()
        _locks.add(self)

    def acquire(self, blocking: bool = True) -> bool:
        acquired: bool = self._lock.acquire(blocking)
        return acquired

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()

    def _replace_if_lost(self) -> None:
        # A reentrant lock that this thread holds can be acquired again, so it stays.
        if self._lock.acquire(False):
            self._lock.release()
        else:
            self._lock = self._make()


_locks: "weakref.WeakSet[Lock]" = weakref.WeakSet()


def _replace_lost_locks() -> None:
    for lock in list(_locks):
        lock._replace_if_lost()


os.register_at_fork(after_in_child=_replace_lost_locks)
