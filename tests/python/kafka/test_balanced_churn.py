"""Groups that share through ZooKeeper: members join, leave, restart, are killed and frozen; see `churning`."""

import churning
import pytest

#: What happens to a group that begins with three members. The coordinator keeps the committed offsets.
SHORT = ["freeze", "kill", "lose_coordinator", "leave"]
LONG = [
    *("kill", "freeze", "join", "lose_coordinator", "leave", "restart"),
    *("join", "join", "freeze", "kill", "lose_coordinator", "restart", "leave"),
]


@pytest.fixture
def make_group(tmp_path):
    """Makes groups without members, and ends them with the test."""
    groups = []

    def make_group(cluster):
        settings = {
            "zookeeper_hosts": cluster.zookeeper,
            "zookeeper_connection_timeout_ms": churning.SESSION_MS,
        }
        kind = churning.PythonKind("has lost its session with ZooKeeper", settings)
        groups.append(churning.Group(cluster, kind, "zookeeper", tmp_path))
        return groups[-1]

    yield make_group
    for group in groups:
        group.close()


@pytest.mark.parametrize(
    ("happenings", "count"),
    [
        pytest.param(SHORT, 5_000, id="short"),
        pytest.param(LONG, 1_000_000, id="long", marks=pytest.mark.long),
    ],
)
def test_whatever_happens_to_members_each_message_is_read_and_no_partition_by_two_at_once(
    happenings, count, start_kafka, make_group
):
    cluster = start_kafka("LATEST_3", zookeeper=True)
    churning.churn(cluster, [make_group(cluster)], happenings, count)


def test_a_member_that_was_frozen_beyond_its_session_with_zookeeper_is_refused_and_told(zookeeper_kafka, make_group):
    churning.thaw_a_zombie(make_group(zookeeper_kafka))
