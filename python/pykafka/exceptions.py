"""All exceptions of pykafka, with the old names and the old hierarchy.

The engine's errors become these exceptions in one place (`crates/python/src/errors.rs`), with the engine's text. The
attribute `written` of an error about a message says whether the message may be in the log: `"no"` (safe to send it
again) or `"maybe"`.
"""

from typing import Self


class UnicodeException(Exception):
    """A name that must be ASCII has other characters. Not a `KafkaException`."""


class KafkaException(Exception):
    """The base class of all exceptions below."""

    #: Whether the message may be in the log: `"no"` or `"maybe"`.
    written: str = "no"


class NotInThisRelease(KafkaException, NotImplementedError):
    """A feature of pykafka 2 that is not in this release of version 3."""


class NoBrokersAvailableError(KafkaException):
    """No broker and none of the given hosts could be reached; the text says why."""


class LeaderNotFoundError(KafkaException):
    """A partition has no leader, or its leader is not a known broker."""


class SocketDisconnectedError(KafkaException):
    """A connection to a broker could not be opened, or was lost."""


class ProduceFailureError(KafkaException):
    """A message was not delivered; `written` says whether it may be in the log."""


class ConsumerStoppedException(KafkaException):
    """The consumer is stopped."""


class NoMessagesConsumedError(KafkaException):
    """No message was consumed."""


class MessageSetDecodeFailure(KafkaException):
    """A broker sent bytes that do not follow the protocol. For a damaged partition: `reset_offsets` to skip them."""


class ProducerQueueFullError(KafkaException):
    """The producer's buffer, number of messages or unread delivery reports are at their limit."""


class ProducerStoppedException(KafkaException):
    """The producer is stopped."""


class OffsetRequestFailedError(KafkaException):
    """Offsets could not be fetched or committed."""


class PartitionOwnedError(KafkaException):
    """Another member of the group owns the partition.

    After pickling, `partition` is the partition's number, because a `Partition` belongs to its cluster.
    """

    def __init__(self, partition: object, *args: object) -> None:
        super().__init__(*args)
        self.partition = partition

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...], dict[str, object]]:
        number = getattr(self.partition, "id", self.partition)
        return type(self), (number, *self.args), {**vars(self), "partition": number}


class AuthenticationException(KafkaException):
    """The broker does not trust the client's credentials, or the client does not trust the broker's certificate."""


class ZooKeeperError(KafkaException):
    """ZooKeeper could not be reached, or did not answer in time. New in version 3."""


class RdKafkaException(KafkaException):
    """Kept for `except` clauses; never raised, because the engine is not librdkafka."""


class RdKafkaStoppedException(RdKafkaException):
    """Kept for `except` clauses; never raised, because the engine is not librdkafka."""


class ProtocolClientError(KafkaException):
    """A broker answered with an error code. If the code has no class of its own, the instance carries it."""

    ERROR_CODE: int | None = None


class UnknownError(ProtocolClientError):
    """The broker met an error for which there is no code."""

    ERROR_CODE = -1


class OffsetOutOfRangeError(ProtocolClientError):
    """The offset is not in the log, or not any more."""

    ERROR_CODE = 1


class InvalidMessageError(ProtocolClientError):
    """A message's checksum is wrong, or the broker rejects its format."""

    ERROR_CODE = 2


class UnknownTopicOrPartition(ProtocolClientError):
    """The broker does not know the topic or partition."""

    ERROR_CODE = 3


class InvalidMessageSize(ProtocolClientError):
    """A message has a negative size."""

    ERROR_CODE = 4


class LeaderNotAvailable(ProtocolClientError):
    """The partition has no leader at the moment."""

    ERROR_CODE = 5


class NotLeaderForPartition(ProtocolClientError):
    """The broker is not the partition's leader."""

    ERROR_CODE = 6


class RequestTimedOut(ProtocolClientError):
    """The broker did not finish within its time limit."""

    ERROR_CODE = 7


class MessageSizeTooLarge(ProtocolClientError):
    """The message is larger than the broker or `max_request_size` allows."""

    ERROR_CODE = 10


class OffsetMetadataTooLarge(ProtocolClientError):
    """The metadata of a committed offset is too long."""

    ERROR_CODE = 12


class GroupLoadInProgress(ProtocolClientError):
    """The group's coordinator is still loading the group."""

    ERROR_CODE = 14


class GroupCoordinatorNotAvailable(ProtocolClientError):
    """The group has no coordinator at the moment."""

    ERROR_CODE = 15


class NotCoordinatorForGroup(ProtocolClientError):
    """The broker is not the group's coordinator."""

    ERROR_CODE = 16


class InvalidTopic(ProtocolClientError):
    """The topic's name is not allowed, or the topic must not be written to."""

    ERROR_CODE = 17


class IllegalGeneration(ProtocolClientError):
    """The group has moved on to another generation without this member."""

    ERROR_CODE = 22


class InconsistentGroupProtocol(ProtocolClientError):
    """The member's protocols do not match those of its group."""

    ERROR_CODE = 23


class UnknownMemberId(ProtocolClientError):
    """The coordinator does not know the member, or has removed it."""

    ERROR_CODE = 25


class InvalidSessionTimeout(ProtocolClientError):
    """The session timeout is outside what the broker allows."""

    ERROR_CODE = 26


class RebalanceInProgress(ProtocolClientError):
    """The group is rebalancing: join again."""

    ERROR_CODE = 27


class TopicAuthorizationFailed(ProtocolClientError):
    """The client is not authorized to do this with the topic."""

    ERROR_CODE = 29


class GroupAuthorizationFailed(ProtocolClientError):
    """The client is not authorized to do this with the group."""

    ERROR_CODE = 30


class ClusteAuthorizationFailed(ProtocolClientError):
    """The client is not authorized to do this with the cluster."""

    ERROR_CODE = 31


class UnsupportedSaslMechanism(ProtocolClientError, AuthenticationException):
    """The broker does not offer the mechanism of `sasl`."""

    ERROR_CODE = 33


class IllegalSaslState(ProtocolClientError, AuthenticationException):
    """The broker did not expect this request while the client was being authenticated."""

    ERROR_CODE = 34


class SaslAuthenticationFailed(ProtocolClientError, AuthenticationException):
    """The broker refused the credentials."""

    ERROR_CODE = 58


#: The class for each error code that has its own.
ERROR_CODES: dict[int, type[ProtocolClientError]] = {
    error.ERROR_CODE: error for error in ProtocolClientError.__subclasses__() if error.ERROR_CODE is not None
}


def error_for_code(code: int, text: str) -> ProtocolClientError:
    """The exception for a broker's error code; codes without a class get a `ProtocolClientError`."""
    error = ERROR_CODES.get(code, ProtocolClientError)(text)
    if error.ERROR_CODE is None:
        error.ERROR_CODE = code
    return error
