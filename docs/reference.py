"""Writes the reference of the Python package as HTML: `make docs`.

Everything comes from the installed package: the docstrings of the Python modules, and those of the Rust classes with
the types of `_engine.pyi`. What `Producer`, `SimpleConsumer` and `Message` have from Rust is on the page of `_engine`;
the other pages link to it.
"""

import pkgutil
import sys
from pathlib import Path

import pdoc.render
import pykafka
from pykafka import handlers

#: Modules that are programs, or stand-ins for what old programs import.
LEFT_OUT = {"pykafka.cli", "pykafka.demo", "pykafka.test"}

#: The modules of `pykafka.utils` that programs import from.
HELPERS = ("compat", "compression", "error_handlers", "socket")


def modules() -> list[str]:
    """The documented modules of the package."""
    found = {module.name for module in pkgutil.iter_modules(pykafka.__path__, "pykafka.")}
    found |= {f"pykafka.utils.{name}" for name in HELPERS}
    return ["pykafka", *sorted(name for name in found - LEFT_OUT if "._" not in name), "pykafka._engine"]


def main(folder: str) -> None:
    """Writes the pages into `folder`."""
    # It is imported when it is first asked for, and pdoc does not ask: it looks at what a module holds already.
    vars(handlers)["GEventHandler"] = handlers.GEventHandler
    pdoc.render.configure(docformat="restructuredtext", show_source=False)
    pdoc.pdoc(*modules(), output_directory=Path(folder))


if __name__ == "__main__":
    main(sys.argv[1])
