"""What a group member has read and not committed of partitions that it had to give up.

The program asks for commits at any time, also after a rebalance has taken partitions. It must learn which offsets were
left out, because the next owners of these partitions read the messages again.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from .exceptions import IllegalGeneration
from .partition import Partition

_Offset = TypeVar("_Offset")

#: Why a member has partitions no longer.
REVOKED = "a rebalance took them from this member"
LOST = "this member was cut off from its group, or removed from it"
GONE = "this member does not have them any more"


class _Taken(NamedTuple):
    position: int
    why: str


class Uncommitted:
    """Keeps account of one member's commits; partitions are given by number."""

    def __init__(self) -> None:
        # For each partition the offset up to which nothing is left to commit.
        self._settled: dict[int, int] = {}
        # What was taken from the member uncommitted, until the program is told.
        self._taken: dict[int, _Taken] = {}
        # All partitions that it has had.
        self._had: set[Partition] = set()
        # How many times it got each of them.
        self._assignments: dict[int, int] = {}

    def clear(self) -> None:
        """The member starts afresh."""
        self._settled.clear()
        self._taken.clear()
        self._had.clear()
        self._assignments.clear()

    def begin(self, partitions: Iterable[Partition]) -> None:
        """The member has got these partitions."""
        for partition in partitions:
            self._had.add(partition)
            self._assignments[partition.id] = self._assignments.get(partition.id, 0) + 1

    def assignments(self, partitions: Iterable[int]) -> set[tuple[int, int]]:
        """These partitions, each with the number of times that the member has got it."""
        return {(number, self._assignments.get(number, 0)) for number in partitions}

    def settle(self, offsets: dict[int, int]) -> None:
        """The partitions start at these offsets, or the group has them: nothing before them is left to commit."""
        for number, offset in offsets.items():
            self._settled[number] = offset
            taken = self._taken.get(number)
            if taken is not None and taken.position <= offset:
                self._taken.pop(number, None)

    def go_on(self, number: int, position: int, committed: int) -> None:
        """The partition came back, and continues at the position that it had; the next commit includes it."""
        self.settle({number: position})
        self._settled[number] = committed

    def give_up(self, number: int, position: int | None, why: str) -> None:
        """The partition goes, when it has been read up to this position."""
        if position is not None and position > self._settled.get(number, 0):
            self._taken[number] = _Taken(position, why)

    def leave_out(self, offsets: dict[int, int]) -> None:
        """These offsets were left out of a commit, because the engine's member has the partitions no longer.

        Whoever asked for the commit says so, so `give_up`, which may be called only later, must not note it again.
        """
        for number, offset in offsets.items():
            self._settled[number] = offset
            self._taken[number] = _Taken(offset, GONE)

    def sort_out(
        self, pairs: Iterable[tuple[Partition, _Offset]], owned: Iterable[Partition]
    ) -> tuple[list[tuple[Partition, _Offset]], set[int]]:
        """Divides the program's pairs into those to act on, and the partitions that the member has no longer."""
        kept, left_out, owned = [], set(), set(owned)
        for partition, offset in pairs:
            if partition in self._had and partition not in owned:
                left_out.add(partition.id)
            else:
                kept.append((partition, offset))
                # The program itself says where it is.
                self._taken.pop(partition.id, None)
        return kept, left_out

    def taken(self) -> set[int]:
        """The partitions that the program is to be told of."""
        return set(self._taken)

    def tell(self, done: str, partitions: set[int], group: str | None, topic: bytes) -> None:
        """Tells the program, once, that these partitions were not `done`.

        :raises IllegalGeneration: if there are any.
        """
        reasons: dict[str, list[int]] = {}
        for number in sorted(partitions):
            taken = self._taken.pop(number, None)
            reasons.setdefault(GONE if taken is None else taken.why, []).append(number)
        if reasons:
            because = "; ".join(f"partitions {numbers}, because {why}" for why, numbers in reasons.items())
            raise IllegalGeneration(
                f"group {group!r}, topic {topic!r}: not {done} were {because}. The members that have them now read on "
                f"where the group has committed last. The partitions that this member still has were {done}"
            )
