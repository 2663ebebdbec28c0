"""Brings the engine's log lines to `logging`, on a thread of its own."""

import os
import threading

from . import _engine


class _Forwarding:
    """The thread of this process. A forked child starts its own."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Takes up the work anew, in a child that has neither the thread nor the lock of its parent."""
        self._starting = threading.Lock()
        self._is_started = False

    def start(self) -> None:
        """Starts the thread, unless there is one.

        Python aborts when an interpreter other than the first ends while it has a daemon thread.
        """
        with self._starting:
            if _engine.is_main_interpreter and not self._is_started:
                threading.Thread(target=_engine.forward_log, name="pykafka-log", daemon=True).start()
                self._is_started = True


_forwarding = _Forwarding()
os.register_at_fork(after_in_child=_forwarding.forget)
start = _forwarding.start
