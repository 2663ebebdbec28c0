"""What a check has found: violations by kind, a few examples of each, and figures."""

from collections import Counter

#: How many examples of each kind of violation to keep.
EXAMPLES = 5


class Verdict:
    """Violations of the promises, and figures about the run.

    The kinds of violations are the keys of `KINDS`.
    """

    #: Each kind of violation, and the property of which it is one: P of producers, C of consumers, G of groups.
    KINDS = {  # noqa: RUF012
        "no report": "P1",
        "two reports": "P1",
        "lost": "P2",
        "misplaced": "P2",
        "altered": "P2",
        "written after all": "P3",
        "duplicated": "P4",
        "reordered": "P5",
        "hole": "P6",
        "reports out of order": "P7",
        "foreign": "P8",
        "key in another partition": "P9",
        "late report": "P12",
        "report after the end": "P14",
        "skipped": "C1",
        "delivered twice": "C1",
        "read altered": "C2",
        "committed unread": "C3",
        "commit went back": "C4",
        "moved without reason": "C5",
        "read on in a new topic": "C11",
        "unread": "C12",
        "two owners": "G1",
        "delivered without owning": "G2",
        "committed after the next owner began": "G3",
        "committed without owning": "G4",
        "unowned": "G5",
        "unbalanced": "G5",
        "revoked in place of lost": "G6",
        "rebalanced": "G7",
        "told twice": "G8",
        "too much memory": "P11, C9",
        "stuck": "liveness",
    }

    def __init__(self):
        self.violations = Counter()
        self.examples = {}
        #: What is counted and is no violation.
        self.figures = Counter()

    def violate(self, kind, example, count=1):
        """Notes a violation."""
        assert kind in self.KINDS, kind
        self.violations[kind] += count
        examples = self.examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(str(example))

    def describe(self):
        """One line for each kind of violation."""
        return [
            f"{kind} ({self.KINDS[kind]}): {count}, such as {'; '.join(self.examples[kind])}"
            for kind, count in sorted(self.violations.items())
        ]


class Pauses:
    """Finds the longest time in which nothing happened, with one byte for each millisecond."""

    def __init__(self):
        self._first = None
        self._marks = bytearray()

    def mark(self, millisecond):
        """Something happened."""
        if self._first is None:
            # The lines of several programs are read one after the other: another one may have begun earlier.
            self._first = millisecond - 600_000
        at = millisecond - self._first
        if at >= len(self._marks):
            self._marks.extend(bytes(at + 60_000 - len(self._marks)))
        self._marks[at] = 1

    def longest(self):
        """The longest pause between two events, in seconds."""
        longest = 0
        at = self._marks.find(1)
        while (following := self._marks.find(1, at + 1)) > 0:
            longest = max(longest, following - at)
            at = following
        return longest / 1000
