#!/usr/bin/env python3
"""Writes docs/compatibility.md from the outcome of tests/python/kafka/test_versions.py: `make compat`.

    python3 tests/compatibility.py target/compatibility.xml docs/compatibility.md

Ends with 1 if a test failed, and writes nothing if a cell is missing, because then not all tests ran.
"""

import datetime
import re
import sys
import xml.etree.ElementTree
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

PAGE = """\
# Compatibility

`make compat` runs [these tests](../tests/python/kafka/test_versions.py) on real Apache Kafka, one broker of each
version, and writes this page; `make test` runs those of three versions. Before Kafka 4 the brokers run with ZooKeeper.
The last column names the clients that write and read beside this one. `tools` are Kafka's own, of the broker's version
unless another is named. Last run: {date}.

**yes**: the test passed. A number: the broker cannot do it, or can do less; the line with that number below says why.
What the client says, an error or a line in the log at level info, is in quotation marks, and the test has checked it.

{table}

{sentences}
"""


@dataclass
class Cell:
    """The outcome of a test with one version."""

    failed: bool = False
    sentences: list = field(default_factory=list)


def read(report):
    """The cells by capability and version, and the peers by capability, from pytest's report."""
    cells, peers = defaultdict(dict), defaultdict(dict)
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        told = defaultdict(list)
        for each in case.iter("property"):
            told[each.get("name")].append(each.get("value"))
        if not told["capability"]:
            sys.exit(f"{report}: the test {case.get('name')} does not say which cell it is: did it begin?")
        ((capability,), (version,)) = told["capability"], told["version"]
        failed = any(case.find(word) is not None for word in ("failure", "error", "skipped"))
        sentences = [f'"{anywhere(sentence)}"' for sentence in told["sentence"]] + told["note"]
        cells[capability][version] = Cell(failed, list(dict.fromkeys(sentences)))
        peers[capability] |= dict.fromkeys(told["peer"])
    return cells, peers


def anywhere(sentence):
    """A sentence without the addresses and the names of topics, which differ between runs and versions."""
    return re.sub(r"\btest-[\w-]+", "TOPIC-0", re.sub(r"127\.0\.0\.1:\d+", "HOST:PORT", sentence))


def table(cells, peers):
    """The table, and the sentences that its numbers stand for."""
    versions = list(next(iter(cells.values())))
    numbers = {}
    lines = [
        "| | " + " | ".join(versions) + " | beside us |",
        "|---|" + ":-:|" * len(versions) + "---|",
    ]
    for capability, row in cells.items():
        words = []
        for version in versions:
            cell = row[version]
            found = [str(numbers.setdefault(sentence, len(numbers) + 1)) for sentence in cell.sentences]
            words.append("**FAILS**" if cell.failed else ", ".join(found) or "yes")
        beside = "; ".join(name.replace("console ", "") for name in peers[capability])
        lines.append(f"| {capability} | " + " | ".join(words) + f" | {beside} |")
    return "\n".join(lines), "\n".join(f"{number}. {sentence}" for sentence, number in numbers.items())


def main(report, page):
    """Returns the exit code."""
    cells, peers = read(report)
    versions = {version for row in cells.values() for version in row}
    missing = [f"{capability} with {version}" for capability in cells for version in versions - set(cells[capability])]
    if missing or not cells:
        sys.exit(f"not all tests ran, so {page} stays as it is; missing: {', '.join(missing) or 'everything'}")
    written, sentences = table(cells, peers)
    date = datetime.date.today().isoformat()
    Path(page).write_text(PAGE.format(date=date, table=written, sentences=sentences))
    failed = [
        f"{capability} with {version}"
        for capability, row in cells.items()
        for version, cell in row.items()
        if cell.failed
    ]
    for each in failed:
        print(f"fails: {each}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
