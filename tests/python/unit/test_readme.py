"""The README's example runs as it is, except for the address."""

import contextlib
import io
import re
from pathlib import Path

import pytest
from pykafka.testing import Broker

README = Path(__file__).resolve().parents[3] / "README.md"


@pytest.mark.usefixtures("patience")
def test_the_example_prints_the_report_and_then_the_message():
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    printed = io.StringIO()
    with Broker() as broker, contextlib.redirect_stdout(printed):
        assert "127.0.0.1:9092" in example
        exec(example.replace("127.0.0.1:9092", broker.bootstrap_servers), {})
    report, message = printed.getvalue().splitlines()
    assert report.endswith(" 0 None")
    assert message == "0 b'hello'"
