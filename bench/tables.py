"""Tables of what was measured, as Markdown, for the terminal and for docs/performance.md."""

import statistics

from figures import REFERENCE, medians, ratio, ratios, spread

#: The columns for work that is counted in messages, and for work that is timed: (header, function of the medians).
COUNTED = [("k msg/s", lambda it: f"{it['rate'] / 1e3:,.0f}"), ("CPU us", lambda it: f"{it['cpu_us']:.3f}")]
CALLS = [
    ("p50 us", lambda it: f"{it['p50_us']:,.0f}"),
    ("p99 us", lambda it: f"{it['p99_us']:,.0f}"),
    ("p99.9 us", lambda it: f"{it['p999_us']:,.0f}"),
    ("CPU us", lambda it: f"{it['cpu_us']:,.0f}"),
]
STARTS = [("ms", lambda it: f"{it['seconds'] * 1e3:,.0f}")]
COMPARED = {"latency": ("p50_us", "p50")} | dict.fromkeys(("first", "imports", "group"), ("seconds", "time"))
#: What was aimed at: by what factor another client needs more CPU time than ours, and the case that shows it.
GOALS = [
    ("writing, against `confluent-kafka` for Python", 6, "produce-100", "pykafka", "confluent"),
    ("writing, against `kafka-python`", 30, "produce-100", "pykafka", "kafka-python"),
    ("writing, against PyKafka 2.8", 25, "produce-100", "pykafka", "pykafka-2.8"),
    ("writing, against Java's client", 1, "produce-100", "pykafka", "java"),
    ("writing, each report read, against `confluent-kafka`", 6, "produce-100-reports", "pykafka", "confluent"),
    ("reading in batches, against `confluent-kafka`'s", 4, "consume-100", "pykafka", "confluent"),
    ("one with each call, against `confluent-kafka`'s `poll`", 9, "consume-100-call", "pykafka", "confluent"),
    ("iterating, against PyKafka 2.8 on Python 3.10", 100, "consume-100-iterate", "pykafka", "pykafka-2.8-python-3.10"),
    ("`kavka` writing, against `franz-go`", 5, "produce-100", "kavka", "franz-go"),
    ("`kavka` reading, against `franz-go`", 5, "consume-100", "kavka", "franz-go"),
    ("`kavka` writing, against `confluent-kafka` for Rust", 8, "produce-100-kafka-4", "kavka", "confluent-rust"),
    ("`kavka` reading, against `confluent-kafka` for Rust", 8, "consume-100-kafka-4", "kavka", "confluent-rust"),
]


def of_case(result):
    """The table of one case, the cheapest client first, and a line for those that are left out."""
    work, rounds = result["case"]["work"], result["rounds"]
    columns = CALLS if work == "latency" else STARTS if work in ("first", "imports", "group") else COUNTED
    figure, name = COMPARED.get(work, ("cpu_us", "CPU"))
    heads = ["client", *(head for head, _ in columns), "spread", f"{name} / ours", "MiB"]
    rows = []
    for client, label in sorted(result["labels"].items(), key=lambda it: of_client(rounds, it[0], figure)):
        runs = [figures[client] for figures in rounds if client in figures]
        if not runs:
            continue
        middle, factor = medians(runs), ratio(rounds, figure, client)
        cells = [label, *(show(middle) for _, show in columns), f"{spread(runs, figure):.0%}"]
        rows.append([*cells, f"{factor:.2f}" if factor else "", f"{middle['peak_mib']:,.0f}"])
    lines = [line(heads), line(["---", *["---:"] * (len(heads) - 1)]), *map(line, rows)]
    left_out = [*result["left_out"].items(), *((name, "failed") for name in result["failed"])]
    if left_out:
        lines += ["", "Left out: " + ", ".join(f"{name} ({why})" for name, why in left_out) + "."]
    return "\n".join(lines)


def of_client(rounds, client, name):
    """The median of one figure of a client; without runs it sorts last."""
    runs = [figures[client] for figures in rounds if client in figures]
    return medians(runs)[name] if runs else float("inf")


def line(cells):
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def title(result):
    """What was measured, where and how often."""
    case = result["case"]
    rounds = len(result["rounds"])
    text = f"{case['name']}: {case['about']}. {result['target']}, {rounds} round{'s' * (rounds != 1)}"
    if case["work"] in ("produce", "consume"):
        text += f", {case['partitions']:,} partitions"
    return text + "."


def summary(results, names):
    """One line for each case: by what factor clients need more than ours does."""
    clients = ("confluent", "kavka", "rdkafka", "franz-go", "java")
    lines = [line(["case", *clients]), line(["---", *["---:"] * len(clients)])]
    for name in names:
        if name in results:
            result = results[name]
            figure = COMPARED.get(result["case"]["work"], ("cpu_us",))[0]
            factors = [ratio(result["rounds"], figure, client, REFERENCE) for client in clients]
            cells = [f"{factor:.2f}" if factor else "" for factor in factors]
            lines.append(line([result["case"]["about"], *cells]))
    return "\n".join(lines)


def goals(results):
    """One line for each goal, with what is reached, and the least and the most of all rounds."""
    lines = [line(["", "goal", "reached", "rounds"]), line(["---", "---:", "---:", "---:"])]
    for text, goal, case, ours, other in GOALS:
        found = ratios(results[case]["rounds"], "cpu_us", other, ours) if case in results else ()
        if found:
            reached = f"{statistics.median(found):.2f}"
            lines.append(line([text, str(goal), reached, f"{min(found):.2f} to {max(found):.2f}"]))
    return "\n".join(lines)


def quick(plaintext, tls):
    """By what factor confluent-kafka needs more CPU time, for each broker and action of two runs of `bench-quick`."""
    lines = [line(["", "plaintext", "TLS"]), line(["---", "---:", "---:"])]
    for broker in plaintext["brokers"]:
        for action, name in (("produce", "writing"), ("consume", "reading")):
            cells = [f"{name}, {broker}"]
            for result in (plaintext, tls):
                rounds = [measured[action] for measured in result["brokers"][broker]]
                factors = ratios(rounds, "cpu_seconds", "confluent")
                cells.append(f"{statistics.median(factors):.2f} ({min(factors):.2f} to {max(factors):.2f})")
            lines.append(line(cells))
    about = ", ".join(f"{name} of {result['date'][:10]}" for name, result in (("plaintext", plaintext), ("TLS", tls)))
    counts = " and ".join(f"{count:,}" for count in sorted({result["count"] for result in (plaintext, tls)}))
    return "\n".join([*lines, "", f"{counts} messages; {about}."])
