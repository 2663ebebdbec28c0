"""`use_greenlets=True`: every call that waits lets other greenlets run. Each program runs in a separate process,
because gevent and its monkey patches cannot be removed."""

import pytest
from pykafka import KafkaClient

PLAIN = ""
PATCHED = "import gevent.monkey; gevent.monkey.patch_all()"
both = pytest.mark.parametrize("patch", [PLAIN, PATCHED], ids=["plain", "patched"])


@both
def test_other_greenlets_run_while_one_waits(run_greenlets, own_broker, patch):
    own_broker.create_topic("t", partitions=1)
    program = """
        import sys
        import pykafka.testing
        def client(**settings):
            return KafkaClient(sys.argv[1], use_greenlets=True, **settings)
        topic = client().topics["t"]
        producer, consumer = topic.get_producer(linger_ms=0), topic.get_simple_consumer()
        write = lambda: producer.produce(b"x")
        print(beside(consumer.consume, write).value)
        print(beside(lambda: next(iter(consumer)), write).value)
        print(len(beside(lambda: consumer.consume_batch(10), write)))
        with pykafka.testing.Broker() as mute:
            mute.create_topic("t", partitions=1)
            there = KafkaClient(mute.bootstrap_servers, use_greenlets=True)
            topic = there.topics["t"]
            def speak():
                mute.heal()
                # Requests that had no answer get one over a new connection.
                mute.set_broker_down(1)
                mute.set_broker_up(1)
            def muted(f):
                mute.silence()
                return beside(f, speak)
            sync = topic.get_sync_producer()
            muted(lambda: sync.produce(b"a"))
            lazy = topic.get_producer(linger_ms=0, delivery_reports=True)
            mute.silence()
            lazy.produce(b"b")
            print(beside(lazy.get_delivery_report, speak)[1])
            mute.silence()
            lazy.produce(b"c")
            beside(lazy.stop, speak)
            print(muted(topic.latest_available_offsets)[0].offset)
            muted(there.update_cluster)
            grouped = topic.get_simple_consumer(consumer_group="g", auto_start=False)
            muted(grouped.start)
            muted(grouped.commit_offsets)
            muted(lambda: KafkaClient(mute.bootstrap_servers, use_greenlets=True))
    """
    printed = "b'x'\nb'x'\n1\nNone\n[3]\n"
    assert run_greenlets(patch, program, own_broker.bootstrap_servers) == printed


@both
def test_other_greenlets_run_while_one_waits_until_its_time_is_over(run_greenlets, own_broker, patch):
    own_broker.create_topic("t", partitions=1)
    program = """
        import sys
        # As in PyKafka 2.8, the handler alone is enough.
        from pykafka.cluster import Cluster
        from pykafka.handlers import GEventHandler
        topic = Cluster(sys.argv[1], GEventHandler()).topics["t"]
        consumer = topic.get_simple_consumer(consumer_timeout_ms=200)
        reporting = topic.get_producer(delivery_reports=True)
        def report():
            try:
                reporting.get_delivery_report(timeout=0.2)
            except queue.Empty:
                return "empty"
        for wait in (consumer.consume, lambda: list(consumer), report):
            ran = gevent.spawn(lambda: "ran")
            print(wait(), ran.value)
    """
    printed = "None ran\n[] ran\nempty ran\n"
    assert run_greenlets(patch, program, own_broker.bootstrap_servers) == printed


def test_a_message_wakes_its_greenlet_at_once(run_greenlets, own_broker):
    own_broker.create_topic("t", partitions=1)
    program = """
        import sys
        topic = KafkaClient(sys.argv[1], use_greenlets=True).topics["t"]
        consumer = topic.get_simple_consumer(auto_offset_reset=-1, reset_offset_on_start=True, fetch_wait_max_ms=5000)
        producer = topic.get_sync_producer()
        def took():
            reader = gevent.spawn(consumer.consume)
            gevent.sleep(0)
            begun = time.monotonic()
            producer.produce(b"x")
            reader.join()
            return time.monotonic() - begun
        # If they looked every 100 ms, hardly any message would be sooner. A busy machine delays some of them.
        print(sum(took() < 0.09 for _ in range(40)) > 10)
    """
    assert run_greenlets(PLAIN, program, own_broker.bootstrap_servers) == "True\n"


