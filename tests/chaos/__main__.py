"""`python -m chaos`: makes faults of every kind, and prints and keeps one table."""

import argparse
import datetime
import json
import os
import shlex
import sys
import traceback
from pathlib import Path

from .faults import choose
from .run import run_kind, start_kafka

_TARGET = Path(__file__).resolve().parents[2] / "target"

#: The columns of the table: the heading, and the member of a row.
COLUMNS = {
    "kind of fault": "kind",
    "faults": "faults",
    "messages": "messages",
    "lost": "lost",
    "duplicated": "duplicated",
    "reordered": "reordered",
    "other violations": "others",
    "unknown outcomes": "unknown",
    "longest stall, s": "stall",
}


def main():
    """Returns the exit code: 1 if a promise was broken."""
    arguments = _arguments()
    if arguments.netns:
        _enter_namespace()
    chosen = arguments.chosen
    seconds = arguments.minutes * 60 / len(chosen)
    rows, failed = [], []
    with start_kafka() as kafka:
        for kind in chosen:
            try:
                given = (kafka, arguments.kavka, kind, arguments.seed, seconds, arguments.rate)
                rows.append(run_kind(*given, keep=_TARGET / "chaos", netns=arguments.netns))
                print(_line(rows[-1]), *rows[-1]["violations"], sep="\n", flush=True)
            except Exception:
                traceback.print_exc()
                failed.append(kind)
            _keep(arguments, rows)
    print("\n" + table(rows))
    if failed:
        print(f"not judged, because the run itself failed: {', '.join(failed)}")
    return int(bool(failed) or any(row["violations"] for row in rows))


def _enter_namespace():
    """Starts this program again in a network namespace of its own, which ends with it: no other program notices."""
    inside = "CHAOS_NAMESPACE"
    if inside not in os.environ:
        again = shlex.join([sys.executable, "-m", "chaos", *sys.argv[1:]])
        command = ["unshare", "--net", "sh", "-c", f"ip link set lo up && exec {again}"]
        os.execvpe(command[0], command, os.environ | {inside: "1"})


def _keep(arguments, rows):
    """Adds the rows of this call to those of others in `target/chaos.json`."""
    path = _TARGET / "chaos.json"
    pieces = json.loads(path.read_text()) if path.exists() else []
    when = arguments.started.isoformat(timespec="seconds")
    command = f"make chaos MINUTES={arguments.minutes:g} SEED={arguments.seed} RATE={arguments.rate}"
    command += f" KINDS={arguments.kinds}" if arguments.kinds else ""
    command += " NETNS=1" if arguments.netns else ""
    pieces = [piece for piece in pieces if piece["started"] != when]
    pieces.append({"started": when, "command": command, "rows": rows})
    path.write_text(json.dumps(pieces, indent=1) + "\n")


def table(rows):
    """The rows as Markdown, with their sum."""
    total = {name: sum(row[name] for row in rows) for name in COLUMNS.values() if name not in ("kind", "stall")}
    total |= {
        "kind": f"**{len({row['kind'] for row in rows})} kinds**",
        "stall": max((row["stall"] for row in rows), default=0),
    }
    head = "| " + " | ".join(COLUMNS) + " |"
    return "\n".join([head, "|---" + "|--:" * (len(COLUMNS) - 1) + "|", *map(_line, [*rows, total])])


def _line(row):
    def shown(value):
        return f"{value:.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value

    return "| " + " | ".join(shown(row[name]) for name in COLUMNS.values()) + " |"


def _arguments():
    parser = argparse.ArgumentParser(prog="chaos", description="Faults on real Kafka, and a checker.")
    parser.add_argument("--kavka", required=True, help="the command kavka")
    parser.add_argument(
        "--minutes", type=float, default=20, help="for all kinds together; each makes one fault at least"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="", help="names or parts of names, separated by commas; by default all")
    parser.add_argument(
        "--rate", type=int, default=5000, help="messages a second of each of two producers; -1: no limit"
    )
    parser.add_argument("--netns", action="store_true", help="also the kinds that need a network namespace, as root")
    arguments = parser.parse_args()
    try:
        arguments.chosen = choose(arguments.kinds, arguments.netns)
    except ValueError as error:
        parser.error(str(error))
    arguments.started = datetime.datetime.now(datetime.UTC)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
