"""The arithmetic and the tables of the benchmarks, which measure nothing here."""

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[3] / "bench"


@pytest.fixture(scope="module")
def bench():
    """Imports the modules of `bench/`, and forgets them afterwards: their names are common."""
    names = ("figures", "tables", "cases", "clients", "plot", "report")
    sys.path.insert(0, str(BENCH))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(BENCH))
        for name in names:
            sys.modules.pop(name, None)


def figures_of(rate, cpu_us):
    return {"rate": rate, "seconds": 1.0, "cpu_us": cpu_us, "peak_mib": 50.0}


def result(bench, rounds):
    case = vars(bench["cases"].CASES["produce-100"])
    return {
        "case": case,
        "target": "Apache Kafka 3.9.2",
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"cpu": "a processor", "cores": 2, "system": "Linux 6"},
        "versions": {"pykafka": "3"},
        "labels": {"pykafka": "PyKafka 3", "confluent": "confluent-kafka"},
        "left_out": {"java": "reports"},
        "failed": {},
        "rounds": rounds,
    }


ROUNDS = [
    {"pykafka": figures_of(2e6, 0.1), "confluent": figures_of(1e6, 1.0)},
    {"pykafka": figures_of(1e6, 0.2), "confluent": figures_of(4e5, 3.0)},
    {"pykafka": figures_of(3e6, 0.1), "confluent": figures_of(1e6, 1.2)},
]


def test_a_message_costs_what_the_run_used_beyond_an_empty_run(bench):
    run = bench["figures"].of_run(1_000_000, 0.5, 1.25, 0.25, 60)
    assert run == {"rate": 2e6, "seconds": 0.5, "cpu_us": 1.0, "peak_mib": 60}


def test_a_run_cheaper_than_the_empty_one_costs_nothing(bench):
    assert bench["figures"].of_run(10, 1, 0.1, 0.2, 1)["cpu_us"] == 0


def test_latencies_are_given_as_the_values_that_a_share_of_calls_does_not_exceed(bench):
    run = bench["figures"].of_run(1000, 1, 1, 0, 1, [number * 1000 for number in range(1000, 0, -1)])
    assert (run["p50_us"], run["p99_us"], run["p999_us"]) == (500, 990, 999)
    assert bench["figures"].quantile([7], 0.5) == 7


def test_ratios_are_taken_within_a_round(bench):
    assert bench["figures"].ratios(ROUNDS, "cpu_us", "confluent") == pytest.approx([10, 15, 12])
    assert bench["figures"].ratio(ROUNDS, "cpu_us", "confluent") == pytest.approx(12)


def test_a_goal_has_the_median_and_the_extremes_of_the_rounds_and_is_left_out_without_its_clients(bench):
    goals = bench["tables"].goals({"produce-100": result(bench, ROUNDS)})
    assert goals.splitlines()[2:] == ["| writing, against `confluent-kafka` for Python | 6 | 12.00 | 10.00 to 15.00 |"]


def test_a_round_without_one_of_two_clients_has_no_ratio(bench):
    rounds = [{"pykafka": figures_of(1, 1)}, {"confluent": figures_of(1, 1)}]
    assert bench["figures"].ratio(rounds, "cpu_us", "confluent") is None


def test_medians_and_spread_are_over_the_rounds(bench):
    runs = [figures["pykafka"] for figures in ROUNDS]
    assert bench["figures"].medians(runs)["rate"] == 2e6
    assert bench["figures"].spread(runs, "rate") == pytest.approx(1.0)


def test_a_table_has_the_cheapest_client_first_and_names_who_is_left_out(bench):
    lines = bench["tables"].of_case(result(bench, ROUNDS)).splitlines()
    assert lines[2] == "| PyKafka 3 | 2,000 | 0.100 | 100% | 1.00 | 50 |"
    assert lines[3].startswith("| confluent-kafka | 1,000 | 1.200 |")
    assert lines[3].split(" | ")[4] == "12.00"
    assert lines[-1] == "Left out: java (reports)."