def test_a_hundred_greenlets_wait_at_the_same_time(run_greenlets, own_broker):
    own_broker.create_topic("t", partitions=1)
    program = """
        import sys
        topic = KafkaClient(sys.argv[1], use_greenlets=True).topics["t"]
        producer = topic.get_sync_producer()
        senders = [gevent.spawn(producer.produce, b"x") for _ in range(100)]
        gevent.joinall(senders)
        print(sorted(sender.value.offset for sender in senders) == list(range(100)))
    """
    assert run_greenlets(PATCHED, program, own_broker.bootstrap_servers) == "True\n"


def test_a_greenlet_that_is_killed_or_timed_out_leaves_its_wait(run_greenlets, own_broker):
    own_broker.create_topic("t", partitions=1)
    program = """
        import sys
        topic = KafkaClient(sys.argv[1], use_greenlets=True).topics["t"]
        consumer = topic.get_simple_consumer()
        try:
            with gevent.Timeout(0.2):
                consumer.consume()
        except gevent.Timeout:
            print("timeout")
        waiting = gevent.spawn(consumer.consume)
        gevent.sleep(0.05)
        waiting.kill()
        print(waiting.dead, isinstance(waiting.value, gevent.GreenletExit))
        topic.get_sync_producer().produce(b"x")
        print(consumer.consume().value)
    """
    assert run_greenlets(PLAIN, program, own_broker.bootstrap_servers) == "timeout\nTrue True\nb'x'\n"


@both
def test_a_stop_commits_the_message_of_its_greenlet_and_not_that_of_another(run_greenlets, own_broker, patch):
    own_broker.create_topic("t", partitions=1)
    program = """
        import sys
        topic = KafkaClient(sys.argv[1], use_greenlets=True).topics["t"]
        with topic.get_sync_producer() as producer:
            for _ in range(2):
                producer.produce(b"x")
        consumer = topic.get_simple_consumer("g", auto_commit_enable=True)
        print(consumer.consume().offset)
        def work():
            print(consumer.consume().offset)
            taken.set()
            done.wait()
        taken, done = gevent.event.Event(), gevent.event.Event()
        other = gevent.spawn(work)
        taken.wait()
        consumer.stop()
        done.set()
        other.join()
        print(topic.get_simple_consumer("g", auto_start=False).fetch_offsets()[0][1].offset)
    """
    assert run_greenlets("import gevent.event; " + patch, program, own_broker.bootstrap_servers) == "0\n1\n1\n"


@both
def test_a_batch_belongs_to_its_greenlet_although_another_reads_while_it_deserializes(run_greenlets, own_broker, patch):
    own_broker.create_topic("t", partitions=2)
    program = """
        import sys
        topic = KafkaClient(sys.argv[1], use_greenlets=True).topics["t"]
        with topic.get_producer(partitioner=lambda partitions, key: partitions[int(key)]) as producer:
            for number in range(4):
                producer.produce(b"x", partition_key=b"%d" % (number % 2))
        def deserialize(value, key):
            if gevent.getcurrent() is reader and not helpers:
                helpers.append(gevent.spawn(consumer.consume))
                helpers[0].join()
            return value, key
        def read():
            batch.extend(consumer.consume_batch(4))
            taken.set()
            done.wait()
        helpers, batch, taken, done = [], [], gevent.event.Event(), gevent.event.Event()
        consumer = topic.get_simple_consumer("g", auto_commit_enable=True, deserializer=deserialize)
        reader = gevent.spawn(read)
        taken.wait()
        consumer.stop()
        committed = dict(topic.get_simple_consumer("g", auto_start=False).fetch_offsets())
        print([message.offset for message in batch if message.offset < committed[message.partition_id].offset])
        done.set()
        reader.join()
    """
    assert run_greenlets("import gevent.event; " + patch, program, own_broker.bootstrap_servers) == "[]\n"


