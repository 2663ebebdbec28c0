"""Every exception pykafka raises: old names, old hierarchy.

The engine's errors become one of these in one place (`crates/python/src/errors.rs`), with the
engine's sentence as their text. An error about a record says in `written` whether the record may
be in the log: `"no"` (safe to send again) or `"maybe"`.
"""

from typing import Self


class UnicodeException(Exception):
    """A name that Kafka keeps in ASCII was given with other characters. Not a `KafkaException`."""


class KafkaException(Exception):
    """The base of everything below."""

    #: Whether the record concerned may be in the log: `"no"` or `"maybe"`.
    written: str = "no"


class NotInThisRelease(KafkaException, NotImplementedError):
    """Something pykafka 2 has that this release of version 3 does not have yet."""


class NoBrokersAvailableError(KafkaException):
    """None of the given hosts could be reached; the text carries the root cause."""


class LeaderNotFoundError(KafkaException):
    """A partition has no leader, or its leader is not among the known brokers."""


class SocketDisconnectedError(KafkaException):
    """A connection to a broker could not be made or was lost."""


class ProduceFailureError(KafkaException):
    """A message was not delivered; `written` says whether it may be in the log."""


class ConsumerStoppedException(KafkaException):
    """The consumer was used while it was stopped."""


class NoMessagesConsumedError(KafkaException):
    """No message was consumed."""


class MessageSetDecodeFailure(KafkaException):
    """Bytes from a broker are not what the protocol says; of a partition's data: `reset_offsets` past it to go on."""


class ProducerQueueFullError(KafkaException):
    """The producer's memory, message count or unread delivery reports are at their limit."""


class ProducerStoppedException(KafkaException):
    """The producer was used while it was stopped."""


class OffsetRequestFailedError(KafkaException):
    """Offsets could not be found or committed."""


class PartitionOwnedError(KafkaException):
    """Another member of the group holds the partition.

    In another process, after pickling, `partition` is the partition's number: a `Partition` stays with its cluster.
    """

    def __init__(self, partition: object, *args: object) -> None:
        super().__init__(*args)
        self.partition = partition

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...], dict[str, object]]:
        number = getattr(self.partition, "id", self.partition)
        return type(self), (number, *self.args), {**vars(self), "partition": number}


class RdKafkaException(KafkaException):
    """Kept for `except` clauses: the engine is never librdkafka."""


class RdKafkaStoppedException(RdKafkaException):
    """Kept for `except` clauses: the engine is never librdkafka."""


class ProtocolClientError(KafkaException):
    """A broker answered with an error code; a code without a class of its own sets it on the instance."""

    ERROR_CODE: int | None = None


class UnknownError(ProtocolClientError):
    """The broker met an error it has no code for."""

    ERROR_CODE = -1


class OffsetOutOfRangeError(ProtocolClientError):
    """The offset is not, or no longer, in the log."""

    ERROR_CODE = 1


class InvalidMessageError(ProtocolClientError):
    """A message's checksum is wrong, or the broker refuses its form."""

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
    """The broker asked is not the partition's leader."""

    ERROR_CODE = 6


class RequestTimedOut(ProtocolClientError):
    """The broker did not finish within the limit it was given."""

    ERROR_CODE = 7


class MessageSizeTooLarge(ProtocolClientError):
    """The message is larger than the broker or `max_request_size` allows."""

    ERROR_CODE = 10


class OffsetMetadataTooLarge(ProtocolClientError):
    """The text sent along with a committed offset is too long."""

    ERROR_CODE = 12


class GroupLoadInProgress(ProtocolClientError):
    """The group's coordinator is still loading."""

    ERROR_CODE = 14


class GroupCoordinatorNotAvailable(ProtocolClientError):
    """The group has no coordinator at the moment."""

    ERROR_CODE = 15


class NotCoordinatorForGroup(ProtocolClientError):
    """The broker asked is not the group's coordinator."""

    ERROR_CODE = 16


class InvalidTopic(ProtocolClientError):
    """The topic's name is not allowed, or the topic must not be written to."""

    ERROR_CODE = 17


class IllegalGeneration(ProtocolClientError):
    """The group has moved on to another generation."""

    ERROR_CODE = 22


class InconsistentGroupProtocol(ProtocolClientError):
    """The member's protocols do not match those of its group."""

    ERROR_CODE = 23


class UnknownMemberId(ProtocolClientError):
    """The coordinator does not know the member, or not any more."""

    ERROR_CODE = 25


class InvalidSessionTimeout(ProtocolClientError):
    """The session timeout is outside what the broker allows."""

    ERROR_CODE = 26


class RebalanceInProgress(ProtocolClientError):
    """The group is rebalancing: join again."""

    ERROR_CODE = 27


class TopicAuthorizationFailed(ProtocolClientError):
    """The broker's access rules forbid this for the topic."""

    ERROR_CODE = 29


class GroupAuthorizationFailed(ProtocolClientError):
    """The broker's access rules forbid this for the group."""

    ERROR_CODE = 30


#: The class for each error code that has one of its own.
ERROR_CODES: dict[int, type[ProtocolClientError]] = {
    error.ERROR_CODE: error for error in ProtocolClientError.__subclasses__() if error.ERROR_CODE is not None
}


def error_for_code(code: int, text: str) -> ProtocolClientError:
    """The exception for a broker's error code, whether or not the code has a class of its own."""
    error = ERROR_CODES.get(code, ProtocolClientError)(text)
    if error.ERROR_CODE is None:
        error.ERROR_CODE = code
    return error
