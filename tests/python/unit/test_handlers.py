"""The handlers, which a program gets from `client.cluster.handler`."""

import pykafka
import pytest
from pykafka.handlers import GEventHandler, RequestHandler, ResponseFuture, ThreadingHandler


@pytest.fixture(params=[ThreadingHandler, GEventHandler])
def handler(request):
    return request.param()


def test_what_is_spawned_runs_beside_its_caller(handler):
    arrived = handler.Queue()
    worker = handler.spawn(arrived.put, 7, name="putting")
    assert arrived.get(timeout=60) == 7
    worker.join()
    with pytest.raises(handler.QueueEmptyError):
        arrived.get(block=False)
    handler.sleep(0)


def test_what_is_spawned_can_be_given_as_to_a_thread(handler):
    arrived = handler.Queue()
    handler.spawn(arrived.put, args=(7,), kwargs={"timeout": 60})
    assert arrived.get(timeout=60) == 7


def test_sockets_are_those_of_the_handler_s_module(handler):
    with handler.Socket.socket() as listener, pytest.raises(handler.SockErr):
        listener.bind(("127.0.0.1", 0))
        handler.Socket.create_connection(listener.getsockname(), timeout=60)


def test_threads_are_daemons_with_a_name_that_says_whose_they_are():
    thread = ThreadingHandler().spawn(lambda: None, name="work")
    assert thread.daemon
    assert thread.name.endswith(": pykafka.work")


def test_locks_and_events_are_the_handlers(handler):
    if isinstance(handler, GEventHandler):
        lock = handler.Lock()
        with lock, lock:
            pass
    with handler.Lock(), handler.RLock(), handler.Semaphore(1):
        event = handler.Event()
        event.set()
        assert event.wait(60)


def test_a_future_gives_the_response_or_raises_the_error(handler):
    future = ResponseFuture(handler)
    handler.spawn(future.set_response, b"12")
    assert future.get(int, timeout=60) == 12
    failed = ResponseFuture(handler)
    failed.set_error(KeyError("no"))
    with pytest.raises(KeyError):
        failed.get()
    with pytest.raises(TimeoutError):
        ResponseFuture(handler).get(timeout=0.01)


class Echo:
    """Answers each request with itself, and fails for `bad`."""

    def request(self, request):
        self.last = request
        if request == "bad":
            raise OSError("disconnected")

    def response(self):
        return self.last


def test_requests_are_answered_in_order_until_it_is_stopped(handler):
    requests = RequestHandler(handler, Echo())
    requests.start()
    futures = [requests.request(name) for name in ("a", "bad", "c")]
    assert requests.request("nothing", has_response=False) is None
    assert (futures[0].get(timeout=60), futures[2].get(timeout=60)) == ("a", "c")
    with pytest.raises(OSError, match="disconnected"):
        futures[1].get(timeout=60)
    requests.stop()
    requests.stop()


def test_a_client_has_the_handler_that_it_was_made_with(bootstrap):
    assert isinstance(pykafka.KafkaClient(bootstrap).cluster.handler, ThreadingHandler)
    own = ThreadingHandler()
    assert pykafka.Cluster(bootstrap, own).handler is own
