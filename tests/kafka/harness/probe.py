"""Asks brokers for their state in raw bytes, with the few requests that the harness needs.

Metadata v0 (0.8.2, 0.9) and v1 (newer), CreateTopics v0 (0.10.1, 0.10.2) and v2 (newer): every version up to 4.4
supports one of them. Moving a leader takes ElectLeaders v0 and AlterPartitionReassignments v0 (2.4), setting a SCRAM
password AlterUserScramCredentials v0 (2.7).
To see which password a broker wants, it authenticates with SCRAM (SaslHandshake v1, SaslAuthenticate v0).
Deliberately independent of the client under test.
"""

import base64
import hashlib
import hmac
import os
import socket
import struct
from dataclasses import dataclass, field

_METADATA, _CREATE_TOPICS, _ELECT_LEADERS, _ALTER_PARTITION_REASSIGNMENTS = 3, 19, 43, 45
_SASL_HANDSHAKE, _SASL_AUTHENTICATE, _ALTER_USER_SCRAM_CREDENTIALS = 17, 36, 51
#: The SCRAM mechanisms, and their hash functions.
SCRAM_HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}


class ProbeError(Exception):
    """A broker did not answer, or gave an unexpected answer."""


@dataclass
class Partition:
    error: int
    leader: int
    replicas: list
    in_sync_replicas: list


@dataclass
class Metadata:
    """One broker's view of the cluster. `controller` is `None` if the broker does not say (0.8.2, 0.9)."""

    brokers: set = field(default_factory=set)
    controller: int | None = None
    topics: dict = field(default_factory=dict)


def metadata(port, version, limit=2.0):
    """All brokers and topics that the broker on `port` knows."""
    request_version = 0 if version < (0, 10) else 1
    every_topic = struct.pack(">i", 0 if request_version == 0 else -1)
    answer = _Reader(_exchange(port, _METADATA, request_version, every_topic, limit))
    try:
        return _read_metadata(answer, request_version)
    except (struct.error, UnicodeDecodeError) as error:
        raise ProbeError(f"metadata from port {port} cannot be read: {error}") from error


def _read_metadata(answer, request_version):
    view = Metadata()
    for _ in range(answer.int32()):
        view.brokers.add(answer.int32())
        answer.string(), answer.int32()
        if request_version > 0:
            answer.string()
    if request_version > 0:
        view.controller = answer.int32()
    for _ in range(answer.int32()):
        answer.int16()
        name = answer.string()
        if request_version > 0:
            answer.int8()
        partitions = view.topics[name] = {}
        for _ in range(answer.int32()):
            error, index, leader = answer.int16(), answer.int32(), answer.int32()
            partitions[index] = Partition(error, leader, answer.int32s(), answer.int32s())
    return view


def create_topic(port, version, topic, partitions, replication_factor, settings, limit=15.0):
    """Creates a topic through the broker on `port`, which must be the controller in ZooKeeper mode.

    Returns Kafka's error code, 0 if the topic was created, and the broker's message.
    """
    request_version = 0 if version < (0, 11) else 2
    body = struct.pack(">i", 1) + _string(topic) + struct.pack(">ihi", partitions, replication_factor, 0)
    body += struct.pack(">i", len(settings))
    body += b"".join(_string(key) + _string(str(value)) for key, value in settings.items())
    body += struct.pack(">i", int(limit * 1000))
    if request_version > 0:
        body += b"\0"
    answer = _Reader(_exchange(port, _CREATE_TOPICS, request_version, body, limit + 2))
    if request_version > 0:
        answer.int32()
    answer.int32(), answer.string()
    error = answer.int16()
    return error, answer.string() if request_version > 0 else None


def reassign(port, topic, partition, replicas, limit=15.0):
    """Sets the replicas of a partition; the first one is to lead. Returns Kafka's error code."""
    name = _compact(topic.encode())
    partitions = b"\x02" + struct.pack(f">ib{len(replicas)}i", partition, len(replicas) + 1, *replicas) + b"\0"
    # Compact lengths and empty tagged fields; the header ends with tagged fields, too.
    body = b"\0" + struct.pack(">i", int(limit * 1000)) + b"\x02" + name + partitions + b"\0" + b"\0"
    answer = _Reader(_exchange(port, _ALTER_PARTITION_REASSIGNMENTS, 0, body, limit + 2)[1:])
    answer.int32()
    return answer.int16()


def elect_preferred_leader(port, topic, partition, limit=15.0):
    """Makes the first replica of a partition its leader. It is no error if it already is."""
    body = struct.pack(">i", 1) + _string(topic) + struct.pack(">iii", 1, partition, int(limit * 1000))
    _exchange(port, _ELECT_LEADERS, 0, body, limit + 2)


