"""Every Python block in the guide runs as it is, except for the address.

The blocks of one page form one program: they run in order, in one namespace, against their own broker, which creates
topics with three partitions. A comment after a `print` is the expected output.
"""

import contextlib
import io
import re
from pathlib import Path

import pytest
from pykafka.testing import Broker

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guide"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = sorted(page.name for page in GUIDE.glob("*.md") if BLOCK.search(page.read_text()))


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("patience")
def test_the_blocks_of_a_page_run_and_print_what_they_say(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    with Broker(partitions=3) as broker:
        text = (GUIDE / page).read_text()
        for block in BLOCK.finditer(text):
            # Errors point to the line of the page.
            line = text.count("\n", 0, block.start(1))
            program = "\n" * line + block[1].replace("127.0.0.1:9092", broker.bootstrap_servers)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(program, str(GUIDE / page), "exec"), names)
            promised = re.findall(r"print\(.*\)  # (.*)$", block[1], re.MULTILINE)
            assert printed.getvalue().splitlines() == promised, f"{page}:{line}"


def test_the_guide_has_its_pages():
    pages = {"first-steps.md", "producing.md", "consuming.md", "columns.md", "groups.md", "security.md"}
    pages |= {"migrating-from-2.8.md"}
    assert pages <= set(PAGES)
