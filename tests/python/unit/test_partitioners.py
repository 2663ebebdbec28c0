"""The partitioners, with plain numbers and with partitions."""

import hashlib

import pytest
from pykafka.partitioners import (
    BasePartitioner,
    GroupHashingPartitioner,
    HashingPartitioner,
    RandomPartitioner,
    hashing_partitioner,
)


def test_the_random_partitioner_takes_turns_and_begins_with_the_second():
    partitioner = RandomPartitioner()
    assert [partitioner([0, 1, 2], b"k") for _ in range(5)] == [1, 2, 0, 1, 2]


def test_a_hash_is_the_sha1_of_the_key_over_the_sorted_partitions():
    expected = int(hashlib.sha1(b"key").hexdigest(), 16) % 5
    assert hashing_partitioner([4, 2, 0, 3, 1], b"key") == expected


def test_a_hash_function_of_your_own_is_used_and_its_sign_is_ignored():
    assert HashingPartitioner(hash_func=lambda key: -7)([0, 1, 2], b"") == 1


def test_a_group_spreads_over_its_neighbours():
    partitioner = GroupHashingPartitioner(lambda key: 2, group_size=2)
    assert {partitioner([0, 1, 2, 3], b"k") for _ in range(100)} == {2, 3}


@pytest.mark.parametrize("partitioner", [hashing_partitioner, GroupHashingPartitioner(hash)])
def test_hashing_needs_a_key(partitioner):
    with pytest.raises(ValueError, match="partition_key"):
        partitioner([0, 1], None)


def test_a_group_may_not_be_larger_than_the_topic():
    with pytest.raises(ValueError, match="group_size"):
        GroupHashingPartitioner(hash, group_size=3)([0, 1], b"k")


@pytest.mark.parametrize("arguments", [(None,), (hash, 0)])
def test_a_group_needs_a_hash_and_a_size(arguments):
    with pytest.raises(ValueError):
        GroupHashingPartitioner(*arguments)


def test_the_base_is_not_a_partitioner_by_itself():
    with pytest.raises(NotImplementedError):
        BasePartitioner()([0])
