"""Consumers that share a topic's partitions through a real ZooKeeper, in programs of greenlets."""

import itertools

import pykafka
import pytest

_numbers = itertools.count()

PATCHES = {"plain": "", "patched": "import gevent.monkey; gevent.monkey.patch_all()"}


@pytest.mark.parametrize("patch", PATCHES)
def test_members_start_share_and_stop_beside_other_greenlets(run_greenlets, zookeeper_kafka, patch):
    name = f"balanced-greenlets-{next(_numbers)}"
    zookeeper_kafka.create_topic(name, partitions=4)
    with pykafka.KafkaClient(zookeeper_kafka.bootstrap).topics[name].get_producer() as producer:
        producer.produce_many(b"%d" % number for number in range(1000))
    program = """
        import logging, sys
        # It says on stderr what the last lines below provoke.
        logging.getLogger("kazoo").addHandler(logging.NullHandler())
        hosts, zookeeper, name = sys.argv[1:]
        topic = KafkaClient(hosts, use_greenlets=True).topics[name]
        hub, gaps, last = gevent.get_hub(), [], [time.monotonic()]
        def watch():
            while True:
                gevent.sleep(0.01)
                gaps.append(time.monotonic() - last[0])
                last[0] = time.monotonic()
        gevent.spawn(watch)
        elsewhere = []
        def rebalanced(consumer, old, new):
            elsewhere.append(gevent.get_hub() is not hub)
            # What a program does in it must not stand in the way of others.
            gevent.sleep(0.3)
        settings = dict(
            zookeeper_hosts=zookeeper, auto_commit_enable=True, post_rebalance_callback=rebalanced,
        )
        first = topic.get_balanced_consumer(b"g" + topic.name, **settings)
        read = [first.consume().value for _ in range(100)]
        second = topic.get_balanced_consumer(b"g" + topic.name, **settings)
        with gevent.Timeout(60):
            while len(first.partitions) != 2:
                gevent.sleep(0.01)
        def read_on(consumer):
            while len(set(read)) < 1000:
                read.extend(message.value for message in consumer.consume_batch(100, timeout=0.1))
        gevent.joinall([gevent.spawn(read_on, consumer) for consumer in (first, second)])
        print(len(set(read)), sorted([*first.partitions, *second.partitions]))
        second.stop()
        with gevent.Timeout(60):
            while len(first.partitions) != 4:
                gevent.sleep(0.01)
        first.commit_offsets()
        first.stop()
        print(set(elsewhere), max(gaps) < 20)
        # A ZooKeeper that does not answer is waited for beside others, too.
        ran = gevent.spawn(lambda: "ran")
        try:
            topic.get_balanced_consumer(b"g", zookeeper_hosts="127.0.0.1:1", zookeeper_connection_timeout_ms=500)
        except Exception as error:
            print(type(error).__name__, ran.value)
    """
    printed = run_greenlets(PATCHES[patch], program, zookeeper_kafka.bootstrap, zookeeper_kafka.zookeeper, name)
    assert printed == "1000 [0, 1, 2, 3]\n{False} True\nZooKeeperError ran\n"
