"""Checks what the members of a group read and committed against the log: the properties C and G of `Verdict.KINDS`."""

import json
from dataclasses import dataclass, field

#: How long after the last change a group is at rest, in milliseconds.
SETTLED_MS = 5000


@dataclass
class Ownership:
    """The time in which a member has a partition."""

    member: str
    partition: int
    begin: int
    #: When it ended; `None` while it lasts.
    end: int | None = None
    was_lost: bool = False
    first_offset: int | None = None
    #: The offset that comes next; `None` before the first record.
    expected: int | None = None
    #: When the member last read.
    last_read: int | None = None
    #: `(time, generation, offset)` of each commit that succeeded.
    commits: list = field(default_factory=list)
    #: Which of the topics of this name is read; `None` before the first record, or since the topic is another.
    generation: int | None = None
    #: The first topic of this name that may be read: not one that was left.
    least: int = 0
    #: The generation of the first record.
    first_generation: int | None = None


class Group:
    """Reads the lines of the members one after the other, then compares them with each other.

    :param generations: the logs of the topic by partition; several if the topic was deleted and created again.
    :param keys: how many keys the producers repeat; 0 if records have none.
    """

    def __init__(self, generations, verdict, pauses, keys=0):
        self._generations, self._verdict, self._pauses, self._keys = generations, verdict, pauses, keys
        self._read = [{partition: bytearray(len(log.ids)) for partition, log in logs.items()} for logs in generations]
        self._ownerships = []
        #: `(time, member)` of every assignment and revocation.
        self.changes = []

    def add(self, member, lines):
        """Reads what a member has written."""
        owned, last_time = {}, 0
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                # The last line of a killed program.
                continue
            last_time = event["timestamp"]
            match event["name"]:
                case "records_consumed":
                    for summary in event["partitions"]:
                        self._consumed(member, owned, last_time, summary)
                case "offsets_committed":
                    self._committed(member, owned, event)
                case "partitions_assigned":
                    self.changes.append((last_time, member))
                    for partition in (place["partition"] for place in event["partitions"]):
                        if partition in owned:
                            self._verdict.violate("told twice", f"{member} was given {partition}, which it had")
                            owned[partition].end = last_time
                        owned[partition] = Ownership(member, partition, last_time)
                        self._ownerships.append(owned[partition])
                case "partitions_revoked":
                    self.changes.append((last_time, member))
                    for partition in (place["partition"] for place in event["partitions"]):
                        if ownership := owned.pop(partition, None):
                            ownership.end, ownership.was_lost = last_time, event.get("lost", False)
                        else:
                            self._verdict.violate("told twice", f"{member} gave up {partition}, which it had not")
                case "offsets_reset":
                    self._reset(member, owned, event)
                case "topic_created_again":
                    self._verdict.figures["told of a new topic"] += 1
                    if ownership := owned.get(event["partition"]):
                        if ownership.generation is not None:
                            ownership.least = ownership.generation + 1
                        ownership.generation = ownership.expected = None
        for ownership in owned.values():
            # The member was killed.
            ownership.end = last_time

    def _consumed(self, member, owned, now, summary):
        self._pauses.mark(now)
        partition, first, last = summary["partition"], summary["minOffset"], summary["maxOffset"]
        where = f"{member} at {partition}-{first}"
        ownership = owned.get(partition)
        if ownership is None:
            self._verdict.violate("delivered without owning", where)
        else:
            expected = ownership.expected
            if expected is None:
                ownership.first_offset = first if ownership.first_offset is None else ownership.first_offset
            elif first > expected:
                self._verdict.violate("skipped", f"{where}, expected {expected}", first - expected)
            elif first < expected:
                self._verdict.violate("delivered twice", f"{where}, expected {expected}", expected - first)
            ownership.expected, ownership.last_read = last + 1, now
        generation = self._generation_of(ownership, summary, where)
        if generation is None:
            return
        if ownership is not None:
            ownership.generation = generation
            if ownership.first_generation is None:
                ownership.first_generation = generation
        log, read = self._generations[generation][partition], self._read[generation][partition]
        span = slice(first - log.start, last + 1 - log.start)
        self._verdict.figures["read"] += summary["count"]
        self._verdict.figures["read again"] += read[span].count(1)
        read[span] = b"\x01" * (last + 1 - first)

    def _generation_of(self, ownership, summary, where):
        """Of which topic the records are; `None` if they are in none."""
        generations = range(len(self._generations))
        if ownership is not None:
            known, least = ownership.generation, ownership.least
            generations = generations[least:] if known is None else [known]
        differences = {generation: self._difference(generation, summary) for generation in generations}
        for generation, difference in differences.items():
            if difference is None:
                return generation
        for generation in range(len(self._generations)):
            if generation not in differences and self._difference(generation, summary) is None:
                self._verdict.violate("read on in a new topic", where)
                return generation
        kind, what = differences[generations[-1]] if differences else ("read on in a new topic", "")
        self._verdict.violate(kind, f"{where}{what}")
        return None

    def _difference(self, generation, summary):
        """How records differ from a log: the kind of violation, and what to say of it; `None` if they are in it."""
        first, last = summary["minOffset"], summary["maxOffset"]
        log = self._generations[generation].get(summary["partition"])
        if log is None or first < log.start or last >= log.end:
            return "read altered", f" to {last}: not in the log"
        if summary["count"] != last - first + 1:
            return "skipped", f": {summary['count']} records up to {last}"
        if "crc32" in summary and summary["crc32"] != log.crc32(first, last, self._keys):
            return "read altered", f" to {last}"
        return None

    def _committed(self, member, owned, event):
        if not event["success"]:
            self._verdict.figures["commits refused"] += 1
            return
        self._verdict.figures["commits"] += 1
        for place in event["offsets"]:
            partition, offset = place["partition"], place["offset"]
            where = f"{member}: {partition}-{offset}"
            ownership = owned.get(partition)
            if ownership is None:
                self._verdict.violate("committed without owning", where)
                continue
            if ownership.expected is None or offset > ownership.expected:
                self._verdict.violate("committed unread", f"{where}, read up to {ownership.expected}")
            if ownership.commits:
                _, generation, before = ownership.commits[-1]
                if offset < before and generation == ownership.generation:
                    self._verdict.violate("commit went back", f"{where} after {before}")
            ownership.commits.append((event["timestamp"], ownership.generation, offset))

    def _reset(self, member, owned, event):
        partition, start, to = event["partition"], event["from"], event["to"]
        self._verdict.figures["positions reset"] += 1
        logs = [logs.get(partition) for logs in self._generations]
        if all(log is not None and log.start <= start <= log.end for log in logs):
            self._verdict.violate("moved without reason", f"{member}: {partition}-{start} to {to}")
        if partition in owned:
            owned[partition].expected, owned[partition].generation = to, None

    def finish(self):
        """Compares the members, and looks for records that nobody has read."""
        by_partition = {}
        for ownership in self._ownerships:
            by_partition.setdefault(ownership.partition, []).append(ownership)
        for ownerships in by_partition.values():
            self._owners(sorted(ownerships, key=lambda ownership: (ownership.begin, ownership.end)))
        for logs, reads in zip(self._generations[:-1], self._read[:-1], strict=True):
            self._verdict.figures["deleted unread"] += sum(reads[partition].count(0) for partition in logs)
        for partition, read in self._read[-1].items():
            if unread := read.count(0):
                offset = self._generations[-1][partition].start + read.find(0)
                self._verdict.violate("unread", f"{partition}-{offset} and {unread - 1} more", unread)
        self._verdict.figures["rebalances"] += len(self.changes)

    def _owners(self, ownerships):
        for index, later in enumerate(ownerships):
            committed = -1
            for earlier in ownerships[:index]:
                where = f"partition {later.partition}: {earlier.member} and {later.member}"
                # One that lost its partition without notice must not have read since, though it learns of it later.
                end = earlier.last_read if earlier.was_lost else earlier.end
                if earlier.member != later.member:
                    if (end or 0) > later.begin:
                        self._verdict.violate("two owners", f"{where}, {end - later.begin} ms")
                    if not earlier.was_lost and any(time > later.begin for time, _, _ in earlier.commits):
                        self._verdict.violate("committed after the next owner began", where)
                committed = max([committed, *self._commits_before(earlier, later)])
            if later.first_offset is not None and later.first_offset < committed:
                where = f"{later.member} began at {later.partition}-{later.first_offset}"
                self._verdict.violate("commit went back", f"{where} after a commit of {committed}")

    @staticmethod
    def _commits_before(earlier, later):
        """The offsets of the topic with which `later` began that `earlier` had committed by then."""
        for time, generation, offset in earlier.commits:
            if time < later.begin and generation == later.first_generation:
                yield offset

    def settled(self, at, members, partitions):
        """Looks whether a group at rest has shared all partitions evenly.

        :param at: the time; if there was a change shortly before that, the group may be at work.
        """
        if any(at - SETTLED_MS < time <= at for time, _ in self.changes):
            return
        shares = dict.fromkeys(members, 0)
        unowned = {*range(partitions)}
        for ownership in self._ownerships:
            if ownership.begin <= at and (ownership.end is None or ownership.end > at):
                shares[ownership.member] = shares.get(ownership.member, 0) + 1
                unowned.discard(ownership.partition)
        self._verdict.figures["settled"] += 1
        if unowned:
            self._verdict.violate("unowned", f"partitions {sorted(unowned)}")
        elif max(shares.values()) - min(shares.values()) > 1:
            self._verdict.violate("unbalanced", shares)

    def sessions_ended(self, frozen):
        """Looks whether members whose sessions have ended were told that they lost their partitions.

        :param frozen: `(member, time)`: when a member was frozen.
        """
        for member, time in frozen:
            for ownership in self._ownerships:
                was_owner = ownership.begin < time < (ownership.end or 0)
                if ownership.member == member and was_owner and not ownership.was_lost:
                    self._verdict.violate("revoked in place of lost", f"{member}: {ownership.partition}")

    def rebalances(self, since, until):
        """Notes every assignment and revocation between two times as a violation."""
        for time, member in self.changes:
            if since <= time <= until:
                self._verdict.violate("rebalanced", f"{member}, {time - since} ms after the group was stable")
