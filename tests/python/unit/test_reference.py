"""The package's reference is written without warnings, and includes the docs of the classes written in Rust."""

import html
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pykafka
import pykafka.testing
import pytest
from pykafka import _engine

SCRIPT = Path(__file__).resolve().parents[3] / "docs" / "reference.py"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The text of each page, by module."""
    folder = tmp_path_factory.mktemp("reference")
    written = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True)
    assert (written.returncode, written.stderr) == (0, "")
    return {page.stem: html.unescape(re.sub(r"<[^>]*>", "", page.read_text())) for page in folder.rglob("*.html")}


@pytest.mark.parametrize("sentence", ["returns how many they were", "waits for the first one, and adds those"])
def test_what_the_rust_classes_say_is_in_the_reference(pages, sentence):
    assert sentence in " ".join(pages["_engine"].split())


def test_every_documented_module_has_a_page(pages):
    assert {"producer", "simpleconsumer", "client", "partitioners", "exceptions", "balancedconsumer"} <= set(pages)


@pytest.mark.parametrize(
    "owner",
    [pykafka.Producer, pykafka.SimpleConsumer, pykafka.BalancedConsumer, _engine.Message, pykafka.testing.Broker],
)
def test_every_public_name_of_what_carries_messages_is_described(owner):
    public = {name: member for name, member in inspect.getmembers_static(owner) if not name.startswith("_")}
    assert inspect.getdoc(owner)
    assert [name for name, member in public.items() if not inspect.getdoc(member)] == []
