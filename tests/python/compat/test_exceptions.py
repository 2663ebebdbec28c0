"""The exceptions of PyKafka 2.8, which `except` clauses rely on."""

import inspect
import pickle

import pytest
from pykafka import exceptions

PLAIN = [
    "NoBrokersAvailableError",
    "LeaderNotFoundError",
    "SocketDisconnectedError",
    "ProduceFailureError",
    "ConsumerStoppedException",
    "NoMessagesConsumedError",
    "MessageSetDecodeFailure",
    "ProducerQueueFullError",
    "ProducerStoppedException",
    "OffsetRequestFailedError",
    "PartitionOwnedError",
    "ProtocolClientError",
    "RdKafkaException",
    "RdKafkaStoppedException",
]

CODES = {
    -1: "UnknownError",
    1: "OffsetOutOfRangeError",
    2: "InvalidMessageError",
    3: "UnknownTopicOrPartition",
    4: "InvalidMessageSize",
    5: "LeaderNotAvailable",
    6: "NotLeaderForPartition",
    7: "RequestTimedOut",
    10: "MessageSizeTooLarge",
    12: "OffsetMetadataTooLarge",
    14: "GroupLoadInProgress",
    15: "GroupCoordinatorNotAvailable",
    16: "NotCoordinatorForGroup",
    17: "InvalidTopic",
    22: "IllegalGeneration",
    23: "InconsistentGroupProtocol",
    25: "UnknownMemberId",
    26: "InvalidSessionTimeout",
    27: "RebalanceInProgress",
    29: "TopicAuthorizationFailed",
    30: "GroupAuthorizationFailed",
    31: "ClusteAuthorizationFailed",
    33: "UnsupportedSaslMechanism",
    34: "IllegalSaslState",
    58: "SaslAuthenticationFailed",
}


@pytest.mark.parametrize("name", PLAIN)
def test_every_exception_is_a_kafka_exception(name):
    assert issubclass(getattr(exceptions, name), exceptions.KafkaException)


def test_a_unicode_exception_is_no_kafka_exception():
    assert not issubclass(exceptions.UnicodeException, exceptions.KafkaException)


def test_every_code_has_its_class():
    assert {code: error.__name__ for code, error in exceptions.ERROR_CODES.items()} == CODES
    for error in exceptions.ERROR_CODES.values():
        assert issubclass(error, exceptions.ProtocolClientError)


def test_a_code_without_a_class_is_kept_on_the_exception():
    error = exceptions.error_for_code(36, "text")
    assert type(error) is exceptions.ProtocolClientError
    assert (error.ERROR_CODE, str(error)) == (36, "text")
    assert exceptions.ProtocolClientError.ERROR_CODE is None


def test_an_owned_partition_is_kept_on_the_exception():
    assert exceptions.PartitionOwnedError("p").partition == "p"


def marked(error, written):
    error.written = written
    return error


@pytest.mark.parametrize(
    "error",
    [
        *(getattr(exceptions, name)("text") for name in PLAIN),
        exceptions.UnicodeException("text"),
        exceptions.PartitionOwnedError(3, "text", 1),
        exceptions.PartitionOwnedError(3),
        marked(exceptions.ProduceFailureError("text"), "maybe"),
        marked(exceptions.error_for_code(36, "text"), "maybe"),
        exceptions.error_for_code(3, "text"),
    ],
    ids=repr,
)
def test_an_exception_comes_back_from_another_process_as_it_was(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def test_the_owner_of_a_partition_comes_back_by_its_number(topic):
    error = exceptions.PartitionOwnedError(topic.partitions[2], "text")
    assert pickle.loads(pickle.dumps(error)).partition == 2


def test_what_is_not_there_yet_is_a_kafka_exception_too():
    assert inspect.getmro(exceptions.NotInThisRelease)[1:3] == (exceptions.KafkaException, NotImplementedError)
