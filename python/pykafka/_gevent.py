"""Support for gevent; imported only for `use_greenlets` and for `pykafka.handlers.GEventHandler`.

When the engine has to wait, it asks here for the bells of the current thread, and lets other greenlets run until one
rings. A thread without a gevent hub has none, and simply blocks.
"""

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import gevent
import gevent.event
import gevent.lock
import gevent.queue
import gevent.socket
from gevent import monkey
from gevent._hub_local import get_hub_if_exists

from . import _engine, handlers
from .exceptions import ConsumerStoppedException

T = TypeVar("T")

#: Set when the interpreter exits. No greenlet runs after that.
_is_exiting = threading.Event()
atexit.register(_is_exiting.set)

#: How often a lock or an event of threads is checked, in seconds.
_LOOK = 0.01


class _Bells(_engine.Bells):
    """The bells of one hub."""

    def __init__(self, hub: Any) -> None:
        self._waiting: dict[int, Any] = {}
        self._for_log: int | None = None
        # The watcher must not keep the loop alive when the program has nothing else to do.
        self._watcher = hub.loop.io(self.fileno(), 1, ref=False)
        self._watcher.start(self._ring)

    def _ring(self) -> None:
        for number in self.take():
            waiting = self._waiting.get(number)
            if waiting is not None:
                waiting.set()
            elif number == self._for_log:
                # Log handlers may run code of the program, which must not run in the hub.
                gevent.spawn(_engine.flush_log)

    def forward_log(self) -> None:
        """Logs the engine's lines as they come, in this thread."""
        if self._for_log is None:
            self._for_log = _engine.ring_for_log(self)

    def wait(self, number: int, seconds: float) -> None:
        """Lets other greenlets run until the bell with this number rings or the time has passed."""
        if seconds <= 0:
            # `sleep(0)` would only run greenlets that are ready, not those whose own sleep has ended.
            gevent.sleep(1e-6)
            return
        event = self._waiting[number] = gevent.event.Event()
        try:
            event.wait(seconds)
        finally:
            del self._waiting[number]


#: For each hub, the id of the process that made its bells, and the bells. A forked child needs its own.
_known: "weakref.WeakKeyDictionary[Any, tuple[int, _Bells]]" = weakref.WeakKeyDictionary()


def _find() -> _Bells | None:
    """The bells of this thread; None if no other greenlet can run while this one waits."""
    hub = get_hub_if_exists()
    return None if hub is None or gevent.getcurrent() is hub else _bells_of(hub)


def _bells_of(hub: Any) -> _Bells:
    process, bells = _known.get(hub, (0, None))
    if bells is None or process != os.getpid():
        bells = _Bells(hub)
        _known[hub] = (os.getpid(), bells)
    return bells


#: The identity of each running greenlet.
_runners: "weakref.WeakKeyDictionary[Any, _engine.Runner]" = weakref.WeakKeyDictionary()


def _runner() -> _engine.Runner | None:
    """The identity of the current greenlet; None for the main greenlet of a thread, which is the thread itself."""
    current = gevent.getcurrent()
    # It may have read messages before the thread's first greenlet began.
    if current.parent is None or get_hub_if_exists() is None:
        return None
    runner = _runners.get(current)
    if runner is None:
        runner = _runners[current] = _engine.Runner()
        if isinstance(current, gevent.Greenlet):
            # The program may keep a finished greenlet to read its value.
            current.rawlink(lambda ended: _runners.pop(ended, None))
    return runner


def forward_log() -> None:
    """Logs the engine's lines in a greenlet of this thread, for programs whose threads gevent has patched."""
    _bells_of(gevent.get_hub()).forward_log()


def use() -> None:
    """From now on, every wait of the engine lets other greenlets run."""
    _engine.use_greenlets(_find, _runner, monkey.is_object_patched("threading", "local"))


def has_hub() -> bool:
    """Whether there are greenlets in this thread."""
    return get_hub_if_exists() is not None


def in_pool(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Calls a function in a thread of the hub's pool, and lets other greenlets run meanwhile."""
    result: T = _returned(*gevent.get_hub().threadpool.apply(_outcome, (function, args, kwargs)))
    return result


def _outcome(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bool, Any]:
    """Whether the function has returned, and what it returned or raised. The pool would print an exception."""
    try:
        return True, function(*args, **kwargs)
    except BaseException as error:
        return False, error


def _returned(has_returned: bool, value: Any) -> Any:
    if not has_returned:
        raise value
    return value


def sleep_for(event: threading.Event, seconds: float) -> bool:
    """Waits for an event of threads, and lets other greenlets run."""
    with gevent.Timeout(seconds, False):
        while not event.is_set():
            gevent.sleep(_LOOK)
    return event.is_set()


def acquire(lock: Any) -> None:
    """Takes a lock of threads, and lets other greenlets run until it is free."""
    while not lock.acquire(blocking=False):
        gevent.sleep(_LOOK)


class Home:
    """The hub of the thread that makes this: other threads have functions called by a greenlet of it."""

    def __init__(self, is_wanted: Callable[[], bool]) -> None:
        self._hub = gevent.get_hub()
        self._is_wanted = is_wanted

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Calls the function and returns what it returns, or raises what it raises.

        :raises ConsumerStoppedException: if the consumer is stopped, or the program exits, before it returns.
        """
        if get_hub_if_exists() is self._hub:
            return function(*args)
        # The original lock, not gevent's: this thread must wait like a thread.
        ended = monkey.get_original("_thread", "allocate_lock")()
        ended.acquire()
        outcomes: list[tuple[bool, Any]] = []

        def run() -> None:
            outcomes.append(_outcome(function, args, {}))
            ended.release()

        self._hub.loop.run_callback_threadsafe(gevent.spawn, run)
        while not ended.acquire(timeout=0.1):
            if _is_exiting.is_set() or not self._is_wanted():
                raise ConsumerStoppedException("the consumer was stopped while its callback was waited for")
        result: T = _returned(*outcomes[0])
        return result


class GEventHandler(handlers.Handler):
    """Greenlets, as gevent provides them."""

    Queue = gevent.queue.Queue
    Event = gevent.event.Event
    # As in PyKafka 2.8, also the plain lock can be taken again by the greenlet that has it.
    Lock = gevent.lock.RLock
    RLock = gevent.lock.RLock
    Semaphore = gevent.lock.Semaphore
    Socket = gevent.socket

    def sleep(self, seconds: float = 0) -> None:
        """Sleeps, and lets other greenlets run."""
        gevent.sleep(seconds)

    def spawn(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Starts a greenlet that runs `target(*args, **kwargs)`. Greenlets have no `name`, so that is dropped."""
        kwargs.pop("name", None)
        args, kwargs = handlers.call_of(args, kwargs)
        return gevent.spawn(target, *args, **kwargs)
