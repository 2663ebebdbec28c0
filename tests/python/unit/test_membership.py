"""The rules for sharing partitions, and what a balanced consumer checks before it connects to ZooKeeper."""

import contextlib
import random
import socket
import struct
import threading

import pykafka
import pytest
from kazoo.client import KazooClient
from pykafka import _znodes
from pykafka.exceptions import ZooKeeperError
from pykafka.membershipprotocol import GroupMembershipProtocol, RangeProtocol, RoundRobinProtocol, leader_id


@pytest.fixture(scope="module")
def wide_topic(shared_broker):
    """Twelve partitions, led by three brokers in turn."""
    shared_broker.create_topic("wide", partitions=12, replication_factor=3)
    return pykafka.KafkaClient(shared_broker.bootstrap_servers).topics["wide"]


def shares(protocol, members, partitions):
    decided = [protocol.decide_partitions(members, partitions, member) for member in sorted(members)]
    assert all(isinstance(share, set) for share in decided)
    return [{partition.id for partition in share} for share in decided]


def in_order(topic):
    """Sorted as in 2.8: as text, in which 10 comes before 2."""
    return [
        id_ for _, id_ in sorted((f"wide-{leader_id(part)}-{part.id}", part.id) for part in topic.partitions.values())
    ]


def test_range_gives_slices_in_the_order_of_the_text_and_one_more_to_the_first(wide_topic):
    order = in_order(wide_topic)
    assert order != sorted(order)
    members = [b"b", b"a", b"e", b"d", b"c"]
    expected = [set(order[0:3]), set(order[3:6]), set(order[6:8]), set(order[8:10]), set(order[10:12])]
    assert shares(RangeProtocol, members, wide_topic.partitions) == expected


def test_round_robin_gives_one_to_each_in_turn(wide_topic):
    order = in_order(wide_topic)
    expected = [set(order[0::5]), set(order[1::5]), set(order[2::5]), set(order[3::5]), set(order[4::5])]
    assert shares(RoundRobinProtocol, [b"b", b"a", b"e", b"d", b"c"], wide_topic.partitions) == expected


@pytest.mark.parametrize("protocol", [RangeProtocol, RoundRobinProtocol], ids=["range", "roundrobin"])
def test_each_partition_has_one_owner_and_shares_differ_by_one_at_most(protocol, wide_topic):
    for count in range(1, 20):
        members = [b"%d" % number for number in range(count)]
        random.Random(count).shuffle(members)
        decided = shares(protocol, members, wide_topic.partitions)
        assert sorted(id_ for share in decided for id_ in share) == list(range(12))
        assert max(map(len, decided)) - min(map(len, decided)) <= 1


def test_the_stock_rules_have_the_names_of_kafka_s():
    assert RangeProtocol[:2] == (b"consumer", b"range")
    assert RoundRobinProtocol[:2] == (b"consumer", b"roundrobin")
    assert GroupMembershipProtocol._fields == ("protocol_type", "protocol_name", "metadata", "decide_partitions")


def test_without_kazoo_it_is_said_what_to_install(run_python, bootstrap, lone_topic):
    program = """
        import sys
        sys.modules["kazoo"] = sys.modules["kazoo.client"] = None
        import pykafka
        topic = pykafka.KafkaClient(sys.argv[1]).topics[sys.argv[2]]
        topic.get_balanced_consumer("group", zookeeper_hosts="127.0.0.1:1")
    """
    done = run_python(program, bootstrap, lone_topic.name.decode())
    assert "ImportError: sharing partitions through ZooKeeper needs the package kazoo: pip install" in done.stderr


def test_a_group_and_callables_are_checked_at_once(lone_topic):
    start = {"auto_start": False, "zookeeper_hosts": "127.0.0.1:1"}
    with pytest.raises(TypeError, match="consumer_group must be str or bytes, not NoneType"):
        lone_topic.get_balanced_consumer(None, **start)
    with pytest.raises(ValueError, match="consumer_group must not be empty"):
        lone_topic.get_balanced_consumer(b"", **start)
    with pytest.raises(TypeError, match="post_rebalance_callback must be callable, not int"):
        lone_topic.get_balanced_consumer("group", post_rebalance_callback=1, **start)