def test_reading_without_end_lets_others_run(run_greenlets, own_broker):
    own_broker.create_topic("t", partitions=1)
    program = """
        import sys
        topic = KafkaClient(sys.argv[1], use_greenlets=True).topics["t"]
        with topic.get_producer(linger_ms=0) as producer:
            for batch in range(50):
                producer.produce(b"x" * 50_000)
                gevent.sleep(0.002)
        turns = []
        def other():
            while True:
                turns.append(None)
                gevent.sleep(0)
        gevent.spawn(other)
        consumer = topic.get_simple_consumer()
        consumer.consume()
        # Long enough to fetch everything ahead, so that no call has to wait.
        gevent.sleep(0.5)
        turns.clear()
        for _, message in zip(range(40), consumer):
            pass
        print(len(turns) >= 5)
    """
    assert run_greenlets(PLAIN, program, own_broker.bootstrap_servers) == "True\n"


def test_ctrl_c_ends_a_wait(run_python, own_broker):
    own_broker.create_topic("t", partitions=1)
    program = """
        import os, signal, sys, threading
        from pykafka import KafkaClient
        topic = KafkaClient(sys.argv[1], use_greenlets=True).topics["t"]
        consumer = topic.get_simple_consumer()
        try:
            threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
            consumer.consume()
        except KeyboardInterrupt:
            print("interrupted")
    """
    result = run_python(program, own_broker.bootstrap_servers)
    assert (result.returncode, result.stdout, result.stderr) == (0, "interrupted\n", "")


def test_a_thread_without_greenlets_waits_as_a_thread_does(run_greenlets, own_broker):
    own_broker.create_topic("t", partitions=1)
    program = """
        import sys
        topic = KafkaClient(sys.argv[1], use_greenlets=True).topics["t"]
        consumer, producer = topic.get_simple_consumer(), topic.get_producer(linger_ms=0)
        # In a thread of the pool, so that this one continues.
        pool = gevent.get_hub().threadpool
        print(beside(lambda: pool.apply(consumer.consume), lambda: producer.produce(b"x")).value)
    """
    assert run_greenlets(PLAIN, program, own_broker.bootstrap_servers) == "b'x'\n"


def test_without_gevent_it_is_an_import_error_that_says_what_to_install(run_python, own_broker):
    program = """
        import sys
        sys.modules["gevent"] = None
        from pykafka import KafkaClient
        KafkaClient(sys.argv[1])
        try:
            KafkaClient(sys.argv[1], use_greenlets=True)
        except ImportError as error:
            print(error)
        import pykafka.handlers
        print(hasattr(pykafka.handlers, "GEventHandler"))
    """
    result = run_python(program, own_broker.bootstrap_servers)
    assert (result.stdout, result.stderr) == ("use_greenlets needs gevent: pip install 'pykafka[gevent]'\nFalse\n", "")


def test_a_program_without_greenlets_imports_no_gevent(run_python, own_broker):
    program = """
        import sys
        from pykafka import KafkaClient
        import pykafka.handlers
        KafkaClient(sys.argv[1])
        print("gevent" in sys.modules)
    """
    assert run_python(program, own_broker.bootstrap_servers).stdout == "False\n"


