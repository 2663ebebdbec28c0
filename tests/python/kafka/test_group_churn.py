"""Groups whose members join, leave, restart, are killed and frozen, and whose coordinator dies: see `churning`."""

import churning
import pytest

CLASSIC = {
    "group.protocol": "classic",
    "session.timeout.ms": churning.SESSION_MS,
    "heartbeat.interval.ms": 500,
}
MANAGED = {"managed": True, "session_timeout_ms": churning.SESSION_MS, "heartbeat_interval_ms": 500}

#: What happens to groups that begin with three members.
SHORT = ["freeze", "join", "kill", "lose_coordinator", "restart", "leave"]
LONG = [
    *("kill", "freeze", "join", "lose_coordinator", "leave", "restart"),
    *("join", "join", "freeze", "kill", "lose_coordinator", "restart", "leave"),
]


@pytest.fixture
def kinds(member_program):
    """The kinds of members, by name."""

    def rust(protocol, **options):
        return churning.RustKind(member_program, protocol, **options)

    def python(**settings):
        return churning.PythonKind("IllegalGeneration", settings)

    return {
        "range": rust(CLASSIC | {"partition.assignment.strategy": "range"}),
        "cooperative": rust(CLASSIC | {"partition.assignment.strategy": "cooperative-sticky"}),
        "static": rust(CLASSIC | {"partition.assignment.strategy": "range"}, is_static=True),
        "consumer": rust({"group.protocol": "consumer"}),
        "python-range": python(**MANAGED),
        "python-cooperative": python(**MANAGED, membership_protocol="cooperative-sticky"),
        "python-consumer": python(managed=True, group_protocol="consumer"),
    }


@pytest.fixture
def make_group(churn_kafka, tmp_path):
    """Makes groups without members, and ends them with the test."""
    groups = []

    def make_group(kind, name):
        groups.append(churning.Group(churn_kafka, kind, name, tmp_path))
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
def test_whatever_happens_to_members_and_coordinator_each_message_is_read_by_one_owner_at_a_time(
    happenings, count, kinds, churn_kafka, make_group
):
    churning.churn(churn_kafka, [make_group(kind, name) for name, kind in kinds.items()], happenings, count)


def test_a_rolling_bounce_changes_eager_to_cooperative_without_loss_and_without_two_owners(
    kinds, churn_kafka, make_group
):
    group = make_group(kinds["range"], "bounce")

    def protocol():
        coordinator = group.client.cluster.get_group_coordinator(group.name)
        return coordinator.describe_groups([group.name]).groups[group.name.encode()].protocol

    for _ in range(3):
        group.join()
    churning.await_that(lambda: protocol() == b"range", "the group does not begin eager")
    for assignors in ("cooperative-sticky,range", "cooperative-sticky"):
        for _ in range(3):
            group.bounce(**{"partition.assignment.strategy": assignors})
    churning.await_that(lambda: protocol() == b"cooperative-sticky", "the group does not become cooperative")
    group.finish()
    group.judge()


def test_a_member_that_was_frozen_beyond_its_session_is_refused_and_told(kinds, make_group):
    groups = [make_group(kind, f"zombie-{name}") for name, kind in kinds.items() if name != "static"]
    with churning.at_once(groups) as everywhere:
        everywhere(churning.thaw_a_zombie)