def test_a_group_with_too_long_a_name_is_not_shown_whole(lone_topic):
    for make in (lone_topic.get_simple_consumer, lone_topic.get_balanced_consumer):
        with pytest.raises(ValueError, match="^consumer_group has 32768 bytes, but .* only 32767; .* 'g{40}'$"):
            make("g" * 32768)


@pytest.mark.parametrize("rule", [None, 5, ["range"], GroupMembershipProtocol(b"consumer", b"mine", None, None)])
@pytest.mark.parametrize("managed", [True, False])
def test_a_membership_protocol_is_checked_at_once(lone_topic, managed, rule):
    where = {} if managed else {"zookeeper_hosts": "127.0.0.1:1"}
    with pytest.raises(TypeError, match="membership_protocol must be a GroupMembershipProtocol"):
        lone_topic.get_balanced_consumer("group", managed, membership_protocol=rule, auto_start=False, **where)


@pytest.mark.parametrize(
    "rule",
    [
        b"roundrobin",
        GroupMembershipProtocol(b"consumer", "mine", None, RangeProtocol.decide_partitions),
        GroupMembershipProtocol(b"consumer", b"mine", ["not hashable"], RangeProtocol.decide_partitions),
    ],
)
def test_a_membership_protocol_may_have_any_metadata_and_its_name_may_be_text(lone_topic, group, rule):
    with lone_topic.get_balanced_consumer(group, managed=True, membership_protocol=rule) as consumer:
        assert consumer.partitions.keys() == lone_topic.partitions.keys()


def test_a_consumer_that_was_never_started_has_nothing(lone_topic):
    consumer = lone_topic.get_balanced_consumer(b"group", auto_start=False, zookeeper_hosts="127.0.0.1:1")
    assert consumer.held_offsets is None
    assert consumer.partitions == {}
    assert consumer.topic is lone_topic
    with pytest.raises(pykafka.exceptions.ConsumerStoppedException):
        consumer.consume()


def test_a_zookeeper_client_that_is_not_connected_is_refused(lone_topic):
    with pytest.raises(ZooKeeperError, match="is not connected: call its start"):
        lone_topic.get_balanced_consumer("group", zookeeper=KazooClient("127.0.0.1:1"))
    with pytest.raises(ZooKeeperError, match="is not connected: call its start"):
        lone_topic.get_balanced_consumer("group", zookeeper="127.0.0.1:1")


@pytest.mark.parametrize("group", ["..", ".", "readers/../writers"])
def test_a_group_that_is_no_name_in_zookeeper_is_named(lone_topic, group):
    with pytest.raises(ValueError, match=f"consumer_group '{group}' cannot be in ZooKeeper"):
        lone_topic.get_balanced_consumer(group, zookeeper_hosts="127.0.0.1:1", zookeeper_connection_timeout_ms=1)


@pytest.mark.parametrize("name", ["zookeeper_connect", "zookeeper_hosts"])
def test_an_address_of_zookeeper_is_text(lone_topic, name):
    with pytest.raises(TypeError, match="zookeeper_hosts must be a str of host:port, separated by commas, not list"):
        lone_topic.get_balanced_consumer("group", **{name: ["127.0.0.1:1"]})


@pytest.fixture
def zookeeper():
    """The address of a server that accepts sessions and grants each of them 1.5 s, whatever was asked for."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connections.append(connection)
                    # A client may hang up at any time, and connect anew.
                    with contextlib.suppress(OSError):
                        connection.recv(1024)
                        granted = struct.pack(">iiqi16s?", 0, 1500, 1, 16, b"", False)
                        connection.sendall(struct.pack(">i", len(granted)) + granted)

        connections = []
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield "{}:{}".format(*server.getsockname())
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()


def test_a_session_lives_as_long_as_zookeeper_granted_not_as_long_as_was_asked_for(zookeeper):
    client = _znodes.connect(zookeeper, 30_000)
    try:
        nodes = _znodes.Znodes(client, "group", b"letters", b"one", 30_000, changed=lambda: None, lost=lambda: None)
        assert nodes.session_ms == 1500
    finally:
        client.stop()
        client.close()
