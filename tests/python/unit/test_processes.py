"""Processes that fork or exit while the engine works, and processes with several interpreters."""

import contextlib
import re
import socket
import threading

import pykafka.testing
import pytest


def test_a_child_does_not_wait_at_exit_for_what_only_its_parent_produces(run_python, own_broker):
    done = run_python(
        f"""
        import os, sys, time
        from pykafka import KafkaClient
        topic = KafkaClient({own_broker.bootstrap_servers!r}).topics["parents"]
        held, dropped = topic.get_producer(), topic.get_producer()
        print("ready", flush=True)
        sys.stdin.readline()
        for producer in (held, dropped):
            producer.produce(b"v")
        del producer, dropped
        child = os.fork()
        if child == 0:
            sys.exit(3)
        begun = time.monotonic()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        print("took", time.monotonic() - begun, flush=True)
        os._exit(0)
        """,
        meanwhile=own_broker.silence,
    )
    assert float(done.stdout.split()[-1]) < 20, "it does not wait for the producers, which took 30 s"
    assert not done.stderr


def test_a_child_does_not_wait_for_a_lock_that_another_thread_of_its_parent_held(run_python, remote_broker):
    done = run_python(
        f"""
        import os, threading
        from pykafka import KafkaClient
        client = KafkaClient({remote_broker!r})
        topic = client.topics["forked"]
        locks = (client.cluster._changing, client.topics._changing)
        held, forked = threading.Event(), threading.Event()
        def hold():
            with locks[0], locks[1]:
                held.set()
                forked.wait()
        threading.Thread(target=hold).start()
        held.wait()
        child = os.fork()
        if child == 0:
            refusals = 0
            for use in (lambda: client.brokers, client.update_cluster, lambda: client.topics["new"], client.close):
                try:
                    use()
                except Exception as error:
                    refusals += "before the process forked" in str(error)
            os._exit(refusals)
        forked.set()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        """
    )
    assert (done.stdout.split(), done.stderr) == (["3"], "")


def test_a_child_drops_what_it_inherited_while_the_engine_of_its_parent_works(run_python, remote_broker):
    done = run_python(
        f"""
        import os, threading
        from pykafka import KafkaClient
        topic = KafkaClient({remote_broker!r}).topics["busy"]
        with topic.get_producer(delivery_reports=True) as producer:
            for _ in range(300):
                producer.produce(bytes(50_000))
            reports = [producer.get_delivery_report() for _ in range(300)]
        def work():
            while True:
                for message in topic.get_simple_consumer(consumer_timeout_ms=100):
                    pass
        threading.Thread(target=work, daemon=True).start()
        for _ in range(50):
            consumer = topic.get_simple_consumer()
            messages = [consumer.consume() for _ in range(5)]
            child = os.fork()
            if child == 0:
                del consumer, messages, reports
                os._exit(3)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
            consumer.stop()
        os._exit(0)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_child_reads_the_values_of_messages_that_its_parent_fetched(run_python, bootstrap):
    done = run_python(
        f"""
        import os
        from pykafka import KafkaClient
        topic = KafkaClient({bootstrap!r}).topics["inherited"]
        topic.get_sync_producer().produce(b"v" * 50_000, partition_key=b"k")
        message = topic.get_simple_consumer().consume()
        child = os.fork()
        if child == 0:
            os._exit(3 if message.value == b"v" * 50_000 and message.partition_key == b"k" else 4)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_child_is_refused_the_reports_of_a_producer_that_was_stopped_before(run_python, bootstrap):
    done = run_python(
        f"""
        import os
        from pykafka import KafkaClient
        producer = KafkaClient({bootstrap!r}).topics["reports"].get_producer(delivery_reports=True)
        producer.produce(b"v")
        producer.stop()
        child = os.fork()
        if child == 0:
            try:
                producer.get_delivery_report()
            except Exception as error:
                os._exit(3 if "before the process forked" in str(error) else 4)
            os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_daemon_thread_that_produces_while_the_interpreter_exits_is_quiet(run_python, client, bootstrap):
    done = run_python(
        f"""
        import atexit, threading, time
        # Registered first, so it is called after pykafka's own handler.
        atexit.register(lambda: print(accepted, flush=True))
        from pykafka import KafkaClient
        producer = KafkaClient({bootstrap!r}).topics["daemon"].get_producer()
        accepted = 0
        def work():
            global accepted
            while True:
                producer.produce(b"v")
                accepted += 1
        threading.Thread(target=work, daemon=True).start()
        while accepted < 1_000:
            time.sleep(0.01)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    offsets = client.topics["daemon"].latest_available_offsets()
    assert sum(answer.offset[0] for answer in offsets.values()) >= int(done.stdout) >= 1_000


INTERPRETERS = """
import sys
try:
    import _interpreters as interpreters
    create, run = lambda: interpreters.create("legacy"), interpreters.exec
except ImportError:
    import _xxsubinterpreters as interpreters
    create, run = lambda: interpreters.create(isolated=False), interpreters.run_string
use = '''
import sys
sys.path[:] = %r
try:
    import pykafka
    pykafka.KafkaClient("127.0.0.1:1")
except Exception as error:
    print(type(error).__name__, error, flush=True)
''' % sys.path
def elsewhere():
    interpreter = create()
    run(interpreter, use)
    interpreters.destroy(interpreter)
"""


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ("exec(use); elsewhere(); elsewhere(); exec(use)", "connected refused refused connected"),
        ("elsewhere(); elsewhere(); exec(use)", "connected refused refused"),
    ],
)
def test_only_one_interpreter_of_a_process_is_served_and_the_others_are_told(run_python, order, said):
    done = run_python(INTERPRETERS + order)
    assert (done.returncode, done.stderr) == (0, "")
    beginnings = {"connected": "NoBrokersAvailableError ", "refused": "ImportError pykafka was imported by another"}
    for line, outcome in zip(done.stdout.splitlines(), said.split(), strict=True):
        assert line.startswith(beginnings[outcome])


