"""Threads or greenlets: the primitives that a program can use through its client's `cluster.handler`.

The engine has its own thread and uses none of these. They are for programs that, as with pykafka 2, start and wait the
same way as their client.
"""

import itertools
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from ._gevent import GEventHandler

log = logging.getLogger(__name__)

__all__ = ["GEventHandler", "Handler", "RequestHandler", "ResponseFuture", "ThreadingHandler"]


class ResponseFuture:
    """A response that comes later."""

    def __init__(self, handler: "Handler") -> None:
        self.response: Any = None
        self.error: BaseException | None = None
        self._ready = handler.Event()

    def set_response(self, response: Any) -> None:
        """Sets the response, and wakes those who wait."""
        self.response = response
        self._ready.set()

    def set_error(self, error: BaseException) -> None:
        """Sets the error in place of a response, and wakes those who wait."""
        self.error = error
        self._ready.set()

    def get(self, response_cls: Callable[[Any], Any] | None = None, timeout: float | None = None, **kwargs: Any) -> Any:
        """Waits for the response; passes it to `response_cls`, if given.

        :param timeout: in seconds; None: for ever.
        :raises TimeoutError: if the time is over.
        """
        if not self._ready.wait(timeout):
            raise TimeoutError(f"no response within {timeout} s")
        if self.error is not None:
            raise self.error
        return response_cls(self.response, **kwargs) if response_cls else self.response


class Handler:
    """The interface of both handlers."""

    #: The exception of an empty `Queue`.
    QueueEmptyError: ClassVar[type[Exception]] = queue.Empty
    #: The exceptions of `Socket` operations.
    SockErr: ClassVar[type[Exception]] = OSError
    #: The exception of a system call on an unknown host.
    GaiError: ClassVar[type[Exception]] = socket.gaierror
    Queue: ClassVar[Any]
    Event: ClassVar[Any]
    Lock: ClassVar[Any]
    RLock: ClassVar[Any]
    Semaphore: ClassVar[Any]
    Socket: ClassVar[Any]

    def sleep(self, seconds: float = 0) -> None:
        """Sleeps, and lets others run."""
        raise NotImplementedError

    def spawn(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs `target(*args)` concurrently; returns the thread or greenlet.

        :param args: the positional arguments as a tuple, as another way to give them.
        :param kwargs: the keyword arguments as a dict.
        :param name: the name of the thread, if it is one.
        """
        raise NotImplementedError


def call_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of `spawn` for its target. They may also be given as for `threading.Thread`."""
    given = dict(kwargs)
    return tuple(given.pop("args", args)), dict(given.pop("kwargs", {})) | given


class ThreadingHandler(Handler):
    """Daemon threads, which do not keep the interpreter from exiting."""

    Queue = queue.Queue
    Event = threading.Event
    Lock = staticmethod(threading.Lock)
    RLock = staticmethod(threading.RLock)
    Semaphore = threading.Semaphore
    Socket: ClassVar[Any] = socket
    _numbers: ClassVar = itertools.count()

    def sleep(self, seconds: float = 0) -> None:
        """Sleeps, and lets other threads run."""
        time.sleep(seconds)

    def spawn(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> threading.Thread:
        """Starts a daemon thread that runs `target(*args, **kwargs)`.

        :param args: the positional arguments as a tuple, as another way to give them.
        :param kwargs: the keyword arguments as a dict.
        :param name: its name; a number and `pykafka` are put in front.
        """
        name = str(kwargs.pop("name", getattr(target, "__name__", "thread"))).removeprefix("pykafka.")
        args, kwargs = call_of(args, kwargs)
        thread = threading.Thread(
            target=target, args=args, kwargs=kwargs, name=f"{next(self._numbers)}: pykafka.{name}", daemon=True
        )
        thread.start()
        return thread


class RequestHandler:
    """Runs the requests of one connection, one after the other, in a thread or greenlet of the handler.

    :param handler: a `ThreadingHandler` or `GEventHandler`.
    :param connection: has `request(request)` and `response()`.
    """

    def __init__(self, handler: Handler, connection: Any) -> None:
        self.handler = handler
        self.connection = connection
        self._requests: Any = handler.Queue()
        self._worker: Any = None
        self._ending = object()

    def start(self) -> None:
        """Starts to handle requests."""
        self._worker = self.handler.spawn(self._work, name="RequestHandler")

    def request(self, request: Any, has_response: bool = True) -> ResponseFuture | None:
        """Queues a request.

        :param has_response: whether a response will come; without one, there is no future.
        """
        future = ResponseFuture(self.handler) if has_response else None
        self._requests.put((request, future))
        return future

    def stop(self) -> None:
        """Stops when the queue is empty."""
        if self._worker is not None:
            self._requests.put((self._ending, None))
            self._worker.join()
            self._worker = None

    def _work(self) -> None:
        while True:
            request, future = self._requests.get()
            if request is self._ending:
                return
            try:
                self.connection.request(request)
                if future is not None:
                    future.set_response(self.connection.response())
            except Exception as error:
                if future is None:
                    log.warning("a request without a response failed: %s", error)
                else:
                    future.set_error(error)


def __getattr__(name: str) -> Any:
    if name == "GEventHandler":
        # Importing gevent takes longer than importing pykafka, and few programs need it.
        try:
            from ._gevent import GEventHandler
        except ImportError as error:
            raise AttributeError(f"{name} needs gevent: pip install 'pykafka[gevent]'") from error
        return GEventHandler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
