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


PAGE = SCRIPT.parent / "reference" / "configuration.md"
ARGUMENTS_OF = {
    "Client": pykafka.KafkaClient,
    "Producer": pykafka.Producer,
    "Consumer": pykafka.SimpleConsumer,
    "Group member": pykafka.ManagedBalancedConsumer,
}
WORDS = {None: "none", True: "true", False: "false", "": "none"}


def rows_of_settings():
    """For each row with an argument of PyKafka: the section, the argument, and the default that the page gives it."""
    section = ""
    for line in PAGE.read_text("utf-8").splitlines():
        section = line.removeprefix("## ") if line.startswith("## ") else section
        cells = [cell.strip() for cell in line.split(" | ")]
        if line.startswith("| `") and cells[2]:
            argument, _, own = cells[2].replace("`", "").partition(" = ")
            yield section, argument, own or cells[3].strip("`")


@pytest.mark.parametrize(("section", "argument", "default"), list(rows_of_settings()))
def test_the_settings_have_the_defaults_that_the_page_gives_them(section, argument, default):
    owner, _, of_class = argument.removesuffix(")").rpartition("(")
    taker = getattr(pykafka.sasl, owner, None) or getattr(pykafka, owner) if owner else ARGUMENTS_OF[section]
    parameter = inspect.signature(taker).parameters[of_class]
    if parameter.default is not inspect.Parameter.empty:
        given = parameter.default
        assert (WORDS[given] if given in (None, "") or isinstance(given, bool) else str(given)) == default
