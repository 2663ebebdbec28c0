"""Writes the tables of docs/performance.md, between its markers, and the picture: `make bench-report`.

Everything comes from the JSON files in `bench/results/`, so the page is right for the newest run of each case.
"""

import json
import re
from pathlib import Path

import plot
import tables
from cases import CASES
from clients import CLIENTS

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
#: The cases whose table is shown whole; all others are in the summary.
WHOLE = ("produce-100", "consume-100", "latency-1", "first", "imports", "consume-100-kafka-4", "produce-100-kafka-4")


def sections(results, quick):
    """`{marker: text}`. `quick` has what `make bench-quick` measured, by the names of its files."""
    names = [name for name in CASES if name in results]
    texts = {"summary": tables.summary(results, names), "settings": settings(), "machine": machine(results)}
    texts["goals"] = tables.goals(results)
    for name in WHOLE:
        if name in results:
            texts[name] = f"{tables.title(results[name])}\n\n{tables.of_case(results[name])}"
    if quick.keys() >= {"quick", "quick-tls"}:
        texts["tls"] = tables.quick(quick["quick"], quick["quick-tls"])
    return texts


def settings():
    """One row for each client: what it is given, and why."""
    rows = [tables.line([f"`{client.name}`", client.label, client.why]) for client in CLIENTS.values()]
    return "\n".join(["| name | client | settings |", "|---|---|---|", *rows])


def machine(results):
    """What the newest run was measured on, and which versions."""
    newest = max(results.values(), key=lambda result: result["date"])
    versions = {name: version for result in results.values() for name, version in result["versions"].items()}
    of = newest["machine"]
    listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return f"{of['cpu']}, {of['cores']} cores, {of['system']}; {newest['date'][:10]}.\n\nVersions: {listed}."


def fill(page, texts):
    """Replaces what is between `<!-- bench: name -->` and `<!-- end -->`; an empty marker without a result says so."""

    def text_of(match):
        text = texts.get(match[1], match[2].strip() or "Not measured yet.")
        return f"<!-- bench: {match[1]} -->\n\n{text}\n\n<!-- end -->"

    return re.sub(r"<!-- bench: ([\w-]+) -->\n(.*?)<!-- end -->", text_of, page, flags=re.DOTALL)


def main():
    """Writes the page and the picture."""
    files = sorted(plot.RESULTS.glob("*.json"))
    results = {path.stem: json.loads(path.read_text()) for path in files if path.stem in CASES}
    quick = {path.stem: json.loads(path.read_text()) for path in files if path.stem in ("quick", "quick-tls")}
    PAGE.write_text(fill(PAGE.read_text(), sections(results, quick)))
    plot.main()


if __name__ == "__main__":
    main()
