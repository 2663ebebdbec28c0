"""Every row in rows.toml names an existing test, or a line in the list of differences."""

import re
import tomllib
from pathlib import Path

import pytest

ROWS = tomllib.loads((Path(__file__).parent / "rows.toml").read_text())
TESTS = Path(__file__).resolve().parents[1]
DIFFERENCES = TESTS.parents[1] / "docs" / "differences-from-pykafka.md"


@pytest.mark.parametrize("section", ROWS)
def test_each_row_names_a_test_or_a_difference(section):
    differences = " ".join(DIFFERENCES.read_text().split())
    for row, shown in ROWS[section].items():
        if isinstance(shown, dict):
            assert " ".join(shown["differs"].split()) in differences, row
            continue
        file, name = shown.split(" ")
        assert re.search(rf"^def test_{name}\(", (TESTS / file).read_text(), re.MULTILINE), row
