"""Names, module paths, arguments and defaults are those of PyKafka 2.8 (facts.toml), except for safer defaults."""

import ast
import functools
import importlib
import inspect
import tomllib
from pathlib import Path

import pykafka
import pytest

FACTS = tomllib.loads((Path(__file__).parent / "facts.toml").read_text())


def find(path):
    """The module, class or function of a dotted path."""
    head, _, tail = path.rpartition(".")
    if not head:
        return importlib.import_module(path)
    owner = find(head)
    if inspect.ismodule(owner) and not hasattr(owner, tail):
        return importlib.import_module(path)
    return getattr(owner, tail)


def parameters_in(text):
    """The names and defaults in a function's signature."""
    arguments = ast.parse(f"def f({text}): ...").body[0].args
    defaults = [ast.literal_eval(default) for default in arguments.defaults]
    required = [inspect.Parameter.empty] * (len(arguments.args) - len(defaults))
    return dict(zip((argument.arg for argument in arguments.args), required + defaults, strict=True))


def parameters_of(function):
    """The names and defaults of the positional arguments, and whether others have defaults."""
    if inspect.isclass(function) and function.__init__ is not object.__init__ and not issubclass(function, tuple):
        function = functools.partial(function.__init__, None)
    parameters = [parameter for name, parameter in inspect.signature(function).parameters.items() if name != "self"]
    positional = [parameter for parameter in parameters if parameter.kind in (0, 1)]
    for parameter in parameters:
        assert parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is not parameter.empty, parameter
    return {parameter.name: parameter.default for parameter in positional}


@pytest.mark.parametrize("path", FACTS["signatures"])
def test_arguments_have_their_names_their_order_and_their_defaults(path):
    expected = parameters_in(FACTS["signatures"][path])
    for name, default in FACTS["changed"].get(path, {}).items():
        assert expected[name] != ast.literal_eval(default), "this is no change"
        expected[name] = ast.literal_eval(default)
    if "membership_protocol" in expected and expected["membership_protocol"] == "pykafka.RangeProtocol":
        expected["membership_protocol"] = pykafka.RangeProtocol
    given = parameters_of(find(path))
    assert list(given.items())[: len(expected)] == list(expected.items())
    added = dict(list(given.items())[len(expected) :])
    assert inspect.Parameter.empty not in added.values(), "a new argument needs a default"


@pytest.mark.parametrize(
    ("owner", "name"), [(owner, name) for owner, names in FACTS["names"].items() for name in names]
)
def test_a_name_is_where_it_was(owner, name):
    assert hasattr(find(owner), name)


@pytest.mark.parametrize("path", FACTS["values"])
def test_a_constant_has_its_value(path):
    assert find(path) == FACTS["values"][path]


def test_the_names_of_the_package_are_those_that_are_exported():
    assert set(pykafka.__all__) >= {path.split(".")[1] for path in FACTS["signatures"] if path.count(".") == 1}
    for name in pykafka.__all__:
        assert hasattr(pykafka, name)


def test_importing_the_package_brings_the_modules_that_it_brought(run_python):
    program = "import pykafka\n" + "\n".join(f"assert {module}" for module in FACTS["modules"]["loaded"])
    assert run_python(program).stderr == ""


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert pykafka.__version__ == version("pykafka")
