"""Waits and calls that let other greenlets run, without importing gevent in programs that do not use it."""

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from . import _forks

P = ParamSpec("P")
T = TypeVar("T")

#: Set when the first client uses greenlets.
_are_used = threading.Event()


def are_threads() -> bool:
    """Whether gevent has patched `threading`, so that its threads are greenlets."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("threading")


def use(wanted: bool) -> None:
    """From now on, waits of the engine let other greenlets run, if that is wanted or gevent has patched threads.

    :raises ImportError: if it is wanted and gevent is not installed.
    """
    if not (wanted or are_threads()):
        return
    try:
        from . import _gevent
    except ImportError as error:
        raise ImportError("use_greenlets needs gevent: pip install 'pykafka[gevent]'") from error
    _gevent.use()
    _are_used.set()


def _must_give_way() -> bool:
    """Whether a wait on the primitives of threads would stop other greenlets of this thread."""
    if not _are_used.is_set() or are_threads():
        return False
    from . import _gevent

    return _gevent.has_hub()


def apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function that waits as threads do, and lets other greenlets run meanwhile."""
    if not _must_give_way():
        return function(*args, **kwargs)
    from . import _gevent

    return _gevent.in_pool(function, *args, **kwargs)


def wait(event: threading.Event, seconds: float) -> bool:
    """Waits for an event, no longer than so many seconds, and lets other greenlets run."""
    if not _must_give_way():
        return event.wait(seconds)
    from . import _gevent

    return event.is_set() or _gevent.sleep_for(event, seconds)


def home(is_wanted: Callable[[], bool]) -> Callable[..., Any]:
    """Returns how other threads call the program's functions: in a greenlet of this thread, if it has any.

    :param is_wanted: whether to go on waiting for the call to return.
    """
    if _are_used.is_set():
        from . import _gevent

        if _gevent.has_hub():
            return _gevent.Home(is_wanted).call
    return _call


def _call(function: Callable[..., T], *args: Any) -> T:
    return function(*args)


class Lock:
    """A reentrant lock. Waiting for it lets other greenlets run."""

    def __init__(self) -> None:
        self._lock = _forks.Lock(threading.RLock)

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=not _must_give_way()):
            from . import _gevent

            _gevent.acquire(self._lock)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()