def test_a_patched_program_needs_no_argument_and_gets_the_log(run_greenlets, own_broker):
    own_broker.create_topic("t", partitions=1)
    program = """
        import logging, sys
        lines = []
        class Keep(logging.Handler):
            def emit(self, record):
                lines.append(record.getMessage())
        logging.getLogger("pykafka.engine").addHandler(Keep())
        logging.getLogger("pykafka.engine").setLevel("DEBUG")
        import pykafka.testing
        broker = pykafka.testing.Broker(brokers=2)
        client = KafkaClient(broker.bootstrap_servers)
        broker._broker.set_broker_down(1)
        broker._broker.set_broker_down(2)
        topic = KafkaClient(sys.argv[1]).topics["t"]
        producer = topic.get_producer(linger_ms=0)
        beside(topic.get_simple_consumer().consume, lambda: producer.produce(b"x"))
        def update():
            try:
                client.update_cluster()
            except pykafka.exceptions.KafkaException:
                pass
        gevent.spawn(update)
        with gevent.Timeout(60):
            while not lines:
                gevent.sleep(0.01)
        print(bool(lines[0]))
    """
    assert run_greenlets(PATCHED, program, own_broker.bootstrap_servers) == "True\n"


@both
def test_many_messages_in_one_call_let_others_run(run_greenlets, own_broker, patch):
    own_broker.create_topic("t", partitions=1)
    program = """
        import sys
        topic = KafkaClient(sys.argv[1], use_greenlets=True).topics["t"]
        with topic.get_producer() as producer:
            # Without end, unless the other greenlet has its turns.
            released = []
            def produce():
                sent = 0
                while not released or sent < 10_000:
                    sent += 1
                    yield b"x"
            def release():
                released.append(True)
            count = beside(lambda: producer.produce_many(produce()), release)
        consumer = topic.get_simple_consumer()
        # All of it is fetched ahead: what follows has nothing to wait for.
        gevent.sleep(1)
        turns, read, calls = [], 0, 0
        def other():
            while True:
                turns.append(None)
                gevent.sleep(0)
        gevent.spawn(other)
        while read < count:
            calls += 1
            read += len(consumer.consume_batch(100))
        print(len(turns) >= calls >= 100)
        print(read == count)
    """
    assert run_greenlets(patch, program, own_broker.bootstrap_servers) == "True\nTrue\n"


@both
def test_members_of_a_group_start_share_and_stop_beside_other_greenlets(run_greenlets, own_broker, patch):
    own_broker.create_topic("t", partitions=4)
    program = """
        import sys, threading
        from pykafka.membershipprotocol import GroupMembershipProtocol, RangeProtocol
        import gevent.event
        topic = KafkaClient(sys.argv[1], use_greenlets=True).topics["t"]
        with topic.get_producer() as producer:
            producer.produce_many(b"%d" % number for number in range(1000))
        hub, gaps, last = gevent.get_hub(), [], [time.monotonic()]
        def watch():
            while True:
                gevent.sleep(0.01)
                gaps.append(time.monotonic() - last[0])
                last[0] = time.monotonic()
        gevent.spawn(watch)
        elsewhere, told = [], gevent.event.Event()
        def at_home():
            # The primitives of gevent are for the greenlets of one hub.
            if gevent.get_hub() is not hub:
                elsewhere.append(threading.current_thread())
            gevent.sleep(0.1)
        def rebalanced(consumer, old, new):
            at_home()
            told.set()
        def decide(members, partitions, member):
            at_home()
            return RangeProtocol.decide_partitions(members, partitions, member)
        settings = dict(
            managed=True, heartbeat_interval_ms=50, auto_commit_enable=True,
            post_rebalance_callback=rebalanced,
            membership_protocol=GroupMembershipProtocol(b"consumer", b"mine", None, decide),
        )
        first = topic.get_balanced_consumer("g", **settings)
        read = [first.consume().value for _ in range(100)]
        second = topic.get_balanced_consumer("g", **settings)
        with gevent.Timeout(60):
            while len(first.partitions) != 2:
                gevent.sleep(0.01)
        def read_on(consumer):
            while len(set(read)) < 1000:
                read.extend(message.value for message in consumer.consume_batch(100, timeout=0.1))
        gevent.joinall([gevent.spawn(read_on, consumer) for consumer in (first, second)])
        print(len(set(read)), sorted([*first.partitions, *second.partitions]))
        second.stop()
        told.clear()
        with gevent.Timeout(60):
            while len(first.partitions) != 4:
                told.wait(0.1)
        first.commit_offsets()
        first.stop()
        print(elsewhere, max(gaps) < 20)
    """
    assert run_greenlets(patch, program, own_broker.bootstrap_servers) == "1000 [0, 1, 2, 3]\n[] True\n"


