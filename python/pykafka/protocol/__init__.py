"""The message, and the arguments and results of the methods of `Broker`.

pykafka 2 also had classes that encoded and decoded each version of Kafka's messages. The engine does that now:
importing one of these classes raises an ImportError that says so.
"""

from . import _gone
from .admin import (
    ApiVersions,
    ApiVersionsSpec,
    CreateTopicRequest,
    DescribedGroups,
    DescribeGroupResponse,
    GroupListing,
    GroupMember,
    ListedGroups,
)
from .group_membership import (
    ConsumerGroupProtocolMetadata,
    Heartbeat,
    JoinedGroup,
    LeftGroup,
    MemberAssignment,
    SyncedGroup,
)
from .message import Message
from .metadata import BrokerMetadata, Metadata, PartitionMetadata, TopicMetadata
from .offset import OffsetLimits, OffsetPartitionResponse, PartitionOffsetRequest
from .offset_commit import (
    CommittedOffsets,
    OffsetCommitPartitionResponse,
    OffsetCommits,
    OffsetFetchPartitionResponse,
    PartitionOffsetCommitRequest,
    PartitionOffsetFetchRequest,
)

__all__ = [
    "ApiVersions",
    "ApiVersionsSpec",
    "BrokerMetadata",
    "CommittedOffsets",
    "ConsumerGroupProtocolMetadata",
    "CreateTopicRequest",
    "DescribeGroupResponse",
    "DescribedGroups",
    "GroupListing",
    "GroupMember",
    "Heartbeat",
    "JoinedGroup",
    "LeftGroup",
    "ListedGroups",
    "MemberAssignment",
    "Message",
    "Metadata",
    "OffsetCommitPartitionResponse",
    "OffsetCommits",
    "OffsetFetchPartitionResponse",
    "OffsetLimits",
    "OffsetPartitionResponse",
    "PartitionMetadata",
    "PartitionOffsetCommitRequest",
    "PartitionOffsetFetchRequest",
    "PartitionOffsetRequest",
    "SyncedGroup",
    "TopicMetadata",
]

__getattr__ = _gone.names_of(__name__)
