"""Where pykafka 2 also had the two classes of group members."""

from . import _gone
from .group_membership import ConsumerGroupProtocolMetadata, MemberAssignment

__all__ = ["ConsumerGroupProtocolMetadata", "MemberAssignment"]

__getattr__ = _gone.names_of(__name__)
