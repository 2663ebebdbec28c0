"""The short form of `make chaos`: three kinds of faults, one each, judged by the checker."""

import pytest
from chaos.run import run_kind, start_kafka


@pytest.fixture(scope="module")
def chaos_kafka():
    """Three brokers that any fault may hit."""
    with start_kafka() as kafka:
        yield kafka


@pytest.mark.parametrize("kind", ["kill the coordinator", "answers cut off", "kill a member"])
def test_no_promise_is_broken_whatever_fails(kind, chaos_kafka, kavka):
    row = run_kind(chaos_kafka, kavka, kind, seed=0, seconds=0, rate=1000)
    assert row["violations"] == []
    assert row["faults"] == 1
    assert row["figures"]["delivered"] > 400
    assert row["figures"]["read"] >= row["figures"]["delivered"]
