"""Draws the figure of the README from `bench/results/`: `python bench/plot.py`, part of `make bench-report`.

The picture is plain SVG: bars with their numbers, two columns (messages per second, CPU time per message) and two rows
(producer, consumer). It has a white ground, so that it can be read on dark pages too.
"""

import json
from html import escape
from pathlib import Path

from figures import medians

RESULTS = Path(__file__).resolve().parent / "results"
#: The clients for Python that the picture compares, with their colours.
SHOWN = {
    "pykafka-2.8": ("PyKafka 2.8", "#9aa0a6"),
    "pykafka-2.8-librdkafka": ("PyKafka 2.8, librdkafka", "#b8a07a"),
    "confluent": ("confluent-kafka", "#5b8bc9"),
    "pykafka": ("PyKafka 3", "#c8432b"),
}
ROWS = (("produce-100", "Producer"), ("consume-100", "Consumer"))
COLUMNS = (("rate", "thousand messages per second", 1e-3, 0), ("cpu_us", "CPU time per message, µs", 1, 2))
WIDTH, BAR, LABEL, PANEL, TOP = 940, 26, 190, 360, 74
HEIGHT = 330


def bar(panel, index, value, largest, name, colour, digits):
    """One bar with its number; the label of the client stands left of the first column."""
    x, y = LABEL + panel[0] * PANEL, TOP + panel[1] * 130 + index * BAR
    length = max(value / largest * (PANEL - 110), 2)
    number = f"{value:,.{digits}f}"
    parts = [
        f'<rect x="{x}" y="{y}" width="{length:.1f}" height="{BAR - 8}" rx="2" fill="{colour}"/>',
        f'<text x="{x + length + 6:.1f}" y="{y + 13}">{number}</text>',
    ]
    if panel[0] == 0:
        parts.append(f'<text x="{LABEL - 10}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
    return parts


def draw(results):
    """The picture, as text."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="system-ui, sans-serif" font-size="13" fill="#222">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for column, (_, title, _, _) in enumerate(COLUMNS):
        note = "more is better" if column == 0 else "less is better"
        x = LABEL + column * PANEL
        parts.append(f'<text x="{x}" y="24" font-weight="600">{title}</text>')
        parts.append(f'<text x="{x}" y="42" fill="#666" font-size="12">{note}</text>')
    for row, (case, title) in enumerate(ROWS):
        parts.append(f'<text x="10" y="{TOP + row * 130 - 8}" font-weight="600">{title}</text>')
        found = {
            name: medians(runs)
            for name in SHOWN
            if (runs := [figures[name] for figures in results[case]["rounds"] if name in figures])
        }
        for column, (figure, _, factor, digits) in enumerate(COLUMNS):
            values = {name: middle[figure] * factor for name, middle in found.items()}
            for index, (name, value) in enumerate(values.items()):
                label, colour = SHOWN[name]
                parts += bar((column, row), index, value, max(values.values()), label, colour, digits)
    about = results[ROWS[0][0]]
    text = f"100-byte messages, acks=all, {about['target']}; client and broker on one core each; {about['date'][:10]}"
    parts.append(f'<text x="10" y="{HEIGHT - 10}" fill="#666" font-size="12">{escape(text)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main():
    """Reads the two cases, and writes the picture beside them."""
    results = {case: json.loads((RESULTS / f"{case}.json").read_text()) for case, _ in ROWS}
    (RESULTS / "python.svg").write_text(draw(results))


if __name__ == "__main__":
    main()