class Recorder:
    """A listener that keeps the first bytes of every connection, and then answers as `upstream` does, or hangs up.

    :param upstream: the port of a broker.
    """

    def __init__(self, upstream=None):
        self.first = []
        self._upstream = upstream
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._record, args=(connection,), daemon=True).start()

    def _record(self, connection):
        heard = bytearray()
        self.first.append(heard)
        with connection, contextlib.suppress(OSError):
            if self._upstream is None:
                heard += connection.recv(4096)
                return
            with socket.create_connection(("127.0.0.1", self._upstream)) as upstream:
                threading.Thread(target=self._answer, args=(upstream, connection), daemon=True).start()
                while some := connection.recv(4096):
                    heard += some
                    upstream.sendall(some)

    @staticmethod
    def _answer(upstream, connection):
        with contextlib.suppress(OSError):
            while some := upstream.recv(4096):
                connection.sendall(some)

    def close(self):
        self._server.close()


def test_forked_children_have_random_numbers_of_their_own(run_python):
    with pykafka.testing.Broker(sasl={"alice": "alice-secret"}) as broker:
        plain, tls = Recorder(int(broker.bootstrap_servers.split(":")[1])), Recorder()
        done = run_python(
            f"""
            import os
            import warnings
            from pykafka import KafkaClient, SslConfig, sasl
            from pykafka.exceptions import KafkaException
            warnings.simplefilter("ignore")
            def connect():
                KafkaClient({plain.address!r}, sasl=sasl.Scram("alice", "alice-secret")).close()
                try:
                    KafkaClient({tls.address!r}, ssl_config=SslConfig(None, insecure_accept_any_certificate=True))
                except KafkaException:
                    pass
            connect()
            children = []
            for _ in range(3):
                child = os.fork()
                if child == 0:
                    connect()
                    os._exit(3)
                children.append(child)
            connect()
            print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
            """
        )
        plain.close()
        tls.close()
    assert (done.stdout, done.stderr) == ("[3, 3, 3]\n", "")
    # What SCRAM sends first ends with 24 random bytes in Base64. A ClientHello has 32 at this place.
    nonces = [re.search(rb"n,,n=alice,r=([\w+/]{32})", heard) for heard in plain.first]
    nonces = [found[1] for found in nonces if found]
    randoms = [bytes(heard[11:43]) for heard in tls.first if heard]
    for drawn in (nonces, randoms):
        assert len(drawn) >= 5
        assert len(set(drawn)) == len(drawn), "two processes, or two connections of one, drew the same"
