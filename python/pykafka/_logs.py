"""Forwards the engine's log lines to `logging`: in a thread or, where gevent has patched threads, in a greenlet."""

import os
import threading

from . import _engine, _greenlets


class _Forwarding:
    """The forwarding thread of this process. A forked child starts its own."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Resets the state in a forked child, which has neither the thread nor the lock of its parent."""
        self._starting = threading.Lock()
        self._is_started = False

    def start(self) -> None:
        """Starts the thread, unless it runs.

        Only in the first interpreter: Python aborts if another one ends while it has a daemon thread.
        """
        if _greenlets.are_threads():
            from . import _gevent

            _gevent.forward_log()
            return
        with self._starting:
            if _engine.is_main_interpreter and not self._is_started:
                threading.Thread(target=_engine.forward_log, name="pykafka-log", daemon=True).start()
                self._is_started = True


_forwarding = _Forwarding()
os.register_at_fork(after_in_child=_forwarding.forget)
start = _forwarding.start
