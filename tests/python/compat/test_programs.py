"""Whole programs as users of pykafka 2 wrote them: they use only what 2.8 had, too."""

import datetime
import itertools

import pytest
from pykafka.common import OffsetType


@pytest.fixture
def numbered(topic):
    """A topic with the numbers 0 to 299, a hundred in each partition."""
    with topic.get_producer(partitioner=lambda partitions, key: partitions[int(key) % 3]) as producer:
        for number in range(300):
            producer.produce(b"%d" % number, partition_key=b"%d" % number)
    return topic


def committed(topic, group):
    consumer = topic.get_simple_consumer(group, auto_start=False, reset_offset_on_fetch=False)
    return {id_: answer.offset for id_, answer in consumer.fetch_offsets()}


def test_a_web_application_has_one_producer_for_all_its_threads_and_loses_nothing_at_its_end(
    run_python, lone_topic, bootstrap
):
    program = """
        import sys, threading
        from wsgiref.util import setup_testing_defaults
        from pykafka import KafkaClient

        hosts, name = sys.argv[1:]
        lock, found = threading.Lock(), []

        def producer():
            with lock:
                if not found:
                    found.append(KafkaClient(hosts=hosts).topics[name.encode()].get_producer())
                return found[0]

        def application(environ, start_response):
            producer().produce(environ["PATH_INFO"].encode())
            start_response("202 Accepted", [("Content-Type", "text/plain")])
            return [b"ok"]

        def browse(user):
            for page in range(50):
                environ = {"PATH_INFO": f"/{user}/{page}"}
                setup_testing_defaults(environ)
                assert application(environ, lambda status, headers: None) == [b"ok"]

        users = [threading.Thread(target=browse, args=(user,)) for user in range(4)]
        for user in users:
            user.start()
        for user in users:
            user.join()
    """
    result = run_python(program, bootstrap, lone_topic.name.decode())
    assert (result.returncode, result.stderr) == (0, "")
    values = [message.value for message in itertools.islice(lone_topic.get_simple_consumer(), 200)]
    assert lone_topic.latest_available_offsets()[0].offset == [200]
    assert sorted(values) == sorted(b"/%d/%d" % (user, page) for user in range(4) for page in range(50))
    for user in range(4):
        mine = [value for value in values if value.startswith(b"/%d/" % user)]
        assert mine == [b"/%d/%d" % (user, page) for page in range(50)], "in the order of its requests"


def test_worker_processes_share_a_topic_and_commit_what_they_have_done(run_python, numbered, group, bootstrap):
    program = """
        import multiprocessing, sys, time
        from pykafka import KafkaClient

        hosts, name, group = sys.argv[1:]

        def work(results, is_done):
            topic = KafkaClient(hosts=hosts).topics[name.encode()]
            consumer = topic.get_balanced_consumer(
                consumer_group=group.encode(), managed=True, auto_commit_enable=True, auto_commit_interval_ms=100,
                consumer_timeout_ms=100,
            )
            while not is_done.is_set():
                message = consumer.consume()
                if message is not None:
                    results.put(int(message.value))
            consumer.stop()

        context = multiprocessing.get_context("fork")
        results, is_done = context.SimpleQueue(), context.Event()
        workers = [context.Process(target=work, args=(results, is_done)) for _ in range(2)]
        for worker in workers:
            worker.start()
        seen = set()
        while len(seen) < 300:
            seen.add(results.get())
        topic = KafkaClient(hosts=hosts).topics[name.encode()]
        group = topic.get_simple_consumer(group.encode(), auto_start=False, reset_offset_on_fetch=False)
        while any(answer.offset < 100 for _, answer in group.fetch_offsets()):
            time.sleep(0.05)
        is_done.set()
        for worker in workers:
            worker.join()
        print([worker.exitcode for worker in workers], seen == set(range(300)))
    """
    result = run_python(program, bootstrap, numbered.name.decode(), group)
    assert (result.stdout, result.stderr) == ("[0, 0] True\n", "")
    assert committed(numbered, group) == {0: 100, 1: 100, 2: 100}


def test_a_lag_monitor_sees_a_group_fall_behind_and_catch_up_and_changes_nothing(numbered, group):
    def lag():
        latest = numbered.latest_available_offsets()
        return {id_: latest[id_].offset[0] - max(offset, 0) for id_, offset in committed(numbered, group).items()}

    assert lag() == {0: 100, 1: 100, 2: 100}
    assert committed(numbered, group) == dict.fromkeys(range(3), -1), "nothing was committed by looking"
    with numbered.get_simple_consumer(group) as worker:
        for count in (120, 180):
            for _ in range(count):
                worker.consume()
            worker.commit_offsets()
            assert sum(lag().values()) == (180 if count == 120 else 0)
    assert lag() == {0: 0, 1: 0, 2: 0}


def test_a_tool_replays_everything_since_a_time(topic, group):
    noon = datetime.datetime(2024, 5, 1, 12)
    with topic.get_producer(partitioner=lambda partitions, key: partitions[int(key) % 2]) as producer:
        for minute in range(60):
            when = noon + datetime.timedelta(minutes=minute)
            producer.produce(b"%d" % minute, partition_key=b"%d" % minute, timestamp=when)

    def replay(since):
        consumer = topic.get_simple_consumer(group)
        ends, starts, count = topic.latest_available_offsets(), [], 0
        for id_, found in topic.fetch_offset_limits(since).items():
            first = found.offset[0] if found.offset else ends[id_].offset[0]
            count += ends[id_].offset[0] - first
            # An offset names the message before the first one; what would be -1 has a name.
            starts.append((topic.partitions[id_], first - 1 if first else OffsetType.EARLIEST))
        consumer.reset_offsets(starts)
        messages = list(itertools.islice(consumer, count))
        consumer.stop()
        assert all(message.timestamp_dt >= since for message in messages)
        return sorted(int(message.value) for message in messages)

    assert replay(noon + datetime.timedelta(minutes=45)) == list(range(45, 60))
    assert replay(noon - datetime.timedelta(days=1)) == list(range(60))
    assert replay(noon + datetime.timedelta(minutes=59)) == [59]
    assert replay(noon + datetime.timedelta(days=1)) == []
