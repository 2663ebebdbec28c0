"""What pykafka 2 had for encoding and decoding, and the error that says so."""

from collections.abc import Callable, Iterable
from typing import Any


def _pairs(*apis: str, versions: Iterable[str] = ("",)) -> set[str]:
    """The names of the request and the response of each API in each version."""
    suffixes = list(versions)
    return {f"{api}{kind}{suffix}" for api in apis for kind in ("Request", "Response") for suffix in suffixes}


#: The names by module of pykafka 2. A module of which nothing is left cannot be imported.
_NAMES = {
    "admin": _pairs("ApiVersions", "CreateTopics", "DeleteTopics", "DescribeGroups", "ListGroups")
    | {"ApiVersionsResponseV1"},
    "base": {"API_VERSIONS_080", "API_VERSIONS_090", "Request", "Response"},
    "fetch": _pairs("Fetch")
    | {"FetchPartitionResponse", "FetchResponseV1", "FetchResponseV2", "PartitionFetchRequest"},
    "group_membership": _pairs("Heartbeat", "JoinGroup", "LeaveGroup", "SyncGroup"),
    "message": {"MessageSet"},
    "metadata": _pairs("Metadata", versions=("", "V1", "V2", "V3", "V4", "V5"))
    | {"BrokerMetadataV1", "PartitionMetadataV5", "TopicMetadataV1"},
    "offset": _pairs("Offset") | _pairs("ListOffset", versions=("", "V1")) | {"OffsetPartitionResponseV1"},
    "offset_commit": _pairs("ConsumerMetadata", "GroupCoordinator", "OffsetCommit")
    | _pairs("OffsetFetch", versions=("", "V1", "V2")),
    "produce": _pairs("Produce") | {"ProducePartitionResponse"},
}


def error(name: str, module: str) -> ImportError:
    """The error for an import of `name` from `module`."""
    return ImportError(
        f"{name} does not exist in pykafka 3: the engine speaks Kafka's protocol; use the methods of KafkaClient, "
        "Cluster, Topic and Broker, whose answers have the old attributes",
        name=module,
    )


def names_of(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module, which refuses its names of pykafka 2; for the package those of all modules."""
    gone = _NAMES.get(module.rpartition(".")[2]) or set().union(*_NAMES.values())

    def refuse(name: str) -> Any:
        # The import statement hides the text of an AttributeError.
        if name in gone:
            raise error(f"{module}.{name}", module)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return refuse