@both
def test_a_member_that_runs_at_exit_does_not_keep_its_program(run_greenlets, own_broker, patch):
    own_broker.create_topic("t", partitions=2)
    program = """
        import sys
        topic = KafkaClient(sys.argv[1], use_greenlets=True).topics["t"]
        def slow(consumer, old, new):
            gevent.sleep(0.01)
        members = [
            topic.get_balanced_consumer("g", managed=True, heartbeat_interval_ms=50, post_rebalance_callback=slow)
            for _ in range(2)
        ]
        print(len(members[1].partitions))
    """
    assert run_greenlets(patch, program, own_broker.bootstrap_servers) == "1\n"


@pytest.mark.parametrize(("patch", "reports"), [(PLAIN, "[b'a', b'b']"), (PATCHED, "[b'b']")], ids=["plain", "patched"])
def test_reports_are_a_greenlets_own_where_thread_locals_are(run_greenlets, own_broker, patch, reports):
    own_broker.create_topic("t", partitions=1)
    program = """
        import sys
        producer = KafkaClient(sys.argv[1], use_greenlets=True).topics["t"].get_producer(delivery_reports=True)
        gevent.spawn(producer.produce, b"a").join()
        producer.produce(b"b")
        producer.stop()
        reports = []
        try:
            while True:
                reports.append(producer.get_delivery_report(block=False)[0].value)
        except queue.Empty:
            print(reports)
    """
    assert run_greenlets(patch, program, own_broker.bootstrap_servers) == reports + "\n"


def test_auto_commit_leaves_out_what_other_greenlets_work_on_until_they_end(run_greenlets, own_broker):
    own_broker.create_topic("t", partitions=1)
    program = """
        import sys
        topic = KafkaClient(sys.argv[1], use_greenlets=True).topics["t"]
        with topic.get_producer() as producer:
            for value in (b"a", b"b", b"c"):
                producer.produce(value)
        settings = dict(consumer_group="g", auto_commit_enable=True, auto_commit_interval_ms=1)
        consumer = topic.get_simple_consumer(**settings)
        looking = topic.get_simple_consumer("g", auto_start=False, reset_offset_on_fetch=False)
        def committed():
            return looking.fetch_offsets()[0][1].offset
        begun, released = gevent.event.Event(), gevent.event.Event()
        def work():
            assert consumer.consume().value == b"a"
            begun.set()
            released.wait()
        worker = gevent.spawn(work)
        begun.wait()
        assert [consumer.consume().value for _ in range(2)] == [b"b", b"c"]
        assert consumer.consume_batch(1, timeout=0.5) == []
        print(committed())
        released.set()
        worker.join()
        with gevent.Timeout(60):
            while committed() != 3:
                consumer.consume(block=False)
        print("3 although the greenlet is kept:", worker.dead)
    """
    printed = run_greenlets("import gevent.event", program, own_broker.bootstrap_servers)
    # 0 is committed, or nothing yet.
    assert printed in ("0\n3 although the greenlet is kept: True\n", "-1\n3 although the greenlet is kept: True\n")


@both
def test_what_is_buffered_at_exit_is_delivered(run_greenlets, own_broker, patch):
    own_broker.create_topic("t", partitions=1)
    program = """
        import sys
        topic = KafkaClient(sys.argv[1], use_greenlets=True).topics["t"]
        def produce():
            producer = topic.get_producer(linger_ms=60_000)
            for number in range(1000):
                producer.produce(b"%d" % number)
            return producer
        kept = gevent.spawn(produce)
        kept.join()
        dropped = produce()
        del dropped
    """
    assert run_greenlets(patch, program, own_broker.bootstrap_servers) == ""
    topic = KafkaClient(own_broker.bootstrap_servers).topics["t"]
    assert topic.latest_available_offsets()[0].offset == [2000]