def authenticates(port, mechanism, user, password, limit=5.0):
    """Whether the listener on `port`, which has no TLS, accepts this password with a SCRAM mechanism."""
    hash_name = SCRAM_HASHES[mechanism]
    try:
        with socket.create_connection(("127.0.0.1", port), limit) as connection:
            _call(connection, _SASL_HANDSHAKE, 1, _string(mechanism))
            nonce = base64.b64encode(os.urandom(18)).decode()
            first = f"n={user},r={nonce}"
            challenge = _sasl_step(connection, f"n,,{first}")
            if challenge is None:
                return False
            known = dict(part.split("=", 1) for part in challenge.split(","))
            salt, iterations = base64.b64decode(known["s"]), int(known["i"])
            salted = hashlib.pbkdf2_hmac(hash_name, password.encode(), salt, iterations)
            client_key = hmac.digest(salted, b"Client Key", hash_name)
            final = f"c=biws,r={known['r']}"
            stored_key = hashlib.new(hash_name, client_key).digest()
            signature = hmac.digest(stored_key, f"{first},{challenge},{final}".encode(), hash_name)
            proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
            return _sasl_step(connection, f"{final},p={base64.b64encode(proof).decode()}") is not None
    except OSError as error:
        raise ProbeError(f"broker on port {port}: {error}") from error


def set_scram_password(port, mechanism, user, password, limit=15.0):
    """Sets a user's password for a SCRAM mechanism through the controller. Returns Kafka's error code."""
    salt, iterations = os.urandom(18), 4096
    salted = hashlib.pbkdf2_hmac(SCRAM_HASHES[mechanism], password.encode(), salt, iterations)
    number = list(SCRAM_HASHES).index(mechanism) + 1
    upsertion = _compact(user.encode()) + struct.pack(">bi", number, iterations) + _compact(salt) + _compact(salted)
    # The header ends with tagged fields; no deletions, one upsertion; each struct ends with tagged fields.
    body = b"\0" + b"\x01" + b"\x02" + upsertion + b"\0" + b"\0"
    answer = _exchange(port, _ALTER_USER_SCRAM_CREDENTIALS, 0, body, limit)
    # Tagged fields of the header, throttle time, one result, which begins with the user.
    return struct.unpack_from(">h", answer, 1 + 4 + 1 + len(_compact(user.encode())))[0]


def _sasl_step(connection, text):
    """The broker's answer to a SASL token; `None` if it refuses."""
    token = struct.pack(">i", len(text)) + text.encode()
    answer = _Reader(_call(connection, _SASL_AUTHENTICATE, 0, token))
    error = answer.int16()
    answer.string()
    return None if error else answer.bytes().decode()


def four_letters(port, word):
    """ZooKeeper's answer to a four-letter command."""
    try:
        with socket.create_connection(("127.0.0.1", port), 2.0) as connection:
            connection.sendall(word.encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    except OSError as error:
        raise ProbeError(f"ZooKeeper on port {port}: {error}") from error


def _exchange(port, api_key, api_version, body, limit):
    try:
        with socket.create_connection(("127.0.0.1", port), limit) as connection:
            return _call(connection, api_key, api_version, body)
    except OSError as error:
        raise ProbeError(f"broker on port {port}: {error}") from error


def _call(connection, api_key, api_version, body):
    """The answer to a request, without its correlation id."""
    frame = struct.pack(">hhi", api_key, api_version, 1) + _string("kavka-test-kafka") + body
    connection.sendall(struct.pack(">i", len(frame)) + frame)
    (size,) = struct.unpack(">i", _read_exactly(connection, 4))
    return _read_exactly(connection, size)[4:]


def _read_exactly(connection, size):
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise ProbeError("the broker closed the connection in the middle of its answer")
        data += chunk
    return data


def _string(text):
    return struct.pack(">h", len(text.encode())) + text.encode()


def _compact(data):
    """A compact string or bytes, of less than 127 bytes."""
    return bytes([len(data) + 1]) + data


class _Reader:
    def __init__(self, data):
        self._data, self._at = data, 0

    def _take(self, layout):
        (value,) = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return value

    def int8(self):
        return self._take(">b")

    def int16(self):
        return self._take(">h")

    def int32(self):
        return self._take(">i")

    def int32s(self):
        return [self.int32() for _ in range(self.int32())]

    def bytes(self):
        return self._take(f">{self.int32()}s")

    def string(self):
        size = self.int16()
        return None if size < 0 else self._take(f">{size}s").decode()