def test_a_client_without_a_run_is_not_in_the_table(bench):
    table = bench["tables"].of_case(result(bench, [{"pykafka": figures_of(1, 1)}]))
    assert "| confluent-kafka" not in table


def test_a_page_gets_the_text_of_each_marker_and_says_what_is_missing(bench):
    page = "a\n<!-- bench: one -->\nold\n<!-- end -->\nb\n<!-- bench: two -->\n<!-- end -->\n"
    filled = bench["report"].fill(page, {"one": "new"})
    assert "old" not in filled
    assert "<!-- bench: one -->\n\nnew\n\n<!-- end -->\nb\n" in filled
    assert "Not measured yet." in filled
    assert bench["report"].fill(filled, {"one": "new"}) == filled


def quick(*factors, count=1_000_000):
    rounds = [
        {
            action: {"pykafka": {"cpu_seconds": 0.5}, "confluent": {"cpu_seconds": 0.5 * factor * times}}
            for action, times in (("produce", 1), ("consume", 2))
        }
        for factor in factors
    ]
    return {"date": "2026-01-02T03:04:05+00:00", "count": count, "brokers": {"a broker": rounds}}


def test_the_table_of_tls_has_the_median_and_the_extremes_of_the_rounds_without_and_with_it(bench):
    results = {"quick": quick(3, 1, 2), "quick-tls": quick(1.5, 0.5, 4, count=1_000)}
    others = {"produce-100": result(bench, ROUNDS)}
    assert bench["report"].sections(others, results)["tls"].splitlines() == [
        "|  | plaintext | TLS |",
        "| --- | ---: | ---: |",
        "| writing, a broker | 2.00 (1.00 to 3.00) | 1.50 (0.50 to 4.00) |",
        "| reading, a broker | 4.00 (2.00 to 6.00) | 3.00 (1.00 to 8.00) |",
        "",
        "1,000 and 1,000,000 messages; plaintext of 2026-01-02, TLS of 2026-01-02.",
    ]


def test_a_page_has_what_the_results_say(bench):
    """`make bench-report` would change nothing."""
    files = {path.stem: json.loads(path.read_text()) for path in sorted((BENCH / "results").glob("*.json"))}
    results = {name: result for name, result in files.items() if name in bench["cases"].CASES}
    quick = {name: result for name, result in files.items() if name.startswith("quick")}
    page = (BENCH.parent / "docs" / "performance.md").read_text()
    assert bench["report"].fill(page, bench["report"].sections(results, quick)) == page


def test_what_was_measured_before_stays_if_there_is_no_result(bench):
    page = "<!-- bench: tls -->\n\n| old |\n\n<!-- end -->\n"
    assert bench["report"].fill(page, {}) == page


def test_the_picture_has_a_bar_for_each_client_and_figure(bench):
    results = dict.fromkeys(("produce-100", "consume-100"), result(bench, ROUNDS))
    picture = bench["plot"].draw(results)
    assert picture.count("<rect x=") == 2 * 2 * 2
    assert ">2,000<" in picture
    assert ">0.10<" in picture


def test_every_case_has_a_client_that_can_do_it(bench):
    clients = bench["clients"].CLIENTS
    for case in bench["cases"].CASES.values():
        names = case.clients or clients
        able = [name for name in names if clients[name].lacks(case) is None]
        assert "pykafka" in able, case.name
        assert all(clients[name].count(case) % 1000 == 0 for name in able if case.work == "produce"), case.name


def test_a_client_says_what_it_lacks(bench):
    clients, cases = bench["clients"].CLIENTS, bench["cases"].CASES
    assert clients["rskafka"].lacks(cases["produce-100"]) == "one"
    assert clients["confluent-rust"].lacks(cases["produce-100"]) == "Kafka before 4.0"
    assert clients["pykafka-2.8"].lacks(cases["produce-100-kafka-4"]) == "Kafka 4.0 or newer"
    assert clients["pykafka-2.8"].lacks(cases["consume-1k-zstd"]) == "zstd"
    assert clients["java"].lacks(cases["imports"]) == "imports"
