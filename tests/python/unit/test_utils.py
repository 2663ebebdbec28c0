"""`pykafka.utils`: helpers that programs import from pykafka 2, and errors for those that are gone."""

import gzip
import importlib
import random
import socket
import zlib

import pytest
from pykafka.exceptions import MessageSetDecodeFailure, NotInThisRelease, SocketDisconnectedError
from pykafka.utils import compat, compression
from pykafka.utils.error_handlers import build_parts_by_error, handle_partition_responses, raise_error
from pykafka.utils.socket import recvall_into

DATA = bytes(random.Random(1).choices(b"abcd", k=100_000))


@pytest.mark.parametrize("data", [b"", b"a", DATA])
@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_what_is_compressed_comes_back(codec, data):
    encode, decode = getattr(compression, f"encode_{codec}"), getattr(compression, f"decode_{codec}")
    encoded = encode(data)
    assert decode(encoded) == decode(bytearray(encoded)) == decode(memoryview(encoded)) == data
    assert len(encoded) < len(data) or len(data) < 2


def test_the_formats_are_those_of_other_libraries():
    assert gzip.decompress(compression.encode_gzip(DATA)) == DATA
    assert compression.decode_gzip(gzip.compress(DATA)) == DATA
    framed = compression.encode_snappy(DATA, xerial_compatible=True)
    assert framed.startswith(b"\x82SNAPPY\0")
    assert compression.decode_snappy(framed) == DATA
    assert not compression.encode_snappy(DATA).startswith(b"\x82SNAPPY\0")
    assert compression.encode_lz4(DATA).startswith(b"\x04\x22\x4d\x18")
    assert compression.decode_lz4f(compression.encode_lz4(DATA)) == DATA


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_what_is_not_in_the_format_is_refused(codec):
    with pytest.raises(MessageSetDecodeFailure, match=codec):
        getattr(compression, f"decode_{codec}")(b"\xff" * 20)
    with pytest.raises(MessageSetDecodeFailure, match=codec):
        getattr(compression, f"decode_{codec}")(getattr(compression, f"encode_{codec}")(DATA)[:-20])


def test_the_frames_of_the_oldest_brokers_are_refused_in_words():
    for function in (compression.encode_lz4_old_kafka, compression.decode_lz4_old_kafka):
        with pytest.raises(NotInThisRelease, match="older than 0.10"):
            function(b"")


def test_bytes_are_read_until_there_are_enough():
    near, far = socket.socketpair()
    with near, far:
        near.sendall(b"ab")
        near.sendall(b"cd")
        buffer = bytearray(b"______")
        assert recvall_into(far, buffer, 4) is buffer
        assert buffer == b"abcd__"
        near.sendall(b"e")
        near.shutdown(socket.SHUT_WR)
        with pytest.raises(SocketDisconnectedError, match="with 3 bytes to come"):
            recvall_into(far, buffer, 4)


def test_parts_of_an_answer_are_handled_by_their_error_code(topic):
    offsets = topic.latest_available_offsets()
    response = type("Response", (), {"topics": {topic.name: {**offsets, 1: offsets[1]._replace(err=6)}}})
    by_id = {0: "zero", 1: "one"}
    assert build_parts_by_error(response, by_id) == {0: [("zero", ([0], 0))], 6: [("one", ([0], 6))]}
    seen = []
    handle_partition_responses({6: seen.append}, success_handler=seen.append, response=response, partitions_by_id=by_id)
    assert seen == [[("zero", ([0], 0))], [("one", ([0], 6))]]
    with pytest.raises(KeyError):
        handle_partition_responses({}, response=response, partitions_by_id=by_id)
    with pytest.raises(ZeroDivisionError, match="why"):
        raise_error(ZeroDivisionError, "why")


def test_compat_functions_do_what_python_2_and_3_did():
    assert compat.PY3
    assert (compat.get_bytes("\u00fc"), compat.get_bytes(b"x"), compat.get_bytes(1)) == (b"\xc3\xbc", b"x", 1)
    assert (compat.get_string(b"x"), compat.get_string(b"\xff"), compat.get_string(1)) == ("x", b"\xff", "1")
    pairs = {1: 2}
    assert [*compat.iteritems(pairs), *compat.iterkeys(pairs), *compat.itervalues(pairs)] == [(1, 2), 1, 2]
    assert list(compat.range(2)) == [0, 1]
    assert zlib.crc32(compat.buffer(b"x")) == zlib.crc32(b"x")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pykafka.protocol", "FetchRequest"),
        ("pykafka.protocol", "MetadataResponseV5"),
        ("pykafka.protocol", "MessageSet"),
        *((f"pykafka.protocol.{name}", "Request") for name in ("base", "fetch", "produce")),
        ("pykafka.protocol.admin", "CreateTopicsRequest"),
        ("pykafka.protocol.fetch", "PartitionFetchRequest"),
        ("pykafka.protocol.group_membership", "JoinGroupRequest"),
        ("pykafka.protocol.message", "MessageSet"),
        ("pykafka.protocol.metadata", "MetadataResponse"),
        ("pykafka.protocol.offset", "ListOffsetRequestV1"),
        ("pykafka.protocol", "OffsetRequest"),
        ("pykafka.protocol.offset_commit", "ConsumerMetadataResponse"),
        ("pykafka.protocol.offset_commit", "OffsetCommitRequest"),
        ("pykafka.utils", "ApiVersionAware"),
        ("pykafka.utils", "VERSIONS_CACHE"),
        ("pykafka.utils", "struct_helpers"),
        ("pykafka.producer", "OwnedBroker"),
        ("pykafka.utils.struct_helpers", "unpack_from"),
    ],
)
def test_an_import_of_an_old_version_s_encoding_says_why_it_fails(module, name):
    with pytest.raises(ImportError, match="does not exist in pykafka 3: .*engine"):
        exec(f"from {module} import {name}")


@pytest.mark.parametrize(
    "module", ["pykafka.protocol.fetch", "pykafka.protocol.produce", "pykafka.utils.struct_helpers"]
)
def test_an_import_of_a_module_of_which_nothing_is_left_says_why_it_fails(module):
    with pytest.raises(ImportError, match=f"^{module} does not exist in pykafka 3: .*engine"):
        importlib.import_module(module)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("admin", ["ApiVersionsSpec", "CreateTopicRequest", "DescribeGroupResponse", "GroupListing", "GroupMember"]),
        ("base", ["ConsumerGroupProtocolMetadata", "MemberAssignment"]),
        ("group_membership", ["ConsumerGroupProtocolMetadata", "MemberAssignment"]),
        ("message", ["Message"]),
        ("metadata", ["BrokerMetadata", "PartitionMetadata", "TopicMetadata"]),
        ("offset", ["OffsetPartitionResponse", "PartitionOffsetRequest"]),
        ("offset_commit", ["OffsetCommitPartitionResponse", "OffsetFetchPartitionResponse"]),
        ("offset_commit", ["PartitionOffsetCommitRequest", "PartitionOffsetFetchRequest"]),
    ],
)
def test_names_of_the_protocol_are_in_the_modules_where_they_were(module, names):
    old, package = importlib.import_module(f"pykafka.protocol.{module}"), importlib.import_module("pykafka.protocol")
    for name in names:
        assert getattr(old, name) is getattr(package, name)


def test_an_unknown_name_is_an_ordinary_error():
    for module in ("pykafka.protocol", "pykafka.protocol.metadata", "pykafka.utils", "pykafka.producer"):
        assert not hasattr(importlib.import_module(module), "nonsense")
