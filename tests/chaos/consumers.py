"""Checks what the members of a group read and committed against the log: the properties C and G of `Verdict.KINDS`."""

import json
from dataclasses import dataclass, field


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
    #: `(time, offset)` of each commit that succeeded.
    commits: list = field(default_factory=list)


class Group:
    """Reads the lines of the members one after the other, then compares them with each other.

    :param logs: the logs of the topic by partition.
    :param keys: how many keys the producers repeat; 0 if records have none.
    """

    def __init__(self, logs, verdict, pauses, keys=0):
        self._logs, self._verdict, self._pauses, self._keys = logs, verdict, pauses, keys
        self._read = {partition: bytearray(len(log.ids)) for partition, log in logs.items()}
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
                        owned[partition] = Ownership(member, partition, last_time)
                        self._ownerships.append(owned[partition])
                case "partitions_revoked":
                    self.changes.append((last_time, member))
                    for partition in (place["partition"] for place in event["partitions"]):
                        if ownership := owned.pop(partition, None):
                            ownership.end, ownership.was_lost = last_time, event.get("lost", False)
                case "offsets_reset":
                    self._reset(member, owned, event)
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
                ownership.first_offset = first
            elif first > expected:
                self._verdict.violate("skipped", f"{where}, expected {expected}", first - expected)
            elif first < expected:
                self._verdict.violate("delivered twice", f"{where}, expected {expected}", expected - first)
            ownership.expected, ownership.last_read = last + 1, now
        log, read = self._logs.get(partition), self._read.get(partition)
        if log is None or first < log.start or last >= log.end:
            self._verdict.violate("read altered", f"{where} to {last}: not in the log")
            return
        if summary["count"] != last - first + 1:
            self._verdict.violate("skipped", f"{where}: {summary['count']} records up to {last}")
        elif "crc32" in summary and summary["crc32"] != log.crc32(first, last, self._keys):
            self._verdict.violate("read altered", f"{where} to {last}")
        span = slice(first - log.start, last + 1 - log.start)
        self._verdict.figures["read"] += summary["count"]
        self._verdict.figures["read again"] += read[span].count(1)
        read[span] = b"\x01" * (last + 1 - first)

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
            if ownership.commits and offset < ownership.commits[-1][1]:
                self._verdict.violate("commit went back", f"{where} after {ownership.commits[-1][1]}")
            ownership.commits.append((event["timestamp"], offset))

    def _reset(self, member, owned, event):
        partition, start, to = event["partition"], event["from"], event["to"]
        self._verdict.figures["positions reset"] += 1
        log = self._logs.get(partition)
        if log is not None and log.start <= start <= log.end:
            self._verdict.violate("moved without reason", f"{member}: {partition}-{start} to {to}")
        if partition in owned:
            owned[partition].expected = to

    def finish(self):
        """Compares the members, and looks for records that nobody has read."""
        by_partition = {}
        for ownership in self._ownerships:
            by_partition.setdefault(ownership.partition, []).append(ownership)
        for ownerships in by_partition.values():
            self._owners(sorted(ownerships, key=lambda ownership: (ownership.begin, ownership.end)))
        for partition, read in self._read.items():
            if unread := read.count(0):
                offset = self._logs[partition].start + read.find(0)
                self._verdict.violate("unread", f"{partition}-{offset} and {unread - 1} more", unread)
        self._verdict.figures["rebalances"] += len(self.changes)

    def _owners(self, ownerships):
        for index, later in enumerate(ownerships):
            committed = -1
            for earlier in ownerships[:index]:
                where = f"partition {later.partition}: {earlier.member} and {later.member}"
                # One that lost its partition without notice must not have read since, though it learns of it later.
                end = earlier.last_read if earlier.was_lost else earlier.end
                if earlier.member != later.member and (end or 0) > later.begin:
                    self._verdict.violate("two owners", f"{where}, {end - later.begin} ms")
                committed = max([committed, *(offset for time, offset in earlier.commits if time < later.begin)])
            if later.first_offset is not None and later.first_offset < committed:
                where = f"{later.member} began at {later.partition}-{later.first_offset}"
                self._verdict.violate("commit went back", f"{where} after a commit of {committed}")

    def rebalances(self, since, until):
        """Notes every assignment and revocation between two times as a violation."""
        for time, member in self.changes:
            if since <= time <= until:
                self._verdict.violate("rebalanced", f"{member}, {time - since} ms after the group was stable")
